"""What tests share as fixtures: the command line as a real process in an empty folder."""

import os
import subprocess
from collections import Counter, defaultdict
from pathlib import Path

import pytest

# Before torch is imported here, in the workers and in the processes of tests: each has one thread, for the workers
# have the cores already. Tests of threads set it themselves.
os.environ["OMP_NUM_THREADS"] = "1"

from support import Command, run_trainer


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "campaigns of faults (pytest -m faults)")
    group.addoption("--full", action="store_true", help="every trial, instead of a spread of them")
    group.addoption("--seed", type=int, default=0, help="of the campaigns' own random choices (default 0)")


def pytest_configure(config: pytest.Config) -> None:
    """Hide the GPUs, unless `-m gpu` asks for them: most tests compare bits, and name the CPU and its precision."""
    if "gpu" not in config.option.markexpr.replace("not gpu", ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `full`, more trials of what others show, unless `--full` asks for every trial."""
    if not config.getoption("full"):
        left_out = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("full")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many trials each campaign has made, and what it has counted and measured."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    notes: defaultdict[str, list[str]] = defaultdict(list)
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        campaign, properties = report.nodeid.partition("::")[0], dict(report.user_properties)
        counts[campaign] += Counter(properties.get("counts", {}))
        notes[campaign] += filter(None, [properties.get("note")])
    for campaign, counted in sorted(counts.items()):
        if counted:
            words = [f"{count:,} {name.replace('_', ' ')}" for name, count in counted.items()]
            terminalreporter.write_line(f"{campaign}: {', '.join([*words, *notes[campaign]])}")


def pytest_xdist_auto_num_workers() -> int:
    """As many workers as a container allows, where xdist counts all cores of the machine."""
    from trainer.system.cores import cores

    return cores()


@pytest.fixture
def trainer(tmp_path: Path) -> Command:
    """`trainer("list", "model")` runs `python -m trainer list model` in `tmp_path`; checks the exit code."""

    def command(*words: str, code: int = 0, cold: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
        return run_trainer(tmp_path, *words, code=code, cold=cold, env=variables)

    return command


@pytest.fixture
def train(trainer: Command) -> Command:
    """`train("model=mlp", "trainer.epochs=1")` runs `train` in `tmp_path`; checks the exit code."""

    def command(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
        return trainer("train", *words, **options)

    return command
