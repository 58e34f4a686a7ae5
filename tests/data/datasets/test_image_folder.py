"""Folders of images: the layouts, the files that are read and refused, the cache, and streaming."""

import os
import struct
import tempfile
import zlib
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from trainer.config.data import ImageFolder
from trainer.data.loaders.selection import make_loaders
from trainer.data.types import Data
from trainer.errors import ConfigError, DataError
from trainer.runs.build import build_data


@pytest.fixture(autouse=True)
def no_other_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home-cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "pictures"


def picture(seed: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, image: Image.Image | np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)


def fill(folder: Path, classes: str = "ab", each: int = 3, seed: int = 0) -> None:
    """One folder for each letter, with so many PNG files of 8×8 pixels."""
    for c, label in enumerate(classes):
        for i in range(each):
            save(folder / label / f"{i}.png", picture(seed + 100 * c + i))


def pixels_of(folder: Path, classes: str = "ab", each: int = 3) -> Tensor:
    """What `fill` wrote there, in the order of the paths."""
    paths = [folder / label / f"{i}.png" for label in classes for i in range(each)]
    return torch.stack([torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in paths])


def build(root: Path, **keys: Any) -> Data:
    return build_data(ImageFolder(root=str(root), **{"workers": 0, **keys}), 0)


def one_image(root: Path, name: str, image: Image.Image, options: dict[str, Any] | None = None, **keys: Any) -> Tensor:
    """The pixels of an image as training data."""
    save(root / "train" / "a" / name, image, **(options or {}))
    for other in ("train/b", "val/a", "val/b"):
        save(root / other / "x.png", Image.new("RGB", image.size))
    keys = {"image_size": 8, **keys}
    return build(root, **keys).train.inputs[0]


def message(root: Path, kind: type[Exception] = DataError, **keys: Any) -> str:
    with pytest.raises(kind) as caught:
        build(root, **keys)
    return str(caught.value)


@pytest.mark.parametrize("name", ["val", "test"])
def test_train_and_val_or_test_folders_are_the_two_splits(root: Path, name: str) -> None:
    fill(root / "train")
    fill(root / name, each=2, seed=50)
    data = build(root)
    assert torch.equal(data.train.inputs, pixels_of(root / "train"))
    assert torch.equal(data.val.inputs, pixels_of(root / name, each=2))
    assert data.train.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.val.targets.tolist() == [0, 0, 1, 1]
    assert (data.spec.input_shape, data.spec.outputs, data.spec.labels) == ((3, 8, 8), 2, ("a", "b"))


def test_val_wins_over_test(root: Path) -> None:
    fill(root / "train")
    fill(root / "val", each=2, seed=50)
    fill(root / "test", each=1, seed=70)
    assert torch.equal(build(root).val.inputs, pixels_of(root / "val", each=2))


@pytest.mark.parametrize("folder", [".", "train"])
def test_a_single_level_is_split_by_the_fraction(root: Path, folder: str) -> None:
    fill(root / folder, each=10)
    data = build(root, val_fraction=0.3)
    assert (len(data.train), len(data.val)) == (14, 6)
    assert torch.bincount(data.val.targets).tolist() == [3, 3]
    both = torch.cat([data.train.inputs, data.val.inputs]).flatten(1)
    assert len(both.unique(dim=0)) == 20
    for image, target in zip(data.train.inputs, data.train.targets.tolist(), strict=True):
        assert (pixels_of(root / folder, "ab"[target], each=10) == image).flatten(1).all(1).any()


def test_images_below_a_class_folder_count_and_other_files_do_not(root: Path) -> None:
    fill(root)
    save(root / "a" / "deeper" / "x.PNG", picture(1))
    (root / "a" / "notes.txt").write_text("no image")
    (root / "a" / ".hidden.png").write_bytes(b"no image")
    (root / ".thumbnails").mkdir()
    data = build(root)
    assert len(data.train) + len(data.val) == 7
    assert data.spec.labels == ("a", "b")


def test_a_class_that_training_lacks_is_named(root: Path) -> None:
    fill(root / "train")
    fill(root / "val", "abz")
    assert "class folder 'z'" in message(root)


def test_a_folder_without_images_is_named(root: Path) -> None:
    fill(root / "train")
    for label in "ab":
        (root / "val" / label).mkdir(parents=True)
    assert f"{root / 'val'}: no images" in message(root)


def test_one_class_is_an_error(root: Path) -> None:
    fill(root, "a")
    assert f"{root}: found 1 class folder;" in message(root)


def test_an_empty_folder_is_an_error(root: Path) -> None:
    root.mkdir()
    assert f"{root}: found 0 class folders;" in message(root)


def test_a_folder_that_is_not_there_is_named(root: Path) -> None:
    assert f"data.root={root}: no such folder" in message(root)


def test_a_root_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"data\.root is needed"):
        build_data(ImageFolder(), 0)


def test_mixed_sizes_need_image_size(root: Path) -> None:
    fill(root)
    save(root / "b" / "odd.png", picture(1, height=9, width=12))
    text = message(root, ConfigError)
    assert "data.image_size is needed" in text
    assert f"{root / 'b' / 'odd.png'} is 9×12, others are 8×8" in text


def test_image_size_takes_the_centre_of_the_longer_side(root: Path) -> None:
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = picture(1)
    pixels = one_image(root, "0.png", Image.fromarray(wide))
    assert torch.equal(pixels, torch.from_numpy(picture(1)).permute(2, 0, 1))


def test_image_size_resizes_the_shorter_side(root: Path) -> None:
    fill(root)
    save(root / "a" / "large.png", picture(1, height=40, width=20))
    assert build(root, image_size=12).spec.input_shape == (3, 12, 12)


def test_images_of_one_size_need_not_be_square(root: Path) -> None:
    for label in "ab":
        for i in range(3):
            save(root / label / f"{i}.png", picture(i, height=6, width=10))
    assert build(root).spec.input_shape == (3, 6, 10)


def garbage(content: bytes) -> bytes:
    return b"this is no image" * 10


def nothing(content: bytes) -> bytes:
    return b""


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [garbage, nothing, half])
@pytest.mark.parametrize("name", ["0.png", "7.jpg"])
@pytest.mark.parametrize("keys", [{}, {"cache_bytes": 0}], ids=["resident", "streamed"])
def test_a_damaged_image_is_named(root: Path, name: str, keys: dict[str, Any], damage: Any) -> None:
    fill(root / "train")
    fill(root / "val")
    path = root / "train" / "a" / name
    save(path, picture(1))
    path.write_bytes(damage(path.read_bytes()))
    assert str(path) in message(root, **keys)


def spoilt(root: Path) -> dict[str, Path]:
    """A set of 2 × 2 × 6 images, of which four cannot be used."""
    fill(root / "train", each=6)
    fill(root / "val", each=6, seed=50)
    paths = {"cut": root / "train/a/0.png", "empty": root / "train/b/3.png", "link": root / "train/b/5.png",
             "text": root / "val/a/2.png"}  # fmt: skip
    paths["cut"].write_bytes(half(paths["cut"].read_bytes()))
    paths["empty"].write_bytes(b"")
    paths["link"].unlink()
    paths["link"].symlink_to(root / "nothing")
    paths["text"].write_text("no image")
    return paths


@pytest.mark.parametrize("keys", [{}, {"cache_bytes": 0}], ids=["resident", "streamed"])
@pytest.mark.parametrize("size", [None, 8])
def test_files_that_cannot_be_used_are_left_out_counted_and_listed(
    root: Path, keys: dict[str, Any], size: int | None
) -> None:
    paths = spoilt(root)
    for _ in range(2):  # decoded, and from the cache
        data = build(root, on_error="skip", image_size=size, **keys)
        assert (len(data.train), len(data.val)) == (9, 11)
        for part, name, left_out in ((data.train, "train", ("a/0", "b/3", "b/5")), (data.val, "val", ("a/2",))):
            used = [f"{label}/{i}" for label in "ab" for i in range(6) if f"{label}/{i}" not in left_out]
            assert part.targets.tolist() == [0 if file[0] == "a" else 1 for file in used]
            for i, file in enumerate(used):
                original = np.array(Image.open(root / name / f"{file}.png"))
                assert torch.equal(part.inputs[i], torch.from_numpy(original).permute(2, 0, 1))
        (warning,) = data.warnings
        assert warning.startswith("4 of 24 files were left out; first: train/a/0.png (")
        assert "train/b/3.png (it is empty (0 bytes)), train/b/5.png (No such file" in warning
        header, *listed = data.files["rejected.csv"].splitlines()
        assert header == "file,reason"
        assert [line.split(",")[0] for line in listed] == [str(path.relative_to(root)) for path in paths.values()]


@pytest.mark.parametrize("keys", [{}, {"cache_bytes": 0}], ids=["resident", "streamed"])
def test_skipping_where_all_is_well_changes_nothing(root: Path, keys: dict[str, Any]) -> None:
    fill(root, each=6)
    raised, skipped = build(root, **keys), build(root, on_error="skip", **keys)
    assert raised.spec == skipped.spec
    for one, other in zip(stacked(raised), stacked(skipped), strict=True):
        assert torch.equal(one, other)
    assert not skipped.warnings
    assert not skipped.files


def test_what_was_left_out_once_is_an_error_again_without_skip(root: Path) -> None:
    paths = spoilt(root)
    for keys in ({}, {"image_size": 8}):  # with a size, no file needs to be opened for it first
        build(root, on_error="skip", **keys)
        assert str(paths["cut"]) in message(root, **keys)


@pytest.mark.parametrize("keys", [{}, {"cache_bytes": 0}], ids=["resident", "streamed"])
@pytest.mark.parametrize("part", ["train", "val"])
def test_where_nothing_is_left_it_is_an_error(root: Path, part: str, keys: dict[str, Any]) -> None:
    fill(root / "train")
    fill(root / "val")
    for path in (root / part).rglob("*.png"):
        path.write_bytes(b"no image")
    assert "none of its 6 files" in message(root, on_error="skip", **keys)


def test_a_repaired_file_is_used_again(root: Path) -> None:
    paths = spoilt(root)
    for keys in ({}, {"cache_bytes": 0}):
        build(root, on_error="skip", **keys)
    paths["text"].unlink()
    save(paths["text"], picture(1))
    for keys in ({}, {"cache_bytes": 0}):
        assert len(build(root, on_error="skip", **keys).val) == 12


def test_another_size_is_a_mistake_of_the_config_when_a_worker_meets_it(root: Path) -> None:
    fill(root / "train")
    fill(root / "val")
    data = build(root, cache_bytes=0, workers=1)
    save(root / "train" / "b" / "1.png", picture(1, height=9))
    train, _ = make_loaders(data, batch_size=2, eval_batch_size=2, drop_last=False, seed=0, device=torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"^data.image_size is needed"):
        list(islice(train.stream(0), 3))


def test_linked_folders_are_entered_once(root: Path, tmp_path: Path) -> None:
    fill(root)
    fill(tmp_path / "elsewhere", "cd", seed=50)
    (root / "a" / "more").symlink_to(tmp_path / "elsewhere" / "c")
    (root / "a" / "again").symlink_to(tmp_path / "elsewhere" / "c")
    (root / "b" / "round").symlink_to(root / "b")
    (root / "d").symlink_to(tmp_path / "elsewhere" / "d")
    data = build(root)
    assert data.spec.labels == ("a", "b", "d")
    assert torch.bincount(torch.cat([data.train.targets, data.val.targets])).tolist() == [6, 3, 3]


def test_a_damaged_image_is_named_when_a_worker_meets_it(root: Path) -> None:
    fill(root / "train")
    fill(root / "val")
    data = build(root, cache_bytes=0, workers=1)
    path = root / "train" / "b" / "1.png"
    path.write_bytes(half(path.read_bytes()))
    train, _ = make_loaders(data, batch_size=2, eval_batch_size=2, drop_last=False, seed=0, device=torch.device("cpu"))
    with pytest.raises(DataError, match=str(path)):
        list(islice(train.stream(0), 3))


def png_of_absurd_size(path: Path) -> None:
    """A valid header of 30,000 × 30,000 pixels, and hardly a byte after it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">2I5B", 30_000, 30_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def test_an_image_of_absurd_size_is_named(root: Path) -> None:
    fill(root)
    png_of_absurd_size(root / "a" / "bomb.png")
    assert str(root / "a" / "bomb.png") in message(root, image_size=8)


def test_grey_becomes_three_equal_channels(root: Path) -> None:
    grey = Image.fromarray(picture(1)[:, :, 0])
    assert torch.equal(one_image(root, "0.png", grey), torch.from_numpy(np.array(grey)).expand(3, -1, -1))


def test_colour_becomes_grey_where_one_channel_is_asked_for(root: Path) -> None:
    colour = Image.fromarray(picture(1))
    pixels = one_image(root, "0.png", colour, channels=1)
    assert torch.equal(pixels, torch.from_numpy(np.array(colour.convert("L")))[None])


def test_palette_images_show_their_colours(root: Path) -> None:
    palette = Image.fromarray(picture(1) // 128 * 255).convert("P", palette=Image.Palette.WEB)
    pixels = one_image(root, "0.png", palette)
    assert torch.equal(pixels, torch.from_numpy(picture(1) // 128 * 255).permute(2, 0, 1))


def test_cmyk_images_show_their_colours(root: Path) -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    pixels = one_image(root, "0.jpg", red, {"quality": 100}).int()
    assert (pixels - torch.tensor([255, 0, 0])[:, None, None]).abs().max() < 10


def test_transparency_is_dropped(root: Path) -> None:
    seen = Image.fromarray(np.dstack([picture(1), np.full((8, 8), 255, np.uint8)]))
    assert torch.equal(one_image(root, "0.png", seen), torch.from_numpy(picture(1)).permute(2, 0, 1))


def test_sixteen_bit_grey_keeps_its_contrast(root: Path) -> None:
    levels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    pixels = one_image(root, "0.png", Image.fromarray(levels))
    assert (pixels[0].double() - torch.from_numpy(levels.astype(float)) * 255 / 63000).abs().max() <= 1


# What each EXIF orientation asks a viewer to do with the stored rows.
ORIENTATIONS = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: np.rot90(stored, 2),
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_photographs_stand_upright(root: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = one_image(root, "0.png", Image.fromarray(picture(1)), {"exif": exif})
    upright = np.ascontiguousarray(ORIENTATIONS[orientation](picture(1)))
    assert torch.equal(pixels, torch.from_numpy(upright).permute(2, 0, 1))


def test_the_size_is_that_of_the_upright_photograph(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for label in "ab":
        for i in range(3):
            save(root / label / f"{i}.jpg", picture(i, height=6, width=10), exif=exif)
    assert build(root).spec.input_shape == (3, 10, 6)


def assert_same(data: Data, other: Data) -> None:
    assert data.spec == other.spec
    for part, twin in ((data.train, other.train), (data.val, other.val)):
        assert torch.equal(part.inputs, twin.inputs)
        assert torch.equal(part.targets, twin.targets)


def test_the_second_build_reads_the_cache(root: Path) -> None:
    fill(root)
    first, second = build(root), build(root)
    assert (first.description, second.description) == ("decoded", "decoded cache")
    assert_same(first, second)


@pytest.mark.parametrize("keys", [{"image_size": 4}, {"channels": 1}])
def test_another_way_to_decode_is_another_cache(root: Path, keys: dict[str, Any]) -> None:
    fill(root)
    build(root)
    changed = build(root, **keys)
    assert changed.description == "decoded"
    assert changed.spec.input_shape != (3, 8, 8)


def test_a_changed_file_is_decoded_anew(root: Path) -> None:
    fill(root / "train")
    fill(root / "val")
    build(root)
    save(root / "train" / "a" / "0.png", picture(999))
    data = build(root)
    assert data.description == "decoded"
    assert torch.equal(data.train.inputs, pixels_of(root / "train"))


def test_a_file_changed_without_changing_its_size_is_decoded_anew(root: Path) -> None:
    fill(root / "train")
    fill(root / "val")
    path = root / "train" / "a" / "0.png"
    save(path, picture(1), compress_level=0)
    build(root)
    size, changed = path.stat().st_size, path.stat().st_mtime_ns
    save(path, picture(2), compress_level=0)
    os.utime(path, ns=(changed, changed + 1))
    assert path.stat().st_size == size
    assert torch.equal(build(root).train.inputs, pixels_of(root / "train"))


@pytest.mark.parametrize("change", ["added", "removed", "renamed"])
def test_another_set_of_files_is_decoded_anew(root: Path, change: str) -> None:
    fill(root, each=5)
    build(root)
    path = root / "a" / "0.png"
    match change:
        case "added":
            save(root / "a" / "new.png", picture(999))
        case "removed":
            path.unlink()
        case "renamed":
            path.rename(root / "b" / "moved.png")
    data = build(root)
    assert data.description == "decoded"
    expected = {"added": [6, 5], "removed": [4, 5], "renamed": [4, 6]}[change]
    assert torch.bincount(torch.cat([data.train.targets, data.val.targets])).tolist() == expected


def test_a_class_folder_added_between_others_does_not_shift_their_labels(root: Path) -> None:
    fill(root / "train", "ac")
    fill(root / "val", "ac")
    build(root)
    save(root / "train" / "b" / "x.png", picture(1))
    data = build(root)
    assert data.spec.labels == ("a", "b", "c")
    assert data.train.targets.tolist() == [0, 0, 0, 1, 2, 2, 2]


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_damaged_cache_is_made_anew(root: Path, place: float) -> None:
    fill(root)
    first = build(root)
    (state,) = (root / ".trainer-cache").glob("*/state.pt")
    content = bytearray(state.read_bytes())
    content[int(len(content) * place)] ^= 1
    state.write_bytes(content)
    second, third = build(root), build(root)
    assert (second.description, third.description) == ("decoded", "decoded cache")
    assert_same(first, second)
    assert_same(first, third)


def test_a_cache_without_its_manifest_is_made_anew(root: Path) -> None:
    fill(root)
    build(root)
    (manifest,) = (root / ".trainer-cache").glob("*/manifest.json")
    manifest.unlink()
    assert [build(root).description for _ in range(2)] == ["decoded", "decoded cache"]


def test_where_the_root_cannot_hold_a_cache_the_home_folder_does(root: Path, tmp_path: Path) -> None:
    fill(root)
    (root / ".trainer-cache").write_text("in the way")
    first, second = build(root), build(root)
    assert (first.description, second.description) == ("decoded", "decoded cache")
    assert_same(first, second)
    assert list((tmp_path / "home-cache" / "trainer" / "pictures").glob("*/state.pt"))
    assert (root / ".trainer-cache").read_text() == "in the way"


def test_where_no_cache_can_be_held_it_works_without(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root)
    (root / ".trainer-cache").write_text("in the way")
    (tmp_path / "home-cache").write_text("in the way")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "home-cache"))
    first, second = build(root), build(root)
    assert (first.description, second.description) == ("decoded", "decoded")
    assert_same(first, second)


def stacked(data: Data) -> tuple[Tensor, Tensor]:
    """The pixels of the two splits, read one by one."""
    return tuple(torch.stack([part.inputs[i] for i in range(len(part))]) for part in (data.train, data.val))


@pytest.mark.parametrize("single_level", [False, True])
def test_streaming_gives_the_same_pixels(root: Path, single_level: bool) -> None:
    for folder in [root] if single_level else [root / "train", root / "val"]:
        fill(folder, each=5)
    resident, streamed = build(root), build(root, cache_bytes=0)
    assert not isinstance(streamed.train.inputs, Tensor)
    for pixels, part, twin in zip(
        stacked(streamed), (resident.train, resident.val), (streamed.train, streamed.val), strict=True
    ):
        assert torch.equal(pixels, part.inputs)
        assert torch.equal(twin.targets, part.targets)
    assert streamed.spec == resident.spec


def test_streaming_writes_no_cache(root: Path) -> None:
    fill(root)
    assert "streamed" in build(root, cache_bytes=0).description
    assert not (root / ".trainer-cache").exists()


@pytest.mark.parametrize("spare", [0, -1])
def test_images_stay_resident_up_to_cache_bytes(root: Path, spare: int) -> None:
    fill(root)
    data = build(root, cache_bytes=6 * 3 * 8 * 8 + spare)
    assert isinstance(data.train.inputs, Tensor) == (spare == 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_and_resident_training_see_the_same_batches(root: Path, workers: int) -> None:
    fill(root / "train", each=5)
    fill(root / "val", each=3)
    streams = []
    for keys in ({}, {"cache_bytes": 0, "workers": workers}):
        train, val = make_loaders(
            build(root, **keys), batch_size=4, eval_batch_size=4, drop_last=False, seed=0, device=torch.device("cpu")
        )
        streams.append([*islice(train.stream(1), 6), *val])
    for resident, streamed in zip(*streams, strict=True):
        assert torch.equal(resident.inputs, streamed.inputs)
        assert torch.equal(resident.targets, streamed.targets)


def test_many_images_keep_their_order_when_processes_share_the_work(root: Path) -> None:
    for i in range(1100):
        save(root / "train" / "ab"[i >= 550] / f"{i:04}.bmp", np.full((1, 2, 3), (i % 256, i // 256, 7), np.uint8))
    fill_val = np.zeros((1, 2, 3), np.uint8)
    for label in "ab":
        save(root / "val" / label / "0.bmp", fill_val)
    train = build(root).train
    assert torch.equal(train.inputs[:, 0, 0, 0], (torch.arange(1100) % 256).to(torch.uint8))
    assert torch.equal(train.inputs[:, 1, 0, 1], (torch.arange(1100) // 256).to(torch.uint8))
    assert torch.equal(train.targets, (torch.arange(1100) >= 550).long())


def test_validation_images_without_training_images_are_an_error(root: Path) -> None:
    fill(root / "pictures")
    fill(root / "val")
    assert "has val/ but no folder of training images beside it" in message(root)


def test_a_given_fraction_is_held_out_of_the_training_images_beside_a_test_folder(root: Path) -> None:
    fill(root / "train", each=10)
    fill(root / "test", each=3)
    assert (len(build(root).train), len(build(root).val)) == (20, 6)
    data = build(root, val_fraction=0.3)
    assert (len(data.train), len(data.val)) == (14, 6)
    assert len(build(root, val_fraction=0.3, cache_bytes=0).train) == 14
