"""Your own images, one folder for each class."""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from trainer.config.data import ImageFolder
from trainer.data.augment import augment_from
from trainer.data.cache import FOLDER, cached
from trainer.data.images import image_data
from trainer.data.mixing import mixing_from
from trainer.data.normalize import normalize_from
from trainer.data.split import from_splits, split
from trainer.errors import ConfigError, DataError
from trainer.interfaces import Data, Split

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
HELD_OUT = 0.2  # share of the images held out where nothing else is given
CHUNK = 256  # images decoded at a time
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError)
MEASURED = 2000  # streamed images from which the normalisation is measured

# An image of absurd size is an error that names the file, not a warning.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Listing:
    """The images of one split: their paths, and the class of each."""

    paths: tuple[Path, ...]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.paths)


def build(config: ImageFolder, seed: int) -> Data:
    """Decoded into one uint8 tensor (and a cache file) when it fits `cache_bytes`; streamed otherwise.

    Raises:
        ConfigError: where data.root is missing, or the images differ in size and data.image_size is not given.
        DataError: where a folder or file is not as it should be; names it.
    """
    if config.root is None:
        raise ConfigError("data.root is needed: the folder with train/ and val/ (or with one folder for each class).")
    root = Path(config.root).expanduser()
    labels, listings = scan(root)
    decoder = _decoder(config, listings)
    total = sum(map(len, listings)) * decoder.bytes
    if len(listings) == 1 and not config.holds_out:
        config = replace(config, val_fraction=HELD_OUT)
    if total > config.cache_bytes:
        return _streamed(config, seed, labels, listings, decoder)
    tensors, hit = cached(root, _fingerprint(root, listings, decoder), lambda: _decode_all(listings, decoder))
    splits = [Split(tensors[f"images{i}"], listing.targets) for i, listing in enumerate(listings)]
    description = "decoded cache" if hit else "decoded"
    official = splits[1] if len(splits) == 2 and not config.holds_out else None
    return image_data(config, splits[0], official, labels, seed, description)


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
    """The images below a class folder, in a fixed order."""
    if not folder.is_dir():
        return []
    return sorted(
        Path(parent) / name
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
    )


class Decoder:
    """Reads an image file as uint8 (channels, height, width): upright, in RGB or grey; of an animation its first frame.

    Args:
        size: (height, width) to give.
        channels: 3 or 1.
        resize: bring other sizes to this one (shorter side, then the centre); without it they are an error.
    """

    def __init__(self, size: tuple[int, int], channels: int, resize: bool) -> None:
        self.size, self.channels, self.resize = size, channels, resize
        self.bytes = channels * size[0] * size[1]

    def __call__(self, path: Path) -> np.ndarray:
        try:
            with Image.open(path) as file:
                image = ImageOps.exif_transpose(file)
                if image.mode.startswith("I;16"):  # convert would cut off above 255
                    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                image = image.convert("L" if self.channels == 1 else "RGB")
        except UNREADABLE as error:
            raise _unreadable(path, error) from error
        height, width = self.size
        if (image.height, image.width) != self.size:
            if not self.resize:
                raise ConfigError(
                    f"data.image_size is needed, since the images differ in size: {path} is {image.height}×"
                    f"{image.width}, others are {height}×{width} (height × width). Try data.image_size=64 or 224."
                )
            image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)

    def many(self, paths: Sequence[Path]) -> np.ndarray:
        """uint8 (N, channels, height, width)."""
        return np.stack([self(path) for path in paths])


def _decoder(config: ImageFolder, listings: Sequence[Listing]) -> Decoder:
    """For the configured square, or for the size that the first image has and all must have."""
    if config.image_size is not None:
        return Decoder((config.image_size, config.image_size), config.channels, resize=True)
    first = listings[0].paths[0]
    try:
        with Image.open(first) as file:
            image = ImageOps.exif_transpose(file)
    except UNREADABLE as error:
        raise _unreadable(first, error) from error
    return Decoder((image.height, image.width), config.channels, resize=False)


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: cannot be read as an image ({error}). Repair or remove it.")


def _decode_all(listings: Sequence[Listing], decoder: Decoder) -> dict[str, Any]:
    """All pixels, decoded by as many processes as there are cores: threads would wait for one another in Python."""
    tensors: dict[str, Any] = {}
    for i, listing in enumerate(listings):
        parts = [listing.paths[start : start + CHUNK] for start in range(0, len(listing), CHUNK)]
        images = torch.empty(len(listing), decoder.channels, *decoder.size, dtype=torch.uint8)
        with contextlib.ExitStack() as stack:
            results: Iterable[np.ndarray]
            if len(parts) > 4:
                results = stack.enter_context(ProcessPoolExecutor(os.cpu_count())).map(decoder.many, parts)
            else:
                results = map(decoder.many, parts)
            for part, pixels in zip(images.split(CHUNK), results, strict=True):
                part.copy_(torch.from_numpy(pixels))
        tensors[f"images{i}"] = images
    return tensors


def _fingerprint(root: Path, listings: Sequence[Listing], decoder: Decoder) -> str:
    """Changes with every file's name, size and time of change, and with how they are decoded."""
    digest = hashlib.sha256(repr((decoder.size, decoder.channels)).encode())
    for listing in listings:
        for path in listing.paths:
            status = path.stat()
            digest.update(f"{path.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return f"images-{digest.hexdigest()[:16]}"


class _Files(Dataset[Tensor]):
    def __init__(self, paths: Sequence[Path], decoder: Decoder) -> None:
        self.paths, self.decoder = paths, decoder

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.decoder(self.paths[index]).copy())


def _streamed(
    config: ImageFolder, seed: int, labels: tuple[str, ...], listings: Sequence[Listing], decoder: Decoder
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
        description=f"streamed by {config.workers} workers",
    )
