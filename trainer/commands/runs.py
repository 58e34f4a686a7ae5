"""`trainer runs [DIR] [FILTER ...]`: what ran, how it ended, and what came out."""

import argparse
import json
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import ConfigError
from trainer.loggers.console import format_value
from trainer.loggers.screen import TextConsole, say

if TYPE_CHECKING:
    from trainer.sweeps.collection import RunFacts


def main(arguments: Sequence[str]) -> int:
    """Print the table, or a line of JSON for each run."""
    about = "List runs. A FILTER is status=failed, name=…, tag=…, sweep=…, or any key of a config, such as model=cnn."
    options = argparse.ArgumentParser(prog="trainer runs", description=about)
    options.add_argument(
        "words", nargs="*", metavar="DIR | FILTER", help="where runs are (outputs), and which are meant"
    )
    options.add_argument("--sort", default="started", metavar="COLUMN", help=f"{', '.join(SORTS)} (started)")
    options.add_argument("--json", action="store_true", help="print a line of JSON for each run")
    args = options.parse_intermixed_args(arguments)
    if args.sort not in SORTS:
        raise ConfigError(f"--sort {args.sort}: not one of {', '.join(SORTS)}.")
    folders = [word for word in args.words if "=" not in word]
    if len(folders) > 1:
        raise ConfigError(f"trainer runs {' '.join(folders)}: give one folder.")
    from trainer.runs.references import runs_folder
    from trainer.sweeps.collection import all_runs

    folder = Path(folders[0]) if folders else runs_folder()
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder.")
    found, survey = all_runs(folder)
    filters = [word.partition("=")[::2] for word in args.words if "=" in word]
    meant = [one for one in found if all(one.is_meant(key, pattern) for key, pattern in filters)]
    meant.sort(key=SORTS[args.sort])
    if args.json:
        for one in meant:
            print(json.dumps(as_plain(one)))
        return 0
    screen = TextConsole()
    _print(screen, meant)
    size = f"{sum(one.bytes for one in meant) / 1e6:,.1f} MB"
    say(screen, f"{len(meant)} of {len(found)} runs in {folder}, {size}")
    if survey.passed_over:
        say(screen, f"passed over: {survey.words()}")
    return 0


def _cost(one: "RunFacts") -> tuple[str, float]:
    if one.score is None:
        return "~", 0.0  # after all metrics
    return one.score.metric, one.score.cost


SORTS: dict[str, Callable[["RunFacts"], Any]] = {
    "started": lambda one: -one.started,
    "run": lambda one: str(one.run.directory),
    "status": lambda one: one.status,
    "best": _cost,
    "size": lambda one: -one.bytes,
    "sweep": lambda one: (str(one.sweep), str(one.run.directory)),
}


def as_plain(one: "RunFacts") -> dict[str, Any]:
    """Return what is known of a run as plain data."""
    score = (
        None if one.score is None else {"metric": one.score.metric, "mode": one.score.mode, "value": one.score.value}
    )
    return {
        "run": str(one.run.directory),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(one.started)),
        "status": one.status,
        "best": score,
        "changed": list(one.changed),
        "bytes": one.bytes,
        "sweep": None if one.sweep is None else str(one.sweep),
        "name": one.name,
        "tags": list(one.tags),
    }


def _print(screen: TextConsole, runs: Sequence["RunFacts"]) -> None:
    """Print a line for each run, and below it what was typed, broken between words."""
    rows = [("run", "started", "status", "best", "MB"), *map(_cells, runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row, one in zip(rows, (None, *runs), strict=True):
        *cells, size = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say(screen, "  ".join((*cells, size.strip().rjust(widths[-1]))))
        if one is not None:
            words = [*one.changed, *(f"#{tag}" for tag in one.tags)]
            typed = " ".join(word for word in words if not word.startswith(("run.name=", "run.tags=")))
            for line in textwrap.wrap(typed, screen.width - 4, break_long_words=False, break_on_hyphens=False):
                say(screen, f"    {line}")


def _cells(one: "RunFacts") -> tuple[str, ...]:
    best = "–"
    if one.score is not None:
        best = f"{one.score.metric.removeprefix('val/')} {format_value(one.score.metric, one.score.value)}"
    started = time.strftime("%m-%d %H:%M", time.localtime(one.started))
    return one.name or one.place, started, one.status, best, f"{one.bytes / 1e6:,.1f}"
