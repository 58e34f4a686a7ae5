"""Records as TensorBoard events."""

import itertools
import operator
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.loggers.base import LogRecord
from trainer.loggers.pictures import Pixels, pictures

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch import Tensor

_files = itertools.count()  # event files of this process
_LIMITS = list(itertools.accumulate([1e-12, *[1.1] * 773], operator.mul))  # to 1e20, as in torch's SummaryWriter
BINS = [*(-limit for limit in reversed(_LIMITS)), 0.0, *_LIMITS]  # of histograms


class EventFile:
    """One file of events, written at once and by the thread that calls.

    tensorboard's own `EventFileWriter` passes each event to a thread of its own: that takes ten times as long (1,050
    instead of 100 µs for a record of eight scalars), and a full disk ends in a traceback that nothing can catch.

    Args:
        directory: of the file; made where it does not exist.
        purge_step: events from this step on, in older files, are hidden.
    """

    def __init__(self, directory: Path, purge_step: int) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.{next(_files)}"
        self._event: type[Event] = event_pb2.Event
        self._file = open(directory / name, "wb")  # noqa: SIM115  # closed in close()
        self._records = RecordWriter(self._file)
        self.add(0, file_version="brain.Event:2")
        self.add(purge_step, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

    def add(self, step: int, **content: Any) -> None:
        """Append an event, with one field of `Event` as its content."""
        self._records.write(self._event(wall_time=time.time(), step=step, **content).SerializeToString())
        self._records.flush()  # to the system: whoever watches sees it

    def sync(self) -> None:
        """Bring all events to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


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
        self._opened: EventFile | None = None

    @property
    def _file(self) -> EventFile:
        """Return the file, opened with the first record, so that tensorboard's import does not delay the first step."""
        if self._opened is None:
            self._opened = EventFile(self.directory, self.start_step + 1)
        return self._opened

    def write(self, record: LogRecord) -> None:
        """Append one event with all that the record has."""
        scalars = dict(record.scalars)
        for layer, numbers in record.gradients.items():
            scalars |= {f"{name}/{layer}": number for name, number in numbers.items() if number is not None}
        drawn = pictures(record, self.labels)
        if scalars or drawn or record.histograms:
            self._file.add(record.step, summary=_summary(scalars, drawn, record.histograms))

    def flush(self) -> None:
        """Bring all events to the disk."""
        if self._opened is not None:
            self._opened.sync()

    def rewind(self, step: int) -> None:
        """Hide the events after `step`: those of a new file with that `purge_step` replace them."""
        if self._opened is not None:
            self._opened.close()
        self._opened, self.start_step = None, step

    def close(self, summary: dict[str, Any]) -> None:
        """Write the hyperparameters with the last and the best scores, and close."""
        last = summary.get("last", {}).get("scores", {})
        scores = {f"hparams/{name}": value for name, value in last.items() if value is not None}
        if summary.get("best"):
            scores[f"hparams/best_{summary['best']['metric']}"] = summary["best"]["value"]
        if scores:
            from torch.utils.tensorboard.summary import hparams

            for part in hparams(self.hparams, scores):
                self._file.add(0, summary=part)
            self._file.add(0, summary=_summary(scores, {}, {}))
        if self._opened is not None:
            self._opened.close()


def _summary(scalars: dict[str, float], drawn: dict[str, Pixels], histograms: dict[str, "Tensor"]) -> "Summary":
    """Return the values of one event."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch.utils.tensorboard.summary import histogram, image

    summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()])
    for name, pixels in drawn.items():
        summary.MergeFrom(image(name, pixels, dataformats="HWC"))
    for name, values in histograms.items():
        summary.MergeFrom(histogram(name, values.numpy(), BINS))
    return summary
