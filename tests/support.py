"""What tests share: `train` and `trainer` as processes, what a run has left, and the bits of a state."""

import hashlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from warm import Process, python

from trainer.checkpoint.store import Store
from trainer.errors import CheckpointError
from trainer.loggers.files import read_metrics

TINY = ("model=linear", "data=synthetic", "data.num_samples=200")  # 160 samples to train on: 3 steps an epoch
CLOCKS = ("time", "samples_per_second")  # of a record: what two equal runs do not share

AnyProcess = Process | subprocess.Popen[str]
Command = Callable[..., subprocess.CompletedProcess[str]]
Verdict = Callable[..., None]


# Processes


def start_trainer(folder: Path, *words: str, env: dict[str, str] | None = None, **options: Any) -> AnyProcess:
    """Start `python -m trainer WORDS` in a folder, with both streams piped; see `warm.python`."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return python("-m", "trainer", *words, cwd=folder, env={"COLUMNS": "200"} | (env or {}), **options)


def run_trainer(
    folder: Path, *words: str, code: int | None = 0, timeout: float = 120, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run `python -m trainer WORDS` in a folder to its end; checks the exit code unless it is None."""
    return finish(start_trainer(folder, *words, **options), code, timeout)


def run_python(
    folder: Path, *arguments: str, code: int | None = 0, timeout: float = 120, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` in a folder to its end; checks the exit code unless it is None."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return finish(python(*arguments, cwd=folder, **pipes, **options), code, timeout)


def finish(process: AnyProcess, code: int | None = 0, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Wait for the end of a process and what it prints; checks the exit code unless it is None."""
    try:
        output, error = process.communicate(timeout=timeout)
    finally:
        process.kill()
    assert code in (process.returncode, None), f"exit code {process.returncode}\n{output}\n{error}"
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.args, process.returncode, output, error)


def wait_until(condition: Callable[[], object], process: AnyProcess, seconds: float = 60) -> None:
    """Wait for something that a process does; fails where it ends before, or takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None or condition(), f"ended with {process.returncode} too early"
        assert time.monotonic() < end, f"nothing has come in {seconds:g} s"
        time.sleep(0.005)


# What a run has left


def the_run(folder: Path) -> Path:
    """The only run directory below a folder."""
    [config] = folder.glob("**/config.yaml")
    return config.parent


def payload(run: Path, name: str = "last") -> dict[str, Any]:
    """The state that a checkpoint of a run holds."""
    loaded: dict[str, Any] = torch.load(run / "checkpoints" / name / "state.pt", weights_only=True)
    return loaded


def loadable(checkpoints: Path) -> int | None:
    """The step that `last` can be resumed from, after verification; None where nothing can be loaded."""
    try:
        step: int = Store(checkpoints).load("last")[0]["step"]
    except CheckpointError:
        return None
    return step


def rows(run: Path) -> list[dict[str, Any]]:
    """The records of a run without what depends on the clock."""
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in read_metrics(run)]


def digest(value: Any) -> str:
    """A hash of every bit of every tensor and number in nested containers."""
    sha = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, torch.Tensor):
            sha.update(f"{part.dtype} {tuple(part.shape)}".encode())
            sha.update(part.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        elif isinstance(part, dict):
            for key in sorted(part, key=repr):
                sha.update(repr(key).encode())
                add(part[key])
        elif isinstance(part, (list, tuple)):
            sha.update(f"list {len(part)}".encode())
            for item in part:
                add(item)
        else:
            sha.update(repr(part).encode())

    add(value)
    return sha.hexdigest()
