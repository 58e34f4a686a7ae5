"""Kills of sweeps: `kill -9` of any process at random moments, gone on with until done, equals the undisturbed sweep.

    pytest -m faults tests/faults/test_sweeps.py            # a grid
    pytest -m faults tests/faults/test_sweeps.py --full     # 20 sweeps, and 200 trials in a row

Twelve trials, two at a time: a grid, and TPE with a pruner (one at a time, where the same trials must follow). Each
sweep is killed one to three times, on any of its processes: the one that was started, the server, a trial.
"""

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest
from support import Verdict, run_trainer, start_trainer
from sweeps.sweeping import bits, results, table, trials

pytestmark = pytest.mark.faults

SMALL = ("model=mlp", "data=synthetic", "data.num_samples=400", "trainer.epochs=40", "trainer.eval_every=5ep")
OFTEN = ("trainer.save_every=2ep", "trainer.log_every=5ep")
RECIPES = {
    "grid": (*SMALL, *OFTEN, "optimizer.lr=0.3,0.1,0.03,0.01", "seed=0,1,2", "sweep.jobs=2"),
    "tpe": (
        *(*SMALL, *OFTEN, "optimizer.lr=tag(log,interval(1e-4,1))", "model.hidden=[4],[8,4]", "sweep=optuna"),
        *("sweep.trials=12", "sweep.pruner=median", "sweep.jobs=1"),
    ),
    "tpe in pairs": (
        *(*SMALL, *OFTEN, "optimizer.lr=tag(log,interval(1e-4,1))", "sweep=optuna", "sweep.trials=12"),
        *("sweep.pruner=asha", "sweep.jobs=2"),
    ),
}
MOST_KILLS = 3
PATIENCE = 240.0  # seconds for one process to do all that is left of a sweep


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "number" in metafunc.fixturenames:
        metafunc.parametrize("number", range(20 if metafunc.config.getoption("full") else 1))


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The directories of sweeps that nothing has stopped, by recipe, as they are needed."""
    return {"": tmp_path_factory.mktemp("references")}


def reference(recipe: str, references: dict[str, Path]) -> Path:
    """Work off a sweep without a kill, once."""
    if recipe not in references:
        folder = references[""] / recipe.replace(" ", "-")
        folder.mkdir()
        begun = time.monotonic()
        run_trainer(folder, "train", "-m", *RECIPES[recipe], "sweep.dir=mine", timeout=PATIENCE)
        (folder / "seconds").write_text(str(time.monotonic() - begun))
        references[recipe] = folder / "mine"
    return references[recipe]


def duration(reference: Path) -> float:
    """How many seconds that sweep took, within which it is killed."""
    return float((reference.parent / "seconds").read_text())


def strike(folder: Path, words: list[str], draw: random.Random, longest: float) -> tuple[int | None, str]:
    """Start a sweep and kill one of its processes; returns its exit code, and which process it was."""
    process = start_trainer(folder, "train", *words)
    time.sleep(draw.uniform(0.1, longest) * draw.random())
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    victim = draw.choice([process.pid, *(child.pid for child in family)])
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    alive = psutil.wait_procs(family, 30)[1]
    assert not alive, f"left behind: {alive}"
    return process.returncode, "the sweep" if victim == process.pid else "one of its processes"


def differences(directory: Path, expected: Path, recipe: str) -> str | None:
    """What differs from the sweep that nothing has stopped; None: nothing."""
    numbers = [row["trial"] for row in results(directory)]
    if sorted(map(int, numbers)) != list(range(12)):
        return f"trials {sorted(numbers)}"
    unfinished = [row for row in results(directory) if row["status"] not in ("completed", "pruned")]
    if unfinished:
        return f"not finished: {unfinished}"
    if recipe == "tpe in pairs":  # which trial is finished when another one is suggested depends on the machine
        return None
    if table(directory) != table(expected):
        return f"{table(directory)}\ninstead of\n{table(expected)}"
    for run, other in zip(trials(directory), trials(expected), strict=True):
        if bits(run) != bits(other):
            return f"{run.name} has another state"
    return None


def test_a_killed_sweep_ends_as_one_that_was_not(
    number: int, references: dict[str, Path], tmp_path: Path, seed: int, verdict: Verdict
) -> None:
    draw = random.Random(f"{seed} sweep {number}")
    recipe = list(RECIPES)[number % len(RECIPES)]
    expected = reference(recipe, references)
    words = ["-m", *RECIPES[recipe], "sweep.dir=mine"]
    kills = draw.randint(1, MOST_KILLS)
    for _ in range(kills):
        strike(tmp_path, words, draw, duration(expected))
    run_trainer(tmp_path, "train", *words, timeout=PATIENCE)
    wrong = differences(tmp_path / "mine", expected, recipe)
    verdict([wrong and f"{recipe}, {kills} kills: {wrong}"], kills=kills)


def test_a_signal_at_any_moment_stops_a_sweep_after_saving(
    number: int, references: dict[str, Path], tmp_path: Path, seed: int, verdict: Verdict
) -> None:
    draw = random.Random(f"{seed} signal {number}")
    expected = reference("grid", references)
    words = ["-m", *RECIPES["grid"], "sweep.dir=mine"]
    request, code = ((signal.SIGTERM, 143), (signal.SIGINT, 130))[number % 2]
    process = start_trainer(tmp_path, "train", *words)
    time.sleep(draw.uniform(0.3, 0.8 * duration(expected)))
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, request)  # as a terminal does: to all processes of the group
    _, said = process.communicate(timeout=PATIENCE)
    wrong = None if process.returncode in (code, 0) and "Traceback" not in said else f"{process.returncode}: {said}"
    if psutil.wait_procs(family, 30)[1]:
        wrong = "processes are left behind"
    run_trainer(tmp_path, "train", *words, timeout=PATIENCE)
    verdict([wrong or differences(tmp_path / "mine", expected, "grid")])


def test_the_memory_of_a_long_sweep_is_flat(tmp_path: Path, full: bool, verdict: Verdict) -> None:
    count = 200 if full else 16
    words = ("model=linear", "data=synthetic", "data.num_samples=100", "trainer.epochs=1", f"seed=range(0,{count})")
    process = start_trainer(tmp_path, "train", "-m", *words, "sweep.jobs=2", "sweep.dir=mine", cold=True)
    readings: list[tuple[int, float, int]] = []
    parent = psutil.Process(process.pid)
    while process.poll() is None:
        done = len(list(tmp_path.glob("mine/*/summary.json")))
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            readings.append((done, parent.memory_info().rss / 1e6, parent.num_fds()))
        time.sleep(0.1)
    assert process.communicate() and process.returncode == 0
    assert len(json.loads((tmp_path / "mine" / "results.json").read_text())["trials"]) == count
    middle = [reading for reading in readings if reading[0] >= count // 4 and reading[0] < count]
    growth, descriptors = middle[-1][1] - middle[0][1], middle[-1][2] - middle[0][2]
    wrong = (
        None if growth < 10 + 0.02 * count and abs(descriptors) < 8 else f"{growth:.1f} MB, {descriptors} descriptors"
    )
    verdict([wrong] * count, f"memory {growth:+.1f} MB over the last {count * 3 // 4} trials")
