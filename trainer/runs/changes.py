"""Changing the config of a run that goes on: what may change, and what each change does."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from trainer.config import compose
from trainer.config.quoting import import_flags, shell_command, shell_override, typed_override
from trainer.config.root import Config
from trainer.config.section import FIXED, FUTURE
from trainer.errors import ConfigError
from trainer.runs.directory import Run

# Another option of these groups is another network, other data, or another kind of memory; init_from is the past.
_FIXED_CHOICES = ("model", "data", "optimizer", "init_from")


@dataclass(frozen=True)
class Change:
    """One key of a resumed run that is not as it was.

    Attributes:
        key: its full name.
        before, after: its values.
        kind: FREE (applied, and nothing learned changes) or FUTURE (applied from here on).
    """

    key: str
    before: Any
    after: Any
    kind: str

    def words(self, step: int) -> str:
        """For the first screen of a run that goes on from `step`."""
        since = f", after step {step:,}" if self.kind == FUTURE else ""
        return f"{self.key}: {self.before} → {self.after}{since}"


def changed_config(
    run: Run,
    overrides: Sequence[str],
    imports: Sequence[str] = (),
    config_dirs: Sequence[Path] = (),
    composed: DictConfig | None = None,
) -> tuple[DictConfig, DictConfig, list[Change]]:
    """Return the config of a run with the overrides applied, the one that was saved, and what differs.

    Args:
        composed: the whole config to go on with, in the place of the saved one with the overrides.

    Raises:
        ConfigError: for a change that the run's weights or position do not survive, and where a plug-in is missing.
    """
    try:
        saved = compose.from_yaml(run.read_config(), str(run.config))
        compose.to_config(saved)  # what it selects by name is there too, such as a metric of a plug-in
    except ConfigError as error:
        missing = [name for name in run.imports() if name not in imports]
        if not missing:
            raise
        flags = import_flags(missing)
        command = shell_command("train", *flags, typed_override("resume", run.directory))
        raise ConfigError(f"{run.directory} was started with {shell_command(*flags)}: {command}") from error
    cfg = compose.choose(copy.deepcopy(saved), overrides, config_dirs) if composed is None else composed
    before, after = compose.flat(saved), compose.flat(cfg)
    changes = [
        Change(key, before.get(key), after.get(key), kind_of(cfg if key in after else saved, key))
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    ]
    for change in changes:
        if change.kind == FIXED and not run.never_began():
            raise ConfigError(
                f"{change.key}={change.after}: {run.directory} was trained with {change.key}={change.before}, which "
                "cannot change in the middle of a run; start a new one with "
                f"{shell_override('init_from', run.directory)} to keep the weights."
            )
    return cfg, saved, changes


def kind_of(cfg: DictConfig, key: str) -> str:
    """Return what a change of a key does to a run that goes on: FREE, FUTURE or FIXED (`trainer.config.section`)."""
    group, _, name = key.partition(".")
    if name:
        return compose.section_type(cfg, group).change(name)
    if key in Config.keys():
        return Config.change(key)
    return FIXED if key in _FIXED_CHOICES else FUTURE
