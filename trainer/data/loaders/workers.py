"""The loaders of datasets that worker processes read sample by sample, such as images larger than memory."""

import contextlib
import multiprocessing
from collections.abc import Generator, Iterable, Iterator
from multiprocessing.process import BaseProcess

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from trainer.config.root import is_outside
from trainer.data.loaders.collate import Collate, padded
from trainer.data.types import Batch, Prepare, Split
from trainer.errors import ConfigError, DataError, TrainerError
from trainer.system import seeds
from trainer.system.signals import become_worker

TIMEOUT = 300.0  # seconds to wait for a batch of the workers


class WorkerLoader:
    """Training batches from a map-style dataset, loaded ahead by worker processes; a `TrainLoader`.

    Each stream starts its own workers and tells them which samples to read, so a run resumes without any state of the
    workers.

    Args:
        split: the training samples; `split.inputs` must be a map-style dataset.
        collate: turns the samples of a step into a batch; its sampler says which samples those are.
        device: where the batches are made.
        workers: how many processes; 0: the training process reads.
        timeout: seconds to wait for a batch of the workers.
    """

    def __init__(
        self, split: Split, collate: Collate, device: torch.device, workers: int, timeout: float = TIMEOUT
    ) -> None:
        self.split, self.sampler, self.steps_per_epoch = split, collate.sampler, collate.sampler.steps_per_epoch
        self.device, self.workers, self.timeout = device, workers, timeout
        self._collate = collate

    def stream(self, start_step: int) -> Generator[Batch, None, None]:
        """Yield the batches of the steps `start_step`, `start_step + 1`, ... without end.

        Raises:
            DataError: for a sample that cannot be read.
        """
        indices = enumerate(self.sampler.blocks(start_step), start_step)
        batches = ([(step, i) for i in index.tolist()] for step, index in indices)
        with _Pass(self.split, batches, self.workers, self.device, self.timeout, seed=self.sampler.seed) as loaded:
            for step, (inputs, index) in enumerate(loaded, start_step):
                inputs = inputs.to(self.device, non_blocking=True)
                targets = self.split.targets[index].to(self.device, non_blocking=True)
                weights = self.split.weights
                if weights is not None:
                    weights = weights[index].to(self.device, non_blocking=True)
                yield self._collate(inputs, targets, weights, index.to(self.device, non_blocking=True), step)


class WorkerEvalLoader:
    """One pass over a map-style dataset, loaded by worker processes that stay for the next pass; an `EvalLoader`.

    Args:
        split: the samples; `split.inputs` must be a map-style dataset.
        batch_size: samples per batch.
        prepare: turns a stored batch into the model's input.
        device: where the batches are made.
        workers: how many processes; 0: the training process reads.
        timeout: seconds to wait for a batch of the workers.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        prepare: Prepare,
        device: torch.device,
        workers: int,
        timeout: float = TIMEOUT,
    ) -> None:
        self.samples, self.batch_size = len(split), min(batch_size, len(split))
        self.split, self.prepare, self.device = split, prepare, device
        self.workers, self.timeout = workers, timeout
        self._pass: _Pass | None = None

    def __iter__(self) -> Iterator[Batch]:
        if self._pass is None:
            starts = range(0, self.samples, self.batch_size)
            batches = [[(0, i) for i in range(start, min(start + self.batch_size, self.samples))] for start in starts]
            self._pass = _Pass(self.split, batches, self.workers, self.device, self.timeout, persistent=True)
        for inputs, index in self._pass:
            targets = self.split.targets[index].to(self.device, non_blocking=True)
            yield padded(inputs.to(self.device, non_blocking=True), targets, self.batch_size, self.prepare)

    def close(self) -> None:
        """End the workers; a later pass starts new ones."""
        if self._pass is not None:
            self._pass.close()
            self._pass = None


class _Indexed(Dataset[tuple[Tensor, int]]):
    """The samples of a dataset, each with its index: by it the targets are found, which the workers need not send.

    A dataset from outside the package may draw from any generator: they are seeded for each of its samples, so that a
    sample is a function of seed, step and index, whichever process reads it.
    """

    def __init__(self, dataset: Dataset[Tensor], seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        while isinstance(dataset, Subset):
            dataset = dataset.dataset
        self.reseeds = is_outside(type(dataset))

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, int]:
        step, index = place
        if not self.reseeds:
            return self.dataset[index], index
        before = torch.get_rng_state()  # where the training process reads, its generator is the model's
        seeds.reseed_all(torch.device("cpu"), seeds.fold(self.seed, seeds.SAMPLE, step, index))
        try:
            return self.dataset[index], index
        finally:
            torch.set_rng_state(before)


class _Pass:
    """A `DataLoader` over a split, together with the processes that it starts, so that they can be ended.

    Args:
        split: the samples; `split.inputs` must be a map-style dataset.
        batches: step and index of each sample of each batch; the step is 0 in an evaluation.
        workers: how many processes; 0: the calling process reads.
        device: where the batches will be sent.
        timeout: seconds to wait for a batch of the workers.
        persistent: whether the workers stay for another pass.
        seed: of the run.
    """

    def __init__(
        self,
        split: Split,
        batches: Iterable[list[tuple[int, int]]],
        workers: int,
        device: torch.device,
        timeout: float,
        persistent: bool = False,
        seed: int = 0,
    ) -> None:
        assert not isinstance(split.inputs, Tensor)
        self.loader = DataLoader(
            _Indexed(split.inputs, seed),
            batch_sampler=batches,  # any iterable of lists serves
            num_workers=workers,
            pin_memory=device.type == "cuda",
            timeout=timeout if workers else 0,
            worker_init_fn=_start_worker,
            persistent_workers=persistent and workers > 0,
            # Its own generator: starting workers must not draw from the one that dropout uses.
            generator=torch.Generator(),
        )
        self._processes: set[BaseProcess] = set()
        self._loaded: object = None

    def __enter__(self) -> "_Pass":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        before = set(multiprocessing.active_children())
        # Kept until the workers are ended: torch would wait 5 s for each one that is stuck when this is dropped.
        self._loaded = loaded = iter(self.loader)
        self._processes |= set(multiprocessing.active_children()) - before
        try:
            yield from loaded
        except (ConfigError, DataError) as error:
            # torch puts the worker's traceback into the message; a user's mistake needs only its own.
            kind = type(error)
            error.__traceback__ = None  # which holds on to the dead workers' pipes: the next ones would inherit them
            raise kind(str(error).rpartition(f"{kind.__name__}: ")[2].strip()) from None

    def close(self) -> None:
        """Kill the workers, including one that is stuck."""
        for _ in range(2):  # torch's handler of SIGCHLD reports a death, once, in the middle of whatever is done then
            for process in self._processes:
                with contextlib.suppress(RuntimeError):
                    process.kill()
                    process.join()
        self._processes.clear()
        self._loaded = None


def _start_worker(number: int) -> None:
    become_worker()


def worker_failure(error: BaseException) -> TrainerError | None:
    """Translate torch's error about a loader worker that died or is stuck; return None for any other error."""
    text = " ".join(str(error).split())
    if not isinstance(error, RuntimeError) or not text.startswith("DataLoader "):
        return None
    if "timed out" in text:
        return TrainerError(
            f"{text}: the loader workers gave no batch within data.timeout. Where reading is just slow, raise it; with "
            "data.workers=0 the training process reads itself, and Ctrl-C shows where it is stuck."
        )
    return TrainerError(
        f"A loader worker has died ({text}). Often it ran out of memory, or a library it uses crashed; data.workers=0 "
        "reads in the training process and shows the cause."
    )
