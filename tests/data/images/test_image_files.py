"""What each kind of image file becomes, and which files are refused: real files, most of them made by Pillow."""

import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainer.data.images.image_files import Decoder, UnreadableImageError, open_image

GREYS = np.arange(72, dtype=np.uint8).reshape(8, 9) * 3
COLOURS = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)


def saved(path: Path, image: Image.Image | np.ndarray, kind: str | None = None, **options: Any) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, kind, **options)
    return path


def read(path: Path, channels: int = 3) -> np.ndarray:
    """(H, W, 3) or (H, W)."""
    return np.asarray(open_image(path, channels))


def reason(path: Path) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        open_image(path, 3)
    assert str(path) in str(caught.value)
    assert "data.on_error=skip" in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_give_their_pixels(tmp_path: Path, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(read(saved(tmp_path / "x", COLOURS, kind, **options)), COLOURS)


@pytest.mark.parametrize(("kind", "name"), [("PNG", "x.jpg"), ("JPEG", "x.png"), ("GIF", "x.bmp"), ("BMP", "x.webp")])
def test_the_content_decides_and_not_the_name(tmp_path: Path, kind: str, name: str) -> None:
    flat = Image.new("RGB", (9, 8), (255, 0, 0))
    pixels = read(saved(tmp_path / name, flat, kind)).astype(int)
    assert abs(pixels - (255, 0, 0)).max() <= 2


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    bits = np.indices((8, 9)).sum(0) % 2 == 0
    assert np.array_equal(read(saved(tmp_path / "x.png", Image.fromarray(bits)), 1), bits * np.uint8(255))


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_is_grey(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path / "x.png", Image.fromarray(GREYS).convert(mode))
    assert np.array_equal(read(path, 1), GREYS)
    assert np.array_equal(read(path), np.dstack([GREYS] * 3))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGB", "L"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_transparent_is_seen_on_white(tmp_path: Path, mode: str, channels: int) -> None:
    image, options = Image.new("RGB", (9, 8), (0, 0, 0)), {}
    match mode:
        case "RGBA" | "LA":
            image = image.convert(mode)
            image.putalpha(Image.fromarray(np.repeat([[0, 255, 51]], 8, 0).repeat(3, 1).astype(np.uint8)))
            expected = [255, 0, 204]
        case "P" | "PA":
            image = Image.fromarray(np.repeat([[0, 1, 2]], 8, 0).repeat(3, 1).astype(np.uint8), "P")
            image.putpalette([7, 7, 7, 0, 0, 0, 0, 0, 0])
            options, expected = {"transparency": bytes([0, 255, 51])}, [255, 0, 204]
        case _:
            image = Image.fromarray(np.repeat([[9, 0, 0]], 8, 0).repeat(3, 1).astype(np.uint8)).convert(mode)
            options, expected = {"transparency": 9 if mode == "L" else (9, 9, 9)}, [255, 0, 0]
    pixels = read(saved(tmp_path / "x.png", image, **options), channels).astype(int).reshape(8, 9, -1)
    assert abs(pixels - np.repeat(expected, 3)[None, :, None]).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_the_upper_eight(tmp_path: Path, kind: str) -> None:
    levels = np.arange(72, dtype=np.uint16).reshape(8, 9) * 900 + 77
    assert np.array_equal(read(saved(tmp_path / "x", levels, kind), 1), (levels >> 8).astype(np.uint8))


def test_sixteen_bits_of_the_other_byte_order_too(tmp_path: Path) -> None:
    levels = np.arange(72, dtype=np.uint16).reshape(8, 9) * 900 + 77
    image = Image.frombytes("I;16B", (9, 8), levels.astype(">u2").tobytes())
    assert np.array_equal(read(saved(tmp_path / "x.tif", image), 1), (levels >> 8).astype(np.uint8))


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_sixteen_bit_colours_keep_the_upper_eight(tmp_path: Path) -> None:
    wide = COLOURS.astype(np.uint16) * 256 + 99
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    header = struct.pack(">2I5B", 9, 8, 16, 2, 0, 0, 0)
    (tmp_path / "x.png").write_bytes(png((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")))
    assert np.array_equal(read(tmp_path / "x.png"), COLOURS)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_numbers_without_a_range_are_refused(tmp_path: Path, kind: type) -> None:
    path = saved(tmp_path / "x.tif", Image.fromarray(GREYS.astype(kind)))
    assert "without a defined range" in reason(path)


@pytest.mark.parametrize("name", ["x.gif", "x.png", "x.webp", "x.tif"])
def test_of_an_animation_the_first_frame_counts(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (9, 8), colour) for colour in ((255, 255, 255), (0, 0, 0), (9, 99, 0))]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / name) as file:
        assert file.n_frames == 3
    assert read(tmp_path / name).min() >= 254


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(saved(tmp_path / "x.png", COLOURS))
    assert np.array_equal(read(tmp_path / "link.png"), COLOURS)


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to(tmp_path / "nothing")
    assert reason(tmp_path / "x.png") == "No such file or directory"


def test_what_is_no_regular_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    assert reason(tmp_path / "x.png") == "it is no regular file"


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    assert reason(tmp_path / "x.png") == "it is empty (0 bytes)"


@pytest.mark.parametrize(
    "content", [b"this is no image", b"<svg></svg>", b"\0" * 1000, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 8\n"]
)
def test_other_content_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    assert reason(tmp_path / "x.jpg").startswith("its content is none of JPEG, PNG")


def test_postscript_is_not_given_to_an_interpreter(tmp_path: Path) -> None:
    """Pillow hands PostScript to `gs`: ours must not be asked."""
    gs = tmp_path / "gs"
    gs.write_text(f"#!/bin/sh\ntouch {tmp_path}/executed\n")
    gs.chmod(0o755)
    image = saved(tmp_path / "x.eps", COLOURS, "EPS").rename(tmp_path / "x.png")
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{tmp_path}:{before}"
    try:
        with pytest.raises((OSError, ValueError)), Image.open(image) as file:
            file.load()
        assert (tmp_path / "executed").exists(), "what Pillow does by itself"
        (tmp_path / "executed").unlink()
        reason(image)
    finally:
        os.environ["PATH"] = before
    assert not (tmp_path / "executed").exists()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [30_000, 10_000])
def test_an_image_of_absurd_size_is_named(tmp_path: Path, side: int) -> None:
    header = struct.pack(">2I5B", side, side, 8, 2, 0, 0, 0)
    (tmp_path / "x.png").write_bytes(png((b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")))
    assert "decompression bomb" in reason(tmp_path / "x.png")


def test_text_that_unpacks_to_gigabytes_is_named(tmp_path: Path) -> None:
    header = struct.pack(">2I5B", 9, 8, 8, 2, 0, 0, 0)
    text = b"x\0\0" + zlib.compress(b"a" * (80 << 20))
    (tmp_path / "x.png").write_bytes(png((b"IHDR", header), (b"zTXt", text), (b"IDAT", b""), (b"IEND", b"")))
    assert reason(tmp_path / "x.png")


FILES: dict[str, Callable[[io.BytesIO], None]] = {
    "jpeg": lambda f: Image.fromarray(COLOURS).save(f, "JPEG"),
    "cmyk": lambda f: Image.fromarray(COLOURS).convert("CMYK").save(f, "JPEG"),
    "png": lambda f: Image.fromarray(COLOURS).save(f, "PNG"),
    "palette": lambda f: Image.fromarray(COLOURS).convert("P").save(f, "PNG"),
    "gif": lambda f: Image.fromarray(COLOURS).convert("P").save(f, "GIF"),
    "webp": lambda f: Image.fromarray(COLOURS).save(f, "WEBP"),
    "bmp": lambda f: Image.fromarray(COLOURS).save(f, "BMP"),
    "ppm": lambda f: Image.fromarray(COLOURS).save(f, "PPM"),
    "tiff": lambda f: Image.fromarray(COLOURS).save(f, "TIFF"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about the metadata
@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_short_anywhere_is_named(tmp_path: Path, kind: str) -> None:
    file = io.BytesIO()
    FILES[kind](file)
    content = file.getvalue()
    whole = tmp_path / "whole"
    whole.write_bytes(content)
    pixels = read(whole)
    for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9):
        (tmp_path / "x.png").write_bytes(content[: max(1, int(share * len(content)))])
        try:
            cut = read(tmp_path / "x.png")
        except UnreadableImageError:
            continue
        assert np.array_equal(cut, pixels), "what was cut off was no pixel"


@pytest.mark.filterwarnings("ignore")  # of Pillow, about metadata and sizes
@pytest.mark.parametrize("kind", FILES)
def test_damaged_bytes_give_an_image_or_the_error_and_nothing_else(tmp_path: Path, kind: str) -> None:
    file = io.BytesIO()
    FILES[kind](file)
    draw, refused = random.Random(kind), 0
    for _ in range(150):
        content = bytearray(file.getvalue())
        for _ in range(draw.choice((1, 2, 8))):
            content[draw.randrange(min(len(content), 200))] = draw.randrange(256)
        (tmp_path / "x.png").write_bytes(content)
        try:
            assert read(tmp_path / "x.png").dtype == np.uint8
        except UnreadableImageError:
            refused += 1
    assert refused > 5


def test_a_decoder_names_the_unreadable_among_many(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{i}.png", COLOURS) for i in range(4)]
    paths[2].write_bytes(b"no image")
    pixels, reasons = Decoder((8, 9), 3, resize=False).many(paths)
    assert list(reasons) == [2]
    assert not pixels[2].any()
    assert np.array_equal(pixels[3], COLOURS.transpose(2, 0, 1))
