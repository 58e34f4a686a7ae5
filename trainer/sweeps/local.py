"""Trials side by side on this machine: one process each, forked from a server that has the package imported."""

import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainer.config.sweep import OptunaSweep, SweepConfig
from trainer.sweeps.engine import Ending, TrialTask
from trainer.system.cores import cores
from trainer.system.signals import SAVE, STOP

# What nearly every trial imports. The one thread that it starts is that of pyarrow's allocator, which knows of forks.
PRELOADED = (
    "trainer.sweeps.trial",
    "trainer.models.linear",
    "trainer.models.mlp",
    "trainer.models.cnn",
    "trainer.tasks.classification",
    "trainer.tasks.regression",
    "torch.utils.tensorboard.summary",
    "tensorboard.summary.writer.record_writer",
    "trainer.data.table.table_data",
    "trainer.sweeps.preload",
    "pandas",  # by pyarrow, at the first constant it is given, where it is installed
)
PRUNING = {"none": (), "wilcoxon": ("optuna", "scipy.stats")}  # what each of the other pruners imports: optuna
NVIDIA = Path("/proc/driver/nvidia/gpus")
LOST = 255  # exit code of a process whose server was killed: nobody has seen how it ended
ATTEMPTS = 3  # to start a process, where the server is killed just then


def gpus(device: str) -> list[str]:
    """Return the GPUs that trials may use, as CUDA_VISIBLE_DEVICES names them; [] where they train on something else.

    Args:
        device: `trainer.device` of the trials.
    """
    if device not in ("auto", "cuda"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [str(i) for i in range(len(list(NVIDIA.iterdir())))] if NVIDIA.is_dir() else []


class LocalEngine:
    """Processes of this machine, `sweep.jobs` at a time, with the cores and GPUs divided among them.

    Args:
        sweep: the section `sweep`.
        device: `trainer.device` of the trials.
    """

    def __init__(self, sweep: SweepConfig, device: str) -> None:
        self.devices = gpus(device)
        automatic = len(self.devices) * sweep.jobs_per_device or cores()
        self.jobs = sweep.most_jobs or automatic
        self.threads = max(1, cores() // self.jobs)
        self._context = multiprocessing.get_context("forkserver")
        start_server(sweep.pruner if isinstance(sweep, OptunaSweep) else "none")
        self._running: dict[int, multiprocessing.context.ForkServerProcess] = {}
        self._places: dict[int, int] = {}  # of each running trial among those that run at a time

    def start(self, number: int, task: TrialTask) -> None:
        """See `Engine`."""
        place = min(set(range(self.jobs)) - set(self._places.values()))
        devices = self.devices[place % len(self.devices)] if self.devices else None
        task = dataclasses.replace(task, threads=self.threads, devices=devices)
        for attempt in range(1, ATTEMPTS + 1):
            process = self._context.Process(target=_target, args=(task,), name=f"trial {number}")
            try:
                with _signals_wait():
                    process.start()
                break
            except (EOFError, OSError):
                if attempt == ATTEMPTS:
                    raise
        self._running[number], self._places[number] = process, place

    def wait(self, seconds: float) -> Sequence[Ending]:
        """See `Engine`."""
        multiprocessing.connection.wait([process.sentinel for process in self._running.values()], seconds)
        ended = []
        for number, process in list(self._running.items()):
            code = process.exitcode
            if code is not None:
                ended.append(Ending(number, None if code == LOST else code))
                process.close()
                del self._running[number], self._places[number]
        return ended

    def send(self, number: int, signal: int) -> None:
        """See `Engine`."""
        process = self._running.get(number)
        if process is not None and process.exitcode is None and process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal)

    def close(self) -> None:
        """See `Engine`. The server ends with this process."""


def start_server(pruner: str = "none") -> None:
    """Start the process that trials are forked from, unless it runs: it imports while this one does other things."""
    multiprocessing.forkserver.set_forkserver_preload([*PRELOADED, *PRUNING.get(pruner, ("optuna",))])
    multiprocessing.resource_tracker.ensure_running()  # it would let signals through again
    with _signals_wait():
        multiprocessing.forkserver.ensure_running()


def _target(task: TrialTask) -> None:
    from trainer.sweeps.trial import run_trial

    run_trial(task)


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Let signals wait, also those to a process that is started meanwhile: a trial takes them once it has handlers.

    The server, which gets those of the whole process group too, thereby never acts on them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP, SAVE))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
