"""Files that are either whole or absent: written aside, fsynced, renamed; hashed, and verified before use."""

import ctypes
import hashlib
import json
import os
import pickle
import re
import secrets
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from trainer import archive
from trainer.errors import CheckpointError, TrainerError

PAYLOAD, MANIFEST, TEMPORARY = "state.pt", "manifest.json", ".tmp-"
SEAL = "manifest_sha256"
LARGEST_MANIFEST = 1 << 20
_LEFTOVER = re.compile(
    re.escape(TEMPORARY) + r"(?P<name>.+)-[0-9a-f]{8}(?P<replaced>-replaced)?"
)  # the names of `aside`, and no others

# What torch.load(weights_only=True) raises for a file that is cut short, or no checkpoint at all.
UNLOADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
)


def aside(path: Path) -> Path:
    """A name beside `path` for what is still being written; found later, it is a leftover."""
    return path.with_name(f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}")


def save(directory: Path, payload: dict[str, Any], notes: dict[str, Any]) -> None:
    """Make `directory` with `state.pt` (the payload) and `manifest.json` (its size, SHA-256, the notes, a seal).

    The directory appears whole or not at all, also when the process is killed or the power fails. One that
    exists already is replaced, and removed only once the new one stands in its place.

    Args:
        payload: tensors and plain data only, loadable with `torch.load(weights_only=True)`.
        notes: plain data for people and for choosing among checkpoints without loading them.

    Raises:
        TrainerError: where it cannot be written; names the path, what was needed and what is free. The directory is
            then what it was before.
    """
    temporary = aside(directory)
    replaced = temporary.with_name(f"{temporary.name}-replaced")
    try:
        make_directory(directory.parent)
        temporary.mkdir()
        _write_payload(temporary, payload, notes)
        sync_directory(temporary)
        if directory.exists() and not _exchange(temporary, directory):
            directory.rename(replaced)
        if not directory.exists():
            temporary.rename(directory)
        sync_directory(directory.parent)
        _find_whole(directory)
    except (OSError, RuntimeError) as error:  # torch reports what the disk refuses as RuntimeError
        raise unwritable(directory, error, size_of(payload)) from error
    finally:
        if replaced.exists() and not directory.exists():
            replaced.rename(directory)  # the new one could not take the name: the old one keeps it
        for leftover in (temporary, replaced):
            shutil.rmtree(leftover, ignore_errors=True)


def _write_payload(directory: Path, payload: dict[str, Any], notes: dict[str, Any]) -> None:
    path = directory / PAYLOAD
    # torch's own CRC-32 is a fifth of the time of a save and never checked on loading; the SHA-256 stands for it.
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(payload, path)
    finally:
        torch.serialization.set_crc32_options(before)
    with open(path, "rb+") as file, ThreadPoolExecutor(1) as pool:
        synced = pool.submit(os.fsync, file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # from the page cache, while the disk writes
        synced.result()
    manifest = {**notes, "file": PAYLOAD, "bytes": path.stat().st_size, "sha256": sha256}
    with open(directory / MANIFEST, "w", encoding="utf-8") as text:
        json.dump(sealed(manifest), text, indent=2)
        _sync(text)


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest with the SHA-256 of what it says, so that a flipped bit in its notes is noticed too."""
    said = {name: value for name, value in manifest.items() if name != SEAL}
    return said | {SEAL: hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()}


def size_of(payload: Any) -> int:
    """Bytes of all tensors in a payload."""
    return sum(tensor.nbytes for tensor in archive.tensors(payload))


def unwritable(path: Path, error: BaseException, needed: int | None = None) -> TrainerError:
    """The error for a file that the disk refuses: the path, the reason, what was needed and what is free."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
    if "unexpected pos" in reason or "file write failed" in reason:
        reason = "the disk took less than it was given"  # all that torch's writer knows of a full disk
    there = next((folder for folder in (path, *path.absolute().parents) if folder.is_dir()), Path())
    try:
        free = f"{shutil.disk_usage(there).free / 1e6:,.1f} MB are free on its disk"
    except OSError:
        free = "its disk does not answer"
    need = "" if needed is None else f"{needed / 1e6:,.1f} MB were needed and "
    return TrainerError(f"{path}: cannot be written ({reason}); {need}{free}. What was saved before is unharmed.")


def _find_whole(directory: Path) -> None:
    """Raise unless a directory that was just written is there under its name, complete."""
    manifest, size = read_manifest(directory), (directory / PAYLOAD).stat().st_size
    if size != manifest["bytes"]:
        raise OSError(f"{size} bytes arrived of {manifest['bytes']}")


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest; raises `CheckpointError` naming the directory when it is missing or unreadable."""
    path = directory / MANIFEST
    try:
        if path.stat().st_size > LARGEST_MANIFEST:
            raise ValueError("it is too large for one")
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{directory}: its {MANIFEST} cannot be read ({error}).") from error
    if not isinstance(manifest, dict) or not {"bytes", "sha256"} <= manifest.keys():
        raise CheckpointError(f"{directory}: its {MANIFEST} lacks the size or the SHA-256.")
    if sealed(manifest) != manifest:
        raise CheckpointError(f"{directory}: its {MANIFEST} is damaged: it does not say what was written.")
    return manifest


def load(directory: Path, mmap: bool = False) -> dict[str, Any]:
    """The payload, after its size and hash were found right (torch itself checks neither).

    Args:
        mmap: leave the tensors in the file until they are read.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    manifest, path = read_manifest(directory), directory / PAYLOAD
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != manifest["bytes"]:
                raise CheckpointError(f"{path}: damaged: {size} bytes instead of {manifest['bytes']}.")
            if hashlib.file_digest(file, "sha256").hexdigest() != manifest["sha256"]:
                raise CheckpointError(f"{path}: damaged: its SHA-256 is not the one in {MANIFEST}.")
            archive.examine(file)
            file.seek(0)
            payload = torch.load(path if mmap else file, map_location="cpu", weights_only=True, mmap=mmap)
        archive.examine_tensors(payload, size)
    except (*UNLOADABLE, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be loaded ({_reason(error)}).") from error
    if not isinstance(payload, dict):
        raise CheckpointError(f"{path}: holds a {type(payload).__name__}, not a dictionary.")
    return payload


def _reason(error: BaseException) -> str:
    """Why torch did not load a file, without its advice to trust whoever sent it."""
    text = " ".join(str(error).split())
    if found := re.search(r"GLOBAL (\S+)", text):
        return f"it asks for {found[1]}, and only tensors and plain data are loaded"
    return text.partition("This file can still be loaded")[0][:200] or type(error).__name__


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of a text in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader sees the old one or the new one.

    Raises:
        TrainerError: where it cannot be written.
    """
    temporary = aside(path)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            _sync(file)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(path, error, len(content)) from error


def remove_leftovers(directory: Path) -> None:
    """Remove what a killed process has left half-written in a directory that only this process writes.

    What it had moved away for a new one that never came gets its name back.
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


def standing(directory: Path) -> Path:
    """Where what is known as `directory` is found: there, or where a killed process had moved it for a moment.

    That moment is only where two directories cannot be swapped in one step (see `_exchange`).
    """
    if directory.exists():
        return directory
    return next(directory.parent.glob(f"{TEMPORARY}{directory.name}-*-replaced"), directory)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one step, so that neither name is ever absent; False where that is impossible."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE: linux/fcntl.h, linux/fs.h
    return rename is not None and rename(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0


def make_directory(path: Path) -> None:
    """Make a directory and the ones above it, as far as they are missing, each durable under its name."""
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_directory(folder.parent)


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
