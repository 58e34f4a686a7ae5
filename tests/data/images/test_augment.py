"""The augmentation that a config asks for: what is drawn, in which order, and what it does to a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as oracle

from trainer.config.data import Digits, ImageDataConfig, SyntheticImages
from trainer.config.section import key
from trainer.data.images import augment as module
from trainer.data.images.augment import STAGES, Crop, Cutout, Jitter, Pipeline, Stage, Warp, augment_from, cut_out
from trainer.data.images.geometry import flip_rotate
from trainer.data.images.normalize import Normalize
from trainer.data.images.randaugment import RandAugment
from trainer.data.types import Augment, BatchContext
from trainer.errors import ConfigError
from trainer.runs.build import build_data
from trainer.system import seeds

MEAN = [0.2, 0.4, 0.6]
EVERYTHING: dict[str, Any] = {
    "flip": "alternating", "rotation": 15, "rotation_mode": "bilinear", "shift": 2, "crop_scale": 0.5,
    "randaugment": 2, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "cutout": 3,
}  # fmt: skip


def context(seed: int = 0, step: int = 0, epoch: int = 0, batch: int = 16) -> BatchContext:
    return BatchContext(seed, step, epoch, torch.arange(batch))


def pixels(*shape: int) -> Tensor:
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def built(shape: tuple[int, ...] = (3, 8, 8), **keys: Any) -> Augment | None:
    config = SyntheticImages(**{"augment": True, "flip": "none", "rotation": 0} | keys)
    return augment_from(config, shape, Normalize(MEAN[: shape[0]], [0.25] * shape[0]))


def varied(images: Tensor, at: BatchContext, **keys: Any) -> Tensor:
    augment = built(tuple(images.shape[1:]), **keys)
    assert augment is not None
    return augment(images, at)


def test_augmentation_is_off_where_the_config_says_so() -> None:
    assert built(augment=False, **EVERYTHING) is None
    assert built() is None
    assert build_data(Digits(), 0).augment is None


def test_flips_and_turns_are_the_default_and_their_draws_are_these() -> None:
    """Pinned: the runs of earlier versions resume to the same images."""
    images = pixels(16, 3, 8, 8)
    generator = seeds.generator(5, seeds.AUGMENT, 7)
    mirrored = torch.rand(16, generator=generator) < 0.5
    degrees = (torch.rand(16, generator=generator) * 2 - 1) * 10
    augment = augment_from(SyntheticImages(augment=True), (3, 8, 8), Normalize(MEAN, [0.25] * 3))
    assert augment is not None
    assert torch.equal(augment(images, context(5, 7)), flip_rotate(images, mirrored, degrees))


def test_the_stages_stand_in_their_order() -> None:
    augment = built(**EVERYTHING)
    assert isinstance(augment, Pipeline)
    assert [type(stage) for stage in augment.stages] == [Warp, Crop, RandAugment, Jitter, Cutout]
    assert augment.stages[0] == Warp("alternating", 15, True, 2, True)
    assert augment.stages[3] == Jitter(0.4, 0.4, 0.4, 0.1)


@dataclass
class Invertible(SyntheticImages):
    invert: float = key(0.0, "with augment: the probability to invert an image", at_least=0, at_most=1)


def invert_from(config: ImageDataConfig, shape: Sequence[int], normalize: Normalize) -> Stage | None:
    if not isinstance(config, Invertible) or not config.invert:
        return None

    def invert(images: Tensor, context: BatchContext, generator: torch.Generator) -> Tensor:
        chosen = torch.rand(len(images), generator=generator) < config.invert
        return torch.where(chosen[:, None, None, None], 255 - images, images)

    return invert


def test_an_operation_is_a_key_a_function_and_a_place_in_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STAGES", (*STAGES, invert_from))
    normalize, images = Normalize(MEAN, [0.25] * 3), pixels(64, 3, 8, 8)
    plain, inverting = (
        augment_from(Invertible(augment=True, invert=share), (3, 8, 8), normalize) for share in (0.0, 0.5)
    )
    assert plain is not None and inverting is not None and len(inverting.stages) == len(plain.stages) + 1
    before, after = plain(images, context(5)), inverting(images, context(5))
    inverted = (after != before).flatten(1).any(1)
    assert 16 < inverted.sum() < 48
    assert torch.equal(torch.where(inverted[:, None, None, None], 255 - before, before), after), (
        "the others' draws stay"
    )


@pytest.mark.parametrize(("typed", "meant"), [(True, "random"), (False, "none"), ("True", "random"), ("none", "none")])
def test_a_flip_may_be_typed_as_true_or_false(typed: Any, meant: str) -> None:
    assert SyntheticImages(flip=typed).flip == meant


@pytest.mark.parametrize("name", EVERYTHING)
def test_each_is_a_function_of_the_seed_and_the_step_and_leaves_its_input_alone(name: str) -> None:
    keys = {"rotation": 15} if name == "rotation_mode" else {}
    keys |= {name: EVERYTHING[name]}
    images = pixels(16, 3, 8, 8)
    copy, before = images.clone(), torch.get_rng_state()
    first = varied(images, context(7, 3), **keys)
    assert (first.shape, first.dtype) == (images.shape, torch.uint8)
    assert not torch.equal(first, images)
    assert torch.equal(varied(images, context(7, 3), **keys), first)
    assert not torch.equal(varied(images, context(8, 3), **keys), first)
    if name != "flip":
        assert not torch.equal(varied(images, context(7, 4), **keys), first)
    assert torch.equal(images, copy)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("channels", [1, 3])
def test_all_of_it_together_keeps_shape_and_dtype(channels: int) -> None:
    keys = EVERYTHING if channels == 3 else EVERYTHING | {"saturation": 0, "hue": 0}
    images = pixels(16, channels, 9, 7)
    after = varied(images, context(), **keys)
    assert (after.shape, after.dtype) == (images.shape, torch.uint8)


def measured_angles(degrees: float, batch: int) -> Tensor:
    """The angle of each sample of a batch, read off images whose two channels are their own coordinates."""
    side = 101
    y, x = torch.meshgrid(torch.arange(side) - 50.0, torch.arange(side) - 50.0, indexing="ij")
    images = torch.stack([x, y]).expand(batch, -1, -1, -1)
    source_x, source_y = Pipeline([Warp("none", degrees)])(images, context())[:, :, 50, 95].T  # 45 right of the centre
    return torch.atan2(source_y, source_x).rad2deg()


def test_each_sample_has_its_own_angle_uniform_in_the_range() -> None:
    found = measured_angles(degrees=20, batch=1000)
    assert found.abs().max() < 20 + 1, "read to about a degree"
    assert found.min() < -18
    assert found.max() > 18
    assert len(found.unique()) > 20
    assert found.mean().abs() < 5 * 20 / 3**0.5 / 1000**0.5
    assert found.std().item() == pytest.approx(20 / 3**0.5, rel=0.1)


def mirrored(batch: int, at: BatchContext, flip: str) -> Tensor:
    images = torch.tensor([1, 2], dtype=torch.uint8).view(1, 1, 1, 2).expand(batch, -1, -1, -1)
    return varied(images, at, flip=flip)[:, 0, 0, 0] == 2


@pytest.mark.parametrize("flip", ["random", "alternating"])
def test_about_half_of_the_samples_are_mirrored(flip: str) -> None:
    assert abs(mirrored(1000, context(batch=1000), flip).sum().item() - 500) < 5 * 250**0.5


def test_alternating_flips_show_each_image_both_ways_in_every_two_epochs() -> None:
    first, second, third = (mirrored(100, context(3, 50 * epoch, epoch, 100), "alternating") for epoch in range(3))
    assert torch.equal(first, ~second)
    assert torch.equal(first, third)
    shuffled = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mirrored(100, BatchContext(3, 9, 0, shuffled), "alternating"), first[shuffled]), (
        "of the image, not the row"
    )
    assert not torch.equal(mirrored(100, context(4, 0, 0, 100), "alternating"), first), "of the seed"


def test_shifts_are_uniform_over_both_axes() -> None:
    images = torch.arange(49, dtype=torch.uint8).view(1, 1, 7, 7).expand(5000, -1, -1, -1)
    middle = varied(images, context(batch=5000), shift=2)[:, 0, 3, 3].long()
    counts = torch.bincount((middle // 7 - 1) * 5 + middle % 7 - 1, minlength=25)
    assert (counts - 200).abs().max() < 5 * 200**0.5


def test_crops_keep_at_least_the_given_area_and_lie_anywhere() -> None:
    boxes = Crop(0.25).boxes(4000, 40, 32, torch.Generator().manual_seed(0))
    top, left, rows, columns = boxes.double().unbind(1)
    share, ratio = rows * columns / (40 * 32), columns / rows
    assert 0.25 * 0.95 < share.min() < 0.28 and share.max() == 1
    assert 0.7 < ratio.min() < 0.77 and 1.3 < ratio.max() < 1.45
    assert (top >= 0).all() and (left >= 0).all() and (top + rows <= 40).all() and (left + columns <= 32).all()
    assert (top == 0).any() and (top + rows == 40).any() and (left + columns == 32).any()
    assert ((left * 2 + columns) / 2).mean().item() == pytest.approx(16, abs=0.4)


def test_cutout_equals_torchvisions_erase() -> None:
    images, side = pixels(30, 3, 9, 12), 5
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randint(-2, 10, (30,), generator=draw), torch.randint(-2, 7, (30,), generator=draw)
    fill = torch.tensor([51, 102, 153], dtype=torch.uint8)
    ours = cut_out(images, torch.stack([x, y, x + side, y + side], dim=1), fill)
    for i, (left, top) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        i0, j0 = max(top, 0), max(left, 0)
        theirs = oracle.erase(images[i], i0, j0, top + side - i0, left + side - j0, fill[:, None, None])
        assert torch.equal(ours[i], theirs)


def test_cutout_blots_out_a_square_of_the_mean_colour_anywhere() -> None:
    images = torch.full((2000, 3, 8, 8), 255, dtype=torch.uint8)
    after = varied(images, context(), cutout=4)
    blotted = (after != 255).all(1)
    assert after[blotted.unsqueeze(1).expand_as(after)].view(-1).unique().tolist() == [51, 102, 153]
    counts = blotted.sum((1, 2))
    assert counts.max() == 16 and counts.min() == 4, "cut off at the edges"
    assert blotted.any(0).all()


def test_jitter_draws_uniform_factors() -> None:
    images = torch.full((4000, 3, 2, 2), 100, dtype=torch.uint8)
    factor = varied(images, context(), brightness=0.5)[:, 0, 0, 0].double() / 100
    assert (factor.min(), factor.max()) == (pytest.approx(0.5, abs=0.01), pytest.approx(1.5, abs=0.01))
    assert factor.mean().item() == pytest.approx(1, abs=5 * (1 / 12 / 4000) ** 0.5)
    dark = varied(images, context(), brightness=2.0)[:, 0, 0, 0]
    assert dark.double().mean().item() == pytest.approx(146.6, abs=3), "factors of 0 to 3"


@pytest.mark.parametrize("name", ["saturation", "hue"])
def test_changes_of_colour_need_colours(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{name}=0.1: needs images in colour; these have 1 channel"):
        built((1, 8, 8), **{name: 0.1})


def test_a_reflected_shift_must_be_shorter_than_the_side() -> None:
    with pytest.raises(ConfigError, match=r"data\.shift=8: must be less than .*8×9.*data.shift_padding=zero"):
        built((3, 8, 9), shift=8)
    images = pixels(64, 3, 8, 8)
    assert (varied(images, context(), shift=9, shift_padding="zero").flatten(1).amax(1) == 0).any()
