"""Which run a person means."""

from collections.abc import Sequence
from pathlib import Path

from trainer.config import compose
from trainer.errors import CheckpointError
from trainer.runs.directory import Run

SWEEP_FILE = "sweep.yaml"  # the definition of a sweep, in its directory


def is_sweep(directory: Path) -> bool:
    """Whether a directory is that of a sweep."""
    return (directory / SWEEP_FILE).is_file()


def sweep_to_resume(typed: Sequence[str]) -> Path | None:
    """Return the sweep that `resume=` names among overrides; None where it names a run, or nothing."""
    given = [o.value() for o in compose.parse(typed) if o.key_or_group == "resume" and not o.is_sweep_override()]
    path = Path(str(given[-1])).expanduser() if given and given[-1] is not None else None
    return path if path is not None and is_sweep(path) else None


def find(output_dir: Path) -> list[Run]:
    """Return all runs below `output_dir`, those of sweeps included, the one started last first."""
    configs = output_dir.rglob("config.yaml") if output_dir.is_dir() else iter(())
    runs = [(config.stat().st_ctime_ns, config.parent) for config in configs]
    return [Run(directory) for _, directory in sorted(runs, reverse=True)]


def locate(where: str, output_dir: Path, key: str = "resume") -> tuple[Run | None, str]:
    """Return the run and the name of the checkpoint that `resume=` (or the given key) stands for.

    `auto` is the last run that has not completed and that no process is writing, or None; `last` and `best` are
    those checkpoints of the last run; otherwise a run directory, a checkpoint in it, or its `state.pt`.

    Raises:
        CheckpointError: where there is no such run.
    """
    if where in ("auto", "last", "best"):
        runs = find(output_dir)
        if where == "auto":
            open_runs = (
                r for r in runs if (r.summary() or {}).get("status") not in ("completed", "pruned") and not r.is_held()
            )
            return next(open_runs, None), "last"
        if not runs:
            raise CheckpointError(f"{key}={where}: there is no run in {output_dir}; see output_dir.")
        return runs[0], where
    path = Path(where).expanduser()
    if not path.exists():
        raise CheckpointError(f"{key}={where}: no such run directory or checkpoint.")
    if path.is_file():
        path = path.parent
    if (path / "config.yaml").is_file():
        return Run(path), "last"
    if path.absolute().parent.name == "checkpoints" and (path.absolute().parent.parent / "config.yaml").is_file():
        return Run(path.absolute().parent.parent), path.name
    raise CheckpointError(f"{key}={where}: neither a run directory (with config.yaml) nor a checkpoint in one.")
