"""What the tests of sweeps share: sweeps in this process, and what they leave."""

import contextlib
import csv
import io
import os
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from support import TINY, digest, payload

from trainer import cli

WORDS = (*TINY, "trainer.epochs=1")


def train(folder: Path, *arguments: str, code: int = 0) -> tuple[str, str]:
    """Run `train` in this process, in a folder; returns what it printed. The trials are processes of their own."""
    output, error = io.StringIO(), io.StringIO()
    before, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), "200"
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
            found = cli.run("train", arguments)
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    assert found == code, f"exit code {found}\n{output.getvalue()}\n{error.getvalue()}"
    return output.getvalue(), error.getvalue()


def sweep(folder: Path, *arguments: str, code: int = 0) -> tuple[Path, str]:
    """Run a sweep to its end; returns its directory and what it printed."""
    output, _ = train(folder, *arguments, code=code)
    [directory] = (path.parent for path in folder.glob("**/sweep.yaml"))
    return directory, output


def results(directory: Path, name: str = "results.csv") -> list[dict[str, str]]:
    """The rows of a table."""
    with open(directory / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table(directory: Path) -> list[dict[str, str]]:
    """The rows of the results without what depends on the clock and the place."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "directory")} for row in results(directory)]


def bits(run: Path) -> str:
    """A hash of all that the last checkpoint of a run holds, but its clock."""
    return digest({name: value for name, value in payload(run).items() if name != "seconds"})


def config(run: Path) -> dict[str, Any]:
    """The config of a run, as it is written."""
    plain = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"), resolve=False)
    assert isinstance(plain, dict)
    return plain


def trials(directory: Path) -> list[Path]:
    """The run directories of a sweep."""
    return sorted(path for path in directory.iterdir() if path.is_dir())
