"""Running one run from its config to its summary: what `train` and every job of a sweep have in common."""

import math
import os
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console

from trainer import __version__, compose
from trainer.assembly import Parts, assemble
from trainer.config import Config
from trainer.device import PRECISION_NAMES
from trainer.engine import Trainer
from trainer.errors import ConfigError
from trainer.interfaces import Sink
from trainer.runs import Run
from trainer.screen import closing_lines, opening_lines
from trainer.signals import Interruption
from trainer.sinks.console import LiveSink, PlainSink, Progress
from trainer.sinks.files import MetricsSink
from trainer.sinks.tensorboard import TensorBoardSink


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
        changes: keys changed on resuming, as lines for the first screen.
    """

    cfg: DictConfig
    config: Config
    run: Run
    console: Console | None
    interruption: Interruption
    overrides: Sequence[str] = ()
    imports: Sequence[str] = ()
    resume: str | None = None
    changes: Sequence[str] = ()
    started: bool = False  # whether all parts fitted and training has begun

    def __call__(self) -> dict[str, Any]:
        """Train; returns the summary, which is also written as `summary.json`.

        Raises:
            TrainerError: where the parts do not fit, and when training diverges; a bug raises what it raises. In
                each case the log has the traceback and the summary says "failed".
        """
        began = time.monotonic()
        with open(self.run.log, "a", encoding="utf-8") as log:
            self._log = Console(file=log, width=200, color_system=None)
            self._sinks: list[Sink] = []
            trainer: Trainer | None = None
            summary: dict[str, Any] = {"status": "failed"}
            try:
                trainer = assemble(
                    self.config,
                    self.run,
                    resume=self.resume,
                    sinks=self._make_sinks,
                    interruption=self.interruption,
                    warn=lambda text: self._say(f"warning: {text}"),
                )
                self.started = True
                reason = trainer.fit()
                summary = summarize(trainer, reason, self.run)
            except KeyboardInterrupt:
                summary |= {"status": "stopped", "reason": "interrupted twice"}
                raise
            except BaseException as error:
                summary |= {"reason": f"{type(error).__name__}: {error}"}
                if trainer is not None:
                    summary = summarize(trainer, "failed", self.run) | summary
                log.write(traceback.format_exc())
                raise
            finally:
                summary.setdefault("seconds", round(time.monotonic() - began, 3))
                if self.started or self.resume is None:  # a change that does not fit leaves the resumed run as it was
                    self.run.write_summary(summary)
                for sink in self._sinks:
                    sink.close(summary)
            for name, text in closing_lines(summary, self.config, self.run, self.imports):
                self._say(f"{name:<10}{text}")
        return summary

    def _say(self, text: str) -> None:
        for console in (self.console, self._log):
            if console is not None:
                console.print(text, soft_wrap=True, highlight=False, markup=False)

    def _make_sinks(self, parts: Parts) -> list[Sink]:
        start, plan = parts.state.step, parts.plan
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
        )
        for name, text in opening_lines(parts, self.run, environment):
            self._say(f"{name:<10}{text}")
        for change in self.changes:
            self._say(f"{'changed':<10}{change}")
        progress = Progress(plan.total, plan.steps_per_epoch, parts.state.monitor.name, start)
        hparams = {
            k: v if isinstance(v, (int, float, str, bool)) else str(v) for k, v in compose.flat(self.cfg).items()
        }
        self._sinks += [
            PlainSink(self._log, progress),
            MetricsSink(self.run.directory, start),
            TensorBoardSink(self.run.tensorboard, hparams, parts.data.spec.labels, start),
        ]
        if self.console is not None:
            sink = LiveSink if self.console.is_terminal else PlainSink
            self._sinks.append(sink(self.console, progress))
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
