"""Normalisation against torchvision and numpy."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from trainer.config.data import SyntheticImages
from trainer.config.datasets import Tensors
from trainer.data.images.normalize import Normalize, measure, normalize_from
from trainer.errors import CheckpointError, ConfigError


def pixels(*shape: int) -> Tensor:
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


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


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"mean": [0.5, 0.5, 0.5]}',
        '{"mean": 0.5, "std": 0.5}',
        '{"mean": "abc", "std": "abc"}',
        '{"mean": {"a": 1}, "std": [1]}',
        '{"mean": [0.5, 0.5, true], "std": [1, 1, 1]}',
        '{"mean": [0.5, 0.5, NaN], "std": [1, 1, 1]}',
        '{"mean": [0.5, 0.5, Infinity], "std": [1, 1, 1]}',
        '{"mean": [0.5, 0.5, 0.5], "std": [1, 1, 0]}',
        '{"mean": [0.5, 0.5, 0.5], "std": [1, 1, -1]}',
        '{"mean": [0.5, 0.5, 0.5], "std": [1, 1, 1e-300]}',
        '{"mean": [0.5, 0.5, 0.5], "std": [1, 1, Infinity]}',
        '{"mean": [0.5, 0.5], "std": [1, 1, 1]}',
        '{"mean": [0.5, 0.5, 1' + "0" * 400 + '], "std": [1, 1, 1]}',
        "[" * 100_000,
        '{"columns": []}',
    ],
    ids=range(19),
)
def test_a_damaged_normalisation_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="saved normalisation of images is damaged"):
        Normalize.from_json(text)


def test_every_bit_of_the_moments_is_saved() -> None:
    images = pixels(50, 3, 7, 7)
    normalize = Normalize(*measure(images))
    again = Normalize.from_json(normalize.to_json())
    assert (again.mean, again.std) == (normalize.mean, normalize.std)
    assert torch.equal(again(images), normalize(images))


@pytest.mark.parametrize(("keys", "told"), [({"mean": [123.7, 0.5]}, "[0.485,0.00196]"), ({"std": [58.4]}, "[0.229]")])
def test_numbers_from_0_to_255_are_refused_with_what_they_are_from_0_to_1(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"data.{next(iter(keys))}={told}")):
        SyntheticImages(**keys)
    assert Tensors(path="x.npz", **keys), "features may be of any size"
