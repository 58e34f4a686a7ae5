"""The loggers that `logger` selects, and their keys."""

from dataclasses import dataclass
from typing import Any, ClassVar

from trainer.config.parts import Part
from trainer.config.registry import register
from trainer.config.section import FREE, key


@dataclass
class LoggerConfig(Part):
    """Base of the loggers. What the built-in ones do is in `trainer/loggers/`.

    A logger of a plug-in has `write(record)` beside its keys, and those of the methods below that it needs; see
    `LogRecord` and `LoggerContext`. What fails with an `OSError` or a `TrainerError` after `open` is reported once, and
    training goes on without this logger.

    Attributes:
        package: what it imports and only `pip install 'trainer[NAME]'` brings; "": nothing.
    """

    on_resume: ClassVar[str] = FREE
    selected_by: ClassVar[str] = "logger"
    package: ClassVar[str] = ""

    def open(self, context: Any) -> None:
        """Prepare for a run, new or resumed, that a `LoggerContext` describes. Called once, before any record."""

    def flush(self) -> None:
        """Make durable what was written: a checkpoint is about to be saved. Called by another thread."""

    def rewind(self, step: int) -> None:
        """Forget the records after `step`: the run goes on from there again."""

    def close(self, summary: dict[str, Any]) -> None:
        """End with the run; the summary is what `summary.json` holds."""


@register("logger", "console")
@dataclass
class ConsoleLog(LoggerConfig):
    """The screen: a live bar in a terminal, one plain line an interval elsewhere."""


@register("logger", "files")
@dataclass
class FilesLog(LoggerConfig):
    """metrics.jsonl and metrics.csv in the run directory."""


@register("logger", "tensorboard")
@dataclass
class TensorBoardLog(LoggerConfig):
    """Scalars, pictures, histograms and hyperparameters as TensorBoard events."""


@register("logger", "wandb")
@dataclass
class WandbLog(LoggerConfig):
    """Weights & Biases: scalars, pictures, histograms and the config (pip install 'trainer[wandb]')."""

    package: ClassVar[str] = "wandb"

    project: str | None = key(None, "where the run belongs; null: the variable WANDB_PROJECT, or trainer")
    entity: str | None = key(None, "user or team; null: the variable WANDB_ENTITY, or that of the login")
    group: str | None = key(None, "runs that belong together")
    tags: list[str] = key([], "words to find the run by")
    mode: str | None = key(
        None,
        "send records while training, or keep them for `wandb sync`; null: the variable WANDB_MODE, or online",
        choices=("online", "offline"),
    )


@register("logger", "mlflow")
@dataclass
class MlflowLog(LoggerConfig):
    """MLflow: scalars and the config (pip install 'trainer[mlflow]')."""

    package: ClassVar[str] = "mlflow"

    tracking_uri: str | None = key(
        None, "server or database, such as sqlite:///mlflow.db; null: the variable MLFLOW_TRACKING_URI, or MLflow's own"
    )
    experiment: str = key("trainer", "where the run belongs; made where it does not exist")
