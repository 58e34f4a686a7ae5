"""The first training images of a run, as its model sees them."""

import contextlib

from torch import Tensor

from trainer.data.images.normalize import Normalize
from trainer.data.types import Batch
from trainer.loggers.base import LogRecord
from trainer.training.context import RunContext

SHOWN = 32  # training samples


class NoSampleImages:
    """What a run shows whose inputs are no images: nothing."""

    def keep(self, batch: Batch) -> None:
        """Do nothing with the first batch."""

    def add_to(self, record: LogRecord) -> None:
        """Add nothing to the first record."""


class SampleImages(NoSampleImages):
    """Adds the first training images of a run, and the names of their classes, to its first record.

    Args:
        normalize: says how the pixels were turned into inputs.
    """

    def __init__(self, context: RunContext, normalize: Normalize) -> None:
        self.train, self.labels, self.normalize = context.train, context.data.spec.labels, normalize
        self._first: Batch | None = None

    def keep(self, batch: Batch) -> None:
        """Keep the first batch of the run until its first record."""
        self._first = batch

    def add_to(self, record: LogRecord) -> None:
        """Add images (N, C, H, W) in [0, 1] and their labels; the batch is made again where another process had it."""
        first, self._first = self._first, None
        if first is None:
            with contextlib.closing(self.train.stream(0)) as stream:
                first = next(stream)
        record.images = self.normalize.undo(first.inputs[:SHOWN]).cpu()
        if self.labels is not None:
            record.labels = [self.labels[target] for target in _classes(first.targets[:SHOWN]).tolist()]


def _classes(targets: Tensor) -> Tensor:
    """Return class indices (N,); of mixed samples, the class of the larger share."""
    return targets if targets.ndim == 1 else targets.argmax(1)


def sample_images(context: RunContext) -> NoSampleImages:
    """Return what shows the first training images of a run, where its inputs are images."""
    prepare = context.data.prepare
    return SampleImages(context, prepare) if isinstance(prepare, Normalize) else NoSampleImages()
