"""What tests share: the command line as a real process in an empty folder."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def trainer(tmp_path: Path) -> Command:
    """`trainer("list", "model")` runs `python -m trainer list model` in `tmp_path`; checks the exit code."""

    def run(
        *arguments: str, code: int = 0, timeout: float = 120, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [sys.executable, "-m", "trainer", *arguments],
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "200"} | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert result.returncode == code, f"exit code {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    return run


@pytest.fixture
def train(trainer: Command) -> Command:
    """`train("model=mlp", "trainer.epochs=1")` runs `train` in `tmp_path`; checks the exit code."""

    def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return trainer("train", *arguments, **options)

    return run
