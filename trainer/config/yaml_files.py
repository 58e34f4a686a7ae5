"""The folders of YAML files, and which options they and the registry offer. Needs neither Hydra nor torch."""

from collections.abc import Sequence
from pathlib import Path

from trainer.config import registry
from trainer.config.quoting import typed_override

CHOICES = (*registry.GROUPS, "experiment")  # what is chosen by a name: the sections, and files that set keys of several


def conf_dir() -> Path:
    """Return the folder of YAML files: inside the installed package, or at the top of the repository."""
    package = Path(__file__).parent.parent
    return next(path for path in (package / "conf", package.parent / "conf") if (path / "train.yaml").is_file())


def yaml_files(group: str, config_dirs: Sequence[Path] = ()) -> dict[str, Path]:
    """Return the YAML files of a group by option name, ours first."""
    found: dict[str, Path] = {}
    for folder in (conf_dir(), *config_dirs):
        base = folder / group
        for path in sorted(base.rglob("*.yaml")):
            found.setdefault(path.relative_to(base).with_suffix("").as_posix(), path)
    return found


def options(group: str, config_dirs: Sequence[Path] = ()) -> list[str]:
    """Return the options of a group: YAML files, and registered components that have none."""
    registered = registry.names(group) if group in registry.GROUPS else []
    return sorted({*registered, *yaml_files(group, config_dirs)})


def search_override(config_dirs: Sequence[Path]) -> list[str]:
    """Return the override that lets Hydra look into further folders, whatever they are called; [] for none."""
    found = [f"file://{path.resolve()}" for path in config_dirs]
    return [typed_override("hydra.searchpath", found, resolved=False)] if found else []
