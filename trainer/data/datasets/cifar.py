"""CIFAR-10 and CIFAR-100 (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009)."""

import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.config.datasets import Published
from trainer.data.files.by_hand import best_folder, incomplete
from trainer.data.files.cache import cached
from trainer.data.files.download import Remote, datasets_folder, fetch
from trainer.data.images.image_data import make_image_data
from trainer.data.types import Data, Split
from trainer.errors import DataError

PIXELS = 3 * 32 * 32  # bytes of an image
IMAGES = {"batch": 10_000, "train": 50_000, "test": 10_000}  # in a file
ADDRESS = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class CifarFiles:
    """The published files of one of the two datasets.

    Attributes:
        name: of the dataset here.
        archive: the download, with all files.
        folder: the folder of the files in the archive.
        train, test, meta: the MD5 of each file by its name; `meta` holds the names of the classes.
        labels, names: the keys under which the files hold the classes of the images, and the names of the classes.
    """

    name: str
    archive: Remote
    folder: str
    train: dict[str, str]
    test: dict[str, str]
    meta: dict[str, str]
    labels: str
    names: str

    @property
    def names_file(self) -> str:
        """The names of the classes in the version for C programs."""
        return "batches.meta.txt" if self.labels == "labels" else "fine_label_names.txt"

    @property
    def counts(self) -> list[str]:
        """What each file of images holds, see `IMAGES`."""
        return ["batch"] * 6 if self.labels == "labels" else ["train", "test"]


CIFAR10 = CifarFiles(
    name="cifar10",
    archive=Remote(
        "cifar-10-python.tar.gz", "md5:c58f30108f718f92721af3b95e74349a", (ADDRESS + "cifar-10-python.tar.gz",)
    ),
    folder="cifar-10-batches-py",
    train={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    test={"test_batch": "40351d587109b95175f43aff81a1287e"},
    meta={"batches.meta": "5ff9c542aee3614f3951f8cda6e48888"},
    labels="labels",
    names="label_names",
)
CIFAR100 = CifarFiles(
    name="cifar100",
    archive=Remote(
        "cifar-100-python.tar.gz", "md5:eb9058c3a382ffc7106e4002c42a8d85", (ADDRESS + "cifar-100-python.tar.gz",)
    ),
    folder="cifar-100-python",
    train={"train": "16019d7e3df5f24257cddd939b257f8d"},
    test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    meta={"meta": "7973b15100ade9c7d40fb424638fde48"},
    labels="fine_labels",
    names="fine_label_names",
)


def load_cifar(config: Published, source: CifarFiles, seed: int) -> Data:
    """Load uint8 images (N, 3, 32, 32), from the cache after the first time.

    Args:
        config: says in which folder the files are, and how images are augmented, normalised and split.
        source: which of the two datasets.
        seed: of the run.

    Raises:
        DataError: where the files are neither there nor can be downloaded.
    """
    folder = datasets_folder(config.root)
    tensors, hit = cached(folder, f"{source.name}-named", lambda: read_cifar(folder, source))
    train, test = (Split(tensors[f"{part}_images"], tensors[f"{part}_targets"]) for part in ("train", "test"))
    official, description = None if config.holds_out else test, "decoded cache" if hit else ""
    return make_image_data(config, train, official, tuple(tensors["labels"]), seed, description)


def read_cifar(root: Path, source: CifarFiles) -> dict[str, Any]:
    """Read the original files, from their folder or their archive, which is downloaded where neither is there.

    They are pickles. Each is opened only after its MD5 (or that of the archive) was found to be the published one, and
    even then nothing but arrays and plain data can come out of it.

    Returns:
        For the cache: images and targets of the train and the test split, and the names of the classes.

    Raises:
        DataError: where the files are neither there nor can be downloaded, with what to do.
    """
    if (binary := _binary(root, source)) is not None:
        return binary
    open_file = _in_folder(root, source) or _in_archive(_archive(root, source), source)
    tensors: dict[str, Any] = {}
    for part, files in (("train", source.train), ("test", source.test)):
        batches = [open_file(name) for name in files]
        pixels = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
        tensors[f"{part}_images"] = torch.from_numpy(pixels)
        tensors[f"{part}_targets"] = torch.tensor([label for batch in batches for label in batch[source.labels]])
    (meta,) = source.meta
    tensors["labels"] = [str(name) for name in open_file(meta)[source.names]]
    return tensors


def _archive(root: Path, source: CifarFiles) -> Path:
    """Return the packed archive, which is downloaded unless it is there."""
    path = root / source.archive.name
    if path.exists() and not source.archive.is_at(path):
        raise DataError(
            f"{path}: is not the published file ({source.archive.digest}), perhaps cut short; remove it, and it is "
            "downloaded."
        )
    return fetch(source.archive, root)


def _in_folder(root: Path, source: CifarFiles) -> Callable[[str], dict[str, Any]] | None:
    """Return a function that opens a file of the unpacked archive; None where none of its files is there.

    Raises:
        DataError: where some are missing, or not as published: those are pickles, and not opened.
    """
    digests = source.train | source.test | source.meta
    found = best_folder(root, list(digests))
    if found is None or not set(found[1]) & {*source.train}:
        return None
    folder, there = found
    contents = {name: (folder / name).read_bytes() for name in there}
    changed = [n for n in there if hashlib.md5(contents[n], usedforsecurity=False).hexdigest() != digests[n]]
    if changed or len(there) < len(digests):
        raise incomplete(folder, list(digests), there, changed)
    return lambda name: unpickled(contents[name])


def _binary(root: Path, source: CifarFiles) -> dict[str, Any] | None:
    """Read the version for C programs: a class and 3,072 bytes for each image; None where none of its files is there.

    Raises:
        DataError: where some are missing, or of another size.
    """
    files = {f"{name}.bin": name for name in source.train | source.test}
    found = best_folder(root, [*files, source.names_file])
    if found is None or not set(found[1]) & {*files}:
        return None
    folder, there = found
    record = PIXELS + (1 if source.labels == "labels" else 2)  # CIFAR-100 has the coarse class first
    size = {name: record * IMAGES[count] for name, count in zip(files, source.counts, strict=True)}
    changed = [n for n in there if n in files and (folder / n).stat().st_size != size[n]]
    if changed or len(there) < len(files) + 1:
        raise incomplete(folder, [*files, source.names_file], there, changed)
    tensors: dict[str, Any] = {}
    for part, names in (("train", source.train), ("test", source.test)):
        rows = np.concatenate([np.fromfile(folder / f"{name}.bin", np.uint8).reshape(-1, record) for name in names])
        tensors[f"{part}_images"] = torch.from_numpy(rows[:, -PIXELS:].reshape(-1, 3, 32, 32).copy())
        tensors[f"{part}_targets"] = torch.from_numpy(rows[:, record - PIXELS - 1].astype(np.int64))
    tensors["labels"] = (folder / source.names_file).read_text(encoding="utf-8").split()
    return tensors


def _in_archive(path: Path, source: CifarFiles) -> Callable[[str], dict[str, Any]]:
    """Return a function that opens a file of the packed archive."""
    contents: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for name in source.train | source.test | source.meta:
            file = archive.extractfile(f"{source.folder}/{name}")
            assert file is not None
            contents[name] = file.read()
    return lambda name: unpickled(contents[name])


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that makes NumPy arrays, and no other object that a pickle may ask for."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct"):
                return np.empty(0).__reduce__()[0]
            case ("numpy", "ndarray"):
                return np.ndarray
            case ("numpy", "dtype"):
                return np.dtype
            case ("_codecs", "encode"):
                return lambda text, encoding: str(text).encode(str(encoding))
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def unpickled(content: bytes) -> dict[str, Any]:
    """Load the dictionary in a Python 2 pickle with NumPy arrays; raise `DataError` if it asks for any other class."""
    try:
        value = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise DataError(f"A file of the archive is no array ({error}).") from error
    assert isinstance(value, dict)
    return value
