"""Runs that are killed, with a ledger of their steps: what they have come to, and when to strike."""

import csv
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.programs.ledgered import END
from support import CLOCKS, AnyProcess, digest, rows
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from warm import python

from trainer.checkpoint import durable
from trainer.system import atomic_files

PROGRAM = Path(__file__).parent / "programs" / "ledgered.py"
SAVE_EVERY = 7
TAIL = 4096  # bytes at the end of a ledger that hold its last line

BASE = ("trainer.threads=1", f"trainer.save_every={SAVE_EVERY}", "trainer.keep=2")
STREAMED = (
    "data=image_folder",
    "data.cache_bytes=0",
    "data.batch_size=16",
    "trainer.steps=160",
    "trainer.log_every=1",
)


@dataclass(frozen=True)
class Recipe:
    """What is trained; long enough to be hit, short enough to be done 300 times."""

    name: str
    words: tuple[str, ...]
    pictures: bool = False  # whether it reads the generated image folder


RECIPES = (
    Recipe("dropout", ("data=digits", "trainer.epochs=6", "trainer.log_every=5")),
    Recipe(
        "augmentation",
        (
            "data=synthetic_images",
            "data.augment=true",
            "data.num_samples=300",
            "data.image_size=12",
            "data.batch_size=24",
            "trainer.epochs=13",
            "trainer.log_every=1",
            "optimizer=sgd",
            "optimizer.momentum=0.9",
            "optimizer.lr=0.02",
        ),
    ),
    Recipe(
        "accumulation",
        (
            "data=digits",
            "data.batch_size=96",
            "trainer.micro_batch=36",
            "trainer.clip_norm=1.0",
            "trainer.epochs=8",
            "trainer.log_every=5",
            "scheduler=onecycle",
        ),
    ),
    Recipe(
        "ema",
        (
            "data=digits",
            "trainer.ema=0.9",
            "trainer.epochs=6",
            "trainer.log_every=5",
            "trainer.eval_every=13",
            "trainer.log_histograms=11",
        ),
    ),
    Recipe(
        "early stopping",
        (
            "data=synthetic_images",
            "data.num_samples=200",
            "data.noise=2.0",
            "data.image_size=8",
            "data.batch_size=20",
            "scheduler=plateau",
            "scheduler.patience=1",
            "scheduler.factor=0.5",
            "optimizer.lr=0.005",
            "trainer.monitor=val/loss",
            "trainer.patience=12",
            "trainer.epochs=100",
            "trainer.eval_every=5",
            "trainer.log_every=1",
        ),
    ),
    Recipe("one worker", (*STREAMED, "data.workers=1"), pictures=True),
    Recipe("two workers", (*STREAMED, "data.workers=2"), pictures=True),
)


def start(folder: Path, words: Sequence[str], cold: bool = False) -> AnyProcess:
    """The process, in a group of its own; what it says is appended to a file."""
    with open(folder / "output", "ab") as output:
        streams = {"stdout": output, "stderr": output}
        ledger = str(folder / "ledger")
        return python(str(PROGRAM), ledger, *words, cwd=folder, env={"COLUMNS": "200"}, cold=cold, **streams)


def read_ledger(path: Path, failures: list[str]) -> dict[int, str]:
    """Step -> its line; a step that was made twice must have made the same line."""
    lines: dict[int, str] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.endswith(END):
            step = int(line.partition(" ")[0])
            if lines.setdefault(step, line) != line:
                failures.append(f"step {step} was made twice, and not alike: {_difference(lines[step], line)}")
    return lines


def outcome(run: Path) -> dict[str, Any]:
    """All that a run leaves behind, without clocks."""
    found: dict[str, Any] = {}
    for name in ("last", "best"):
        payload = durable.load_verified(run / "checkpoints" / name)
        found |= {f"{name}: {key}": digest(value) for key, value in payload.items() if key != "seconds"}
        found[f"{name}: step"] = payload["step"]
    # Not the list of checkpoints: a kill between the last save and its pruning leaves an old one, which does no harm.
    found["half-written"] = sorted(path.name for path in run.rglob(f"*{atomic_files.TEMPORARY}*"))
    found["metrics.jsonl"] = rows(run)
    with open(run / "metrics.csv", newline="") as table:
        found["metrics.csv"] = [_timeless(row) for row in csv.DictReader(table)]
    summary = json.loads((run / "summary.json").read_text())
    found["summary.json"] = {key: value for key, value in summary.items() if key != "seconds"}
    return found | tensorboard(run)


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in CLOCKS}


def tensorboard(run: Path) -> dict[str, Any]:
    """What TensorBoard itself reads from the event files: tag -> (step, value)."""
    kinds = {"scalars": 0, "images": 0, "histograms": 0}
    events = EventAccumulator(str(run / "tensorboard"), size_guidance=kinds)
    events.Reload()
    found: dict[str, Any] = {}
    for tag in events.Tags()["scalars"]:
        if tag not in CLOCKS:
            found[f"tensorboard {tag}"] = [(event.step, event.value) for event in events.Scalars(tag)]
        if tag.startswith("hparams/"):  # of the end, which has no step that could be cut: told once for each end
            found[f"tensorboard {tag}"] = set(found[f"tensorboard {tag}"])
    for tag in events.Tags()["images"]:
        shown = events.Images(tag)
        found[f"tensorboard {tag}"] = [(e.step, hashlib.sha256(e.encoded_image_string).hexdigest()) for e in shown]
    for tag in events.Tags()["histograms"]:
        found[f"tensorboard {tag}"] = [(event.step, repr(event.histogram_value)) for event in events.Histograms(tag)]
    return found


def differences(made: dict[Any, Any], expected: dict[Any, Any]) -> list[str]:
    """Where two outcomes differ, in a few words each."""
    keys = sorted(made.keys() | expected.keys(), key=repr)
    return [
        f"{key}: {_difference(made.get(key), expected.get(key))}" for key in keys if made.get(key) != expected.get(key)
    ]


def _difference(made: Any, expected: Any) -> str:
    if isinstance(made, list) and isinstance(expected, list):
        pairs = zip(made, expected, strict=False)
        first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(made), len(expected)))
        return f"entry {first} of {len(made)}: {made[first : first + 1]} instead of {expected[first : first + 1]}"[:400]
    return f"{made!r:.200} instead of {expected!r:.200}"


def runs_in(folder: Path) -> list[Path]:
    """The run directories that can be resumed."""
    return sorted(path.parent for path in folder.glob("outputs/*/*/config.yaml"))


def last_step(folder: Path) -> int:
    """The step of the last whole line in the ledger; 0 where there is none."""
    ledger = folder / "ledger"
    if not ledger.exists():
        return 0
    with open(ledger, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        lines = file.read().decode().split("\n")[1:]
    whole = [line for line in lines if line.endswith(END)]
    return int(whole[-1].partition(" ")[0]) if whole else 0


def has_made(folder: Path, step: int) -> bool:
    """Whether a run has come to a step."""
    return last_step(folder) >= step


def after(seconds: float) -> Callable[[], bool]:
    """Whether so much time has passed since now."""
    due = time.monotonic() + seconds
    return lambda: time.monotonic() >= due


def wait_until(process: AnyProcess, condition: Callable[[], bool]) -> bool:
    """Whether a condition has come true before the process has ended."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.0005)
    return False


def strike(process: AnyProcess, moment: Callable[[], bool], saving: Path | None, late: float, group: bool) -> bool:
    """Kill a process when the moment has come, or in the first save after it; False where it has ended before.

    Args:
        moment: whether it has come.
        saving: the folder of the run; None: do not wait for a save.
        late: seconds to wait after that.
        group: whether all processes of the run are killed, or only the one that trains.
    """
    if not wait_until(process, moment):
        return False
    if saving is not None and not wait_until(process, lambda: is_saving(saving)):
        return False
    time.sleep(late)
    if process.poll() is not None:
        return False
    if group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    return process.wait() == -signal.SIGKILL


def is_saving(folder: Path) -> bool:
    """Whether something half-written is among the checkpoints."""
    for checkpoints in folder.glob("outputs/*/*/checkpoints"):
        with os.scandir(checkpoints) as entries:
            if any(entry.name.startswith(atomic_files.TEMPORARY) for entry in entries):
                return True
    return False


def members(group: int) -> list[str]:
    """The live processes of a process group, as `pid name`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:  # it has just ended
            continue
        name, _, rest = text.rpartition(")")
        state, _, owner = rest.split()[:3]
        if int(owner) == group and state not in "ZX":
            found.append(name.replace("(", ""))
    return found
