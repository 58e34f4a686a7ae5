"""`trainer clean [DIR]`: what can be freed, and freeing it."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import ConfigError
from trainer.loggers.screen import TextConsole, say

if TYPE_CHECKING:
    from trainer.sweeps.collection import RunFacts

# What there can be of a run that never began; a directory with anything else is left.
OURS = {".lock", "checkpoints", "config.yaml", "environment.json", "metrics.csv", "metrics.jsonl", "overrides.yaml"}
OURS |= {"resolved.json", "summary.json", "tensorboard", "train.log"}


def main(arguments: Sequence[str]) -> int:
    """Say what would be freed; free it with `--yes`."""
    about = (
        "Free weights of all but the best trial of each sweep, runs that never began, and caches of data. Configs, "
        "metrics and summaries stay. Nothing is removed without --yes, and nothing that a process is using."
    )
    options = argparse.ArgumentParser(prog="trainer clean", description=about)
    options.add_argument(
        "folder", nargs="?", type=Path, metavar="DIR", help="where runs and caches are (outputs, and caches here)"
    )
    options.add_argument("--yes", action="store_true", help="remove it")
    args = options.parse_args(arguments)
    from trainer.data.files.cache import FOLDER
    from trainer.runs.references import runs_folder
    from trainer.sweeps.collection import NEVER_BEGAN, all_runs, disk_usage
    from trainer.sweeps.directory import RUNNING

    folder = args.folder or runs_folder()
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder.")
    runs, _ = all_runs(folder)
    screen, total = TextConsole(), 0
    for one in [*_weights(runs), *(one for one in runs if one.status == NEVER_BEGAN and _is_ours(one))]:
        began = one.status != NEVER_BEGAN
        path = one.run.checkpoints if began else one.run.directory
        size = disk_usage(path)
        if args.yes and not _remove(one, began):
            say(screen, f"left      {path}: a process is using it")
            continue
        total += size
        say(screen, f"{'weights' if began else 'not begun':<10}{path}, {size / 1e6:,.1f} MB")
    for path in sorted(place for place in (args.folder or Path()).glob(f"**/{FOLDER}") if place.is_dir()):
        size = disk_usage(path)
        total += size
        say(screen, f"{'cache':<10}{path}, {size / 1e6:,.1f} MB; it is made again when it is needed")
        if args.yes:
            shutil.rmtree(path, ignore_errors=True)
    if running := [one for one in runs if one.status == RUNNING]:
        say(screen, f"{'left':<10}{len(running)} that a process is writing ({running[0].run.directory})")
    word = "freed" if args.yes else "would be freed; to do it: trainer clean --yes" if total else "can be freed"
    say(screen, f"{'total':<10}{total / 1e6:,.1f} MB {word}")
    return 0


def _is_ours(one: "RunFacts") -> bool:
    """Return whether `train` has made a directory and all that is in it."""
    return one.is_own and {path.name for path in one.run.directory.iterdir()} <= OURS


def _weights(runs: Sequence["RunFacts"]) -> list["RunFacts"]:
    """Return the trials with weights that are not the best of their sweep."""
    from trainer.sweeps.directory import FINISHED

    sweeps: dict[Path, list[RunFacts]] = {}
    for one in runs:
        if one.sweep is not None and one.status in FINISHED and one.score is not None:
            sweeps.setdefault(one.sweep, []).append(one)
    found: list[RunFacts] = []
    for trials in sweeps.values():
        if len({(one.score.metric, one.score.mode) for one in trials if one.score}) > 1:
            continue  # nobody knows which is best
        trials.sort(key=lambda one: one.score.cost if one.score else 0.0)
        found += [one for one in trials[1:] if one.run.checkpoints.exists()]
    return found


def _remove(one: "RunFacts", began: bool) -> bool:
    """Remove the weights of a run, or a run that never began; return whether nobody else uses it."""
    from trainer.errors import CheckpointError
    from trainer.sweeps.keeping import drop_weights

    try:
        one.run.lock()
    except CheckpointError:
        return False
    try:
        if began:
            drop_weights(one.run)
        elif one.run.never_began():  # nor has it meanwhile
            shutil.rmtree(one.run.directory)
        else:
            return False
    finally:
        one.run.release()
    return True
