"""Batches whose samples are mixed with one another, pixels and targets alike.

To add an operation: its keys in `trainer.config.data.ImageDataConfig`, its class, and its place in `MIXERS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config.data import ImageDataConfig
from trainer.data.images.geometry import box_mask
from trainer.data.types import BatchContext
from trainer.system import seeds


class Mixer(Protocol):
    """One way to mix each image of a batch with a partner."""

    def __call__(self, images: Tensor, generator: np.random.Generator) -> tuple[np.ndarray, Tensor]:
        """Draw how much of its partner each image (B, C, H, W) gets.

        Returns:
            The share of the partner in the target, float64 (B,), and in the pixels, float32 on the device of the images
            and broadcastable to (B, 1, H, W).
        """
        ...


@dataclass(frozen=True)
class Mixup:
    """Blends each image with its partner (H. Zhang et al. 2018, arXiv:1710.09412, section 2).

    Attributes:
        alpha: α; shares follow Beta(α, α).
    """

    alpha: float

    @classmethod
    def from_config(cls, config: ImageDataConfig) -> "Mixup | None":
        """See `MIXERS`."""
        return cls(config.mixup) if config.mixup else None

    def __call__(self, images: Tensor, generator: np.random.Generator) -> tuple[np.ndarray, Tensor]:
        """See `Mixer.__call__`."""
        share = generator.beta(self.alpha, self.alpha, len(images))
        return share, torch.from_numpy(share).float().to(images.device, non_blocking=True)[:, None, None, None]


@dataclass(frozen=True)
class CutMix:
    """Pastes a box of its partner into each image (S. Yun et al. 2019, arXiv:1905.04899, section 3.1).

    Attributes:
        alpha: α; the shares of the area that should stay follow Beta(α, α).
    """

    alpha: float

    @classmethod
    def from_config(cls, config: ImageDataConfig) -> "CutMix | None":
        """See `MIXERS`."""
        return cls(config.cutmix) if config.cutmix else None

    def __call__(self, images: Tensor, generator: np.random.Generator) -> tuple[np.ndarray, Tensor]:
        """See `Mixer.__call__`."""
        batch, _, height, width = images.shape
        kept = generator.beta(self.alpha, self.alpha, batch)
        x, y = generator.integers(width, size=batch), generator.integers(height, size=batch)
        boxes = cut_boxes(kept, x, y, height, width)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        inside = box_mask(torch.from_numpy(boxes).to(images.device, non_blocking=True), height, width)
        return area / (height * width), inside.float()


# Each entry makes its operation for a config, or gives None where the config does not ask for it. Their order is that
# in which they draw.
MIXERS: tuple[Callable[[ImageDataConfig], Mixer | None], ...] = (Mixup.from_config, CutMix.from_config)


class Mixing:
    """Mixes each sample of a batch by one of the given operations, each with the same probability.

    The partner of a sample is the one before it in the batch, whose order is random. All draws are made on the CPU, so
    that they are the same on every device.

    Args:
        mixers: the operations.
        classes: how many; None: the targets are numbers.
    """

    def __init__(self, mixers: Sequence[Mixer], classes: int | None) -> None:
        self.mixers, self.classes = tuple(mixers), classes

    def __call__(self, inputs: Tensor, targets: Tensor, context: BatchContext) -> tuple[Tensor, Tensor]:
        """Return mixed inputs and targets.

        Args:
            inputs: float32 (B, C, H, W).
            targets: int64 (B,), returned as float32 (B, classes); or float32 (B, outputs).
            context: the seed and the step, of which the draws are a function.
        """
        generator = np.random.default_rng(seeds.fold(context.seed, seeds.MIX, context.step))
        # From the last to the first: earlier versions gave the lower half of the draws to CutMix, their second.
        choice = len(self.mixers) - 1 - (generator.random(len(inputs)) * len(self.mixers)).astype(np.int64)
        share, weights = self.mixers[0](inputs, generator)
        for number, mixer in enumerate(self.mixers[1:], 1):
            own_share, own_weights = mixer(inputs, generator)
            chosen = choice == number
            share = np.where(chosen, own_share, share)
            weights = torch.where(
                torch.from_numpy(chosen).to(inputs.device, non_blocking=True)[:, None, None, None], own_weights, weights
            )
        shares = torch.from_numpy(share).float().to(inputs.device, non_blocking=True)
        return mix(inputs, weights), mix(self._numeric(targets), shares[:, None])

    def _numeric(self, targets: Tensor) -> Tensor:
        """Return targets that can be blended: numbers as they are, classes one-hot."""
        if targets.is_floating_point():
            return targets
        assert self.classes is not None
        return F.one_hot(targets, self.classes).float()


def mixing_from(config: ImageDataConfig, classes: int | None) -> Mixing | None:
    """Make the mixing that a config asks for; None where it asks for none.

    Args:
        config: says with which keys samples are mixed.
        classes: how many; None: the targets are numbers.
    """
    if not config.augment:
        return None
    mixers = [mixer for make in MIXERS if (mixer := make(config)) is not None]
    return Mixing(mixers, classes) if mixers else None


def mix(values: Tensor, weights: Tensor) -> Tensor:
    """Return (1 - w) · values + w · partners, where the partner of a row is the row before it.

    Args:
        values: float (B, ...).
        weights: w in [0, 1], broadcastable to the values.
    """
    return values.lerp(values.roll(1, 0), weights)


def cut_boxes(kept: np.ndarray, x: np.ndarray, y: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the boxes [x1, y1, x2, y2) that the partner fills, int64 (B, 4), cut off at the edges of the image.

    Args:
        kept: λ, the share of the area that should stay, (B,).
        x, y: the centres, (B,).
        height, width: of the images.
    """
    side = 0.5 * np.sqrt(1 - kept)
    half_width, half_height = (side * width).astype(np.int64), (side * height).astype(np.int64)
    return np.stack(
        [
            np.maximum(x - half_width, 0),
            np.maximum(y - half_height, 0),
            np.minimum(x + half_width, width),
            np.minimum(y + half_height, height),
        ],
        axis=1,
    )
