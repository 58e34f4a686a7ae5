"""The cache of tables: one folder each, which appears whole or not at all, and is never written to again.

data.json              everything but the arrays, and the digest of each array; sealed
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
WORDS = ("description", "notes", "warnings", "files", "preprocessing")
# What reading an entry raises that is damaged, or is none.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, RecursionError)


def commit_entry(folder: Path, entry: Path, data: Data, names: Sequence[str], limit: int) -> None:
    """Make an entry of a folder with the arrays of these names, and make room: what is unused for longest goes.

    Args:
        limit: bytes of all entries beside it; one that alone is larger is not kept.

    Raises:
        OSError: where the disk does not take it.
    """
    digests = mapped.digest_files([folder / f"{name}.npy" for name in names])
    manifest = {
        "what": "a table as it is ready to train on; safe to delete",
        "spec": data.spec.to_dict(),
        "arrays": dict(zip(names, digests, strict=True)),
        **{name: getattr(data, name) for name in WORDS},
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
    for other in sorted(others, key=_used, reverse=True):
        total += _size(other)
        if total > limit:
            shutil.rmtree(other, ignore_errors=True)


def _size(folder: Path) -> int:
    """Bytes of the files in a folder, which another process may be removing."""
    total = 0
    with contextlib.suppress(FileNotFoundError):
        for file in folder.glob("*"):
            total += file.stat().st_size
    return total


def _used(entry: Path) -> float:
    """When an entry was used last."""
    with contextlib.suppress(OSError):
        return (entry / MANIFEST).stat().st_mtime
    return 0.0


def load_entry(entry: Path) -> tuple[Data, list[str]]:
    """An entry whose every byte is as it was written, without its tensors, and their names.

    Raises one of `UNREADABLE` for any other.
    """
    manifest: dict[str, Any] = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(manifest, dict) or durable.with_checksum(manifest) != manifest:
        raise ValueError(f"{entry}: damaged")
    names = list(manifest["arrays"])
    if mapped.digest_files([entry / f"{name}.npy" for name in names]) != list(manifest["arrays"].values()):
        raise ValueError(f"{entry}: damaged")
    os.utime(entry / MANIFEST)
    nothing = Split(torch.empty(0), torch.empty(0))
    words = {name: manifest[name] for name in WORDS}
    words |= {name: tuple(words[name]) for name in ("notes", "warnings")}
    return Data(DataSpec.from_dict(manifest["spec"]), nothing, nothing, **words), names
