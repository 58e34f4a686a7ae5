"""Records in MLflow."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from trainer.config.logger import MlflowLog
from trainer.errors import ConfigError, TrainerError
from trainer.loggers.base import LoggerContext, LogRecord
from trainer.loggers.service_id import read_id, write_id

SECONDS = 1.0  # between two requests: one for each record would hold up a small model
METRICS, PARAMS = 1000, 100  # that MLflow takes in one request
LONGEST = 6000  # characters of a parameter
STATUS = {"completed": "FINISHED", "stopped": "KILLED"}


class MlflowLogger:
    """Scalars and the config of a run in MLflow, under an id that is kept as `mlflow.id` in its directory.

    A resumed run goes on under its id. MLflow forgets nothing: after a set-back (a kill, a rollback) a step has the
    values of both passes, of which the newer count as the last, and a curve shows both. Parameters are those that the
    run began with, since MLflow lets none change. Records are sent once a second, and before each checkpoint.

    Args:
        config: where to.
        context: the run.

    Raises:
        ConfigError: where the server or database does not answer, or no longer has the run.
    """

    def __init__(self, config: MlflowLog, context: LoggerContext) -> None:
        self._lock = threading.Lock()  # a checkpoint is saved, and flush() called, by another thread
        self._waiting: list[Metric] = []
        self._sent = time.monotonic()
        known = read_id(context.directory, "mlflow")
        try:
            self.client = MlflowClient(tracking_uri=config.tracking_uri)
            if known is not None:
                self.run_id = known
                self.client.update_run(known, status="RUNNING")
                return
            found = self.client.get_experiment_by_name(config.experiment)
            experiment = self.client.create_experiment(config.experiment) if found is None else found.experiment_id
            self.run_id = self.client.create_run(experiment, run_name=context.directory.name).info.run_id
            params = [Param(name, str(value)[:LONGEST]) for name, value in context.hparams.items()]
            for start in range(0, len(params), PARAMS):
                self.client.log_batch(self.run_id, params=params[start : start + PARAMS])
        except MlflowException as error:
            old = f" {context.directory}/mlflow.id names its run: remove it for another one." if known else ""
            text = " ".join(str(error).split())[:500]
            raise ConfigError(
                f"logger=mlflow: {text}{old} See tracking_uri (trainer list logger), or leave mlflow out of logger."
            ) from error
        write_id(context.directory, "mlflow", self.run_id)

    def write(self, record: LogRecord) -> None:
        """Take the scalars, and send what waits where the last time was a second ago."""
        values = dict(record.scalars)
        for layer, numbers in record.gradients.items():
            values |= {f"{name}/{layer}": number for name, number in numbers.items() if number is not None}
        now = round(time.time() * 1000)
        with self._lock:
            self._waiting += [Metric(name, value, now, record.step) for name, value in values.items()]
        if time.monotonic() - self._sent >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        with self._lock, _translated():
            while self._waiting:
                self.client.log_batch(self.run_id, metrics=self._waiting[:METRICS])
                del self._waiting[:METRICS]
            self._sent = time.monotonic()

    def rewind(self, step: int) -> None:
        """Drop what waits of the steps after `step`; MLflow keeps what it has."""
        with self._lock:
            self._waiting = [metric for metric in self._waiting if metric.step <= step]

    def close(self, summary: dict[str, Any]) -> None:
        """Send what is left, with the best score, and how the run ended."""
        best = summary.get("best")
        if best:
            now = round(time.time() * 1000)
            self._waiting.append(Metric(f"best_{best['metric']}", best["value"], now, best["step"]))
        self.flush()
        with _translated():
            self.client.set_terminated(self.run_id, STATUS.get(summary.get("status", ""), "FAILED"))


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn what MLflow raises into an error that a logger may have."""
    try:
        yield
    except MlflowException as error:
        raise TrainerError(" ".join(str(error).split())[:300]) from error
