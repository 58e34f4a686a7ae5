"""`resume=auto`: the same command, typed again by a scheduler, goes on with its own run or begins it."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from trainer import Run, cli
from trainer.runs.start import begin, understand
from trainer.runs.start_record import CommandLine

LINE = ("model=mlp", "model.hidden=[8]", "data=synthetic", "data.num_samples=100", "data.batch_size=16")
LINE += ("trainer.epochs=3", "trainer.keep=9", "trainer.threads=1")  # 5 steps an epoch, 15 in all
STOPPED = 10  # the step at which the run was stopped

Train = Callable[..., tuple[int, str]]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Train:
    """The command line in this process, in `tmp_path`; returns the exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = cli.run("train", words)
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return command


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `LINE` that was stopped after two epochs."""
    folder = tmp_path_factory.mktemp("stopped")
    with contextlib.chdir(folder):
        assert cli.run("train", LINE) == 0
    set_back(runs(folder)[0])
    return folder


@pytest.fixture
def stopped(tmp_path: Path, template: Path) -> Path:
    shutil.copytree(template / "outputs", tmp_path / "outputs", symlinks=True)
    return runs(tmp_path)[0]


def runs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in (folder / "outputs").glob("*/*/environment.json"))


def set_back(run: Path, step: int = STOPPED) -> None:
    """Make a finished run one that was stopped at a step."""
    checkpoints = run / "checkpoints"
    for path in checkpoints.glob("step-*"):
        if int(path.name[5:]) > step:
            shutil.rmtree(path)
    for name in ("last", "best"):
        (checkpoints / name).unlink(missing_ok=True)
        (checkpoints / name).symlink_to(f"step-{step:08d}")
    change_json(run / "summary.json", status="stopped", reason="max_time")


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def another(run: Path, name: str, **record: object) -> Path:
    """A second run like the first one, begun by the same command, with changes to the record of how it was begun."""
    other = run.parent / name
    shutil.copytree(run, other, symlinks=True)
    started = json.loads((run / "environment.json").read_text())["started"]
    change_json(other / "environment.json", started=started | {"directory": str(other.absolute())} | record)
    return other


def test_the_first_time_it_begins_and_then_goes_on_and_then_there_is_nothing_to_do(
    train: Train, tmp_path: Path
) -> None:
    code, printed = train(*LINE, "resume=auto")
    assert code == 0
    assert "resume=auto: no run of this command in outputs; starting a new one." in printed
    [run] = runs(tmp_path)
    set_back(run)
    code, printed = train("resume=auto", *reversed(LINE))
    assert code == 0
    assert f"resume=auto: {run.relative_to(tmp_path)}\n" in printed
    assert f"resumed at step {STOPPED}" in printed
    before = (run / "train.log").read_bytes()
    code, printed = train(*LINE, "resume=auto")
    assert code == 0
    assert f"nothing to do: {run.relative_to(tmp_path)} has completed" in printed
    assert "end       completed after 15 steps" in printed
    assert (run / "train.log").read_bytes() == before
    assert runs(tmp_path) == [run]


@pytest.mark.parametrize(
    "line",
    [
        (*LINE, "optimizer.lr=0.5"),
        (*LINE, "seed=4"),
        (*LINE, "model=linear", "model.bias=false")[1:],
        LINE[:-1],
        (*LINE, "trainer.epochs=4"),
        (*LINE, "--import", "empty.py"),
        (*LINE, "--config-dir", "mine"),
    ],
)
def test_another_command_never_takes_a_run(line: tuple[str, ...], train: Train, stopped: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "empty.py").touch()
    before = sorted(path.read_bytes() for path in stopped.rglob("*.json"))
    words = [word for word in line if word != "model.hidden=[8]" or "model=linear" not in line]
    code, printed = train("resume=auto", *words, "trainer.fast_dev_run=true")
    assert code == 0, printed
    assert "(1 of other commands are there); starting a new one" in printed
    assert len(runs(tmp_path)) == 2
    assert sorted(path.read_bytes() for path in stopped.rglob("*.json")) == before


def test_a_repeated_key_counts_as_it_does_in_the_config(train: Train, stopped: Path, tmp_path: Path) -> None:
    code, _ = train("resume=auto", "trainer.epochs=7", *LINE)
    assert code == 0
    assert runs(tmp_path) == [stopped]


def test_each_task_of_an_array_has_its_own_run(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ("resume=auto", *LINE, "trainer.fast_dev_run=true")
    for task in ("1", "2", "2"):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
        assert train(*line)[0] == 0
    tasks = [json.loads((run / "environment.json").read_text())["started"]["array_task"] for run in runs(tmp_path)]
    assert sorted(tasks) == ["1", "2"]


def test_an_experiment_and_the_environment_may_be_in_the_line(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/short.yaml").write_text(
        "# @package _global_\noutput_dir: ${oc.env:RUNS}/below\ntrainer:\n  steps: 15\n"
    )
    monkeypatch.setenv("RUNS", str(tmp_path / "outputs"))
    line = ("resume=auto", "--config-dir", "mine", "experiment=short", *LINE[:-3], "trainer.keep=9")
    assert train(*line)[0] == 0
    [run] = (tmp_path / "outputs/below").glob("*/*")
    set_back(run)
    code, printed = train(*line)
    assert code == 0
    assert f"resume=auto: {run}" in printed
    assert "resumed at step 10" in printed


def test_what_is_composed_now_is_compared_with_what_the_run_has(train: Train, tmp_path: Path) -> None:
    experiment = tmp_path / "mine/experiment/mine.yaml"
    experiment.parent.mkdir(parents=True)
    line = ("resume=auto", "--config-dir", "mine", "experiment=mine", *LINE)
    experiment.write_text("# @package _global_\nseed: 1\noptimizer:\n  lr: 0.01\n")
    assert train(*line)[0] == 0
    [run] = runs(tmp_path)
    set_back(run)
    experiment.write_text("# @package _global_\nseed: 1\noptimizer:\n  lr: 0.02\n")
    code, printed = train(*line)
    assert code == 0
    assert "changed   optimizer.lr: 0.01 → 0.02, after step 10" in printed
    set_back(run)
    experiment.write_text("# @package _global_\nseed: 2\noptimizer:\n  lr: 0.02\n")
    code, printed = train(*line)
    assert code == 2
    assert "seed=2" in printed
    assert runs(tmp_path) == [run]


def test_by_its_name_it_is_the_same_run_with_other_settings(train: Train, tmp_path: Path) -> None:
    assert train(*LINE, "run.name=base", "resume=auto")[0] == 0
    [run] = runs(tmp_path)
    code, printed = train("run.name=base", *LINE, "trainer.max_time=1h", "resume=auto")
    assert code == 0
    assert "nothing to do" in printed
    code, printed = train("resume=auto", "run.name=base", *LINE, "trainer.epochs=4")
    assert code == 0
    assert "changed   trainer.epochs: 3 → 4, after step 15" in printed
    assert "resumed at step 15" in printed
    code, printed = train("resume=auto", "run.name=base", *LINE, "trainer.epochs=4", "seed=7")
    assert code == 2
    assert "seed=7" in printed
    assert runs(tmp_path) == [run]
    assert train("resume=auto", "run.name=other", *LINE, "trainer.fast_dev_run=true")[0] == 0
    assert train("resume=auto", *LINE, "trainer.fast_dev_run=true")[0] == 0
    assert len(runs(tmp_path)) == 3


def test_a_blank_name_is_refused(train: Train) -> None:
    code, printed = train(*LINE, "run.name=' '")
    assert code == 2
    assert "run.name" in printed


def test_extended_by_hand_it_is_still_the_run_of_its_first_command(train: Train, stopped: Path, tmp_path: Path) -> None:
    assert train(f"resume={stopped}", "trainer.keep=8")[0] == 0
    set_back(stopped)
    code, printed = train("resume=auto", *LINE)
    assert code == 0
    assert "changed   trainer.keep: 8 → 9" in printed
    assert runs(tmp_path) == [stopped]


def test_of_several_the_one_that_is_furthest_goes_on_and_the_number_is_said(
    train: Train, stopped: Path, tmp_path: Path
) -> None:
    later = another(stopped, "23-59-59-abcd", time=4e9)
    set_back(later, 5)
    (later / ".lock").unlink()
    code, printed = train("resume=auto", *LINE)
    assert code == 0
    name = stopped.relative_to(tmp_path)
    assert f"resume=auto: {name}, of 2 runs of this command the one with the furthest checkpoint" in printed
    assert not list(later.glob("checkpoints/step-00000015"))
    assert not (later / ".lock").exists()


def test_a_run_that_a_live_process_writes_is_refused_naming_it(train: Train, stopped: Path, tmp_path: Path) -> None:
    other = another(stopped, "23-59-59-abcd")
    holder = Run(other).lock()
    set_back(other, 5)  # not even with a run that is further, a second copy would be running
    code, printed = train("resume=auto", *LINE)
    holder.release()
    assert code == 2
    assert (
        f"{other.relative_to(tmp_path)} is the run of this command and is being written by process {os.getpid()} "
        in printed
    )
    assert len(runs(tmp_path)) == 2
    assert train("resume=auto", *LINE)[0] == 0


def test_tasks_of_an_array_that_share_a_name_are_told_how_to_differ(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert train(*LINE, "run.name=a")[0] == 0
    [run] = runs(tmp_path)
    holder = Run(run).lock()
    code, printed = train("resume=auto", *LINE, "run.name=a")
    holder.release()
    assert code == 2
    assert "'run.name=a-${oc.env:SLURM_ARRAY_TASK_ID}'" in printed


def foreign_things(outputs: Path, stopped: Path) -> None:
    """What may lie in a folder of runs and is none to go on with, one of each kind."""
    hydra = outputs / "2026-01-01/12-00-00/.hydra"
    hydra.mkdir(parents=True)
    (hydra / "config.yaml").write_text("model: resnet\nlr: 0.1\n")
    (hydra / "overrides.yaml").write_text("- lr=0.1\n")
    shutil.copytree(stopped, stopped.with_name(f"{stopped.name}.bak"), symlinks=True)
    damaged = another(stopped, "23-59-58-dead", time=1e9)
    (damaged / "config.yaml").write_text("")
    half = another(stopped, "23-59-57-dead", time=1e9)
    (half / "config.yaml").write_text((half / "config.yaml").read_text()[:200] + "\n  - [")


def test_what_is_no_run_is_passed_over_counted_and_not_touched(train: Train, stopped: Path, tmp_path: Path) -> None:
    foreign_things(tmp_path / "outputs", stopped)
    (another(stopped, "23-59-56-dead") / "environment.json").write_text("{")
    for lock in (tmp_path / "outputs").rglob(".lock"):
        lock.unlink()
    code, printed = train("resume=auto", *LINE)
    assert code == 0
    [line] = [line for line in printed.splitlines() if "passed over" in line]
    for words in ("1 not of this program", "1 copied or renamed", "3 damaged"):
        assert words in line
    assert "resumed at step 10" in printed
    assert list((tmp_path / "outputs").rglob(".lock")) == [stopped / ".lock"]


def test_last_is_the_run_that_was_begun_last_and_never_another_thing(
    train: Train, stopped: Path, tmp_path: Path
) -> None:
    earlier = another(stopped, "00-00-01-abcd", time=1e9)  # made later, begun earlier
    foreign_things(tmp_path / "outputs", stopped)
    os.utime(earlier / "config.yaml")
    code, printed = train("resume=last")
    assert code == 0
    assert f"run       {stopped.relative_to(tmp_path)}" in printed
    shutil.rmtree(tmp_path / "outputs")
    (tmp_path / "outputs/x/.hydra").mkdir(parents=True)
    (tmp_path / "outputs/x/.hydra/config.yaml").write_text("lr: 0.1\n")
    code, printed = train("resume=last")
    assert code == 2
    assert "Passed over: 1 not of this program" in printed
    assert not list(tmp_path.rglob(".lock"))


def test_last_looks_in_the_composed_and_resolved_folder(
    train: Train, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outputs").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("RUNS", "elsewhere")
    code, printed = train("resume=last", "output_dir=${oc.env:RUNS}")
    assert code == 0
    assert "resumed at step 10" in printed


RUN_SECTION = "\nrun:\n  name: null\n  tags: []\n  notes: null\n"


def test_a_run_of_an_earlier_version_is_known_by_its_overrides(train: Train, stopped: Path, tmp_path: Path) -> None:
    content = json.loads((stopped / "environment.json").read_text())
    del content["started"]
    (stopped / "environment.json").write_text(json.dumps(content))
    config = (stopped / "config.yaml").read_text()
    assert "\n  run: default\n" in config
    assert RUN_SECTION in config
    (stopped / "config.yaml").write_text(config.replace("\n  run: default\n", "\n").replace(RUN_SECTION, "\n"))
    assert "run" not in yaml.safe_load((stopped / "config.yaml").read_text())
    code, printed = train("resume=auto", *LINE)
    assert code == 0
    assert "resumed at step 10" in printed
    assert runs(tmp_path) == [stopped]


def test_the_jobs_of_a_sweep_belong_to_the_sweep(train: Train, tmp_path: Path) -> None:
    line = (*LINE, "trainer.fast_dev_run=true")
    assert train("-m", *line, "seed=3")[0] == 0
    code, printed = train("resume=auto", *line, "seed=3")
    assert code == 0
    assert "starting a new one" in printed
    code, printed = train("-m", "resume=auto", *line, "seed=3")  # the requeue line of a sweep
    assert code == 0
    assert "1 finished and 0 begun before" in printed


def test_a_run_that_was_killed_while_it_read_its_data_is_its_own_command_s(train: Train, tmp_path: Path) -> None:
    command = CommandLine.parse(["resume=auto", *LINE], [], [])
    with contextlib.ExitStack() as held:
        begin(understand(command, held)).release()
    [run] = runs(tmp_path)
    code, printed = train("resume=auto", *LINE)
    assert code == 0
    assert "stopped before its first checkpoint; it starts from the beginning" in printed
    assert runs(tmp_path) == [run]


def test_of_two_processes_that_begin_at_once_one_waits_until_the_other_has_its_run(
    train: Train, tmp_path: Path
) -> None:
    def free() -> bool:
        descriptor = os.open(tmp_path / "outputs", os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)

    with contextlib.ExitStack() as held:
        start = understand(CommandLine.parse(["resume=auto", *LINE], [], []), held)
        assert start.run is None
        assert not free()
        run = begin(start)
    assert free()
    code, printed = train("resume=auto", *LINE)
    run.release()
    assert code == 2
    assert "is being written by" in printed


def test_a_job_that_slurm_starts_again_is_warned_where_it_would_begin_from_zero(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    line = (*LINE, "trainer.fast_dev_run=true", "run.name='a b'")
    code, printed = train(*line)
    assert code == 0
    [warning] = [text for text in printed.splitlines() if text.startswith("warning: SLURM_RESTART_COUNT=1")]
    assert warning.endswith("""to go on: train resume=auto model=mlp 'model.hidden=[8]' data=synthetic \
data.num_samples=100 data.batch_size=16 trainer.epochs=3 trainer.keep=9 trainer.threads=1 trainer.fast_dev_run=true \
'run.name='"'"'a b'"'"''""")
    code, printed = train("resume=auto", *line)
    assert code == 0
    assert "SLURM_RESTART_COUNT" not in printed


@pytest.mark.parametrize(
    "name", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"]
)
@pytest.mark.parametrize("multirun", [(), ("-m",)])
def test_one_of_several_processes_of_a_launcher_is_refused(
    name: str, multirun: tuple[str, ...], train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "4")
    code, printed = train(*multirun, *LINE, "trainer.fast_dev_run=true")
    assert code == 2
    assert printed.startswith(f"error: {name}=4: ")
    assert printed.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(name, "1")
    assert train(*LINE, "trainer.fast_dev_run=true")[0] == 0
