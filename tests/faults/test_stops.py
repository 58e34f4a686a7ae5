"""Signals: a run that is told to stop does so soon, with the right exit code, and loses nothing.

    pytest -m faults tests/faults/test_stops.py            # each signal in each of the main phases, and special cases
    pytest -m faults tests/faults/test_stops.py --full     # every phase, 10 times

SIGTERM and SIGINT end a run with 143 and 130; SIGUSR1 saves and lets it go on. A plug-in (programs/sleeping_parts.py)
sleeps where a trial wants the signal to arrive (and says so in a file), so that every phase is really hit. Resumed, a
run ends in the same bits as one that was never stopped.

From the signal to the exit there may be one step, the save under way and the last one, and the seconds of LEAVING; 10 s
at most. What a save takes is measured on the same disk at the same time, and the time in which other programs have the
processor is not the run's.
"""

import json
import os
import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults.bench import EVERYWHERE, FAMILIES, LIMIT, STEPS, Bench, finish, leave, start
from support import AnyProcess, Verdict, loadable, the_run, wait_until

from trainer.runs.directory import Run

pytestmark = pytest.mark.faults

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
SLOW_STEP = 1.5


@dataclass(frozen=True)
class Phase:
    """Where a signal arrives.

    Attributes:
        name: for people; also the place where the plug-in sleeps, unless `place` names another.
        family: see FAMILIES.
        stop, go_on: seconds that the plug-in sleeps in a trial that is stopped, and in one that is not.
        step: seconds that the exit may wait for a step.
        begins: whether training has begun then, so that a checkpoint must be there.
        main: whether a quick campaign tries it.
        file: appears when the phase has been reached, below the folder of runs; None: the plug-in's mark.
        delay: longest random wait before the signal is sent.
        resumed: whether the run was stopped before, and is in this phase of going on.
        may_complete: whether the run may be found completed.
        early: whether the default action of the signal may end it.
        place: where the plug-in sleeps.
    """

    name: str
    family: str = "small"
    stop: float = 60.0
    go_on: float = 1.0
    step: float = 0.0
    begins: bool = True
    main: bool = True
    file: str | None = None
    delay: float = 0.05
    resumed: bool = False
    may_complete: bool = False
    early: bool = False
    place: str | None = None


PHASES = (
    Phase("starting", begins=False, main=False, file="", delay=1.5, early=True),
    Phase("importing", begins=False),
    Phase("composing", begins=False),
    Phase("reading", begins=False),
    Phase("building", begins=False, main=False),
    Phase("importing again", resumed=True, place="importing", main=False),
    Phase("reading again", resumed=True, place="reading"),
    Phase("first batch", "read here"),
    Phase("training", stop=0.02, go_on=0.02, delay=0.3),
    Phase("slow step", stop=SLOW_STEP, go_on=SLOW_STEP, step=SLOW_STEP, place="step"),
    Phase("validation", stop=0.5, go_on=0.005, delay=1.0),
    Phase("saving", "big", file="*/*/checkpoints/.tmp-step-*[1-9]0-*", may_complete=True),
    Phase("last save", "big", file=f"*/*/checkpoints/.tmp-step-{STEPS:08d}-*", may_complete=True),
    Phase("closing", file="*/*/summary.json", delay=0.3, may_complete=True),
    Phase("loader worker", "read by workers"),
    Phase("worker of the validation", "read by workers", go_on=0.05, main=False),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    full = metafunc.config.getoption("full")
    if "repeat" in metafunc.fixturenames:
        metafunc.parametrize("repeat", range(10 if full else 1))
    if "phase" in metafunc.fixturenames:
        pairs = [
            pytest.param(phase, number, id=f"{phase.name}-{number.name}")
            for i, phase in enumerate(PHASES)
            for j, number in enumerate(SIGNALS)
            if (full or (phase.main and (i + j) % 3)) and not (phase.early and number == signal.SIGUSR1)
        ]
        metafunc.parametrize(("phase", "number"), pairs)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("stops"))


def test_a_signal_in_any_phase_is_followed_soon_and_loses_nothing(
    phase: Phase, number: signal.Signals, repeat: int, bench: Bench, tmp_path: Path, seed: int, verdict: Verdict
) -> None:
    stops = number != signal.SIGUSR1
    words = (*FAMILIES[phase.family], *EVERYWHERE)
    if phase.resumed:
        copy = tmp_path / "outputs/of/earlier"
        shutil.copytree(bench.stopped(phase.family), copy, symlinks=True)
        words = (f"resume={copy}",)
    seconds = phase.stop if stops else phase.go_on
    process = start(tmp_path, *words, at=phase.place or phase.name, seconds=seconds, cold=phase.early)

    def reached() -> bool:
        return (tmp_path / "mark").exists() if phase.file is None else any((tmp_path / "outputs").glob(phase.file))

    if phase.file != "":
        wait_until(reached, process)
    time.sleep(random.Random(seed + repeat).random() * phase.delay)
    process.send_signal(number)
    said, _ = leave(process, tmp_path, phase.family, phase.step) if stops else finish(process, 60.0)
    check(phase, number, tmp_path, process, said)
    if repeat == 0 and (tmp_path / "outputs").exists():
        if stops:
            bench.resumes(the_run(tmp_path), phase.family)
        else:
            bench.agrees(the_run(tmp_path), phase.family)
    verdict([None])


def check(phase: Phase, number: signal.Signals, folder: Path, process: AnyProcess, said: str) -> None:
    """Compare how a run has ended with how it should."""
    outputs, stops, code = folder / "outputs", number != signal.SIGUSR1, process.returncode
    if phase.early and code == -number:
        assert not outputs.exists()
        return
    completed = [json.loads(s.read_text())["status"] == "completed" for s in outputs.glob("*/*/summary.json")] == [True]
    ends_by_signal = stops and not (phase.may_complete and completed)
    assert code == (128 + number if ends_by_signal else 0), said
    if not phase.begins and stops:
        assert not outputs.exists()
        return
    run = the_run(outputs)
    step, summary = loadable(run / "checkpoints"), Run(run).summary() or {}
    assert step is not None, "no checkpoint can be loaded"
    told = (summary.get("status"), summary.get("reason"))
    if not stops:
        assert "as SIGUSR1 asked" in said or phase.may_complete, "no line says that it was saved"
        assert completed and step == STEPS
    elif phase.resumed and ends_by_signal:  # nothing was trained: the run has ended as it had before
        assert told == ("stopped", f"signal {int(signal.SIGTERM)}")
    else:
        assert told == (("stopped", f"signal {int(number)}") if ends_by_signal else ("completed", "completed"))
        assert summary.get("steps") == step


def test_a_second_ctrl_c_during_a_save_ends_the_run_at_once(
    repeat: int, bench: Bench, tmp_path: Path, seed: int, verdict: Verdict
) -> None:
    process = start(tmp_path, *FAMILIES["big"], *EVERYWHERE)
    wait_until(lambda: any(tmp_path.glob("outputs/*/*/checkpoints/.tmp-step-*[1-9]0-*")), process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.02 + 0.1 * random.Random(seed + repeat).random())
    process.send_signal(signal.SIGINT)
    leave(process, tmp_path, "big", saves=1)  # no process ends before the fsync that it is in
    assert process.returncode == 130
    assert loadable(the_run(tmp_path) / "checkpoints") is not None
    bench.resumes(the_run(tmp_path), "big")
    verdict([None])


def test_a_second_ctrl_c_does_not_wait_for_the_end_of_a_step_as_the_first_does(
    repeat: int, bench: Bench, tmp_path: Path, seed: int, verdict: Verdict
) -> None:
    process = start(tmp_path, *FAMILIES["small"], *EVERYWHERE, at="step", seconds=60)
    wait_until((tmp_path / "mark").exists, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2 + 0.2 * random.Random(seed + repeat).random())
    assert process.poll() is None, "the first Ctrl-C did not wait for the step"
    process.send_signal(signal.SIGINT)
    leave(process, tmp_path, "small")
    assert (process.returncode, (Run(the_run(tmp_path)).summary() or {}).get("reason")) == (130, "interrupted twice")
    bench.resumes(the_run(tmp_path), "small")
    verdict([None])


def test_a_signal_to_the_run_and_its_workers_still_leaves_it_its_batch(
    repeat: int, bench: Bench, tmp_path: Path, seed: int, verdict: Verdict
) -> None:
    process = start(tmp_path, *FAMILIES["read by workers"], *EVERYWHERE, at="slow reading", seconds=0.01)
    wait_until(lambda: any(path.stat().st_size for path in tmp_path.glob("outputs/*/*/metrics.jsonl")), process)
    time.sleep(random.Random(seed + repeat).random() * 0.3)
    os.killpg(process.pid, signal.SIGTERM)
    said, _ = leave(process, tmp_path, "read by workers")
    assert process.returncode == 143, said
    assert loadable(the_run(tmp_path) / "checkpoints"), "no checkpoint after the first can be loaded"
    bench.resumes(the_run(tmp_path), "read by workers")
    verdict([None])


def test_max_time_saves_and_stops_in_the_middle_of_a_long_validation(
    repeat: int, bench: Bench, tmp_path: Path, verdict: Verdict
) -> None:
    words = (*FAMILIES["small"], *EVERYWHERE, "trainer.max_time=2s")
    process = start(tmp_path, *words, at="validation", seconds=0.2)
    wait_until((tmp_path / "mark").exists, process)
    said, took = finish(process, LIMIT)
    run = the_run(tmp_path)
    summary = Run(run).summary() or {}
    assert (process.returncode, summary.get("status"), summary.get("reason")) == (124, "stopped", "max_time"), said
    assert summary["seconds"] <= 2.5 and took <= 4.0
    bench.resumes(run, "small", "trainer.max_time=null")
    verdict([None])


def test_a_stuck_worker_ends_the_run_after_the_timeout_with_a_message_that_names_it(
    repeat: int, bench: Bench, tmp_path: Path, verdict: Verdict
) -> None:
    words = (*FAMILIES["read by workers"], *EVERYWHERE, "data.timeout=3")
    process = start(tmp_path, *words, at="loader worker", seconds=300)
    wait_until((tmp_path / "mark").exists, process)
    said, _ = finish(process, 3 + LIMIT)
    assert process.returncode == 1 and said.count("error:") == 1 and "data.timeout" in said
    bench.resumes(the_run(tmp_path), "read by workers")
    verdict([None])


def test_a_killed_worker_ends_the_run_with_one_message(
    repeat: int, bench: Bench, tmp_path: Path, seed: int, verdict: Verdict
) -> None:
    process = start(tmp_path, *FAMILIES["read by workers"], *EVERYWHERE, at="slow reading", seconds=0.02)
    mark = tmp_path / "mark"
    wait_until(lambda: mark.exists() and mark.read_text().endswith("\n"), process)
    time.sleep(random.Random(seed + repeat).random() * 0.2)
    os.kill(int(mark.read_text().splitlines()[0]), signal.SIGKILL)
    said, _ = finish(process, LIMIT)
    assert process.returncode == 1 and said.count("error:") == 1 and "worker" in said
    bench.resumes(the_run(tmp_path), "read by workers")
    verdict([None])


def test_a_killed_run_takes_its_workers_with_it_even_a_stuck_one(repeat: int, tmp_path: Path, verdict: Verdict) -> None:
    process = start(tmp_path, *FAMILIES["read by workers"], *EVERYWHERE, at="loader worker", seconds=300)
    wait_until((tmp_path / "mark").exists, process)
    process.kill()
    finish(process, LIMIT)
    verdict([None])
