"""Test-time augmentation: a network's answer to an image as the average of those to several views of it."""

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.models.members import average

KINDS = ("flip", "shift")
SHARE = 32  # a shift is one pixel for so many, and at least one

View = Callable[[Tensor], Tensor]


class AveragedViews(nn.Module):
    """Averages the answers of a network to all views: probabilities of classes, or numbers.

    Args:
        model: from float (B, C, H, W) to (B, outputs).
        views: each from a batch to one of the same shape.
        classes: whether outputs are logits.

    Shape:
        (B, C, H, W) float to (B, outputs); of classes the logarithms of the averaged probabilities.
    """

    def __init__(self, model: nn.Module, views: Sequence[View], classes: bool) -> None:
        super().__init__()
        self.model, self.views, self.classes = model, views, classes

    def forward(self, x: Tensor) -> Tensor:
        answers = [self.model(view(x)).float() for view in self.views]
        return average(torch.stack(answers, dim=1), self.classes)


def with_views(model: nn.Module, kinds: str, spec: DataSpec) -> nn.Module:
    """Return a network that answers to views of images.

    Args:
        kinds: with commas: `flip` also mirrors each left-right, `shift` also moves each up-left and down-right.
        spec: of the data that the network was trained on.

    Raises:
        ConfigError: for another word, and where samples are no images.
    """
    names = [name for name in kinds.split(",") if name]
    if unknown := [name for name in names if name not in KINDS]:
        raise ConfigError(f"--tta {kinds}: {unknown[0]} is not one of {', '.join(KINDS)}; several with commas.")
    if not names:
        return model
    if len(spec.input_shape) != 3:
        raise ConfigError(f"--tta {kinds}: is for images; the run was trained on samples of {spec.shape_words()}.")
    mirrored: list[View] = [_same, *([_flipped] if "flip" in names else [])]
    moved: list[View] = [_same, *([_moved(1), _moved(-1)] if "shift" in names else [])]
    views = [_after(first, second) for first, second in itertools.product(mirrored, moved)]
    return AveragedViews(model, views, spec.labels is not None)


def _same(x: Tensor) -> Tensor:
    return x


def _flipped(x: Tensor) -> Tensor:
    return x.flip(-1)


def _moved(sign: int) -> View:
    def view(x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        by = max(1, round(min(height, width) / SHARE))
        padded = F.pad(x, (by, by, by, by), mode="replicate")
        start = by + sign * by
        return padded[..., start : start + height, start : start + width]

    return view


def _after(first: View, second: View) -> View:
    return lambda x: second(first(x))
