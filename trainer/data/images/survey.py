"""A look at some images of a dataset before all are decoded: how deep their pixels are, what resizing would leave."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainer.data.images.deep_pixels import Range, bands_of, deep_pixels, depth, is_dicom
from trainer.data.images.image_files import UNREADABLE, opened

SAMPLE = 200  # images that are looked at, evenly over the dataset
VALUES = 4096  # pixels of one image that its range is measured on
TAILS = (0.1, 99.9)  # per cent of the pixels between which the range lies: a hot pixel does not stretch it
LITTLE = 0.5  # of an image's area: a cut that leaves less is warned about


@dataclass
class PixelSurvey:
    """What was found.

    Attributes:
        read: images that could be opened.
        deep: those with more than 8 bits a channel.
        range: of their pixels, for each band; empty where there are none.
        bands: how many images have how many bands.
        ratios: of width to height.
    """

    read: int = 0
    deep: int = 0
    range: Range = ()
    bands: Counter[int] = field(default_factory=Counter)
    ratios: list[float] = field(default_factory=list)

    def kept(self, height: int, width: int) -> float:
        """Return the share of its area that an image in the middle keeps when it is cut to a size."""
        shares = [min(ratio * height / width, width / (ratio * height)) for ratio in self.ratios]
        return statistics.median(shares) if shares else 1.0


def survey_pixels(paths: Sequence[Path], channels: int) -> PixelSurvey:
    """Look at some of the files; those that cannot be read are passed over, the decoder names them."""
    found, values = PixelSurvey(), list[np.ndarray]()
    for path in paths[:: max(1, len(paths) // SAMPLE)][:SAMPLE]:
        try:
            deep = _look(path, channels, found)
        except UNREADABLE:
            continue
        if deep is not None:
            flat = deep.reshape(-1, deep.shape[2])
            values.append(flat[:: max(1, len(flat) // VALUES)])
    alike = [part for part in values if part.shape[1] == values[0].shape[1]]
    if alike:
        found.deep = len(values)
        low, high = np.percentile(np.concatenate(alike), TAILS, axis=0)
        found.range = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    return found


def _look(path: Path, channels: int, found: PixelSurvey) -> np.ndarray | None:
    """Take note of an image; return its pixels where they are deep, uint16 (height, width, bands)."""
    try:
        with opened(path) as image:
            is_deep, size, bands = depth(image, path) > 8, image.size, bands_of(image)
    except UNREADABLE:
        if channels in (1, 3) and not is_dicom(path):
            raise
        is_deep, size, bands = True, (0, 0), 0  # of bands that Pillow does not know
    pixels = deep_pixels(path) if is_deep else None
    if pixels is not None:
        size, bands = (pixels.shape[1], pixels.shape[0]), pixels.shape[2]
    found.read += 1
    found.bands[bands] += 1
    found.ratios.append(size[0] / size[1])
    return pixels if pixels is not None and pixels.dtype == np.uint16 else None
