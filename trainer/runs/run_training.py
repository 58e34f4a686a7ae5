"""Running one run from its config to its summary: what `train` and every job of a sweep have in common."""

import contextlib
import math
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from omegaconf import DictConfig
from rich.console import Console

from trainer.config import compose
from trainer.config.root import Config
from trainer.errors import ConfigError, TrainerError
from trainer.loggers.base import Logger, LoggerContext
from trainer.loggers.console import console_logger
from trainer.loggers.layer_stats import LayerStatsLogger
from trainer.loggers.safe import SafeLogger
from trainer.runs.assemble import RunContext, assemble
from trainer.runs.build_parts import build_loggers, check_packages
from trainer.runs.changes import Change
from trainer.runs.directory import Run
from trainer.runs.summary import change_lines, closing_lines, opening_lines
from trainer.system import atomic_files
from trainer.system.atomic_files import unwritable
from trainer.system.device import PRECISION_NAMES
from trainer.system.memory import is_out_of_memory
from trainer.system.process import cores, malloc_words
from trainer.system.signals import Interrupted, SignalHandler
from trainer.training.trainer import Trainer
from trainer.version import __version__


@dataclass
class Execution:
    """One run in this process.

    Attributes:
        cfg, config: the same config, as composed and as checked dataclasses.
        run: where it goes; locked by this process.
        console: where a person reads; None: only `train.log` is written.
        interruption: entered by the caller.
        overrides: what was typed.
        imports: what `--import` was given.
        resume: the checkpoint to go on from.
        changes: keys changed on resuming.
        before: the config before those changes.
    """

    cfg: DictConfig
    config: Config
    run: Run
    console: Console | None
    interruption: SignalHandler
    overrides: Sequence[str] = ()
    imports: Sequence[str] = ()
    resume: str | None = None
    changes: Sequence[Change] = ()
    before: Config | None = None
    started: bool = False  # whether all parts fitted and training has begun

    def __call__(self) -> dict[str, Any]:
        """Train; returns the summary, which is also written as `summary.json`.

        Raises:
            TrainerError: where the parts do not fit, and when training diverges; a bug raises what it raises. In
                each case the log has the traceback and the summary says "failed".
        """
        began = time.monotonic()
        with self._opened_log() as log:
            self._log = Console(file=log, width=200, color_system=None)
            self._sinks: list[Logger] = []
            trainer: Trainer | None = None
            summary: dict[str, Any] = {"status": "failed"}
            try:
                with self.interruption.droppable:  # nothing is lost by not beginning
                    trainer = self._assemble()
                self.started = True
                reason = trainer.fit()
                summary = summarize(trainer, reason, self.run)
            except KeyboardInterrupt:
                summary |= {"status": "stopped", "reason": "interrupted twice"}
                raise
            except Interrupted as request:
                summary |= {"status": "stopped", "reason": f"signal {request.signal}"}
                raise
            except BaseException as error:
                summary |= {"reason": f"{type(error).__name__}: {error}"}
                if trainer is not None:
                    summary = summarize(trainer, "failed", self.run) | summary
                self._say(traceback.format_exc(), self._log)
                raise
            finally:
                summary.setdefault("seconds", round(time.monotonic() - began, 3))
                if self.started or self.resume is None:  # a change that does not fit leaves the resumed run as it was
                    self._write_summary(summary)
                for sink in self._sinks:
                    sink.close(summary)
            for name, text in closing_lines(summary, self.config, self.run, self.imports):
                self._say(f"{name:<10}{text}")
        return summary

    def _assemble(self) -> Trainer:
        check_packages(self.config)  # before the data is read
        try:
            return assemble(
                self.config,
                self.run,
                resume=self.resume,
                sinks=self._make_sinks,
                interruption=self.interruption,
                tell=self._say,
            )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            text = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"There is not enough memory for this model and this data ({text}); see model.*, data.batch_size and "
                "the size of the data."
            ) from error

    @contextlib.contextmanager
    def _opened_log(self) -> Iterator[TextIO]:
        try:
            log = open(self.run.log, "a", encoding="utf-8", buffering=1)  # noqa: SIM115  # its closing may fail, below
        except OSError as error:
            raise unwritable(self.run.log, error) from error
        try:
            yield log
        finally:
            with contextlib.suppress(OSError):  # reported when it was written to
                log.close()

    def _write_summary(self, summary: dict[str, Any]) -> None:
        try:
            self.run.write_summary(summary)
        except TrainerError as error:  # the end of a run stays what it is, told or not
            self._say(f"warning: {error}")

    def _say(self, text: str, *consoles: Console) -> None:
        """Print to the screen and to the log; one that fails is left alone from then on."""
        for console in consoles or (self.console, self._log):
            if console is None:
                continue
            try:
                console.print(text, soft_wrap=True, highlight=False, markup=False)
            except OSError as error:
                console.quiet = True
                if console is self._log and self.console is not None:
                    self._say(f"warning: {self.run.log} can no longer be written ({error}).", self.console)

    def _make_sinks(self, parts: RunContext) -> list[Logger]:
        start, plan = parts.state.step, parts.plan
        recorded = parts.state.recorded
        if self.changes and plan.total <= start:
            raise ConfigError(
                f"{self.run.directory} has already made {start} steps, and with these changes it would end at "
                f"{plan.total}; give it more trainer.epochs or trainer.steps."
            )
        self.run.reopen()
        self.run.write_config(compose.to_yaml(self.cfg), list(self.overrides))
        environment = self.run.write_environment(
            list(self.imports),
            trainer=__version__,
            device=str(parts.device),
            device_name=torch.cuda.get_device_name(parts.device) if parts.device.type == "cuda" else None,
            precision=PRECISION_NAMES[parts.precision],
            threads=torch.get_num_threads(),
            cores=cores(),
            flush_denormals=parts.environment["flush_denormals"],
            malloc=malloc_words(),
        )
        for name, text in opening_lines(parts, self.run, environment):
            self._say(f"{name:<10}{text}")
        for name, text in change_lines(self.changes, self.before, parts):
            self._say(f"{name:<10}{text}")
        for name, text in parts.data.files.items():
            atomic_files.write_text(self.run.directory / name, text)
        for line in parts.data.notes if not start else ():
            self._say(line)
        monitor = parts.state.monitor
        context = LoggerContext(
            directory=self.run.directory,
            tensorboard=self.run.tensorboard,
            start_step=start,
            recorded=recorded,
            total_steps=plan.total,
            steps_per_epoch=plan.steps_per_epoch,
            monitor=monitor.name,
            mode=monitor.mode,
            hparams={
                k: v if isinstance(v, (int, float, str, bool)) else str(v) for k, v in compose.flat(self.cfg).items()
            },
            labels=parts.data.spec.labels,
            console=self.console,
        )
        self._sinks.append(SafeLogger(console_logger(self._log, context), str(self.run.log)))
        flow = self.run.directory / "gradients.jsonl"
        if plan.gradients.recurs or flow.exists():  # what is there is cut back even where no more is to be recorded
            layers = LayerStatsLogger(self.run.directory, recorded)
            self._sinks.append(SafeLogger(layers, f"{flow} and gradient_flow.png"))
        self._sinks += build_loggers(self.config, context)
        return self._sinks


def summarize(trainer: Trainer, reason: str, run: Run) -> dict[str, Any]:
    """The content of `summary.json`."""
    state, monitor = trainer.state, trainer.state.monitor
    done = reason in ("completed", "early stopping")
    last = run.checkpoints / "last"

    def entry(value: float | None, step: int, checkpoint: Path) -> dict[str, Any]:
        path = os.path.relpath(checkpoint.resolve(), run.directory.resolve()) if checkpoint.exists() else None
        return {"metric": monitor.name, "mode": monitor.mode, "value": value, "step": step, "checkpoint": path}

    scores = {name: value if math.isfinite(value) else None for name, value in state.scores.items()}
    best = None if monitor.best is None else entry(monitor.best, monitor.best_step, run.checkpoints / "best")
    return {
        "status": "completed" if done else "failed" if reason == "failed" else "stopped",
        "reason": reason,
        "best": best,
        "last": entry(scores.get(monitor.name), state.step, last) | {"scores": scores},
        "steps": state.step,
        "total_steps": trainer.plan.total,
        "seconds": round(trainer.seconds, 3),
    }
