"""Files and directories that are either whole or absent: written under a temporary name, fsynced, renamed."""

import ctypes
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

from trainer.errors import TrainerError
from trainer.system.file_system import NO_FOLDER_SYNC, say_once

TEMPORARY = ".tmp-"
_LEFTOVER = re.compile(
    re.escape(TEMPORARY) + r"(?P<name>.+)-[0-9a-f]{8}(?P<replaced>-replaced)?"
)  # the names of `temp_path`, and no others


def temp_path(path: Path) -> Path:
    """Return a temporary name beside `path`, for what is still being written; a file found with one is a leftover."""
    return path.with_name(f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}")


def unwritable(path: Path, error: BaseException, needed: int | None = None) -> TrainerError:
    """Return the error for a file that cannot be written: its path, the reason, the space needed and the space free."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
    if "unexpected pos" in reason or "file write failed" in reason:
        reason = "the disk did not take all bytes"  # all that torch's writer says about a full disk
    there = next((folder for folder in (path, *path.absolute().parents) if folder.is_dir()), Path())
    try:
        free = f"{shutil.disk_usage(there).free / 1e6:,.1f} MB are free on its disk"
    except OSError:
        free = "its disk does not respond"
    need = "" if needed is None else f"{needed / 1e6:,.1f} MB were needed and "
    return TrainerError(f"{path}: cannot be written ({reason}); {need}{free}. Everything saved before is intact.")


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step by a text in UTF-8; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader sees the old one or the new one.

    Raises:
        TrainerError: where it cannot be written.
    """
    temporary = temp_path(path)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            sync_file(file)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(path, error, len(content)) from error


def remove_leftovers(directory: Path) -> None:
    """Remove what a killed process left half-written in a directory that only this process writes to.

    A directory that was moved away for a new one gets its name back if the new one never came.
    """
    for leftover in directory.glob(f"{TEMPORARY}*"):
        found = _LEFTOVER.fullmatch(leftover.name)
        if found is None:
            continue
        if found["replaced"] and not (directory / found["name"]).exists():
            leftover.rename(directory / found["name"])
        elif leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def resolve_moved(directory: Path) -> Path:
    """Return where a directory is: under its name, or under the one that a killed process had moved it to.

    It is moved only where two directories cannot be swapped in one step (see `exchange`).
    """
    if directory.exists():
        return directory
    return next(directory.parent.glob(f"{TEMPORARY}{directory.name}-*-replaced"), directory)


def exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one step, so that neither name is ever absent; return False where that is impossible."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE: linux/fcntl.h, linux/fs.h
    return rename is not None and rename(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0


def make_synced_directory(path: Path) -> None:
    """Make a directory and its missing parents, and fsync their names."""
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_directory(folder.parent)


def sync_directory(path: Path) -> None:
    """Make renames inside `path` survive a power failure, where its file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
        text = "its file system does not fsync folders; a power failure may take the newest checkpoint."
        say_once("fsync", f"{path}: {text}")
    finally:
        os.close(descriptor)


def sync_file(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
