"""The checkpoints of a run: `step-00001200/` directories, and the names `last` and `best` that point to them."""

import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer import storage
from trainer.errors import CheckpointError

LAST, BEST = "last", "best"


class Store:
    """Saves, finds, verifies and prunes.

    Args:
        directory: `checkpoints/` of the run; made when needed.
        keep: how many of the newest to keep, beside the best.
        warn: told about every damaged checkpoint that is passed over.
    """

    def __init__(self, directory: Path, keep: int = 2, warn: Callable[[str], None] = print) -> None:
        self.directory, self.keep, self.warn = directory, keep, warn
        self._written: set[int] = set()

    def save(self, payload: dict[str, Any], notes: dict[str, Any], best: bool) -> Path:
        """Save a state under its step and point `last` (and `best`) to it; then remove what is no longer needed."""
        step: int = payload["step"]
        target = self.directory / f"step-{step:08d}"
        if step not in self._written:
            storage.save(target, payload, notes)
            self._written.add(step)
        self._point(LAST, target)
        if best:
            self._point(BEST, target)
        self._prune(step)
        return target

    def load(self, name: str = LAST) -> tuple[dict[str, Any], Path]:
        """The payload of `last`, `best` or a `step-...`, verified, and the directory it came from.

        A damaged `last` is reported, and the newest good one before it is taken.

        Raises:
            CheckpointError: where there is none, or none that is undamaged.
        """
        wanted = self.resolve(name)
        older = [path for path in reversed(self.steps()) if path.name < wanted.name]
        for path in [wanted, *(older if name == LAST else [])]:
            try:
                payload = storage.load(path)
                self._written.add(int(path.name.removeprefix("step-")))  # what is loaded need not be saved again
                return payload, path
            except CheckpointError as error:
                self.warn(str(error))
        raise CheckpointError(f"{self.directory}: no undamaged checkpoint for '{name}'; see the messages above.")

    def rewind(self, step: int, best_step: int) -> None:
        """Let no name stand for a checkpoint after `step`: the run goes on from there."""
        best = self.directory / BEST
        if best.exists() and int(best.resolve().name.removeprefix("step-")) > step:
            before = self.directory / f"step-{best_step:08d}"
            if best_step <= step and before.is_dir():
                self._point(BEST, before)
            else:
                best.unlink()

    def resolve(self, name: str) -> Path:
        """The directory that a name stands for; raises `CheckpointError` where there is none."""
        path = self.directory / name
        if path.is_dir():
            return self.directory / path.resolve().name
        steps = self.steps()
        if name == LAST and steps:
            return steps[-1]
        found = ", ".join(p.name for p in steps) or "none"
        raise CheckpointError(f"{self.directory}: there is no checkpoint '{name}' (found: {found}).")

    def steps(self) -> list[Path]:
        """The complete checkpoints, oldest first."""
        if not self.directory.is_dir():
            return []
        names = sorted(e.name for e in os.scandir(self.directory) if re.fullmatch(r"step-\d{8,}", e.name))
        return [self.directory / name for name in names]

    def _point(self, name: str, target: Path) -> None:
        """Move a name in one step: it always stands for a complete checkpoint. Relative, so that a run can be moved."""
        aside = self.directory / f"{storage.TEMPORARY}{name}-{secrets.token_hex(4)}"
        aside.symlink_to(target.name)
        aside.replace(self.directory / name)
        storage.sync_directory(self.directory)

    def _prune(self, newest: int) -> None:
        """Remove all but the newest few and the best; and what a run that was set back has left in the future."""
        best = self.directory / BEST
        kept = {best.resolve().name} if best.exists() else set()
        past = [path for path in self.steps() if int(path.name.removeprefix("step-")) <= newest]
        kept |= {path.name for path in past[-self.keep :]}
        for path in self.steps():
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)
        storage.remove_leftovers(self.directory)
