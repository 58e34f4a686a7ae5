"""A run directory as an object: its files, its lock, its name."""

import contextlib
import json
import re
import secrets
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from trainer.checkpoint.names import is_step, step_of
from trainer.config.quoting import shell_override
from trainer.config.safe_yaml import load_yaml, read
from trainer.errors import CheckpointError, ConfigError
from trainer.runs.environment import describe_environment
from trainer.system import atomic_files
from trainer.system.heartbeat import HeldError
from trainer.system.home import expanded
from trainer.system.locks import FILE
from trainer.system.writer_lock import WriterLock

APPENDED = (
    ".lock",
    "train.log",
    "metrics.jsonl",
    "metrics.csv",
    "gradients.jsonl",
)  # the files of a run that are written in place

NAME = re.compile(r"\d\d-\d\d-\d\d-[a-z2-9]{4}")  # of a run directory, as `make_directory` draws it


class Run:
    """One run directory; whoever holds a `Run` made by `create` or `lock` is its only writer.

    Files: `config.yaml` (complete, `${...}` as written), `resolved.json` (what those meant), `overrides.yaml` (what was
    typed), `environment.json`,
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
        self._lock = WriterLock(directory)

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
        try:
            self._lock.acquire()
        except HeldError as error:
            raise CheckpointError(
                f"{self.directory} is being written by {error.holder}; wait for it or stop it."
            ) from None
        except PermissionError as error:
            raise CheckpointError(
                f"{self.directory}: this user may not write there ({error.strerror}): chmod -R g+rwX lets a group "
                f"share its runs; {shell_override('init_from', self.directory)} starts a new run from its weights."
            ) from error
        except OSError as error:
            raise atomic_files.unwritable(self.directory / FILE, error) from error
        return self

    def release(self) -> None:
        """Let another process write."""
        self._lock.release()

    def discard(self) -> None:
        """Remove a run in which nothing has happened, and the folders that were made for it."""
        self.release()
        shutil.rmtree(self.directory, ignore_errors=True)
        for folder in (self.directory.parent, self.directory.parent.parent):
            with contextlib.suppress(OSError):
                folder.rmdir()  # fails where it holds other runs

    def holder(self) -> str | None:
        """Return which live process writes here, in words; None: none does. Nothing is left behind."""
        return self._lock.holder()

    def is_held(self) -> bool:
        """Whether a live process writes here."""
        return self.holder() is not None

    def write_file(self, name: str, text: str) -> None:
        """Write one of its files, whole or not at all."""
        atomic_files.write_text(self.directory / name, text)

    def write_config(self, text: str, overrides: list[str]) -> None:
        """Write `config.yaml` and `overrides.yaml`."""
        atomic_files.write_text(self.config, text)
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
        imports = self.environment().get("imports")
        return [str(name) for name in imports] if isinstance(imports, list) else []

    def overrides(self) -> list[str]:
        """Return what was typed when the run was started; [] where that is not known."""
        try:
            plain = load_yaml(read(self.directory / "overrides.yaml"))
        except (ConfigError, yaml.YAMLError):
            return []
        return [str(text) for text in plain] if isinstance(plain, list) else []

    def environment(self) -> dict[str, Any]:
        """Return the content of `environment.json`; {} where it is missing or damaged."""
        return self._read_json("environment.json") or {}

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`: the run has ended."""
        atomic_files.write_text(self.directory / "summary.json", json.dumps(summary, indent=2) + "\n")

    def summary(self) -> dict[str, Any] | None:
        """How the run ended; None while it runs, and after it was killed."""
        return self._read_json("summary.json")

    def _read_json(self, name: str) -> dict[str, Any] | None:
        try:
            content = json.loads((self.directory / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) else None

    def last_step(self) -> int:
        """Return the step of the furthest checkpoint by its name; -1 where there is none."""
        try:
            found = [step_of(path) for path in self.checkpoints.iterdir() if is_step(path)]
        except OSError:
            return -1
        return max(found, default=-1)

    def never_began(self) -> bool:
        """Whether the run was stopped before its first checkpoint, so that starting anew loses nothing."""
        metrics = self.directory / "metrics.jsonl"
        return self.last_step() < 0 and not (metrics.exists() and metrics.stat().st_size)

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


def make_directory(output_dir: str | Path, suffix: str = "") -> Path:
    """Make `<output_dir>/<date>/<time>-<4 random characters><suffix>`, which no other process has.

    Raises:
        ConfigError: where it cannot be made.
    """
    while True:
        now = datetime.now()
        directory = expanded(output_dir) / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}-{_letters(4)}{suffix}"
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
