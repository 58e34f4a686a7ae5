"""The loggers of a run."""

import logging

from omegaconf import DictConfig
from rich.console import Console

from trainer.config import compose
from trainer.loggers.base import Logger
from trainer.loggers.console import LiveConsoleLogger, PlainConsoleLogger, Progress
from trainer.loggers.files import FilesLogger
from trainer.loggers.layer_stats import LayerStatsLogger
from trainer.loggers.safe import SafeLogger
from trainer.loggers.tensorboard import TensorBoardLogger
from trainer.runs.directory import Run
from trainer.training.context import RunContext

log = logging.getLogger("trainer")


def open_loggers(
    cfg: DictConfig, context: RunContext, run: Run, console: Console | None, log_console: Console
) -> list[Logger]:
    """Open the loggers of a run, each so that its failing does not stop the training.

    Args:
        console, log_console: of the screen (None: there is none), and of `train.log`.
    """
    timeline, state = context.timeline, context.state
    recorded = state.recorded
    progress = Progress(timeline.total, timeline.steps_per_epoch, state.monitor.name, state.step)
    hparams = {k: v if isinstance(v, (int, float, str, bool)) else str(v) for k, v in compose.flat(cfg).items()}
    loggers: list[tuple[Logger, str]] = [
        (PlainConsoleLogger(log_console, progress), str(run.log)),
        (FilesLogger(run.directory, recorded), f"{run.directory}/metrics.jsonl and metrics.csv"),
        (TensorBoardLogger(run.tensorboard, hparams, context.data.spec.labels, recorded), str(run.tensorboard)),
    ]
    stats = run.directory / "gradients.jsonl"
    if timeline.layer_stats.recurs or stats.exists():  # what is there is cut back even where no more is to be recorded
        loggers.append((LayerStatsLogger(run.directory, recorded), f"{stats} and gradient_flow.png"))
    if console is not None:
        kind = LiveConsoleLogger if console.is_terminal else PlainConsoleLogger
        loggers.append((kind(console, progress), "the screen"))
    return [SafeLogger(logger, what, log.warning) for logger, what in loggers]
