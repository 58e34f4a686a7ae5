"""The directory of a sweep: its definition, and one run directory a trial, which are the queue and the truth."""

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from trainer.config import compose, registry
from trainer.config.safe_yaml import load_yaml, read
from trainer.config.section import FIXED
from trainer.config.sweep import SweepConfig
from trainer.errors import CheckpointError, ConfigError
from trainer.runs.directory import Run, make_directory
from trainer.runs.find import SWEEP_FILE
from trainer.sweeps.definition import Definition, Values
from trainer.system import atomic_files
from trainer.system.home import expanded

SUFFIX = "-sweep"  # of the directories that get their name here
MAX_TIME = "max_time"  # the reason of a run that has stopped by itself
COMPLETED, PRUNED, FAILED, STOPPED, OUT_OF_TIME = "completed", "pruned", "failed", "stopped", "out of time"
FINISHED = (COMPLETED, PRUNED, OUT_OF_TIME)  # nothing more is to be done
NOT_STARTED, RUNNING, UNFINISHED = "not started", "running", "unfinished"


def status_of(summary: dict[str, Any]) -> str:
    """Return how a trial has ended; one that has used up its own `trainer.max_time` is finished."""
    return OUT_OF_TIME if summary.get("reason") == MAX_TIME else str(summary.get("status"))


class SweepDirectory:
    """A sweep on the disk.

    A trial is claimed by the lock on its run directory; what is finished says its `summary.json`. Any number of
    processes, on any machines that share the directory, may work on it.
    """

    def __init__(self, path: Path, definition: Definition) -> None:
        self.path, self.definition, self.is_new = path, definition, False
        self._finished: dict[int, dict[str, Any]] = {}  # summaries that never change again

    @classmethod
    def create(cls, definition: Definition, output_dir: str) -> "SweepDirectory":
        """Make the directory of a new sweep, `sweep.dir` or a new one; raises `ConfigError` where that cannot be."""
        if definition.sweep.dir is None:
            path = make_directory(output_dir, SUFFIX)
        else:
            path = expanded(definition.sweep.dir)
            if path.is_dir() and any(path.iterdir()):
                raise ConfigError(f"sweep.dir={path}: holds other files, and no {SWEEP_FILE}; name a new directory.")
            try:
                atomic_files.make_synced_directory(path)
            except OSError as error:
                raise ConfigError(f"sweep.dir={path}: cannot be made ({error.strerror}).") from error
        made = cls(path, definition)
        made.is_new = True
        made.write_definition()
        return made

    @classmethod
    def open(cls, path: Path, overrides: Sequence[str], imports: Sequence[str]) -> "SweepDirectory":
        """Read a sweep to go on with.

        Args:
            overrides: keys `sweep.*` that change how it is worked off, or how many trials it has.
            imports: what `--import` was given; a file names no code.

        Raises:
            ConfigError: for a damaged file, a change that would make it another sweep, and where a plug-in is missing.
        """
        file = path / SWEEP_FILE
        text = read(file)
        try:
            plain = load_yaml(text)
            typed, needed, dirs = (
                [str(item) for item in plain[name]] for name in ("overrides", "imports", "config_dirs")
            )
            component = registry.lookup(registry.SWEEP, str(plain["option"]))
            saved = component(**plain[registry.SWEEP])
        except (yaml.YAMLError, LookupError, TypeError, ValueError, ConfigError) as error:
            raise ConfigError(f"{file}: not the definition of a sweep ({str(error).splitlines()[0]}).") from error
        if missing := [name for name in needed if name not in imports]:
            flags = " ".join(f"--import {name}" for name in missing)
            raise ConfigError(f"{path} was started with {flags}: train {flags} resume={path}")
        sweep = _changed(saved, overrides, path)
        definition = Definition.make(sweep, typed, imports, [Path(name) for name in dirs])
        opened = cls(path, definition)
        if sweep.trials != saved.trials:
            opened.write_definition()
        return opened

    def write_definition(self) -> None:
        """Write `sweep.yaml`."""
        definition = self.definition
        plain = {
            "overrides": list(definition.typed),
            "imports": list(definition.imports),
            "config_dirs": [str(folder) for folder in definition.config_dirs],
            "option": definition.sweep.option,
            registry.SWEEP: dataclasses.asdict(definition.sweep) | {"dir": None},
        }
        text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
        atomic_files.write_text(
            self.path / SWEEP_FILE, f"# How this sweep was started; go on: train resume={self.path}\n{text}"
        )

    def discard(self) -> None:
        """Remove the directory of a sweep that this process has made, before its first trial has begun."""
        if self.is_new and not any(self.run(number).directory.exists() for number in range(self.definition.count)):
            shutil.rmtree(self.path)

    def run(self, number: int) -> Run:
        """Return the run of a trial."""
        return Run(self.path / f"{number:03d}")

    def summary(self, number: int) -> dict[str, Any] | None:
        """Return how a trial ended; None where it has not."""
        if number not in self._finished:
            summary = self.run(number).summary()
            if summary is None or status_of(summary) not in FINISHED:
                return summary
            self._finished[number] = summary
        return self._finished[number]

    def forget(self, number: int) -> None:
        """Read the summary of a trial anew when it is asked for next."""
        self._finished.pop(number, None)

    def status(self, number: int) -> str:
        """Return how a trial stands, as far as its files say."""
        summary = self.summary(number)
        if summary is not None:
            return status_of(summary)
        return UNFINISHED if self.run(number).config.exists() else NOT_STARTED

    def claim(self, number: int, make: Callable[[], tuple[DictConfig, list[str]]]) -> str | None:
        """Give a trial its config where it has none, and say whether it is to be run by whoever asks.

        Args:
            make: returns the config and the overrides of a trial that has not begun; called under its lock.

        Returns:
            None: it is to be run; otherwise its status, RUNNING where another process has it.
        """
        run = self.run(number)
        atomic_files.make_synced_directory(run.directory)
        try:
            run.lock()
        except CheckpointError:
            return RUNNING
        try:
            status = self.status(number)
            if status in FINISHED or (status == FAILED and self.definition.sweep.retry != FAILED):
                return status
            if status == FAILED:
                (run.directory / "summary.json").unlink()  # so that another process does not take it for an ended one
            if not run.config.exists():
                cfg, overrides = make()
                run.write_config(compose.to_yaml(cfg), overrides)
            return None
        finally:
            run.release()

    def note_end(self, number: int, status: str, reason: str) -> None:
        """Write how a trial ended into its summary, where its own process could not or did not know why."""
        run = self.run(number)
        try:
            run.lock()
        except CheckpointError:
            return  # another process has taken it up already
        try:
            summary = run.summary() or {}
            if status_of(summary) not in FINISHED:
                run.write_summary(summary | {"status": status, "reason": reason})
        finally:
            run.release()

    def values(self, number: int) -> Values | None:
        """Return the values of the keys that vary, from the trial's own overrides; None before it has some."""
        try:
            typed = load_yaml(read(self.run(number).directory / "overrides.yaml"))
        except (ConfigError, yaml.YAMLError):
            return None
        given = dict(str(text).partition("=")[::2] for text in typed or [])
        if any(p.key not in given for p in self.definition.varied):
            return None
        return tuple(given[p.key] for p in self.definition.varied)


def own_sweep(definition: Definition, output_dir: Path) -> Path | None:
    """Return the sweep below a folder that the same command has begun, the latest of several; None: there is none."""
    for file in sorted(output_dir.glob(f"*/*{SUFFIX}/{SWEEP_FILE}"), reverse=True):
        try:
            other = SweepDirectory.open(file.parent, [], definition.imports)
        except ConfigError:
            continue  # another one's plug-ins, or a damaged file
        if other.definition.is_same(definition):
            return file.parent
    return None


def _changed(saved: SweepConfig, overrides: Sequence[str], path: Path) -> SweepConfig:
    """Return a saved section with overrides applied; raises `ConfigError` for one that makes another sweep of it."""
    if not overrides:
        return saved
    parsed = compose.parse(overrides)
    for override in parsed:
        if not compose.is_of_sweep(override) or override.key_or_group == registry.SWEEP:
            raise ConfigError(
                f"{override.input_line}: {path} is a sweep, whose trials stay as they are; only how it is "
                "worked off can change: sweep.trials, sweep.jobs, sweep.retry, sweep.max_time and the like."
            )
    names = [f"sweep={saved.option}", *(o.input_line or "" for o in parsed)]
    fresh = compose.compose_sweep(names)
    changes: dict[str, Any] = {}
    for override in parsed:
        name = override.key_or_group.partition(".")[2].partition(".")[0]
        value, before = getattr(fresh, name), getattr(saved, name)
        if name == "dir":
            raise ConfigError(f"sweep.dir={value}: resume={path} names the directory already.")
        if saved.change(name) == FIXED and value != before:
            raise ConfigError(
                f"sweep.{name}={value}: {path} was started with sweep.{name}={before}; start a new sweep."
            )
        if name == "trials" and before is not None and value is not None and value < before:
            raise ConfigError(f"sweep.trials={value}: {path} has {before} already.")
        changes[name] = value
    return dataclasses.replace(saved, **changes)
