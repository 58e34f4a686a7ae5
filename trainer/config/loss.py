"""The losses that `task.loss` selects, and their keys."""

from dataclasses import dataclass
from typing import ClassVar

from trainer.config.parts import Part
from trainer.config.registry import register
from trainer.config.section import key

CLASSIFICATION, REGRESSION = "classification", "regression"


@dataclass
class LossConfig(Part):
    """Base of the losses. What the built-in ones compute is in `trainer/tasks/losses.py`.

    A loss of a plug-in has `losses(outputs, targets)` beside its keys: from the network's outputs, float (B, outputs),
    the loss of each sample, float (B,), or of each output, (B, outputs), of which the mean counts; not reduced over the
    batch. `targets` are class indices, int64 (B,), or shares of classes, (B, classes), where samples are mixed; for
    regression they are numbers, float (B, outputs).

    Attributes:
        kinds: of tasks that it is for, see `Task.kind`.
        smooths: whether it takes `task.label_smoothing`.
    """

    selected_by: ClassVar[str] = "task.loss"
    kinds: ClassVar[tuple[str, ...]] = (CLASSIFICATION, REGRESSION)
    smooths: ClassVar[bool] = False

    @classmethod
    def facts(cls) -> str:
        """Return the kinds of tasks that it is for."""
        return f"for {' and '.join(cls.kinds)}"


@register("loss", "cross_entropy")
@dataclass
class CrossEntropyLoss(LossConfig):
    """−log p of the true class; takes task.label_smoothing and task.class_weights."""

    kinds: ClassVar[tuple[str, ...]] = (CLASSIFICATION,)
    smooths: ClassVar[bool] = True


@register("loss", "focal")
@dataclass
class FocalLoss(LossConfig):
    """−(1 − p)^gamma log p of the true class: easy samples count less; task.class_weights are its alpha."""

    kinds: ClassVar[tuple[str, ...]] = (CLASSIFICATION,)

    gamma: float = key(2.0, "how much less samples count that are classified well; 0: cross_entropy", at_least=0)


@register("loss", "mse")
@dataclass
class MseLoss(LossConfig):
    """Squared error."""

    kinds: ClassVar[tuple[str, ...]] = (REGRESSION,)


@register("loss", "mae")
@dataclass
class MaeLoss(LossConfig):
    """Absolute error."""

    kinds: ClassVar[tuple[str, ...]] = (REGRESSION,)


@register("loss", "huber")
@dataclass
class HuberLoss(LossConfig):
    """Half the squared error up to task.delta, and from there on straight."""

    kinds: ClassVar[tuple[str, ...]] = (REGRESSION,)
