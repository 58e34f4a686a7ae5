"""Losses that are not torch's own, and the shapes that tasks expect of any loss."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from trainer.errors import ConfigError

Losses = Callable[[Tensor, Tensor], Tensor]  # (outputs, targets) -> the loss of each sample, or of each output


class ClassLoss(Protocol):
    """A loss of logits (B, classes), called as torch's `F.cross_entropy` is."""

    def __call__(
        self, outputs: Tensor, targets: Tensor, /, *, weight: Tensor | None = None, reduction: str = "none"
    ) -> Tensor:
        """Return the loss of each sample, (B,), weighted by class; with `reduction="sum"` their sum, a scalar."""
        ...


def focal(
    outputs: Tensor,
    targets: Tensor,
    /,
    *,
    gamma: float,
    weight: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    """Return the focal loss −α (1 − p)^γ log p of the true class (Lin et al. 2017, equation 5).

    Of a mixed sample it is the sum over the classes, each by its share.

    Args:
        outputs: logits, float (B, classes).
        targets: class indices, int64 (B,), or shares of classes, (B, classes).
        gamma: γ; 0 gives the cross-entropy.
        weight: α of each class, (classes,); None: 1.
        reduction: "none" for (B,), "sum" for a scalar.
    """
    log_p = outputs.log_softmax(1)
    mixed = targets.ndim == 2
    if not mixed:
        log_p = log_p.gather(1, targets[:, None])
    # 1 − p without the digits that 1 − exp(log p) loses; held off 0, where a power below 1 has no slope.
    rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
    losses = rest**gamma * -log_p
    if mixed:
        losses = losses * (targets if weight is None else targets * weight)
    elif weight is not None:
        losses = losses * weight[targets][:, None]
    each = losses.sum(1)
    return each.sum() if reduction == "sum" else each


class SampleLoss:
    """A loss of a plug-in as `ClassLoss`: where it gives one for each output, their mean is that of the sample.

    Args:
        losses: see `LossConfig`.
        name: for messages.
    """

    def __init__(self, losses: Losses, name: str) -> None:
        self.losses, self.name = losses, name

    def __call__(
        self, outputs: Tensor, targets: Tensor, /, *, weight: Tensor | None = None, reduction: str = "none"
    ) -> Tensor:
        """Return the losses, weighted by class; see `ClassLoss`."""
        each = checked(self.losses(outputs, targets), outputs, self.name)
        if each.ndim == 2:
            each = each.mean(1)
        if weight is not None:
            each = each * class_weights_of(weight, targets)
        return each.sum() if reduction == "sum" else each


class OutputLoss:
    """A loss of a plug-in for each output, (B, outputs): where it gives one for each sample, all have that one.

    Args:
        losses: see `LossConfig`.
        name: for messages.
    """

    def __init__(self, losses: Losses, name: str) -> None:
        self.losses, self.name = losses, name

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses, float (B, outputs)."""
        each = checked(self.losses(outputs, targets), outputs, self.name)
        return each if each.ndim == 2 else each[:, None].expand_as(outputs)


def checked(losses: Tensor, outputs: Tensor, name: str) -> Tensor:
    """Return the losses of a plug-in; raise `ConfigError` where they have neither shape that is allowed."""
    shapes = (outputs.shape[:1], outputs.shape)
    if isinstance(losses, Tensor) and losses.shape in shapes:
        return losses
    found = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
    wanted = " or ".join(str(tuple(shape)) for shape in shapes)
    raise ConfigError(
        f"task.loss={name}: losses(outputs, targets) gives {found} for a batch of {len(outputs)}; it must give one "
        f"loss for each sample or output, {wanted}, not reduced over the batch."
    )


def class_weights_of(class_weights: Tensor, targets: Tensor) -> Tensor:
    """Return the weight of each target, (B,); of a mixed one, the mean of its classes by their shares."""
    return class_weights[targets] if targets.ndim == 1 else targets @ class_weights
