"""Streams that are closed, full, gone or lack a character: a run completes, and an answer that is lost is a failure."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import TINY, finish, loadable, run_python, start_trainer, the_run, wait_until
from warm import python

from trainer.loggers.files import read_metrics
from trainer.system.streams import REPLACING, tell

WORDS = ("train", *TINY, "trainer.epochs=4", "trainer.log_every=1")
LONG = ("train", *TINY, "trainer.epochs=1000000", "trainer.eval_every=null")
# What Python makes of streams that are closed when it starts.
CLOSED = """
import os, sys
for number in map(int, sys.argv.pop(1)):
    os.close(number)
    setattr(sys, ("stdin", "stdout", "stderr")[number], None)
from trainer.cli import main
main()
"""
# One whose encoding has neither arrows nor signs.
ENCODED = """
import sys
sys.stdout = open(1, "w", encoding=sys.argv.pop(1), closefd=False)
from trainer.cli import main
main()
"""


def completed(folder: Path) -> Path:
    """The only run below a folder, which has completed and left all that it should."""
    run = the_run(folder)
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["steps"], summary["total_steps"]) == ("completed", 12, 12)
    assert (run / "checkpoints" / "last").resolve().name == "step-00000012"
    assert [row["step"] for row in read_metrics(run)] == list(range(1, 13))
    log = (run / "train.log").read_text()
    assert "step 12/12" in log
    assert log.splitlines()[-1].startswith("next ")
    return run


@pytest.mark.parametrize("numbers", ["1", "12", "012"])
def test_a_run_without_streams_completes(numbers: str, tmp_path: Path) -> None:
    run_python(tmp_path, "-c", CLOSED, numbers, *WORDS)
    completed(tmp_path)


def test_the_exit_code_of_a_mistake_needs_no_stream(tmp_path: Path) -> None:
    run_python(tmp_path, "-c", CLOSED, "12", "train", "optimizer.lrr=1", code=2)


def test_a_run_whose_screen_is_full_completes(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        process = start_trainer(tmp_path, *WORDS, stdout=full, stderr=full)
        assert process.wait(60) == 0
    completed(tmp_path)


@pytest.mark.parametrize("answer", [("--help",), ("train", "--help"), ("list", "model"), ("explain", "seed")])
def test_an_answer_that_cannot_be_written_is_a_failure_in_one_line(answer: tuple[str, ...], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = finish(start_trainer(tmp_path, *answer, stdout=full), code=1)
    assert done.stderr == "error: the answer could not be written (No space left on device).\n"


@pytest.mark.parametrize(
    "encoding", ["ascii", *(pytest.param(name, marks=pytest.mark.full) for name in ("latin-1", "cp1252"))]
)
def test_a_screen_that_lacks_characters_shows_others(encoding: str, tmp_path: Path) -> None:
    def shown(*words: str) -> str:
        with open(tmp_path / "shown", "wb") as file:
            finish(python("-c", ENCODED, encoding, *words, cwd=tmp_path, stdout=file, stderr=file))
        return (tmp_path / "shown").read_text(encoding=encoding)

    assert f"accumulated {'x' if encoding == 'ascii' else '×'} 1 process" in shown(*WORDS)
    run = completed(tmp_path)
    assert "trainer.epochs: 4 -> 5" in shown("train", f"resume={run}", "trainer.epochs=5")
    assert "trainer.epochs: 4 → 5" in (run / "train.log").read_text()
    assert "precision" in shown("evaluate", str(run))


def test_the_environment_may_ask_for_ascii(tmp_path: Path) -> None:
    environment = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = finish(start_trainer(tmp_path, *WORDS, env=environment))
    completed(tmp_path)
    assert "x 1 process" in done.stdout


def test_what_an_encoding_lacks_is_replaced_and_bytes_of_file_names_stay() -> None:
    assert "4 → 5 × 2 ± 1 – … ünï 犬".encode("ascii", REPLACING) == b"4 -> 5 x 2 +/- 1 - ... ?n? ?"
    assert "ünï ━".encode("latin-1", REPLACING) == b"\xfcn\xef ="
    name = b"caf\xe9"
    assert name.decode("utf-8", "surrogateescape").encode("utf-8", REPLACING) == name


def test_a_size_of_nothing_is_an_unknown_one(tmp_path: Path) -> None:
    finish(start_trainer(tmp_path, *WORDS, env={"COLUMNS": "0", "LINES": "0"}))
    run = completed(tmp_path)
    done = finish(start_trainer(tmp_path, "evaluate", str(run), env={"COLUMNS": "0"}))
    assert "precision" in done.stdout


def test_colours_in_a_file_are_no_terminal(tmp_path: Path) -> None:
    shown = finish(start_trainer(tmp_path, *WORDS, env={"FORCE_COLOR": "1"})).stdout
    completed(tmp_path)
    assert "\x1b[?25l" not in shown
    assert "\r" not in shown
    assert "step 12/12" in shown


def in_vanishing_terminal(folder: Path, program: str, *words: str) -> tuple[Any, Path]:
    """Start a run in a terminal, and take that away once it trains; gives the process and the run."""
    master, slave = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), slave)
    process = python("-c", program, *words, cwd=folder, env={"TERM": "xterm"}, **streams)
    os.close(slave)
    shown = b""
    while b"training" not in shown:  # what the live line says
        shown += os.read(master, 65536)
    os.close(master)
    return process, the_run(folder)


START = "from trainer.cli import main; main()"
DEAF = f"import signal\nfor number in (1, 2, 10): signal.signal(number, signal.SIG_IGN)\n{START}"


def test_a_run_goes_on_without_its_terminal_where_it_was_told_to(tmp_path: Path) -> None:
    process, run = in_vanishing_terminal(tmp_path, DEAF, *LONG)
    for number in (1, 2, 10):  # SIGHUP, SIGINT and SIGUSR1 were ignored when it was started
        process.send_signal(number)
    before = loadable(run / "checkpoints") or 0
    wait_until(lambda: (loadable(run / "checkpoints") or 0) >= before + 9, process)  # saved after each 3 steps
    process.send_signal(15)
    assert process.wait(60) == 143
    assert "SIGUSR1" not in (run / "train.log").read_text()


def test_a_run_whose_terminal_is_closed_saves_and_stops(tmp_path: Path) -> None:
    process, run = in_vanishing_terminal(tmp_path, START, *LONG)
    process.send_signal(1)
    assert process.wait(60) == 129
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["reason"]) == ("stopped", "signal 1")
    assert (run / "checkpoints" / "last").resolve().name == f"step-{summary['steps']:08d}"


def test_what_is_told_to_a_full_stream_is_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    tell("heard", sys.stdout)
    with open("/dev/full", "w") as full:
        tell("lost", full)
        tell("lost again", full)
    assert capfd.readouterr().out == "heard\n"


def test_predictions_that_cannot_be_written_are_a_failure(tmp_path: Path) -> None:
    rows = "".join(f"{i % 7},{i % 3},{'ab'[i % 2]}\n" for i in range(60))
    (tmp_path / "t.csv").write_text(f"x,y,label\n{rows}")
    table = ("data=csv", "data.path=t.csv", "data.target=label", "model=linear", "trainer.epochs=1")
    finish(start_trainer(tmp_path, "train", *table))
    with open("/dev/full", "w") as full:
        process = start_trainer(tmp_path, "predict", str(the_run(tmp_path)), "t.csv", stdout=full)
        assert "could not be written" in finish(process, code=1).stderr
    done = finish(start_trainer(tmp_path, "predict", str(the_run(tmp_path)), "t.csv", stdout=subprocess.PIPE))
    assert len(done.stdout.splitlines()) == 61
