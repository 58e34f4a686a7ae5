"""Records as TensorBoard events."""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.loggers.base import LogRecord
from trainer.loggers.pictures import pictures

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def _without_tensorboard(failed: threading.ExceptHookArgs) -> None:
    """Print no traceback for the thread that writes events: the next call to the writer raises what it has met."""
    if not (isinstance(failed.exc_value, OSError) and type(failed.thread).__name__ == "_AsyncWriterThread"):
        threading.__excepthook__(failed)


class TensorBoardLogger:
    """Scalars, pictures and histograms; at the end the hyperparameters with the final scores.

    Args:
        directory: of the event files.
        hparams: the config, flat.
        labels: names of the classes.
        start_step: events after it, of a run that was set back, are hidden (`purge_step`).
    """

    def __init__(
        self, directory: Path, hparams: dict[str, Any], labels: tuple[str, ...] | None, start_step: int = 0
    ) -> None:
        self.directory, self.hparams, self.labels, self.start_step = directory, hparams, labels, start_step
        self._writer: SummaryWriter | None = None

    @property
    def writer(self) -> "SummaryWriter":
        """Opened with the first record, so that its import does not delay the first step."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            threading.excepthook = _without_tensorboard
            self._writer = SummaryWriter(str(self.directory), purge_step=self.start_step + 1)
        return self._writer

    def write(self, record: LogRecord) -> None:
        for name, value in record.scalars.items():
            self.writer.add_scalar(name, value, record.step)
        for name, pixels in pictures(record, self.labels).items():
            self.writer.add_image(name, pixels, record.step, dataformats="HWC")
        for name, values in record.histograms.items():
            self.writer.add_histogram(name, values, record.step)
        for layer, numbers in record.gradients.items():
            for name, number in numbers.items():
                if number is not None:
                    self.writer.add_scalar(f"{name}/{layer}", number, record.step)

    def flush(self) -> None:
        """Bring all events to the disk; they would otherwise wait for two minutes in this process."""
        if self._writer is not None:
            self._writer.flush()
            for file in self.directory.glob(f"*.{os.getpid()}.*"):
                with open(file, "rb") as events:
                    os.fsync(events.fileno())

    def rewind(self, step: int) -> None:
        """Hide the events after `step`: those of a new file with that `purge_step` replace them."""
        if self._writer is not None:
            self._writer.close()
        self._writer, self.start_step = None, step

    def close(self, summary: dict[str, Any]) -> None:
        """Write the hyperparameters with the best scores, and close."""
        from torch.utils.tensorboard.summary import hparams

        last = summary.get("last", {}).get("scores", {})
        scores = {f"hparams/{name}": value for name, value in last.items() if value is not None}
        if summary.get("best"):
            scores[f"hparams/best_{summary['best']['metric']}"] = summary["best"]["value"]
        if scores:
            file = self.writer._get_file_writer()
            for part in hparams(self.hparams, scores):
                file.add_summary(part)
            for name, value in scores.items():
                self.writer.add_scalar(name, value)
        if self._writer is not None:
            self._writer.close()
