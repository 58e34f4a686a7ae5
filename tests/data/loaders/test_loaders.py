"""Loaders: what is in which batch, resuming at any step, resident against streaming, exact evaluation."""

import dataclasses
from itertools import chain, islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import Dataset

from trainer.data.images.augment import Pipeline, Warp
from trainer.data.images.normalize import Normalize
from trainer.data.loaders.collate import Collate
from trainer.data.loaders.protocols import EvalLoader, TrainLoader
from trainer.data.loaders.resident import BLOCK_BYTES, ResidentEvalLoader, ResidentLoader
from trainer.data.loaders.sampler import Sampler
from trainer.data.loaders.selection import make_loaders
from trainer.data.loaders.workers import WorkerEvalLoader, WorkerLoader
from trainer.data.types import Batch, Data, DataSpec, Split, as_float
from trainer.errors import ConfigError, DataError

CPU = torch.device("cpu")
SAMPLES, BATCH = 22, 4  # six steps an epoch, the last of two samples


class Rows(Dataset[Tensor]):
    """The rows of a tensor one by one, as a dataset of files gives them."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return self.rows[index]


def images(samples: int = SAMPLES) -> Tensor:
    return torch.randint(0, 256, (samples, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def image_loader(workers: int | None, sampler: Sampler) -> TrainLoader:
    """Augmented and normalised images: resident, or streamed by so many workers."""
    split = Split(images(sampler.samples), torch.arange(sampler.samples))
    normalize, augment = Normalize([0.5] * 3, [0.25] * 3), Pipeline([Warp("random", 30)])
    if workers is None:
        return ResidentLoader(split, Collate(sampler, normalize, augment), CPU)
    split = dataclasses.replace(split, inputs=Rows(split.inputs))
    return WorkerLoader(split, Collate(sampler, normalize, augment), CPU, workers)


def take(loader: TrainLoader, start: int, batches: int) -> list[Batch]:
    return list(islice(loader.stream(start), batches))


def assert_same(batches: list[Batch], expected: list[Batch]) -> None:
    for batch, other in zip(batches, expected, strict=True):
        assert torch.equal(batch.inputs, other.inputs)
        assert torch.equal(batch.targets, other.targets)
        assert batch.weights is None
        assert other.weights is None


def epoch_of(sampler: Sampler, epoch: int) -> list[list[int]]:
    """The sample numbers in each batch of an epoch, as a loader gives them."""
    numbers = torch.arange(sampler.samples)
    loader = ResidentLoader(Split(numbers.float().unsqueeze(1), numbers), Collate(sampler, as_float), CPU)
    return [batch.targets.tolist() for batch in take(loader, epoch * sampler.steps_per_epoch, sampler.steps_per_epoch)]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 2**63), st.integers(0, 10))
def test_every_sample_comes_exactly_once_in_an_epoch(samples: int, size: int, seed: int, epoch: int) -> None:
    batches = epoch_of(Sampler(samples, size, drop_last=False, seed=seed), epoch)
    assert sorted(chain.from_iterable(batches)) == list(range(samples))
    assert all(len(batch) == size for batch in batches[:-1])
    assert len(batches) == -(-samples // size)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**63), st.integers(0, 10))
def test_drop_last_leaves_only_full_batches(samples: int, size: int, seed: int, epoch: int) -> None:
    size = min(samples, size)
    batches = epoch_of(Sampler(samples, size, drop_last=True, seed=seed), epoch)
    assert [len(batch) for batch in batches] == [size] * (samples // size)
    assert len(set(chain.from_iterable(batches))) == samples // size * size


def test_each_epoch_has_another_order() -> None:
    sampler = Sampler(30, 30, drop_last=False, seed=0)
    assert len({tuple(epoch_of(sampler, epoch)[0]) for epoch in range(20)}) == 20


def test_drop_last_leaves_out_other_samples_in_each_epoch() -> None:
    sampler = Sampler(31, 30, drop_last=True, seed=0)
    left_out = [set(range(31)) - set(epoch_of(sampler, epoch)[0]) for epoch in range(10)]
    assert len(set(map(tuple, left_out))) > 3


def test_another_seed_is_another_order() -> None:
    assert epoch_of(Sampler(30, 30, False, seed=0), 0) != epoch_of(Sampler(30, 30, False, seed=1), 0)


def test_a_batch_larger_than_the_data_is_an_error_where_it_would_be_dropped() -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size=8 is more than the 7 training samples"):
        Sampler(7, 8, drop_last=True, seed=0)


def test_a_batch_larger_than_the_data_is_the_data() -> None:
    assert [len(batch) for batch in epoch_of(Sampler(7, 8, drop_last=False, seed=0), 0)] == [7]


def test_balanced_draws_give_each_class_and_each_sample_of_it_the_same_chance() -> None:
    classes = torch.cat([torch.zeros(9000), torch.full((900,), 2), torch.full((100,), 3)]).long()  # there is no class 1
    drawn = Sampler(10_000, 100, False, seed=0, classes=classes).permutation(0)
    counts = torch.bincount(classes[drawn], minlength=4).tolist()
    assert counts[1] == 0
    for count in (counts[0], counts[2], counts[3]):
        assert abs(count - 10_000 / 3) < 5 * (10_000 * 2 / 9) ** 0.5  # five deviations of a binomial
    rare = torch.bincount(drawn, minlength=10_000)[9900:]
    assert rare.min() > 5
    assert rare.max() < 80


def test_balanced_draws_are_a_function_of_the_seed_and_the_epoch() -> None:
    classes = torch.arange(60) % 3

    def drawn(seed: int, epoch: int) -> list[int]:
        return Sampler(60, 7, False, seed=seed, classes=classes).permutation(epoch).tolist()

    assert drawn(0, 1) == drawn(0, 1)
    assert drawn(0, 1) != drawn(0, 2)
    assert drawn(0, 1) != drawn(1, 1)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("start", [0, 1, 5, 6, 7, 13])
def test_a_resident_stream_starts_at_any_step(start: int, drop_last: bool) -> None:
    loader = image_loader(None, Sampler(SAMPLES, BATCH, drop_last, seed=3))
    assert_same(take(loader, start, 14), take(loader, 0, start + 14)[start:])


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("start", [4, 13])
def test_a_streaming_stream_starts_at_any_step(start: int, workers: int) -> None:
    loader = image_loader(workers, Sampler(SAMPLES, BATCH, drop_last=False, seed=3))
    assert_same(take(loader, start, 14), take(loader, 0, start + 14)[start:])


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_streaming_and_resident_give_the_same_batches(workers: int, drop_last: bool) -> None:
    sampler = Sampler(SAMPLES, BATCH, drop_last, seed=3)
    assert_same(take(image_loader(workers, sampler), 2, 15), take(image_loader(None, sampler), 2, 15))


def test_augmentation_differs_from_epoch_to_epoch() -> None:
    sampler = Sampler(1, 1, drop_last=False, seed=0)
    first, second = take(image_loader(None, sampler), 0, 2)
    assert not torch.equal(first.inputs, second.inputs)


@pytest.mark.parametrize("width", [1, 1000, 11_000])
@pytest.mark.parametrize("size", [3, 64])
@pytest.mark.parametrize("drop_last", [False, True])
def test_gathering_many_batches_at_once_is_invisible(width: int, size: int, drop_last: bool) -> None:
    inputs, targets = torch.rand(130, width), torch.arange(130)
    sampler = Sampler(130, size, drop_last, seed=1)
    loader = ResidentLoader(Split(inputs, targets), Collate(sampler, as_float), CPU)
    for step, batch in enumerate(take(loader, 0, sampler.steps_per_epoch + 5)):
        epoch, offset = divmod(step, sampler.steps_per_epoch)
        index = sampler.permutation(epoch)[offset * size : (offset + 1) * size]
        assert torch.equal(batch.inputs, inputs[index])
        assert torch.equal(batch.targets, targets[index])


def test_blocks_of_several_batches_were_covered() -> None:
    assert BLOCK_BYTES > 2 * 64 * (1 * 4 + 8), "narrow rows: many batches to a block"
    assert BLOCK_BYTES < 2 * 3 * 11_000 * 4, "wide rows: one batch to a block"


@pytest.mark.parametrize("workers", [None, 0, 2])
def test_loading_draws_nothing_from_the_default_generator(workers: int | None) -> None:
    loader = image_loader(workers, Sampler(SAMPLES, BATCH, drop_last=False, seed=3))
    before = torch.get_rng_state()
    take(loader, 0, 8)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluating_draws_nothing_from_the_default_generator(workers: int) -> None:
    loader = WorkerEvalLoader(Split(Rows(images()), torch.arange(SAMPLES)), 8, as_float, CPU, workers)
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(before, torch.get_rng_state())


def evaluation(samples: int, size: int, workers: int | None) -> EvalLoader:
    inputs, targets = torch.arange(1.0, samples + 1).unsqueeze(1), torch.arange(samples)
    if workers is None:
        return ResidentEvalLoader(Split(inputs, targets), size, as_float, CPU)
    return WorkerEvalLoader(Split(Rows(inputs), targets), size, as_float, CPU, workers)


def assert_exact(loader: EvalLoader, samples: int, size: int) -> None:
    """One shape, every sample once and in order with weight 1, everything else of weight 0."""
    batches = list(loader)
    assert {len(b.inputs) for b in batches} == {len(b.targets) for b in batches} == {min(size, samples)}
    assert len(batches) == -(-samples // min(size, samples))
    weights = torch.cat([b.weights for b in batches])
    assert weights.sum() == samples == loader.samples
    assert set(weights.tolist()) <= {0.0, 1.0}
    counted = weights == 1
    assert torch.cat([b.targets for b in batches])[counted].tolist() == list(range(samples))
    assert torch.cat([b.inputs for b in batches])[counted, 0].tolist() == list(range(1, samples + 1))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 50), st.integers(1, 60))
def test_resident_evaluation_counts_each_sample_once_in_order(samples: int, size: int) -> None:
    assert_exact(evaluation(samples, size, workers=None), samples, size)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(("samples", "size"), [(10, 4), (8, 4), (3, 4), (1, 1)])
def test_streaming_evaluation_counts_each_sample_once_in_order(samples: int, size: int, workers: int) -> None:
    loader = evaluation(samples, size, workers)
    assert_exact(loader, samples, size)
    assert_exact(loader, samples, size)


def test_padding_rows_are_samples_so_that_nothing_overflows() -> None:
    last = list(evaluation(10, 4, workers=None))[-1]
    assert last.weights.tolist() == [1, 1, 0, 0]
    assert last.inputs[:, 0].tolist() == [9, 10, 9, 9]
    assert last.targets.tolist() == [8, 9, 8, 8]


def test_padding_keeps_the_shape_of_images_and_of_numbers() -> None:
    split = Split(images(5), torch.rand(5, 2))
    shapes = {(b.inputs.shape, b.targets.shape) for b in ResidentEvalLoader(split, 3, as_float, CPU)}
    assert shapes == {((3, 3, 8, 8), (3, 2))}


def test_evaluation_prepares_and_does_not_augment() -> None:
    split, normalize = Split(images(6), torch.arange(6)), Normalize([0.5] * 3, [0.25] * 3)
    data = Data(DataSpec((3, 8, 8), 6), split, split, normalize, Pipeline([Warp("random", 30)]))
    _, loader = make_loaders(data, batch_size=6, eval_batch_size=6, drop_last=False, seed=0, device=CPU)
    (batch,) = loader
    assert torch.equal(batch.inputs, normalize(split.inputs))


def data_of(train: int, val: int, stream: bool) -> Data:
    parts = [Split(images(n), torch.zeros(n, dtype=torch.int64)) for n in (train, val)]
    if stream:
        parts = [Split(Rows(part.inputs), part.targets) for part in parts]
    return Data(DataSpec((3, 8, 8), 2), *parts)


def loaders(data: Data) -> tuple[TrainLoader, EvalLoader]:
    return make_loaders(data, batch_size=4, eval_batch_size=4, drop_last=False, seed=0, device=CPU)


@pytest.mark.parametrize("stream", [False, True])
def test_tensors_stay_resident_and_datasets_stream(stream: bool) -> None:
    kinds = (WorkerLoader, WorkerEvalLoader) if stream else (ResidentLoader, ResidentEvalLoader)
    assert tuple(map(type, loaders(data_of(8, 4, stream)))) == kinds


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("train", "val", "word"), [(0, 4, "training"), (4, 0, "validation")])
def test_an_empty_split_is_an_error(train: int, val: int, word: str, stream: bool) -> None:
    with pytest.raises(DataError, match=f"no {word} samples; check data.val_fraction"):
        loaders(data_of(train, val, stream))
