"""Splits: disjoint, complete, seeded, in the proportions of the classes; and random parts of a split."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset, TensorDataset

from trainer.config.data import Synthetic
from trainer.data.splits import fold_index, from_tensors, limit, split_index
from trainer.data.types import Split
from trainer.errors import ConfigError, DataError

FRACTIONS = st.floats(0.05, 0.5)
SEEDS = st.integers(0, 2**40)
ALIKE = st.lists(st.integers(2, 40), min_size=1, max_size=15)
ONE_LARGE = st.builds(
    lambda large, small: [large, *small], st.integers(50, 200), st.lists(st.integers(2, 4), max_size=20)
)
CLASS_SIZES = ALIKE | ONE_LARGE


def targets_of(sizes: list[int], seed: int = 0) -> torch.Tensor:
    """Class c occurs sizes[c] times, in a random order."""
    targets = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))]


def counts(targets: torch.Tensor, classes: int) -> list[int]:
    return torch.bincount(targets, minlength=classes).tolist()


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 200), st.floats(0.01, 0.6), SEEDS, st.booleans())
def test_every_sample_is_in_exactly_one_part(samples: int, fraction: float, seed: int, classes: bool) -> None:
    targets = torch.arange(samples) % 2 if classes else torch.rand(samples, 1)
    train, val = split_index(targets, fraction, seed)
    assert sorted(train.tolist() + val.tolist()) == list(range(samples))
    assert len(val) == max(1, round(samples * fraction))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 100), FRACTIONS, SEEDS)
def test_each_part_is_sorted(samples: int, fraction: float, seed: int) -> None:
    for part in split_index(torch.zeros(samples, dtype=torch.int64), fraction, seed):
        assert part.tolist() == sorted(part.tolist())


@settings(max_examples=50, deadline=None)
@given(CLASS_SIZES, FRACTIONS, SEEDS)
def test_each_class_gives_its_share_to_within_one_sample(sizes: list[int], fraction: float, seed: int) -> None:
    targets = targets_of(sizes)
    _, val = split_index(targets, fraction, seed)
    for held_out, size in zip(counts(targets[val], len(sizes)), sizes, strict=True):
        assert abs(held_out - size * len(val) / len(targets)) <= 1


def test_a_large_class_does_not_give_for_the_small_ones() -> None:
    targets = targets_of([1000] + [2] * 100)
    _, val = split_index(targets, 0.2, seed=0)
    assert len(val) == 240
    assert (targets[val] == 0).sum() == 200


@settings(max_examples=50, deadline=None)
@given(CLASS_SIZES, st.integers(1, 10), FRACTIONS, SEEDS)
def test_classes_of_one_sample_stay_in_training(sizes: list[int], singles: int, fraction: float, seed: int) -> None:
    singles = min(singles, len(sizes))
    targets = targets_of([1] * singles + sizes)
    _, val = split_index(targets, fraction, seed)
    assert counts(targets[val], singles + len(sizes))[:singles] == [0] * singles


@settings(max_examples=50, deadline=None)
@given(st.integers(20, 100), SEEDS)
def test_the_seed_decides(samples: int, seed: int) -> None:
    targets = torch.arange(samples) % 2
    first, again = split_index(targets, 0.5, seed), split_index(targets, 0.5, seed)
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], split_index(targets, 0.5, seed + 1)[1])


def test_splitting_draws_nothing_from_the_default_generator() -> None:
    before = torch.get_rng_state()
    split_index(torch.arange(100) % 3, 0.2, seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_numbers_are_split_without_classes() -> None:
    train, val = split_index(torch.rand(10, 1), 0.3, seed=0)
    assert (len(train), len(val)) == (7, 3)


def test_fraction_zero_leaves_all_for_training() -> None:
    train, val = split_index(torch.arange(10) % 2, 0.0, seed=0)
    assert train.tolist() == list(range(10))
    assert val.tolist() == []


def test_a_fraction_that_leaves_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(DataError, match=r"data\.val_fraction=0\.9 of 3 samples leaves none"):
        split_index(torch.tensor([0, 1, 0]), 0.9, seed=0)


def test_a_single_sample_cannot_be_split() -> None:
    with pytest.raises(DataError, match="of 1 sample leaves"):
        split_index(torch.tensor([0]), 0.2, seed=0)


@settings(max_examples=50, deadline=None)
@given(CLASS_SIZES, st.integers(2, 7), SEEDS)
def test_folds_are_disjoint_complete_and_even(sizes: list[int], folds: int, seed: int) -> None:
    targets = targets_of(sizes)
    folds = min(folds, len(targets))
    parts = [fold_index(targets, folds, fold, seed) for fold in range(folds)]
    assert sorted(i for _, val in parts for i in val.tolist()) == list(range(len(targets)))
    for train, val in parts:
        assert sorted(train.tolist() + val.tolist()) == list(range(len(targets)))
    for per_class in zip(*(counts(targets[val], len(sizes)) for _, val in parts), strict=True):
        assert max(per_class) - min(per_class) <= 1
    lengths = [len(val) for _, val in parts]
    assert max(lengths) - min(lengths) <= 1


def test_folds_of_numbers_are_drawn_with_the_seed() -> None:
    targets = torch.rand(40, 1)
    assert torch.equal(fold_index(targets, 4, 1, seed=0)[1], fold_index(targets, 4, 1, seed=0)[1])
    assert not torch.equal(fold_index(targets, 4, 1, seed=0)[1], fold_index(targets, 4, 1, seed=1)[1])


def test_more_folds_than_samples_are_an_error() -> None:
    with pytest.raises(DataError, match=r"data\.folds=4: there are only 3 samples"):
        fold_index(torch.arange(3), 4, 0, seed=0)


GROUP_SIZES = st.lists(st.integers(1, 30), min_size=2, max_size=20)


@settings(max_examples=50, deadline=None)
@given(GROUP_SIZES, FRACTIONS, SEEDS)
def test_a_group_is_never_on_both_sides(sizes: list[int], fraction: float, seed: int) -> None:
    groups = targets_of(sizes)
    if len(groups) < 3:
        return
    targets = torch.arange(len(groups)) % 2
    train, val = split_index(targets, fraction, seed, groups)
    assert len(train) and len(val)
    assert sorted(train.tolist() + val.tolist()) == list(range(len(groups)))
    assert not set(groups[train].tolist()) & set(groups[val].tolist())
    assert abs(len(val) - len(groups) * fraction) <= max(sizes)


@settings(max_examples=50, deadline=None)
@given(GROUP_SIZES, st.integers(2, 5), SEEDS)
def test_folds_of_groups_keep_each_group_whole(sizes: list[int], folds: int, seed: int) -> None:
    groups = targets_of(sizes)
    folds = min(folds, len(sizes))
    parts = [fold_index(torch.zeros(len(groups)), folds, fold, seed, groups)[1] for fold in range(folds)]
    assert sorted(i for val in parts for i in val.tolist()) == list(range(len(groups)))
    where = [{part for part, val in enumerate(parts) if group in groups[val]} for group in range(len(sizes))]
    assert all(len(parts) == 1 for parts in where)
    assert max(map(len, parts)) - min(map(len, parts)) <= max(sizes)


def test_what_cannot_be_split_by_groups_is_an_error() -> None:
    one = torch.zeros(10, dtype=torch.int64)
    with pytest.raises(DataError, match=r"data\.group: all samples are of one group"):
        split_index(torch.rand(10, 1), 0.2, 0, one)
    with pytest.raises(DataError, match=r"data\.folds=3: there are only 2 groups"):
        fold_index(torch.rand(10, 1), 3, 0, 0, torch.arange(10) % 2)


@pytest.mark.parametrize("keys", [{"fold": 1}, {"folds": 3, "fold": 3}])
def test_a_fold_that_there_is_not_is_refused(keys: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=rf"data\.fold={keys['fold']}: .*data\.folds"):
        Synthetic(**keys)


def test_data_of_each_fold_validates_on_its_part() -> None:
    inputs = torch.arange(20.0).view(20, 1)
    labels = ("even", "odd")
    parts = [
        from_tensors(inputs, torch.arange(20) % 2, labels, config=Synthetic(folds=4, fold=fold), seed=0).val.inputs
        for fold in range(4)
    ]
    assert torch.cat(parts)[:, 0].sort().values.tolist() == list(range(20))


def test_data_from_tensors_holds_every_sample_with_its_target() -> None:
    inputs = torch.arange(20.0).view(20, 1)
    data = from_tensors(
        inputs, (torch.arange(20) >= 10).long(), ("low", "high"), config=Synthetic(val_fraction=0.2), seed=3
    )
    for part in (data.train, data.val):
        assert torch.equal(part.targets, (part.inputs[:, 0] >= 10).long())
    assert (len(data.train), len(data.val)) == (16, 4)
    assert (data.spec.input_shape, data.spec.outputs, data.spec.class_counts) == ((1,), 2, (8, 8))


def test_data_from_numbers_is_a_column_of_floats_with_its_moments() -> None:
    data = from_tensors(torch.zeros(10, 3), torch.arange(10), config=Synthetic(val_fraction=0.3))
    assert data.train.targets.dtype == torch.float32
    assert data.train.targets.shape == (7, 1)
    assert data.spec.labels is None
    assert data.spec.target_mean == pytest.approx((data.train.targets.double().mean().item(),))
    assert data.spec.target_std == pytest.approx((data.train.targets.double().numpy().std(),))


def test_data_from_tensors_needs_something_to_validate_on() -> None:
    with pytest.raises(ConfigError, match=r"data\.val_fraction=0"):
        from_tensors(torch.zeros(10, 3), torch.arange(10) % 2, ("a", "b"), config=Synthetic(val_fraction=0.0))


def test_limit_keeps_distinct_samples_in_their_order() -> None:
    split = Split(torch.arange(50.0).view(50, 1), torch.arange(50))
    part = limit(split, 20, seed=1)
    assert len(part) == 20
    assert part.targets.tolist() == sorted(set(part.targets.tolist()))
    assert torch.equal(part.inputs[:, 0].long(), part.targets)


def test_limit_depends_on_the_seed_alone() -> None:
    split = Split(torch.zeros(50, 1), torch.arange(50))
    assert torch.equal(limit(split, 20, seed=1).targets, limit(split, 20, seed=1).targets)
    assert not torch.equal(limit(split, 20, seed=1).targets, limit(split, 20, seed=2).targets)


@pytest.mark.parametrize("samples", [50, 51, 10**9])
def test_limit_of_all_or_more_changes_nothing(samples: int) -> None:
    split = Split(torch.zeros(50, 1), torch.arange(50))
    assert limit(split, samples, seed=0) is split


def test_limit_takes_a_part_of_a_dataset_too() -> None:
    rows: Dataset[torch.Tensor] = TensorDataset(torch.arange(50))
    part = limit(Split(rows, torch.arange(50)), 7, seed=0)
    assert [part.inputs[i][0].item() for i in range(7)] == part.targets.tolist()
