"""YAML from anywhere, limited in size before it is parsed."""

from pathlib import Path
from typing import Any

import yaml

from trainer.errors import ConfigError

LARGEST, MOST_NODES, DEEPEST = 1 << 20, 100_000, 64  # bytes; values once all aliases are written out; levels

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the parser in C, where PyYAML was built with it


def load_yaml(text: str) -> Any:
    """Return what a YAML text stands for, in plain Python values; raises `yaml.YAMLError`."""
    return yaml.load(text, Loader=_Loader)


def read(path: Path) -> str:
    """Return the text of a YAML file that is safe to parse; see `check`."""
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path}: more than {LARGEST >> 20} MB is no config.")
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from error
    check(text, str(path))
    return text


def check(text: str, source: str) -> None:
    """Count the values that a text stands for, event by event, before any of them is made.

    Ten lines of aliases to aliases can stand for billions of values, which OmegaConf would copy one by one.

    Raises:
        ConfigError: for what is not YAML, nested too deeply, or too large once its aliases are written out.
    """
    sizes: dict[str, int] = {}  # nodes below each anchor
    open_nodes: list[tuple[str | None, int]] = []
    total = 0
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, total))
                total += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, before = open_nodes.pop()
                if anchor is not None:
                    sizes[anchor] = total - before
            elif isinstance(event, yaml.ScalarEvent):
                total += 1
                if event.anchor is not None:
                    sizes[event.anchor] = 1
            elif isinstance(event, yaml.AliasEvent):
                total += sizes.get(event.anchor, 1)
            if len(open_nodes) > DEEPEST or total > MOST_NODES:
                raise ConfigError(
                    f"{source}: more than {DEEPEST} levels or {MOST_NODES:,} values, aliases written out: no config is."
                )
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not a YAML file: {' '.join(str(error).split())}.") from error
