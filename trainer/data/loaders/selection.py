"""Which loader suits a split: resident for tensors, by blocks for files of rows, with workers for other datasets."""

import torch
from torch import Tensor

from trainer.data.loaders.collate import Collate
from trainer.data.loaders.disk import DiskLoader
from trainer.data.loaders.protocols import EvalLoader, TrainLoader
from trainer.data.loaders.resident import ResidentEvalLoader, ResidentLoader
from trainer.data.loaders.sampler import Sampler
from trainer.data.loaders.workers import TIMEOUT, WorkerEvalLoader, WorkerLoader
from trainer.data.on_disk import OnDisk
from trainer.data.types import Data, Prepare, Split
from trainer.errors import ConfigError, DataError


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
    """Make the loaders of the training and of the validation split.

    Args:
        data: the splits, and what is done to their batches.
        batch_size: samples per optimizer step.
        eval_batch_size: samples per batch in validation.
        drop_last: whether to leave out the last, smaller batch of an epoch.
        seed: of the run.
        device: where the batches are made.
        timeout: seconds to wait for a batch of the loader processes.
        balanced: whether to draw each class equally often, with replacement.

    Raises:
        DataError: where a split is empty.
        ConfigError: where classes are to be balanced and the target is a number.
    """
    for name, split in (("training", data.train), ("validation", data.val)):
        if not len(split):
            raise DataError(f"There are no {name} samples; check data.val_fraction and the files.")
    if balanced and data.spec.labels is None:
        raise ConfigError("data.sampling=balanced: the target is a number; only classes can be drawn equally often.")
    sampler = Sampler(len(data.train), batch_size, drop_last, seed, data.train.targets if balanced else None)
    collate = Collate(sampler, data.prepare, data.augment, data.mix)
    train: TrainLoader
    if isinstance(data.train.inputs, Tensor):
        train = ResidentLoader(data.train, collate, device)
    elif isinstance(data.train.inputs, OnDisk):
        train = DiskLoader(data.train, collate, device)
    else:
        train = WorkerLoader(data.train, collate, device, data.workers, timeout)
    val = make_eval_loader(data.val, eval_batch_size, data.prepare, device, data.workers, timeout)
    return train, val


def make_eval_loader(
    split: Split, batch_size: int, prepare: Prepare, device: torch.device, workers: int = 0, timeout: float = TIMEOUT
) -> EvalLoader:
    """Make the loader for one pass over a split.

    Args:
        split: the samples.
        batch_size: samples per batch.
        prepare: turns a stored batch into the model's input.
        device: where the batches are made.
        workers: loader processes, where the split is neither a tensor nor `OnDisk`.
        timeout: seconds to wait for a batch of the loader processes.
    """
    if isinstance(split.inputs, (Tensor, OnDisk)):
        return ResidentEvalLoader(split, batch_size, prepare, device)
    return WorkerEvalLoader(split, batch_size, prepare, device, workers, timeout)
