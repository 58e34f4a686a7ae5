"""A loader worker that is stuck or dies ends the run with one message, and none outlives it."""

import gc
import itertools
import multiprocessing
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainer.data.loaders.collate import Collate
from trainer.data.loaders.sampler import Sampler
from trainer.data.loaders.workers import WorkerEvalLoader, WorkerLoader, worker_failure
from trainer.data.types import Split, as_float
from trainer.errors import DataError

CPU = torch.device("cpu")


class Troubled(Dataset[Tensor]):
    """Numbers; the one at `at` is trouble of some kind."""

    def __init__(self, at: int, kind: str) -> None:
        self.at, self.kind = at, kind

    def __getitem__(self, index: int) -> Tensor:
        if index == self.at:
            match self.kind:
                case "stuck":
                    time.sleep(600)
                case "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "unreadable":
                    raise DataError("photo.jpg: cut short.")
                case "bug":
                    raise KeyError("a bug")
        return torch.tensor([float(index)])


def loader(kind: str, timeout: float = 60.0) -> WorkerLoader:
    split = Split(Troubled(5, kind), torch.arange(12))
    return WorkerLoader(split, Collate(Sampler(12, 3, False, 0), as_float), CPU, 2, timeout)


@pytest.mark.parametrize(("kind", "message"), [("stuck", r"data\.timeout"), ("killed", "worker has died")])
def test_a_worker_in_trouble_is_an_error_that_says_so_and_none_is_left(kind: str, message: str) -> None:
    before = set(multiprocessing.active_children())
    began = time.monotonic()
    stream = loader(kind, timeout=1.0).stream(0)
    with pytest.raises(RuntimeError) as caught:
        list(itertools.islice(stream, 4))
    failure = worker_failure(caught.value)
    assert failure is not None
    assert failure.exit_code == 1
    assert re.search(message, str(failure))
    stream.close()
    assert time.monotonic() - began < 30
    assert set(multiprocessing.active_children()) == before


def test_a_stuck_worker_does_not_hold_up_a_run_that_stops_between_batches() -> None:
    stuck = loader("stuck")
    first = next(i for i, index in enumerate(stuck.sampler.blocks(0)) if 5 in index.tolist())
    stream = stuck.stream((first + 1) % 4 + 4 * (first + 1 > 3))  # the batch that is stuck is not the first
    next(stream)
    time.sleep(0.5)  # the workers read ahead: one of them is stuck now
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 3  # torch alone waits for 5 s


def test_what_cannot_be_read_is_said_without_a_traceback_and_a_bug_keeps_its_own() -> None:
    with pytest.raises(DataError, match=r"^photo\.jpg: cut short\.$"):
        list(zip(loader("unreadable").stream(0), range(4), strict=False))
    with pytest.raises(KeyError, match="Traceback"):
        list(zip(loader("bug").stream(0), range(4), strict=False))


def test_workers_leave_signals_to_the_run(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())
    stream = loader("none").stream(0)
    next(stream), next(stream)  # one batch of each: both have begun
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    for worker in workers:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            os.kill(worker.pid or 0, number)
    assert sorted(float(x) for _ in range(3) for x in next(stream).inputs) and all(w.is_alive() for w in workers)
    stream.close()
    assert not any(worker.is_alive() for worker in workers)


class Inherited:
    """An object in a circle, for the collector alone; says in which process it was freed."""

    def __init__(self, told: Path) -> None:
        self.itself, self.told = self, told

    def __del__(self) -> None:
        with self.told.open("a") as file:
            file.write(f"{os.getpid()}\n")


class Collecting(Troubled):
    """Numbers; whoever reads one collects its garbage."""

    def __getitem__(self, index: int) -> Tensor:
        gc.collect()
        return super().__getitem__(index)


def test_a_worker_does_not_free_what_it_has_inherited(tmp_path: Path) -> None:
    """A tensor of a GPU among it would end the worker with an error of CUDA."""
    gc.collect()
    gc.disable()
    try:
        Inherited(tmp_path / "told")
        split = Split(Collecting(99, ""), torch.arange(12))
        stream = WorkerLoader(split, Collate(Sampler(12, 3, False, 0), as_float), CPU, 2, 60.0).stream(0)
        next(stream), next(stream)
        stream.close()
    finally:
        gc.enable()
    gc.collect()
    assert (tmp_path / "told").read_text() == f"{os.getpid()}\n"


def test_evaluation_workers_stay_from_pass_to_pass_and_end_when_closed() -> None:
    before = set(multiprocessing.active_children())
    passes = WorkerEvalLoader(Split(Troubled(99, ""), torch.arange(12)), 4, as_float, CPU, 2)
    pids = []
    for _ in range(2):
        assert torch.cat([batch.inputs for batch in passes]).flatten().tolist() == list(range(12))
        pids.append({child.pid for child in set(multiprocessing.active_children()) - before})
    assert pids[0] == pids[1] and len(pids[0]) == 2
    passes.close()
    assert set(multiprocessing.active_children()) == before
    assert len(list(passes)) == 3
    passes.close()
