"""Records in Weights & Biases."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
import wandb

from trainer.config.logger import WandbLog
from trainer.errors import ConfigError, TrainerError
from trainer.loggers.base import LoggerContext, LogRecord
from trainer.loggers.pictures import pictures
from trainer.loggers.service_id import read_id, write_id


class WandbLogger:
    """Scalars, pictures, histograms and the config of a run, under an id that is kept as `wandb.id` in its directory.

    A resumed run goes on under its id, as one curve. W&B takes each step once: after a set-back (a kill, a rollback)
    the steps that it has already keep their first values, and what the second pass gives for them is left out. Offline,
    each process of a run leaves a folder in RUN/wandb, and `wandb sync` joins them under the id. Records are handed to
    a process of W&B's own that brings them to the disk when it sees fit, also after a kill of this one.

    Args:
        config: where to.
        context: the run.

    Raises:
        ConfigError: where there is no login, or the service does not answer.
    """

    def __init__(self, config: WandbLog, context: LoggerContext) -> None:
        self.labels = context.labels
        run_id = read_id(context.directory, "wandb") or secrets.token_hex(4)
        write_id(context.directory, "wandb", run_id)
        try:
            self.run = wandb.init(
                id=run_id,
                resume="allow",
                dir=context.directory.resolve(),  # W&B's own process is in another folder
                name=context.directory.name,
                config=context.hparams,
                project=config.project or os.environ.get("WANDB_PROJECT") or "trainer",
                entity=config.entity,
                group=config.group,
                tags=config.tags,
                mode=config.mode,  # type: ignore[arg-type]  # its choices are checked
                settings=wandb.Settings(console="off", quiet=True),
            )
            self.run.define_metric(context.monitor, summary=context.mode)
            self._next = self.run.step  # the first step that the service has not
        except wandb.Error as error:
            raise ConfigError(
                f"logger=wandb: {error} Log in with `wandb login`, write {{name: wandb, mode: offline}}, or leave "
                "wandb out of logger."
            ) from error

    def write(self, record: LogRecord) -> None:
        """Hand over all that the record has, unless the service has that step."""
        if record.step < self._next:
            return
        values: dict[str, Any] = dict(record.scalars)
        for name, pixels in pictures(record, self.labels).items():
            values[name] = wandb.Image(pixels)
        for name, tensor in record.histograms.items():
            values[name] = wandb.Histogram(np_histogram=np.histogram(tensor.numpy(), bins=64))
        for layer, numbers in record.gradients.items():
            values |= {f"{name}/{layer}": number for name, number in numbers.items() if number is not None}
        with _translated():
            self.run.log(values, step=record.step, commit=True)
        self._next = record.step + 1

    def flush(self) -> None:
        """Do nothing: W&B decides itself when records are on the disk."""

    def rewind(self, step: int) -> None:
        """Do nothing: W&B cannot forget; it goes on once the run is past what it has."""

    def close(self, summary: dict[str, Any]) -> None:
        """Send what is left, with the best score, and how the run ended."""
        with _translated():
            if summary.get("best"):
                self.run.summary[f"best_{summary['best']['metric']}"] = summary["best"]["value"]
            self.run.finish(exit_code=int(summary.get("status") == "failed"))


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn what W&B raises into an error that a logger may have."""
    try:
        yield
    except wandb.Error as error:
        raise TrainerError(str(error)) from error
