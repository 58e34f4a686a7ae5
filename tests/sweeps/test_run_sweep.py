"""What a sweep survives: stops, kills, a second process; and how one goes on."""

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from support import finish, payload, start_trainer, wait_until
from sweeps.sweeping import WORDS, bits, results, sweep, table, train, trials

# Long enough to be stopped in the middle, and with much to lose: a checkpoint every 50 steps.
LONG = (
    *("model=mlp", "data=synthetic", "data.num_samples=400", "trainer.epochs=120", "trainer.log_every=10ep"),
    *("trainer.eval_every=10ep", "trainer.save_every=5ep", "optimizer.lr=0.1,0.01,0.001", "seed=0,1", "sweep.jobs=2"),
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that nothing has stopped."""
    return sweep(tmp_path_factory.mktemp("undisturbed"), "-m", *LONG)[0]


def assert_equal(directory: Path, undisturbed: Path) -> None:
    """Check that a sweep has left what the one that nothing has stopped has left, to the bit."""
    assert table(directory) == table(undisturbed)
    assert results(directory, "means.csv") == results(undisturbed, "means.csv")
    for run, other in zip(trials(directory), trials(undisturbed), strict=True):
        assert bits(run) == bits(other), run.name


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def in_the_middle(directory: Path) -> bool:
    """Whether a trial is finished, and another one has saved and is far from its end, which is step 1,200."""
    saved = {run: max(map(step_of, run.glob("checkpoints/step-*")), default=0) for run in directory.glob("0*")}
    finished = [run for run in saved if (run / "summary.json").exists()]
    return bool(finished) and any(0 < step < 300 for run, step in saved.items() if run not in finished)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def test_killed_it_goes_on_to_what_it_would_have_been(tmp_path: Path, undisturbed: Path) -> None:
    process = start_trainer(tmp_path, "train", "-m", *LONG, "sweep.dir=mine")
    try:
        wait_until(lambda: in_the_middle(tmp_path / "mine"), process)
        left = descendants(process.pid)
        assert len(left) >= 3, "the server and two trials"
    finally:
        process.kill()
    process.wait(10)
    _, alive = psutil.wait_procs(left, 20)
    assert not alive, "what a sweep has started does not outlive it"
    directory = tmp_path / "mine"
    finished = {run.name: (run / "train.log").read_bytes() for run in trials(directory) if done(run)}
    assert 0 < len(finished) < 6
    ended = [json.loads(path.read_text()) for path in directory.glob("*/summary.json")]
    assert "signal 15" in [summary["reason"] for summary in ended], "trials notice, save and leave"
    output, _ = train(tmp_path, "resume=mine")
    assert output.count("\n[") == 6 - len(finished)
    assert all((directory / name / "train.log").read_bytes() == log for name, log in finished.items())
    assert_equal(directory, undisturbed)


def done(run: Path) -> bool:
    path = run / "summary.json"
    return path.exists() and json.loads(path.read_text())["status"] == "completed"


def test_a_signal_stops_all_trials_after_saving_and_the_same_command_goes_on(tmp_path: Path, undisturbed: Path) -> None:
    process = start_trainer(tmp_path, "train", "-m", *LONG, "sweep.dir=mine")
    try:
        wait_until(lambda: in_the_middle(tmp_path / "mine"), process)
        left = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
    finally:
        done = finish(process, code=143)
    assert done.stderr == ""
    assert not psutil.wait_procs(left, 20)[1]
    status = [row["status"] for row in results(tmp_path / "mine")]
    assert "stopped" in status
    assert "not started" in status
    assert "next      train resume=mine" in done.stdout
    stopped = next(row for row in results(tmp_path / "mine") if row["status"] == "stopped")
    assert payload(tmp_path / stopped["directory"])["step"] > 0
    train(tmp_path, "-m", *LONG, "sweep.dir=mine")
    assert "resumed at step" in (tmp_path / stopped["directory"] / "train.log").read_text()
    assert_equal(tmp_path / "mine", undisturbed)


def test_a_killed_trial_is_told_and_goes_on_where_it_was(tmp_path: Path, undisturbed: Path) -> None:
    process = start_trainer(tmp_path, "train", "-m", *LONG, "sweep.dir=mine")
    trial = tmp_path / "mine" / "001"
    try:
        wait_until(lambda: len(list(trial.glob("checkpoints/step-*"))) > 1, process)
        os.kill(int((trial / ".lock").read_text().split()[1]), signal.SIGKILL)
    finally:
        done = finish(process, code=1)
    assert "001 optimizer.lr=0.1 seed=1  stopped: killed by SIGKILL" in done.stdout
    assert sorted(row["status"] for row in results(tmp_path / "mine")) == ["completed"] * 5 + ["stopped"]
    train(tmp_path, "resume=mine")
    assert_equal(tmp_path / "mine", undisturbed)


def test_a_killed_trial_that_later_ones_depend_on_goes_on_at_once_and_no_more_than_once(tmp_path: Path) -> None:
    suggested = ("sweep=optuna", "sweep.trials=2", "optimizer.lr=interval(0.1,0.2)", "sweep.jobs=1")
    words = [word for word in LONG if not word.startswith(("optimizer.lr", "seed", "sweep."))]
    process = start_trainer(tmp_path, "train", "-m", *words, *suggested, "sweep.dir=mine")
    trial = tmp_path / "mine" / "000"
    try:
        wait_until(lambda: list(trial.glob("checkpoints/step-*")), process)
        first = (trial / ".lock").read_text().split()[1]
        os.kill(int(first), signal.SIGKILL)
        own = ([first], [str(process.pid)], [])  # the sweep itself holds it for a moment
        wait_until(lambda: (trial / ".lock").read_text().split()[1:2] not in own, process)
        os.kill(int((trial / ".lock").read_text().split()[1]), signal.SIGKILL)
    finally:
        done = finish(process, code=1)
    assert done.stdout.count("stopped: killed by SIGKILL") == 2
    assert sorted(row["status"] for row in results(tmp_path / "mine")) == ["completed", "stopped"]


@pytest.mark.full
def test_a_second_process_joins_the_work_and_none_is_done_twice(tmp_path: Path, undisturbed: Path) -> None:
    first = start_trainer(tmp_path, "train", "-m", *LONG, "sweep.dir=mine", "sweep.jobs=1")
    second = None
    try:
        wait_until((tmp_path / "mine" / "000" / "config.yaml").exists, first)
        second = start_trainer(tmp_path, "train", "-m", *LONG, "sweep.dir=mine", "sweep.jobs=1")
        printed = [finish(process).stdout for process in (first, second)]
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
    events = [line.split()[1] for text in printed for line in text.splitlines() if line.startswith("[")]
    assert sorted(events) == [f"{i:03d}" for i in range(6)], "each was run by one of them"
    assert all(text.count("\n[") for text in printed), "both have worked"
    assert_equal(tmp_path / "mine", undisturbed)


def test_a_finished_sweep_can_be_extended_and_is_no_other_one(tmp_path: Path) -> None:
    words = ("-m", "optimizer.lr=tag(log,interval(1e-3,1))", "sweep=random", "sweep.trials=2", *WORDS, "sweep.dir=mine")
    train(tmp_path, *words)
    logs = [(run / "train.log").read_bytes() for run in trials(tmp_path / "mine")]
    output, _ = train(tmp_path, "resume=mine", "sweep.trials=4", "sweep.jobs=2")
    assert output.count("\n[") == 2
    assert [(run / "train.log").read_bytes() for run in trials(tmp_path / "mine")][:2] == logs
    rates = {row["trial"]: row["optimizer.lr"] for row in results(tmp_path / "mine")}
    whole, _ = train(tmp_path, *words[:3], "sweep.trials=4", *words[4:-1], "--dry-run")
    assert [line.split() for line in whole.splitlines()[1:5]] == [[f"{int(t):03d}", rates[t]] for t in sorted(rates)]
    for change, message in (
        ("sweep.trials=3", "has 4 already"),
        ("sweep.seeds=2", "was started with sweep.seeds=1"),
        ("optimizer.lr=0.3", "trials stay as they are"),
        ("sweep.sampler=tpe", "sweep=random has no such key"),
    ):
        assert message in train(tmp_path, "resume=mine", change, code=2)[1]
    other = ("-m", "optimizer.lr=0.1,0.2", *WORDS, "sweep.dir=mine")
    assert "holds another sweep" in train(tmp_path, *other, code=2)[1]
    (tmp_path / "mine" / "sweep.yaml").write_text("overrides: 3")
    assert "not the definition of a sweep" in train(tmp_path, "resume=mine", code=2)[1]


def test_the_same_command_with_resume_auto_goes_on_with_its_own_sweep_or_begins_it(tmp_path: Path) -> None:
    words = ("-m", "seed=0,1", *WORDS)
    train(tmp_path, *words, "resume=auto", "sweep.max_time=0.001s", code=124)
    train(tmp_path, "-m", "seed=0", *WORDS, "resume=auto")
    train(tmp_path, *words, "resume=auto", "sweep.max_time=null", "sweep.jobs=2")
    made = sorted((path.parent for path in tmp_path.glob("**/sweep.yaml")), key=lambda path: len(trials(path)))
    assert [[row["status"] for row in results(path)] for path in made] == [["completed"], ["completed"] * 2]
    output, _ = train(tmp_path, *words, "resume=auto")
    assert "2 finished" in output, "there is nothing left to do"
    assert len(list(tmp_path.glob("**/sweep.yaml"))) == 2


def test_a_sweep_whose_time_is_over_says_so_and_goes_on(tmp_path: Path) -> None:
    words = ("-m", "seed=0,1", *WORDS[:3], "trainer.steps=200", "sweep.dir=mine")
    train(tmp_path, *words, "sweep.max_time=0.001s", code=124)
    assert {row["status"] for row in results(tmp_path / "mine")} <= {"not started", "stopped"}
    began = time.monotonic()
    train(tmp_path, "resume=mine", "sweep.max_time=null")
    assert time.monotonic() - began < 100
    assert [row["status"] for row in results(tmp_path / "mine")] == ["completed"] * 2
