"""What a dataset gives is checked before anything is made of it: lengths, dtypes and the range of the classes."""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.data.types import Data, Split
from trainer.errors import ConfigError, DataError


def checked_data(data: object, name: str) -> Data:
    """Return what a `build` of a plug-in made, its splits checked; see `checked_split`.

    Args:
        name: of the dataset, for messages.

    Raises:
        ConfigError: where it is no `Data`.
        DataError: as `checked_split`.
    """
    if not isinstance(data, Data):
        raise ConfigError(
            f"{name}: build returned {_article(data)}; a dataset is what trainer.from_tensors or from_splits returns."
        )
    train, said = checked_split(data.train, data.spec.labels, "training")
    val, said_of_val = checked_split(data.val, data.spec.labels, "validation")
    warnings = [*data.warnings, *(each for each in (*said, *said_of_val) if each not in data.warnings)]
    return dataclasses.replace(data, train=train, val=val, warnings=tuple(warnings))


def checked_split(split: Split, labels: tuple[str, ...] | None, name: str) -> tuple[Split, tuple[str, ...]]:
    """Return a split whose targets are as `Split` says, and what had to be converted for that, a sentence each.

    Args:
        split: as a dataset gave it.
        labels: the names of the classes; None: the targets are numbers.
        name: of the split, for messages; "" for a whole dataset.

    Raises:
        DataError: for what cannot be trained on: no samples, other lengths, targets that are no classes.
    """
    name = f"{name} " if name else ""
    inputs = as_tensor(split.inputs, f"{name}inputs")
    targets, said = _checked_targets(as_tensor(split.targets, f"{name}targets"), labels, name)
    if isinstance(inputs, Tensor):
        if inputs.dtype is torch.float64:
            inputs, said = inputs.float(), (*said, f"The {name}inputs are float64; they are trained on as float32.")
        elif inputs.is_complex():
            raise DataError(f"The {name}inputs are {_dtype(inputs)}; a model takes real numbers.")
    if hasattr(inputs, "__len__") and len(inputs) != len(targets):
        raise DataError(
            f"There are {len(inputs):,} {name}inputs and {len(targets):,} targets; each sample needs one of both."
        )
    if split.weights is not None and len(split.weights) != len(targets):
        raise DataError(f"There are {len(split.weights):,} weights for {len(targets):,} {name}samples.")
    return dataclasses.replace(split, inputs=inputs, targets=targets), said


def as_tensor(values: Any, what: str) -> Any:
    """Return a numpy array as a tensor; anything else as it is.

    Raises:
        DataError: for an array of what torch has no numbers for, such as text.
    """
    if not isinstance(values, np.ndarray):
        return values
    try:
        return torch.from_numpy(np.ascontiguousarray(values))
    except TypeError:
        raise DataError(f"The {what} are a numpy array of {values.dtype}; torch takes numbers.") from None


def _checked_targets(targets: Any, labels: tuple[str, ...] | None, name: str) -> tuple[Tensor, tuple[str, ...]]:
    """Return targets as int64 class indices (N,), or as float32 numbers (N, outputs), and what was converted.

    Raises:
        DataError: where they are neither.
    """
    if not isinstance(targets, Tensor):
        raise DataError(f"The {name}targets are {_article(targets)}; they must be a tensor or a numpy array.")
    if targets.ndim == 0 or not len(targets):
        raise DataError(f"There are no {name}samples.")
    if labels is None:
        if targets.ndim > 2 or targets.is_complex():
            raise DataError(f"The {name}targets are {_shape(targets)}; numbers to predict are (N,) or (N, outputs).")
        return targets.float().view(len(targets), -1), ()
    classes = len(labels)
    said: tuple[str, ...] = ()
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets.flatten()
    elif targets.ndim == 2 and targets.shape[1] == classes and _are_one_hot(targets):
        targets, said = targets.argmax(1), (f"The {name}targets are one-hot; they are trained on as classes.",)
    if targets.ndim != 1:
        raise DataError(f"The {name}targets are {_shape(targets)}; class targets are int64 (N,), one index a sample.")
    if targets.is_floating_point() or targets.is_complex():
        whole = targets.real.to(torch.int64)
        if not bool((whole == targets).all()):
            odd = targets[(whole != targets).nonzero().flatten()[0]].item()
            raise DataError(
                f"The {name}targets are {_dtype(targets)}, such as {odd:.4g}, with names of {classes} classes; "
                f"classes are whole numbers from 0 to {classes - 1}, and numbers to predict have labels=None."
            )
        targets, said = whole, (*said, f"The {name}targets are {_dtype(targets)}; they are trained on as classes.")
    targets = targets.to(torch.int64)
    wrong = ((targets < 0) | (targets >= classes)).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"{len(wrong):,} of {len(targets):,} {name}targets are no class, the first in sample {first}: "
            f"{int(targets[first])}; with {classes} classes they are 0 to {classes - 1}."
        )
    return targets, said


def _are_one_hot(targets: Tensor) -> bool:
    return bool(((targets == 0) | (targets == 1)).all()) and bool((targets.sum(1) == 1).all())


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shape(tensor: Tensor) -> str:
    return f"{_dtype(tensor)} {tuple(tensor.shape)}"


def _article(value: object) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
