"""Parquet files with images in them, as Hugging Face publishes datasets."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from trainer.config.data import ImageFolder
from trainer.data.datasets.image_folder import load_image_folder
from trainer.data.files.cache import FOLDER
from trainer.data.images.image_samples import read_image_samples
from trainer.data.types import Data
from trainer.errors import DataError

NAMES = ("rust", "scab", "well")
FEATURES = {"label": {"names": list(NAMES), "_type": "ClassLabel"}, "image": {"_type": "Image"}}


@pytest.fixture(autouse=True)
def no_other_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home-cache"))


def shard(
    path: Path, numbers: range, named: bool = True, struct: bool = True, unlabelled: int = 0, missing: int | None = None
) -> Path:
    """Images whose colour tells the class; the last ones have none, and number `missing` is not there."""
    rows = []
    for i in numbers:
        pixels, stream = np.full((8, 8, 3), i, np.uint8), io.BytesIO()
        pixels[..., i % 3] = 200
        Image.fromarray(pixels).save(stream, format="PNG" if i % 2 else "BMP")
        image: Any = stream.getvalue()
        if struct:
            image = {"bytes": image, "path": f"{i}.png" if i % 2 else f"some/{i}.bmp"}
        if i == missing:
            image = None
        rows.append({"image": image, "label": -1 if i >= numbers.stop - unlabelled else i % 3})
    table = pa.Table.from_pylist(rows)
    if named:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=7)
    return path


def load(**keys: Any) -> Data:
    return load_image_folder(ImageFolder(augment=False, workers=0, **keys), 0)


def check(data: Data, train: int, val: int, names: tuple[str, ...] = NAMES) -> None:
    """Each image has the class of its colour."""
    assert data.spec.labels == names
    assert (len(data.train), len(data.val)) == (train, val)
    for part in (data.train, data.val):
        for i in range(len(part)):
            assert int(part.inputs[i].float().mean((1, 2)).argmax()) == int(part.targets[i])  # type: ignore[index]


def test_shards_are_splits_by_their_names_and_are_unpacked_once(tmp_path: Path) -> None:
    root = tmp_path / "hf"
    shard(root / "data" / "train-00000-of-00002.parquet", range(30))
    shard(root / "data" / "train-00001-of-00002.parquet", range(30, 40), unlabelled=4)
    shard(root / "data" / "validation-00000-of-00001.parquet", range(40, 49))
    data = load(root=str(root))
    check(data, 36, 9)
    assert any("4 of 10 rows of" in warning and "have no class" in warning for warning in data.warnings)
    [first, *_] = folders = sorted((root / FOLDER).glob("images-of-*"))
    assert len(folders) == 3
    before = first.stat().st_mtime_ns
    check(load(root=str(root)), 36, 9)
    check(load(root=str(root), cache_bytes=0), 36, 9)
    assert first.stat().st_mtime_ns == before
    shard(root / "data" / "train-00000-of-00002.parquet", range(0, 60, 2))
    check(load(root=str(root)), 36, 9)
    assert len([*(root / FOLDER).glob("images-of-*")]) == 4, "another file of that name"
    for i in range(3):
        shard(root / "data" / f"train-0000{i + 2}-of-00002.parquet", range(3))
    data = load(root=str(root))
    check(data, 45, 9)
    shard(root / "data" / "train-00004-of-00002.parquet", range(9), missing=3)
    assert any("1 of 9 rows of" in warning for warning in load(root=str(root)).warnings)
    check(load(root=str(root)), 50, 9)
    assert sum(note.startswith("labels") for note in data.notes) == 1
    assert any("5 more tables, 54 images in all" in note for note in data.notes)


def test_bytes_without_names_of_classes_are_images_too(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.parquet", range(30), named=False, struct=False)
    data = load(labels=str(path))
    check(data, 24, 6, ("0", "1", "2"))
    assert any("image names the file, label the class" in note for note in data.notes)
    for folder in ("cat", "dog"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "1.png")
    with_folders = load(root=str(tmp_path), val_fraction=0.5)
    assert with_folders.spec.labels == ("cat", "dog"), "folders of images go before a file beside them"
    assert any("2 used" in note and ".parquet 1" in note for note in with_folders.notes)


def test_new_files_are_evaluated_and_predicted(tmp_path: Path) -> None:
    data = load(labels=str(shard(tmp_path / "train.parquet", range(30))))
    new = shard(tmp_path / "new" / "test.parquet", range(50, 59))
    config = ImageFolder(labels=str(tmp_path / "train.parquet"))
    for labelled in (True, False):
        samples = read_image_samples(config, str(new), data.spec, data.preprocessing, labelled)
        colours = [int(image.float().mean((1, 2)).argmax()) for image in samples.split.inputs]  # type: ignore[attr-defined]
        assert colours == [i % 3 for i in range(50, 59)]
        assert samples.split.targets.tolist() == (colours if labelled else [0] * 9)
        assert list(samples.names)[1] == "00000001.png"


def test_a_damaged_file_and_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    path = shard(tmp_path / "d" / "x.parquet", range(30))
    content = path.read_bytes()
    path.write_bytes(content[:200] + content[300:])
    with pytest.raises(DataError, match=r"x\.parquet: .*not a readable Parquet file"):
        load(labels=str(path))
    assert not [*tmp_path.rglob("images-of-*")], "nothing half made"
    path.write_bytes(content)
    (tmp_path / "d" / FOLDER).rmdir()
    (tmp_path / "d" / FOLDER).write_text("a file where the cache would be")
    check(load(labels=str(path)), 24, 6)
    assert [*(tmp_path / "home-cache").rglob("images-of-x-*")]
