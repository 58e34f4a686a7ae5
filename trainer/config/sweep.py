"""What a sweep does beside what it varies: how trials are chosen, run side by side and ranked.

It is a group of its own and no section of a run's config: a trial does not know that it is one.
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from trainer.config import durations
from trainer.config.registry import SWEEP, register
from trainer.config.section import FIXED, FREE, Section, key, other_default
from trainer.errors import ConfigError


@dataclass
class SweepConfig(Section):
    """Base of the ways to choose trials."""

    on_resume: ClassVar[str] = FREE  # how the same trials are worked off

    params: dict[str, Any] = key(
        {}, "what is varied, as {key: values} in the words of the command line; for experiment files", on_resume=FIXED
    )
    trials: int | None = key(None, "number of trials, those of all seeds counted; null: all", at_least=1)
    seeds: int = key(1, "train each setting with this many seeds, from `seed` on", at_least=1, on_resume=FIXED)
    seed: int = key(0, "seed of random draws, of shuffle() and of the sampler", at_least=0, on_resume=FIXED)
    metric: Any = key(
        None,
        "score that ranks the trials, such as val/loss, in its own direction; it becomes their trainer.monitor; a list "
        "gives a Pareto table; null: their own",
        on_resume=FIXED,
    )
    jobs: str | None = key(
        None,
        "trials at a time, each in a process of its own: a number, or auto: one per GPU or core, or what a cluster has "
        "room for; null: 1 on this machine, else auto",
    )
    jobs_per_device: int = key(1, "trials at a time on one GPU, for sweep.jobs=auto", at_least=1)
    engine: str = key(
        "local",
        "what runs the trials; local: processes of this machine; ray: tasks of a cluster; slurm: jobs, by submitit",
        choices=("local", "ray", "slurm"),
    )
    cpus: int | None = key(None, "CPU cores and threads of a trial, for ray and slurm; null: 1", at_least=1)
    gpus: float | None = key(None, "GPUs of a trial, or a share of one, for ray and slurm; null: none", at_least=0)
    slurm: dict[str, Any] = key(
        {}, "parameters of submitit, as {partition: gpu, timeout_min: 60}; cluster: local tries it without Slurm"
    )
    max_time: str | None = key(
        None, "wall-clock limit of this process, such as 8h: trials then save and stop, with exit code 124"
    )
    trial_max_time: str | None = key(
        None, "wall-clock limit of one trial, such as 30min: it then counts as failed, whatever it hangs in"
    )
    retry: str = key("none", "finished trials to run again when a sweep goes on", choices=("none", "failed"))
    keep: int | None = key(None, "keep the weights of this many best trials only; null: of all", at_least=1)
    dir: str | None = key(None, "directory of the sweep; one that exists goes on; null: a new one in output_dir")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.jobs is not None and not re.fullmatch(r"auto|[1-9]\d{0,3}", self.jobs):
            raise ConfigError(f"sweep.jobs={self.jobs}: must be auto or a number of processes, such as 2.")
        for name in ("cpus", "gpus") if self.engine == "local" else ("slurm",) if self.engine == "ray" else ():
            if getattr(self, name):
                raise ConfigError(f"sweep.{name} is not for sweep.engine={self.engine}; leave it out.")
        for name in ("max_time", "trial_max_time"):
            text = getattr(self, name)
            if text is not None and durations.parse_duration(text, f"sweep.{name}").unit != "second":
                raise ConfigError(f"sweep.{name}={text}: must be a wall-clock time, such as 30min or 8h.")
        names = self.metrics()
        if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
            raise ConfigError(f"sweep.metric={self.metric}: must be a score such as val/loss, or a list of several.")

    @property
    def most_jobs(self) -> int | None:
        """How many trials are run at a time; None: as many as there is room for."""
        jobs = self.jobs or ("1" if self.engine == "local" else "auto")
        return None if jobs == "auto" else int(jobs)

    def metrics(self) -> list[str]:
        """Return the scores that rank the trials, with their prefix; []: the monitored one."""
        typed = self.metric if isinstance(self.metric, (list, tuple)) else [self.metric] * (self.metric is not None)
        return [name if not isinstance(name, str) or "/" in name else f"val/{name}" for name in typed]

    def seconds(self, name: str) -> float | None:
        """Return a wall-clock limit in seconds; None where there is none."""
        text = getattr(self, name)
        return None if text is None else durations.parse_duration(text, f"sweep.{name}").value


@register(SWEEP, "grid")
@dataclass
class GridSweep(SweepConfig):
    """Every combination of the values; the last key that was typed varies fastest."""


@register(SWEEP, "zip")
@dataclass
class ZipSweep(SweepConfig):
    """The first values of all keys together, then the second ones, and so on."""


@register(SWEEP, "random")
@dataclass
class RandomSweep(SweepConfig):
    """Random values, from intervals too; of lists alone, combinations without repetition."""

    trials: int | None = other_default(SweepConfig, "trials", 20)


@register(SWEEP, "optuna")
@dataclass
class OptunaSweep(SweepConfig):
    """Values that Optuna suggests from the finished trials (pip install 'trainer[optuna]')."""

    trials: int | None = other_default(SweepConfig, "trials", 50)
    sampler: str = key(
        "tpe",
        "how settings are suggested; gp needs scipy, cmaes the package cmaes",
        choices=("tpe", "cmaes", "gp", "random", "qmc"),
        on_resume=FIXED,
    )
    pruner: str = key(
        "none",
        "which trials are stopped early, by the ranking score at each validation",
        choices=("none", "median", "hyperband", "asha", "wilcoxon"),
        on_resume=FIXED,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pruner != "none" and self.seeds > 1:
            raise ConfigError(f"sweep.pruner={self.pruner} compares single trials; leave sweep.seeds at 1.")
        if len(self.metrics()) > 1:
            raise ConfigError("sweep.metric: sweep=optuna improves one score; name one, the table can show others.")
