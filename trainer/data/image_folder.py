"""Your own images, one folder for each class."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainer.config.data import ImageFolder
from trainer.data.augment import augment_from
from trainer.data.cache import FOLDER, cached, keep_text
from trainer.data.image_files import EXTENSIONS, Decoder, UnreadableImageError, check_all, decode_all, open_image
from trainer.data.images import image_data
from trainer.data.mixing import mixing_from
from trainer.data.normalize import normalize_from
from trainer.data.split import from_splits, split
from trainer.errors import ConfigError, DataError
from trainer.interfaces import Data, Split

HELD_OUT = 0.2  # share of the images held out where nothing else is given
MEASURED = 2000  # streamed images from which the normalisation is measured
VERSION = 2  # of what files are decoded to: another one has another cache
NAMED = 3  # files left out that the first screen names


@dataclass(frozen=True)
class Listing:
    """The images of one split: their paths, and the class of each."""

    paths: tuple[Path, ...]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, index: Tensor) -> "Listing":
        """The images at `index`."""
        return Listing(tuple(self.paths[i] for i in index.tolist()), self.targets[index])


def build(config: ImageFolder, seed: int) -> Data:
    """Decoded into one uint8 tensor (and a cache file) when it fits `cache_bytes`; streamed otherwise.

    Raises:
        ConfigError: where data.root is missing, or the images differ in size and data.image_size is not given.
        DataError: where a folder or file is not as it should be; names it.
    """
    if config.root is None:
        raise ConfigError("data.root is needed: the folder with train/ and val/ (or with one folder for each class).")
    root, skip = Path(config.root).expanduser(), config.on_error == "skip"
    labels, listings = scan(root)
    decoder = _decoder(config, listings, skip)
    if len(listings) == 1 and not config.holds_out:
        config = replace(config, val_fraction=HELD_OUT)
    key = _fingerprint(root, listings, decoder)
    if sum(map(len, listings)) * decoder.bytes > config.cache_bytes:
        rejected = _checked(root, key, listings, decoder) if skip else [{} for _ in listings]
        kept, note = _left_out(root, key, listings, rejected)
        return _streamed(config, seed, labels, [part.subset(index) for part, index in zip(listings, kept, strict=True)],
                         decoder, note)  # fmt: skip
    tensors, hit = cached(root, key, lambda: _decoded(listings, decoder, skip))
    rejected = [tensors[f"rejected{i}"] for i in range(len(listings))]
    kept, note = _left_out(root, key, listings, rejected, skip)
    splits = []
    for i, (part, index) in enumerate(zip(listings, kept, strict=True)):
        whole = Split(tensors[f"images{i}"], part.targets)
        splits.append(whole if len(index) == len(part) else Split(whole.inputs[index], part.targets[index]))
    official = splits[1] if len(splits) == 2 and not config.holds_out else None
    return image_data(config, splits[0], official, labels, seed, ("decoded cache" if hit else "decoded") + note)


def scan(root: Path) -> tuple[tuple[str, ...], list[Listing]]:
    """The class names and the images: [train, val] where both folders exist, else [all]."""
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
        found = [(path, index) for index, label in enumerate(labels) for path in _images(folder / label)]
        if not found:
            raise DataError(f"{folder}: no images ({', '.join(EXTENSIONS)}) in its class folders.")
        listings.append(Listing(tuple(path for path, _ in found), torch.tensor([index for _, index in found])))
    return labels, listings


def _class_names(folder: Path) -> tuple[str, ...]:
    names = sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith((".", FOLDER)))
    if len(names) < 2:
        raise DataError(
            f"{folder}: found {len(names)} class folder{'s' * (len(names) != 1)}; expected one folder for each "
            "class, at least two, with its images inside."
        )
    return tuple(names)


def _images(folder: Path) -> list[Path]:
    """The images below a class folder, in a fixed order; links are followed, each folder is entered once."""
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


def _decoder(config: ImageFolder, listings: Sequence[Listing], skip: bool) -> Decoder:
    """For the configured square, or for the size that the first readable image has and all must have."""
    if config.image_size is not None:
        return Decoder((config.image_size, config.image_size), config.channels, resize=True)
    paths = [path for listing in listings for path in listing.paths]
    for path in paths:
        try:
            image = open_image(path, config.channels)
        except UnreadableImageError:
            if not skip:
                raise
            continue
        return Decoder((image.height, image.width), config.channels, resize=False)
    raise DataError(f"{config.root}: none of its {len(paths)} files can be used as an image; the first is {paths[0]}.")


def _decoded(listings: Sequence[Listing], decoder: Decoder, skip: bool) -> dict[str, Any]:
    tensors: dict[str, Any] = {}
    for i, listing in enumerate(listings):
        tensors[f"images{i}"], tensors[f"rejected{i}"] = decode_all(listing.paths, decoder, skip)
    return tensors


def _checked(root: Path, key: str, listings: Sequence[Listing], decoder: Decoder) -> list[dict[int, str]]:
    """The files that cannot be read, by decoding each once before any training; known from then on."""
    made, _ = cached(
        root, f"{key}-checked", lambda: {"rejected": [check_all(listing.paths, decoder) for listing in listings]}
    )
    rejected: list[dict[int, str]] = made["rejected"]
    return rejected


def _left_out(
    root: Path, key: str, listings: Sequence[Listing], rejected: Sequence[dict[int, str]], skip: bool = True
) -> tuple[list[Tensor], str]:
    """The positions that are used of each listing, and what the first screen says of the others.

    Raises:
        UnreadableImageError: where there are others and `skip` is false.
        DataError: where nothing is left of a listing.
    """
    bad = [
        (part.paths[i], reasons[i]) for part, reasons in zip(listings, rejected, strict=True) for i in sorted(reasons)
    ]
    if bad and not skip:
        raise UnreadableImageError(*bad[0])
    kept = [
        torch.tensor([i for i in range(len(part)) if i not in reasons], dtype=torch.int64)
        for part, reasons in zip(listings, rejected, strict=True)
    ]
    for part, index in zip(listings, kept, strict=True):
        if not len(index):
            raise DataError(f"{part.paths[0].parent.parent}: none of its {len(part)} files can be used as an image.")
    if not bad:
        return kept, ""
    named = [f"{path.relative_to(root)} ({reason})" for path, reason in bad]
    written = keep_text(root, f"{key}-rejected.txt", "".join(f"{line}\n" for line in named))
    where = f"; all in {written}" if written else ""
    total = sum(map(len, listings))
    return kept, f"; {len(bad):,} of {total:,} files left out: {', '.join(named[:NAMED])}{where}"


def _fingerprint(root: Path, listings: Sequence[Listing], decoder: Decoder) -> str:
    """Changes with every file's name, size and time of change, and with how they are decoded."""
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


class _Files(Dataset[Tensor]):
    def __init__(self, paths: Sequence[Path], decoder: Decoder) -> None:
        self.paths, self.decoder = paths, decoder

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        try:
            return torch.from_numpy(self.decoder(self.paths[index]).copy())
        except UnreadableImageError as error:
            raise DataError(str(error)) from None  # torch makes a worker's error anew, from its message alone


def _streamed(
    config: ImageFolder,
    seed: int,
    labels: tuple[str, ...],
    listings: Sequence[Listing],
    decoder: Decoder,
    note: str,
) -> Data:
    splits = [Split(_Files(listing.paths, decoder), listing.targets) for listing in listings]
    if len(splits) == 2 and not config.holds_out:
        train, val = splits
    else:
        train, val = (splits[0].subset(i) for i in split(config, splits[0].targets, seed))
    every = max(1, len(train) // MEASURED)
    files: Any = train.inputs
    sample = torch.stack([files[i] for i in range(0, len(train), every)][:MEASURED])
    shape, normalize = (decoder.channels, *decoder.size), normalize_from(config, sample)
    return from_splits(
        train,
        val,
        labels,
        input_shape=shape,
        prepare=normalize,
        augment=augment_from(config, shape, normalize),
        mix=mixing_from(config, len(labels)),
        workers=config.workers,
        description=f"streamed by {config.workers} workers{note}",
    )
