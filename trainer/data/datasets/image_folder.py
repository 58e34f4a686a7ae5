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
from trainer.data.images.image_files import Decoder, ImageFiles, UnreadableImageError, check_all, decode_all
from trainer.data.images.image_listing import Listing, fingerprint, scan
from trainer.data.images.image_walk import name_below
from trainer.data.images.label_table import labelled_images, root_of
from trainer.data.images.labelled_listings import holding_out, labelled_listings, torn_groups
from trainer.data.images.mixing import mixing_from
from trainer.data.images.normalize import Normalize, normalize_from, with_pixel_range
from trainer.data.images.pixel_table import load_pixel_table
from trainer.data.images.survey import LITTLE, PixelSurvey, survey_pixels
from trainer.data.images.words import augment_note, normalize_note
from trainer.data.splits import from_splits, split_samples
from trainer.data.types import Data, Split
from trainer.errors import DataError

MEASURED = 2000  # streamed images from which the normalisation is measured
LOOKED_AT, MANY = 200, 0.1  # images; the share of them that is warned about
NAMED = 3  # files left out that the warning names, and bands whose range is shown
WITH_ALPHA = 3  # bands, of which no other image has more than RGB and what is no band

Rejected = Sequence[dict[int, str]]  # for each listing the reason for each file that is unreadable, by its position


def load_image_folder(config: ImageFolder, seed: int) -> Data:
    """Load the images: decoded into one uint8 tensor (and a cache file) where they fit `cache_bytes`, else streamed.

    Raises:
        ConfigError: where data.root is missing, or the images differ in size and data.image_size is not given.
        DataError: where a folder or file is not as it should be; names it.
    """
    if config.shape is not None:
        return load_pixel_table(config, seed)
    root, skip = root_of(config), config.on_error == "skip"
    labelled = labelled_images(config, root)
    if labelled is None:
        (labels, listings, notes), said = scan(root, config.holds_out), list[str]()
    else:
        labels, listings, notes = labelled_listings(config, labelled, seed)
        said = [*labelled.warnings, *torn_groups(config, labelled.roles, labelled.groups)]
    seen = survey_pixels(listings[0].paths, config.channels)
    decoder = _decoder(config, listings, skip, seen)
    if len(listings) == 2 and config.holds_out:  # divided by group
        config = replace(config, val_fraction=0.0, folds=None, fold=0)
    elif len(listings) == 1:
        config = holding_out(config)
    key = fingerprint(root, listings, decoder)
    if sum(map(len, listings)) * decoder.bytes > config.cache_bytes:
        rejected: Rejected = _check(root, key, listings, decoder) if skip else [{} for _ in listings]
        kept = [part.subset(index) for part, index in zip(listings, _usable(listings, rejected), strict=True)]
        data = _stream(config, seed, labels, kept, decoder)
    else:
        splits, rejected, description = _decode(root, key, listings, decoder, skip)
        official = splits[1] if len(splits) == 2 and not config.holds_out else None
        data = make_image_data(config, splits[0], official, labels, seed, description)
    assert data.preprocessing is not None
    normalised = normalize_note(config, Normalize.from_json(data.preprocessing))
    notes = [*notes, *_notes(config, decoder, seen), normalised, *augment_note(config)]
    warnings = [*said, *_warnings(config, decoder, seen), *_blank(data)]
    data = replace(data, notes=tuple(notes), warnings=(*data.warnings, *warnings))
    data = replace(data, preprocessing=with_pixel_range(data.preprocessing, decoder.scale if seen.deep else ()))
    return _with_warning(data, root, listings, rejected)


def _decoder(config: ImageFolder, listings: Sequence[Listing], skip: bool, seen: PixelSurvey) -> Decoder:
    """Make the decoder for the configured size, or for that of the first readable image, which all must have."""
    scale = [(config.range[0], config.range[1])] if config.range else seen.range
    decoder = Decoder(
        config.size or (0, 0), config.channels, config.size is not None, config.resize, scale, config.max_pixels
    )
    if config.size is not None:
        return decoder
    paths = [path for listing in listings for path in listing.paths]
    for path in paths:
        try:
            return replace(decoder, size=decoder.size_of(path))
        except UnreadableImageError:
            if not skip:
                raise
    raise DataError(
        f"{root_of(config)}: none of its {len(paths)} files can be used as an image; the first is {paths[0]}."
    )


def _notes(config: ImageFolder, decoder: Decoder, seen: PixelSurvey) -> list[str]:
    """Say what is made of pixels of more than 8 bits."""
    if not seen.deep or not decoder.scale:
        return []
    ends = ", ".join(f"{low:,.5g} to {high:,.5g}" for low, high in decoder.scale[:NAMED])
    more = f" and {len(decoder.scale) - NAMED} more bands" if len(decoder.scale) > NAMED else ""
    source = "data.range" if config.range else f"measured on {seen.deep} of them; else: data.range=[low,high]"
    return [f"{'pixels':<10}more than 8 bits: {ends}{more} become 0 to 255 ({source})"]


def _warnings(config: ImageFolder, decoder: Decoder, seen: PixelSurvey) -> list[str]:
    """Warn where much of the images is lost on the way to the network."""
    words = []
    kept = seen.kept(*decoder.size)
    if decoder.resize and config.resize == "crop" and kept < LITTLE:
        words.append(
            f"cutting to {decoder.size[0]}×{decoder.size[1]} keeps {kept:.0%} of an image in the middle of its kind; "
            "data.resize=squash or pad keeps all of it, and so does another data.image_size=[height,width]."
        )
    more = {bands: count for bands, count in seen.bands.items() if bands > WITH_ALPHA and config.channels < bands}
    if more:
        bands, count = max(more.items())
        words.append(
            f"{count} of {seen.read} images have {bands} bands, and only RGB or grey is read; data.channels={bands} "
            "reads all."
        )
    return words


def _blank(data: Data) -> list[str]:
    """Warn where many images are of one colour, as when their range was not what it was taken for."""
    files: Any = data.train.inputs
    chosen = range(0, len(data.train), max(1, len(data.train) // LOOKED_AT))[:LOOKED_AT]
    images = [files[i] for i in chosen]
    flat = sum(bool(image.amin() == image.amax()) for image in images)
    if flat < max(1, len(images) * MANY):
        return []
    return [f"{flat:,} of {len(images):,} training images that were looked at have one colour all over."]


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
        images, whole = tensors[f"images{i}"], len(index) == len(listing)
        kept = listing if whole else listing.subset(index)
        splits.append(Split(images if whole else images[index], kept.targets, weights=kept.weights))
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
        (str(name_below(listing.paths[i], root)), reasons[i])
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
    splits = [
        Split(ImageFiles(listing.paths, decoder), listing.targets, weights=listing.weights) for listing in listings
    ]
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
