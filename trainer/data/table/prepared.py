"""Tables as they are ready to train on, kept in files: a second run need not read the table again.

    .trainer-cache/table-<key>/   beside the table, or below the user's cache where that cannot be written
        data.json                 everything but the arrays, and the digest of each array; sealed
        train.inputs.npy ...

The key stands for the content of the table's files, for every key of the config that shapes what is made of them, and
for the seed. An entry appears whole or not at all, and is never written to again.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer import __version__, storage
from trainer.config.table import Csv
from trainer.data import mapped
from trainer.data.cache import folders
from trainer.data.mapped import InFile, InMemory, Rows
from trainer.data.table import held
from trainer.data.table.held import Held
from trainer.errors import TrainerError
from trainer.interfaces import Data, DataSpec, Split

FORMAT = 1
WORTHWHILE = 1 << 23  # bytes of the files from which on keeping them is worth the disk: below, reading takes ms
MANIFEST, PREFIX = "data.json", "table-"
TENSORS = ("inputs", "targets", "rows", "weights")
WORDS = ("description", "notes", "warnings", "files", "preprocessing")
# Keys that do not change what is made of a table, but only where it is held and how it is walked through.
_APART = (
    "path",
    "val_path",
    "batch_size",
    "eval_batch_size",
    "drop_last",
    "timeout",
    "sampling",
    "memory",
    "cache_bytes",
)


class Place:
    """Where the arrays of one table are made and found again.

    Attributes:
        work: for the files that are being made, removed in the end; None: everything is made in memory.
        entry: where the arrays are kept; None: nowhere.
    """

    def __init__(self, config: Csv, work: Path | None, entry: Path | None) -> None:
        self.work, self.entry = work, entry
        self._limit, self._on_disk = config.cache_bytes, config.memory == "disk"
        for folder in (self._arrays, self._columns) if work is not None else ():
            folder.mkdir()

    @property
    def _arrays(self) -> Path:
        assert self.work is not None
        return self.work / "arrays"

    @property
    def _columns(self) -> Path:
        assert self.work is not None
        return self.work / "columns"

    def load(self) -> Data | None:
        """What was kept; None where there is nothing, or it is damaged."""
        if self.entry is None:
            return None
        try:
            data, names = _load(self.entry)
            data = dataclasses.replace(data, description=f"{data.description}, prepared before")
            return self._found(self.entry, data, names)
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def held(self) -> Held:
        """Where the columns of the table are held while it is prepared."""
        return held.OnDisk(self._columns) if self._on_disk else held.InMemory()

    def rows(self, name: str, shape: tuple[int, ...]) -> Rows:
        """Where the rows of a float32 array go: into a file, or into memory where there is none or no room for it.

        Raises:
            TrainerError: where there is no room and they must not be held in memory.
        """
        if self.work is not None:
            path = self._arrays / f"{name}.npy"
            try:
                return InFile(path, shape)
            except OSError as error:
                if self._on_disk:
                    raise storage.unwritable(path, error, 4 * shape[0] * shape[1]) from error
                self.work = None  # what is mapped already stays readable when its name is gone
        return InMemory(shape)

    def park(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor with a number for each row of the table: in a file where rows are not to be held in memory.

        Raises:
            TrainerError: where the disk does not take it.
        """
        if not self._on_disk:
            return tensor
        path = (self._arrays if name.endswith(".rows") else self._columns) / f"{name}.npy"
        try:
            mapped.save(path, tensor.numpy())
        except OSError as error:
            raise storage.unwritable(path, error, tensor.nbytes) from error
        return mapped.load(path)

    def keep(self, data: Data) -> Data:
        """The data, its large tensors in files as far as they can be; kept for other runs if it may be."""
        if self.work is None:
            return data
        try:
            names = _save(self._arrays, data)
            held = self._found(self._arrays, data, names)
            if self.entry is not None:
                _publish(self._arrays, self.entry, data, names, self._limit)
        except (OSError, TrainerError) as error:
            if self._on_disk:
                raise storage.unwritable(self._arrays, error) from error
            return data
        return held

    def _found(self, folder: Path, data: Data, names: Sequence[str]) -> Data:
        """The data with the tensors that are in a folder, held as the config wants it."""

        def hold(name: str) -> Any:
            path = folder / f"{name}.npy"
            if not self._on_disk or name.endswith(".rows"):
                return mapped.load(path)
            # Targets and weights are read with each window: small parts, which are better off in memory.
            return mapped.on_disk(path) if name.endswith(".inputs") else mapped.load(path).clone()

        tensors = {name: hold(name) for name in names}
        train, val = (
            Split(**{name: tensors[f"{side}.{name}"] for name in TENSORS if f"{side}.{name}" in tensors})
            for side in ("train", "val")
        )
        description = f"{data.description}, on disk" if self._on_disk else data.description
        return dataclasses.replace(data, train=train, val=val, description=description)


@contextlib.contextmanager
def place(config: Csv, seed: int, paths: Sequence[Path]) -> Iterator[Place]:
    """The place of the table that a config makes of some files; others that want the same one wait.

    Raises:
        TrainerError: with data.memory=disk where no folder for its files can be written.
    """
    size = sum(path.stat().st_size for path in paths)
    kept = config.cache_bytes > 0 and size >= WORTHWHILE and _all_ours(config)
    if not kept and config.memory == "ram":
        yield Place(config, None, None)
        return
    name = PREFIX + _key(config, seed, paths) if kept else None
    with contextlib.ExitStack() as stack:
        for folder in folders(paths[0].parent):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if name is not None:
                    stack.enter_context(_locked(folder / f"{name}.lock"))
                    _remove_leftovers(folder, name)
                work = Path(tempfile.mkdtemp(prefix=f"{storage.TEMPORARY}{name or PREFIX}-", dir=folder))
            except OSError as error:
                refused = storage.unwritable(folder, error)
                continue
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            yield Place(config, work, None if name is None else folder / name)
            return
        if config.memory == "disk":
            raise refused
        yield Place(config, None, None)


def _all_ours(config: Csv) -> bool:
    """Whether all transforms are of this package: what others do may change without any key changing."""
    return all(type(one).__module__.startswith("trainer.") for chain in config.chains().values() for one in chain)


def _key(config: Csv, seed: int, paths: Sequence[Path]) -> str:
    told = {name: value for name, value in dataclasses.asdict(config).items() if name not in _APART}
    # The paths belong to it since messages name them.
    files = [(str(path.resolve()), content) for path, content in zip(paths, mapped.digest(paths), strict=True)]
    versions = (FORMAT, __version__, torch.__version__)
    return hashlib.sha256(json.dumps([told, seed, files, versions]).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        with contextlib.suppress(OSError):  # a file system without locks: then both make it, and one of them is kept
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_leftovers(folder: Path, name: str) -> None:
    """Remove what killed processes have left of this entry; who holds its lock is the only one that makes it."""
    for leftover in folder.glob(f"{storage.TEMPORARY}{name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _tensors(data: Data) -> dict[str, Tensor]:
    parts = {"train": data.train, "val": data.val}
    named = {f"{side}.{name}": getattr(part, name) for side, part in parts.items() for name in TENSORS}
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def _save(folder: Path, data: Data) -> list[str]:
    """Write the tensors that are not there yet; the names of all."""
    tensors = _tensors(data)
    for name, tensor in tensors.items():
        path = folder / f"{name}.npy"
        if not path.exists():
            mapped.save(path, tensor.numpy())
    return list(tensors)


def _publish(folder: Path, entry: Path, data: Data, names: Sequence[str], limit: int) -> None:
    """Give a folder that is complete its name, and remove the entries unused for longest that exceed the limit."""
    digests = mapped.digest([folder / f"{name}.npy" for name in names])
    manifest = {
        "what": "a table as it is ready to train on; safe to delete",
        "spec": data.spec.to_dict(),
        "arrays": dict(zip(names, digests, strict=True)),
        **{name: getattr(data, name) for name in WORDS},
    }
    (folder / MANIFEST).write_text(json.dumps(storage.sealed(manifest)), encoding="utf-8")
    shutil.rmtree(entry, ignore_errors=True)  # damaged, or it would have been used
    folder.rename(entry)
    total = 0
    entries = [path for path in entry.parent.glob(f"{PREFIX}*") if path.is_dir()]
    for other in sorted(entries, key=lambda path: (path != entry, -_used(path))):
        total += sum(file.stat().st_size for file in other.glob("*"))
        if total > limit and other != entry:
            shutil.rmtree(other, ignore_errors=True)
            other.with_name(f"{other.name}.lock").unlink(missing_ok=True)


def _used(entry: Path) -> float:
    """When an entry was used last."""
    manifest = entry / MANIFEST
    return manifest.stat().st_mtime if manifest.exists() else 0.0


def _load(entry: Path) -> tuple[Data, list[str]]:
    """An entry whose every byte is as it was written, without its tensors, and their names.

    Raises one of many errors for any other.
    """
    manifest: dict[str, Any] = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
    if storage.sealed(manifest) != manifest:
        raise ValueError(f"{entry}: damaged")
    names = list(manifest["arrays"])
    if mapped.digest([entry / f"{name}.npy" for name in names]) != list(manifest["arrays"].values()):
        raise ValueError(f"{entry}: damaged")
    os.utime(entry / MANIFEST)
    nothing = Split(torch.empty(0), torch.empty(0))
    words = {name: manifest[name] for name in WORDS}
    words |= {name: tuple(words[name]) for name in ("notes", "warnings")}
    return Data(DataSpec.from_dict(manifest["spec"]), nothing, nothing, **words), names
