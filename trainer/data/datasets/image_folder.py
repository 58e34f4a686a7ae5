"""Your own images, one folder for each class."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.config.data import ImageFolder
from trainer.data.files.cache import cached
from trainer.data.images.augment import augment_from
from trainer.data.images.image_data import make_image_data
from trainer.data.images.image_files import Decoder, ImageFiles, UnreadableImageError, check_all, decode_all, open_image
from trainer.data.images.image_listing import Listing, fingerprint, scan
from trainer.data.images.mixing import mixing_from
from trainer.data.images.normalize import normalize_from
from trainer.data.splits import from_splits, split_samples
from trainer.data.types import Data, Split
from trainer.errors import ConfigError, DataError
from trainer.system.home import expanded

HELD_OUT = 0.2  # share of the images held out where nothing else is given
MEASURED = 2000  # streamed images from which the normalisation is measured
NAMED = 3  # files left out that the warning names

Rejected = Sequence[dict[int, str]]  # for each listing the reason for each file that is unreadable, by its position


def load_image_folder(config: ImageFolder, seed: int) -> Data:
    """Load the images: decoded into one uint8 tensor (and a cache file) where they fit `cache_bytes`, else streamed.

    Raises:
        ConfigError: where data.root is missing, or the images differ in size and data.image_size is not given.
        DataError: where a folder or file is not as it should be; names it.
    """
    if config.root is None:
        raise ConfigError("data.root is needed: the folder with train/ and val/ (or with one folder for each class).")
    root, skip = expanded(config.root), config.on_error == "skip"
    labels, listings, notes = scan(root, config.holds_out)
    decoder = _decoder(config, listings, skip)
    if len(listings) == 1 and not config.holds_out:
        config = replace(config, val_fraction=HELD_OUT)
    key = fingerprint(root, listings, decoder)
    if sum(map(len, listings)) * decoder.bytes > config.cache_bytes:
        rejected: Rejected = _check(root, key, listings, decoder) if skip else [{} for _ in listings]
        kept = [part.subset(index) for part, index in zip(listings, _usable(listings, rejected), strict=True)]
        data = _stream(config, seed, labels, kept, decoder)
    else:
        splits, rejected, description = _decode(root, key, listings, decoder, skip)
        official = splits[1] if len(splits) == 2 and not config.holds_out else None
        data = make_image_data(config, splits[0], official, labels, seed, description)
    return _with_warning(replace(data, notes=(*data.notes, *notes)), root, listings, rejected)


def _decoder(config: ImageFolder, listings: Sequence[Listing], skip: bool) -> Decoder:
    """Make the decoder for the configured square, or for the size of the first readable image, which all must have."""
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


def _decode(
    root: Path, key: str, listings: Sequence[Listing], decoder: Decoder, skip: bool
) -> tuple[list[Split], Rejected, str]:
    """Read all pixels into memory, or find them in the cache.

    Returns:
        The splits without the files that are unreadable, the reasons for those, and where the pixels come from.
    """

    def decode() -> dict[str, Any]:
        tensors: dict[str, Any] = {}
        for i, listing in enumerate(listings):
            tensors[f"images{i}"], tensors[f"rejected{i}"] = decode_all(listing.paths, decoder, skip)
        return tensors

    tensors, hit = cached(root, key, decode)
    rejected = [tensors[f"rejected{i}"] for i in range(len(listings))]
    for listing, reasons in zip(listings, rejected, strict=True):
        if reasons and not skip:
            raise UnreadableImageError(listing.paths[min(reasons)], reasons[min(reasons)])
    splits = []
    for i, (listing, index) in enumerate(zip(listings, _usable(listings, rejected), strict=True)):
        images, targets = tensors[f"images{i}"], listing.targets
        splits.append(Split(images, targets) if len(index) == len(listing) else Split(images[index], targets[index]))
    return splits, rejected, "decoded cache" if hit else "decoded"


def _check(root: Path, key: str, listings: Sequence[Listing], decoder: Decoder) -> Rejected:
    """Find the files that are unreadable by decoding each once, before any training; the result is cached."""
    made, _ = cached(
        root, f"{key}-checked", lambda: {"rejected": [check_all(listing.paths, decoder) for listing in listings]}
    )
    rejected: Rejected = made["rejected"]
    return rejected


def _usable(listings: Sequence[Listing], rejected: Rejected) -> list[Tensor]:
    """Return the positions of the files of each listing that are used; raise `DataError` where there are none."""
    usable = []
    for listing, reasons in zip(listings, rejected, strict=True):
        if len(reasons) == len(listing):
            folder = listing.paths[0].parent.parent
            raise DataError(f"{folder}: none of its {len(listing)} files can be used as an image.")
        usable.append(torch.tensor([i for i in range(len(listing)) if i not in reasons], dtype=torch.int64))
    return usable


def _with_warning(data: Data, root: Path, listings: Sequence[Listing], rejected: Rejected) -> Data:
    """Add a warning about the files that were left out, and the list of them for the run directory."""
    rows = [
        (str(listing.paths[i].relative_to(root)), reasons[i])
        for listing, reasons in zip(listings, rejected, strict=True)
        for i in sorted(reasons)
    ]
    if not rows:
        return data
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("file", "reason"), *rows])
    first = ", ".join(f"{file} ({reason})" for file, reason in rows[:NAMED])
    warning = (
        f"{len(rows):,} of {sum(map(len, listings)):,} files were left out; first: {first}. All are in rejected.csv of "
        "the run."
    )
    content = text.getvalue().encode(errors="backslashreplace").decode()
    return replace(data, warnings=(*data.warnings, warning), files=data.files | {"rejected.csv": content})


def _stream(
    config: ImageFolder, seed: int, labels: tuple[str, ...], listings: Sequence[Listing], decoder: Decoder
) -> Data:
    """Make data whose images are decoded when they are needed, by loader processes."""
    splits = [Split(ImageFiles(listing.paths, decoder), listing.targets) for listing in listings]
    if len(splits) == 2 and not config.holds_out:
        train, val = splits
    else:
        train, val = (splits[0].subset(index) for index in split_samples(config, splits[0].targets, seed))
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
        description=f"streamed by {config.workers} workers",
        preprocessing=normalize.to_json(),
    )
