"""Hydra at work: what the YAML files of the chosen options give together."""

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.config import override_errors, registry
from trainer.config.overlay import ROOT, overlaid, used_files
from trainer.config.quoting import typed_override
from trainer.config.root import ComposedConfig, Config
from trainer.config.yaml_files import OPTIONS, conf_dir, yaml_files
from trainer.errors import ConfigError

Choices = tuple[tuple[str, str | None], ...]  # the group and the option of each choice
_published: dict[tuple[str, str], type] = {}  # what Hydra has been given under a group and a name: it copies each


def compose_files(chosen: Choices, config_dirs: Sequence[Path] = ()) -> DictConfig:
    """Have Hydra compose `conf/train.yaml` with the YAML files of chosen options.

    Args:
        config_dirs: further folders of YAML files, searched before ours, the first one first.

    Raises:
        ConfigError: for a file that does not fit, or changes Hydra's own settings.
    """
    _publish(config_dirs)
    used = used_files(dict(chosen), config_dirs) if config_dirs else []
    named = [typed_override(group, name) for group, name in chosen]
    with overlaid(config_dirs) as folder:
        try:
            whole = _composed(folder, named)
            if used and _settings(whole) != _settings(_composed(conf_dir(), [])):
                raise ConfigError(
                    "hydra: a file of --config-dir changes Hydra's own settings, which can name code to run; remove it."
                )
        except yaml.YAMLError as error:
            raise ConfigError(f"Not a YAML file: {' '.join(str(error).split())}.") from error
        except (HydraException, OmegaConfBaseException) as error:
            raise override_errors.yaml_error(error) from error
    return whole


def _composed(folder: Path, overrides: list[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(folder), version_base="1.3", job_name="train"):
        return hydra.compose(ROOT, overrides, return_hydra_config=True)


def _publish(config_dirs: Sequence[Path] = ()) -> None:
    """Give Hydra the registered dataclasses: `_name` as the schema of a YAML file, `name` where there is no file."""
    store = ConfigStore.instance()
    store.store(name="_config", node=blank(ComposedConfig))
    for group in OPTIONS:
        files = yaml_files(group, config_dirs)
        for name in registry.names(group):
            component = registry.lookup(group, name)
            for as_name in [f"_{name}", *([] if name in files else [name])]:
                if _published.get((group, as_name)) is not component:
                    store.store(group=group, name=as_name, node=component)
                    _published[group, as_name] = component


def blank(kind: type[Config]) -> DictConfig:
    """Return a root schema, its sections still to be chosen: no default could be replaced by another class."""
    return copy.deepcopy(_blank(kind))  # type: ignore[arg-type]  # mypy takes a class for no hashable argument


@functools.cache
def _blank(kind: type[Config]) -> DictConfig:
    cfg = OmegaConf.structured(kind)
    for group in OPTIONS if kind is ComposedConfig else registry.GROUPS:
        cfg[group] = MISSING
    assert isinstance(cfg, DictConfig)
    return cfg


def _settings(cfg: DictConfig) -> dict[str, Any]:
    """Return Hydra's own settings, without what it notes of this command line."""
    settings = OmegaConf.to_container(cfg.hydra, resolve=False)
    assert isinstance(settings, dict)
    return {str(name): value for name, value in settings.items() if name not in ("job", "overrides", "runtime")}
