"""Random kill campaign: `kill -9` at random moments, resumed until done, equals the run that nothing has stopped.

    pytest -m faults tests/faults/test_kills.py            # 3 runs
    pytest -m faults tests/faults/test_kills.py --full     # 300 runs

Each run is killed 1 to 5 times, half of the times while it saves; half of the kills hit the whole process group, the
others the training process alone, whose loader workers must then end by themselves. What is compared: every bit of the
`last` and `best` checkpoints, metrics.jsonl, metrics.csv, summary.json and what TensorBoard reads, all without clocks;
and a ledger with the samples, the rate and the loss of each step that any of the processes has made.
"""

import logging
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from faults.killed_runs import (
    BASE,
    RECIPES,
    SAVE_EVERY,
    Recipe,
    after,
    differences,
    has_made,
    last_step,
    members,
    outcome,
    read_ledger,
    runs_in,
    start,
    strike,
    wait_until,
)
from PIL import Image
from support import Verdict, loadable

pytestmark = pytest.mark.faults

MOST_KILLS = 5
SURVIVAL = 2.0  # seconds in which a worker must have followed its parent
PATIENCE = 180.0  # seconds for one process to do all that is left of a run
STARTING = 0.2  # share of the kills that are to hit a process that is only starting, and imports torch


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("number", range(300 if metafunc.config.getoption("full") else 2))


@dataclass
class Reference:
    """A run that nothing has stopped, and how long its parts took."""

    outcome: dict[str, Any]
    ledger: dict[int, str]
    boot: float
    training: float


class Campaign:
    """The runs that nothing has stopped, one of each recipe, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._references: dict[str, Reference] = {}
        draw = random.Random(5)
        for label in ("cat", "dog", "owl"):
            for part, count in (("train", 40), ("val", 8)):
                (folder / "pictures" / part / label).mkdir(parents=True)
                for i in range(count):
                    path = folder / "pictures" / part / label / f"{i}.png"
                    Image.frombytes("RGB", (12, 12), draw.randbytes(432)).save(path)

    def words(self, recipe: Recipe) -> list[str]:
        """The command line of a recipe's run."""
        pictures = (f"data.root={self.folder / 'pictures'}",) if recipe.pictures else ()
        return [*BASE, *recipe.words, *pictures, "output_dir=outputs"]

    def next(self, recipe: Recipe, folder: Path) -> list[str]:
        """Go on with the run, or start it where the process was killed before there was one."""
        runs = runs_in(folder)
        return [f"resume={runs[0]}"] if runs else self.words(recipe)

    def reference(self, recipe: Recipe) -> Reference:
        """Train a recipe without a kill, once."""
        if recipe.name not in self._references:
            folder = self.folder / f"reference-{recipe.name.replace(' ', '-')}"
            folder.mkdir()
            began = time.monotonic()
            process = start(folder, self.words(recipe), cold=True)
            wait_until(process, partial(has_made, folder, 1))
            boot = time.monotonic() - began
            assert process.wait(PATIENCE) == 0, (folder / "output").read_text()[-2000:]
            training = time.monotonic() - began - boot
            repeated: list[str] = []
            ledger = read_ledger(folder / "ledger", repeated)
            assert not repeated
            (run,) = runs_in(folder)
            self._references[recipe.name] = Reference(outcome(run), ledger, boot, training)
        return self._references[recipe.name]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    logger = logging.getLogger("tensorboard")  # it tells of every restart, and these are meant
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield Campaign(tmp_path_factory.mktemp("kills"))
    logger.setLevel(level)


def test_a_run_killed_again_and_again_ends_as_one_that_was_not(
    number: int, campaign: Campaign, tmp_path: Path, seed: int, verdict: Verdict
) -> None:
    recipe = RECIPES[number % len(RECIPES)]
    draw, reference = random.Random(f"{seed} {number}"), campaign.reference(recipe)
    kills, in_saves, wrong = 0, 0, []
    for part in sorted(draw.random() for _ in range(draw.randint(1, MOST_KILLS))):
        made, steps = last_step(tmp_path), len(reference.ledger)
        in_save, group = draw.random() < 0.5, draw.random() < 0.5
        late = draw.uniform(0, 0.008 if in_save else 2 * reference.training / steps)
        starting = draw.random() < STARTING
        began = after(draw.uniform(0.6, 1.1) * reference.boot)
        process = start(tmp_path, campaign.next(recipe, tmp_path), cold=starting)
        # Told by the steps, and not by the clock: other work on the machine may slow it down.
        moment = began if starting else partial(has_made, tmp_path, max(made + 1, round(part * steps)))
        if not strike(process, moment, tmp_path if in_save else None, late, group):
            break
        kills += 1
        in_saves += in_save
        wrong += examine(tmp_path)
        killed = time.monotonic()
        while (left := members(process.pid)) and time.monotonic() - killed < SURVIVAL:
            time.sleep(0.01)
        wrong += [f"{SURVIVAL:g} s after kill {kills} there are still {left}"] if left else []
    else:
        process = start(tmp_path, campaign.next(recipe, tmp_path))
    try:
        code = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert code == 0, (tmp_path / "output").read_text(errors="replace")[-600:]
    (run,) = runs_in(tmp_path)
    wrong += differences(outcome(run), reference.outcome)
    wrong += differences(read_ledger(tmp_path / "ledger", wrong), reference.ledger)[:5]
    told = f"run {number} ({recipe.name}), {kills} kills: {'; '.join(wrong)}"
    verdict([told if wrong else None], kills=kills, of_them_in_saves=in_saves)


def examine(folder: Path) -> list[str]:
    """After a kill: a checkpoint must be there and whole, and no older than it may be; what is wrong."""
    made = max(read_ledger(folder / "ledger", []), default=0)
    if not made:
        return []
    saved = loadable(runs_in(folder)[0] / "checkpoints")
    if saved is None:
        return [f"{made} steps were made, and no checkpoint can be loaded"] if made > 2 * SAVE_EVERY else []
    late = made - saved > 2 * SAVE_EVERY  # a save may still be written while the next interval is trained
    return [f"{made} steps were made, and the checkpoint is of step {saved}"] if late else []
