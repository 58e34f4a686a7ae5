"""Two processes for one run directory: exactly one trains, and the other is told who does.

    python tests/faults/races.py          # 10 races
    python tests/faults/races.py --full   # 200 races

One process imports everything and forks both racers, which wait for the same starting shot; the run is longer than a
race, so the winner is stopped by SIGTERM and resumed by the next race. Then a holder is killed and taken over, and a
thousand run directories are made at once.
"""

import os
import re
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import arguments, loadable, train, verdict

from trainer import cli
from trainer.loggers.files import read_metrics
from trainer.runs import run_training  # noqa: F401  # imported here, once, for all racers
from trainer.runs.directory import Run, make_directory

WORDS = (
    "model=linear",
    "data=synthetic",
    "trainer.epochs=1000000",
    "trainer.eval_every=null",
    "trainer.save_every=100",
)
STARTERS, STARTS = 20, 50


def racer(words: list[str], shot: int, output: Path) -> int:
    """A forked child that calls `train` when the pipe is closed; returns its pid."""
    child = os.fork()
    if not child:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        os.read(shot, 1)
        code = cli.run("train", words)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return child


def race(run: Path, folder: Path) -> list[str]:
    """One race; what was wrong with it."""
    reader, writer = os.pipe()
    outputs = [folder / "one.txt", folder / "other.txt"]
    racers = [racer([f"resume={run}"], reader, output) for output in outputs]
    os.write(writer, b"xx")
    first, status = os.waitpid(-1, 0)  # the loser; the winner trains on
    winner = next(pid for pid in racers if pid != first)
    before = loadable(run / "checkpoints")
    deadline = time.monotonic() + 30
    while loadable(run / "checkpoints") == before and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(winner, signal.SIGTERM)
    ended = os.waitpid(winner, 0)[1]
    os.close(reader)
    os.close(writer)
    wrong = []
    said = outputs[racers.index(first)].read_text(encoding="utf-8")
    codes = os.waitstatus_to_exitcode(status), os.waitstatus_to_exitcode(ended)
    if codes != (2, 143):
        wrong.append(f"exit codes {codes} instead of 2 for the loser and 143 for the winner: {said[-300:]}")
    if not re.search(rf"being written by process {winner} on \S+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d", said):
        wrong.append(f"the loser is not told who holds it: {said[-300:]}")
    steps = [row["step"] for row in read_metrics(run)]
    if steps != sorted(set(steps)):
        wrong.append("the metrics have steps twice")
    return wrong


def takeover(run: Path, folder: Path) -> list[str]:
    """A holder that is killed: the next one need not wait."""
    holder = train(f"resume={run}", cwd=folder)
    deadline = time.monotonic() + 60
    while not Run(run).is_held() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(holder.pid, signal.SIGKILL)
    holder.communicate()
    return ["the lock of a killed process still holds"] if Run(run).is_held() else []


def starts(folder: Path) -> list[str]:
    """A thousand run directories from many processes and threads at once."""
    reader, writer = os.pipe()
    children = []
    for number in range(STARTERS):
        child = os.fork()
        if not child:
            os.read(reader, 1)
            with ThreadPoolExecutor(STARTS) as pool:
                made = list(pool.map(lambda _: str(make_directory(folder / "outputs")), range(STARTS)))
            (folder / f"made-{number}.txt").write_text("\n".join(made), encoding="utf-8")
            os._exit(0)
        children.append(child)
    os.write(writer, b"x" * STARTERS)
    for child in children:
        os.waitpid(child, 0)
    made = [name for path in folder.glob("made-*.txt") for name in path.read_text(encoding="utf-8").split()]
    there = [path for path in (folder / "outputs").glob("*/*") if path.is_dir()]
    whole = len(made) == len(set(made)) == len(there) == STARTERS * STARTS
    return [] if whole else [f"{len(made)} starts, {len(set(made))} names, {len(there)} directories"]


def begun(folder: Path) -> Path:
    """A run that was stopped after its first checkpoint."""
    process = train(*WORDS, cwd=folder)
    while not list(folder.glob("outputs/*/*/checkpoints/last")) and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    return next(folder.glob("outputs/*/*/config.yaml")).parent


def main() -> None:
    """All races, then the rest."""
    given = arguments(__doc__ or "", 10, 200, "races")
    failures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = begun(folder)
        for number in range(given.trials):
            failures += [f"race {number + 1}: {text}" for text in race(run, folder)]
        failures += takeover(run, folder)
        (folder / "starts").mkdir()
        failures += starts(folder / "starts")
    verdict("races for a run directory", given.trials + 2, failures)


if __name__ == "__main__":
    main()
