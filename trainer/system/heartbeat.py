"""A file that is there while its maker lives: what stands in for a lock where a file system has none."""

import contextlib
import logging
import os
import re
import signal
import socket
import threading
import time
from datetime import datetime
from pathlib import Path

from trainer.system.atomic_files import temp_path

BEAT, STALE = 5.0, 60.0  # seconds between two heartbeats; without one for so long a holder counts as dead
_LOG = logging.getLogger("trainer")


class HeldError(Exception):
    """A folder that a live process is writing to.

    Attributes:
        holder: that process, in words.
    """

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


class HeartbeatFile:
    """A file that says who has made it, and is touched as long as that process lives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = ""
        self._released = threading.Event()

    def acquire(self) -> None:
        """Make the file; raise `HeldError` where a live process has one."""
        self._text = f"{holder_words()}{_machine()}\n"
        for _ in range(5):
            try:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                text, holder = self._examine()
                if holder is not None:
                    raise HeldError(holder) from None
                self._remove_stale(text)
                continue
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(self._text)
            self._released.clear()
            threading.Thread(target=self._beat, name="trainer-heartbeat", daemon=True).start()
            return
        raise HeldError("another process")

    def release(self) -> None:
        """Remove the file, where this process has made it."""
        if self._text:
            self._released.set()
            with contextlib.suppress(OSError):
                if self._read()[0] == self._text:
                    self._path.unlink()
            self._text = ""

    def holder(self) -> str | None:
        """Return who holds the file, in words; None where it is not there, or was left behind."""
        return self._examine()[1]

    def _examine(self) -> tuple[str, str | None]:
        """Return the text of the file, and its holder in words, None where it was left behind or is not there."""
        try:
            text, touched = self._read()
        except OSError:
            return "", None
        words, _, machine = text.partition("\n")
        found = re.match(r"process (\d+) on ", words)
        if found and machine.strip() == _machine() and not is_alive(int(found[1])):
            return text, None
        age = self._now() - touched
        if age > STALE:
            return text, None
        life = f"(sign of life {max(0, age):.0f} s ago; after {STALE:.0f} s without it counts as dead)"
        return text, f"{words or 'another process'} {life}"

    def _remove_stale(self, stale: str) -> None:
        """Remove the file that was left behind: by renaming it, so that of several processes one removes just that."""
        aside = temp_path(self._path)
        with contextlib.suppress(FileNotFoundError):
            self._path.rename(aside)
            if aside.read_text(encoding="utf-8") == stale:
                aside.unlink()
            else:  # another process was faster, and this is its file
                with contextlib.suppress(OSError):
                    os.link(aside, self._path)
                aside.unlink()

    def _read(self) -> tuple[str, float]:
        """Return the text, and when the file was last touched: of the opened file, for a name's may be out of date."""
        with open(self._path, encoding="utf-8", errors="replace") as file:
            return file.read(1000), os.fstat(file.fileno()).st_mtime

    def _now(self) -> float:
        """Return the time by the clock that the file's is from, which may be that of a server."""
        probe = temp_path(self._path)
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            try:
                if self._read()[0] == self._text:
                    os.utime(self._path)
                    continue
            except FileNotFoundError:
                pass
            except OSError:  # a server that does not answer for a moment
                continue
            if not self._released.is_set():
                self._lost()
            return

    def _lost(self) -> None:
        """Stop: this process was silent for so long that another one has taken it for dead, and writes here now."""
        _LOG.error(f"{self._path} was taken over by another process while this one stood still; it stops.")
        if signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN):
            os.kill(os.getpid(), signal.SIGTERM)


def holder_words() -> str:
    """Return a line that says which process holds a lock, and since when."""
    started = datetime.now().isoformat(" ", "seconds")
    return f"process {os.getpid()} on {socket.gethostname()}, since {started}\n"


def _machine() -> str:
    """Return what tells apart the machines, and the containers on them, in which a process number has a meaning."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True
