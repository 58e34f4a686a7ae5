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
from trainer.runs.meaning import Meaning, is_interpolated, other_files, saved_config

# Another option of these groups is another network, other data, or another kind of memory; init_from is the past.
_FIXED_CHOICES = ("model", "data", "optimizer", "init_from")


@dataclass(frozen=True)
class Change:
    """One key of a resumed run that is not as it was.

    Attributes:
        key: its full name.
        before, after: its values; where a value may be a secret, the `${...}` that it comes from.
        kind: FREE (applied, and nothing learned changes) or FUTURE (applied from here on).
        source: the `${...}` of a key that nobody has typed and that comes to something else now; "" for the others.
    """

    key: str
    before: Any
    after: Any
    kind: str
    source: str = ""

    def words(self, step: int) -> str:
        """For the first screen of a run that goes on from `step`."""
        since = f", after step {step:,}" if self.kind == FUTURE else ""
        if not self.source:
            return f"{self.key}: {self.before} → {self.after}{since}"
        values = "" if self.before == self.after else f"{self.before} → {self.after}, "
        return f"{self.key}: {values}changed by {_origin(self.source)}{since}"

    def refusal(self, directory: Path) -> str:
        """For a change that the run's weights or position do not survive."""
        anew = f"start a new one with {shell_override('init_from', directory)} to keep the weights."
        if not self.source:
            return (
                f"{self.key}={self.after}: {directory} was trained with {self.key}={self.before}, which cannot change "
                f"in the middle of a run; {anew}"
            )
        known = self.before != self.after
        now = f"{self.key}={self.after}" if known else self.key
        then = f"{self.key}={self.before}" if known else "another value"
        typed = f" or type {then}" if known else ""
        return (
            f"{now}: changed by {_origin(self.source)}; {directory} was trained with {then}, which cannot change in "
            f"the middle of a run: set it as it was{typed}, or {anew}"
        )


def changed_config(
    run: Run,
    overrides: Sequence[str],
    imports: Sequence[str] = (),
    config_dirs: Sequence[Path] = (),
    composed: DictConfig | None = None,
) -> tuple[DictConfig, DictConfig, list[Change]]:
    """Return the config of a run with the overrides applied, the one that it had before, and what differs.

    Args:
        composed: the whole config to go on with, in the place of the saved one with the overrides.

    Raises:
        ConfigError: for a change that the run's weights or position do not survive, and where a plug-in is missing.
    """
    try:
        written, saved, meaning = saved_config(run)
        compose.to_config(saved)  # what it selects by name is there too, such as a metric of a plug-in
    except ConfigError as error:
        missing = [name for name in run.imports() if name not in imports]
        if not missing:
            raise
        flags = import_flags(missing)
        command = shell_command("train", *flags, typed_override("resume", run.directory))
        raise ConfigError(f"{run.directory} was started with {shell_command(*flags)}: {command}") from error
    cfg = compose.choose(copy.deepcopy(written), overrides, config_dirs) if composed is None else composed
    if meaning is not None:
        meaning.stop_clock(cfg)
    changes = _changes(written, saved, cfg, meaning)
    for change in changes:
        if change.kind == FIXED and not run.never_began():
            raise ConfigError(change.refusal(run.directory))
    return cfg, saved, changes


def _changes(written: DictConfig, saved: DictConfig, cfg: DictConfig, meaning: Meaning | None) -> list[Change]:
    """Compare what the values mean, not how they are written.

    Args:
        written: the config of the run, `${...}` as written.
        saved: the same with what was kept of their meaning.
        cfg: the config that the run is to go on with.
        meaning: what was kept; None: a run of an earlier version, of which only the text can be compared.
    """
    texts, new_texts = compose.flat(written), compose.flat(cfg)
    before, after = compose.flat(saved), compose.flat(cfg, resolve=True)
    then = meaning or Meaning.of(written, "")
    changes = []
    for key in {**texts, **new_texts}:
        old, new = texts.get(key), new_texts.get(key)
        if is_interpolated(old) and key in after:
            same = then.is_same(key, after[key])
        elif is_interpolated(new):
            same = key in before and before[key] == after[key]
        else:
            same = old == new
        if not same:
            shown = after.get(key) if not is_interpolated(new) or key in then.values else new
            source = str(new) if old == new else ""
            changes.append(Change(key, before.get(key), shown, kind_of(cfg if key in after else saved, key), source))
    known = {change.key for change in changes}
    for key, (old, new) in other_files(cfg, meaning).items():
        if key not in known:
            changes.append(Change(key, old, new, kind_of(cfg, key)))
    return changes


def _origin(source: str) -> str:
    """Say what a `${...}` depends on: a resolver asks the environment, and other text is the name of another key."""
    return f"{'the environment' if ':' in source else 'another key'} ({source})"


def kind_of(cfg: DictConfig, key: str) -> str:
    """Return what a change of a key does to a run that goes on: FREE, FUTURE or FIXED (`trainer.config.section`)."""
    group, _, name = key.partition(".")
    if name:
        return compose.section_type(cfg, group).change(name)
    if key in Config.keys():
        return Config.change(key)
    return FIXED if key in _FIXED_CHOICES else FUTURE
