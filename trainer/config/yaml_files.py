"""The folders of YAML files, and which options they and the registry offer. Needs neither Hydra nor torch."""

from collections.abc import Sequence
from pathlib import Path

from trainer.config import registry
from trainer.errors import ConfigError

OPTIONS = (*registry.GROUPS, registry.SWEEP)  # the groups whose options are dataclasses
CHOICES = (*OPTIONS, "experiment")  # what is chosen by a name: these, and files that set keys of several
SUFFIXES = (".yaml", ".yml")


def conf_dir() -> Path:
    """Return the folder of YAML files: inside the installed package, or at the top of the repository."""
    package = Path(__file__).parent.parent
    return next(path for path in (package / "conf", package.parent / "conf") if (path / "train.yaml").is_file())


def yaml_files(group: str, config_dirs: Sequence[Path] = (), pattern: str = "**/*") -> dict[str, Path]:
    """Return the YAML files of a group by option name; those of the first folder go before those of the next, and ours.

    The group "" with the pattern "*" is the files at the top. Of one name with both endings `.yaml` is taken here; such
    a file is refused where it is used, by `trainer.config.overlay`.
    """
    found: dict[str, Path] = {}
    for folder in (*config_dirs, conf_dir()):
        base = folder / group
        for path in sorted(path for suffix in SUFFIXES for path in base.glob(f"{pattern}{suffix}")):
            found.setdefault(path.relative_to(base).with_suffix("").as_posix(), path)
    return found


def options(group: str, config_dirs: Sequence[Path] = ()) -> list[str]:
    """Return the options of a group: YAML files, and registered components that have none."""
    registered = registry.names(group) if group in OPTIONS else []
    return sorted({*registered, *yaml_files(group, config_dirs)})


def check_folders(config_dirs: Sequence[Path]) -> None:
    """Raise `ConfigError` for a folder of `--config-dir` that is not there."""
    for folder in config_dirs:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder}: no such folder.")
