"""The folders of YAML files, and which options they and the registry offer. Needs neither Hydra nor torch."""

from collections.abc import Sequence
from pathlib import Path

from trainer.config import registry
from trainer.errors import ConfigError

CHOICES = (*registry.GROUPS, "experiment")  # what is chosen by a name: the sections, and files that set keys of several
SUFFIXES = (".yaml", ".yml")


def conf_dir() -> Path:
    """Return the folder of YAML files: inside the installed package, or at the top of the repository."""
    package = Path(__file__).parent.parent
    return next(path for path in (package / "conf", package.parent / "conf") if (path / "train.yaml").is_file())


def yaml_files(group: str, config_dirs: Sequence[Path] = (), pattern: str = "**/*") -> dict[str, Path]:
    """Return the YAML files of a group by option name; those of the first folder go before those of the next, and ours.

    The group "" with the pattern "*" is the files at the top.

    Raises:
        ConfigError: where a folder has a name with both endings.
    """
    found: dict[str, Path] = {}
    for folder in (*config_dirs, conf_dir()):
        for name, path in _named(folder / group, pattern).items():
            found.setdefault(name, path)
    return found


def options(group: str, config_dirs: Sequence[Path] = ()) -> list[str]:
    """Return the options of a group: YAML files, and registered components that have none."""
    registered = registry.names(group) if group in registry.GROUPS else []
    return sorted({*registered, *yaml_files(group, config_dirs)})


def _named(base: Path, pattern: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(path for suffix in SUFFIXES for path in base.glob(f"{pattern}{suffix}")):
        name = path.relative_to(base).with_suffix("").as_posix()
        if name in found:
            raise ConfigError(f"{found[name]} and {path.name} have one name; remove one of them.")
        found[name] = path
    return found
