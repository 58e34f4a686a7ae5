"""What runs the trials of a sweep: how it is told which, and how it says what became of them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

OUTPUT = "output.log"  # in the run directory: what a trial prints, and what a native crash says; absent where nothing
TAKEN = 75  # exit code of a trial that another process has (EX_TEMPFAIL of sysexits.h)


@dataclass(frozen=True)
class TrialTask:
    """What the process of a trial is told; all else stands in the run directory.

    Attributes:
        directory: of the trial, whose `config.yaml` is written.
        imports: plug-ins.
        keys: what the sweep varies.
        number: of the trial.
        pruned: whether it is stopped early where it will not be the best.
        threads: CPU threads that it may use; None: all.
        devices: GPUs that it may use, as CUDA_VISIBLE_DEVICES; None: all.
    """

    directory: Path
    imports: Sequence[str]
    keys: Sequence[str]
    number: int
    pruned: bool = False
    threads: int | None = None
    devices: str | None = None

    def with_threads(self, threads: int) -> "TrialTask":
        """Return the task with so many CPU threads."""
        return dataclasses.replace(self, threads=threads)


@dataclass(frozen=True)
class Ending:
    """How the process of a trial has ended.

    Attributes:
        number: of the trial.
        code: its exit code, negative for a signal; None: the engine does not know.
    """

    number: int
    code: int | None


class Engine(Protocol):
    """Starts trials in processes of their own, and says how those end.

    Attributes:
        jobs: trials at a time.
    """

    jobs: int

    def start(self, number: int, task: TrialTask) -> None:
        """Start a process that calls `trainer.sweeps.trial.run_trial(task)`."""
        ...

    def wait(self, seconds: float) -> Sequence[Ending]:
        """Wait until processes have ended, or for so long; return how, each once."""
        ...

    def send(self, number: int, signal: int) -> None:
        """Send a signal to the process of a trial: SIGTERM lets it save and stop, SIGKILL ends it whatever it does."""
        ...

    def close(self) -> None:
        """Release what the engine holds; its processes have ended."""
        ...
