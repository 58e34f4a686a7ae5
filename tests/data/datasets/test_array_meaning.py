"""Arrays as other programs write them: what is read as classes, as images, or refused in a sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer.config.datasets import Tensors
from trainer.data.datasets.array_meaning import channels_last, one_hot, whole_classes
from trainer.data.datasets.tensor_file import load_tensor_file
from trainer.data.types import Data
from trainer.errors import ConfigError, DataError

CLASSES = np.arange(60) % 3
NUMBERS = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
BYTES = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3)).astype(np.uint8)


def load(folder: Path, x: np.ndarray, y: np.ndarray, **keys: Any) -> Data:
    np.savez(folder / "d.npz", x=x, y=y)
    return load_tensor_file(Tensors(path=str(folder / "d.npz"), val_fraction=0.2, **keys), 0)


def targets_by_row(data: Data) -> list[int]:
    found = dict(zip(data.train.rows.tolist(), data.train.targets.tolist(), strict=True))  # type: ignore[union-attr]
    found |= dict(zip(data.val.rows.tolist(), data.val.targets.tolist(), strict=True))  # type: ignore[union-attr]
    return [found[row] for row in range(60)]


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (CLASSES, ""),
        (np.eye(3, dtype=np.float32)[CLASSES], "one-hot rows are read as 3 classes"),
        (np.eye(3, dtype=np.uint8)[CLASSES], "one-hot rows are read as 3 classes"),
        (CLASSES.astype(np.float64), "whole numbers are read as 3 classes (else: task=regression)"),
        (CLASSES[:, None].astype(np.float32), "whole numbers are read as 3 classes (else: task=regression)"),
        (np.array(["cat", "dog", "eel"])[CLASSES], ""),
        (np.array([b"cat", b"dog", b"eel"])[CLASSES], ""),
    ],
)
def test_targets_are_classes_in_whatever_form(tmp_path: Path, targets: np.ndarray, words: str) -> None:
    data = load(tmp_path, NUMBERS, targets)
    names = ("cat", "dog", "eel") if targets.dtype.kind in "US" else ("0", "1", "2")
    assert data.spec.labels == names
    assert targets_by_row(data) == CLASSES.tolist()
    assert any(words in note for note in data.notes) if words else not data.notes
    assert data.as_regression().spec.labels is None if names[0] == "0" else True


def test_numbers_stay_numbers_and_several_labels_are_refused(tmp_path: Path) -> None:
    for numbers in (CLASSES + 0.5, CLASSES * 7.0, CLASSES - 1.0, NUMBERS[:, :2]):
        assert load(tmp_path, NUMBERS, numbers).spec.labels is None
    both = np.eye(3, dtype=np.int64)[CLASSES] | np.eye(3, dtype=np.int64)[(CLASSES + 1) % 3]
    with pytest.raises(DataError, match=r"array 'y': has the shape \(60, 3\) and any number of labels for a sample"):
        load(tmp_path, NUMBERS, both)
    assert one_hot(torch.from_numpy(both)) is None
    assert whole_classes(torch.tensor([0.0, 1.0, float("nan")])) is None
    with pytest.raises(DataError, match="array 'x': has text, and a model takes numbers"):
        load(tmp_path, np.array(["a"] * 60), CLASSES)


def test_images_are_images_in_whatever_type_and_order(tmp_path: Path) -> None:
    expected = torch.from_numpy(BYTES).permute(0, 3, 1, 2)
    first = np.ascontiguousarray(BYTES.transpose(0, 3, 1, 2))
    for x in (BYTES, first, BYTES.astype(np.float32), first.astype(np.float64)):
        data = load(tmp_path, x, CLASSES)
        assert isinstance(data.train.inputs, torch.Tensor)
        assert torch.equal(data.train.inputs, expected[data.train.rows]), x.dtype
    share = load(tmp_path, BYTES / np.float32(255), CLASSES)
    assert share.spec.input_shape == (3, 8, 8)
    assert any("channels last" in note for note in share.notes)
    assert torch.equal(share.train.inputs, expected[share.train.rows].float() / 255)  # type: ignore[arg-type]
    deep = load(tmp_path, BYTES.astype(np.uint16) * 4 + 1000, CLASSES)
    assert isinstance(deep.train.inputs, torch.Tensor)
    assert deep.train.inputs.dtype == torch.uint8
    assert (deep.train.inputs.float() - expected[deep.train.rows].float()).abs().max() <= 2
    assert any("become 0 to 255" in note for note in deep.notes)
    flat = load(tmp_path, first.reshape(60, -1), CLASSES, shape=[3, 8, 8])
    assert torch.equal(flat.train.inputs, expected[flat.train.rows])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"data\.shape=\[3, 9, 8\]: .* so 192 numbers for each sample"):
        load(tmp_path, first.reshape(60, -1), CLASSES, shape=[3, 9, 8])
    assert channels_last(torch.Size((60, 28, 28, 13))) is True
    assert channels_last(torch.Size((60, 13, 28, 28))) is False
    assert channels_last(torch.Size((60, 3, 8, 3))) is None


def test_arrays_of_npy_are_pairs_of_files(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", NUMBERS)
    np.save(tmp_path / "y.npy", np.array(["no", "yes"])[CLASSES % 2])
    config = Tensors(path=str(tmp_path / "X.npy"), targets_path=str(tmp_path / "y.npy"))
    assert load_tensor_file(config, 0).spec.labels == ("no", "yes")
    np.save(tmp_path / "o.npy", np.array([{}] * 60, dtype=object))
    with pytest.raises(DataError, match=r"o\.npy: cannot be read \(it holds Python objects"):
        load_tensor_file(Tensors(path=str(tmp_path / "o.npy"), targets_path=str(tmp_path / "y.npy")), 0)
