"""The few shapes that parts agree on: what a batch is, what data offers, what a task and a sink must do."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainer.data.on_disk import OnDisk
from trainer.errors import ConfigError
from trainer.system import seeds


class Batch(NamedTuple):
    """One batch on the device.

    Attributes:
        inputs: float32, (B, *input_shape).
        targets: int64 class indices (B,); float32 shares of the classes (B, classes) where samples are mixed; or
            float32 values (B, outputs).
        weights: float32 (B,), how much each row counts: in a training batch as the data says, in a validation batch 0
            for the rows that only pad it; None: every row counts as 1.
        positions: int64 (B,), where the samples of a training batch stand in their split; None: unknown.
    """

    inputs: Tensor
    targets: Tensor
    weights: Tensor | None = None
    positions: Tensor | None = None


@dataclass(frozen=True)
class DataSpec:
    """What a model and a task need to know of the data: the model is built from this.

    Attributes:
        input_shape: of one sample, e.g. (3, 32, 32) or (14,).
        outputs: number of classes, or of predicted numbers.
        labels: the names of the classes; None for regression.
        class_counts: training samples of each class; None for regression.
        target_mean, target_std: of each predicted number over the training split; None for classification.
        cardinalities: the last inputs are category codes, whole numbers in the float tensor; how many codes each has.
    """

    input_shape: tuple[int, ...]
    outputs: int
    labels: tuple[str, ...] | None = None
    class_counts: tuple[int, ...] | None = None
    target_mean: tuple[float, ...] | None = None
    target_std: tuple[float, ...] | None = None
    cardinalities: tuple[int, ...] = ()

    @classmethod
    def of(cls, input_shape: tuple[int, ...], targets: Tensor, labels: tuple[str, ...] | None) -> "DataSpec":
        """The spec of a training split: int64 class indices (N,) with their labels, or float32 numbers (N, outputs)."""
        if labels is not None:
            counts = torch.bincount(targets, minlength=len(labels)).tolist()
            return cls(input_shape, len(labels), labels, class_counts=tuple(counts))
        numbers = targets.double()
        mean, std = numbers.mean(0).tolist(), numbers.std(0, correction=0).tolist()
        return cls(input_shape, targets.shape[1], None, target_mean=tuple(mean), target_std=tuple(std))

    @property
    def features(self) -> int:
        """Numbers in one flattened sample."""
        return int(torch.Size(self.input_shape).numel())

    def shape_words(self) -> str:
        """The shape as people write it: 3×32×32."""
        return "×".join(map(str, self.input_shape))

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a checkpoint."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DataSpec":
        """From what `to_dict` gave; raises `ValueError` or `TypeError` for anything else."""
        kwargs: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        spec = cls(**kwargs)
        numbers: tuple[object, ...] = (*spec.input_shape, spec.outputs, *(spec.class_counts or ()), *spec.cardinalities)
        if not all(isinstance(number, int) and 0 <= number < 1 << 31 for number in numbers):
            raise ValueError(f"the data spec counts in {numbers!r:.80}")
        if spec.cardinalities and (len(spec.input_shape) != 1 or len(spec.cardinalities) > spec.features):
            raise ValueError(f"the data spec has {len(spec.cardinalities)} columns of codes in {spec.input_shape}")
        scale: tuple[object, ...] = (*(spec.target_mean or ()), *(spec.target_std or ()))
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
        rows: int64 (N,), where the samples stood in the dataset as it was read; None: just there.
        weights: float32 (N,), how much each sample counts in the training loss; None: as 1.
    """

    inputs: "Tensor | Dataset[Tensor]"
    targets: Tensor
    rows: Tensor | None = None
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, index: Tensor) -> "Split":
        """The samples at `index`, in that order."""
        rows = index if self.rows is None else self.rows[index]
        weights = None if self.weights is None else self.weights[index]
        if isinstance(self.inputs, Tensor):
            return Split(self.inputs[index], self.targets[index], rows, weights)
        if isinstance(self.inputs, OnDisk):
            return Split(self.inputs.subset(index), self.targets[index], rows, weights)
        return Split(torch.utils.data.Subset(self.inputs, index.tolist()), self.targets[index], rows, weights)


@dataclass(frozen=True)
class BatchContext:
    """What the randomness of a training batch is a function of.

    Attributes:
        seed: of the run.
        step: optimizer steps done before this one.
        epoch: whole epochs done before this step.
        positions: int64 (B,), where the samples stand in their split.
    """

    seed: int
    step: int
    epoch: int
    positions: Tensor

    @property
    def generator(self) -> torch.Generator:
        """A CPU generator at the start of this step's stream."""
        return seeds.generator(self.seed, seeds.AUGMENT, self.step)


# Varies a training batch: inputs as stored -> inputs of the same shape.
Augment = Callable[[Tensor, BatchContext], Tensor]
# Mixes the samples of a training batch: (prepared inputs, targets) -> inputs of the same shape, float32 targets.
Mix = Callable[[Tensor, Tensor, BatchContext], tuple[Tensor, Tensor]]
# Turns a stored batch into the model's float32 input, for training and validation alike.
Prepare = Callable[[Tensor], Tensor]


def as_float(inputs: Tensor) -> Tensor:
    """The plainest `Prepare`: features that only need to be floats."""
    return inputs if inputs.dtype is torch.float32 else inputs.float()


@dataclass(frozen=True)
class Data:
    """What a data config builds: the shape, the two splits, and what happens to a batch on its way to the model.

    Attributes:
        spec: the shape of a sample and the classes.
        train, val: the two splits.
        prepare: applied to every batch.
        augment: applied to training batches before `prepare`; None: nothing.
        mix: applied to training batches after `prepare`; None: nothing.
        workers: processes that load, where a split is not a tensor.
        description: a few words for the first screen, e.g. "from cache".
        notes: further lines of the first screen of a new run.
        warnings: what a person may want to change, a sentence each.
        files: for the run directory, text by name.
        preprocessing: what was measured on the training samples and new ones need, as text; None: nothing.
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
        """The same data with the class names read as numbers, e.g. for a quality of 3 to 8.

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


@dataclass(frozen=True)
class Samples:
    """New samples for a trained model.

    Attributes:
        split: the samples; targets that are not known are 0.
        prepare: applied to every batch, see `Data`.
        place: what `names` are: "line", "file", ...
        names: of each sample, where it comes from.
        rejected: those that cannot be used, a sentence each.
        workers: see `Data`.
    """

    split: Split
    prepare: Prepare
    place: str
    names: Sequence[str | int]
    rejected: tuple[str, ...] = ()
    workers: int = 0
