"""The writer of a folder on a file system without locks: a file and a heartbeat. In each child `flock` is refused."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import AnyProcess, run_python, wait_until
from warm import python

from trainer.system.heartbeat import STALE

WITHOUT_LOCKS = """
import errno, fcntl, os, signal, sys
from pathlib import Path

def refuse(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

fcntl.flock = refuse
from trainer.runs.directory import Run
from trainer.errors import CheckpointError
from trainer.system import heartbeat
heartbeat.BEAT = 0.02
run = Run(Path("run"))
"""
HOLD = f"""{WITHOUT_LOCKS}
def stop(*_):
    print("stopped", flush=True)
    os._exit(0)

signal.signal(signal.SIGTERM, stop)
run.lock()
print("held", flush=True)
sys.stdin.readline()
run.release()
"""
ASK = f"""{WITHOUT_LOCKS}
print(run.holder())
try:
    run.lock()
    print("locked")
except CheckpointError as error:
    print(error)
sys.stdout.flush()
os._exit(0)  # as a process that is killed
"""
OF_ELSEWHERE = "process 1 on elsewhere, since 2026-01-01 00:00:00\nanother-boot pid:[1]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


@pytest.fixture
def holder(folder: Path) -> Iterator[AnyProcess]:
    process = python("-c", HOLD, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def ask(folder: Path) -> tuple[str, str]:
    """Who holds the run by `holder`, and what comes of `lock`."""
    holder, answer = run_python(folder, "-c", ASK).stdout.splitlines()
    return holder, answer


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "run").iterdir()}


def test_a_second_process_is_refused_until_the_first_lets_go(folder: Path, holder: AnyProcess) -> None:
    who, answer = ask(folder)
    assert who.startswith(f"process {holder.pid} on ")
    assert answer.startswith(f"run is being written by process {holder.pid} on ")
    assert "after 60 s without it counts as dead" in answer
    assert names(folder) == {".lock", ".lock.held"}
    holder.communicate()
    assert names(folder) == {".lock"}
    assert ask(folder) == ("None", "locked")


def test_the_holder_shows_that_it_lives(folder: Path, holder: AnyProcess) -> None:
    held = folder / "run/.lock.held"
    os.utime(held, (1e9, 1e9))
    wait_until(lambda: held.stat().st_mtime > time.time() - 10, holder)


def test_one_that_was_killed_on_this_machine_is_out_of_the_way_at_once(folder: Path, holder: AnyProcess) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (folder / "run/.lock.held").exists()
    assert ask(folder) == ("None", "locked")


@pytest.mark.parametrize(("age", "live"), [(0, True), (STALE - 20, True), (STALE + 5, False)])
def test_one_of_another_machine_counts_as_dead_without_a_sign_of_life(folder: Path, age: float, live: bool) -> None:
    held = folder / "run/.lock.held"
    (folder / "run/.lock").touch()  # as every holder leaves it
    held.write_text(OF_ELSEWHERE)
    os.utime(held, (time.time() - age,) * 2)
    who, answer = ask(folder)
    if live:
        assert who.startswith("process 1 on elsewhere, since 2026-01-01 00:00:00 (sign of life ")
        assert answer.startswith("run is being written by process 1 on elsewhere")
        assert held.read_text() == OF_ELSEWHERE
    else:
        assert (who, answer) == ("None", "locked")
        assert held.read_text() != OF_ELSEWHERE
    assert names(folder) == {".lock", ".lock.held"}


def test_a_process_that_stood_still_and_was_taken_for_dead_stops(folder: Path, holder: AnyProcess) -> None:
    held = folder / "run/.lock.held"
    (folder / "other").write_text(OF_ELSEWHERE)
    (folder / "other").replace(held)
    assert holder.wait(30) == 0
    assert holder.stdout is not None
    assert holder.stdout.read() == "stopped\n"
    assert held.read_text() == OF_ELSEWHERE


def test_with_locks_there_is_no_other_file(folder: Path) -> None:
    script = ASK.replace("fcntl.flock = refuse", "")
    assert run_python(folder, "-c", script).stdout == "None\nlocked\n"
    assert names(folder) == {".lock"}
