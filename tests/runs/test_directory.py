"""The run directory: what a run leaves, that its files agree, and that no two runs share one."""

import csv
import fcntl
import hashlib
import json
import math
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support import TINY, run_python, run_trainer, start_trainer
from warm import python

from trainer.errors import CheckpointError, TrainerError
from trainer.runs.directory import Run

EPOCHS, STEPS = 2, 6  # 160 training samples in batches of 64
WORDS = (*TINY, f"trainer.epochs={EPOCHS}", "trainer.log_every=1")
RATE = "0.03125"
RECORDED = {"step", "epoch", "time", "lr", "grad_norm", "samples_per_second"}
RECENT = {"train_recent/loss", "train_recent/accuracy"}  # since the last record
ENDED = {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/macro_f1"}  # where an epoch ends


@dataclass
class Done:
    """A run that has completed, and what it printed."""

    directory: Path
    shown: str  # the directory as it was printed
    lines: list[str]

    def json(self, name: str) -> dict:
        return json.loads((self.directory / name).read_text())

    def rows(self) -> list[dict]:
        return [json.loads(line) for line in (self.directory / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("run")
    words = ("train", *WORDS, "optimizer.lr=${oc.env:RATE}", "optimizer=sgd")
    result = run_trainer(folder, *words, env={"RATE": RATE})
    assert result.stderr == ""
    [directory] = (folder / "outputs").glob("*/*")
    return Done(directory, str(directory.relative_to(folder)), result.stdout.splitlines())


def test_a_run_leaves_these_files_and_no_others(done: Done) -> None:
    assert re.fullmatch(r"outputs/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d-[a-z0-9]{4}", done.shown)
    assert {path.name for path in done.directory.iterdir()} == {
        ".lock", "config.yaml", "overrides.yaml", "environment.json", "train.log", "metrics.csv", "metrics.jsonl",
        "summary.json", "tensorboard", "checkpoints", "resolved.json",
    }  # fmt: skip
    checkpoints = done.directory / "checkpoints"
    steps = {path.name for path in checkpoints.glob("step-*")}
    assert f"step-{STEPS:08d}" in steps
    assert {path.name for path in checkpoints.iterdir()} == steps | {"last", "best"}
    assert all(
        {file.name for file in path.iterdir()} == {"state.pt", "manifest.json"} for path in checkpoints.iterdir()
    )
    assert list((done.directory / "tensorboard").glob("events.out.tfevents.*"))


def test_last_and_best_stand_for_steps_and_survive_a_move(done: Done) -> None:
    summary, checkpoints = done.json("summary.json"), done.directory / "checkpoints"
    for name in ("last", "best"):
        assert (checkpoints / name).resolve() == (done.directory / summary[name]["checkpoint"]).resolve()
        assert not (checkpoints / name).readlink().is_absolute()
        manifest = json.loads((checkpoints / name / "manifest.json").read_text())
        payload = (checkpoints / name / "state.pt").read_bytes()
        assert manifest["step"] == summary[name]["step"]
        assert manifest["bytes"] == len(payload)
        assert manifest["sha256"] == hashlib.sha256(payload).hexdigest()


def test_each_record_has_these_numbers(done: Done) -> None:
    rows = done.rows()
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert [row["epoch"] for row in rows] == [0, 0, 1, 1, 1, 2]
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    for row in rows:
        ends = row["step"] in (3, 6)
        assert set(row) == RECORDED | (ENDED if ends else RECENT)
        assert all(isinstance(value, (int, float)) and math.isfinite(value) for value in row.values())
        assert row["samples_per_second"] > 0
        assert row["grad_norm"] > 0
        assert 0 < row["lr"] <= float(RATE)
        samples, accuracy = (160, row["train/accuracy"]) if ends else (64, row["train_recent/accuracy"])
        assert accuracy * samples == pytest.approx(round(accuracy * samples), abs=1e-9)
        assert 0 <= accuracy <= 1
    validated = [row["val/accuracy"] for row in rows if "val/accuracy" in row]
    assert all(0 < value < 1 and value * 40 == pytest.approx(round(value * 40), abs=1e-9) for value in validated)


def test_the_table_has_the_same_numbers(done: Done) -> None:
    with open(done.directory / "metrics.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    read = [{name: float(text) for name, text in row.items() if text} for row in table]
    assert read == done.rows()
    assert set(table[0]) == RECORDED | RECENT | ENDED


def test_the_summary_agrees_with_the_metrics(done: Done) -> None:
    summary, rows = done.json("summary.json"), done.rows()
    validated = [row for row in rows if "val/accuracy" in row]
    best = max(validated, key=lambda row: row["val/accuracy"])
    assert summary["status"] == summary["reason"] == "completed"
    assert summary["steps"] == summary["total_steps"] == STEPS
    found = {key: summary["best"][key] for key in ("metric", "value", "step")}
    assert found == {"metric": "val/accuracy", "value": best["val/accuracy"], "step": best["step"]}
    assert summary["last"]["value"] == rows[-1]["val/accuracy"]
    assert summary["last"]["step"] == STEPS
    assert summary["last"]["scores"] == {name: rows[-1][name] for name in ENDED if name.startswith("val/")}
    assert rows[-1]["time"] <= summary["seconds"] < 60


def test_the_first_screen_says_what_is_trained_and_how_to_go_on(done: Done) -> None:
    first = next(i for i, line in enumerate(done.lines) if line.startswith("epoch "))
    assert 8 <= first <= 12
    screen = {line.split()[0]: line for line in done.lines[:first]}
    assert len(screen) == first
    assert done.shown in screen["run"]
    assert re.search(r"cpu|cuda|mps", screen["device"])
    assert "linear" in screen["model"]
    assert "22 parameters" in screen["model"]
    assert "160 train / 40 val" in screen["data"]
    assert "2 classes" in screen["data"]
    assert re.search(r"64 = 64 .*× 1 ", screen["batch"])
    assert re.search(r"6 = 2 epochs × 3", screen["steps"])
    assert f"sgd lr {RATE}, cosine" in screen["schedule"]
    assert screen["watch"].endswith(f"tensorboard --logdir {done.shown}/tensorboard")
    assert screen["resume"].endswith(f"train resume={done.shown}")


def test_the_last_lines_say_how_it_ended_and_what_was_best(done: Done) -> None:
    summary = done.json("summary.json")
    end, best, following = done.lines[-3:]
    assert re.fullmatch(r"end +completed after 6 steps in \d+s", end)
    assert f"val/accuracy {summary['best']['value']:.4f} at step {summary['best']['step']}" in best
    assert best.endswith(f"{done.shown}/{summary['best']['checkpoint']}")
    assert re.search(rf"train resume={done.shown} trainer\.(steps=12|epochs=4)\b", following)  # twice as far


def test_nothing_is_printed_twice_and_no_control_codes_reach_a_pipe(done: Done) -> None:
    assert [line for line, count in Counter(done.lines).items() if count > 1] == []
    steps = [line.split()[3] for line in done.lines if line.startswith("epoch ")]
    assert len(steps) == len(set(steps))
    assert {"3/6", "6/6"} <= set(steps)
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", "".join(done.lines))


def test_the_log_has_the_printed_lines(done: Done) -> None:
    def kept(lines: list[str]) -> list[str]:
        """Without the time left, which each output measures itself, and lines between validations."""
        return [re.sub(r"  eta \w+", "", line) for line in lines if not line.startswith("epoch") or " val" in line]

    assert kept((done.directory / "train.log").read_text().splitlines()) == kept(done.lines)


def test_the_saved_config_keeps_the_name_of_a_variable_and_the_run_used_its_value(done: Done) -> None:
    config = OmegaConf.load(done.directory / "config.yaml")
    assert OmegaConf.to_container(config, resolve=False)["optimizer"]["lr"] == "${oc.env:RATE}"
    assert done.rows()[0]["lr"] == float(RATE)
    typed = OmegaConf.to_container(OmegaConf.load(done.directory / "overrides.yaml"), resolve=False)
    assert typed == [*WORDS, "optimizer.lr=${oc.env:RATE}", "optimizer=sgd"]
    assert RATE not in (done.directory / "config.yaml").read_text() + (done.directory / "overrides.yaml").read_text()


def test_the_saved_config_is_complete(done: Done) -> None:
    config = OmegaConf.to_container(OmegaConf.load(done.directory / "config.yaml"), resolve=False)
    assert config["options"] == {
        "model": "linear", "data": "synthetic", "optimizer": "sgd", "scheduler": "cosine", "task": "auto",
        "trainer": "default", "run": "default",
    }  # fmt: skip
    assert config["seed"] == 0
    assert config["trainer"]["epochs"] == EPOCHS
    assert config["model"] == {"freeze": None, "unfreeze_at": None, "bias": True}


def test_the_environment_is_recorded(done: Done) -> None:
    environment = done.json("environment.json")
    assert environment["packages"]["torch"] == version("torch")
    assert environment["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert environment["device"] in done.lines[1]
    assert environment["imports"] == []
    assert environment["commit"] is None  # the folder of the run is in no repository
    assert environment["command"][1:] == ["train", *WORDS, "optimizer.lr=${oc.env:RATE}", "optimizer=sgd"]


CREATE_MANY = """
import multiprocessing, sys
from trainer.runs.directory import Run

def create(start, results):
    start.wait()
    results.put([str(Run.create("outputs").directory) for _ in range(int(sys.argv[1]))])

fork = multiprocessing.get_context("fork")
start, results = fork.Barrier(8), fork.Queue()
processes = [fork.Process(target=create, args=(start, results)) for _ in range(8)]
for process in processes:
    process.start()
print("\\n".join(name for _ in processes for name in results.get()))
"""


def test_runs_created_at_once_by_many_processes_never_share_a_directory(tmp_path: Path) -> None:
    # So many that several draw the same name within a second, and one of them has to draw again.
    each = 500
    result = run_python(tmp_path, "-c", CREATE_MANY, str(each))
    names = result.stdout.splitlines()
    assert result.stderr == ""
    assert len(names) == len(set(names)) == 8 * each
    assert all((tmp_path / name).is_dir() for name in names)


HOLD = """
import time
from trainer.runs.directory import Run
print(Run.create("outputs").directory, flush=True)
time.sleep(120)
"""


def test_a_run_directory_has_one_writer_and_a_killed_one_frees_it(tmp_path: Path) -> None:
    holder = python("-c", HOLD, cwd=tmp_path, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        run = Run(tmp_path / holder.stdout.readline().strip())
        assert run.is_held()
        with pytest.raises(
            CheckpointError, match=f"process {holder.pid} on {re.escape(socket.gethostname())}, since 20"
        ):
            run.lock()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert not run.is_held()
    assert run.lock() is run
    assert f"process {os.getpid()} on" in (run.directory / ".lock").read_text()
    with pytest.raises(CheckpointError, match=f"process {os.getpid()} "):
        Run(run.directory).lock()
    run.release()
    assert not Run(run.directory).is_held()


def screen(written: str) -> list[str]:
    """The lines that a terminal shows after all that was written to it."""
    lines, row, column = [""], 0, 0
    for code, end, text in re.findall(r"\x1b\[([?\d;]*)([A-Za-z])|([^\x1b])", written):
        if end == "A":
            row = max(0, row - int(code or 1))
        elif end == "K":
            lines[row] = lines[row][:column] if code in ("", "0") else ""
        elif text == "\r":
            column = 0
        elif text == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def in_terminal(folder: Path, *arguments: str, columns: int = 240) -> tuple[int, str]:
    """Run `train` in a terminal; returns its exit code and all that it wrote there."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), slave)
    terminal = {"TERM": "xterm-256color", "COLUMNS": "", "LINES": "", "NO_COLOR": ""}
    process = start_trainer(folder, "train", *arguments, env=terminal, **streams)
    os.close(slave)
    written = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the last process has closed its side
            break
        if not part:
            break
        written += part
    os.close(master)
    return process.wait(60), written.decode()


def test_a_terminal_shows_progress_and_in_the_end_only_lines(tmp_path: Path) -> None:
    code, written = in_terminal(tmp_path, *WORDS, "trainer.epochs=3")
    assert code == 0
    assert "━" in written  # a bar
    assert "saving" in written or "reading" in written or "training" in written
    assert written.count("\x1b[?25h") >= written.count("\x1b[?25l") > 0  # the cursor is back
    lines = [line for line in screen(written) if line]
    assert not any("━" in line or "─" in line for line in lines)
    assert lines[0].startswith("run ")
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert [line.split()[3] for line in epochs] == ["3/9", "6/9", "9/9"]
    assert all(re.search(r"train.loss \d.*val.*accuracy 0\.\d", line) for line in epochs)
    assert [line.split()[0] for line in lines[-3:]] == ["end", "best", "next"]
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl", ".lock"])
def test_a_link_out_of_the_run_is_not_written_over(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    run = tmp_path / "run"
    run.mkdir()
    (run / name).symlink_to(precious)
    with pytest.raises(CheckpointError, match=rf"{name} is a link"):
        Run(run).lock()
    assert precious.read_text() == "precious"


RECORDS_FSYNCS = """
import os, sys
from trainer.cli import run

fsync, synced = os.fsync, []

def recording(descriptor):
    synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
    fsync(descriptor)

os.fsync = recording
code = run("train", sys.argv[1:])
print("synced", *synced, flush=True)
sys.exit(code)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of descriptors from /proc")
def test_the_records_are_on_the_disk_before_each_checkpoint_that_goes_on_from_them(tmp_path: Path) -> None:
    words = ["model=linear", "data=synthetic", "data.num_samples=200", "trainer.epochs=4", "trainer.save_every=2"]
    done = run_python(tmp_path, "-c", RECORDS_FSYNCS, *words)
    synced = done.stdout.splitlines()[-1].split()
    order = [name for name in synced if name in ("metrics.jsonl", "state.pt")]
    assert order.count("state.pt") >= 5
    assert all(before == "metrics.jsonl" for before, name in pairwise(order) if name == "state.pt")


def test_a_run_directory_in_which_nothing_can_be_removed_is_named(tmp_path: Path) -> None:
    run = Run.create(tmp_path)
    (run.directory / "summary.json").mkdir()  # what cannot be unlinked, also by root
    with pytest.raises(TrainerError, match=rf"{re.escape(str(run.directory))}: cannot be written \(.*MB are free"):
        run.reopen()
    run.release()


def test_a_forked_worker_that_outlives_its_run_does_not_keep_the_lock(tmp_path: Path) -> None:
    run = Run.create(tmp_path)
    (ready, tell), (wait, let_go) = os.pipe(), os.pipe()
    worker = os.fork()
    if not worker:
        os.close(let_go)
        os.write(tell, b"x")
        os.read(wait, 1)  # until the test is over
        os._exit(0)
    os.read(ready, 1)
    run.release()
    try:
        assert not Run(run.directory).is_held()
    finally:
        os.close(let_go)
        os.waitpid(worker, 0)
        for descriptor in (ready, tell, wait):
            os.close(descriptor)
