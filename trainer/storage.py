"""Files that are either whole or absent: written aside, fsynced, renamed; hashed, and verified before use."""

import ctypes
import hashlib
import json
import os
import pickle
import secrets
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import torch

from trainer.errors import CheckpointError

PAYLOAD, MANIFEST, TEMPORARY = "state.pt", "manifest.json", ".tmp-"

# What torch.load(weights_only=True) raises for a file that is cut short, or no checkpoint at all.
UNLOADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)


class _HashingFile:
    """A file open for writing that keeps the SHA-256 and the size of what passes through."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256, self.size = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def save(directory: Path, payload: dict[str, Any], notes: dict[str, Any]) -> None:
    """Make `directory` with `state.pt` (the payload) and `manifest.json` (its size, SHA-256 and the notes).

    The directory appears whole or not at all, also when the process is killed or the power fails. One that
    exists already is replaced.

    Args:
        payload: tensors and plain data only, loadable with `torch.load(weights_only=True)`.
        notes: plain data for people and for choosing among checkpoints without loading them.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    aside = directory.parent / f"{TEMPORARY}{directory.name}-{secrets.token_hex(4)}"
    replaced = aside.with_name(f"{aside.name}-replaced")
    aside.mkdir()
    try:
        with open(aside / PAYLOAD, "wb") as file:
            hashing = _HashingFile(file)
            torch.save(payload, hashing)  # type: ignore[arg-type]  # only write and flush are used
            _sync(file)
        manifest = {**notes, "file": PAYLOAD, "bytes": hashing.size, "sha256": hashing.sha256.hexdigest()}
        with open(aside / MANIFEST, "w", encoding="utf-8") as text:
            json.dump(manifest, text, indent=2)
            _sync(text)
        sync_directory(aside)
        if directory.exists() and not _exchange(aside, directory):
            directory.rename(replaced)
        if aside.exists() and not directory.exists():
            aside.rename(directory)
        sync_directory(directory.parent)
    finally:
        if replaced.exists() and not directory.exists():
            replaced.rename(directory)  # the new one could not take the name: the old one keeps it
        for leftover in (aside, replaced):
            shutil.rmtree(leftover, ignore_errors=True)


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest; raises `CheckpointError` naming the directory when it is missing or unreadable."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{directory}: its {MANIFEST} cannot be read ({error}).") from error
    if not isinstance(manifest, dict) or not {"bytes", "sha256"} <= manifest.keys():
        raise CheckpointError(f"{directory}: its {MANIFEST} lacks the size or the SHA-256.")
    return manifest


def load(directory: Path, mmap: bool = False) -> dict[str, Any]:
    """The payload, after its size and hash were found right (torch itself checks neither).

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    manifest, path = read_manifest(directory), directory / PAYLOAD
    try:
        size = path.stat().st_size
        if size != manifest["bytes"]:
            raise CheckpointError(f"{path}: damaged: {size} bytes instead of {manifest['bytes']}.")
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != manifest["sha256"]:
                raise CheckpointError(f"{path}: damaged: its SHA-256 is not the one in {MANIFEST}.")
            payload = torch.load(path if mmap else _rewound(file), map_location="cpu", weights_only=True, mmap=mmap)
    except UNLOADABLE as error:
        raise CheckpointError(f"{path}: cannot be loaded ({' '.join(str(error).split())[:200]}).") from error
    if not isinstance(payload, dict):
        raise CheckpointError(f"{path}: holds a {type(payload).__name__}, not a dictionary.")
    return payload


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one step: a reader sees the old one or the new one."""
    aside = path.with_name(f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}")
    with open(aside, "w", encoding="utf-8") as file:
        file.write(text)
        _sync(file)
    aside.replace(path)
    sync_directory(path.parent)


def remove_leftovers(directory: Path) -> None:
    """Remove what a killed process has left half-written in a directory that only this process writes."""
    for leftover in directory.glob(f"{TEMPORARY}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def _exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one step, so that neither name is ever absent; False where that is impossible."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE: linux/fcntl.h, linux/fs.h
    return rename is not None and rename(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0


def sync_directory(path: Path) -> None:
    """Make renames inside `path` survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _rewound(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return file
