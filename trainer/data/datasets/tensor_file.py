"""Arrays in files as a dataset: images of bytes, or features of any shape."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from trainer.config.datasets import Tensors
from trainer.data.datasets.array_meaning import are_several_labels, as_pixels, channels_last, one_hot, whole_classes
from trainer.data.files import arrays
from trainer.data.images.image_data import make_image_data
from trainer.data.splits import from_splits, split_samples
from trainer.data.types import Data, Split
from trainer.errors import ConfigError, DataError, did_you_mean
from trainer.system.home import expanded

HELD_OUT = 0.2  # share of the samples held out where nothing else is given
INPUTS = ("x", "inputs", "images", "data", "features")
TARGETS = ("y", "targets", "labels", "target", "label")
TRAIN, VAL = ("", "_train", "train_"), ("_val", "val_", "_valid", "valid_", "_test", "test_")
IMAGES = 4  # dimensions of images with channels


@dataclass(frozen=True)
class _Array:
    """An array, and where it is, in words for a message."""

    values: Tensor
    where: str
    names: tuple[str, ...] = ()  # of the classes, where the file has their names


def load_tensor_file(config: Tensors, seed: int) -> Data:
    """Load the arrays that `data.path` and the keys beside it name; classes are named by `data.classes`, or numbered.

    Raises:
        ConfigError: where a key does not fit the files.
        DataError: where a file is not as it should be; names it.
    """
    if config.path is None:
        raise ConfigError(f"data.path is needed: the file with the arrays ({arrays.KINDS}).")
    found = [_training(config), *([] if config.holds_out else _validation(config))]
    notes: dict[str, None] = {}  # each once
    targets = _classes([part for _, part in found], notes)
    parts = [(_shaped(inputs, config, notes), part) for (inputs, _), part in zip(found, targets, strict=True)]
    labels = _labels(config, targets)
    splits = [_split(config.layout, inputs, part, labels is not None) for inputs, part in parts]
    _check_alike([inputs for inputs, _ in parts], splits)
    return replace(_data(config, seed, parts[0][0], splits, labels), notes=tuple(f"{'note':<10}{n}" for n in notes))


def _data(config: Tensors, seed: int, inputs: _Array, splits: Sequence[Split], labels: tuple[str, ...] | None) -> Data:
    """Make data of the splits, of images or of features."""
    train, official = splits[0], splits[1] if len(splits) == 2 else None
    if official is None and not config.holds_out:
        config = replace(config, val_fraction=HELD_OUT)
    if _are_images(inputs.values):
        return make_image_data(config, train, official, labels, seed)
    if config.augment:
        raise ConfigError("data.augment=true: needs images: bytes (uint8) of (N, H, W), (N, C, H, W) or (N, H, W, C).")
    if official is None:
        whole = train
        train, official = (whole.subset(index) for index in split_samples(config, whole.targets, seed))
    return from_splits(train, official, labels)


def _classes(targets: Sequence[_Array], notes: dict[str, None]) -> list[_Array]:
    """Return targets with classes as whole numbers, where they are one-hot, whole floats or names."""
    names = sorted({name for part in targets for name in part.names})
    if names:
        if not all(part.names for part in targets):
            raise DataError(f"{targets[0].where}, {targets[1].where}: one has names of classes and one has numbers.")
        place = {name: number for number, name in enumerate(names)}
        return [
            replace(part, values=torch.tensor([place[name] for name in part.names]), names=tuple(names))
            for part in targets
        ]
    for what, read in (("one-hot rows", one_hot), ("whole numbers", whole_classes)):
        found = [values for part in targets if (values := read(part.values)) is not None]
        if len(found) == len(targets):
            count = 1 + max(int(values.max()) for values in found)
            other = "" if what == "one-hot rows" else " (else: task=regression)"
            notes[f"{targets[0].where}: {what} are read as {count} classes{other}"] = None
            return [replace(part, values=values) for part, values in zip(targets, found, strict=True)]
    if any(are_several_labels(part.values) for part in targets):
        raise DataError(
            f"{targets[0].where}: has the shape {_shape(targets[0].values)} and any number of labels for a sample, "
            "which no task here learns; give one class for each sample."
        )
    return list(targets)


def _shaped(inputs: _Array, config: Tensors, notes: dict[str, None]) -> _Array:
    """Return inputs with images as uint8, channels first, where they are images in another form."""
    values = inputs.values
    if config.shape is not None:
        if values[:1].numel() != math.prod(config.shape):
            raise ConfigError(
                f"data.shape={config.shape}: {inputs.where} has the shape {_shape(values)}, so {values[:1].numel()} "
                "numbers for each sample."
            )
        values = values.reshape(len(values), *config.shape)
    if values.ndim != IMAGES:
        return replace(inputs, values=values)
    if values.dtype != torch.uint8 and config.layout != "nchw":
        last = config.layout == "nhwc" or channels_last(values.shape)
        if last:
            notes[f"{inputs.where}: of shape {_shape(values)}, channels last (else: data.layout=nchw)"] = None
            values = values.permute(0, 3, 1, 2).contiguous()
    pixels, words = as_pixels(values)
    if words:
        notes[f"{inputs.where}: {words}"] = None
    return replace(inputs, values=pixels)


def _training(config: Tensors) -> tuple[_Array, _Array]:
    """Find the inputs and targets to train on."""
    assert config.path is not None
    inputs = _find(config.path, "inputs", config.inputs, INPUTS, TRAIN)
    return inputs, _find(config.targets_path or config.path, "targets", config.targets, TARGETS, TRAIN)


def _validation(config: Tensors) -> list[tuple[_Array, _Array]]:
    """Find the inputs and targets to validate on, in files of their own or beside the others; else return []."""
    assert config.path is not None
    affixes: tuple[str, ...]
    if config.val_path is not None:
        inputs, targets, affixes = config.val_inputs or config.inputs, config.val_targets or config.targets, VAL + TRAIN
        path, targets_path = config.val_path, config.val_targets_path or config.val_path
    else:
        inputs, targets, affixes = config.val_inputs, config.val_targets, VAL
        path, targets_path = config.path, config.targets_path or config.path
        if inputs is None and not _usual(arrays.array_names(expanded(path)), INPUTS, affixes):
            return []
    return [
        (
            _find(path, "val_inputs", inputs, INPUTS, affixes),
            _find(targets_path, "val_targets", targets, TARGETS, affixes),
        )
    ]


def _find(file: str, key: str, name: str | None, usual: Sequence[str], affixes: Sequence[str]) -> _Array:
    """Read the array that a key names, or else the one with a usual name; of an idx file, its only one."""
    path = expanded(file)
    known = arrays.array_names(path)
    if known == [""]:
        return _read(path, "", str(path), key)
    if name is None:
        name = _usual(known, usual, affixes)
        if name is None:
            raise ConfigError(f"data.{key} is needed: which array of {path}? It has {', '.join(known) or 'none'}.")
    elif name not in known:
        raise ConfigError(
            f"data.{key}={name}: {path} has no such array.{did_you_mean(name, known)} It has {', '.join(known)}."
        )
    return _read(path, name, f"{path}: array '{name}'", key)


def _read(path: Path, name: str, where: str, key: str) -> _Array:
    values = arrays.load_array(path, name)
    if isinstance(values, Tensor):
        return _Array(values, where)
    if not key.endswith("targets"):
        raise DataError(f"{where}: has text, and a model takes numbers.")
    return _Array(torch.zeros(len(values), dtype=torch.int64), where, tuple(values))


def _usual(known: Sequence[str], usual: Sequence[str], affixes: Sequence[str]) -> str | None:
    """Find the first array with a usual name, with an affix before or after it, in any case; None: there is none."""
    lower = {name.lower(): name for name in known}
    full = (affix + word if affix.endswith("_") else word + affix for affix in affixes for word in usual)
    return next((lower[name] for name in full if name in lower), None)


def _check_alike(inputs: Sequence[_Array], splits: Sequence[Split]) -> None:
    """Raise `DataError` unless the inputs of both splits have one shape of sample and one dtype."""
    shapes = [split.inputs.shape[1:] for split in splits if isinstance(split.inputs, Tensor)]
    for part, shape in zip(inputs[1:], shapes[1:], strict=True):
        if shape != shapes[0] or part.values.dtype != inputs[0].values.dtype:
            raise DataError(
                f"{part.where}: has the shape {_shape(part.values)} and the type {part.values.dtype}, which do not go "
                f"with {_shape(inputs[0].values)} and {inputs[0].values.dtype} of {inputs[0].where}."
            )


def _are_images(values: Tensor) -> bool:
    return values.dtype == torch.uint8 and values.ndim in (3, 4)


def _split(layout: str, inputs: _Array, targets: _Array, classes: bool) -> Split:
    """Make a split; raise `DataError` where the arrays are not one row for each sample."""
    values, wanted = inputs.values, targets.values
    if values.ndim < 2 or not len(values):
        raise DataError(f"{inputs.where}: has the shape {_shape(values)}; expected one row for each sample.")
    if not wanted.ndim or len(wanted) != len(values):
        raise DataError(
            f"{targets.where}: has the shape {_shape(wanted)}, for {len(values)} samples of {inputs.where}."
        )
    ready = _pixels(inputs, layout) if _are_images(values) else _features(inputs, layout)
    return Split(ready, wanted.view(len(wanted)).long() if classes else _numbers(targets))


def _pixels(inputs: _Array, layout: str) -> Tensor:
    """Bring images into the layout uint8 (N, C, H, W)."""
    values = inputs.values
    if values.ndim == 3:
        return values.unsqueeze(1)
    last = channels_last(values.shape)
    if layout == "auto" and last is None:
        raise ConfigError(
            f"data.layout=auto: {inputs.where} has the shape {_shape(values)}; set data.layout=nchw (channels first) "
            "or nhwc (channels last)."
        )
    return values.permute(0, 3, 1, 2).contiguous() if layout == "nhwc" or (layout == "auto" and last) else values


def _features(inputs: _Array, layout: str) -> Tensor:
    """Convert features to float32; raise `DataError` where they are not finite."""
    values = inputs.values
    if values.is_complex():
        raise DataError(f"{inputs.where}: has complex numbers.")
    return _finite(values.float(), inputs.where).contiguous()


def _numbers(targets: _Array) -> Tensor:
    """Convert targets to float32 (N, outputs); raise `DataError` where they are not finite."""
    values = targets.values
    if values.is_complex() or values.ndim > 2:
        raise DataError(f"{targets.where}: must be one number, or a row of them, for each sample.")
    return _finite(values.float(), targets.where).view(len(values), -1)


def _finite(values: Tensor, where: str) -> Tensor:
    """Return the values; raise `DataError` naming the first row that is not finite."""
    bad = ~values.isfinite().flatten(1).all(1) if values.ndim > 1 else ~values.isfinite()
    if bad.any():
        raise DataError(f"{where}: row {int(bad.nonzero()[0])} (of {len(values)}, from 0) is not finite.")
    return values


def _labels(config: Tensors, targets: Sequence[_Array]) -> tuple[str, ...] | None:
    """Return the names of the classes where the targets are whole numbers; None where they are fractions."""
    numbers = [target.values.is_floating_point() or target.values.is_complex() for target in targets]
    if any(numbers):
        if not all(numbers):
            raise DataError(f"{targets[0].where}, {targets[1].where}: one has whole numbers (classes) and one others.")
        if config.classes:
            raise ConfigError(f"data.classes is given, but {targets[0].where} has numbers that are no classes.")
        return None
    most = -1
    for target in targets:
        values = target.values
        if values.ndim != 1 and values.shape[1:].numel() != 1:
            raise DataError(f"{target.where}: has the shape {_shape(values)}; expected one class for each sample.")
        if not values.numel() or int(values.min()) < 0:
            raise DataError(f"{target.where}: classes are numbers from 0 on.")
        most = max(most, int(values.max()))
    count = len(config.classes) or most + 1
    if most >= count or count < 2 or count > max(1000, len(targets[0].values)):
        raise DataError(f"{targets[0].where}: has class {most} and {count} class{'es' * (count != 1)}; that cannot be.")
    return tuple(config.classes) or targets[0].names or tuple(str(number) for number in range(count))


def _shape(values: Tensor) -> str:
    return "(" + ", ".join(map(str, values.shape)) + ")"
