"""Folders shared by several processes: a lock for each thing that is made, and removal of what a dead process left."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

FILE = ".lock"


@contextlib.contextmanager
def making(folder: Path, name: str, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock for making `name` in a folder; `wait` is called first if another process has it.

    One file serves all names, with a byte for each, so that no lock files pile up. The lock ends with the process.
    On a file system without locks every process gets it.
    """
    with (folder / FILE).open("a") as file:
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
def work_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder for temporary files and remove it at the end; those of dead processes are removed first.

    Raises:
        OSError: where it cannot be made.
    """
    for leftover in parent.glob(f"{prefix}*"):
        descriptor = _hold(leftover)
        if descriptor is not None:  # else it is in use
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
        descriptor = _hold(work)
        if descriptor is None:  # another process took it for a leftover and is removing it
            continue
        if work.exists():
            return work, descriptor
        os.close(descriptor)


def _hold(folder: Path) -> int | None:
    """Lock a folder and return the descriptor; None where another process has it, or it is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor
