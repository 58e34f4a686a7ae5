"""What a dataset gives: lengths, dtypes and the range of its classes."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer import from_splits, from_tensors
from trainer.data.types import Split
from trainer.errors import DataError

LABELS = ("a", "b", "c")
INPUTS = torch.arange(60.0).view(20, 3)
CLASSES = torch.arange(20) % 3


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (CLASSES.to(torch.int32), None),
        (CLASSES.to(torch.uint8), None),
        (CLASSES.numpy(), None),
        (CLASSES.numpy().astype(np.int16), None),
        (CLASSES[:, None], None),
        (CLASSES.float(), "float32"),
        (torch.nn.functional.one_hot(CLASSES).float(), "one-hot"),
    ],
)
def test_classes_however_they_are_written_are_the_same_classes(targets: Any, said: str | None) -> None:
    data = from_tensors(INPUTS.numpy(), targets, LABELS)
    expected = from_tensors(INPUTS, CLASSES, LABELS)
    for ours, theirs in ((data.train, expected.train), (data.val, expected.val)):
        assert torch.equal(ours.targets, theirs.targets) and ours.targets.dtype is torch.int64
        assert isinstance(ours.inputs, Tensor) and isinstance(theirs.inputs, Tensor)
        assert torch.equal(ours.inputs, theirs.inputs)
    assert data.warnings == () if said is None else len(data.warnings) == 1 and said in data.warnings[0]


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (INPUTS, CLASSES[:19], "There are 20 inputs and 19 targets"),
        (INPUTS[:0], CLASSES[:0], "There are no samples"),
        (
            INPUTS,
            CLASSES - 1,
            r"7 of 20 targets are no class, the first in sample 0: -1; with 3 classes they are",
        ),
        (INPUTS, CLASSES + 1, r"6 of 20 targets are no class, the first in sample 2: 3;"),
        (INPUTS, CLASSES + 0.5, r"float32, such as 0.5, with names of 3 classes"),
        (INPUTS, torch.rand(20, 4), r"float32 (20, 4); class targets are int64 (N,)"),
        (INPUTS, CLASSES.tolist(), "targets are a list; they must be a tensor or a numpy array"),
        (INPUTS, np.array(["a"] * 20), "targets are a numpy array of <U1; torch takes numbers"),
        (INPUTS.to(torch.complex64), CLASSES, "inputs are complex64; a model takes real numbers"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_one_sentence(inputs: Any, targets: Any, message: str) -> None:
    plain = message if "(" not in message else re.escape(message)
    with pytest.raises(DataError, match=plain):
        from_tensors(inputs, targets, LABELS)


def test_the_splits_of_a_dataset_are_checked_each_and_named() -> None:
    good = Split(INPUTS, CLASSES)
    with pytest.raises(DataError, match="There are 20 validation inputs and 5 targets"):
        from_splits(good, Split(INPUTS, CLASSES[:5]), LABELS)
    with pytest.raises(DataError, match="1 of 20 validation targets are no class, the first in sample 3: 9"):
        from_splits(good, Split(INPUTS, CLASSES.index_fill(0, torch.tensor([3]), 9)), LABELS)
    with pytest.raises(DataError, match="There are 2 weights for 20 training samples"):
        from_splits(Split(INPUTS, CLASSES, weights=torch.ones(2)), good, LABELS)


def test_numbers_to_predict_are_float32_columns_and_double_inputs_are_told() -> None:
    data = from_tensors(INPUTS.double(), torch.arange(20), None)
    assert data.train.targets.shape == (16, 1) and data.train.targets.dtype is torch.float32
    assert data.warnings == ("The inputs are float64; they are trained on as float32.",)
    with pytest.raises(DataError, match=re.escape("targets are float32 (20, 2, 2); numbers to predict are (N,)")):
        from_tensors(INPUTS, torch.rand(20, 2, 2), None)
