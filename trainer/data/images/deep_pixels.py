"""Pixels that are more than 8 bits of grey or RGB: 12 and 16 bits, and any number of bands."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

ORIENTATION, BITS_PER_SAMPLE, SAMPLES_PER_PIXEL, EXTRA_SAMPLES = 274, 258, 277, 338  # tags of EXIF and TIFF
ALPHA = (1, 2)  # kinds of extra samples (TIFF 6.0, page 31)
# From how the camera was held to what brings the image upright (EXIF 2.32, 4.6.4), on (height, width, bands).
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, -1)[:, ::-1],
    8: np.rot90,
}
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how such files begin
PNG_DEPTH = 24  # offset of the bits of a channel in a PNG file
Range = Sequence[tuple[float, float]]  # what becomes 0 and 255: of all bands, or of each


def depth(image: Image.Image, path: Path) -> int:
    """Return the bits of a channel of an opened image, by its header."""
    if image.format == "PNG":
        with open(path, "rb") as file:
            return file.read(PNG_DEPTH + 1)[-1]
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(BITS_PER_SAMPLE, (8,))))  # type: ignore[attr-defined]
    return 16 if image.mode.startswith("I") else 8


def bands_of(image: Image.Image) -> int:
    """Return how many bands an opened image has, alpha channels apart; of all but TIFF as many as Pillow reads."""
    if image.format == "TIFF" and image.mode != "CMYK":
        tags = image.tag_v2  # type: ignore[attr-defined]
        return int(tags.get(SAMPLES_PER_PIXEL, 1)) - sum(extra in ALPHA for extra in tags.get(EXTRA_SAMPLES, ()))
    return 1 if image.mode in ("1", "L", "LA") or image.mode.startswith("I") else 3


def deep_pixels(path: Path) -> np.ndarray:
    """Read the pixels of a file as they are, uint8 or uint16 (height, width, bands), upright.

    PNG is decoded by torchvision, which keeps 16 bits of colour where Pillow takes the upper 8, and TIFF by tifffile.

    Raises:
        ValueError: where a library is missing, or the numbers have no defined range.
        OSError, RuntimeError: for a damaged file.
    """
    with open(path, "rb") as file:
        start = file.read(4)
    if start in TIFF:
        pixels, orientation = _tiff(path)
    elif is_dicom(path):
        pixels, orientation = _dicom(path), 1
    else:
        with Image.open(path) as image:
            orientation = image.getexif().get(ORIENTATION, 1)
            if image.mode.startswith("I") and image.format == "PNG":
                pixels = np.asarray(image).astype(np.uint16)  # 16 bits of grey, which Pillow keeps
            else:
                pixels = _png(path) if image.format == "PNG" and depth(image, path) > 8 else np.asarray(image)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"its pixels are {pixels.dtype} without a defined range; save it with 8 or 16 bits")
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3:
        raise ValueError(f"it has {pixels.ndim} dimensions, and an image has height, width and bands")
    return UPRIGHT[orientation](pixels) if orientation in UPRIGHT else pixels


def _png(path: Path) -> np.ndarray:
    try:
        from torchvision.io import ImageReadMode, decode_image
    except ImportError:  # torchvision gives up decoding images some day
        raise ValueError("it has 16 bits of colour; save it as TIFF, which tifffile reads") from None
    content = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    pixels: np.ndarray = decode_image(content, mode=ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
    return pixels


def is_dicom(path: Path) -> bool:
    """Return whether a file is DICOM, by its content."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def _dicom(path: Path) -> np.ndarray:
    try:
        import pydicom
    except ImportError:
        raise ValueError("it is DICOM; pip install pydicom reads it") from None
    file = pydicom.dcmread(path)
    pixels: np.ndarray = file.pixel_array
    if pixels.dtype == np.int16:  # such as Hounsfield units
        pixels = (pixels.astype(np.int32) + (1 << 15)).astype(np.uint16)
    if file.PhotometricInterpretation == "MONOCHROME1":  # small numbers are white (DICOM PS3.3, C.7.6.3.1.2)
        pixels = np.iinfo(pixels.dtype).max - pixels
    return pixels


def _tiff(path: Path) -> tuple[np.ndarray, int]:
    try:
        import tifffile
    except ImportError:
        raise ValueError(
            "it is a TIFF of more than 8 bits, or of other bands than RGB; pip install tifffile reads it"
        ) from None
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            pixels = np.asarray(page.asarray())
            if "YX" in page.axes and page.axes.index("Y") > 0:
                pixels = np.moveaxis(pixels, 0, -1)  # a plane for each band
            first: Any = page.keyframe
            tag = first.tags.get(ORIENTATION)
            return pixels, 1 if tag is None else int(tag.value)
    except tifffile.TiffFileError as error:
        raise ValueError(str(error)) from error


def as_bytes(pixels: np.ndarray, scale: Range) -> np.ndarray:
    """Scale pixels to uint8 of the same shape: what a range begins with becomes 0, what it ends with 255.

    Args:
        pixels: (height, width, bands); those of 8 bits are returned as they are.
        scale: of all bands, or of each.
    """
    if pixels.dtype == np.uint8:
        return pixels
    low, high = (np.array(ends, dtype=np.float32) for ends in zip(*scale, strict=True))
    scaled = (pixels.astype(np.float32) - low) * (255 / np.maximum(high - low, 1))
    scaled_bytes: np.ndarray = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return scaled_bytes
