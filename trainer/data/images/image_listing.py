"""The image files in a folder, and the class of each."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.data.images.image_files import EXTENSIONS, Decoder
from trainer.data.images.image_layout import class_folders, find_layout, match_classes
from trainer.data.images.image_walk import FolderFiles, files_below, files_outside, name_below, passed_over_words
from trainer.errors import DataError

ALL_CLASSES = 20  # that are shown with their counts
VERSION = 3  # of how files are decoded: raising it makes every cache anew


@dataclass(frozen=True)
class Listing:
    """The images of one split.

    Attributes:
        paths: of the files.
        targets: the class of each, int64 (N,).
        weights: how much each counts in the training loss, float32 (N,); None: 1 each.
    """

    paths: tuple[Path, ...]
    targets: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, index: Tensor) -> "Listing":
        """Return the images at `index`, int64 (n,), in that order."""
        weights = None if self.weights is None else self.weights[index]
        return Listing(tuple(self.paths[i] for i in index.tolist()), self.targets[index], weights)


class Scanned(NamedTuple):
    """The images of a dataset.

    Attributes:
        labels: the names of the classes.
        listings: [train, val] where there are images for validation, else [all].
        notes: what was found, a line each.
    """

    labels: tuple[str, ...]
    listings: list[Listing]
    notes: list[str]


def scan(root: Path, held_out: bool = False) -> Scanned:
    """Find the images of a dataset that has a folder for each class, in folders of splits or directly.

    Args:
        root: the folder that the user names.
        held_out: whether validation images are held out, and not those of a folder.

    Raises:
        DataError: where the folders are not as they should be; names one.
    """
    layout = find_layout(root, held_out)
    labels, listed = tuple(layout.train.classes), layout.listed
    listings, lines, passed_over = list[Listing](), list[str](), Counter[str]()
    used = [*layout.train.classes.values(), *(layout.val.classes.values() if layout.val else ())]

    def add(side: str, where: str, paths: Sequence[Path], targets: Tensor) -> None:
        counts = dict(zip(labels, torch.bincount(targets, minlength=len(labels)).tolist(), strict=True))
        listings.append(Listing(tuple(paths), targets))
        lines.append(f"{side:<10}{len(paths):,} in {where}: {count_words(counts)}")

    for part in (layout.train, layout.val):
        if part is None:
            continue
        match_classes(part, labels, layout.train.folder)
        files = {label: files_below(path) for label, path in part.classes.items()}
        for label, found in files.items():
            if not found.images:
                kinds = passed_over_words(found.passed_over)
                raise DataError(f"{part.classes[label]}: a class folder without images{kinds}.")
            passed_over += found.passed_over
        paths = [path for found in files.values() for path in found.images]
        sizes = [len(files[label].images) if label in files else 0 for label in labels]
        alone = layout.val is None and listed is None
        side = "images" if alone else "train" if part is layout.train else "val"
        add(side, str(part.folder), paths, torch.arange(len(labels)).repeat_interleave(torch.tensor(sizes)))
    if listed is not None:
        targets = torch.tensor([labels.index(label) for label in listed.labels])
        missing = f", {listed.missing:,} of whose rows name no image" if listed.missing else ""
        add("val", f"{listed.folder}, classes from {listed.table}{missing}", listed.paths, targets)
        passed_over += listed.passed_over
        used.append(listed.folder)
    passed_over += files_outside(root, used)
    if passed_over:
        count = sum(map(len, listings))
        others = passed_over_words(passed_over, " + ")
        lines.append(f"{'files':<10}{count + passed_over.total():,} found = {count:,} used{others}")
    return Scanned(labels, listings, [*lines, *(f"{'note':<10}{text}" for text in layout.notes)])


def count_words(counts: dict[str, int]) -> str:
    """Return the classes with their counts: all of few, of many the first, the last, the smallest and the largest."""
    words = [f"{label} {count:,}" for label, count in counts.items()]
    if len(words) <= ALL_CLASSES:
        return ", ".join(words)
    by_size = sorted(counts, key=counts.__getitem__)
    ends = f"smallest {by_size[0]} {counts[by_size[0]]:,}, largest {by_size[-1]} {counts[by_size[-1]]:,}"
    return f"{words[0]} … {words[-1]}; {ends}"


def by_class(folder: Path) -> dict[str, FolderFiles]:
    """Find the images below each folder of `folder`, by the folder's name.

    Raises:
        DataError: where there are no such folders, or no images in them.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with a folder of images for each class.")
    found = {label: files_below(path) for label, path in class_folders(folder).classes.items()}
    if not any(files.images for files in found.values()):
        raise DataError(
            f"{folder}: no images ({', '.join(EXTENSIONS)}) in folders of it; expected one folder for each class."
        )
    return found


def unlabelled(source: Path) -> FolderFiles:
    """Return the file itself, or all images below the folder.

    Raises:
        DataError: where there are none.
    """
    if source.is_file():
        return FolderFiles([source], Counter())  # whatever its name ends with: it was asked for
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder.")
    found = files_below(source)
    if not found.images:
        others = passed_over_words(found.passed_over)
        raise DataError(f"{source}: no images ({', '.join(EXTENSIONS)}) in this folder or below it{others}.")
    return found


def files_line(used: int, passed_over: Counter[str]) -> list[str]:
    """Return a sentence on files that are passed over; none where there are none."""
    total = used + passed_over.total()
    return [f"{total:,} files = {used:,} images{passed_over_words(passed_over, ' + ')}."] if passed_over else []


def fingerprint(root: Path, listings: Sequence[Listing], decoder: Decoder) -> str:
    """Return a key that changes with the name, size and time of change of any file, and with how files are decoded.

    Args:
        root: that the names are relative to.
        listings: the files.
        decoder: what they are decoded to.
    """
    made = (VERSION, decoder.size, decoder.channels, decoder.how, [*decoder.scale], decoder.max_pixels)
    digest = hashlib.sha256(repr(made).encode())
    for listing in listings:
        digest.update(f"{len(listing)} files\n".encode())  # the same files may be divided in other places
        for path in listing.paths:
            try:
                status = path.stat()
                size, changed = status.st_size, status.st_mtime_ns
            except OSError:  # such as a link to nothing, which the decoder names
                size, changed = -1, -1
            digest.update(os.fsencode(name_below(path, root)) + f"\0{size}\0{changed}\n".encode())
    return f"images-{digest.hexdigest()[:16]}"
