"""Changes of colour against torchvision's functions for each image, and RandAugment made of them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as oracle

from trainer.data.images import color
from trainer.data.images.randaugment import OPERATIONS, apply_randaugment

Change = Callable[[Tensor, Tensor], Tensor]
BY_FACTOR: dict[str, tuple[Change, Callable[[Tensor, float], Tensor]]] = {
    "brightness": (color.brightness, oracle.adjust_brightness),
    "contrast": (color.contrast, oracle.adjust_contrast),
    "saturation": (color.saturation, oracle.adjust_saturation),
    "sharpness": (color.sharpness, oracle.adjust_sharpness),
}


def pixels(*shape: int) -> Tensor:
    """Random bytes, with images of one colour, black, white and a few greys among them."""
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[0], images[1], images[2] = 0, 255, 77
    images[3, :, 0] = images[3, :1, 0]
    images[4] = images[4] // 8 + 100
    return images


@pytest.mark.parametrize("shape", [(3, 9, 12), (1, 8, 8), (3, 2, 2)])
@pytest.mark.parametrize("name", BY_FACTOR)
def test_changes_by_a_factor_equal_torchvision(name: str, shape: tuple[int, ...]) -> None:
    ours, theirs = BY_FACTOR[name]
    values, factors = color.unit(pixels(50, *shape)), torch.linspace(0, 2.5, 50)
    for changed, value, factor in zip(ours(values, factors), values, factors.tolist(), strict=True):
        torch.testing.assert_close(changed, theirs(value, factor), rtol=0, atol=2e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_turn_of_hue_equals_torchvision(channels: int) -> None:
    values, turns = color.unit(pixels(60, channels, 9, 12)), torch.linspace(-0.5, 0.5, 60)
    for changed, value, turn in zip(color.hue(values, turns), values, turns.tolist(), strict=True):
        torch.testing.assert_close(changed, oracle.adjust_hue(value, turn), rtol=0, atol=1e-5)


def test_bytes_become_numbers_and_the_same_bytes_again() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(color.from_unit(color.unit(every)), every)


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize_equals_torchvision(bits: int) -> None:
    images = pixels(20, 3, 8, 8)
    assert torch.equal(color.posterize(images, bits), oracle.posterize(images, bits))


@pytest.mark.parametrize("threshold", [0.0, 1.0, 127.5, 255.0])
def test_solarize_equals_torchvision(threshold: float) -> None:
    images = pixels(20, 3, 8, 8)
    assert torch.equal(color.solarize(images, threshold), oracle.solarize(images, threshold))


@pytest.mark.parametrize("channels", [1, 3])
def test_equalize_equals_torchvision_and_pil(channels: int) -> None:
    images = pixels(20, channels, 40, 40)
    ours = color.equalize(images)
    for image, ours_of_it in zip(images, ours, strict=True):
        assert torch.equal(ours_of_it, oracle.equalize(image))
        array = image.permute(1, 2, 0).numpy()
        theirs = ImageOps.equalize(Image.fromarray(array[:, :, 0] if channels == 1 else array))
        assert np.array_equal(ours_of_it.permute(1, 2, 0).numpy().squeeze(), np.asarray(theirs))


@pytest.mark.parametrize("channels", [1, 3])
def test_autocontrast_equals_torchvision(channels: int) -> None:
    images = pixels(20, channels, 9, 12)
    for image, ours_of_it in zip(images, color.autocontrast(images), strict=True):
        # of bytes, torchvision cuts off where we round
        exact = oracle.autocontrast(image / 255)
        assert (ours_of_it / 255 - exact).abs().max() <= 0.5 / 255 + 1e-5


def by_torchvision(name: str, image: Tensor, sign: float, strength: float) -> Tensor:
    """The operation of torchvision's RandAugment at this strength; shears about the centre."""
    height, width = image.shape[1:]
    angle = sign * strength * np.degrees(np.arctan(0.3 * strength)) / strength if strength else 0.0
    x, y = (int(150 / 331 * side * strength) * int(sign) for side in (width, height))
    match name:
        case "identity":
            return image
        case "shear_x" | "shear_y":
            shear = [angle, 0.0] if name == "shear_x" else [0.0, angle]
            return oracle.affine(image, 0.0, [0, 0], 1.0, shear, fill=0)
        case "translate_x" | "translate_y":
            return oracle.affine(image, 0.0, [x, 0] if name == "translate_x" else [0, y], 1.0, [0.0, 0.0], fill=0)
        case "rotate":
            return oracle.rotate(image, 30.0 * strength * sign, fill=0)
        case "posterize":
            return oracle.posterize(image, 8 - round(4 * strength))
        case "solarize":
            return oracle.solarize(image, 255 * (1 - strength))
        case "autocontrast" | "equalize":
            return getattr(oracle, name)(image)  # type: ignore[no-any-return]
        case _:
            changed: Tensor = getattr(oracle, f"adjust_{name}")(image / 255, 1 + 0.9 * strength * sign)
            return (changed * 255).round().to(torch.uint8)


@pytest.mark.parametrize("magnitude", [0, 9, 30])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_of_randaugment_equals_torchvision(name: str, magnitude: int) -> None:
    images = pixels(20, 3, 32, 32)
    signs = torch.tensor([1.0, -1.0] * 10)
    choice = torch.full((1, 20), list(OPERATIONS).index(name))
    ours = apply_randaugment(images, choice, signs[None], magnitude)
    theirs = torch.stack(
        [by_torchvision(name, image, sign, magnitude / 30) for image, sign in zip(images, signs.tolist(), strict=True)]
    )
    # Of bytes, torchvision's autocontrast cuts off; and a shear may fall exactly between two pixels.
    assert ((ours.int() - theirs.int()).abs() > 1).double().mean() < 0.002
    if name not in ("identity", "autocontrast", "equalize") and magnitude == 30:
        assert not torch.equal(ours[3:], images[3:])


def test_each_image_of_a_batch_gets_its_own_operations_in_their_order() -> None:
    names = list(OPERATIONS)
    images = pixels(40, 3, 16, 16)
    draw = torch.Generator().manual_seed(0)
    choices = torch.randint(len(names), (3, 40), generator=draw)
    signs = torch.randint(2, (3, 40), generator=draw) * 2.0 - 1
    ours = apply_randaugment(images, choices, signs, 20)
    for i in range(40):
        alone = images[i : i + 1]
        for choice, sign in zip(choices[:, i], signs[:, i], strict=True):
            alone = OPERATIONS[names[int(choice)]](alone, sign[None], 20 / 30)
        # a mean over a batch adds up in another order than one over a single image
        assert (ours[i].int() - alone[0].int()).abs().max() <= 1
