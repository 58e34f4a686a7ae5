"""Normalisation of pixels, with means and standard deviations that are given or measured."""

import json
from typing import Any

import torch
from torch import Tensor

from trainer.config.data import ImageDataConfig
from trainer.data.images.deep_pixels import Range
from trainer.errors import CheckpointError, ConfigError


class Normalize:
    """Scales uint8 pixels (B, C, H, W) to float32 in [0, 1], subtracts the channel means and divides by the deviations.

    Args:
        mean, std: of each channel, of pixels in [0, 1].
    """

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
        """Turn normalised images back into pixels in [0, 1], for people to look at."""
        mean = torch.tensor(self.mean, device=inputs.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=inputs.device).view(-1, 1, 1)
        return (inputs * std + mean).clamp_(0, 1)

    def to_json(self) -> str:
        """Return the means and deviations as text, exactly, for a checkpoint."""
        return json.dumps({"mean": self.mean, "std": self.std})

    @classmethod
    def from_json(cls, text: str) -> "Normalize":
        """Make a normalisation from what `to_json` returned; raise `CheckpointError` for anything else."""
        try:
            plain = json.loads(text)
            normalize = cls(_numbers(plain["mean"]), _numbers(plain["std"]))
            if not (normalize._scale > 0).all() or not all(
                part.isfinite().all() for part in (normalize._scale, normalize._shift)
            ):
                raise ValueError(f"nothing can be normalised by {text}")
        except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
            raise CheckpointError(
                f"The saved normalisation of images is damaged ({' '.join(str(error).split())[:200]})."
            ) from error
        return normalize


def with_pixel_range(preprocessing: str | None, scale: Range) -> str | None:
    """Return a saved normalisation with what becomes 0 and 255 of pixels of more than 8 bits."""
    if preprocessing is None or not scale:
        return preprocessing
    return json.dumps(json.loads(preprocessing) | {"range": [list(ends) for ends in scale]})


def pixel_range(preprocessing: str | None) -> Range:
    """Return what `with_pixel_range` has saved; empty where there is none; `CheckpointError` where it is damaged."""
    try:
        saved = [] if preprocessing is None else json.loads(preprocessing).get("range", [])
        ends = [_numbers(pair) for pair in saved]
        if not all(len(pair) == 2 and pair[0] < pair[1] for pair in ends):
            raise ValueError(f"a range {saved!r:.80}")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"The saved range of pixels is damaged ({error}).") from error
    return [(low, high) for low, high in ends]


def normalize_from(config: ImageDataConfig, images: Tensor) -> Normalize:
    """Make the normalisation that a config asks for; what it leaves open is measured on the training images.

    Args:
        config: may say `mean` and `std`.
        images: uint8 (N, C, H, W).

    Raises:
        ConfigError: where it gives numbers for another number of channels.
    """
    channels = images.shape[1]
    mean, std = config.mean, config.std
    if mean is None or std is None:
        measured_mean, measured_std = measure(images)
        mean, std = mean or measured_mean, std or measured_std
    return Normalize(_per_channel("data.mean", mean, channels), _per_channel("data.std", std, channels))


def measure(images: Tensor, chunk: int = 4096) -> tuple[list[float], list[float]]:
    """Measure mean and standard deviation of each channel, of pixels in [0, 1].

    Args:
        images: uint8 (N, C, H, W).
        chunk: images that are added up at a time.
    """
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


def _numbers(values: Any) -> list[float]:
    """Return the values as a list; raise `TypeError` for anything but numbers."""
    numbers = list(values)
    if not all(type(number) in (int, float) for number in numbers):
        raise TypeError(f"{values!r:.80} are no numbers")
    return numbers


def _per_channel(key: str, values: list[float], channels: int) -> list[float]:
    if len(values) not in (1, channels):
        raise ConfigError(
            f"{key} has {len(values)} number{'s' * (len(values) != 1)}, but the images have {channels} "
            f"channel{'s' * (channels != 1)}."
        )
    return values if len(values) == channels else values * channels
