"""From YAML files and command-line overrides to a checked `Config`, and to the file beside a run and back."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from trainer.config import override_errors, registry
from trainer.config.overlay import ROOT, overlaid, replaced, used_files
from trainer.config.quoting import typed_override
from trainer.config.root import Config
from trainer.config.section import Section, is_mapping
from trainer.config.yaml_files import CHOICES, conf_dir, options, yaml_files
from trainer.errors import ConfigError

NEWER = {"run": "default"}  # groups that the runs of an earlier version do not have, and the option that they have now
setup_globals()  # Hydra's resolvers, such as ${now:...}: a saved config is read without Hydra being started


def compose(overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> DictConfig:
    """Compose `conf/train.yaml` with the overrides of a command line.

    First the choice of options, by Hydra; then each value on its own, so that an error can say exactly which.

    Args:
        overrides: such as `model=cnn`, `optimizer.lr=1e-2`; no sweeps.
        config_dirs: further folders of YAML files, searched before ours, the first one first.

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
    cfg = _with_options([choice for choice in choices if choice.value() is not None], config_dirs)
    for group in registry.GROUPS:
        if not section_type(cfg, group).option:
            raise override_errors.no_schema(group)
    return assign(cfg, values)


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
        plain = yaml.safe_load(text)
        chosen = plain.pop("options")
        cfg = _blank()
        for group in registry.GROUPS:
            if group in NEWER and group not in chosen:
                chosen[group], plain[group] = NEWER[group], {}
            if chosen[group] is None:
                raise KeyError(f"options.{group}")
            section = registry.lookup(group, str(chosen[group]))
            cfg[group] = OmegaConf.merge(OmegaConf.structured(section), section.as_saved(plain.pop(group)))
        merged = OmegaConf.merge(cfg, plain)
    except ConfigError:
        raise
    except (yaml.YAMLError, OmegaConfBaseException, LookupError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"{source}: not the config of a run ({override_errors.first_line(error)}).") from error
    assert isinstance(merged, DictConfig)
    return merged


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


def publish(config_dirs: Sequence[Path] = ()) -> None:
    """Give Hydra the registered dataclasses: `_name` as the schema of a YAML file, `name` where there is no file."""
    store = ConfigStore.instance()
    store.store(name="_config", node=_blank())
    for group in registry.GROUPS:
        files = yaml_files(group, config_dirs)
        for name in registry.names(group):
            component = registry.lookup(group, name)
            store.store(group=group, name=f"_{name}", node=component)
            if name not in files:
                store.store(group=group, name=name, node=component)


def user_files(overrides: Sequence[str], config_dirs: Sequence[Path]) -> list[Path]:
    """Return the files of the user's folders that `compose` reads in the place of packaged ones."""
    if not config_dirs:
        return []
    chosen = _names([o for o in parse(overrides) if _is_choice(o)])
    return [path for path in used_files(chosen, config_dirs) if replaced(path, config_dirs)]


def _names(chosen: Sequence[Override]) -> dict[str, str | None]:
    return {o.key_or_group: None if o.value() is None else str(o.value()) for o in chosen}


def _is_choice(override: Override) -> bool:
    return override.key_or_group in CHOICES and not isinstance(override.value(), dict) and not override.is_delete()


def _with_options(chosen: Sequence[Override], config_dirs: Sequence[Path]) -> DictConfig:
    """Have Hydra compose the YAML files of the chosen options; every other key has its default."""
    publish(config_dirs)
    used = used_files(_names(chosen), config_dirs) if config_dirs else []
    named = [typed_override(choice.key_or_group, choice.value()) for choice in chosen]
    with overlaid(config_dirs) as folder:
        try:
            cfg = _composed(folder, named)
            if used and _settings(cfg) != _settings(_composed(conf_dir(), [])):
                raise ConfigError(
                    "hydra: a file of --config-dir changes Hydra's own settings, which can name code to run; remove it."
                )
        except yaml.YAMLError as error:
            raise ConfigError(f"Not a YAML file: {' '.join(str(error).split())}.") from error
        except (HydraException, OmegaConfBaseException) as error:
            raise override_errors.yaml_error(error) from error
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def _composed(folder: Path, overrides: list[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(folder), version_base="1.3", job_name="train"):
        return hydra.compose(ROOT, overrides, return_hydra_config=True)


def _settings(cfg: DictConfig) -> dict[str, Any]:
    """Return Hydra's own settings, without what it notes of this command line."""
    settings = OmegaConf.to_container(cfg.hydra, resolve=False)
    assert isinstance(settings, dict)
    return {str(name): value for name, value in settings.items() if name not in ("job", "overrides", "runtime")}


def _blank() -> DictConfig:
    """Return the root schema, its sections still to be chosen: no default could be replaced by another class."""
    cfg = OmegaConf.structured(Config)
    for group in registry.GROUPS:
        cfg[group] = MISSING
    assert isinstance(cfg, DictConfig)
    return cfg


def _assign(cfg: DictConfig, name: str, value: Any) -> None:
    """Set one key, several keys of a section given as a dictionary, or entries of a key that is a mapping."""
    sections = {group: section_type(cfg, group) for group in registry.GROUPS}
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
