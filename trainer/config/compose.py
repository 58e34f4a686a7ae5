"""From YAML files and command-line overrides to a checked `Config`, and to the file beside a run and back."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from trainer.config import registry
from trainer.config.root import Config
from trainer.config.safe_yaml import read
from trainer.config.section import Section
from trainer.config.yaml_files import conf_dir, options
from trainer.errors import ConfigError, did_you_mean

SECTIONS = registry.GROUPS
GROUPS = (*SECTIONS, "experiment")


def compose(overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> DictConfig:
    """Compose `conf/train.yaml` with the overrides of a command line.

    First the choice of options, by Hydra; then each value on its own, so that an error can say exactly which.

    Args:
        overrides: such as `model=cnn`, `optimizer.lr=1e-2`; no sweeps.
        config_dirs: further folders of YAML files, searched after ours.

    Raises:
        ConfigError: for an unknown option or key, or a value of another type.
    """
    choices: list[Override] = []
    values: list[Override] = []
    for override in parse(overrides):
        if override.package is not None:
            raise ConfigError(f"{override.input_line}: an option cannot be put elsewhere; write it without the @.")
        (choices if _is_choice(override) else values).append(override)
    for choice in choices:
        name = choice.value()
        known = options(choice.key_or_group, config_dirs)
        if name not in known and (name is not None or choice.key_or_group != "experiment"):
            raise registry.unknown_option(choice.key_or_group, str(name), known)
    named = [f"{choice.key_or_group}={choice.value()}" for choice in choices if choice.value() is not None]
    cfg = _hydra(named, config_dirs)
    for group in SECTIONS:
        if not section_type(cfg, group).option:
            schemas = ", ".join(f"_{name}" for name in registry.names(group))
            raise ConfigError(
                f"The file chosen for {group} does not say what it is a variant of; begin it with "
                f"'defaults: [SCHEMA, _self_]', where SCHEMA is one of {schemas}."
            )
    return assign(cfg, values)


def assign(cfg: DictConfig, values: Iterable[Override]) -> DictConfig:
    """Set the keys of a composed or saved config; raises `ConfigError` for an unknown key or a wrong type."""
    for override in values:
        name, value = override.key_or_group, override.value()
        if override.is_delete():
            raise ConfigError(f"~{name}: keys cannot be removed; set a value, or {name}=null where that is allowed.")
        _assign(cfg, name, value)
    return cfg


def parse(overrides: Sequence[str]) -> list[Override]:
    """The overrides, parsed by Hydra's grammar; raises `ConfigError` for one that is none."""
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException as error:
            raise ConfigError(
                f"'{text}' is not an override; write key=value or group=option, such as optimizer.lr=1e-3 or "
                f"model=mlp, and quote what the grammar uses: 'key=\"a,b\"' ({str(error).splitlines()[0]})."
            ) from error
        if not parsed[-1].key_or_group:
            raise ConfigError(f"'{text}' is not an override; write key=value or group=option.")
    return parsed


def choose(cfg: DictConfig, overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> DictConfig:
    """Apply overrides to a saved config: a chosen option replaces the section, a value changes one key."""
    parsed = parse(overrides)
    chosen = [o for o in parsed if _is_choice(o)]
    if any(o.key_or_group == "experiment" for o in chosen):
        raise ConfigError("experiment=… cannot be given to a resumed run; give the keys that should change.")
    fresh = compose([f"{o.key_or_group}={o.value()}" for o in chosen], config_dirs)
    for o in chosen:
        cfg[o.key_or_group] = fresh[o.key_or_group]
    return assign(cfg, [o for o in parsed if not _is_choice(o)])


def to_config(cfg: DictConfig) -> Config:
    """The checked dataclasses; raises `ConfigError` for a value out of range or an unresolvable `${...}`."""
    try:
        config = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {_first_line(error)}.") from error
    assert isinstance(config, Config)
    return config


def to_yaml(cfg: DictConfig) -> str:
    """A config as the text of `config.yaml`: the chosen options, then every value, `${...}` as written."""
    chosen = {group: section_type(cfg, group).option for group in SECTIONS}
    plain = OmegaConf.to_container(cfg, resolve=False, enum_to_str=True)
    assert isinstance(plain, dict)
    return OmegaConf.to_yaml(OmegaConf.create({"options": chosen, **plain}))


def from_config(config: Config) -> DictConfig:
    """A config made in Python, as one composed from YAML."""
    cfg = OmegaConf.structured(config)
    assert isinstance(cfg, DictConfig)
    return cfg


def from_yaml(text: str, source: str) -> DictConfig:
    """What `to_yaml` gave; raises `ConfigError` naming `source` for anything else."""
    try:
        plain = yaml.safe_load(text)
        chosen = plain.pop("options")
        cfg = _blank()
        for group in SECTIONS:
            if chosen[group] is None:
                raise KeyError(f"options.{group}")
            section = OmegaConf.structured(registry.lookup(group, str(chosen[group])))
            cfg[group] = OmegaConf.merge(section, plain.pop(group))
        merged = OmegaConf.merge(cfg, plain)
    except ConfigError:
        raise
    except (yaml.YAMLError, OmegaConfBaseException, LookupError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"{source}: not the config of a run ({_first_line(error)}).") from error
    assert isinstance(merged, DictConfig)
    return merged


def section_type(cfg: DictConfig, group: str) -> type[Section]:
    """The dataclass of a section."""
    found = OmegaConf.get_type(cfg, group)
    assert found is not None and issubclass(found, Section)
    return found


def flat(cfg: DictConfig) -> dict[str, Any]:
    """Every key with its full name and its value, the chosen options among them; `${...}` as written."""
    values: dict[str, Any] = {}
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=False)  # type: ignore[assignment]  # keys of a schema
    for name, value in plain.items():
        if isinstance(value, dict):
            values[name] = section_type(cfg, name).option
            values |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            values[name] = value
    return values


def _is_choice(override: Override) -> bool:
    return override.key_or_group in GROUPS and not isinstance(override.value(), dict) and not override.is_delete()


def _hydra(choices: list[str], config_dirs: Sequence[Path]) -> DictConfig:
    publish(config_dirs)
    for folder in config_dirs:
        for path in (*folder.glob("*.yaml"), *(path for group in GROUPS for path in folder.glob(f"{group}/*.yaml"))):
            read(path)
    search = ",".join(f"file://{path.resolve()}" for path in config_dirs)
    searchpath = [f"hydra.searchpath=[{search}]"] if search else []
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="train"):
            cfg = hydra_compose("train", [*choices, *searchpath], return_hydra_config=True)
            if search and _settings(cfg) != _settings(hydra_compose("train", searchpath, return_hydra_config=True)):
                raise ConfigError(
                    "hydra: a file of --config-dir changes Hydra's own settings, which can name code to run; remove it."
                )
            with open_dict(cfg):
                del cfg["hydra"]
            return cfg
    except yaml.YAMLError as error:
        raise ConfigError(f"Not a YAML file: {' '.join(str(error).split())}.") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise _yaml_error(error) from error


def _settings(cfg: DictConfig) -> dict[str, Any]:
    """Hydra's own settings, without what it notes of this command line."""
    settings = OmegaConf.to_container(cfg.hydra, resolve=False)
    assert isinstance(settings, dict)
    return {str(name): value for name, value in settings.items() if name not in ("job", "overrides", "runtime")}


def publish(config_dirs: Sequence[Path] = ()) -> None:
    """Give Hydra the registered dataclasses: `_name` as the schema of a YAML file, `name` where there is no file."""
    store = ConfigStore.instance()
    store.store(name="_config", node=_blank())
    for group in SECTIONS:
        for name in registry.names(group):
            component = registry.lookup(group, name)
            store.store(group=group, name=f"_{name}", node=component)
            if not any((folder / group / f"{name}.yaml").is_file() for folder in (conf_dir(), *config_dirs)):
                store.store(group=group, name=name, node=component)


def _blank() -> DictConfig:
    """The root schema with its sections still to be chosen: a default there could not be replaced by another class."""
    cfg = OmegaConf.structured(Config)
    for group in SECTIONS:
        cfg[group] = MISSING
    assert isinstance(cfg, DictConfig)
    return cfg


def _yaml_error(error: Exception) -> ConfigError:
    """What a YAML file did wrong: the file where Hydra names it, the key, and the near ones."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__ or cause.__context__
    where = re.search(r"In '([^']+)'", str(error))
    source = f"{where[1]}.yaml: " if where else ""
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        owner, known = cause.object_type, []
        if isinstance(owner, type) and dataclasses.is_dataclass(owner):
            known = [field.name for field in dataclasses.fields(owner)]
        word = str(cause.full_key).rpartition(".")[2]
        if word == "experiment" and owner is Config:
            return ConfigError(f"{source}an experiment begins with the line '# @package _global_'.")
        if known and word not in known:
            return ConfigError(
                f"{source}{cause.full_key}: no such key.{did_you_mean(word, known)} Keys: {', '.join(known)}."
            )
        return ConfigError(f"{source}{cause.full_key}: {_first_line(cause)}.")
    return ConfigError(f"{source}{' '.join(str(error).split())}")


def _assign(cfg: DictConfig, name: str, value: Any) -> None:
    path = name.split(".")
    if _selects_part(cfg, path):
        OmegaConf.update(cfg, name, value, merge=False)  # another one: the keys of the one before do not stay
        return
    node: Any = cfg
    for depth, word in enumerate(path):
        if isinstance(node, DictConfig) and node._metadata.element_type is Any and node._metadata.object_type is dict:
            with open_dict(node):  # a mapping with keys of its own, such as data.transforms
                node[".".join(path[depth:])] = value
            return
        if not OmegaConf.is_dict(node) or word not in node:
            raise _unknown_key(cfg, ".".join(path[:depth]), word, name)
        node = node._get_node(word) if depth < len(path) - 1 or isinstance(value, dict) else node
    if isinstance(value, dict):
        if not OmegaConf.is_dict(node):
            raise ConfigError(f"{name}={value}: expected one value, not several keys.")
        for key, item in value.items():
            _assign(cfg, f"{name}.{key}", item)
        return
    if path[-1] in SECTIONS and len(path) == 1:
        raise ConfigError(f"{name}={value}: expected one of {', '.join(options(name))}.")
    try:
        OmegaConf.update(cfg, name, value)
    except OmegaConfBaseException as error:
        owner = section_type(cfg, path[0]) if path[0] in SECTIONS else Config
        known = owner.keys()
        expected = f"expected {known[path[-1]][0]}" if path[-1] in known else _first_line(error)
        raise ConfigError(f"{name}={value}: {expected}.") from error


def _selects_part(cfg: DictConfig, path: list[str]) -> bool:
    """Return whether a key selects a component by name, such as `task.loss`: its value may be a mapping."""
    known = section_type(cfg, path[0]).keys() if path[0] in SECTIONS else {}
    return len(path) == 2 and path[1] in known and known[path[1]][2].part is not None


def _unknown_key(cfg: DictConfig, section: str, word: str, name: str) -> ConfigError:
    """The error for a key that does not exist: near keys, and the option of the group that has it."""
    if section in SECTIONS:
        owner = section_type(cfg, section)
        known = list(owner.keys())
        others = [n for n in registry.names(section) if word in registry.lookup(section, n).keys()]
        hint = did_you_mean(f"{section}.{word}", [f"{section}.{key}" for key in known])
        if others:
            hint = f" It is a key of {' and '.join(f'{section}={n}' for n in others[:4])}."
        has = f"Its keys: {', '.join(known)}." if known else "It has no keys."
        return ConfigError(f"{name}: {section}={owner.option} has no such key.{hint} {has}")
    if section:
        return ConfigError(f"{name}: {section} holds no further keys.")
    known = [*GROUPS, *Config.keys(), *(f"{s}.{key}" for s in SECTIONS for key in section_type(cfg, s).keys())]
    # A key typed without its section ("lr=1e-3") is the commonest slip.
    sections = [s for s in SECTIONS if word in section_type(cfg, s).keys()]
    hint = f" Did you mean '{sections[0]}.{word}'?" if sections else did_you_mean(name, known)
    return ConfigError(
        f"{name}: no such key or group.{hint} Groups: {', '.join(GROUPS)}; keys: {', '.join(Config.keys())}."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
