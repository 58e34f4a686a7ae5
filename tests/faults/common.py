"""What the fault campaigns share: real `train` processes, the hash of a state, and a verdict."""

import argparse
import hashlib
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint.store import Store
from trainer.errors import CheckpointError

logging.getLogger("trainer").addHandler(logging.NullHandler())  # damage is meant here: its warnings go nowhere


def arguments(about: str, quick: int, full: int, unit: str) -> argparse.Namespace:
    """`--quick`, `--full`, `--trials N` and `--keep-going` of a campaign; `.trials` is the number that was chosen."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--full", action="store_true", help=f"{full} {unit} (otherwise {quick})")
    parser.add_argument("--quick", action="store_true", help="the default, spelled out")
    parser.add_argument("--trials", type=int, help=f"so many {unit}")
    parser.add_argument("--seed", type=int, default=0, help="of the campaign's own random choices")
    parsed = parser.parse_args()
    parsed.trials = parsed.trials or (full if parsed.full else quick)
    return parsed


def train(*words: str, cwd: Path, **options: Any) -> "subprocess.Popen[str]":
    """Start `train` in a process group of its own; one thread, so that campaigns can share a machine."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | options.pop("env", {})
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", "train", *words],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        **options,
    )


def can_trace() -> bool:
    """Whether strace is there and may attach to a process that is not its child (a container may forbid it)."""
    if shutil.which("strace") is None:
        return False
    with subprocess.Popen(["sleep", "0.3"]) as sleeper:
        tracer = subprocess.run(
            ["strace", "-qq", "-o", os.devnull, "-p", str(sleeper.pid)], check=False, capture_output=True
        )
    return tracer.returncode == 0


def loadable(checkpoints: Path) -> int | None:
    """The step that `last` can be resumed from, after verification; None where nothing can be loaded."""
    try:
        step: int = Store(checkpoints).load("last")[0]["step"]
    except CheckpointError:
        return None
    return step


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


def verdict(campaign: str, trials: int, failures: list[str]) -> None:
    """Print `CAMPAIGN: N trials, M failures` and the failures; exit 1 where there are any, or nothing was tried."""
    for text in failures:
        print(f"FAILED  {text}")
    print(f"{campaign}: {trials} trials, {len(failures)} failures")
    sys.exit(1 if failures or not trials else 0)
