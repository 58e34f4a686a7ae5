"""One trial, in the process that runs it: whatever engine has started that process, it calls `run_trial`."""

import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from pathlib import Path

from trainer.config import compose, plugins
from trainer.config.safe_yaml import load_yaml
from trainer.errors import CheckpointError
from trainer.runs.directory import Run
from trainer.runs.run_training import run_training
from trainer.runs.start import RunStart
from trainer.runs.start_record import CommandLine
from trainer.sweeps.attended import from_json
from trainer.sweeps.directory import FAILED, FINISHED, SweepDirectory, status_of
from trainer.sweeps.engine import OUTPUT, TAKEN, TrialTask
from trainer.sweeps.pruning import SweepPruner
from trainer.system.process import limit_threads
from trainer.system.signals import SAVE, STOP, Interrupted, SignalHandler
from trainer.training.stopping import Pruner

LOCK_SECONDS = 2.0  # how long whoever looks at a trial may hold its lock


def main() -> None:
    """Run the trial that the standard input describes, as long as the process at its other end is there."""
    line = sys.stdin.buffer.readline()
    run_trial(from_json(line.decode()), os.dup(0))


def run_trial(task: TrialTask, lifeline: int | None = None) -> None:
    """Train a trial from its beginning or from its last checkpoint, in a process of its own.

    The summary in the run directory says how it ended. Exits with `TAKEN` where another process has it.

    Args:
        lifeline: a pipe whose other end is closed by the death of whoever looks after this process; None: the process
            that has started this one by multiprocessing.
    """
    _redirect(task.directory / OUTPUT)
    os.setpgid(0, 0)  # Ctrl-C in a terminal is for the sweep, which then stops its trials
    if task.devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = task.devices
    if task.threads is not None:
        limit_threads(task.threads)
    with SignalHandler() as signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOP, SAVE))  # those that came while there were no handlers
        _watch_parent(lifeline)
        run = _locked(Run(task.directory))
        try:
            if status_of(run.summary() or {}) in (*FINISHED, FAILED):
                sys.exit(TAKEN)  # another process was faster, and is done with it
            plugins.load(task.imports)
            run_training(_start(run, task), run, None, signals)
        except (Interrupted, KeyboardInterrupt):
            pass  # told in the summary, where anything was trained
        finally:
            run.release()
            _remove_empty(task.directory / OUTPUT)


def _start(run: Run, task: TrialTask) -> RunStart:
    cfg = compose.from_yaml(run.read_config(), str(run.config))
    typed = load_yaml((run.directory / "overrides.yaml").read_text(encoding="utf-8")) or []
    # Weights that another trial has displaced are those of a finished one, so a trial without any has none to lose.
    saved = run.checkpoints.is_dir() and next(run.checkpoints.glob("step-*"), None) is not None
    command = CommandLine([str(text) for text in typed], task.imports)
    start = RunStart(cfg, compose.to_config(cfg), run, command)
    return dataclasses.replace(start, checkpoint="last" if saved else None, swept=task.keys, pruner=_pruner(task))


def _pruner(task: TrialTask) -> Pruner | None:
    if not task.pruned:
        return None
    return SweepPruner(SweepDirectory.open(task.directory.parent, [], task.imports), task.number)


def _locked(run: Run) -> Run:
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return run.lock()
        except CheckpointError:
            if time.monotonic() > end:
                sys.exit(TAKEN)
            time.sleep(0.02)


def _watch_parent(lifeline: int | None) -> None:
    """Save and stop when the process that this one belongs to dies, however it dies."""
    parent = multiprocessing.parent_process()
    watched = lifeline if parent is None else parent.sentinel
    if watched is None:
        return  # whoever started this process looks after it
    main = threading.main_thread().ident
    assert main is not None

    def watch() -> None:
        multiprocessing.connection.wait([watched])
        signal.pthread_kill(main, signal.SIGTERM)

    threading.Thread(target=watch, name="trainer-parent", daemon=True).start()


def _redirect(path: Path) -> None:
    """Send what this process prints to a file, what C code prints too."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (descriptor, 1), (descriptor, 2)):
        os.dup2(source, target)
    os.close(descriptor)
    os.close(null)


def _remove_empty(path: Path) -> None:
    if path.exists() and path.stat().st_size == 0:
        path.unlink()


if __name__ == "__main__":
    main()
