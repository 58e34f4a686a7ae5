"""One run from its config to its summary: what `train` and every job of a sweep have in common."""

import logging
import math
import time
import traceback
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console

from trainer.checkpoint.names import BEST, LAST, pointed
from trainer.config import compose
from trainer.errors import ConfigError, TrainerError
from trainer.loggers.base import Logger
from trainer.loggers.console import shown_while
from trainer.loggers.screen import say
from trainer.runs.assemble import assemble
from trainer.runs.build_parts import check_packages
from trainer.runs.directory import Run
from trainer.runs.meaning import write_meaning
from trainer.runs.messages import messages_to
from trainer.runs.run_loggers import open_loggers
from trainer.runs.start import RunStart
from trainer.runs.start_record import StartRecord
from trainer.runs.summary import change_lines, closing_lines, opening_lines
from trainer.system import atomic_files
from trainer.system.cores import cores
from trainer.system.device import PRECISION_NAMES
from trainer.system.file_system import take_notes
from trainer.system.memory import is_out_of_memory
from trainer.system.process import malloc_words
from trainer.system.signals import Interrupted, SignalHandler
from trainer.tasks.base import score_direction
from trainer.training.average import slow_average
from trainer.training.trainer import COMPLETED, EARLY_STOPPING, PRUNED, Trainer
from trainer.version import __version__

log = logging.getLogger("trainer")


def run_training(start: RunStart, run: Run, console: Console | None, signals: SignalHandler) -> dict[str, Any]:
    """Train; return the summary, which is also written as `summary.json`.

    Args:
        run: where it goes, locked by this process.
        console: where a person reads; None: only `train.log` is written.
        signals: entered by the caller.

    Raises:
        TrainerError: where the parts do not fit, and when training diverges; a bug raises what it raises. In each case
            the log has the traceback and the summary says "failed".
    """
    began = time.monotonic()
    trainer: Trainer | None = None
    loggers: list[Logger] = []
    summary: dict[str, Any] = {"status": "failed"}
    with messages_to(console, run) as log_console:
        try:
            with signals.interruptible:  # nothing is lost by not beginning
                with shown_while(console, "reading"):
                    trainer = _assemble(start, run, signals)
                _introduce(start, run, trainer)
                loggers = open_loggers(start.cfg, trainer.context, run, console, log_console, start.swept)
            run.began = True
            summary = summarize(trainer, trainer.fit(loggers), run)
        except KeyboardInterrupt:
            summary |= {"status": "stopped", "reason": "interrupted twice"}
            raise
        except Interrupted as request:
            summary |= {"status": "stopped", "reason": f"signal {request.signal}"}
            raise
        except BaseException as error:
            summary |= {"reason": f"{type(error).__name__}: {error}"}
            if trainer is not None:
                summary = summarize(trainer, "failed", run) | summary
            log.debug(traceback.format_exc())
            raise
        finally:
            summary.setdefault("seconds", round(time.monotonic() - began, 3))
            if run.began or start.checkpoint is None:  # a change that does not fit leaves the resumed run as it was
                _write_summary(run, summary)
            for logger in loggers:
                logger.close(summary)
        _say(closing_lines(summary, start.config, run, start.command.imports))
    return summary


def _assemble(start: RunStart, run: Run, signals: SignalHandler) -> Trainer:
    check_packages(start.config)  # before the data is read
    try:
        return assemble(start.config, run, resume=start.checkpoint, signals=signals, pruner=start.pruner)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        text = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"There is not enough memory for this model and this data ({text}); see model.*, data.batch_size and "
            "the size of the data."
        ) from error


def _introduce(start: RunStart, run: Run, trainer: Trainer) -> None:
    """Write what is known before the first step into the run directory, and print the first screen."""
    context = trainer.context
    steps, total = context.state.step, context.timeline.total
    if start.changes and total <= steps:
        raise ConfigError(
            f"{run.directory} has already made {steps} steps, and with these changes it would end at {total}; give it "
            "more trainer.epochs or trainer.steps."
        )
    record = StartRecord.read(run) or StartRecord.of_command(None, start.command)
    run.reopen()
    write_meaning(run, start.cfg)
    run.write_config(compose.to_yaml(start.cfg), list(start.command.overrides))
    device = context.compute.device
    environment = run.write_environment(
        list(start.command.imports),
        trainer=__version__,
        device=str(device),
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        precision=PRECISION_NAMES[context.compute.precision],
        threads=torch.get_num_threads(),
        cores=cores(),
        flush_denormals=trainer.notes["environment"]["flush_denormals"],
        malloc=malloc_words(),
        started=record.at(run, context.config.run.name).to_dict(),
    )
    for level, text in (*start.notes, *((logging.INFO, text) for text in take_notes())):
        log.log(level, text)
    _say(opening_lines(context, run, environment))
    _say(change_lines(start.changes, start.before, context))
    for name, text in context.data.files.items():
        atomic_files.write_text(run.directory / name, text)
    for line in context.data.notes if not steps else ():
        log.info(line)
    slow = slow_average(start.config.trainer.ema, start.config.trainer.ema_warmup, total)
    for text in (*context.data.warnings, *((slow,) if slow else ())):
        log.warning(text)


def say_finished(start: RunStart, console: Console) -> None:
    """Say how a run has ended in which nothing is left to do."""
    assert start.run is not None
    assert start.finished is not None
    lines = closing_lines(start.finished, start.config, start.run, start.command.imports)
    for text in (*(text for _, text in start.notes), *(f"{name:<10}{text}" for name, text in lines)):
        say(console, text)


def _say(lines: Sequence[tuple[str, str]]) -> None:
    for name, text in lines:
        log.info(f"{name:<10}{text}")


def _write_summary(run: Run, summary: dict[str, Any]) -> None:
    try:
        run.write_summary(summary)
    except TrainerError as error:  # the end of a run stays what it is, told or not
        log.warning(str(error))


def summarize(trainer: Trainer, reason: str, run: Run) -> dict[str, Any]:
    """Return the content of `summary.json`."""
    state, monitor = trainer.state, trainer.state.monitor

    def entry(metric: str, value: float | None, step: int, name: str) -> dict[str, Any]:
        checkpoint = pointed(run.checkpoints, name)
        path = None if checkpoint is None else f"{run.checkpoints.name}/{checkpoint.name}"
        return {"metric": metric, "mode": monitor.mode, "value": value, "step": step, "checkpoint": path}

    scores = {name: value if math.isfinite(value) else None for name, value in state.scores.items()}
    best = None if monitor.best is None else entry(monitor.best_name, monitor.best, monitor.best_step, BEST)
    decides = monitor.deciding(state.scores) if state.scores else monitor.name
    status = {COMPLETED: COMPLETED, EARLY_STOPPING: COMPLETED, PRUNED: PRUNED, "failed": "failed"}.get(
        reason, "stopped"
    )
    return {
        "status": status,
        "reason": reason,
        "best": best,
        "directions": {name: score_direction(trainer.context.task, name) for name in state.scores},
        "last": entry(decides, scores.get(decides), state.step, LAST) | {"scores": scores},
        "steps": state.step,
        "total_steps": trainer.timeline.total,
        "seconds": round(trainer.clock.seconds, 3),
    }
