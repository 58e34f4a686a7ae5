"""The two training loaders and the two evaluation loaders, behind one protocol (see `trainer.interfaces`)."""

import contextlib
import itertools
import multiprocessing
from collections.abc import Generator, Iterator
from multiprocessing.process import BaseProcess

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainer import seeds
from trainer.errors import ConfigError, DataError, TrainerError
from trainer.interfaces import Augment, Batch, Data, Draws, EvalLoader, Mix, Prepare, Split, TrainLoader
from trainer.signals import become_worker

TIMEOUT = 300.0  # seconds to wait for a batch of the workers
BLOCK_BYTES = 1 << 18  # stays in the cache of a core between the gather and the step


class Order:
    """Which samples make up the batch of a step: a fresh permutation each epoch, as a function of (seed, step).

    Args:
        samples: size of the training split.
        batch_size: samples per optimizer step.
        drop_last: leave out the last, smaller batch of an epoch.
        seed: of the run.
        classes: int64 (samples,), to draw each class equally often, with replacement; None: each sample once.
    """

    def __init__(
        self, samples: int, batch_size: int, drop_last: bool, seed: int, classes: Tensor | None = None
    ) -> None:
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self._balance = None if classes is None else _Balance(classes)
        self.steps_per_epoch = samples // batch_size if drop_last else -(-samples // batch_size)
        if self.steps_per_epoch == 0:
            raise ConfigError(
                f"data.batch_size={batch_size} is more than the {samples} training samples, and data.drop_last=true "
                "leaves nothing; use a smaller batch."
            )

    def permutation(self, epoch: int) -> Tensor:
        """The order of the samples in an epoch, int64 (samples,), drawn on the CPU."""
        generator = seeds.generator(self.seed, seeds.ORDER, epoch)
        if self._balance is not None:
            return self._balance.draw(self.samples, generator)
        return torch.randperm(self.samples, generator=generator)

    def blocks(self, start_step: int, batches: int = 1) -> Iterator[Tensor]:
        """The indices of up to `batches` batches at a time, from the batch of `start_step` on, without end."""
        first, offset = divmod(start_step, self.steps_per_epoch)
        for epoch in itertools.count(first):
            used = self.permutation(epoch)[offset * self.batch_size : self.steps_per_epoch * self.batch_size]
            yield from used.split(batches * self.batch_size)
            offset = 0


class _Balance:
    """Draws samples so that each class that there is comes equally often, and each sample of a class."""

    def __init__(self, classes: Tensor) -> None:
        self._by_class = classes.argsort(stable=True)
        counts = torch.bincount(classes)
        self._counts = counts[counts > 0]
        self._starts = self._counts.cumsum(0) - self._counts

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Indices of samples, int64 (samples,)."""
        drawn = torch.randint(len(self._counts), (samples,), generator=generator)
        counts = self._counts[drawn]
        within = (torch.rand(samples, dtype=torch.float64, generator=generator) * counts).long()
        return self._by_class[self._starts[drawn] + within]


class ResidentLoader:
    """Training batches from tensors that stay on the device.

    Args:
        split: whose inputs are a tensor.
        order: see `Order`.
        prepare, augment, mix: see `trainer.interfaces.Data`.
        device: where the tensors are kept and the batches made.
    """

    def __init__(
        self,
        split: Split,
        order: Order,
        prepare: Prepare,
        augment: Augment | None,
        device: torch.device,
        mix: Mix | None = None,
    ) -> None:
        assert isinstance(split.inputs, Tensor)
        self.inputs, self.targets = split.inputs.to(device), split.targets.to(device)
        self.weights = None if split.weights is None else split.weights.to(device)
        self.split, self.workers = split, 0
        self.order, self.device, self.steps_per_epoch = order, device, order.steps_per_epoch
        self._finish = _Finish(order, prepare, augment, mix)

    def stream(self, start_step: int) -> Generator[Batch, None, None]:
        """See `trainer.interfaces.TrainLoader`."""
        size, step = self.order.batch_size, start_step
        # One gather serves as many batches as fit into a block: of small rows, the call costs more than the copy.
        sample_bytes = self.inputs[0].nbytes + self.targets[0].nbytes
        for index in self.order.blocks(start_step, max(1, BLOCK_BYTES // (size * sample_bytes))):
            index = index.to(self.device, non_blocking=True)
            block = self.inputs.index_select(0, index), self.targets.index_select(0, index), index
            weights = None if self.weights is None else self.weights.index_select(0, index).split(size)
            for i, (inputs, targets, rows) in enumerate(zip(*(part.split(size) for part in block), strict=True)):
                yield self._finish(inputs, targets, None if weights is None else weights[i], rows, step)
                step += 1


class StreamingLoader:
    """Training batches from a map-style dataset, loaded ahead by worker processes.

    The sampler is told where to start; nothing of the workers' state belongs to the position of the run.
    """

    def __init__(
        self,
        split: Split,
        order: Order,
        prepare: Prepare,
        augment: Augment | None,
        device: torch.device,
        workers: int,
        timeout: float = TIMEOUT,
        mix: Mix | None = None,
    ) -> None:
        self.split, self.order, self.steps_per_epoch = split, order, order.steps_per_epoch
        self.device, self.workers, self.timeout = device, workers, timeout
        self._finish = _Finish(order, prepare, augment, mix)

    def stream(self, start_step: int) -> Generator[Batch, None, None]:
        """See `trainer.interfaces.TrainLoader`; raises `DataError` for a sample that cannot be read."""
        batches = (index.tolist() for index in self.order.blocks(start_step))
        with _Pass(self.split, batches, self.workers, self.device, self.timeout) as loaded:
            for step, (inputs, index) in enumerate(loaded, start_step):
                inputs = inputs.to(self.device, non_blocking=True)
                targets = self.split.targets[index].to(self.device, non_blocking=True)
                weights = self.split.weights
                if weights is not None:
                    weights = weights[index].to(self.device, non_blocking=True)
                yield self._finish(inputs, targets, weights, index.to(self.device, non_blocking=True), step)


class ResidentEvaluation:
    """One pass over tensors on the device."""

    def __init__(self, split: Split, batch_size: int, prepare: Prepare, device: torch.device) -> None:
        assert isinstance(split.inputs, Tensor)
        self.inputs, self.targets = split.inputs.to(device), split.targets.to(device)
        self.prepare, self.samples, self.workers = prepare, len(split), 0
        self.batch_size = min(batch_size, self.samples)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.samples, self.batch_size):
            stop = start + self.batch_size
            yield _padded(self.inputs[start:stop], self.targets[start:stop], self.batch_size, self.prepare)

    def close(self) -> None:
        """There are no workers."""


class StreamingEvaluation:
    """One pass over a map-style dataset, loaded by worker processes that live from pass to pass."""

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
            batches = [list(range(start, min(start + self.batch_size, self.samples))) for start in starts]
            self._pass = _Pass(self.split, batches, self.workers, self.device, self.timeout, persistent=True)
        for inputs, index in self._pass:
            targets = self.split.targets[index].to(self.device, non_blocking=True)
            yield _padded(inputs.to(self.device, non_blocking=True), targets, self.batch_size, self.prepare)

    def close(self) -> None:
        """End the workers; another pass forks new ones."""
        if self._pass is not None:
            self._pass.close()
            self._pass = None


def make_loaders(
    data: Data,
    *,
    batch_size: int,
    eval_batch_size: int,
    drop_last: bool,
    seed: int,
    device: torch.device,
    timeout: float = TIMEOUT,
    balanced: bool = False,
) -> tuple[TrainLoader, EvalLoader]:
    """The loaders of both splits: resident where the split is a tensor, streaming where it is a dataset.

    Raises:
        DataError: when a split is empty.
        ConfigError: when classes are to be balanced and there are none.
    """
    for name, split in (("training", data.train), ("validation", data.val)):
        if not len(split):
            raise DataError(f"There are no {name} samples; check data.val_fraction and the files.")
    if balanced and data.spec.labels is None:
        raise ConfigError("data.sampling=balanced: the target is a number; only classes can be drawn equally often.")
    order = Order(len(data.train), batch_size, drop_last, seed, data.train.targets if balanced else None)
    train: TrainLoader
    if isinstance(data.train.inputs, Tensor):
        train = ResidentLoader(data.train, order, data.prepare, data.augment, device, data.mix)
    else:
        train = StreamingLoader(data.train, order, data.prepare, data.augment, device, data.workers, timeout, data.mix)
    val = evaluation_loader(data.val, eval_batch_size, data.prepare, device, data.workers, timeout)
    return train, val


def evaluation_loader(
    split: Split, batch_size: int, prepare: Prepare, device: torch.device, workers: int = 0, timeout: float = TIMEOUT
) -> EvalLoader:
    """One pass over a split: resident where it is a tensor, streaming where it is a dataset."""
    if isinstance(split.inputs, Tensor):
        return ResidentEvaluation(split, batch_size, prepare, device)
    return StreamingEvaluation(split, batch_size, prepare, device, workers, timeout)


class _Indexed(Dataset[tuple[Tensor, int]]):
    """Samples with their index, so that targets need not pass through the workers."""

    def __init__(self, dataset: Dataset[Tensor]) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.dataset[index], index


class _Pass:
    """A `DataLoader` over a split, and the processes that it forks.

    Args:
        split: whose inputs are a dataset.
        batches: the indices of each batch.
        workers: how many processes; 0: this one reads.
        device: where the batches go.
        timeout: seconds to wait for a batch of the workers.
        persistent: whether the workers stay for another pass.
    """

    def __init__(
        self,
        split: Split,
        batches: Iterator[list[int]] | list[list[int]],
        workers: int,
        device: torch.device,
        timeout: float,
        persistent: bool = False,
    ) -> None:
        assert not isinstance(split.inputs, Tensor)
        self.loader = DataLoader(
            _Indexed(split.inputs),
            batch_sampler=batches,  # any iterable of index lists serves
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
        # Held on to until the workers are ended: torch would wait 5 s for each one that is stuck when this is dropped.
        self._loaded = loaded = iter(self.loader)
        self._processes |= set(multiprocessing.active_children()) - before
        try:
            yield from loaded
        except (ConfigError, DataError) as error:
            # torch puts the worker's traceback into the message; a user's mistake needs only its own.
            kind = type(error)
            raise kind(str(error).rpartition(f"{kind.__name__}: ")[2].strip()) from None

    def close(self) -> None:
        """End the workers, also one that is stuck."""
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
    """The error for a loader worker that has died or is stuck, where `error` is torch's; None where it is not."""
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


class _Finish:
    """From the samples of a step as they are stored to its batch: augmented, prepared, mixed."""

    def __init__(self, order: Order, prepare: Prepare, augment: Augment | None, mix: Mix | None) -> None:
        self.order, self.prepare, self.augment, self.mix = order, prepare, augment, mix

    def __call__(self, inputs: Tensor, targets: Tensor, weights: Tensor | None, positions: Tensor, step: int) -> Batch:
        if self.augment is None and self.mix is None:
            return Batch(self.prepare(inputs), targets, weights, positions)
        draws = Draws(self.order.seed, step, step // self.order.steps_per_epoch, positions)
        if self.augment is not None:
            inputs = self.augment(inputs, draws)
        inputs = self.prepare(inputs)
        if self.mix is not None:
            inputs, targets = self.mix(inputs, targets, draws)
        return Batch(inputs, targets, weights, positions)


def _padded(inputs: Tensor, targets: Tensor, size: int, prepare: Prepare) -> Batch:
    """The batch filled up to `size` with copies of its first row, of weight 0."""
    weights = torch.ones(len(targets), device=targets.device)
    missing = size - len(targets)
    if missing:
        inputs = torch.cat([inputs, inputs[:1].expand(missing, *inputs.shape[1:])])
        targets = torch.cat([targets, targets[:1].expand(missing, *targets.shape[1:])])
        weights = torch.cat([weights, weights.new_zeros(missing)])
    return Batch(prepare(inputs), targets, weights)
