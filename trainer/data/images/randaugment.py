"""RandAugment (E. D. Cubuk et al., "RandAugment: Practical automated data augmentation", arXiv:1909.13719)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.config.data import ImageDataConfig
from trainer.data.images import color
from trainer.data.images.geometry import affine, nearest, positions, turned
from trainer.data.images.normalize import Normalize
from trainer.data.types import BatchContext

STRONGEST = 30  # magnitudes are 0 ... 30
Operation = Callable[[Tensor, Tensor, float], Tensor]  # uint8 images, a sign ±1 for each (B,), the strength in [0, 1]


def _moved(images: Tensor, matrix: tuple[Tensor | float, ...]) -> Tensor:
    return nearest(images, *affine(*positions(images), (images.shape[2], images.shape[3]), matrix))


def _shifted(images: Tensor, offsets: Tensor) -> Tensor:
    return nearest(images, *positions(images, offsets.long(), reflect=False))


def _toned(change: Callable[[Tensor, Tensor], Tensor]) -> Operation:
    """Make the operation that changes colours by a factor of up to 0.9 from 1."""
    return lambda images, sign, strength: color.from_unit(change(color.unit(images), 1 + 0.9 * strength * sign))


def _translated(axis: int) -> Operation:
    """Make the operation that shifts by up to 150/331 of the side, as AutoAugment did on images of 331 pixels."""

    def operation(images: Tensor, sign: Tensor, strength: float) -> Tensor:
        offsets = torch.zeros(len(images), 2, device=images.device)
        offsets[:, axis] = -sign * int(150 / 331 * images.shape[3 - axis] * strength)
        return _shifted(images, offsets)

    return operation


# The operations and the ranges of torchvision's RandAugment; shears are about the centre.
OPERATIONS: dict[str, Operation] = {
    "identity": lambda images, sign, strength: images,
    "shear_x": lambda images, sign, strength: _moved(images, (1.0, 0.3 * strength * sign, 0.0, 1.0)),
    "shear_y": lambda images, sign, strength: _moved(images, (1.0, 0.0, 0.3 * strength * sign, 1.0)),
    "translate_x": _translated(0),
    "translate_y": _translated(1),
    "rotate": lambda images, sign, strength: nearest(
        images, *turned(*positions(images), (images.shape[2], images.shape[3]), 30 * strength * sign)
    ),
    "brightness": _toned(color.brightness),
    "saturation": _toned(color.saturation),
    "contrast": _toned(color.contrast),
    "sharpness": _toned(color.sharpness),
    "posterize": lambda images, sign, strength: color.posterize(images, 8 - round(4 * strength)),
    "solarize": lambda images, sign, strength: color.solarize(images, 255 * (1 - strength)),
    "autocontrast": lambda images, sign, strength: color.autocontrast(images),
    "equalize": lambda images, sign, strength: color.equalize(images),
}


@dataclass(frozen=True)
class RandAugment:
    """Applies random operations, of random direction and fixed strength, to each image.

    Attributes:
        operations: how many, one after the other.
        magnitude: their strength, 0 to 30.
    """

    operations: int
    magnitude: int

    @classmethod
    def from_config(cls, config: ImageDataConfig, shape: Sequence[int], normalize: Normalize) -> "RandAugment | None":
        """See `trainer.data.images.augment.STAGES`."""
        return cls(config.randaugment, config.randaugment_magnitude) if config.randaugment else None

    def __call__(self, images: Tensor, context: BatchContext, generator: torch.Generator) -> Tensor:
        shape = (self.operations, len(images))
        choices = torch.randint(len(OPERATIONS), shape, generator=generator)
        signs = torch.randint(2, shape, generator=generator) * 2.0 - 1
        return apply_randaugment(images, choices, signs, self.magnitude)


def apply_randaugment(images: Tensor, choices: Tensor, signs: Tensor, magnitude: int) -> Tensor:
    """Apply operation after operation to each image; those of a batch that get the same one get it together.

    Args:
        images: uint8 (B, C, H, W).
        choices: int64 (rounds, B) on the CPU, which of `OPERATIONS`.
        signs: float (rounds, B) on the CPU, 1 or -1: the direction of operations that have one.
        magnitude: 0 ... 30, how strong.
    """
    operations, strength = list(OPERATIONS.values()), magnitude / STRONGEST
    images = images.clone()
    for choice, sign in zip(choices, signs, strict=True):
        for number in choice.unique().tolist():
            rows = (choice == number).nonzero()[:, 0]
            some = rows.to(images.device, non_blocking=True)
            images[some] = operations[number](images[some], sign[rows].to(images.device, non_blocking=True), strength)
    return images
