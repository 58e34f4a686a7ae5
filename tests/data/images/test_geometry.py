"""Moves of images against torchvision's functions for each image."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as oracle

from trainer.data.images.geometry import affine, bilinear, flip, flip_rotate, nearest, positions, resized_crop, turned

EVERY_THIRD_DEGREE = torch.arange(-180.0, 181.0, 3)  # with all multiples of 30°, where ties are
EVEN = [(3, 32, 32), (1, 28, 28), (1, 8, 8), (2, 12, 20)]
ODD = [(1, 31, 31), (2, 20, 33), (1, 7, 12)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(*shape: int) -> Tensor:
    """Random bytes, none of them black, so that a pixel from outside can be told."""
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator())


def angles() -> Tensor:
    """Every third degree, and 80 random ones."""
    return torch.cat([EVERY_THIRD_DEGREE, torch.rand(80, generator=generator(1)) * 360 - 180])


def one_by_one(images: Tensor, mirrored: Tensor, degrees: Tensor) -> Tensor:
    """Torchvision's `hflip` and `rotate` (nearest pixel, black outside), image after image."""
    turned = []
    for image, mirror, angle in zip(images, mirrored.tolist(), degrees.tolist(), strict=True):
        turned.append(oracle.rotate(oracle.hflip(image) if mirror else image, angle, fill=0))
    return torch.stack(turned)


def near_a_tie(height: int, width: int, degrees: Tensor) -> Tensor:
    """Where the exact source position is half-way between two pixels: (B, 1, H, W), computed in float64."""
    radians = degrees.double()[:, None, None] * (math.pi / 180)
    y = (torch.arange(height) - (height - 1) / 2).double()[:, None]
    x = (torch.arange(width) - (width - 1) / 2).double()[None]
    source_x = radians.cos() * x - radians.sin() * y + (width - 1) / 2
    source_y = radians.sin() * x + radians.cos() * y + (height - 1) / 2
    near = [((source % 1) - 0.5).abs() < 1e-4 for source in (source_x, source_y)]
    return (near[0] | near[1])[:, None]


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("shape", EVEN)
def test_flip_and_rotate_equal_torchvision_exactly(shape: tuple[int, ...], mirror: bool) -> None:
    degrees = angles()
    images, mirrored = pixels(len(degrees), *shape), torch.full((len(degrees),), mirror)
    assert torch.equal(flip_rotate(images, mirrored, degrees), one_by_one(images, mirrored, degrees))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("shape", ODD)
def test_odd_sides_differ_from_torchvision_only_half_way_between_pixels(shape: tuple[int, ...], mirror: bool) -> None:
    # With a centre on a pixel, multiples of 30° put sources exactly between two pixels (cos 60° = 1/2), and
    # with sides of which one is odd, right angles do. Which of the two is nearest is then the last bit of a float32.
    degrees = angles()
    images, mirrored = pixels(len(degrees), *shape), torch.full((len(degrees),), mirror)
    differs = flip_rotate(images, mirrored, degrees) != one_by_one(images, mirrored, degrees)
    assert not (differs & ~near_a_tie(*shape[1:], degrees)).any()
    assert differs.double().mean() < 0.005


def test_floats_move_as_bytes_do() -> None:
    degrees = angles()
    images, mirrored = pixels(len(degrees), 3, 16, 16), torch.arange(len(degrees)) % 2 == 0
    floats = flip_rotate(images / 255, mirrored, degrees)
    assert floats.dtype == torch.float32
    assert torch.equal(floats, one_by_one(images / 255, mirrored, degrees))
    assert torch.equal(floats, flip_rotate(images, mirrored, degrees) / 255)


@pytest.mark.parametrize("turns", [-1, 1, 2, 3])
@pytest.mark.parametrize("side", [8, 9])
def test_right_angles_are_exact_counter_clockwise_turns(side: int, turns: int) -> None:
    images = pixels(4, 3, side, side)
    still = torch.zeros(4, dtype=torch.bool)
    assert torch.equal(flip_rotate(images, still, torch.full((4,), 90.0 * turns)), images.rot90(turns, (2, 3)))


def test_no_flip_and_no_angle_change_nothing() -> None:
    images = pixels(4, 3, 9, 8)
    assert torch.equal(flip_rotate(images, torch.zeros(4, dtype=torch.bool), torch.zeros(4)), images)


def test_only_the_chosen_images_are_mirrored() -> None:
    images = pixels(4, 3, 9, 8)
    mirrored = torch.tensor([True, False, False, True])
    expected = torch.stack([oracle.hflip(image) if m else image for image, m in zip(images, mirrored, strict=True)])
    assert torch.equal(flip(images, mirrored), expected)
    assert torch.equal(flip_rotate(images, mirrored, torch.zeros(4)), expected)


def offsets(batch: int, limit: int) -> Tensor:
    return torch.randint(-limit, limit + 1, (batch, 2), generator=generator(2))


@pytest.mark.parametrize("reflect", [True, False])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 9, 6)])
def test_a_shift_equals_padding_and_a_crop_of_torchvision(shape: tuple[int, ...], reflect: bool) -> None:
    images, moved, pad = pixels(60, *shape), offsets(60, 5), 5
    mirrored = torch.arange(60) % 3 == 0
    ours = nearest(images, *positions(images, moved, reflect), mirrored)
    mode = "reflect" if reflect else "constant"
    for image, ours_of_it, (right, below), mirror in zip(images, ours, moved.tolist(), mirrored.tolist(), strict=True):
        padded = oracle.pad(oracle.hflip(image) if mirror else image, [pad] * 4, padding_mode=mode)
        assert torch.equal(ours_of_it, oracle.crop(padded, pad + below, pad + right, *shape[1:]))


@pytest.mark.parametrize("reflect", [True, False])
def test_a_turn_and_a_shift_are_the_two_in_turn(reflect: bool) -> None:
    degrees = angles()
    images, moved = pixels(len(degrees), 3, 16, 16), offsets(len(degrees), 6)
    still = torch.zeros(len(degrees), dtype=torch.bool)
    at_once = nearest(images, *turned(*positions(images, moved, reflect), (16, 16), degrees))
    rotated = flip_rotate(images, still, degrees)
    assert torch.equal(at_once, nearest(rotated, *positions(rotated, moved, reflect)))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 9, 14)])
def test_a_bilinear_turn_equals_torchvision(shape: tuple[int, ...], mirror: bool) -> None:
    degrees = angles()
    images, mirrored = pixels(len(degrees), *shape), torch.full((len(degrees),), mirror)
    x, y = turned(*positions(images), shape[1:], degrees)
    bytes_, floats = bilinear(images, x, y, mirrored), bilinear(images / 255, x, y, mirrored)
    assert (bytes_.dtype, floats.dtype) == (torch.uint8, torch.float32)
    for i, angle in enumerate(degrees.tolist()):
        image = oracle.hflip(images[i]) if mirror else images[i]
        theirs = oracle.rotate(image / 255, angle, InterpolationMode.BILINEAR)
        torch.testing.assert_close(floats[i], theirs, rtol=0, atol=2e-5)
        theirs_in_bytes = oracle.rotate(image, angle, InterpolationMode.BILINEAR)
        assert (bytes_[i].int() - theirs_in_bytes.int()).abs().max() <= 1


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 9, 14)])
def test_a_crop_equals_torchvision(shape: tuple[int, ...]) -> None:
    height, width = shape[1:]
    draw, boxes = generator(3), []
    for _ in range(100):
        rows, columns = (int(torch.randint(1, side + 1, (1,), generator=draw)) for side in (height, width))
        top = int(torch.randint(height - rows + 1, (1,), generator=draw))
        left = int(torch.randint(width - columns + 1, (1,), generator=draw))
        boxes.append((top, left, rows, columns))
    boxes.append((0, 0, height, width))
    images = pixels(len(boxes), *shape)
    bytes_, floats = (resized_crop(part, torch.tensor(boxes)) for part in (images, images / 255))
    for i, box in enumerate(boxes):
        theirs = oracle.resized_crop(images[i] / 255, *box, [height, width], antialias=True)
        torch.testing.assert_close(floats[i], theirs, rtol=0, atol=2e-5)
        theirs_in_bytes = oracle.resized_crop(images[i], *box, [height, width], antialias=True)
        assert (bytes_[i].int() - theirs_in_bytes.int()).abs().max() <= 1
    assert torch.equal(bytes_[-1], images[-1]), "the whole image stays as it is"


@pytest.mark.parametrize("axis", [0, 1])
def test_a_shear_equals_torchvision(axis: int) -> None:
    # 0.3 · 15.5 is no half, so that no source is exactly between two pixels
    images, slope = pixels(41, 3, 32, 32), torch.linspace(-0.31, 0.31, 41)
    matrix = (1.0, slope, 0.0, 1.0) if axis == 0 else (1.0, 0.0, slope, 1.0)
    ours = nearest(images, *affine(*positions(images), (32, 32), matrix))
    for image, ours_of_it, tangent in zip(images, ours, slope.tolist(), strict=True):
        shear = [0.0, 0.0]
        shear[axis] = math.degrees(math.atan(tangent))
        theirs = oracle.affine(image, 0.0, [0, 0], 1.0, shear, fill=0)
        assert (ours_of_it != theirs).double().mean() < 0.002
