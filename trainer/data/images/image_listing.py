"""The image files in a folder, and the class of each."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer.data.files.cache import FOLDER
from trainer.data.images.image_files import EXTENSIONS, Decoder
from trainer.errors import DataError

VERSION = 2  # of how files are decoded: raising it makes every cache anew


@dataclass(frozen=True)
class Listing:
    """The images of one split: their paths, and the class of each, int64 (N,)."""

    paths: tuple[Path, ...]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, index: Tensor) -> "Listing":
        """Return the images at `index`, int64 (n,), in that order."""
        return Listing(tuple(self.paths[i] for i in index.tolist()), self.targets[index])


def scan(root: Path) -> tuple[tuple[str, ...], list[Listing]]:
    """Find the images of a dataset that has a folder for each class, below train/ and val/ or directly.

    Returns:
        The names of the classes, and the images: [train, val] where both folders exist, else [all].

    Raises:
        DataError: where the folders are not as they should be; names one.
    """
    if not root.is_dir():
        raise DataError(f"data.root={root}: no such folder.")
    train = root / "train"
    val = next((root / name for name in ("val", "valid", "validation", "test") if (root / name).is_dir()), None)
    if val is not None and not train.is_dir():
        raise DataError(f"{root}: has {val.name}/ but no train/ beside it; rename the folder of training images.")
    folders = [train, val] if train.is_dir() and val is not None else [train if train.is_dir() else root]
    labels = _class_names(folders[0])
    listings = []
    for folder in folders:
        assert folder is not None
        unknown = set(_class_names(folder)) - set(labels)
        if unknown:
            raise DataError(f"{folder}: class folder '{min(unknown)}' is not in {folders[0]}.")
        found = [(path, index) for index, label in enumerate(labels) for path in images_below(folder / label)]
        if not found:
            raise DataError(f"{folder}: no images ({', '.join(EXTENSIONS)}) in its class folders.")
        listings.append(Listing(tuple(path for path, _ in found), torch.tensor([index for _, index in found])))
    return labels, listings


def by_class(folder: Path) -> dict[str, list[Path]]:
    """Find the images below each folder of `folder`, by the folder's name.

    Raises:
        DataError: where there are no such folders, or no images in them.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with a folder of images for each class.")
    found = {name: images_below(folder / name) for name in _folders(folder)}
    if not any(found.values()):
        raise DataError(
            f"{folder}: no images ({', '.join(EXTENSIONS)}) in folders of it; expected one folder for each class."
        )
    return found


def unlabelled(source: Path) -> list[Path]:
    """Return the file itself, or all images below the folder.

    Raises:
        DataError: where there are none.
    """
    if source.is_file():
        return [source]  # whatever its name ends with: it was asked for
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder.")
    found = images_below(source)
    if not found:
        raise DataError(f"{source}: no images ({', '.join(EXTENSIONS)}) in this folder or below it.")
    return found


def _folders(folder: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith((".", FOLDER)))


def _class_names(folder: Path) -> tuple[str, ...]:
    names = _folders(folder)
    if len(names) < 2:
        raise DataError(
            f"{folder}: found {len(names)} class folder{'s' * (len(names) != 1)}; expected one folder for each "
            "class, at least two, with its images inside."
        )
    return tuple(names)


def images_below(folder: Path) -> list[Path]:
    """Find the images below a folder, in a fixed order; links are followed, each folder is entered once."""
    found, entered = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = Path(parent).resolve()
        if real in entered:  # a link to where one already is
            folders.clear()
            continue
        entered.add(real)
        folders.sort()
        found += [
            Path(parent) / name for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
        ]
    return sorted(found)


def fingerprint(root: Path, listings: Sequence[Listing], decoder: Decoder) -> str:
    """Return a key that changes with the name, size and time of change of any file, and with how files are decoded.

    Args:
        root: that the names are relative to.
        listings: the files.
        decoder: what they are decoded to.
    """
    digest = hashlib.sha256(repr((VERSION, decoder.size, decoder.channels)).encode())
    for listing in listings:
        for path in listing.paths:
            try:
                status = path.stat()
                size, changed = status.st_size, status.st_mtime_ns
            except OSError:  # such as a link to nothing, which the decoder names
                size, changed = -1, -1
            digest.update(os.fsencode(path.relative_to(root)) + f"\0{size}\0{changed}\n".encode())
    return f"images-{digest.hexdigest()[:16]}"
