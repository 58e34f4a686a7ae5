"""The entries of the table cache: a folder each, which appears complete or not at all and is never changed afterwards.

data.json              everything but the arrays, the digest of each array, and a checksum of its own
train.inputs.npy ...
"""

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint import durable
from trainer.data.files import mapped
from trainer.data.types import Data, DataSpec, Split

MANIFEST, PREFIX = "data.json", "table-"
TEXTS = ("description", "notes", "warnings", "files", "preprocessing")
# What reading an entry raises where it is damaged, or is no entry.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, RecursionError)


def commit_entry(folder: Path, entry: Path, data: Data, names: Sequence[str], limit: int) -> None:
    """Turn a folder of arrays into an entry of the cache, and evict the least recently used entries for it.

    Args:
        folder: has the arrays; it is renamed.
        entry: the path of the entry.
        data: what the arrays belong to; its texts and its spec go into the entry.
        names: of the arrays.
        limit: bytes of all entries together; an entry that alone is larger is not made.

    Raises:
        OSError: where the disk does not take it.
    """
    digests = mapped.digest_files([folder / f"{name}.npy" for name in names])
    manifest = {
        "what": "a table as it is ready to train on; safe to delete",
        "spec": data.spec.to_dict(),
        "arrays": dict(zip(names, digests, strict=True)),
        **{name: getattr(data, name) for name in TEXTS},
    }
    (folder / MANIFEST).write_text(json.dumps(durable.with_checksum(manifest)), encoding="utf-8")
    if _size(folder) > limit:
        return
    if entry.is_symlink() or entry.is_file():
        entry.unlink()
    shutil.rmtree(entry, ignore_errors=True)  # damaged, or it would have been used
    folder.rename(entry)
    others = [path for path in entry.parent.glob(f"{PREFIX}*") if path.is_dir() and path != entry]
    total = _size(entry)
    for other in sorted(others, key=_last_used, reverse=True):
        total += _size(other)
        if total > limit:
            shutil.rmtree(other, ignore_errors=True)


def _size(folder: Path) -> int:
    """Return the bytes of the files in a folder, which another process may be removing."""
    total = 0
    with contextlib.suppress(FileNotFoundError):
        for file in folder.glob("*"):
            total += file.stat().st_size
    return total


def _last_used(entry: Path) -> float:
    """Return the time at which an entry was last used."""
    with contextlib.suppress(OSError):
        return (entry / MANIFEST).stat().st_mtime
    return 0.0


def load_entry(entry: Path) -> tuple[Data, list[str]]:
    """Load an entry after checking that every byte is as it was written.

    Returns:
        The data with empty splits, and the names of the arrays of the entry.

    Raises:
        Exception: one of `UNREADABLE`, where the entry is damaged or absent.
    """
    manifest: dict[str, Any] = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(manifest, dict) or durable.with_checksum(manifest) != manifest:
        raise ValueError(f"{entry}: damaged")
    names = list(manifest["arrays"])
    if mapped.digest_files([entry / f"{name}.npy" for name in names]) != list(manifest["arrays"].values()):
        raise ValueError(f"{entry}: damaged")
    os.utime(entry / MANIFEST)
    nothing = Split(torch.empty(0), torch.empty(0))
    texts = {name: manifest[name] for name in TEXTS}
    texts |= {name: tuple(texts[name]) for name in ("notes", "warnings")}
    return Data(DataSpec.from_dict(manifest["spec"]), nothing, nothing, **texts), names
