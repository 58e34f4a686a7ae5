"""How a run was begun, as its `environment.json` keeps it: by this a requeue line knows its own run."""

import dataclasses
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.config import compose
from trainer.config.override_errors import first_line
from trainer.config.quoting import import_flags, shell_override
from trainer.config.safe_yaml import load_yaml, read
from trainer.errors import ConfigError
from trainer.runs.directory import NAME, Run

KEY = "started"  # of environment.json


@dataclass(frozen=True)
class CommandLine:
    """What was typed.

    Attributes:
        overrides: keys and options, without `resume`.
        imports, config_dirs: what `--import` and `--config-dir` were given.
        resume: of the key of this name; None: it was not given.
        config: the config of a run to begin with instead of the packaged files (`--config`); None: those.
    """

    overrides: Sequence[str] = ()
    imports: Sequence[str] = ()
    config_dirs: Sequence[Path] = ()
    resume: str | None = None
    config: Path | None = None

    @classmethod
    def parse(
        cls,
        typed: Sequence[str],
        imports: Sequence[str],
        config_dirs: Sequence[Path],
        config: Path | None = None,
    ) -> "CommandLine":
        """Take `resume` out of what was typed.

        Raises:
            ConfigError: for what is no override, and for several values of a key.
        """
        parsed = compose.parse(typed)
        swept = [o for o in parsed if o.is_sweep_override()]
        if swept:
            key, _, text = (swept[0].input_line or "").partition("=")
            quoted = shell_override(key, text)
            raise ConfigError(
                f"{key}={text}: several values are a sweep; add -m, write a list as [a,b], or quote one value: "
                f"{quoted}."
            )
        overrides = [o.input_line for o in parsed if o.key_or_group != "resume" and o.input_line]
        resume = _resolved("resume", {o.key_or_group: o.value() for o in parsed}.get("resume"))
        return cls(overrides, imports, config_dirs, None if resume is None else str(resume), config)

    def flags(self) -> list[str]:
        """Return what stood before the overrides."""
        folders = [word for folder in self.config_dirs for word in ("--config-dir", str(folder))]
        config = [] if self.config is None else ["--config", str(self.config)]
        return [*import_flags(self.imports), *folders, *config]

    def compose(self) -> DictConfig:
        """Compose the config of a new run; raises `ConfigError` as `compose.compose`."""
        if self.config is None:
            return compose.compose(self.overrides, self.config_dirs)
        saved = compose.from_yaml(read(self.config), str(self.config))
        saved.resume = saved.init_from = None  # how that run began is not how this one does
        return compose.choose(saved, self.overrides, self.config_dirs)

    def notes(self) -> list[tuple[int, str]]:
        """Return a line for each file of the user's folders that is read in the place of a packaged one."""
        if self.config is not None:
            return []
        files = compose.user_files(self.overrides, self.config_dirs)
        return [(logging.INFO, f"config    {path} in place of the packaged one") for path in files]


def _resolved(key: str, value: Any) -> Any:
    """Return a value that is needed before there is a config, with its `${...}` resolved, and read if escaped."""
    try:
        return OmegaConf.create({key: value})[key]
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}={value}: {first_line(error)}.") from error


@dataclass(frozen=True)
class StartRecord:
    """How a run was begun. What it is resumed with later changes its name and its place only.

    Attributes:
        time: seconds since 1970; of a run of an earlier version, when its config was last written.
        folder: the working directory, which relative paths of the config are from; "" where it is not known.
        directory: of the run, as it was when a process last trained it; a copy has another name.
        user: the number of the user.
        name: `run.name`.
        typed: the overrides of the command line, without `resume`.
        imports, config_dirs: what `--import` and `--config-dir` were given; config_dirs None: it is not known.
        array_task: SLURM_ARRAY_TASK_ID.
    """

    time: float
    folder: str
    directory: str
    user: int
    name: str | None
    typed: list[str]
    imports: list[str]
    config_dirs: list[str] | None
    array_task: str | None

    @classmethod
    def of_command(cls, name: str | None, command: CommandLine) -> "StartRecord":
        """Return the record of a run that this process begins; its directory is still to be made."""
        folders = [str(path) for path in command.config_dirs]
        typed, imports = list(command.overrides), list(command.imports)
        typed += [] if command.config is None else [f"--config={command.config}"]
        task = os.environ.get("SLURM_ARRAY_TASK_ID")
        return cls(time.time(), str(Path.cwd()), "", os.getuid(), name, typed, imports, folders, task)

    @classmethod
    def read(cls, run: Run) -> "StartRecord | None":
        """Return the record of a run; None where nothing says how it was begun."""
        environment = run.environment()
        found = environment.get(KEY)
        if isinstance(found, dict):
            try:
                record = cls(**found)
            except TypeError:
                return None
            return record if record.is_sound() else None
        return cls._of_earlier_version(run) if environment else None

    @classmethod
    def _of_earlier_version(cls, run: Run) -> "StartRecord | None":
        try:
            typed = load_yaml(read(run.directory / "overrides.yaml")) or []
            began = run.config.stat().st_ctime
        except (ConfigError, OSError, yaml.YAMLError):
            return None
        name = run.directory.absolute().name
        directory = str(run.directory.absolute()) if NAME.fullmatch(name) else ""
        record = cls(began, "", directory, os.getuid(), None, typed, run.imports(), None, None)
        return record if record.is_sound() else None

    def at(self, run: Run, name: str | None) -> "StartRecord":
        """Return the record as it is to be kept while a process trains the run."""
        return dataclasses.replace(self, directory=str(run.directory.absolute()), name=name)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return dataclasses.asdict(self)

    def is_same_command(self, other: "StartRecord") -> bool:
        """Return whether both are of one run that is begun and continued by the same command line.

        That is so by `run.name`, and without one by all that was typed, by the same user and array task: the order of
        keys is of no importance, and the last of a repeated key counts.
        """
        if self.name is not None or other.name is not None:
            return self.name == other.name
        folders = self.config_dirs == other.config_dirs or None in (self.config_dirs, other.config_dirs)
        mine = (_last_of_each(self.typed), self.imports, self.array_task, self.user)
        theirs = (_last_of_each(other.typed), other.imports, other.array_task, other.user)
        return folders and mine == theirs

    def is_copy(self, run: Run) -> bool:
        """Return whether a directory has another name than the run had when it was last trained."""
        return Path(self.directory).name != run.directory.absolute().name

    def is_sound(self) -> bool:
        lists = (self.typed, self.imports, self.config_dirs or [])
        return (
            isinstance(self.time, (int, float))
            and isinstance(self.user, int)
            and all(isinstance(part, str) for part in (self.folder, self.directory))
            and all(isinstance(part, str | None) for part in (self.name, self.array_task))
            and all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists)
        )


def _last_of_each(typed: Sequence[str]) -> dict[str, str]:
    """Return the overrides by their keys."""
    return {text.partition("=")[0].lstrip("+"): text.lstrip("+") for text in typed}


def write_start(run: Run, record: StartRecord) -> None:
    """Write down how a run is begun, before anything of it can be lost."""
    text = json.dumps({"imports": record.imports, KEY: record.at(run, record.name).to_dict()}, indent=2)
    run.write_file("environment.json", text + "\n")
