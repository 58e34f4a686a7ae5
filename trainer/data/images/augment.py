"""The augmentation that a config asks for: operations on whole batches, with a random draw of its own for each sample.

All draws are made on the CPU, so that they are the same on every device, and sent there without a wait; the pixels are
changed on the device.

To add an operation: its keys in `trainer.config.data.ImageDataConfig`, its class, and its place in `STAGES`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from trainer.config.data import ImageDataConfig
from trainer.data.images import color
from trainer.data.images.geometry import bilinear, box_mask, flip, nearest, positions, resized_crop, turned
from trainer.data.images.normalize import Normalize
from trainer.data.images.randaugment import RandAugment
from trainer.data.types import BatchContext
from trainer.errors import ConfigError
from trainer.system import seeds

RATIOS = (3 / 4, 4 / 3)  # of the sides of a crop (C. Szegedy et al. 2015)


class Stage(Protocol):
    """One operation of the pipeline: uint8 images (B, C, H, W) to uint8 images of the same shape."""

    def __call__(self, images: Tensor, context: BatchContext, generator: torch.Generator) -> Tensor: ...


class Pipeline:
    """Applies the stages one after the other; all of them draw from one generator, in that order."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)

    def __call__(self, images: Tensor, context: BatchContext) -> Tensor:
        generator = context.generator
        for stage in self.stages:
            images = stage(images, context, generator)
        return images


@dataclass(frozen=True)
class Warp:
    """Mirrors left-right, then rotates by a uniform angle within ±`degrees`, then shifts by whole pixels.

    All three together fetch each pixel once. Float images (B, C, H, W) are taken too, and stay floats.

    Attributes:
        flip: "none", "random" (probability 1/2) or "alternating": in the first epoch half of the images, and from then
            on each image in every second epoch (K. Jordan, "94% on CIFAR-10 in 3.29 seconds", arXiv:2404.00498).
        degrees: largest angle of the rotation, either way.
        interpolate: rotate with bilinear interpolation instead of to the nearest pixel.
        shift: largest shift in pixels along each axis, uniform.
        reflect: fill what a shift uncovers with the mirror image; else with black.
    """

    flip: str = "random"
    degrees: float = 0.0
    interpolate: bool = False
    shift: int = 0
    reflect: bool = True

    @classmethod
    def from_config(cls, config: ImageDataConfig, shape: Sequence[int], normalize: Normalize) -> "Warp | None":
        """See `STAGES`; raises `ConfigError` for a reflected shift that is not shorter than the sides."""
        if config.flip == "none" and not config.rotation and not config.shift:
            return None
        reflect, (_, height, width) = config.shift_padding == "reflect", shape
        if reflect and config.shift >= min(height, width):
            raise ConfigError(
                f"data.shift={config.shift}: must be less than the side of the images ({height}×{width}) to be "
                "reflected; or set data.shift_padding=zero."
            )
        return cls(config.flip, config.rotation, config.rotation_mode == "bilinear", config.shift, reflect)

    def __call__(self, images: Tensor, context: BatchContext, generator: torch.Generator) -> Tensor:
        batch, device = len(images), images.device
        mirrored = self._mirrored(batch, context, generator)
        mirrored = None if mirrored is None else mirrored.to(device, non_blocking=True)
        angles = (torch.rand(batch, generator=generator) * 2 - 1) * self.degrees if self.degrees else None
        offsets = torch.randint(-self.shift, self.shift + 1, (batch, 2), generator=generator) if self.shift else None
        if angles is None and offsets is None:
            return images if mirrored is None else flip(images, mirrored)
        x, y = positions(images, None if offsets is None else offsets.to(device, non_blocking=True), self.reflect)
        if angles is not None:
            x, y = turned(x, y, (images.shape[2], images.shape[3]), angles.to(device, non_blocking=True))
        fetch = bilinear if self.interpolate and angles is not None else nearest
        return fetch(images, x, y, mirrored)

    def _mirrored(self, batch: int, context: BatchContext, generator: torch.Generator) -> Tensor | None:
        match self.flip:
            case "random":
                return torch.rand(batch, generator=generator) < 0.5
            case "alternating":
                first = seeds.fold_each(seeds.fold(context.seed, seeds.FLIP), context.positions)
                return (first + context.epoch) % 2 == 1
            case _:
                return None


@dataclass(frozen=True)
class Crop:
    """Enlarges a random part of the image, of `scale` to 1 of its area and with sides of 3:4 to 4:3, to the whole.

    A side that would be longer than the image's is as long as that.
    """

    scale: float

    @classmethod
    def from_config(cls, config: ImageDataConfig, shape: Sequence[int], normalize: Normalize) -> "Crop | None":
        """See `STAGES`."""
        return cls(config.crop_scale) if config.crop_scale < 1 else None

    def __call__(self, images: Tensor, context: BatchContext, generator: torch.Generator) -> Tensor:
        boxes = self.boxes(len(images), images.shape[2], images.shape[3], generator)
        return resized_crop(images, boxes.to(images.device, non_blocking=True))

    def boxes(self, batch: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Draw top, left, height and width of each part, int64 (B, 4)."""
        area, ratio, top, left = torch.rand(4, batch, generator=generator, dtype=torch.float64)
        area = height * width * (self.scale + (1 - self.scale) * area)
        ratio = torch.exp(math.log(RATIOS[0]) + math.log(RATIOS[1] / RATIOS[0]) * ratio)
        columns = (area * ratio).sqrt().round().clamp(1, width)
        rows = (area / ratio).sqrt().round().clamp(1, height)
        top, left = (top * (height - rows + 1)).floor(), (left * (width - columns + 1)).floor()
        return torch.stack([top, left, rows, columns], dim=1).long()


@dataclass(frozen=True)
class Jitter:
    """Scales brightness, contrast and saturation by uniform factors in [1 - x, 1 + x], then rotates the hue.

    Attributes:
        brightness, contrast, saturation: x of each; 0: unchanged. Factors are never below 0.
        hue: largest rotation, either way, as a share of the colour circle.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    @classmethod
    def from_config(cls, config: ImageDataConfig, shape: Sequence[int], normalize: Normalize) -> "Jitter | None":
        """See `STAGES`; raises `ConfigError` where colours of grey images would be changed."""
        for name in ("saturation", "hue"):
            if getattr(config, name) and shape[0] != 3:
                raise ConfigError(
                    f"data.{name}={getattr(config, name)}: needs images in colour; these have {shape[0]} "
                    f"channel{'s' * (shape[0] != 1)}."
                )
        jitter = cls(config.brightness, config.contrast, config.saturation, config.hue)
        return None if jitter == cls() else jitter

    def __call__(self, images: Tensor, context: BatchContext, generator: torch.Generator) -> Tensor:
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
                values = change(values, factor.to(images.device, non_blocking=True))
        return color.from_unit(values)


class Cutout:
    """Fills a square about a uniformly drawn pixel, cut off at the edges, with the mean colour of the training images.

    T. DeVries & G. W. Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", arXiv:1708.04552.

    Args:
        side: of the square, in pixels.
        mean: of each channel, of pixels in [0, 1].
    """

    def __init__(self, side: int, mean: Sequence[float]) -> None:
        self.side, self.colour = side, torch.tensor([round(255 * value) for value in mean], dtype=torch.uint8)

    @classmethod
    def from_config(cls, config: ImageDataConfig, shape: Sequence[int], normalize: Normalize) -> "Cutout | None":
        """See `STAGES`."""
        return cls(config.cutout, normalize.mean) if config.cutout else None

    def __call__(self, images: Tensor, context: BatchContext, generator: torch.Generator) -> Tensor:
        batch, _, height, width = images.shape
        x = torch.randint(width, (batch,), generator=generator) - self.side // 2
        y = torch.randint(height, (batch,), generator=generator) - self.side // 2
        boxes = torch.stack([x, y, x + self.side, y + self.side], dim=1)
        return cut_out(
            images, boxes.to(images.device, non_blocking=True), self.colour.to(images.device, non_blocking=True)
        )


def cut_out(images: Tensor, boxes: Tensor, fill: Tensor) -> Tensor:
    """Fill the box [x1, y1, x2, y2), int64 (B, 4), of each image (B, C, H, W) with a colour (C,)."""
    return torch.where(box_mask(boxes, *images.shape[-2:]), fill[:, None, None], images)


# The order of the pipeline. Each entry makes its operation for a config, the shape (C, H, W) of the images and their
# normalisation; it gives None where the config does not ask for it, and raises `ConfigError` where a key does not suit
# the images.
STAGES: tuple[Callable[[ImageDataConfig, Sequence[int], Normalize], Stage | None], ...] = (
    Warp.from_config,
    Crop.from_config,
    RandAugment.from_config,
    Jitter.from_config,
    Cutout.from_config,
)


def augment_from(config: ImageDataConfig, shape: Sequence[int], normalize: Normalize) -> Pipeline | None:
    """Make the augmentation that a config asks for; None where it asks for none.

    Args:
        config: says with which keys images are augmented.
        shape: (C, H, W) of the images.
        normalize: the normalisation of the images, which knows their mean colour.

    Raises:
        ConfigError: where a key does not suit the images.
    """
    if not config.augment:
        return None
    stages = [stage for make in STAGES if (stage := make(config, shape, normalize)) is not None]
    return Pipeline(stages) if stages else None
