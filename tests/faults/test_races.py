"""Two processes for one run directory: exactly one trains, and the other is told who does.

    pytest -m faults tests/faults/test_races.py          # 10 races
    pytest -m faults tests/faults/test_races.py --full   # 200 races

Both racers have imported everything and wait for the same starting shot; the run is longer than a race, so the winner
is stopped by SIGTERM and resumed by the next race. Then a holder is killed and taken over, and a thousand run
directories are made at once.
"""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support import Verdict, loadable, run_python, start_trainer, the_run, wait_until
from warm import python

from trainer.loggers.files import read_metrics
from trainer.runs.directory import Run

pytestmark = pytest.mark.faults

WORDS = (
    "model=linear",
    "data=synthetic",
    "trainer.epochs=1000000",
    "trainer.eval_every=null",
    "trainer.save_every=100",
)
RACER = """
import os, sys
from trainer import cli
from trainer.runs import run_training
os.write(1, b"ready")
os.read(0, 1)
sys.exit(cli.run("train", sys.argv[1:]))
"""
STARTERS, STARTS = 20, 50
STARTS_AT_ONCE = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from trainer.runs.directory import make_directory

starters, starts = map(int, sys.argv[1:])
reader, writer = os.pipe()
children = []
for number in range(starters):
    child = os.fork()
    if not child:
        os.read(reader, 1)
        with ThreadPoolExecutor(starts) as pool:
            made = list(pool.map(lambda _: str(make_directory(Path("outputs"))), range(starts)))
        Path(f"made-{number}.txt").write_text("\\n".join(made))
        os._exit(0)
    children.append(child)
os.write(writer, b"x" * starters)
for child in children:
    os.waitpid(child, 0)
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "number" in metafunc.fixturenames:
        metafunc.parametrize("number", range(1, 201 if metafunc.config.getoption("full") else 11))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after its first checkpoint."""
    folder = tmp_path_factory.mktemp("races")
    process = start_trainer(folder, "train", *WORDS)
    wait_until(lambda: list(folder.glob("outputs/*/*/checkpoints/last")), process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    return the_run(folder)


def test_of_two_that_start_at_once_one_trains_and_the_other_is_told(
    number: int, run: Path, tmp_path: Path, verdict: Verdict
) -> None:
    reader, writer = os.pipe()
    racers, outputs = [], [tmp_path / "one.txt", tmp_path / "other.txt"]
    for path in outputs:
        with open(path, "w") as output:
            streams = {"stdin": reader, "stdout": output, "stderr": output}
            racers.append(python("-c", RACER, f"resume={run}", cwd=tmp_path, **streams))
    wait_until(lambda: all(path.read_text() == "ready" for path in outputs), racers[0])
    os.write(writer, b"xx")
    ended = [False, False]
    while not any(ended):
        ended = [racer.poll() is not None for racer in racers]
        time.sleep(0.001)
    loser = racers[ended.index(True)]  # the winner trains on
    winner = racers[not racers.index(loser)]
    said, before = outputs[racers.index(loser)].read_text(), loadable(run / "checkpoints")
    wait_until(lambda: loadable(run / "checkpoints") != before, winner)
    winner.send_signal(signal.SIGTERM)
    assert (loser.wait(), winner.wait(60)) == (2, 143), said
    assert re.search(rf"being written by process {winner.pid} on \S+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d", said)
    steps = [row["step"] for row in read_metrics(run)]
    assert steps == sorted(set(steps)), "the metrics have steps twice"
    for descriptor in (reader, writer):
        os.close(descriptor)
    verdict([None])


def test_the_lock_of_a_killed_holder_does_not_hold(run: Path, tmp_path: Path, verdict: Verdict) -> None:
    holder = start_trainer(tmp_path, "train", f"resume={run}", stdout=subprocess.DEVNULL)
    wait_until(Run(run).is_held, holder)
    os.killpg(holder.pid, signal.SIGKILL)
    holder.wait()
    assert not Run(run).is_held()
    verdict([None])


def test_a_thousand_starts_at_once_have_a_directory_each(tmp_path: Path, verdict: Verdict) -> None:
    run_python(tmp_path, "-c", STARTS_AT_ONCE, str(STARTERS), str(STARTS))
    made = [name for path in tmp_path.glob("made-*.txt") for name in path.read_text().split()]
    there = [path for path in (tmp_path / "outputs").glob("*/*") if path.is_dir()]
    assert len(made) == len(set(made)) == len(there) == STARTERS * STARTS
    verdict([None])
