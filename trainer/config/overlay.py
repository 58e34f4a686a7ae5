"""The user's folders of YAML files over the packaged ones: a file of theirs stands in the place of ours."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from trainer.config.safe_yaml import load_yaml, read
from trainer.config.yaml_files import CHOICES, OPTIONS, SUFFIXES, conf_dir, yaml_files
from trainer.errors import ConfigError

ROOT = "train"  # the file that everything starts from


def used_files(chosen: Mapping[str, str | None], config_dirs: Sequence[Path]) -> list[Path]:
    """Return the files of the user's folders that a composition reads, each checked.

    Args:
        chosen: options from the command line, by group.

    Raises:
        ConfigError: for a file that cannot be read, is not YAML, has a second one of its name beside it, or is an
            experiment that would not do what it says.
    """
    found: dict[Path, None] = {}
    files = {group: yaml_files(group, config_dirs) for group in CHOICES}
    root = _named_root(config_dirs)
    queue: list[tuple[str, Path]] = [("", root)] if root is not None else []
    defaults = {group: name for group, name in _choices("", conf_dir() / f"{ROOT}.yaml") if group in CHOICES}
    for group, name in (defaults | dict(chosen)).items():
        if name is not None and name in files[group]:
            queue.append((group, files[group][name]))
    while queue:
        group, path = queue.pop()
        if path in found or conf_dir() in path.parents:
            continue
        found[path] = None
        _check_sole(path)
        if group == "experiment":
            _check_experiment(path)
        for other, name in _choices(group, path):
            if other in CHOICES and name in files[other] and chosen.get(other, name) == name:
                queue.append((other, files[other][name]))
    return list(found)


def replaced(path: Path, config_dirs: Sequence[Path]) -> bool:
    """Return whether a file of the user's folders stands in the place of one of ours."""
    for folder in config_dirs:
        with contextlib.suppress(ValueError):
            return (conf_dir() / path.relative_to(folder)).with_suffix(".yaml").is_file()
    return False


@contextlib.contextmanager
def overlaid(config_dirs: Sequence[Path]) -> Iterator[Path]:
    """Yield a folder in which Hydra finds our files, and in their place those of the user's folders."""
    if not config_dirs:
        yield conf_dir()
        return
    with tempfile.TemporaryDirectory(prefix="trainer-conf-") as name:
        folder = Path(name)
        for group in ("", *CHOICES):
            for option, path in yaml_files(group, config_dirs, "**/*" if group else "*").items():
                link = folder / group / f"{option}.yaml"
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.absolute())
        for path in (path for directory in config_dirs for path in directory.iterdir() if path.is_dir()):
            if path.name not in CHOICES and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path.absolute())  # for files that name one of it, such as /base/mine
        _extend_root(folder / f"{ROOT}.yaml")
        yield folder


def _extend_root(link: Path) -> None:
    """Let a user's train.yaml without a list of defaults set keys on top of ours."""
    own = _mapping(link)
    if "defaults" not in own:
        link.unlink()
        ours = _mapping(conf_dir() / f"{ROOT}.yaml")
        link.write_text(yaml.safe_dump(ours | own, sort_keys=False), encoding="utf-8")


def _named_root(config_dirs: Sequence[Path]) -> Path | None:
    path = yaml_files("", config_dirs, "*")[ROOT]
    return None if path.parent == conf_dir() else path


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = load_yaml(read(path))
    except yaml.YAMLError as error:  # a tag, which is YAML and stands for no value
        raise ConfigError(f"{path}: not a YAML file of plain values: {' '.join(str(error).split())}.") from error
    return content if isinstance(content, dict) else {}


def _choices(group: str, path: Path) -> Iterator[tuple[str, str]]:
    """Yield the group and the option of each file that a list of defaults names."""
    entries = _mapping(path).get("defaults")
    for entry in entries if isinstance(entries, list) else []:
        for key, value in entry.items() if isinstance(entry, dict) else [(f"/{group}", entry)]:
            target = str(key).removeprefix("optional ").removeprefix("override ").partition("@")[0].strip("/ ")
            for name in value if isinstance(value, list) else [value]:
                if isinstance(name, str):
                    yield target or group, name.removesuffix(".yaml").removesuffix(".yml")


def _check_sole(path: Path) -> None:
    twins = [twin for twin in map(path.with_suffix, SUFFIXES) if twin.is_file()]
    if len(twins) > 1:
        raise ConfigError(f"{twins[0]} and {twins[1].name} have one name; remove one of them.")


def _check_experiment(path: Path) -> None:
    text = read(path)
    head = [line for line in text.splitlines() if line.strip()]
    if not any(line.startswith("#") and "@package _global_" in line for line in head):
        raise ConfigError(
            f"{path}: an experiment sets keys of all sections, so it begins with the line '# @package _global_'."
        )
    entries = _mapping(path).get("defaults")
    for entry in entries if isinstance(entries, list) else []:
        for key, value in entry.items() if isinstance(entry, dict) else ():
            group = str(key).removeprefix("override ").strip("/ ")
            if group in OPTIONS and not str(key).startswith("override /"):
                way = f"write 'override /{group}: {value}'"
                raise ConfigError(f"{path}: '{key}: {value}' in its defaults replaces no option; {way}.")
