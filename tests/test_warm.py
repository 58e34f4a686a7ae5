"""A process of the tests that is forked from one with everything imported is as one that starts from nothing."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import AnyProcess, finish
from warm import Process, python

PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
PROGRAMS = {
    "an end": "print('out'); import sys; print('error', file=sys.stderr)",
    "no newline": "import sys; sys.stdout.write('out')",
    "a code": "import sys; sys.exit(3)",
    "a code beyond a byte": "import sys; sys.exit(263)",
    "words": "import sys; sys.exit('words')",
    "an error": "raise ValueError('wrong')",
    "Ctrl-C": "import os; os.kill(os.getpid(), 2)",
    "an abort": "import os; os.abort()",
    "what is to be done at the exit": "import atexit; atexit.register(print, 'bye')",
    "a thread": "import threading, time; threading.Thread(target=lambda: [time.sleep(0.1), print('done')]).start()",
    "arguments and place": "import os, sys; print(sys.argv, os.getcwd(), __name__, sys.path[0] == '', os.environ['A'])",
    "handlers": "import signal; print([signal.getsignal(n) for n in (2, 10, 13, 15)])",
    "no input, no terminal": "import sys; print(sys.stdin.read() == '', sys.stdin.isatty(), sys.stdout.isatty())",
    "standing": "import os; print(os.getsid(0) == os.getpgrp() == os.getpid(), len(os.listdir('/proc/self/fd')))",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_does_and_ends_as_one_that_starts_from_nothing(program: str, tmp_path: Path) -> None:
    def outcome(cold: bool) -> tuple[int, str, list[str]]:
        process = python("-c", PROGRAMS[program], "x", "-y", cwd=tmp_path, env={"A": "1"}, cold=cold, **PIPES)
        assert isinstance(process, Process) is not cold
        done = finish(process, code=None)
        return done.returncode, done.stdout, done.stderr.splitlines()[-1:]  # tracebacks begin elsewhere

    assert outcome(cold=False) == outcome(cold=True)


def test_modules_and_files_are_run_from_their_place(tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text("import sys; print(__name__, sys.argv[1:], sys.path[0], sys.argv[0])")
    for arguments in (("-m", "shown", "a"), (str(tmp_path / "shown.py"), "b"), ("-P", "-c", "import shown")):
        warm, cold = (finish(python(*arguments, cwd=tmp_path, cold=cold, **PIPES), None) for cold in (False, True))
        assert (warm.stdout, warm.returncode) == (cold.stdout, cold.returncode), arguments


def test_what_is_read_at_the_start_starts_cold(tmp_path: Path) -> None:
    program = "import sys; print(sys.flags.utf8_mode)"
    process = python("-c", program, cwd=tmp_path, env={"PYTHONUTF8": "1"}, **PIPES)
    assert isinstance(process, subprocess.Popen)
    assert finish(process).stdout == "1\n"


def test_it_is_waited_for_signalled_and_killed_like_any_other(tmp_path: Path) -> None:
    program = "import sys; print('ready', flush=True); print(input(), flush=True); input()"
    process: AnyProcess = python("-c", program, cwd=tmp_path, stdin=subprocess.PIPE, **PIPES)
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("heard\n")
    process.stdin.flush()
    assert process.stdout.readline() == "heard\n"
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM == process.poll()
    process.kill()  # nothing is there any more
    process.communicate()
