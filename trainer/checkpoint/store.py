"""The checkpoints of a run: `step-00001200/` directories, and the names `last` and `best` that point to them."""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.checkpoint import durable
from trainer.checkpoint.names import BEST, LAST, is_step, point, pointed, remove, step_of, target
from trainer.checkpoint.snapshot import Snapshot
from trainer.errors import CheckpointError
from trainer.system import atomic_files
from trainer.system.signals import SAVING

PreSave = Callable[[dict[str, Any]], None]

_LOG = logging.getLogger("trainer")


def _nothing(payload: dict[str, Any]) -> None:
    """Do nothing before a save."""


class Store:
    """Save checkpoints in the background; find, verify and prune them.

    Every damaged checkpoint that is passed over is a warning of the logger "trainer".

    Args:
        directory: `checkpoints/` of the run; made when needed.
        keep: how many of the newest to keep, beside the best.

    Attributes:
        saves: whether it saves at all; a `NullStore` does not.
        seconds: the duration of the longest save so far, from the copy to the last fsync.
    """

    saves = True

    def __init__(self, directory: Path, keep: int = 2) -> None:
        self.directory, self.keep = directory, keep
        self.seconds = 0.0
        self._written: set[int] = set()
        self._proven = False
        self._snapshot = Snapshot()
        self._writer: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self, payload: dict[str, Any], notes: dict[str, Any], best: bool, pre_save: PreSave = _nothing) -> None:
        """Save a state under its step, point `last` (and `best`) to it, then remove what is no longer needed.

        The state is copied; the rest happens in the background. A save that is still running is waited for: there is
        memory for one copy.

        Args:
            payload: the state, with its "step"; see `save_durably`.
            notes: plain data for the manifest.
            best: whether `best` is to point to it too.
            pre_save: called in the background with the copy before anything is written. What it makes durable is never
                older than the checkpoint. If it raises, nothing is saved, and the error is that of this save.

        Raises:
            TrainerError: of the save before.
        """
        self.wait()
        began = time.monotonic()
        still = self._snapshot.take(payload)

        def write() -> None:
            try:
                self._write(still, notes, best, pre_save)
            except BaseException as error:  # noqa: BLE001  # whatever it is, the training thread raises it
                self._error = error
            self.seconds = max(self.seconds, time.monotonic() - began)

        # A daemon, so that a second Ctrl-C need not wait: what it leaves behind does not have the name of a checkpoint.
        self._writer = threading.Thread(target=write, name=SAVING, daemon=True)
        self._writer.start()

    def check(self) -> None:
        """Raise the error of the save in the background, if there was one; do not wait for it."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Wait for the save that is running, and raise its error if there was one."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        self.check()

    def join(self) -> None:
        """Wait for the save that is running, and leave its error for the next `check`."""
        if self._writer is not None:
            self._writer.join()

    def invalidate(self, step: int) -> None:
        """Write the checkpoint of a step again at its next save, although there is one: the state has changed since."""
        self._written.discard(step)

    def load(self, name: str = LAST) -> tuple[dict[str, Any], Path]:
        """Return the verified payload of `last`, `best` or a `step-...`, and the directory it came from.

        A damaged `last` is reported, and the newest undamaged checkpoint before it is loaded instead.

        Raises:
            CheckpointError: where there is no such checkpoint, or no undamaged one.
        """
        self.wait()
        wanted = self.resolve(name)
        older = [path for path in reversed(self.steps()) if step_of(path) < step_of(wanted)]
        for path in [wanted, *(older if name == LAST else [])]:
            try:
                payload = durable.load_verified(atomic_files.resolve_moved(path))
                step = payload.get("step")
                if not isinstance(step, int) or step != step_of(path):
                    raise CheckpointError(f"{path}: holds the state of another step ({step!r:.20}).")
                self._written.add(step_of(path))  # a loaded state need not be saved again
                return payload, path
            except CheckpointError as error:
                _LOG.warning("%s", error)
        raise CheckpointError(
            f"{self.directory}: no undamaged checkpoint for '{name}'; see the messages above. Checkpoints there: "
            f"{self._found()}."
        )

    def rewind(self, step: int, best_step: int) -> None:
        """Point neither name to a checkpoint after `step`: the run continues from there."""
        best = pointed(self.directory, BEST)
        if best is not None and step_of(best) > step:
            before = self.directory / f"step-{best_step:08d}"
            if best_step <= step and before.is_dir():
                point(self.directory / BEST, before)
            else:
                remove(self.directory / BEST)
        self._written = {written for written in self._written if written <= step}

    def resolve(self, name: str) -> Path:
        """Return the directory that a name stands for.

        Raises:
            CheckpointError: where there is none; lists the checkpoints there are.
        """
        step = target(self.directory / name)
        if is_step(step) and atomic_files.resolve_moved(step).is_dir():
            return step
        steps = self.steps()
        if name == LAST and steps:
            return steps[-1]
        raise CheckpointError(f"{self.directory}: there is no checkpoint '{name}' (found: {self._found()}).")

    def steps(self) -> list[Path]:
        """Return the directories of the complete checkpoints, oldest first."""
        if not self.directory.is_dir():
            return []
        found = (self.directory / entry.name for entry in os.scandir(self.directory))
        return sorted(filter(is_step, found), key=step_of)

    def _found(self) -> str:
        return ", ".join(path.name for path in self.steps()) or "none"

    def _write(self, payload: dict[str, Any], notes: dict[str, Any], best: bool, pre_save: PreSave) -> None:
        """Write one checkpoint, in the background; after every line `last` and `best` stand for complete ones."""
        step: int = payload["step"]
        path = self.directory / f"step-{step:08d}"
        pre_save(payload)
        if step not in self._written:
            durable.save_durably(path, payload, notes)
            if not self._proven:  # once per process: the state of a plug-in may hold what cannot be loaded again
                durable.load_verified(path, mmap=True)
                self._proven = True
            self._written.add(step)
        try:
            point(self.directory / LAST, path)
            if best:
                point(self.directory / BEST, path)
        except OSError as error:
            raise atomic_files.unwritable(self.directory, error) from error
        try:
            self._prune(step)
        except OSError as error:  # the new one is safe: an old one that stays only takes space
            _LOG.warning("%s: an old checkpoint could not be removed (%s).", self.directory, error)

    def _prune(self, newest: int) -> None:
        """Remove all but the newest few and the best, and those after `newest`, which a run that was set back left."""
        best = pointed(self.directory, BEST)
        kept = {best.name} if best is not None else set()
        past = [path for path in self.steps() if step_of(path) <= newest]
        kept |= {path.name for path in past[-self.keep :]}
        for path in self.steps():
            if path.name not in kept:  # it loses its name first: half a checkpoint must not look like one
                temporary = atomic_files.temp_path(path)
                path.rename(temporary)
                shutil.rmtree(temporary)
        atomic_files.remove_leftovers(self.directory)


class NullStore:
    """Keep no checkpoints: what a run without a directory has in the place of a `Store`."""

    saves, seconds = False, 0.0

    def save(self, payload: dict[str, Any], notes: dict[str, Any], best: bool, pre_save: PreSave = _nothing) -> None:
        """Save nothing; `pre_save` is not called."""

    def wait(self) -> None:
        """Return at once: no save is running, and none has failed."""

    check = join = wait

    def invalidate(self, step: int) -> None:
        """Do nothing: nothing was written for any step."""

    def load(self, name: str = LAST) -> tuple[dict[str, Any], Path]:
        """Raise `CheckpointError`: there is nothing to load."""
        raise CheckpointError(f"There is no checkpoint '{name}': this run has no directory and saves none.")

    def rewind(self, step: int, best_step: int) -> None:
        """Do nothing: no name stands for a checkpoint."""

    def steps(self) -> list[Path]:
        """Return []: there are no checkpoints."""
        return []


AnyStore = Store | NullStore
