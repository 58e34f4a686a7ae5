"""The digits that the package ships: all there, in range, and the published ones."""

import torch
from torch import Tensor

from trainer.config.data import Digits
from trainer.data.images.augment import Pipeline, Warp
from trainer.runs.build import build_data

# Of the test file of the UCI set, in the order of the digits.
CLASS_COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
# The first image of the file, a zero, in sixteenths.
FIRST_ROWS = [[0, 0, 5, 13, 9, 1, 0, 0], [0, 0, 13, 15, 10, 15, 5, 0]]


def all_images(seed: int = 0) -> tuple[Tensor, Tensor]:
    data = build_data(Digits(), seed)
    return torch.cat([data.train.inputs, data.val.inputs]), torch.cat([data.train.targets, data.val.targets])


def test_there_are_1797_images_of_8_by_8() -> None:
    images, targets = all_images()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == torch.uint8
    assert targets.shape == (1797,)
    assert targets.dtype == torch.int64


def test_each_digit_occurs_as_often_as_published() -> None:
    assert torch.bincount(all_images()[1]).tolist() == CLASS_COUNTS


def test_pixels_are_sixteenths_from_black_to_white() -> None:
    images, _ = all_images()
    assert set(images.unique().tolist()) == {sixteenth * 255 // 16 for sixteenth in range(17)}


def test_the_first_image_of_the_file_is_among_the_zeros() -> None:
    images, targets = all_images()
    rows = torch.tensor([[sixteenth * 255 // 16 for sixteenth in row] for row in FIRST_ROWS])
    assert (images[targets == 0, 0, :2] == rows).flatten(1).all(1).sum() == 1


def test_the_spec_names_ten_classes() -> None:
    data = build_data(Digits(), 0)
    assert (data.spec.input_shape, data.spec.outputs, data.spec.labels) == ((1, 8, 8), 10, tuple("0123456789"))
    assert data.spec.class_counts == tuple(torch.bincount(data.train.targets).tolist())


def test_a_fifth_is_held_out_and_stratified() -> None:
    data = build_data(Digits(), 0)
    assert len(data.val) == round(1797 * 0.2)
    for held_out, count in zip(torch.bincount(data.val.targets).tolist(), CLASS_COUNTS, strict=True):
        assert abs(held_out - 0.2 * count) <= 1


def test_another_seed_holds_out_others() -> None:
    assert not torch.equal(build_data(Digits(), 0).val.inputs, build_data(Digits(), 1).val.inputs)


def test_inputs_are_normalised_as_measured_in_training() -> None:
    data = build_data(Digits(), 0)
    seen = data.prepare(data.train.inputs).double()
    assert seen.mean().abs() < 1e-5
    assert (seen.std(correction=0) - 1).abs() < 1e-5


def test_augmented_digits_are_turned_but_not_mirrored() -> None:
    augment = build_data(Digits(augment=True), 0).augment
    assert isinstance(augment, Pipeline)
    assert augment.stages == (Warp("none", 10),)
