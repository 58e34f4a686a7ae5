"""From YAML files and command-line overrides to a checked `Config`, and to the file beside a run and back."""

import copy
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.config import override_errors, registry
from trainer.config.overlay import replaced, used_files
from trainer.config.quoting import typed_override
from trainer.config.root import Config
from trainer.config.safe_yaml import load_yaml
from trainer.config.section import Section, is_mapping
from trainer.config.sweep import SweepConfig
from trainer.config.yaml_composition import Choices, blank, compose_files
from trainer.config.yaml_files import CHOICES, OPTIONS, options
from trainer.errors import ConfigError

NEWER = {"run": "default"}  # groups that the runs of an earlier version do not have, and the option that they have now
setup_globals()  # Hydra's resolvers, such as ${now:...}: a saved config is read without Hydra being started

Composed = dict[Choices, tuple[DictConfig, DictConfig]]  # options chosen: the config of a run, `sweep`


def compose(overrides: Sequence[str], config_dirs: Sequence[Path] = (), composed: Composed | None = None) -> DictConfig:
    """Compose the config of a run: `conf/train.yaml` with the overrides of a command line.

    First the choice of options, by Hydra; then each value on its own, so that an error can say exactly which.

    Args:
        overrides: such as `model=cnn`, `optimizer.lr=1e-2`; no sweeps.
        config_dirs: further folders of YAML files, searched before ours, the first one first.
        composed: keeps what the files give, for many calls in a row: nearly all of the time goes there.

    Raises:
        ConfigError: for an unknown option or key, or a value of another type.
    """
    choices, values = _split(overrides)
    of_sweep = [o.input_line for o in (*choices, *values) if is_of_sweep(o)]
    if of_sweep:
        raise ConfigError(f"{of_sweep[0]} says how a sweep is run; add -m, and what is to be varied.")
    cfg, _ = _with_options(choices, config_dirs, {} if composed is None else composed)
    return assign(cfg, values)


def compose_sweep(
    overrides: Sequence[str], config_dirs: Sequence[Path] = (), composed: Composed | None = None
) -> SweepConfig:
    """Compose and check the section `sweep`: of the files, of the chosen experiment and of overrides `sweep.KEY=VALUE`.

    Arguments and errors are those of `compose`.
    """
    choices, values = _split(overrides)
    _, beside = _with_options(choices, config_dirs, {} if composed is None else composed)
    section = OmegaConf.to_object(assign(beside, [o for o in values if is_of_sweep(o)])[registry.SWEEP])
    assert isinstance(section, SweepConfig)
    return section


def is_of_sweep(override: Override) -> bool:
    """Whether an override says how a sweep is run: `sweep=OPTION` or `sweep.KEY=VALUE`."""
    return override.key_or_group.partition(".")[0] == registry.SWEEP


def _split(overrides: Sequence[str]) -> tuple[list[Override], list[Override]]:
    """Return the overrides that choose options, and those that set values."""
    choices: list[Override] = []
    values: list[Override] = []
    for override in parse(overrides):
        if override.package is not None:
            raise ConfigError(f"{override.input_line}: an option cannot be put elsewhere; write it without the @.")
        (choices if _is_choice(override) else values).append(override)
    return choices, values


def assign(cfg: DictConfig, values: Iterable[Override]) -> DictConfig:
    """Set the keys of a composed or saved config; raises `ConfigError` for an unknown key or a wrong type."""
    for override in values:
        name = override.key_or_group
        if override.is_delete():
            raise ConfigError(f"~{name}: keys cannot be removed; set a value, or {name}=null where that is allowed.")
        _assign(cfg, name, override.value())
    return cfg


def parse(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides by Hydra's grammar; raises `ConfigError` for one that is none."""
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        if re.match(r"[+~]*hydra[./]", text):
            raise override_errors.hydra_setting(text)
        try:
            parsed.append(parser.parse_override(text))
        except HydraException as error:
            raise override_errors.not_an_override(text, error) from error
        if not parsed[-1].key_or_group:
            raise override_errors.not_an_override(text)
    return parsed


def choose(cfg: DictConfig, overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> DictConfig:
    """Apply overrides to a saved config: a chosen option replaces the section, a value changes one key."""
    parsed = parse(overrides)
    chosen = [o for o in parsed if _is_choice(o)]
    if any(o.key_or_group == "experiment" for o in chosen):
        raise ConfigError("experiment=… cannot be given to the config of a run; give the keys that should change.")
    if chosen:
        fresh = compose([typed_override(o.key_or_group, o.value()) for o in chosen], config_dirs)
        for o in chosen:
            cfg[o.key_or_group] = fresh[o.key_or_group]
    return assign(cfg, [o for o in parsed if not _is_choice(o)])


def to_config(cfg: DictConfig) -> Config:
    """Return the checked dataclasses; raises `ConfigError` for a value out of range or an unresolvable `${...}`."""
    try:
        config = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        raise override_errors.unresolvable(error) from error
    assert isinstance(config, Config)
    return config


def to_yaml(cfg: DictConfig, resolve: bool = False) -> str:
    """Return the text of `config.yaml`: the chosen options, then every value, `${...}` as written or resolved."""
    chosen = {group: section_type(cfg, group).option for group in registry.GROUPS}
    return OmegaConf.to_yaml(OmegaConf.create({"options": chosen, **_plain(cfg, resolve)}))


def from_config(config: Config) -> DictConfig:
    """Return a config made in Python as one composed from YAML."""
    cfg = OmegaConf.structured(config)
    assert isinstance(cfg, DictConfig)
    return cfg


def from_yaml(text: str, source: str) -> DictConfig:
    """Read what `to_yaml` gave; raises `ConfigError` naming `source` for anything else."""
    try:
        plain = load_yaml(text)
        chosen = plain.pop("options")
        cfg = blank(Config)
        for group in registry.GROUPS:
            if group in NEWER and group not in chosen:
                chosen[group], plain[group] = NEWER[group], {}
            if chosen[group] is None:
                raise KeyError(f"options.{group}")
            section = registry.lookup(group, str(chosen[group]))
            values = OmegaConf.structured(section)
            values.merge_with(section.as_saved(plain.pop(group)))  # in place: OmegaConf.merge copies, and each trial
            cfg[group] = values  # of a sweep waits for it
        cfg.merge_with(plain)
    except ConfigError:
        raise
    except (yaml.YAMLError, OmegaConfBaseException, LookupError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"{source}: not the config of a run ({override_errors.first_line(error)}).") from error
    return cfg


def section_type(cfg: DictConfig, group: str) -> type[Section]:
    """Return the dataclass that is chosen for a group."""
    found = OmegaConf.get_type(cfg, group)
    assert found is not None and issubclass(found, Section)
    return found


def flat(cfg: DictConfig, resolve: bool = False) -> dict[str, Any]:
    """Return every key by its full name with its value, the chosen options too; `${...}` as written or resolved.

    Raises:
        ConfigError: for a `${...}` that cannot be resolved, where that is wanted.
    """
    values: dict[str, Any] = {}
    for name, value in _plain(cfg, resolve).items():
        if isinstance(value, dict):
            values[name] = section_type(cfg, name).option
            values |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            values[name] = value
    return values


def _plain(cfg: DictConfig, resolve: bool) -> dict[str, Any]:
    try:
        plain = OmegaConf.to_container(cfg, resolve=resolve, enum_to_str=True)
    except OmegaConfBaseException as error:
        raise override_errors.unresolvable(error) from error
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items()}


def user_files(overrides: Sequence[str], config_dirs: Sequence[Path]) -> list[Path]:
    """Return the files of the user's folders that `compose` reads in the place of packaged ones."""
    if not config_dirs:
        return []
    chosen = _names([o for o in parse(overrides) if _is_choice(o)])
    return [path for path in used_files(dict(chosen), config_dirs) if replaced(path, config_dirs)]


def _names(chosen: Sequence[Override]) -> Choices:
    return tuple((o.key_or_group, None if o.value() is None else str(o.value())) for o in chosen)


def _is_choice(override: Override) -> bool:
    return override.key_or_group in CHOICES and not isinstance(override.value(), dict) and not override.is_delete()


def _with_options(
    chosen: Sequence[Override], config_dirs: Sequence[Path], composed: Composed
) -> tuple[DictConfig, DictConfig]:
    """Have Hydra compose the YAML files of the chosen options; every other key has its default."""
    for choice in chosen:
        name = choice.value()
        known = options(choice.key_or_group, config_dirs)
        if name not in known and (name is not None or choice.key_or_group != "experiment"):
            raise registry.unknown_option(choice.key_or_group, str(name), known)
    named = _names([choice for choice in chosen if choice.value() is not None])
    if named not in composed:
        composed[named] = _composed(named, config_dirs)
    return copy.deepcopy(composed[named])


def _composed(named: Choices, config_dirs: Sequence[Path]) -> tuple[DictConfig, DictConfig]:
    whole = compose_files(named, config_dirs)
    for group in OPTIONS:
        if not section_type(whole, group).option:
            raise override_errors.no_schema(group)
    cfg = blank(Config)
    for group in registry.GROUPS:
        cfg[group] = whole[group]
    merged = OmegaConf.merge(cfg, OmegaConf.masked_copy(whole, [*Config.keys()]))
    assert isinstance(merged, DictConfig)
    return merged, OmegaConf.create({registry.SWEEP: whole[registry.SWEEP]})


def _assign(cfg: DictConfig, name: str, value: Any) -> None:
    """Set one key, several keys of a section given as a dictionary, or entries of a key that is a mapping."""
    sections = {group: section_type(cfg, group) for group in OPTIONS if group in cfg}
    group, _, key = name.partition(".")
    if group in sections and not key:
        if not isinstance(value, dict):
            raise override_errors.not_an_option(group, value)
        for word, item in value.items():
            _assign(cfg, f"{group}.{word}", item)
        return
    owner, key = (sections[group], key) if group in sections else (Config, name)
    field, _, entry = key.partition(".")
    fields = owner.field_types()
    if field not in fields:
        raise override_errors.unknown_key(sections, name)
    full = owner.key_name(field)
    mapping = is_mapping(fields[field])
    if entry and not mapping:
        whole = (
            f"; write the whole list: {full}=[…]" if fields[field] is not None and "list" in str(fields[field]) else ""
        )
        raise ConfigError(f"{name}: {full} holds no further keys{whole}.")
    selects = owner.keys()[field][2].part is not None  # a component by name: the value may be a mapping
    if isinstance(value, dict) and not (mapping or selects):
        raise ConfigError(f"{name}={value}: expected one value, not several keys.")
    try:
        if mapping and (entry or isinstance(value, dict)):
            entries = OmegaConf.to_container(OmegaConf.select(cfg, full) or OmegaConf.create(), resolve=False)
            assert isinstance(entries, dict)
            entries |= {entry: value} if entry else {str(word): item for word, item in value.items()}
            OmegaConf.update(cfg, full, entries, merge=False)
        else:
            OmegaConf.update(cfg, name, value, merge=False)  # the keys of another component do not stay
    except OmegaConfBaseException as error:
        raise override_errors.wrong_type(owner, key, name, value, error) from error
