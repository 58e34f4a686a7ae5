"""Tables with a column for each pixel: which columns, their range, splits and weights; and new ones for a model."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from trainer.config.data import ImageFolder
from trainer.data.datasets.image_folder import load_image_folder
from trainer.data.images.image_samples import read_image_samples
from trainer.data.types import Data, Split
from trainer.errors import ConfigError, DataError

COUNT, SIDE = 30, 4
PIXELS = SIDE * SIDE


def images(channels: int = 1, most: int = 255) -> np.ndarray:
    """Sample i has i as its first pixel, and then numbers from 0 to `most` in order."""
    values = np.tile(np.linspace(0, most, channels * PIXELS).round(), (COUNT, 1))
    values[:, 0] = np.arange(COUNT)
    return values


def write(path: Path, values: np.ndarray, first: str | None = "label", names: str = "pixel{}", **more: Any) -> Path:
    columns: dict[str, Any] = {} if first is None else {first: [i % 3 for i in range(COUNT)]}
    columns |= {names.format(i): values[:, i] for i in range(values.shape[1])} | more
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
        return path
    rows = [
        ",".join("" if cell is None else f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in row)
        for row in zip(*columns.values(), strict=True)
    ]
    path.write_text("\n".join([",".join(columns), *rows]) + "\n")
    return path


def load(path: Path, shape: Any = "1x4x4", **keys: Any) -> Data:
    return load_image_folder(ImageFolder(labels=str(path), shape=shape, augment=False, **keys), 0)


def check(data: Data, expected: np.ndarray, count: int = COUNT) -> None:
    """Each image has its own pixels, and the class of its number."""
    assert data.spec.labels == ("0", "1", "2")
    assert len(data.train) + len(data.val) == count
    for part in (data.train, data.val):
        for image, target in zip(part.inputs, part.targets.tolist(), strict=True):  # type: ignore[call-overload]
            number = next(i for i in range(COUNT) if image.flatten().tolist() == expected[i].tolist())
            assert number % 3 == target


def test_columns_of_pixels_are_images(tmp_path: Path) -> None:
    grey = images()
    for ending in ("csv", "parquet"):
        for names in ("pixel{}", "{}x1", "p_{}"):
            data = load(write(tmp_path / f"t.{ending}", grey, names=names))
            check(data, grey)
            assert data.spec.input_shape == (1, SIDE, SIDE)
            assert any(f"16 columns, {names.format(0)} … {names.format(15)}, are 1×4×4" in note for note in data.notes)
    for shape in ("4x4", [1, 4, 4], "1×4×4"):
        check(load(write(tmp_path / "t.csv", grey), shape), grey)
    colours = images(3)
    data = load(write(tmp_path / "t.csv", colours), "3x4x4")
    check(data, colours)
    assert torch.equal(data.train.inputs[0].flatten(), torch.from_numpy(colours[int(data.train.inputs[0, 0, 0, 0])]))  # type: ignore[index]
    bare = tmp_path / "bare.csv"
    bare.write_text("\n".join(write(tmp_path / "t.csv", grey).read_text().splitlines()[1:]) + "\n")
    with pytest.raises(ConfigError, match=r"is 16 pixels, and .*bare\.csv has 17 columns .* data\.label_column"):
        load(bare)
    check(load(bare, label_column="0"), grey)


def test_the_range_of_pixels_is_said_and_never_guessed(tmp_path: Path) -> None:
    grey = images()
    data = load(write(tmp_path / "t.csv", grey / 255))
    for image in data.train.inputs:  # type: ignore[attr-defined]
        assert image.flatten().tolist() in grey.tolist()
    assert any("0 to 1 become 0 to 255" in note for note in data.notes)
    deep = write(tmp_path / "deep.csv", grey * 16)
    with pytest.raises(ConfigError, match=r"has pixels from 0 to 4080; data\.range=\[BLACK,WHITE\]"):
        load(deep)
    data = load(deep, range=[0, 4080])
    check(data, grey)
    assert data.preprocessing is not None and '"range": [[0.0, 4080.0]]' in data.preprocessing
    samples = read_image_samples(
        ImageFolder(labels="t.csv", shape="4x4"), str(deep), data.spec, data.preprocessing, labelled=True
    )
    assert samples.split.inputs.flatten(1).tolist() == grey.tolist()  # type: ignore[union-attr]


def test_splits_groups_weights_and_rows_without_a_class(tmp_path: Path) -> None:
    grey = images()
    more = {"split": ["train"] * 20 + ["val"] * 10, "patient": [i // 4 for i in range(COUNT)], "sure": [2.0] * COUNT}
    data = load(write(tmp_path / "t.csv", grey, **more), weight_column="sure")
    check(data, grey)
    assert (len(data.train), len(data.val)) == (20, 10)
    assert data.train.weights is not None and data.train.weights.tolist() == [2.0] * 20
    assert not any("both sides" in warning for warning in data.warnings), "20 is between two patients"
    held = load(write(tmp_path / "t.csv", grey, **more), val_fraction=0.25, weight_column="sure")
    numbers = [{int(image.flatten()[0]) for image in part.inputs} for part in (held.train, held.val)]  # type: ignore[attr-defined]
    assert sum(map(len, numbers)) == 20 and max(map(max, numbers)) < 20
    assert not {i // 4 for i in numbers[0]} & {i // 4 for i in numbers[1]}, "whole patients"
    path = write(tmp_path / "t.csv", grey, "number", label=["a", "b", None] * 10)
    data = load(path)
    assert data.spec.labels == ("a", "b") and len(data.train) + len(data.val) == 20
    for part in (data.train, data.val):
        numbers_here = [int(image.flatten()[0]) for image in part.inputs]  # type: ignore[attr-defined]
        assert [i % 3 for i in numbers_here] == part.targets.tolist()
    assert any("10 of 30 rows of" in warning and "have no class" in warning for warning in data.warnings)
    grey[7, 3] = np.nan
    with pytest.raises(DataError, match=r"t\.csv, line 9.*: a pixel is missing"):
        load(write(tmp_path / "t.csv", grey, label=[i % 3 for i in range(COUNT)]))


def test_new_tables_are_evaluated_and_predicted(tmp_path: Path) -> None:
    grey = images()
    path = write(tmp_path / "t.csv", grey)
    data = load(path)
    config = ImageFolder(labels=str(path), shape="4x4")

    def read(path: Path, labelled: bool) -> Split:
        samples = read_image_samples(config, str(path), data.spec, data.preprocessing, labelled)
        assert list(samples.names) == list(range(2, COUNT + 2)), "lines"
        return samples.split

    split = read(path, True)
    assert split.targets.tolist() == [i % 3 for i in range(COUNT)]
    assert split.inputs.flatten(1).tolist() == grey.tolist()  # type: ignore[union-attr]
    assert read(write(tmp_path / "test.csv", grey, None), False).inputs.flatten(1).tolist() == grey.tolist()  # type: ignore[union-attr]
    strange = write(tmp_path / "strange.csv", grey, None, label=[str(i % 4) for i in range(COUNT)])
    with pytest.raises(DataError, match=r"strange\.csv: '3' is no class of the run"):
        read(strange, True)
    with pytest.raises(ConfigError, match=r"has no column of classes"):
        read(tmp_path / "test.csv", True)


def test_a_shape_that_cannot_be_is_refused() -> None:
    for wrong in ("28", "1x0x4", "axb", [1, 2, 3, 4], "1x28x-1"):
        with pytest.raises(ConfigError, match="expected channels, height and width, such as 1x28x28"):
            ImageFolder(labels="t.csv", shape=wrong)
    with pytest.raises(ConfigError, match=r"name it: data\.labels=TABLE"):
        ImageFolder(shape="1x28x28")
    with pytest.raises(ConfigError, match=r"data\.image_size=32: the images of a table have the size of data\.shape"):
        ImageFolder(labels="t.csv", shape="1x28x28", image_size=32)
