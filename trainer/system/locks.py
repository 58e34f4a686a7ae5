"""Folders shared by several processes: a lock for each thing that is made, and removal of what a dead process left."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from trainer.system.file_system import NO_LOCKS

FILE = ".lock"


@contextlib.contextmanager
def making(folder: Path, name: str, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock for making `name` in a folder; `wait` is called first if another process has it.

    One file serves all names, with a byte for each, so that no lock files pile up. The lock ends with the process.
    On a file system without locks, and where another user keeps the file to himself, every process gets it.
    """
    try:
        opened = (folder / FILE).open("a")
    except PermissionError:
        if not (folder / FILE).exists():
            raise
        yield
        return
    with opened as file:
        byte = int.from_bytes(name.encode()[-7:])
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except BlockingIOError:
            wait()
            fcntl.lockf(file, fcntl.LOCK_EX, 1, byte)
        except OSError:
            pass
        yield


@contextlib.contextmanager
def sole(folder: Path) -> Iterator[None]:
    """Wait until no other process is in here for the same folder; nothing is written to it.

    On a file system without such locks every process gets in.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def work_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder for temporary files and remove it at the end; those of dead processes are removed first.

    On a file system without locks those stay, for nothing says whose they are.

    Raises:
        OSError: where it cannot be made.
    """
    for leftover in parent.glob(f"{prefix}*"):
        descriptor = _hold(leftover)
        if descriptor is not None:  # else it is in use, or nothing says that it is not
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(descriptor)
    work, descriptor = _new(parent, prefix)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(descriptor)


def _new(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        work = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        descriptor = _hold(work, new=True)
        if descriptor is None:  # another process took it for a leftover and is removing it
            continue
        if work.exists():
            return work, descriptor
        os.close(descriptor)


def _hold(folder: Path, new: bool = False) -> int | None:
    """Lock a folder and return the descriptor; None where another process has it, or it is gone or another user's.

    Without locks, a `new` one is open and not locked, and a folder that was found counts as in use.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except (FileNotFoundError, PermissionError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if new and error.errno in NO_LOCKS:
            return descriptor
        os.close(descriptor)
        if isinstance(error, BlockingIOError) or error.errno in NO_LOCKS:
            return None
        raise
    return descriptor
