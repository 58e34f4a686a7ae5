"""The names in a folder of checkpoints: `step-00001200` is a checkpoint, `last` and `best` stand for one.

They are links; where the file system has none, files with the name of the checkpoint. In a copy of a run whose links
were followed (`cp -rL`, an archive, a cloud folder) they are folders with what the checkpoint has.
"""

import re
import shutil
from pathlib import Path

from trainer.system import atomic_files
from trainer.system.file_system import NO_LINKS, say_once

LAST, BEST = "last", "best"
MANIFEST = "manifest.json"  # of a checkpoint
LONGEST_NAME = 100  # characters


def is_step(path: Path) -> bool:
    """Return whether a path has the name of a checkpoint."""
    return re.fullmatch(r"step-\d{8,}", path.name) is not None


def step_of(path: Path) -> int:
    """Return the step that a checkpoint is of."""
    return int(path.name.removeprefix("step-"))


def target(path: Path) -> Path:
    """Return what a name stands for: the target of a link, what a file has in it, or the path itself."""
    if path.is_symlink():
        return path.with_name(path.readlink().name)
    if path.is_file():
        with open(path, encoding="utf-8", errors="replace") as file:
            found = path.with_name(file.read(LONGEST_NAME).strip().partition("/")[0] or path.name)
        return found if is_step(found) else path
    if not is_step(path) and path.is_dir():
        return next((step for step in sorted(path.parent.glob("step-*")) if _is_same(step, path)), path)
    return path


def _is_same(step: Path, copy: Path) -> bool:
    """Whether two checkpoints are one, by their manifests, which have the digest of what they hold."""
    try:
        return (step / MANIFEST).read_bytes() == (copy / MANIFEST).read_bytes()
    except OSError:
        return False


def pointed(directory: Path, name: str) -> Path | None:
    """Return the checkpoint that a name in a folder of checkpoints stands for; None where there is none."""
    step = target(directory / name)
    return step if is_step(step) and step.is_dir() else None


def point(path: Path, step: Path) -> None:
    """Let a name stand for another checkpoint, in one step. A link is relative, so that a run can be moved."""
    temporary = atomic_files.temp_path(path)
    try:
        temporary.symlink_to(step.name)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        say_once(
            "links", f"{path.parent}: its file system has no links; {LAST} and {BEST} are files with a name in them."
        )
        atomic_files.write_text(path, f"{step.name}\n")
        return
    if path.is_dir() and not path.is_symlink():
        remove(path)  # a copy, which no link can replace
    temporary.replace(path)
    atomic_files.sync_directory(path.parent)


def remove(path: Path) -> None:
    """Remove a name, whatever it is; a folder loses its name first."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    copy = atomic_files.temp_path(path)
    path.rename(copy)
    shutil.rmtree(copy)
