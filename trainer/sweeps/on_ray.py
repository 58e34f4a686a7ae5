"""Trials as tasks of Ray, on all machines of a cluster that share the directory of the sweep."""

import importlib
import logging
from collections.abc import Sequence
from typing import Any

from trainer.config.sweep import SweepConfig
from trainer.sweeps.attended import attend, forget_requests, request
from trainer.sweeps.engine import Ending, TrialTask

RETRIES = 3  # of a task whose machine is lost; Ray starts it on another one, where the trial goes on


class RayEngine:
    """One task of Ray a trial, on the cluster that RAY_ADDRESS names, or on this machine.

    Args:
        sweep: the section `sweep`.
    """

    def __init__(self, sweep: SweepConfig) -> None:
        self._ray: Any = importlib.import_module("ray")
        self._began = not self._ray.is_initialized()
        if self._began:
            self._ray.init(log_to_driver=False, logging_level=logging.ERROR)
        self.cpus, gpus = sweep.cpus or 1, sweep.gpus or 0.0
        self._task = self._ray.remote(num_cpus=self.cpus, num_gpus=gpus, max_retries=RETRIES)(attend)
        self.jobs = sweep.most_jobs or self._room(gpus)
        self._running: dict[Any, tuple[int, TrialTask]] = {}

    def _room(self, gpus: float) -> int:
        """Return how many trials the cluster can run at a time."""
        there = self._ray.cluster_resources()
        room = [there.get("CPU", 0) // self.cpus] + ([there.get("GPU", 0) // gpus] if gpus else [])
        return max(1, int(min(room)))

    def start(self, number: int, task: TrialTask) -> None:
        """See `Engine`."""
        forget_requests(task)
        task = task.with_threads(self.cpus)
        self._running[self._task.remote(task)] = number, task

    def wait(self, seconds: float) -> Sequence[Ending]:
        """See `Engine`."""
        done, _ = self._ray.wait(list(self._running), timeout=seconds) if self._running else ([], None)
        return [Ending(self._running.pop(one)[0], self._code(one)) for one in done]

    def _code(self, done: Any) -> int | None:
        try:
            return int(self._ray.get(done))
        except self._ray.exceptions.RayError:
            return None  # its machine was lost again and again

    def send(self, number: int, signal: int) -> None:
        """See `Engine`."""
        for one, task in self._running.values():
            if one == number:
                request(task, signal)

    def close(self) -> None:
        """See `Engine`."""
        if self._began:
            self._ray.shutdown()
