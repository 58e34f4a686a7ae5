"""The shapes in which data is handed on: a batch, a split, a whole dataset, and what a model must know of it."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainer.data.on_disk import OnDisk
from trainer.data.target_steps import Step, apply_steps
from trainer.errors import ConfigError
from trainer.system import seeds


class Batch(NamedTuple):
    """One batch on the device.

    Attributes:
        inputs: float32, (B, *input_shape).
        targets: int64 class indices (B,); float32 class probabilities (B, classes) where samples are mixed; or float32
            values (B, outputs).
        weights: float32 (B,), how much each row counts: sample weights in training; in evaluation 0 for the rows that
            only pad the batch; None: every row counts as 1.
        positions: int64 (B,), the indices of the samples of a training batch in their split; None: unknown.
    """

    inputs: Tensor
    targets: Tensor
    weights: Tensor | None = None
    positions: Tensor | None = None


@dataclass(frozen=True)
class DataSpec:
    """What a model and a task need to know of the data; the model is built from this.

    Attributes:
        input_shape: of one sample, e.g. (3, 32, 32) or (14,).
        outputs: number of classes, or of predicted numbers.
        labels: the names of the classes; None for regression.
        class_counts: training samples of each class; None for regression.
        target_mean, target_std: mean and standard deviation of each predicted number over the training split, as it is
            learned, after `target_steps`; None for classification.
        target_low, target_high: the smallest and the largest of each predicted number in the training split, in its own
            unit; None for classification, and in runs from before this was kept.
        samples: of the training split; 0 in runs from before this was kept.
        target_steps: the transforms of the predicted numbers, see `trainer.data.target_steps`; the model undoes them.
        cardinalities: the number of category codes of each of the last inputs, which are whole numbers in the float
            tensor; empty where there are none.
    """

    input_shape: tuple[int, ...]
    outputs: int
    labels: tuple[str, ...] | None = None
    class_counts: tuple[int, ...] | None = None
    target_mean: tuple[float, ...] | None = None
    target_std: tuple[float, ...] | None = None
    cardinalities: tuple[int, ...] = ()
    target_steps: tuple[Step, ...] = ()
    target_low: tuple[float, ...] | None = None
    target_high: tuple[float, ...] | None = None
    samples: int = 0

    @classmethod
    def of(cls, input_shape: tuple[int, ...], targets: Tensor, labels: tuple[str, ...] | None) -> "DataSpec":
        """Make the spec of a training split.

        Args:
            input_shape: of one sample.
            targets: int64 class indices (N,), or float32 numbers (N, outputs).
            labels: the names of the classes; None for regression.
        """
        if labels is not None:
            counts = torch.bincount(targets, minlength=len(labels)).tolist()
            return cls(input_shape, len(labels), labels, class_counts=tuple(counts), samples=len(targets))
        numbers = targets.double()
        mean, std = numbers.mean(0).tolist(), numbers.std(0, correction=0).tolist()
        low, high = (tuple(end.tolist()) for end in torch.aminmax(targets.float(), dim=0))
        return cls(
            *(input_shape, targets.shape[1], None),
            target_mean=tuple(mean),
            target_std=tuple(std),
            target_low=low,
            target_high=high,
            samples=len(targets),
        )

    def with_target_steps(self, steps: tuple[Step, ...], targets: Tensor) -> "DataSpec":
        """Return the spec of numbers that are learned after some transforms.

        Args:
            steps: the transforms.
            targets: of the training split, float32 (N, outputs), in the original unit.
        """
        learned = DataSpec.of(self.input_shape, apply_steps(targets.double(), steps), None)
        return dataclasses.replace(
            self, target_steps=steps, target_mean=learned.target_mean, target_std=learned.target_std
        )

    @property
    def features(self) -> int:
        """How many numbers one flattened sample has."""
        return int(torch.Size(self.input_shape).numel())

    def shape_words(self) -> str:
        """Return the shape of a sample as people write it: 3×32×32."""
        return "×".join(map(str, self.input_shape))

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain data, for a checkpoint."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DataSpec":
        """Make a spec from what `to_dict` returned; raise `ValueError` or `TypeError` for anything else."""
        kwargs: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        kwargs["target_steps"] = tuple(
            (str(name), float(centre), float(width)) for name, centre, width in kwargs.get("target_steps", ())
        )
        spec = cls(**kwargs)
        numbers: tuple[object, ...] = (*spec.input_shape, spec.outputs, spec.samples, *(spec.class_counts or ()))
        numbers += spec.cardinalities
        if not all(isinstance(number, int) and 0 <= number < 1 << 31 for number in numbers):
            raise ValueError(f"the data spec counts in {numbers!r:.80}")
        if spec.cardinalities and (len(spec.input_shape) != 1 or len(spec.cardinalities) > spec.features):
            raise ValueError(f"the data spec has {len(spec.cardinalities)} columns of codes in {spec.input_shape}")
        ends: tuple[object, ...] = (*(spec.target_low or ()), *(spec.target_high or ()))
        scale: tuple[object, ...] = (*(spec.target_mean or ()), *(spec.target_std or ()), *ends)
        if not all(isinstance(number, (int, float)) for number in scale):
            raise ValueError(f"the data spec scales by {scale!r:.80}")
        if not all(isinstance(label, str) for label in spec.labels or ()):
            raise ValueError("the data spec has labels that are no text")
        return spec


@dataclass(frozen=True)
class Split:
    """One part of the data, for training or validation.

    Attributes:
        inputs: all samples in one tensor (N, ...), uint8 pixels or float32 features; or, where they do not fit into
            memory, such a tensor `OnDisk`, or a map-style dataset that yields one sample.
        targets: int64 (N,) or float32 (N, outputs), always in memory.
        rows: int64 (N,), the position of each sample in the dataset as it was read; None: 0 to N - 1.
        weights: float32 (N,), how much each sample counts in the training loss; None: 1 each.
    """

    inputs: "Tensor | Dataset[Tensor]"
    targets: Tensor
    rows: Tensor | None = None
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, index: Tensor) -> "Split":
        """Return the samples at `index`, int64 (n,), in that order."""
        rows = index if self.rows is None else self.rows[index]
        weights = None if self.weights is None else self.weights[index]
        if isinstance(self.inputs, Tensor):
            return Split(self.inputs[index], self.targets[index], rows, weights)
        if isinstance(self.inputs, OnDisk):
            return Split(self.inputs.subset(index), self.targets[index], rows, weights)
        return Split(torch.utils.data.Subset(self.inputs, index.tolist()), self.targets[index], rows, weights)


@dataclass(frozen=True)
class BatchContext:
    """What all randomness in a training batch is a function of, so that a resumed run draws the same.

    Attributes:
        seed: of the run.
        step: optimizer steps done before this one.
        epoch: whole epochs done before this step.
        positions: int64 (B,), the indices of the samples in their split.
    """

    seed: int
    step: int
    epoch: int
    positions: Tensor

    @property
    def generator(self) -> torch.Generator:
        """A new CPU generator, seeded for this step."""
        return seeds.generator(self.seed, seeds.AUGMENT, self.step)


# Augments a training batch: inputs as stored -> inputs of the same shape.
Augment = Callable[[Tensor, BatchContext], Tensor]
# Mixes the samples of a training batch: (prepared inputs, targets) -> inputs of the same shape, float32 targets.
Mix = Callable[[Tensor, Tensor, BatchContext], tuple[Tensor, Tensor]]
# Turns a stored batch into the model's float32 input, for training and validation alike.
Prepare = Callable[[Tensor], Tensor]


def as_float(inputs: Tensor) -> Tensor:
    """Convert features to float32: the `Prepare` of data that needs nothing else."""
    return inputs if inputs.dtype is torch.float32 else inputs.float()


@dataclass(frozen=True)
class Data:
    """A dataset ready for training: its spec, its two splits, and what is done to a batch on its way to the model.

    Attributes:
        spec: the shape of a sample and the classes.
        train, val: the samples for training and for validation.
        prepare: applied to every batch, e.g. the normalisation of images.
        augment: applied to training batches before `prepare`; None: nothing.
        workers: loader processes, where a split is neither a tensor nor `OnDisk`.
        description: a few words for the first screen, e.g. "decoded cache".
        notes: further lines for the first screen of a new run.
        warnings: what the user may want to change, one sentence each.
        files: text files for the run directory, by name.
        preprocessing: what was fitted on the training samples and new samples need, as text; None: nothing.
        mix: applied to training batches after `prepare`; None: nothing.
    """

    spec: DataSpec
    train: Split
    val: Split
    prepare: Prepare = as_float
    augment: Augment | None = None
    workers: int = 0
    description: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    preprocessing: str | None = None
    mix: Mix | None = None

    def as_regression(self) -> "Data":
        """Return the same data with the class names read as numbers, e.g. for a quality of 3 to 8.

        Raises:
            ConfigError: when a class name is not a number.
        """
        if self.spec.labels is None:
            return self
        try:
            values = torch.tensor([float(label) for label in self.spec.labels])
        except ValueError:
            raise ConfigError(
                f"task=regression: the target is one of the classes {', '.join(self.spec.labels[:5])} …, which are "
                "not numbers; use task=classification."
            ) from None
        train, val = (
            dataclasses.replace(part, targets=values[part.targets].unsqueeze(1)) for part in (self.train, self.val)
        )
        spec = DataSpec.of(self.spec.input_shape, train.targets, None)
        spec = dataclasses.replace(spec, cardinalities=self.spec.cardinalities)
        return dataclasses.replace(self, spec=spec, train=train, val=val)

    def in_order(self, classes: Sequence[str]) -> "Data":
        """Return the same data with its classes in the order of `classes`, where those are the same set."""
        labels = self.spec.labels
        if labels is None or labels == tuple(classes) or sorted(labels) != sorted(classes):
            return self
        place = torch.tensor([classes.index(label) for label in labels])
        train, val = (dataclasses.replace(part, targets=place[part.targets]) for part in (self.train, self.val))
        counts = self.spec.class_counts
        ordered = None if counts is None else tuple(counts[labels.index(label)] for label in classes)
        spec = dataclasses.replace(self.spec, labels=tuple(classes), class_counts=ordered)
        note = f"{'classes':<10}in another order than they were learned in, and mapped by their names"
        return dataclasses.replace(self, spec=spec, train=train, val=val, notes=(*self.notes, note))


@dataclass(frozen=True)
class Samples:
    """New samples for a trained model, or a part of them.

    Attributes:
        split: the samples; unknown targets are 0.
        prepare: applied to every batch, see `Data`.
        place: what a name in `names` is: "line" or "file".
        names: where each sample comes from: the line of a table, the file of an image.
        rejected: the samples that cannot be used, one sentence each; of all parts, in the first one.
        workers: see `Data`.
        files: the file of each sample, where there are several; None: there is one.
        kept: values that are handed on beside the prediction, by the name of their column.
        notes: what a user might not expect, one sentence each; of all parts, in the first one.
    """

    split: Split
    prepare: Prepare
    place: str
    names: Sequence[str | int]
    rejected: tuple[str, ...] = ()
    workers: int = 0
    files: Sequence[str] | None = None
    kept: dict[str, Sequence[str | None]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
