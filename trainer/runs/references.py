"""Which run a person means who names one: by its path, its name, the beginning of it, or what it is among others."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainer.config.safe_yaml import read
from trainer.errors import CheckpointError, ConfigError, did_you_mean
from trainer.runs.directory import Run
from trainer.runs.find import FoundRun, is_sweep, survey
from trainer.system.home import expanded

LAST, BEST = "last", "best"
RUNS = "outputs"
SHOWN = 5  # runs that an error lists


def locate(where: str, output_dir: Callable[[], Path], key: str = "resume") -> tuple[Run, str]:
    """Return the run and the name of the checkpoint that `resume=` (or the given key) stands for.

    A path is a run directory, a checkpoint in it, or its `state.pt`; anything else is for `find_run`. `best` is the
    best checkpoint of the best run; but for `resume`, which goes on with what was begun last, that of the last run.

    Args:
        output_dir: gives the folder in which runs are looked for.

    Raises:
        CheckpointError: where there is no such run.
    """
    path = expanded(where)
    if where in (LAST, BEST) or not path.exists() or is_sweep(path) or is_name_alone(where, path, output_dir):
        reference = LAST if key == "resume" and where == BEST else where
        return find_run(reference, output_dir(), key), BEST if where == BEST else LAST
    if path.is_file() and path.absolute().parent.name != "checkpoints":  # else a `last` or `best` without links
        path = path.parent
    if (path / "config.yaml").is_file():
        return Run(path), LAST
    if path.absolute().parent.name == "checkpoints" and (path.absolute().parent.parent / "config.yaml").is_file():
        return Run(path.absolute().parent.parent), path.name
    raise CheckpointError(f"{key}={where}: neither a run directory (with config.yaml) nor a checkpoint in one.")


def is_name_alone(where: str, path: Path, output_dir: Callable[[], Path]) -> bool:
    """Whether a path is some other folder, such as one of data, while a run is named like it."""
    if not path.is_dir() or (path / "config.yaml").is_file() or path.absolute().parent.name == "checkpoints":
        return False
    records = (one.record for one in survey(output_dir()).runs)
    return any(record is not None and record.name == where for record in records)


def runs_folder() -> Path:
    """Return where a command that has no `output_dir` looks for runs: its default here, else this folder."""
    outputs = Path(RUNS)
    return outputs if outputs.is_dir() else Path()


def find_run(where: str, folder: Path, key: str) -> Run:
    """Return the run that a reference stands for.

    Args:
        where: a run directory; `last`, the run begun last; `best`, the run with the best score; `SWEEP:3`, a trial of a
            sweep; a sweep, for its best trial; `run.name`; or the beginning of a directory's name, of a run or a sweep.
        folder: where runs are looked for.
        key: of the argument, for errors.

    Raises:
        CheckpointError: where there is no such run, or more than one.
    """
    sweep, colon, number = where.rpartition(":")
    if colon and number.isdecimal():
        return _trial(_find_sweep(sweep, folder, key), int(number), f"{key}={where}")
    path = expanded(where)
    if is_sweep(path):
        return best_run([one.run for one in survey(path).runs], path, f"{key}={where}")
    found = survey(folder)
    if where in (LAST, BEST) and not found.runs:
        others = f" Passed over: {found.words()}." if found.passed_over else ""
        raise CheckpointError(f"{key}={where}: there is no run in {folder}; see output_dir.{others}")
    if where == LAST:
        return max(found.runs, key=_begun).run
    if where == BEST:
        return best_run([one.run for one in found.runs], folder, f"{key}={where}")
    named = [one.run for one in found.runs if one.record is not None and one.record.name == where]
    begun = [one.run for one in found.runs if one.run.directory.name.startswith(where)]
    sweeps = [path for path in _sweeps(folder) if path.name.startswith(where)]
    if not named and not begun and len(sweeps) == 1:
        return find_run(str(sweeps[0]), folder, key)
    return _sole(named or begun, where, folder, key, [one.run.directory.name for one in found.runs])


def best_run(runs: list[Run], folder: Path, said: str) -> Run:
    """Return the run with the best score.

    Raises:
        CheckpointError: where none has one, or they are not of one metric; they are listed.
    """
    scored = [(run, score) for run in runs if (score := Score.of(run)) is not None]
    if not scored:
        raise CheckpointError(f"{said}: no run in {folder} has a score yet; name one, or use last.")
    kinds = {(score.metric, score.mode): run for run, score in scored}
    if len(kinds) > 1:
        shown = ", ".join(f"{metric} of {run.directory}" for (metric, _), run in list(kinds.items())[:SHOWN])
        raise CheckpointError(f"{said}: the runs in {folder} have different scores ({shown}); name one of them.")
    return min(scored, key=lambda pair: pair[1].cost)[0]


@dataclass(frozen=True)
class Score:
    """The best score of a run; `metric` is its name without the weights it was measured with."""

    metric: str
    mode: str
    value: float

    @property
    def cost(self) -> float:
        """The value, turned so that less is better."""
        return self.value if self.mode == "min" else -self.value

    @classmethod
    def of(cls, run: Run) -> "Score | None":
        """Return the score of a run; None where it has none yet."""
        best: Any = (run.summary() or {}).get("best")
        if not isinstance(best, dict) or not isinstance(best.get("value"), (int, float)):
            return None
        return cls(re.sub(r"^val_ema/", "val/", str(best["metric"])), str(best["mode"]), float(best["value"]))


def _begun(one: FoundRun) -> tuple[float, bool, str]:
    return one.time, not one.is_copy, str(one.run.directory)


def _sweeps(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("**/sweep.yaml"))


def _find_sweep(where: str, folder: Path, key: str) -> Path:
    path = expanded(where)
    if is_sweep(path):
        return path
    sweeps = _sweeps(folder)
    found = sweeps[-1:] if where == LAST else [path for path in sweeps if path.name.startswith(where)]
    if len(found) != 1:
        what = "there is no such sweep" if not found else f"there are {len(found)} such sweeps, {found[0]} and others"
        raise CheckpointError(f"{key}={where}: {what} in {folder}; name its directory.")
    return found[0]


def _trial(sweep: Path, number: int, said: str) -> Run:
    run = Run(sweep / f"{number:03d}")
    if not run.config.is_file():
        there = sorted(path.parent.name for path in sweep.glob("*/config.yaml"))
        known = f"its trials are {there[0]} to {there[-1]}" if there else "it has none yet"
        raise CheckpointError(f"{said}: {sweep} has no trial {number}; {known}.")
    return run


def _sole(runs: list[Run], where: str, folder: Path, key: str, names: list[str]) -> Run:
    if len(runs) == 1:
        return runs[0]
    if not runs:
        hint = did_you_mean(where, names)
        raise CheckpointError(f"{key}={where}: no such run directory or checkpoint, nor a run in {folder}.{hint}")
    shown = ", ".join(str(run.directory) for run in runs[:SHOWN]) + ", …" * (len(runs) > SHOWN)
    raise CheckpointError(f"{key}={where}: {len(runs)} runs are called so ({shown}); name one of them.")


def config_of(run: Run) -> dict[str, Any]:
    """Return the config of a run as plain nested data, the chosen options under `options`; {} where it is damaged."""
    try:
        plain = yaml.load(read(run.config), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (ConfigError, yaml.YAMLError):
        return {}
    return plain if isinstance(plain, dict) else {}
