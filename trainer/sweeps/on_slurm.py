"""Trials as jobs of Slurm, by submitit: an array of them, each of which saves, is requeued and goes on at its limit."""

import importlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.config.sweep import SweepConfig
from trainer.errors import ConfigError
from trainer.sweeps.attended import AttendedTrial, forget_requests, request
from trainer.sweeps.engine import Ending, TrialTask

FOLDER = "slurm"  # in the directory of the sweep: what submitit writes
LOCAL = "local"  # sweep.slurm.cluster: submitit's own executor, to try it without Slurm
TICK = 0.2  # seconds between two looks at the jobs


class SlurmTrial:
    """What a job runs. submitit calls `checkpoint` shortly before the time limit, and when the job is preempted."""

    def __call__(self, task: TrialTask) -> int:
        """Run a trial to its end; return its exit code."""
        self._attended = AttendedTrial(task)
        return self._attended.wait()

    def checkpoint(self, task: TrialTask) -> Any:
        """Let the trial save and stop; return what submitit is to queue again: it goes on where it has stopped."""
        self._attended.stop()
        return importlib.import_module("submitit").helpers.DelayedSubmission(SlurmTrial(), task)


class SlurmEngine:
    """One job of Slurm a trial; jobs that are started together are an array.

    Args:
        sweep: the section `sweep`.
        directory: of the sweep, which all machines share.
        count: of its trials: with `sweep.jobs=auto` as many may be queued.

    Raises:
        ConfigError: where there is no Slurm, or submitit does not know a parameter.
    """

    def __init__(self, sweep: SweepConfig, directory: Path, count: int) -> None:
        submitit: Any = importlib.import_module("submitit")
        given = {str(name): value for name, value in sweep.slurm.items()}
        cluster = str(given.pop("cluster", "slurm"))
        if cluster != LOCAL and shutil.which("sbatch") is None:
            raise ConfigError(
                "sweep.engine=slurm: there is no sbatch here; start it on a login node, or try it without Slurm: "
                f"sweep.slurm.cluster={LOCAL}."
            )
        self.cpus, self.jobs = sweep.cpus or 1, sweep.most_jobs or count
        self._executor = submitit.AutoExecutor(directory.absolute() / FOLDER, cluster=cluster)
        resources = {"cpus_per_task": self.cpus} | ({} if sweep.gpus is None else {"gpus_per_node": int(sweep.gpus)})
        try:
            self._executor.update_parameters(slurm_array_parallelism=self.jobs, name="sweep", **resources | given)
        except (NameError, TypeError, ValueError, AssertionError) as error:
            raise ConfigError(f"sweep.slurm={given}: {str(error).splitlines()[0]}") from error
        self._failed: type[Exception] = submitit.core.utils.UncompletedJobError
        self._queued: list[tuple[int, TrialTask]] = []
        self._running: dict[int, tuple[Any, TrialTask]] = {}

    def start(self, number: int, task: TrialTask) -> None:
        """See `Engine`; it is submitted with all others that are started before the next `wait`."""
        forget_requests(task)
        self._queued.append((number, task.with_threads(self.cpus)))

    def _submit(self) -> None:
        queued, self._queued = self._queued, []
        if queued:
            with self._executor.batch():
                jobs = [self._executor.submit(SlurmTrial(), task) for _, task in queued]
            self._running |= {number: (job, task) for (number, task), job in zip(queued, jobs, strict=True)}

    def wait(self, seconds: float) -> Sequence[Ending]:
        """See `Engine`."""
        self._submit()
        end = time.monotonic() + seconds
        while not (done := [number for number, (job, _) in self._running.items() if job.done()]):
            if time.monotonic() >= end:
                break
            time.sleep(min(TICK, seconds))
        return [Ending(number, self._code(self._running.pop(number)[0])) for number in done]

    def _code(self, job: Any) -> int | None:
        try:
            return int(job.result())
        except (self._failed, OSError):
            return None  # it was cancelled, or its machine was lost

    def send(self, number: int, signal: int) -> None:
        """See `Engine`; a job that still waits in the queue is withdrawn."""
        self._submit()
        if number in self._running:
            job, task = self._running[number]
            if job.state == "PENDING":
                job.cancel()
            request(task, signal)

    def close(self) -> None:
        """See `Engine`."""
