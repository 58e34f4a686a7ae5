"""The augmentation that a config asks for: batched operations with one draw for each sample.

All draws are made on the CPU, so that they are the same on every device; what they decide is done on the device.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from trainer.config.data import ImageDataConfig
from trainer.data.images import color
from trainer.data.images.geometry import bilinear, box_mask, flip, nearest, positions, resized_crop, turned
from trainer.data.images.normalize import Normalize
from trainer.data.images.randaugment import OPERATIONS, apply_randaugment
from trainer.data.types import BatchContext
from trainer.errors import ConfigError
from trainer.system import seeds

RATIOS = (3 / 4, 4 / 3)  # of the sides of a crop (C. Szegedy et al. 2015)


class Stage(Protocol):
    """A part of the pipeline: uint8 images (B, C, H, W) to others of that shape and dtype."""

    def __call__(self, images: Tensor, draws: BatchContext, generator: torch.Generator) -> Tensor: ...


class Pipeline:
    """The stages in their order; they draw from one generator, one after the other."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)

    def __call__(self, images: Tensor, draws: BatchContext) -> Tensor:
        generator = draws.generator
        for stage in self.stages:
            images = stage(images, draws, generator)
        return images


@dataclass(frozen=True)
class Warp:
    """Mirror left-right, then turn by a uniform angle within ±`degrees`, then shift by whole pixels.

    All of it fetches each pixel once. Floats (B, C, H, W) are taken too, and stay what they are.

    Attributes:
        flip: "none", "random" (probability 1/2) or "alternating": in the first epoch half of the images, and from then
            on each image in every second epoch (K. Jordan, "94% on CIFAR-10 in 3.29 seconds", arXiv:2404.00498).
        degrees: of the turn.
        interpolate: turn with bilinear interpolation, not to the nearest pixel.
        shift: up to so many pixels along each axis, uniform.
        reflect: mirror the image beyond its edges where it is shifted; else it is black there.
    """

    flip: str = "random"
    degrees: float = 0.0
    interpolate: bool = False
    shift: int = 0
    reflect: bool = True

    def __call__(self, images: Tensor, draws: BatchContext, generator: torch.Generator) -> Tensor:
        batch, device = len(images), images.device
        mirrored = self._mirrored(batch, draws, generator)
        mirrored = None if mirrored is None else mirrored.to(device)
        angles = (torch.rand(batch, generator=generator) * 2 - 1) * self.degrees if self.degrees else None
        offsets = torch.randint(-self.shift, self.shift + 1, (batch, 2), generator=generator) if self.shift else None
        if angles is None and offsets is None:
            return images if mirrored is None else flip(images, mirrored)
        x, y = positions(images, None if offsets is None else offsets.to(device), self.reflect)
        if angles is not None:
            x, y = turned(x, y, (images.shape[2], images.shape[3]), angles.to(device))
        fetch = bilinear if self.interpolate and angles is not None else nearest
        return fetch(images, x, y, mirrored)

    def _mirrored(self, batch: int, draws: BatchContext, generator: torch.Generator) -> Tensor | None:
        match self.flip:
            case "random":
                return torch.rand(batch, generator=generator) < 0.5
            case "alternating":
                first = seeds.fold_each(seeds.fold(draws.seed, seeds.FLIP), draws.positions)
                return (first + draws.epoch) % 2 == 1
            case _:
                return None


@dataclass(frozen=True)
class Crop:
    """A random part of the image, of `scale` ... 1 of its area and sides of 3:4 ... 4:3, enlarged to the whole.

    A side that would be longer than the image's is as long as that.
    """

    scale: float

    def __call__(self, images: Tensor, draws: BatchContext, generator: torch.Generator) -> Tensor:
        boxes = self.boxes(len(images), images.shape[2], images.shape[3], generator)
        return resized_crop(images, boxes.to(images.device))

    def boxes(self, batch: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Top, left, height and width of each, int64 (B, 4)."""
        area, ratio, top, left = torch.rand(4, batch, generator=generator, dtype=torch.float64)
        area = height * width * (self.scale + (1 - self.scale) * area)
        ratio = torch.exp(math.log(RATIOS[0]) + math.log(RATIOS[1] / RATIOS[0]) * ratio)
        columns = (area * ratio).sqrt().round().clamp(1, width)
        rows = (area / ratio).sqrt().round().clamp(1, height)
        top, left = (top * (height - rows + 1)).floor(), (left * (width - columns + 1)).floor()
        return torch.stack([top, left, rows, columns], dim=1).long()


@dataclass(frozen=True)
class RandAugment:
    """So many operations on each image, chosen and directed at random."""

    operations: int
    magnitude: int

    def __call__(self, images: Tensor, draws: BatchContext, generator: torch.Generator) -> Tensor:
        shape = (self.operations, len(images))
        choices = torch.randint(len(OPERATIONS), shape, generator=generator)
        signs = torch.randint(2, shape, generator=generator) * 2.0 - 1
        return apply_randaugment(images, choices, signs, self.magnitude)


@dataclass(frozen=True)
class Jitter:
    """Brightness, contrast and saturation by a uniform factor within 1 ± the given, then hue by a uniform turn."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __call__(self, images: Tensor, draws: BatchContext, generator: torch.Generator) -> Tensor:
        values = color.unit(images)
        for change, strength, middle in (
            (color.brightness, self.brightness, 1.0),
            (color.contrast, self.contrast, 1.0),
            (color.saturation, self.saturation, 1.0),
            (color.hue, self.hue, 0.0),
        ):
            if strength:
                low = max(0.0, middle - strength) if middle else -strength  # there is no factor below 0
                factor = low + (middle + strength - low) * torch.rand(len(images), generator=generator)
                values = change(values, factor.to(images.device))
        return color.from_unit(values)


class Cutout:
    """A square of the training images' mean colour about a uniform pixel, cut off at the edges.

    T. DeVries & G. W. Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", arXiv:1708.04552.

    Args:
        side: of the square, in pixels.
        mean: of each channel, of pixels in [0, 1].
    """

    def __init__(self, side: int, mean: Sequence[float]) -> None:
        self.side, self.colour = side, torch.tensor([round(255 * value) for value in mean], dtype=torch.uint8)

    def __call__(self, images: Tensor, draws: BatchContext, generator: torch.Generator) -> Tensor:
        batch, _, height, width = images.shape
        x = torch.randint(width, (batch,), generator=generator) - self.side // 2
        y = torch.randint(height, (batch,), generator=generator) - self.side // 2
        boxes = torch.stack([x, y, x + self.side, y + self.side], dim=1)
        return cut_out(images, boxes.to(images.device), self.colour.to(images.device))


def cut_out(images: Tensor, boxes: Tensor, fill: Tensor) -> Tensor:
    """Images (B, C, H, W) with the box [x1, y1, x2, y2), int64 (B, 4), of each filled with a colour (C,)."""
    return torch.where(box_mask(boxes, *images.shape[-2:]), fill[:, None, None], images)


def augment_from(config: ImageDataConfig, shape: Sequence[int], normalize: Normalize) -> Pipeline | None:
    """The augmentation that a config asks for, of images of that shape (C, H, W); None: none.

    Raises:
        ConfigError: where a key does not suit the images.
    """
    if not config.augment:
        return None
    _check(config, shape)
    stages: list[Stage] = []
    if config.flip != "none" or config.rotation or config.shift:
        interpolate, reflect = config.rotation_mode == "bilinear", config.shift_padding == "reflect"
        stages.append(Warp(config.flip, config.rotation, interpolate, config.shift, reflect))
    if config.crop_scale < 1:
        stages.append(Crop(config.crop_scale))
    if config.randaugment:
        stages.append(RandAugment(config.randaugment, config.randaugment_magnitude))
    if config.brightness or config.contrast or config.saturation or config.hue:
        stages.append(Jitter(config.brightness, config.contrast, config.saturation, config.hue))
    if config.cutout:
        stages.append(Cutout(config.cutout, normalize.mean))
    return Pipeline(stages) if stages else None


def _check(config: ImageDataConfig, shape: Sequence[int]) -> None:
    channels, height, width = shape
    for name in ("saturation", "hue"):
        if getattr(config, name) and channels != 3:
            raise ConfigError(
                f"data.{name}={getattr(config, name)}: needs images in colour; these have {channels} "
                f"channel{'s' * (channels != 1)}."
            )
    if config.shift_padding == "reflect" and config.shift >= min(height, width):
        raise ConfigError(
            f"data.shift={config.shift}: must be less than the side of the images ({height}×{width}) to be reflected; "
            "or set data.shift_padding=zero."
        )
