"""From image files to pixels: what each kind of file becomes, and which files are rejected."""

import contextlib
import math
import stat
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError, features
from torch import Tensor
from torch.utils.data import Dataset

from trainer.data.images.deep_pixels import TIFF, Range, as_bytes, deep_pixels, depth, is_dicom
from trainer.errors import ConfigError, DataError
from trainer.system.cores import cores

ENDINGS = "jpg jpeg jfif jpe png bmp gif webp avif tif tiff ppm pgm heic heif dcm"
EXTENSIONS = tuple(f".{word}" for word in ENDINGS.split())
# The content decides, and among these alone: Pillow would run Ghostscript for what says it is PostScript.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", *(["AVIF"] if features.check("avif") else []))
HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")  # the brands of its files
WHOLE = ((0.0, 65535.0),)  # the range of 16 bits, where no other was measured
BYTE, COLOURS = 8, 3  # bits of a channel that need no scaling; channels of RGB
CHUNK = 256  # images decoded at a time by one process
# What Pillow and its decoders raise for files that are damaged, cut short or made to mislead.
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
REMEDY = "Repair or remove it, or leave such files out with data.on_error=skip."
Result = TypeVar("Result")


class UnreadableImageError(DataError):
    """A file that cannot be used as an image.

    Attributes:
        path: the file.
        reason: why, in words.
    """

    def __init__(self, path: Path, reason: str, remedy: str = REMEDY) -> None:
        super().__init__(f"{path}: cannot be used as an image: {reason}. {remedy}")
        self.path, self.reason = path, reason


@dataclass(frozen=True)
class Decoder:
    """Reads an image file as uint8 (channels, height, width): upright, in RGB or grey.

    | the file | what it becomes |
    |---|---|
    | turned or mirrored by its EXIF orientation | upright |
    | animated, or of several pages | its first frame |
    | with an alpha channel or a transparent colour | as seen on white |
    | CMYK, YCbCr, Lab, a palette, 1 bit | the colours as Pillow converts them |
    | 12 or 16 bits a channel | `scale` becomes 0 to 255 |
    | 32-bit or floating-point numbers | rejected: nobody knows which of them is white |

    With other channels than 1 or 3 each band of a file is a channel, an alpha channel too, and all must be there.

    Attributes:
        size: (height, width) of the result.
        channels: 3 (RGB), 1 (grey), or the number of bands.
        resize: whether images of another size are resized, or an error.
        how: crop: by the shorter side, then cut to the centre; squash: to the size, whatever that does to the shape;
            pad: by the longer side, with black around it.
        scale: what becomes 0 and 255 of more than 8 bits, for all bands or for each; empty: the upper 8 bits.
        max_pixels: of an image, over which it is not decoded; None: Pillow's limit against decompression bombs.
    """

    size: tuple[int, int]
    channels: int
    resize: bool
    how: str = "crop"
    scale: Range = ()
    max_pixels: int | None = None

    @property
    def bytes(self) -> int:
        """Size of one decoded image."""
        return self.channels * self.size[0] * self.size[1]

    def __call__(self, path: Path) -> np.ndarray:
        """Read the pixels of a file, uint8 (channels, height, width).

        Raises:
            UnreadableImageError: where the file is none of the above.
            ConfigError: where it has another size and `resize` is false.
        """
        if self.channels in (1, 3):
            pixels = np.asarray(self._resized(open_image(path, self.channels, self.scale, self.max_pixels), path))
            return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)
        bands = open_bands(path, self.channels, self.scale)
        return np.stack([np.asarray(self._resized(Image.fromarray(band), path)) for band in bands])

    def _resized(self, image: Image.Image, path: Path) -> Image.Image:
        height, width = self.size
        if (image.height, image.width) == self.size:
            return image
        if not self.resize:
            raise ConfigError(
                f"data.image_size is needed, since the images differ in size: {path} is {image.height}×"
                f"{image.width}, others are {height}×{width} (height × width). Try data.image_size=64 or 224."
            )
        if self.how == "squash":
            return image.resize((width, height), Image.Resampling.BILINEAR)
        fit = ImageOps.pad if self.how == "pad" else ImageOps.fit
        return fit(image, (width, height), Image.Resampling.BILINEAR)

    def size_of(self, path: Path) -> tuple[int, int]:
        """Return the height and width of a file's image; raises as `__call__`."""
        if self.channels in (1, 3):
            image = open_image(path, self.channels, self.scale, self.max_pixels)
            return image.height, image.width
        _, height, width = open_bands(path, self.channels, self.scale).shape
        return height, width

    def many(self, paths: Sequence[Path]) -> tuple[np.ndarray, dict[int, str]]:
        """Read many files.

        Returns:
            The pixels, uint8 (N, channels, height, width), black where a file is unreadable; and the reason for each
            of those, by its position.

        Raises:
            ConfigError: see `__call__`.
        """
        pixels = np.zeros((len(paths), self.channels, *self.size), dtype=np.uint8)
        reasons = {}
        for i, path in enumerate(paths):
            try:
                pixels[i] = self(path)
            except UnreadableImageError as error:
                reasons[i] = error.reason
        return pixels, reasons

    def check(self, paths: Sequence[Path]) -> dict[int, str]:
        """Read many files and return only the reasons for those that are unreadable, by position."""
        return self.many(paths)[1]


class ImageFiles(Dataset[Tensor]):
    """Images that are decoded when they are asked for, uint8 (channels, height, width).

    Args:
        paths: the files.
        decoder: reads one file.
        remedy: the way out, told in the `DataError` about a file that is unreadable.
    """

    def __init__(self, paths: Sequence[Path], decoder: Decoder, remedy: str = REMEDY) -> None:
        self.paths, self.decoder, self.remedy = paths, decoder, remedy

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        try:
            return torch.from_numpy(self.decoder(self.paths[index]).copy())
        except UnreadableImageError as error:
            # torch makes a worker's error anew, from its message alone
            raise DataError(str(UnreadableImageError(error.path, error.reason, self.remedy))) from None


def open_image(path: Path, channels: int, scale: Range = (), max_pixels: int | None = None) -> Image.Image:
    """Open an image file: upright, in mode L for one channel, else RGB.

    Args:
        scale, max_pixels: see `Decoder`.

    Raises:
        UnreadableImageError: where it cannot be used.
    """
    mode = "L" if channels == 1 else "RGB"
    with _reasons(path):
        if is_dicom(path):
            return _scaled(path, mode, scale or WHOLE)
        with opened(path) as file:
            _check(file, max_pixels)
            if scale and depth(file, path) > BYTE:
                return _scaled(path, mode, scale)
            return _as_bytes(ImageOps.exif_transpose(file), mode)


def opened(path: Path) -> Image.Image:
    """Open an image file by Pillow, HEIC too where pillow-heif is there; raises what is among `UNREADABLE`."""
    try:
        return Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        with open(path, "rb") as file:
            if file.read(12)[4:] not in HEIC:
                raise
    try:
        import pillow_heif
    except ImportError:
        raise ValueError("it is HEIC; pip install pillow-heif reads it") from None
    pillow_heif.register_heif_opener()
    return Image.open(path, formats=("HEIF",))


def _scaled(path: Path, mode: str, scale: Range) -> Image.Image:
    """Open an image of more than 8 bits a channel."""
    pixels = as_bytes(deep_pixels(path), scale)
    pixels = pixels[..., 0] if pixels.shape[2] < COLOURS else pixels[..., :COLOURS]  # without alpha
    return Image.fromarray(np.ascontiguousarray(pixels)).convert(mode)


def open_bands(path: Path, channels: int, scale: Range) -> np.ndarray:
    """Read all bands of a file, uint8 (channels, height, width), upright.

    Raises:
        UnreadableImageError: where it cannot be used, or has other bands.
    """
    with _reasons(path):
        pixels = as_bytes(deep_pixels(path), scale or WHOLE)
        if pixels.shape[2] != channels:
            raise ValueError(f"it has {pixels.shape[2]} bands, and {channels} are needed (data.channels)")
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


@contextlib.contextmanager
def _reasons(path: Path) -> Iterator[None]:
    """Raise `UnreadableImageError` for whatever makes a file useless."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is no regular file")
        if status.st_size == 0:
            raise OSError("it is empty (0 bytes)")
        yield
        return
    except UnidentifiedImageError:
        reason = _unidentified(path)
    except UNREADABLE as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    raise UnreadableImageError(path, reason[:200].rstrip("."))


def _unidentified(path: Path) -> str:
    """Say why Pillow does not know a file: by its content, and not as if a TIFF were none."""
    with open(path, "rb") as file:
        start = file.read(12)
    if start[:4] in TIFF:
        return "it is a TIFF of other bands than grey or RGB; data.channels=N reads each of its N bands as a channel"
    return f"its content is none of {', '.join(FORMATS)}"


def _check(image: Image.Image, max_pixels: int | None) -> None:
    """Raise `ValueError` for an image that must not be decoded, going by its header."""
    most = max_pixels or Image.MAX_IMAGE_PIXELS or math.inf  # Pillow itself refuses twice as many as its own limit
    if image.width * image.height > most:
        raise ValueError(
            f"it claims {image.width}×{image.height} pixels, over {most:,}: a decompression bomb? See data.max_pixels"
        )
    if image.mode in ("I", "F") and image.format != "PNG":  # older versions of Pillow open 16 bits of PNG as 32
        raise ValueError("its pixels are 32-bit numbers without a defined range; save it with 8 or 16 bits")


def _as_bytes(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits; convert would cut off above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        white = Image.new("RGBA", seen.size, "white")
        image = Image.alpha_composite(white, seen)
    return image.convert(mode)


def decode_all(paths: Sequence[Path], decoder: Decoder, skip: bool) -> tuple[Tensor, dict[int, str]]:
    """Read all files, by several processes where there are many.

    Returns:
        The pixels, uint8 (N, channels, height, width), and the reason for each file that is unreadable, by position.

    Raises:
        UnreadableImageError: for the first file that is unreadable, unless `skip`.
        ConfigError: see `Decoder`.
    """
    images = torch.empty(len(paths), decoder.channels, *decoder.size, dtype=torch.uint8)
    reasons: dict[int, str] = {}
    with contextlib.ExitStack() as stack:
        results = _in_parts(decoder.many, paths, stack)
        for start, part, (pixels, found) in zip(range(0, len(paths), CHUNK), images.split(CHUNK), results, strict=True):
            if found and not skip:
                raise UnreadableImageError(paths[start + min(found)], found[min(found)])
            part.copy_(torch.from_numpy(pixels))
            reasons |= {start + i: reason for i, reason in found.items()}
    return images, reasons


def check_all(paths: Sequence[Path], decoder: Decoder) -> dict[int, str]:
    """Read all files and return the reason for each that is unreadable, by its position."""
    with contextlib.ExitStack() as stack:
        results = _in_parts(decoder.check, paths, stack)
        return {
            start + i: reason
            for start, found in zip(range(0, len(paths), CHUNK), results, strict=True)
            for i, reason in found.items()
        }


def _in_parts(
    work: Callable[[Sequence[Path]], Result], paths: Sequence[Path], stack: contextlib.ExitStack
) -> Iterable[Result]:
    """Apply `work` to part after part, in as many processes as there are cores: threads would wait for one another."""
    parts = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    if len(parts) <= 4:
        return map(work, parts)
    return stack.enter_context(ProcessPoolExecutor(cores())).map(work, parts)
