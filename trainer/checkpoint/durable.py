"""Directories that hold a payload and its manifest: written whole or not at all, verified before they are loaded."""

import hashlib
import json
import os
import pickle
import re
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint import untrusted
from trainer.checkpoint.names import MANIFEST
from trainer.errors import CheckpointError
from trainer.system.atomic_files import (
    exchange,
    make_synced_directory,
    sync_directory,
    sync_file,
    temp_path,
    unwritable,
)

PAYLOAD = "state.pt"
CHECKSUM = "manifest_sha256"
LARGEST_MANIFEST = 1 << 20

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


def save_durably(directory: Path, payload: dict[str, Any], notes: dict[str, Any]) -> None:
    """Make `directory` with `state.pt` (the payload) and `manifest.json` (its size, SHA-256, the notes, a checksum).

    The directory appears whole or not at all, even if the process is killed or the power fails. An existing
    directory is replaced, and removed only once the new one is in its place.

    Args:
        payload: tensors and plain data only, loadable with `torch.load(weights_only=True)`.
        notes: plain data for people and for choosing among checkpoints without loading them.

    Raises:
        TrainerError: where it cannot be written; names the path, the space needed and the space free. The directory is
            then what it was before.
    """
    temporary = temp_path(directory)
    replaced = temporary.with_name(f"{temporary.name}-replaced")
    try:
        make_synced_directory(directory.parent)
        temporary.mkdir()
        _write_payload(temporary, payload, notes)
        sync_directory(temporary)
        if directory.exists() and not exchange(temporary, directory):
            directory.rename(replaced)
        if not directory.exists():
            temporary.rename(directory)
        sync_directory(directory.parent)
        _check_complete(directory)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise unwritable(directory, error, size_of(payload)) from error
    finally:
        if replaced.exists() and not directory.exists():
            replaced.rename(directory)  # the new one could not take the name: the old one gets it back
        for leftover in (temporary, replaced):
            shutil.rmtree(leftover, ignore_errors=True)


def _write_payload(directory: Path, payload: dict[str, Any], notes: dict[str, Any]) -> None:
    path = directory / PAYLOAD
    # torch's own CRC-32 takes a fifth of the time of a save and is never checked on loading; the SHA-256 replaces it.
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
        json.dump(with_checksum(manifest), text, indent=2)
        sync_file(text)


def with_checksum(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest with the SHA-256 of its content, so that a flipped bit in its notes is detected too."""
    content = {name: value for name, value in manifest.items() if name != CHECKSUM}
    return content | {CHECKSUM: hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}


def size_of(payload: Any) -> int:
    """Return the bytes of all tensors in a payload."""
    return sum(tensor.nbytes for tensor in untrusted.tensors_in(payload))


def _check_complete(directory: Path) -> None:
    """Check that a newly written directory exists under its final name, with all bytes of its payload."""
    manifest, size = read_manifest(directory), (directory / PAYLOAD).stat().st_size
    if size != manifest["bytes"]:
        raise OSError(f"{size} bytes arrived of {manifest['bytes']}")


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return the manifest of a directory.

    Raises:
        CheckpointError: where it is missing, unreadable or damaged; names the directory.
    """
    path = directory / MANIFEST
    try:
        if path.stat().st_size > LARGEST_MANIFEST:
            raise ValueError("it is too large for a manifest")
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{directory}: its {MANIFEST} cannot be read ({error}).") from error
    if not isinstance(manifest, dict) or not {"bytes", "sha256"} <= manifest.keys():
        raise CheckpointError(f"{directory}: its {MANIFEST} lacks the size or the SHA-256.")
    if with_checksum(manifest) != manifest:
        raise CheckpointError(f"{directory}: its {MANIFEST} is damaged: its content does not match its checksum.")
    return manifest


def load_verified(directory: Path, mmap: bool = False) -> dict[str, Any]:
    """Return the payload of a directory after checking its size and SHA-256 (torch itself checks neither).

    Args:
        mmap: leave the tensors in the file until they are read.

    Raises:
        CheckpointError: where it is missing, damaged or unsafe; names the file and what is wrong with it.
    """
    manifest, path = read_manifest(directory), directory / PAYLOAD
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != manifest["bytes"]:
                raise CheckpointError(f"{path}: damaged: {size} bytes instead of {manifest['bytes']}.")
            if hashlib.file_digest(file, "sha256").hexdigest() != manifest["sha256"]:
                raise CheckpointError(f"{path}: damaged: its SHA-256 is not the one in its {MANIFEST}.")
            untrusted.examine(file)
            file.seek(0)
            payload = torch.load(path if mmap else file, map_location="cpu", weights_only=True, mmap=mmap)
        untrusted.examine_tensors(payload, size)
    except (*UNLOADABLE, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be loaded ({_reason(error)}).") from error
    if not isinstance(payload, dict):
        raise CheckpointError(f"{path}: holds a {type(payload).__name__}, not a dictionary.")
    return payload


def _reason(error: BaseException) -> str:
    """Say why torch did not load a file, without its advice to trust whoever sent it."""
    text = " ".join(str(error).split())
    if found := re.search(r"GLOBAL (\S+)", text):
        return f"it asks for {found[1]}, and only tensors and plain data are loaded"
    return text.partition("This file can still be loaded")[0][:200] or type(error).__name__
