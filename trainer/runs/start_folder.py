"""Relative paths of a run that is continued, or whose model is used, in another folder than it was started in."""

import functools
import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trainer.config.root import Config
from trainer.runs.directory import Run
from trainer.runs.references import locate, runs_folder
from trainer.runs.start_record import StartRecord
from trainer.system.home import expanded

# The keys that name files, by section.
PATHS = {
    "data": ("path", "root", "labels", "targets_path", "val_path", "val_targets_path"),
    "model": ("weights",),
    "": ("init_from",),
}


def resolve_paths(config: Config, run: Run) -> list[str]:
    """Let paths that lead nowhere from here begin where the run was started, or where that has moved with the run.

    Returns:
        What to say of each.
    """
    notes = []
    for folder, why in _folders(run):
        for section, names in PATHS.items():
            owner = getattr(config, section) if section else config
            for name in names:
                before = getattr(owner, name, None)
                after = [folder(part) for part in before] if isinstance(before, list) else folder(before)
                if after != before:
                    setattr(owner, name, after)
                    key = f"{section}{'.' * bool(section)}{name}"
                    notes.append(f"{key}={before}: not here, but {why}: {after}.")
    return notes


def _folders(run: Run) -> Iterator[tuple[Callable[[Any], Any], str]]:
    """Yield where paths of a run may begin, with the reason: the folder it began in, and where that is now."""
    record = StartRecord.read(run)
    if record is None or not record.folder:
        return
    began = Path(record.folder)
    if began != Path.cwd():
        yield functools.partial(_resolved, folder=began), "where the run began"
    before, now = Path(record.directory), run.directory.absolute()
    if record.directory and before != now and before.is_relative_to(began):
        below = before.relative_to(began).parts
        if now.parts[-len(below) :] == below:  # the folder was moved with all that is in it
            moved = Path(*now.parts[: -len(below)])
            yield functools.partial(_moved, began=began, moved=moved), "where the run is now"


def _moved(path: Any, began: Path, moved: Path) -> Any:
    """Return a path below the folder that a run began in as one below the place to which that was moved."""
    if not isinstance(path, str) or _leads_somewhere(expanded(path)):
        return path
    below = Path(path).relative_to(began) if Path(path).is_relative_to(began) else Path(path)
    return str(moved / below) if not below.is_absolute() and _leads_somewhere(moved / below) else path


def resolve_imports(imports: Sequence[str], run: str | None) -> list[str]:
    """Return what to import: a file that is not here is that of the folder in which the run was started.

    Args:
        run: what `resume=` was given, or the run whose model is used.
    """
    missing = [name for name in imports if name.endswith(".py") and not Path(name).exists()]
    if not missing or run in (None, "auto", "last", "best"):
        return list(imports)
    folder = _folder(locate(str(run), runs_folder)[0])
    return (
        list(imports) if folder is None else [_resolved(name, folder) if name in missing else name for name in imports]
    )


def _folder(run: Run) -> Path | None:
    """Return where a run was started, if that is known and not here."""
    record = StartRecord.read(run)
    folder = Path(record.folder) if record is not None and record.folder else None
    return None if folder is None or folder == Path.cwd() else folder


def _resolved(path: Any, folder: Path) -> Any:
    if not isinstance(path, str) or Path(path).is_absolute() or _leads_somewhere(expanded(path)):
        return path
    return str(folder / path) if _leads_somewhere(folder / path) else path


def _leads_somewhere(path: Path) -> bool:
    return path.exists() or bool(glob.glob(str(path)))  # noqa: PTH207  # a pattern
