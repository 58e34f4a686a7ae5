"""What every loader offers: batches for training and for evaluation, wherever the samples are."""

from collections.abc import Generator, Iterator
from typing import Protocol

from trainer.data.types import Batch, Split


class TrainLoader(Protocol):
    """An endless stream of training batches, each a pure function of the seed and the step.

    Attributes:
        steps_per_epoch: optimizer steps in one pass over the split.
        split: the training samples.
        workers: loader processes that each stream starts; 0: the training process reads.
    """

    steps_per_epoch: int
    split: Split
    workers: int

    def stream(self, start_step: int) -> Generator[Batch, None, None]:
        """Yield the batches of the steps `start_step`, `start_step + 1`, ... without end."""
        ...


class EvalLoader(Protocol):
    """One pass over a split, in order. All batches have the same size: the last is padded with rows of weight 0.

    Attributes:
        samples: size of the split, padding not counted.
        workers: loader processes that the first pass starts; 0: the training process reads.
    """

    samples: int
    workers: int

    def __iter__(self) -> Iterator[Batch]: ...

    def close(self) -> None:
        """End the loader processes; a later pass starts new ones."""
        ...
