"""Samples on disk: the order in which blocks are read, and the batches that are made of them."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.data.files import mapped
from trainer.data.loaders.collate import Collate
from trainer.data.loaders.disk import DiskLoader
from trainer.data.loaders.resident import ResidentEvalLoader
from trainer.data.loaders.sampler import BlockSampler, Sampler
from trainer.data.loaders.selection import make_loaders
from trainer.data.on_disk import OnDisk
from trainer.data.splits import limit
from trainer.data.types import Batch, Data, DataSpec, Split, as_float
from trainer.errors import DataError

CPU = torch.device("cpu")


def epoch_order(sampler: BlockSampler, epoch: int, start: int = 0) -> list[int]:
    windows = sampler.windows(epoch, start)
    return [int(window.members[place]) for window in windows for place in window.order]


@settings(max_examples=100, deadline=None)
@given(
    samples=st.integers(1, 200),
    block=st.integers(1, 50),
    blocks=st.integers(1, 8),
    epoch=st.integers(0, 3),
    start=st.integers(0, 199),
)
def test_an_epoch_has_each_sample_once_and_can_be_entered_anywhere(
    samples: int, block: int, blocks: int, epoch: int, start: int
) -> None:
    sampler = BlockSampler(samples, seed=7, block=block, blocks=blocks)
    whole = epoch_order(sampler, epoch)
    assert sorted(whole) == list(range(samples))
    assert epoch_order(sampler, epoch, start) == whole[start:]


def test_a_window_is_of_whole_blocks_and_is_read_forward() -> None:
    sampler = BlockSampler(1000, seed=0, block=30, blocks=4)
    seen: set[int] = set()
    for members, shuffled in sampler.windows(0):
        assert torch.equal(members, members.sort().values)
        blocks = set((members // 30).tolist())
        assert len(blocks) <= 4 and not blocks & seen
        assert len(members) == sum(min(30, 1000 - 30 * block) for block in blocks)
        assert torch.equal(shuffled.sort().values, torch.arange(len(members)))
        seen |= blocks
    assert seen == set(range(34))


def test_epochs_and_seeds_differ_in_the_blocks_and_within_them() -> None:
    def first(seed: int, epoch: int) -> tuple[list[int], list[int]]:
        window = next(BlockSampler(1000, seed=seed, block=10, blocks=5).windows(epoch))
        return (window.members[::10] // 10).tolist(), window.order.tolist()

    found = [first(*key) for key in ((0, 0), (0, 1), (1, 0))]
    assert first(0, 0) == found[0]
    for one, other in itertools.combinations(found, 2):
        assert one[0] != other[0] and one[1] != other[1]
    one, other = itertools.islice(BlockSampler(1000, seed=0, block=10, blocks=5).windows(0), 2)
    assert one.order.tolist() != other.order.tolist(), "each window has its own draw"


def on_disk(folder: Path, samples: int, weights: bool = False) -> Split:
    """Sample i holds i, i + 0.5 and i + 0.25; its target is -i, its weight i + 1."""
    numbers = np.arange(samples, dtype=np.float32)
    rows = mapped.FileRows(folder / "inputs.npy", (samples, 3))
    rows.put(0, np.stack([numbers, numbers + 0.5, numbers + 0.25], axis=1), slice(None))
    rows.tensor()
    targets = torch.from_numpy(-numbers).unsqueeze(1)
    return Split(
        mapped.open_array(folder / "inputs.npy"), targets, None, torch.from_numpy(numbers + 1) if weights else None
    )


def loader(split: Split, batch: int, drop_last: bool = False, block: int = 5, window: int = 20) -> DiskLoader:
    sampler = Sampler(len(split), batch, drop_last, seed=3)
    return DiskLoader(split, Collate(sampler, as_float), CPU, block_bytes=block * 12, window_bytes=window * 12)


def assert_right(batch: Batch, size: int, weights: bool) -> None:
    assert len(batch.inputs) == size
    number = batch.positions.float()
    assert torch.equal(batch.inputs, torch.stack([number, number + 0.5, number + 0.25], dim=1))
    assert torch.equal(batch.targets, -number.unsqueeze(1))
    assert (batch.weights is None) is not weights
    if weights:
        assert torch.equal(batch.weights, number + 1)


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("samples", "batch"), [(103, 8), (100, 10), (100, 7), (5, 8), (40, 40), (41, 20), (60, 33)])
def test_batches_are_the_samples_of_the_order_from_any_step_on(
    tmp_path: Path, samples: int, batch: int, drop_last: bool, weights: bool
) -> None:
    drop_last = drop_last and samples >= batch
    made = loader(on_disk(tmp_path, samples, weights), batch, drop_last)
    per_epoch = made.steps_per_epoch
    assert per_epoch == (samples // batch if drop_last else -(-samples // batch))
    batches = list(itertools.islice(made.stream(0), 3 * per_epoch + 1))
    for step, one in enumerate(batches):
        last = step % per_epoch == per_epoch - 1
        assert_right(one, samples - batch * (per_epoch - 1) if last and not drop_last else batch, weights)
    for epoch in range(3):
        parts = [one.positions for one in batches[epoch * per_epoch : (epoch + 1) * per_epoch]]
        used = torch.cat(parts).tolist()
        assert len(set(used)) == len(used) == (per_epoch * batch if drop_last else samples)
    for start in range(len(batches)):
        again = next(made.stream(start))
        assert torch.equal(again.positions, batches[start].positions), f"from step {start} on"
    first, second = (torch.cat([one.positions for one in batches[i : i + per_epoch]]) for i in (0, per_epoch))
    assert samples == 5 or not torch.equal(first, second), "each epoch has its own order"


def test_a_loader_that_is_left_in_the_middle_leaves_no_thread(tmp_path: Path) -> None:
    import threading

    stream = loader(on_disk(tmp_path, 103), 8).stream(0)
    next(stream)
    stream.close()
    assert threading.active_count() == 1


def data(split: Split) -> Data:
    return Data(DataSpec.of((3,), split.targets, None), split, split)


def test_samples_on_disk_get_these_loaders_and_validation_goes_through_the_file(tmp_path: Path) -> None:
    split = on_disk(tmp_path, 50)
    train, val = make_loaders(data(split), batch_size=8, eval_batch_size=20, drop_last=False, seed=0, device=CPU)
    assert isinstance(train, DiskLoader) and isinstance(val, ResidentEvalLoader)
    batches = list(val)
    assert [len(batch.inputs) for batch in batches] == [20, 20, 20], "the last one is padded"
    real = torch.cat([batch.inputs[batch.weights > 0] for batch in batches])
    assert torch.equal(real[:, 0], torch.arange(50.0))


def test_a_part_of_the_samples_stays_on_disk(tmp_path: Path) -> None:
    split = on_disk(tmp_path, 100)
    part = limit(split, 30, seed=1)
    assert isinstance(part.inputs, OnDisk) and len(part) == 30
    kept = part.rows.tolist()
    assert part.inputs[3].tolist() == [kept[3], kept[3] + 0.5, kept[3] + 0.25]
    batches = list(itertools.islice(loader(part, 8).stream(0), 4))
    seen = torch.cat([batch.inputs[:, 0] for batch in batches])
    assert sorted(seen.tolist()) == kept
    for batch in batches:
        assert torch.equal(batch.targets[:, 0], -batch.inputs[:, 0])
    smaller = part.subset(torch.tensor([4, 2]))
    assert smaller.inputs[:][:, 0].tolist() == [kept[4], kept[2]]


def test_a_file_that_is_cut_short_while_it_is_read_is_named(tmp_path: Path) -> None:
    split = on_disk(tmp_path, 100)
    with (tmp_path / "inputs.npy").open("r+b") as file:
        file.truncate(500)
    with pytest.raises(DataError, match=r"inputs\.npy: was cut short"):
        next(loader(split, 8).stream(0))


def shuffled_evenly(made: DiskLoader, epochs: int) -> Tensor:
    """Where in an epoch sample 0 comes, over many epochs, as a share."""
    places = []
    for epoch in range(epochs):
        batches = itertools.islice(made.stream(epoch * made.steps_per_epoch), made.steps_per_epoch)
        order = torch.cat([batch.positions for batch in batches])
        places.append(int((order == 0).nonzero()) / len(order))
    return torch.tensor(places)


def test_a_sample_comes_anywhere_in_an_epoch(tmp_path: Path) -> None:
    places = shuffled_evenly(loader(on_disk(tmp_path, 200), 10), 60)
    assert 0.35 < places.mean() < 0.65 and places.std() > 0.2
