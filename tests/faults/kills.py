"""Random kill campaign: `kill -9` at random moments, resumed until done, equals the run that nothing has stopped.

    python tests/faults/kills.py            (10 runs)
    python tests/faults/kills.py --full     (300 runs; --jobs N of them at a time, 2 unless said otherwise)

Each run is killed 1 to 5 times, half of the times while it saves; half of the kills hit the whole process group, the
others the training process alone, whose loader workers must then end by themselves. What is compared: every bit of the
`last` and `best` checkpoints, metrics.jsonl, metrics.csv, summary.json and what TensorBoard reads, all without clocks;
and a ledger with the samples, the rate and the loss of each step that any of the processes has made.
"""

import argparse
import csv
import hashlib
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from common import arguments, digest, loadable, verdict
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer import cli
from trainer.checkpoint import durable
from trainer.loggers.files import read_metrics
from trainer.system import atomic_files

CLOCKS = ("time", "samples_per_second")
SAVE_EVERY = 7
MOST_KILLS = 5
SURVIVAL = 2.0  # seconds in which a worker must have followed its parent
PATIENCE = 180.0  # seconds for one process to do all that is left of a run
STARTING = 0.2  # share of the kills that are to hit a process that is only starting
TAIL = 4096  # bytes at the end of a ledger that hold its last line
END = " end"  # of a whole line in the ledger: a kill may cut a write short

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


@dataclass
class Reference:
    """A run that nothing has stopped, and how long its parts took."""

    outcome: dict[str, Any]
    ledger: dict[int, str]
    boot: float
    training: float


@dataclass
class Trial:
    """What has become of one run: how it was killed, and what was wrong with it."""

    name: str
    kills: int = 0
    in_saves: int = 0
    missed: int = 0
    lost: int = 0  # most steps that one kill has cost
    failures: list[str] = field(default_factory=list)


# The process that is killed


def worker(ledger: str, words: Sequence[str]) -> int:
    """`train`, with one line in the ledger for each step that it makes."""
    from trainer.data.types import Batch
    from trainer.runs import assemble
    from trainer.training.step import StepOutput
    from trainer.training.trainer import Trainer

    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, b"\n")  # after a line that a kill has cut short

    class Ledgered(Trainer):
        def train_step(self, batch: Batch) -> StepOutput:
            report = super().train_step(batch)
            assert batch.positions is not None
            samples = ",".join(map(str, batch.positions.tolist()))
            line = f"{report.step} {samples} {float(report.lr).hex()} {report.loss.item().hex()}{END}\n"
            os.write(descriptor, line.encode())
            return report

    assemble.Trainer = Ledgered  # type: ignore[misc]
    return cli.run("train", words)


def start(folder: Path, words: Sequence[str]) -> "subprocess.Popen[bytes]":
    """The process, in a group of its own; what it says is appended to a file."""
    command = [sys.executable, __file__, "--worker", str(folder / "ledger"), "--", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    with open(folder / "output", "ab") as output:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


# What a run has come to


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
    found["metrics.jsonl"] = [_timeless(row) for row in read_metrics(run)]
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


# The campaign


class Campaign:
    """All runs of a campaign, in one folder.

    Args:
        folder: empty; where everything is written.
        seed: of the moments and the kinds of the kills.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.references: dict[str, Reference] = {}

    def words(self, recipe: Recipe) -> list[str]:
        """The command line of a recipe's run."""
        pictures = (f"data.root={self.folder / 'pictures'}",) if recipe.pictures else ()
        return [*BASE, *recipe.words, *pictures, "output_dir=outputs"]

    def draw_pictures(self) -> None:
        """120 tiny images to train on and 24 to validate on."""
        draw = random.Random(5)
        for label in ("cat", "dog", "owl"):
            for part, count in (("train", 40), ("val", 8)):
                (self.folder / "pictures" / part / label).mkdir(parents=True)
                for i in range(count):
                    path = self.folder / "pictures" / part / label / f"{i}.png"
                    Image.frombytes("RGB", (12, 12), draw.randbytes(432)).save(path)

    def refer(self, recipe: Recipe) -> None:
        """Train a recipe without a kill."""
        folder = self.folder / f"reference-{recipe.name.replace(' ', '-')}"
        folder.mkdir()
        began = time.monotonic()
        process = start(folder, self.words(recipe))
        wait_until(process, partial(has_made, folder, 1))
        boot = time.monotonic() - began
        code = process.wait(PATIENCE)
        if code:
            raise SystemExit(f"{recipe.name} does not train at all:\n{(folder / 'output').read_text()[-2000:]}")
        training = time.monotonic() - began - boot
        repeated: list[str] = []
        ledger = read_ledger(folder / "ledger", repeated)
        assert not repeated
        (run,) = runs_in(folder)
        self.references[recipe.name] = Reference(outcome(run), ledger, boot, training)
        reason = json.loads((run / "summary.json").read_text())["reason"]
        print(f"{recipe.name}: {len(ledger)} steps ({reason}) in {boot:.1f} + {training:.1f} s", flush=True)

    def attempt(self, number: int) -> Trial:
        """One run, killed and resumed until it is done; its folder is kept where it has failed."""
        recipe = RECIPES[number % len(RECIPES)]
        folder = self.folder / f"run-{number}"
        folder.mkdir()
        trial = Trial(f"run {number} ({recipe.name})")
        began = time.monotonic()
        try:
            self._attempt(recipe, random.Random(f"{self.seed} {number}"), folder, trial)
        except Exception as error:  # noqa: BLE001  # whatever cannot be read is a failure of this run, not of the rest
            trial.failures.append(f"{type(error).__name__}: {error}")
        trial.failures = [f"{trial.name}: {text}" for text in trial.failures]
        if not trial.failures:
            shutil.rmtree(folder)
        print(
            f"{trial.name}: {trial.kills} kills ({trial.in_saves} in saves), {time.monotonic() - began:.0f} s, "
            f"{'FAILED' if trial.failures else 'equal'}",
            flush=True,
        )
        return trial

    def _attempt(self, recipe: Recipe, draw: random.Random, folder: Path, trial: Trial) -> None:
        reference = self.references[recipe.name]
        steps = len(reference.ledger)
        for part in sorted(draw.random() for _ in range(draw.randint(1, MOST_KILLS))):
            made = last_step(folder)
            process = start(folder, self._next(recipe, folder))
            in_save, group = draw.random() < 0.5, draw.random() < 0.5
            late = draw.uniform(0, 0.008 if in_save else 2 * reference.training / steps)
            if draw.random() < STARTING:
                moment = after(draw.uniform(0.6, 1.1) * reference.boot)
            else:  # told by the steps, and not by the clock: other work on the machine may slow it down
                moment = partial(has_made, folder, max(made + 1, round(part * steps)))
            if not strike(process, moment, folder if in_save else None, late, group):
                trial.missed += 1
                break
            trial.kills += 1
            trial.in_saves += in_save
            killed = time.monotonic()
            self._examine(folder, trial)
            while left := members(process.pid):
                if time.monotonic() - killed > SURVIVAL:
                    trial.failures.append(f"{SURVIVAL:g} s after kill {trial.kills} there are still {left}")
                    break
                time.sleep(0.01)
        else:
            process = start(folder, self._next(recipe, folder))
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            trial.failures.append(f"did not end within {PATIENCE:g} s")
            return
        if code:
            output = (folder / "output").read_text(errors="replace")
            trial.failures.append(f"ended with {code}: {output.strip()[-600:]}")
            return
        (run,) = runs_in(folder)
        trial.failures += differences(outcome(run), reference.outcome)
        trial.failures += differences(read_ledger(folder / "ledger", trial.failures), reference.ledger)[:5]

    def _next(self, recipe: Recipe, folder: Path) -> list[str]:
        """Go on with the run, or start it where the process was killed before there was one."""
        runs = runs_in(folder)
        return [f"resume={runs[0]}"] if runs else self.words(recipe)

    def _examine(self, folder: Path, trial: Trial) -> None:
        """After a kill: a checkpoint must be there and whole, and no older than it may be."""
        made = max(read_ledger(folder / "ledger", []), default=0)
        if not made:
            return
        checkpoints = runs_in(folder)[0] / "checkpoints"
        saved = loadable(checkpoints)
        if saved is None:
            if made > 2 * SAVE_EVERY:
                trial.failures.append(f"{made} steps were made, and no checkpoint can be loaded")
            return
        trial.lost = max(trial.lost, made - saved)
        if made - saved > 2 * SAVE_EVERY:  # a save may still be written while the next interval is trained
            trial.failures.append(f"{made} steps were made, and the checkpoint is of step {saved}")


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


def wait_until(process: "subprocess.Popen[bytes]", condition: Callable[[], bool]) -> bool:
    """Whether a condition has come true before the process has ended."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.0005)
    return False


def strike(
    process: "subprocess.Popen[bytes]", moment: Callable[[], bool], saving: Path | None, late: float, group: bool
) -> bool:
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


def main() -> None:
    """Run the campaign."""
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--jobs", type=int, default=2)
    mine, sys.argv[1:] = own.parse_known_args()
    chosen = arguments("Random kill campaign; also takes --jobs N, runs at a time.", 10, 300, "runs")
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of every restart, and these are meant
    campaign = Campaign(folder, chosen.seed)
    campaign.draw_pictures()
    began = time.monotonic()
    with ThreadPoolExecutor(mine.jobs) as pool:
        list(pool.map(campaign.refer, RECIPES[: chosen.trials]))
        trials = list(pool.map(campaign.attempt, range(chosen.trials)))
    kills, in_saves = sum(trial.kills for trial in trials), sum(trial.in_saves for trial in trials)
    print(
        f"{kills} kills, {in_saves} of them in saves; {sum(trial.missed for trial in trials)} came after the end; at "
        f"most {max(trial.lost for trial in trials)} steps were made again, saving every {SAVE_EVERY}; "
        f"{time.monotonic() - began:.0f} s"
    )
    failures = [text for trial in trials for text in trial.failures]
    if failures:
        print(f"what has failed is kept in {folder}")
    else:
        shutil.rmtree(folder)
    verdict("kills", len(trials), failures)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        sys.exit(worker(sys.argv[2], sys.argv[4:]))
    main()
