"""Runs as a collection: what is to be said of each, which are meant, and what they hold on the disk."""

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.config import registry
from trainer.errors import CheckpointError
from trainer.runs.directory import Run
from trainer.runs.find import FoundRun, Survey, is_sweep, survey
from trainer.runs.references import Score, config_of, find_run, is_name_alone
from trainer.sweeps.directory import RUNNING, UNFINISHED, status_of
from trainer.sweeps.results import own_values

NEVER_BEGAN = "never began"


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run.

    Attributes:
        run: its directory.
        started: seconds since 1970.
        status: completed, stopped, failed, running, unfinished (killed), never began and the like.
        score: its best one; None: it has none.
        changed: the overrides that it was begun with.
        bytes: of all its files.
        sweep: the directory of the sweep that it is a trial of; None: it is none.
        name, tags: `run.name` and `run.tags`.
        is_own: whether `train` has begun it in this very directory: it is no copy, and no config put there.
    """

    run: Run
    started: float
    status: str
    score: Score | None
    changed: tuple[str, ...]
    bytes: int
    sweep: Path | None
    name: str | None
    tags: tuple[str, ...]
    is_own: bool

    @classmethod
    def of(cls, one: FoundRun) -> "RunFacts":
        """Read them."""
        run, summary = one.run, one.run.summary()
        if run.is_held():
            status = RUNNING
        elif summary is not None:
            status = status_of(summary)
        else:
            status = NEVER_BEGAN if run.never_began() else UNFINISHED
        parent = run.directory.parent
        section = config_of(run).get("run")
        given = section if isinstance(section, dict) else {}
        return cls(
            run,
            one.time,
            status,
            Score.of(run),
            tuple(run.overrides()),
            disk_usage(run.directory),
            parent if is_sweep(parent) else None,
            None if given.get("name") is None else str(given["name"]),
            tuple(map(str, given.get("tags") or ())),
            one.record is not None and not one.is_copy,
        )

    @property
    def place(self) -> str:
        """How it can be named: its directory, or its sweep and number."""
        if self.sweep is None:
            return self.run.directory.name
        number = self.run.directory.name
        return f"{self.sweep.name}:{int(number) if number.isdecimal() else number}"

    def is_meant(self, key: str, pattern: str) -> bool:
        """Return whether a filter `key=pattern` lets it through: of the columns, or of any key of its config."""
        match key:
            case "status":
                found = [self.status]
            case "name":
                found = [self.name or ""]
            case "tag":
                found = list(self.tags)
            case "sweep":
                found = [str(self.sweep), self.sweep.name] if self.sweep is not None else []
            case _:
                found = list(own_values(self.run.config, [key]).values())
        return any(fnmatch.fnmatchcase(value, pattern) for value in found)


def disk_usage(folder: Path) -> int:
    """Return the bytes of all files below a folder; links count as nothing."""
    files = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return sum(path.lstat().st_size for path in files if not path.is_symlink())


def all_runs(folder: Path) -> tuple[list[RunFacts], Survey]:
    """Return the runs below a folder, the one begun last first, and what was passed over.

    Raises:
        CheckpointError: where there is none.
    """
    found = survey(folder)
    if not found.runs:
        others = f" Passed over: {found.words()}." if found.passed_over else ""
        raise CheckpointError(f"{folder}: there is no run in it; train writes them to output_dir.{others}")
    return sorted(map(RunFacts.of, found.runs), key=lambda one: -one.started), found


def chosen_runs(references: Sequence[str], folder: Path) -> list[RunFacts]:
    """Return the runs that are named: each by a reference, or all of a sweep or a folder.

    Raises:
        CheckpointError: where there is no such run.
    """
    chosen: dict[Path, RunFacts] = {}
    for reference in references:
        path = Path(reference).expanduser()
        whole = path.is_dir() and not (path / "config.yaml").is_file()
        whole = whole and not is_name_alone(reference, path, lambda: folder)
        runs = all_runs(path)[0][::-1] if whole else [RunFacts.of(_found(find_run_at(reference, folder)))]
        chosen |= {one.run.directory.absolute(): one for one in runs}
    return list(chosen.values())


def find_run_at(reference: str, folder: Path) -> Run:
    """Return the run that a path or another reference names; raises `CheckpointError` as `find_run`."""
    path = Path(reference).expanduser()
    return Run(path) if (path / "config.yaml").is_file() else find_run(reference, folder, "RUN")


def _found(run: Run) -> FoundRun:
    found = survey(run.directory).runs
    if not found:
        raise CheckpointError(f"{run.directory}: its config.yaml is damaged, or not of a run.")
    return found[0]


def differing_keys(runs: Sequence[RunFacts]) -> list[str]:
    """Return the keys of the config, and the options, that are not the same in all runs."""
    keys = list(dict.fromkeys(key for one in runs for key in _all_keys(one.run.config)))
    values = [own_values(one.run.config, keys) for one in runs]
    own = {"output_dir", "resume", "run.name", "run.tags", "run.notes"}
    return [key for key in keys if key not in own and len({given.get(key, "") for given in values}) > 1]


def _all_keys(config: Path) -> list[str]:
    plain = config_of(Run(config.parent))
    keys = [group for group in registry.GROUPS if group in plain.get("options", {})]
    for name, value in plain.items():
        if name != "options":
            keys += [f"{name}.{key}" for key in value] if isinstance(value, dict) else [name]
    return keys
