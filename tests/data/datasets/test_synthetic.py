"""Data drawn from the seed: what it holds, and that the seed alone decides it."""

import pytest
import torch
from torch import Tensor

from trainer.config.data import Synthetic, SyntheticImages
from trainer.data.loaders.selection import make_loaders
from trainer.data.types import Data
from trainer.errors import ConfigError, TrainerError
from trainer.runs.build import build_data


def whole(data: Data) -> tuple[Tensor, Tensor]:
    """Training and validation samples together."""
    return torch.cat([data.train.inputs, data.val.inputs]), torch.cat([data.train.targets, data.val.targets])


def assert_equal(data: Data, other: Data) -> None:
    for part, twin in ((data.train, other.train), (data.val, other.val)):
        assert torch.equal(part.inputs, twin.inputs)
        assert torch.equal(part.targets, twin.targets)


def test_the_class_says_whether_the_features_sum_to_more_than_zero() -> None:
    inputs, targets = whole(build_data(Synthetic(num_samples=500, num_features=7), 0))
    assert torch.equal(targets, (inputs.sum(1) > 0).long())
    assert 0 < targets.sum() < 500


def test_features_are_standard_normal() -> None:
    inputs, _ = whole(build_data(Synthetic(num_samples=20_000, num_features=5), 0))
    assert inputs.mean().abs() < 5 / 100_000**0.5
    assert inputs.var().item() == pytest.approx(1, abs=5 * (2 / 100_000) ** 0.5)
    assert (inputs**4).mean().item() == pytest.approx(3, abs=0.2)


def test_synthetic_has_the_sizes_of_its_config() -> None:
    data = build_data(Synthetic(num_samples=50, num_features=7, val_fraction=0.3), 0)
    assert (len(data.train), len(data.val)) == (35, 15)
    assert (data.spec.input_shape, data.spec.outputs, data.spec.labels) == ((7,), 2, ("sum <= 0", "sum > 0"))


def test_images_are_bytes_of_the_shape_of_their_config() -> None:
    data = build_data(SyntheticImages(num_samples=50, num_classes=3, image_size=12, channels=1, val_fraction=0.3), 0)
    assert data.train.inputs.shape == (35, 1, 12, 12)
    assert data.train.inputs.dtype == torch.uint8
    assert (len(data.val), data.spec.input_shape, data.spec.outputs) == (15, (1, 12, 12), 3)
    assert data.spec.labels == ("0", "1", "2")


def test_images_without_noise_are_the_template_of_their_class() -> None:
    images, targets = whole(build_data(SyntheticImages(num_samples=60, num_classes=3, image_size=8, noise=0), 0))
    templates = [images[targets == c].unique(dim=0) for c in range(3)]
    assert [len(template) for template in templates] == [1, 1, 1]
    assert len(torch.cat(templates).unique(dim=0)) == 3


def test_noise_has_the_deviation_of_the_config() -> None:
    clean = build_data(SyntheticImages(num_samples=400, num_classes=2, image_size=16, noise=0), 0).train
    noisy = build_data(SyntheticImages(num_samples=400, num_classes=2, image_size=16, noise=0.05), 0).train
    ours = noisy.inputs[noisy.targets == 0].double() / 255
    template = clean.inputs[clean.targets == 0][0].double() / 255
    inner = (template > 0.3) & (template < 0.7)  # where nothing is cut off at black or white
    assert (ours - template)[:, inner].std().item() == pytest.approx(0.05, rel=0.05)


def test_images_past_the_first_thousand_are_made_too() -> None:
    images, targets = whole(build_data(SyntheticImages(num_samples=1100, num_classes=2, image_size=4, noise=0), 0))
    assert len(images[targets == 0].unique(dim=0)) == 1


@pytest.mark.parametrize("config", [Synthetic(num_samples=40), SyntheticImages(num_samples=40, image_size=8)])
def test_the_seed_alone_decides(config: Synthetic | SyntheticImages) -> None:
    before = torch.get_rng_state()
    first = build_data(config, 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert_equal(build_data(config, 3), first)
    assert not torch.equal(build_data(config, 4).train.inputs, first.train.inputs)


def test_features_without_a_share_to_validate_on_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"data\.val_fraction=0"):
        build_data(Synthetic(val_fraction=0.0), 0)


def test_images_without_a_share_to_validate_on_are_an_error_before_the_first_step() -> None:
    def load() -> object:
        data = build_data(SyntheticImages(num_samples=20, image_size=8, val_fraction=0.0), 0)
        return make_loaders(data, batch_size=4, eval_batch_size=4, drop_last=False, seed=0, device=torch.device("cpu"))

    with pytest.raises(TrainerError, match=r"data\.val_fraction"):
        load()
