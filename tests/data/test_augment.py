"""Image pipelines against torchvision's per-image transforms and against numpy."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as oracle

from trainer.config.data import Digits, SyntheticImages
from trainer.data.augment import (
    ImageAugment,
    Normalize,
    augment_from,
    flip,
    flip_rotate,
    measure,
    normalize_from,
)
from trainer.errors import ConfigError
from trainer.interfaces import Draws

EVERY_THIRD_DEGREE = torch.arange(-180.0, 181.0, 3)  # with all multiples of 30°, where ties are
EVEN = [(3, 32, 32), (1, 28, 28), (1, 8, 8), (2, 12, 20)]
ODD = [(1, 31, 31), (2, 20, 33), (1, 7, 12)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(seed: int = 0, step: int = 0) -> Draws:
    return Draws(seed, step, epoch=0, positions=torch.arange(16))


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


def test_the_input_is_left_as_it_was() -> None:
    images = pixels(16, 3, 8, 8)
    copy = images.clone()
    ImageAugment(flip=True, degrees=30)(images, draws())
    assert torch.equal(images, copy)


def measured_angles(degrees: float, batch: int) -> Tensor:
    """The angle of each sample of a batch, read off images whose two channels are their own coordinates."""
    side = 101
    y, x = torch.meshgrid(torch.arange(side) - 50.0, torch.arange(side) - 50.0, indexing="ij")
    turned = ImageAugment(flip=False, degrees=degrees)(torch.stack([x, y]).expand(batch, -1, -1, -1), draws())
    source_x, source_y = turned[:, :, 50, 95].T  # 45 to the right of the centre
    return torch.atan2(source_y, source_x).rad2deg()


def test_each_sample_has_its_own_angle_uniform_in_the_range() -> None:
    found = measured_angles(degrees=20, batch=1000)
    assert found.abs().max() < 20 + 1, "read to about a degree"
    assert found.min() < -18
    assert found.max() > 18
    assert len(found.unique()) > 20
    assert found.mean().abs() < 5 * 20 / 3**0.5 / 1000**0.5
    assert found.std().item() == pytest.approx(20 / 3**0.5, rel=0.1)


def test_about_half_of_the_samples_are_mirrored() -> None:
    images = torch.tensor([1, 2], dtype=torch.uint8).view(1, 1, 1, 2).expand(1000, -1, -1, -1)
    mirrored = ImageAugment(flip=True, degrees=0)(images, draws())[:, 0, 0, 0] == 2
    assert abs(mirrored.sum().item() - 500) < 5 * 250**0.5


@pytest.mark.parametrize(("mirror", "degrees"), [(True, 0.0), (False, 15.0), (True, 15.0)])
def test_it_is_a_function_of_the_seed_and_the_step_alone(mirror: bool, degrees: float) -> None:
    images, augment = pixels(16, 3, 8, 8), ImageAugment(mirror, degrees)
    before = torch.get_rng_state()
    first = augment(images, draws(7))
    torch.rand(3)
    assert torch.equal(augment(images, draws(7)), first)
    assert not torch.equal(augment(images, draws(8)), first)
    assert not torch.equal(augment(images, draws(7, step=1)), first)
    torch.set_rng_state(before)
    augment(images, draws(7))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("degrees", [0.0, 15.0])
def test_shape_and_dtype_stay(mirror: bool, degrees: float) -> None:
    for images in (pixels(4, 1, 9, 7), pixels(4, 1, 9, 7) / 255):
        varied = ImageAugment(mirror, degrees)(images, draws())
        assert (varied.shape, varied.dtype) == (images.shape, images.dtype)


def test_normalize_equals_torchvision() -> None:
    mean, std = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
    images = pixels(8, 3, 16, 16)
    theirs = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    expected = torch.stack([theirs(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    ours = Normalize(mean, std)(images)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def test_undo_inverts_normalize() -> None:
    images, normalize = pixels(8, 3, 16, 16), Normalize([0.4, 0.5, 0.6], [0.2, 0.25, 0.3])
    torch.testing.assert_close(normalize.undo(normalize(images)), images / 255, rtol=0, atol=1e-6)


def test_undo_stays_between_black_and_white() -> None:
    seen = Normalize([0.5], [0.25]).undo(torch.tensor([-10.0, 10.0]).view(1, 1, 1, 2))
    assert seen.flatten().tolist() == [0, 1]


@pytest.mark.parametrize("chunk", [1, 3, 4096])
def test_measure_equals_numpy(chunk: int) -> None:
    images = pixels(10, 3, 9, 7)
    mean, std = measure(images, chunk)
    exact = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, exact.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, exact.std((0, 2, 3)), rtol=1e-9)


def test_measure_is_exact_where_the_sums_are_large() -> None:
    images = torch.full((300, 1, 250, 250), 255, dtype=torch.uint8)
    images[:150] = 253
    mean, std = measure(images)
    assert mean == pytest.approx([254 / 255], rel=1e-12)
    assert std == pytest.approx([1 / 255], rel=1e-9)


def test_a_constant_channel_is_only_centred() -> None:
    images = torch.full((4, 1, 8, 8), 51, dtype=torch.uint8)
    mean, std = measure(images)
    assert mean == pytest.approx([0.2])
    assert std == [1.0]
    assert Normalize(mean, std)(images).abs().max() < 1e-6


def test_measured_normalisation_gives_mean_zero_and_deviation_one() -> None:
    images = pixels(50, 3, 8, 8)
    values = normalize_from(SyntheticImages(), images)(images).double()
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.zeros(3).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(values.std((0, 2, 3), correction=0), torch.ones(3).double(), rtol=0, atol=1e-5)


def test_given_moments_win_over_measured_ones() -> None:
    images = pixels(5, 3, 8, 8)
    assert normalize_from(SyntheticImages(mean=[0.1, 0.2, 0.3]), images).mean == [0.1, 0.2, 0.3]
    assert normalize_from(SyntheticImages(mean=[0.1, 0.2, 0.3]), images).std == measure(images)[1]
    assert normalize_from(SyntheticImages(std=[0.5]), images).std == [0.5, 0.5, 0.5]
    assert normalize_from(SyntheticImages(std=[0.5]), images).mean == measure(images)[0]


@pytest.mark.parametrize("key", ["mean", "std"])
def test_moments_of_another_number_of_channels_are_an_error(key: str) -> None:
    with pytest.raises(ConfigError, match=f"data.{key} has 2 numbers, but the images have 3 channels"):
        normalize_from(SyntheticImages(**{key: [0.1, 0.2]}), pixels(5, 3, 8, 8))


def test_augmentation_is_off_where_the_config_says_so() -> None:
    assert augment_from(SyntheticImages(augment=False)) is None
    assert augment_from(SyntheticImages(augment=True, flip=False, rotation=0)) is None
    assert Digits().build(0).augment is None


def test_augmentation_follows_the_config() -> None:
    augment = augment_from(SyntheticImages(augment=True, flip=False, rotation=25))
    assert isinstance(augment, ImageAugment)
    assert (augment.flip, augment.degrees) == (False, 25)
    assert augment_from(SyntheticImages(augment=True, rotation=0)).flip
