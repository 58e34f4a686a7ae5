"""Batches whose samples are mixed with one another, pixels and targets alike."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config.data import ImageDataConfig
from trainer.data.images.geometry import box_mask
from trainer.data.types import BatchContext
from trainer.system import seeds


class Mixing:
    """Mixup and CutMix, one draw for each sample; where both are on, each sample gets one of them at even odds.

    The partner of a sample is the one before it in the batch, which stands in random order. All draws are made on the
    CPU, so that they are the same on every device.

    Args:
        mixup: α of Zhang et al. 2018 (arXiv:1710.09412, section 2); 0: off.
        cutmix: α of Yun et al. 2019 (arXiv:1905.04899, section 3.1); 0: off.
        classes: how many; None: the targets are numbers.
    """

    def __init__(self, mixup: float, cutmix: float, classes: int | None) -> None:
        self.mixup, self.cutmix, self.classes = mixup, cutmix, classes

    def __call__(self, inputs: Tensor, targets: Tensor, draws: BatchContext) -> tuple[Tensor, Tensor]:
        """Inputs (B, C, H, W); targets int64 (B,), given as float32 (B, classes), or float32 (B, outputs)."""
        height, width = inputs.shape[-2:]
        share, boxes, cut = self._draw(len(inputs), height, width, draws)
        device = inputs.device
        shares = torch.from_numpy(share).float().to(device)
        weights = shares[:, None, None, None]
        if self.cutmix:
            inside = box_mask(torch.from_numpy(boxes).to(device), height, width)
            weights = torch.where(torch.from_numpy(cut).to(device)[:, None, None, None], inside.float(), weights)
        return mix(inputs, weights), mix(self._shares(targets), shares[:, None])

    def _draw(
        self, batch: int, height: int, width: int, draws: BatchContext
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each sample: the share of its partner, a box [x1, y1, x2, y2), and whether the box is what is mixed."""
        generator = np.random.default_rng(seeds.fold(draws.seed, seeds.MIX, draws.step))
        odds = 0.5 if self.mixup and self.cutmix else float(self.cutmix > 0)
        cut = generator.random(batch) < odds
        share = generator.beta(self.mixup, self.mixup, batch) if self.mixup else np.zeros(batch)
        if not self.cutmix:
            return share, np.zeros((batch, 4), dtype=np.int64), cut
        kept = generator.beta(self.cutmix, self.cutmix, batch)
        x, y = generator.integers(width, size=batch), generator.integers(height, size=batch)
        boxes = cut_boxes(kept, x, y, height, width)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        return np.where(cut, area / (height * width), share), boxes, cut

    def _shares(self, targets: Tensor) -> Tensor:
        """What can be mixed: numbers as they are, classes as shares."""
        if targets.is_floating_point():
            return targets
        assert self.classes is not None
        return F.one_hot(targets, self.classes).float()


def mixing_from(config: ImageDataConfig, classes: int | None) -> Mixing | None:
    """The mixing a config asks for."""
    if not config.augment or not (config.mixup or config.cutmix):
        return None
    return Mixing(config.mixup, config.cutmix, classes)


def mix(values: Tensor, weights: Tensor) -> Tensor:
    """(1 - w) · values + w · partners, where the partner of a row is the row before it; w broadcasts, in [0, 1]."""
    return values.lerp(values.roll(1, 0), weights)


def cut_boxes(kept: np.ndarray, x: np.ndarray, y: np.ndarray, height: int, width: int) -> np.ndarray:
    """The boxes [x1, y1, x2, y2) that the partner fills, int64 (B, 4).

    Args:
        kept: λ, the share of the area that should stay, (B,); what a box has beyond the image, stays too.
        x, y: the centres, (B,).
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
