"""A trial in a process of its own, started and looked after by a process that a cluster has started.

Whoever runs the sweep may be on another machine, and shares nothing with the trial but the directory of the sweep; so a
request is a file in the trial's directory.
"""

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

from trainer.sweeps.engine import TrialTask
from trainer.system import atomic_files

REQUEST = "request"  # holds the number of a signal that the trial is to get
TICK = 0.2  # seconds between two looks for a request


def attend(task: TrialTask) -> int:
    """Run a trial to its end, and pass requests on to it; return its exit code, negative for a signal."""
    attended = AttendedTrial(task)
    try:
        return attended.wait()
    finally:
        attended.stop()


def request(task: TrialTask, signal: int) -> None:
    """Ask whoever attends a trial to send it a signal."""
    atomic_files.write_text(task.directory / REQUEST, str(signal))


def forget_requests(task: TrialTask) -> None:
    """Remove what was asked of an attempt before; a request that comes while a trial still waits to begin is kept."""
    (task.directory / REQUEST).unlink(missing_ok=True)


class AttendedTrial:
    """The process of a trial. It saves and stops when the process that has started it dies."""

    def __init__(self, task: TrialTask) -> None:
        self._request = task.directory / REQUEST
        command = [sys.executable, "-m", "trainer.sweeps.trial"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)  # the pipe is closed by the death of this one
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(to_json(task).encode() + b"\n")
            self._process.stdin.flush()

    def wait(self) -> int:
        """Wait for the end; return the exit code."""
        while (code := self._process.poll()) is None:
            with contextlib.suppress(FileNotFoundError):
                number = int(self._request.read_text(encoding="ascii"))
                self._request.unlink()
                self._process.send_signal(number)
            time.sleep(TICK)
        return code

    def stop(self) -> None:
        """Let the trial save and stop, and wait for that."""
        self._process.terminate()
        self._process.wait()


def to_json(task: TrialTask) -> str:
    """Return a task as one line of JSON."""
    return json.dumps(dataclasses.asdict(task) | {"directory": str(task.directory)})


def from_json(line: str) -> TrialTask:
    """Return the task that `to_json` gave."""
    plain = json.loads(line)
    return TrialTask(**plain | {"directory": Path(plain["directory"])})
