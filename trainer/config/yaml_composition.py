"""Hydra at work: what the YAML files of the chosen options give together."""

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
from trainer.config.root import ComposedConfig, Config
from trainer.config.safe_yaml import read
from trainer.config.yaml_files import CHOICES, OPTIONS, conf_dir
from trainer.errors import ConfigError


def compose_files(named: Sequence[str], config_dirs: Sequence[Path] = ()) -> DictConfig:
    """Have Hydra compose `conf/train.yaml` with the YAML files of chosen options.

    Args:
        named: the options, as `model=cnn`.
        config_dirs: further folders of YAML files, searched after ours.

    Raises:
        ConfigError: for a file that does not fit, or changes Hydra's own settings.
    """
    _publish(config_dirs)
    for folder in config_dirs:
        for path in (*folder.glob("*.yaml"), *(path for group in CHOICES for path in folder.glob(f"{group}/*.yaml"))):
            read(path)
    search = ",".join(f"file://{path.resolve()}" for path in config_dirs)
    searchpath = [f"hydra.searchpath=[{search}]"] if search else []
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="train"):
            whole = hydra.compose("train", [*named, *searchpath], return_hydra_config=True)
            if search and _settings(whole) != _settings(hydra.compose("train", searchpath, return_hydra_config=True)):
                raise ConfigError(
                    "hydra: a file of --config-dir changes Hydra's own settings, which can name code to run; remove it."
                )
    except yaml.YAMLError as error:
        raise ConfigError(f"Not a YAML file: {' '.join(str(error).split())}.") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise override_errors.yaml_error(error) from error
    return whole


def _publish(config_dirs: Sequence[Path] = ()) -> None:
    """Give Hydra the registered dataclasses: `_name` as the schema of a YAML file, `name` where there is no file."""
    store = ConfigStore.instance()
    store.store(name="_config", node=blank(ComposedConfig))
    for group in OPTIONS:
        for name in registry.names(group):
            component = registry.lookup(group, name)
            store.store(group=group, name=f"_{name}", node=component)
            if not any((folder / group / f"{name}.yaml").is_file() for folder in (conf_dir(), *config_dirs)):
                store.store(group=group, name=name, node=component)


def blank(kind: type[Config]) -> DictConfig:
    """Return a root schema, its sections still to be chosen: no default could be replaced by another class."""
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
