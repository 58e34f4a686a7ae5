"""The loggers of a run."""

from collections.abc import Sequence

from omegaconf import DictConfig
from rich.console import Console

from trainer.config import compose
from trainer.loggers.base import Logger, LoggerContext
from trainer.loggers.console import console_logger
from trainer.loggers.layer_stats import LayerStatsLogger
from trainer.loggers.safe import SafeLogger
from trainer.runs.build_parts import build_loggers
from trainer.runs.directory import Run
from trainer.training.context import RunContext


def open_loggers(
    cfg: DictConfig,
    context: RunContext,
    run: Run,
    console: Console | None,
    log_console: Console,
    swept: Sequence[str] = (),
) -> list[Logger]:
    """Open the loggers of a run: `train.log`, the gradients of the layers where wanted, and those of the key `logger`.

    Args:
        console, log_console: of the screen (None: there is none), and of `train.log`.
        swept: the keys that tell the trials of a sweep apart: its hyperparameters; (): every key is one.
    """
    timeline, state = context.timeline, context.state
    hparams = {key: value for key, value in compose.flat(cfg).items() if not swept or key in swept}
    shown = LoggerContext(
        directory=run.directory,
        tensorboard=run.tensorboard,
        start_step=state.step,
        recorded=state.recorded,
        total_steps=timeline.total,
        steps_per_epoch=timeline.steps_per_epoch,
        monitor=state.monitor.name,
        mode=state.monitor.mode,
        hparams={k: v if isinstance(v, (int, float, str, bool)) else str(v) for k, v in hparams.items()},
        labels=context.data.spec.labels,
        console=console,
        activity=context.activity,
    )
    loggers: list[Logger] = [SafeLogger(console_logger(log_console, shown), str(run.log))]
    stats = run.directory / "gradients.jsonl"
    if timeline.layer_stats.recurs or stats.exists():  # what is there is cut back even where no more is to be recorded
        layers = LayerStatsLogger(run.directory, state.recorded)
        loggers.append(SafeLogger(layers, f"{stats} and gradient_flow.png"))
    return [*loggers, *build_loggers(context.config, shown)]
