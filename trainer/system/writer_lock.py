"""One writer for a folder: the kernel's lock on a file, or where a file system has none, a file with a heartbeat."""

import contextlib
import fcntl
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
from trainer.system.file_system import NO_LOCKS, say_once
from trainer.system.locks import FILE

BEAT, STALE = 5.0, 60.0  # seconds between two heartbeats; without one for so long a holder counts as dead
_LOG = logging.getLogger("trainer")

# A forked worker shares its parent's lock and may outlive it by seconds: it closes its copy at once.
_locks: set[int] = set()


def _close_locks() -> None:
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_close_locks)


class HeldError(Exception):
    """A folder that a live process is writing to.

    Attributes:
        holder: that process, in words.
    """

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


class WriterLock:
    """The lock of a folder; it ends with the process that has acquired it, however that ends.

    The file `.lock` says who holds it. Where the file system has no locks, `.lock.held` is there as long as it is
    held: its holder touches it every 5 seconds, and it counts as left behind once its holder is found dead on this
    machine, or has not touched it for 60 seconds by the clock of the file system.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._descriptor: int | None = None
        self._heartbeat = _HeartbeatFile(self._path.with_name(f"{FILE}.held"))

    def acquire(self) -> None:
        """Become the only writer.

        Raises:
            HeldError: where a live process is it.
            OSError: where the lock file cannot be opened.
        """
        descriptor = self._open(os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise HeldError(holder) from None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in NO_LOCKS:
                raise
            self._heartbeat.acquire()
            say_once(
                "locks", f"{self._path.parent}: its file system has no locks; {FILE}.held and a heartbeat stand in."
            )
            return
        with contextlib.suppress(OSError):  # a full disk, or a file of another user: the lock holds without the words
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, _words().encode(), 0)
        self._descriptor = descriptor
        _locks.add(descriptor)

    def release(self) -> None:
        """Let another process write."""
        self._heartbeat.release()
        if self._descriptor is not None:
            _locks.discard(self._descriptor)
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)  # the next holder's words must not be mistaken for these
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> str | None:
        """Return which live process holds the lock, None where none does; leave nothing in the folder."""
        try:
            descriptor = self._open(0)
        except OSError:  # it was never locked, or is not ours to lock
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            return _holder(descriptor)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                return None
            return self._heartbeat.holder()
        finally:
            os.close(descriptor)

    def _open(self, flags: int) -> int:
        """Open the lock file; one of another user that only he may write serves as well, opened for reading."""
        try:
            return os.open(self._path, os.O_RDWR | flags, 0o666)  # less the umask: a group may share its runs
        except PermissionError:
            return os.open(self._path, os.O_RDONLY)


class _HeartbeatFile:
    """A file that is there while its maker lives, and is touched meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = ""
        self._released = threading.Event()

    def acquire(self) -> None:
        self._text = f"{_words()}{_machine()}\n"
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
        if found and machine.strip() == _machine() and not _is_alive(int(found[1])):
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


def _words() -> str:
    started = datetime.now().isoformat(" ", "seconds")
    return f"process {os.getpid()} on {socket.gethostname()}, since {started}\n"


def _machine() -> str:
    """Return what tells apart the machines, and the containers on them, in which a process number has a meaning."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _holder(descriptor: int) -> str:
    """Return who holds a lock, in its words; one of this very moment may not yet have replaced those of a dead one."""
    for _ in range(50):
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        found = re.fullmatch(r"process (\d+) on (\S+), since .*", holder)
        if found and (found[2] != socket.gethostname() or _is_alive(int(found[1]))):
            return holder
        time.sleep(0.01)
    return "another process"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True
