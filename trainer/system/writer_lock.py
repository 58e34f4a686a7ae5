"""One writer for a folder: the kernel's lock on a file, or where a file system has none, a file with a heartbeat."""

import contextlib
import fcntl
import os
import re
import socket
import time
from pathlib import Path

from trainer.system.file_system import NO_LOCKS, say_once
from trainer.system.heartbeat import HeartbeatFile, HeldError, holder_words, is_alive
from trainer.system.locks import FILE

# A forked worker shares its parent's lock and may outlive it by seconds: it closes its copy at once.
_locks: set[int] = set()


def _close_locks() -> None:
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_close_locks)


class WriterLock:
    """The lock of a folder; it ends with the process that has acquired it, however that ends.

    The file `.lock` says who holds it. Where the file system has no locks, `.lock.held` is there as long as it is
    held: its holder touches it every 5 seconds, and it counts as left behind once its holder is found dead on this
    machine, or has not touched it for 60 seconds by the clock of the file system.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._descriptor: int | None = None
        self._heartbeat = HeartbeatFile(self._path.with_name(f"{FILE}.held"))

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
            os.pwrite(descriptor, holder_words().encode(), 0)
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


def _holder(descriptor: int) -> str:
    """Return who holds a lock, in its words; one of this very moment may not yet have replaced those of a dead one."""
    for _ in range(50):
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        found = re.fullmatch(r"process (\d+) on (\S+), since .*", holder)
        if found and (found[2] != socket.gethostname() or is_alive(int(found[1]))):
            return holder
        time.sleep(0.01)
    return "another process"
