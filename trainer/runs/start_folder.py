"""Relative paths of a run that is continued, or whose model is used, in another folder than it was started in."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.config.root import Config
from trainer.runs.directory import Run
from trainer.runs.references import locate, runs_folder
from trainer.runs.start_record import StartRecord
from trainer.system.home import expanded

# The keys that name files, by section.
PATHS = {
    "data": ("path", "root", "targets_path", "val_path", "val_targets_path"),
    "model": ("weights",),
    "": ("init_from",),
}


def resolve_paths(config: Config, run: Run) -> list[str]:
    """Let relative paths that lead nowhere from here begin where the run was started; return what to say of each."""
    folder = _folder(run)
    if folder is None:
        return []
    notes = []
    for section, names in PATHS.items():
        owner = getattr(config, section) if section else config
        for name in names:
            before = getattr(owner, name, None)
            after = [_resolved(part, folder) for part in before] if isinstance(before, list) else None
            after = after or _resolved(before, folder)
            if after != before:
                setattr(owner, name, after)
                notes.append(
                    f"{section}{'.' * bool(section)}{name}={before}: not here, but in {folder}, where it began."
                )
    return notes


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
