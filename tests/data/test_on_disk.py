"""Samples that stay in a file: what is read of it."""

import torch
from torch import Tensor

from trainer.data.on_disk import OnDisk


def test_samples_far_apart_are_not_read_with_all_between() -> None:
    reads: list[tuple[int, int]] = []

    def read(start: int, stop: int) -> Tensor:
        reads.append((start, stop))
        return torch.arange(start, stop)

    index = torch.tensor([1_000_000, 3, 2_000_001, 5, 1_000_500, 2_000_000])
    samples = OnDisk(read, (10_000_000,), index)
    assert samples[:].tolist() == index.tolist()
    assert reads == [(3, 6), (1_000_000, 1_000_501), (2_000_000, 2_000_002)]
    assert samples[-1].item() == 2_000_000 and samples[1:3].tolist() == [3, 2_000_001]
    assert len(samples[6:6]) == 0
