"""Image pipelines as batched tensor operations, with one draw for each sample."""

import math

import torch
from torch import Tensor

from trainer.config.data import ImageData
from trainer.errors import ConfigError
from trainer.interfaces import Augment, Draws


class ImageAugment:
    """Mirror left-right with probability 1/2, then turn by a uniform angle within ±`degrees`.

    A call takes uint8 pixels or floats (B, C, H, W) and gives the same shape and dtype.
    All draws are made on the CPU, so that they are the same on every device.
    """

    def __init__(self, flip: bool, degrees: float) -> None:
        self.flip, self.degrees = flip, degrees

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        batch, generator = len(images), draws.generator
        mirrored = torch.rand(batch, generator=generator) < 0.5 if self.flip else torch.zeros(batch, dtype=torch.bool)
        angles = (torch.rand(batch, generator=generator) * 2 - 1) * self.degrees
        mirrored, angles = mirrored.to(images.device), angles.to(images.device)
        return flip_rotate(images, mirrored, angles) if self.degrees else flip(images, mirrored)


def flip(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror the images (B, C, H, W) whose entry in `mirrored` (bool, B) is true, left to right."""
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def flip_rotate(images: Tensor, mirrored: Tensor, degrees: Tensor) -> Tensor:
    """Mirror, then rotate each image counter-clockwise about its centre; nearest pixel, black outside.

    Both moves in one gather over precomputed pixel positions: the result equals torchvision's per-image
    `hflip` followed by `rotate(interpolation=NEAREST, fill=0)`.

    Args:
        images: (B, C, H, W), any dtype.
        mirrored: bool (B,).
        degrees: float (B,).
    """
    batch, channels, height, width = images.shape
    device, radians = images.device, degrees * (math.pi / 180)
    cos, sin = radians.cos()[:, None, None], radians.sin()[:, None, None]
    # Where an output pixel comes from: its position about the centre, turned back.
    y = (torch.arange(height, device=device) - (height - 1) / 2)[None, :, None]
    x = (torch.arange(width, device=device) - (width - 1) / 2)[None, None, :]
    source_x = (cos * x - sin * y + (width - 1) / 2).round_()
    source_y = (sin * x + cos * y + (height - 1) / 2).round_()
    outside = (source_x < 0) | (source_x > width - 1) | (source_y < 0) | (source_y > height - 1)
    source_x = torch.where(mirrored[:, None, None], width - 1 - source_x, source_x)
    index = (source_y * width + source_x).masked_fill_(outside, 0).long().view(batch, 1, height * width)
    outside = outside.view(batch, 1, height * width)
    pixels = images.reshape(batch, channels, height * width).gather(2, index.expand(-1, channels, -1))
    return pixels.masked_fill_(outside, 0).view(batch, channels, height, width)


class Normalize:
    """uint8 pixels (B, C, H, W) to float32, scaled to [0, 1], minus the channel means, over the channel deviations."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        self.mean, self.std = mean, std
        # ((x / 255) - mean) / std as one multiplication and one addition.
        self._scale = torch.tensor([1 / (255 * s) for s in std]).view(-1, 1, 1)
        self._shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(-1, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        if self._scale.device != images.device:
            self._scale, self._shift = self._scale.to(images.device), self._shift.to(images.device)
        return images.to(torch.float32).mul_(self._scale).add_(self._shift)

    def undo(self, inputs: Tensor) -> Tensor:
        """Back to pixels in [0, 1], for people to look at."""
        mean = torch.tensor(self.mean, device=inputs.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=inputs.device).view(-1, 1, 1)
        return (inputs * std + mean).clamp_(0, 1)


def augment_from(config: ImageData) -> Augment | None:
    """The augmentation a config asks for."""
    if not config.augment or not (config.flip or config.rotation):
        return None
    return ImageAugment(config.flip, config.rotation)


def normalize_from(config: ImageData, images: Tensor) -> Normalize:
    """The normalisation a config asks for, measured on the training images (uint8, N, C, H, W) where it is silent."""
    channels = images.shape[1]
    mean, std = config.mean, config.std
    if mean is None or std is None:
        measured_mean, measured_std = measure(images)
        mean, std = mean or measured_mean, std or measured_std
    return Normalize(_per_channel("data.mean", mean, channels), _per_channel("data.std", std, channels))


def measure(images: Tensor, chunk: int = 4096) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of uint8 images (N, C, H, W), as pixels in [0, 1]."""
    first, second = torch.zeros(2, images.shape[1], dtype=torch.float64)
    for part in images.split(chunk):
        # Exact: a sum of bytes, and of their squares, in integers.
        values = part.transpose(0, 1).flatten(1).to(torch.int32)
        first += values.sum(1, dtype=torch.int64)
        second += values.square().sum(1, dtype=torch.int64)
    pixels = images[:, 0].numel()
    mean = first / pixels
    std = (second / pixels - mean.square()).clamp(min=0).sqrt()
    std[std == 0] = 255.0  # a constant channel is only centred
    return (mean / 255).tolist(), (std / 255).tolist()


def _per_channel(key: str, values: list[float], channels: int) -> list[float]:
    if len(values) not in (1, channels):
        raise ConfigError(f"{key} has {len(values)} numbers, but the images have {channels} channels.")
    return values if len(values) == channels else values * channels
