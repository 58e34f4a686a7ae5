"""A run directory as an object: its files, its lock, its name."""

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from trainer.config.safe_yaml import read
from trainer.errors import CheckpointError, ConfigError
from trainer.runs.environment import describe_environment
from trainer.system import atomic_files

APPENDED = (
    ".lock",
    "train.log",
    "metrics.jsonl",
    "metrics.csv",
    "gradients.jsonl",
)  # the files of a run that are written in place

# A forked worker shares its parent's lock and may outlive it by seconds: it closes its copy at once.
_locks: set[int] = set()


def _close_locks() -> None:
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_close_locks)


class Run:
    """One run directory; whoever holds a `Run` made by `create` or `lock` is its only writer.

    Files: `config.yaml` (complete, `${...}` as written), `resolved.json` (what those meant), `overrides.yaml` (what was typed), `environment.json`,
    `train.log`, `metrics.jsonl`, `metrics.csv`, `summary.json` (once it has ended), `tensorboard/`, `checkpoints/`;
    with `trainer.log_gradients` also `gradients.jsonl` and `gradient_flow.png`.

    Attributes:
        began: whether this process has put all parts of the run together, and begun to train.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.checkpoints = directory / "checkpoints"
        self.tensorboard = directory / "tensorboard"
        self.config, self.log = directory / "config.yaml", directory / "train.log"
        self.began = False
        self._lock: int | None = None

    @classmethod
    def create(cls, output_dir: str | Path = "outputs") -> "Run":
        """Make a directory `<date>/<time>-<4 random characters>` that no other process has, and lock it.

        Raises:
            ConfigError: where it cannot be made.
        """
        return cls(make_directory(output_dir)).lock()

    @classmethod
    def at(cls, directory: Path) -> "Run":
        """Make a run in a directory that its caller has named (a job of a sweep), and lock it."""
        atomic_files.make_synced_directory(directory)
        return cls(directory).lock()

    def lock(self) -> "Run":
        """Become the only writer; the lock ends with the process, however that ends.

        Raises:
            CheckpointError: naming the process that holds it.
        """
        for name in APPENDED:
            path = self.directory / name
            if path.is_symlink() and not path.is_char_device():  # a log may go to /dev/stdout or /dev/null
                raise CheckpointError(f"{path} is a link: what it points to would be written over; remove it.")
        path = self.directory / ".lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise atomic_files.unwritable(path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise CheckpointError(f"{self.directory} is being written by {holder}; wait for it or stop it.") from None
        except OSError as error:
            os.close(descriptor)
            raise atomic_files.unwritable(path, error) from error
        started = datetime.now().isoformat(" ", "seconds")
        text = f"process {os.getpid()} on {socket.gethostname()}, since {started}\n".encode()
        with contextlib.suppress(OSError):  # a full disk: the lock holds without the words
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text, 0)
        self._lock = descriptor
        _locks.add(descriptor)
        return self

    def release(self) -> None:
        """Let another process write."""
        if self._lock is not None:
            _locks.discard(self._lock)
            with contextlib.suppress(OSError):
                os.ftruncate(self._lock, 0)  # the next holder's words must not be mistaken for these
            os.close(self._lock)
            self._lock = None

    def discard(self) -> None:
        """Remove a run in which nothing has happened, and the folders that were made for it."""
        shutil.rmtree(self.directory, ignore_errors=True)
        for folder in (self.directory.parent, self.directory.parent.parent):
            with contextlib.suppress(OSError):
                folder.rmdir()  # fails where it holds other runs

    def is_held(self) -> bool:
        """Whether a live process writes here."""
        try:
            self.lock()
        except CheckpointError:
            return True
        self.release()
        return False

    def write_config(self, yaml: str, overrides: list[str]) -> None:
        """Write `config.yaml` and `overrides.yaml`."""
        atomic_files.write_text(self.config, yaml)
        atomic_files.write_text(self.directory / "overrides.yaml", "".join(f"- {json.dumps(o)}\n" for o in overrides))

    def write_environment(self, imports: list[str], **facts: Any) -> dict[str, Any]:
        """Write what the run depends on beside its config: versions, machine, commit, imported plug-ins, ..."""
        environment = describe_environment() | {"imports": imports, **facts}
        atomic_files.write_text(self.directory / "environment.json", json.dumps(environment, indent=2) + "\n")
        return environment

    def read_config(self) -> str:
        """Return the text of `config.yaml`.

        Raises:
            ConfigError: where it cannot be read, or is too large to be one.
        """
        return read(self.config)

    def imports(self) -> list[str]:
        """Return what `--import` was given when the run was started."""
        try:
            environment = json.loads((self.directory / "environment.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return []
        imports = environment.get("imports") if isinstance(environment, dict) else None
        return [str(name) for name in imports] if isinstance(imports, list) else []

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`: the run has ended."""
        atomic_files.write_text(self.directory / "summary.json", json.dumps(summary, indent=2) + "\n")

    def summary(self) -> dict[str, Any] | None:
        """How the run ended; None while it runs, and after it was killed."""
        try:
            summary = json.loads((self.directory / "summary.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return summary if isinstance(summary, dict) else None

    def never_began(self) -> bool:
        """Whether the run was stopped before its first checkpoint, so that starting anew loses nothing."""
        steps = self.checkpoints.glob("step-*") if self.checkpoints.is_dir() else iter(())
        metrics = self.directory / "metrics.jsonl"
        return next(steps, None) is None and not (metrics.exists() and metrics.stat().st_size)

    def reopen(self) -> None:
        """Let the run go on: take back that it has ended, and remove what a killed process left half-written.

        Raises:
            TrainerError: where nothing can be removed, as on a disk that is read-only.
        """
        try:
            (self.directory / "summary.json").unlink(missing_ok=True)
            atomic_files.remove_leftovers(self.directory)
            atomic_files.remove_leftovers(self.checkpoints)
        except OSError as error:
            raise atomic_files.unwritable(self.directory, error) from error


def _holder(descriptor: int) -> str:
    """Who holds a lock, in its own words; one of this very moment may not yet have replaced those of a dead one."""
    for _ in range(50):
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        found = re.fullmatch(r"process (\d+) on (\S+), since .*", holder)
        if found and (found[2] != socket.gethostname() or _is_alive(int(found[1]))):
            return holder
        time.sleep(0.01)
    return "another process"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def make_directory(output_dir: str | Path, suffix: str = "") -> Path:
    """Make `<output_dir>/<date>/<time>-<4 random characters><suffix>`, which no other process has.

    Raises:
        ConfigError: where it cannot be made.
    """
    while True:
        now = datetime.now()
        directory = Path(output_dir).expanduser() / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}-{_letters(4)}{suffix}"
        try:
            atomic_files.make_synced_directory(directory.parent)
            with contextlib.suppress(FileExistsError):  # another run has just taken this name
                directory.mkdir(parents=True)
                atomic_files.sync_directory(directory.parent)
                return directory
        except OSError as error:
            raise ConfigError(f"output_dir={output_dir}: cannot make {directory} ({error.strerror}).") from error


def _letters(count: int) -> str:
    return "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(count))
