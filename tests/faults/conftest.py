"""What the fault campaigns share: their mode, their seed, and a verdict over many trials."""

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from support import Verdict

logging.getLogger("trainer").addHandler(logging.NullHandler())  # damage is meant here: its warnings go nowhere


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Whether all trials are made, instead of a spread of them."""
    return bool(pytestconfig.getoption("full"))


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """Of the campaigns' own random choices."""
    return int(pytestconfig.getoption("seed"))


@pytest.fixture
def verdict(record_property: Callable[[str, object], None]) -> Verdict:
    """`verdict(outcomes)` takes what was wrong with each trial, or None; fails where something was, or none was made.

    What else is counted, by name, and a note of what was measured are shown in the summary.
    """

    def judge(outcomes: Iterable[str | None], note: str = "", **counts: int) -> None:
        made = list(outcomes)
        failures = [wrong for wrong in made if wrong]
        record_property("counts", {"trials": len(made), **counts})
        record_property("note", note)
        assert not failures, f"{len(failures)} of {len(made)} trials:\n" + "\n".join(failures)
        assert made, "nothing was tried"

    return judge


@pytest.fixture(scope="session")
def can_trace() -> bool:
    """Whether strace is there and may attach to a process that is not its child (a container may forbid it)."""
    if shutil.which("strace") is None:
        return False
    with subprocess.Popen(["sleep", "0.3"]) as sleeper:
        command = ["strace", "-qq", "-o", "/dev/null", "-p", str(sleeper.pid)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """For folders in memory: a kill does not lose what is in the page cache, so a disk would only be slow."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None, prefix="faults-") as folder:
        yield Path(folder)
