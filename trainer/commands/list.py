"""`trainer list [GROUP]`: the groups and their options, or those of one group (also of `metric` and the like)."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.commands.help import one_line, options_of
from trainer.config import plugins, registry
from trainer.config.yaml_files import CHOICES, OPTIONS, check_folders
from trainer.errors import ConfigError, did_you_mean


def main(arguments: Sequence[str]) -> int:
    """Print the list."""
    words, folders = parsed("list", "GROUP", arguments)
    if not words:
        for group in CHOICES:
            print(f"{group:<12}{', '.join(options_of(group, folders))}")
        return 0
    group = words[0]
    if group in registry.PARTS and len(words) == 1:
        print("\n".join(_part(group, name) for name in registry.names(group)))
        return 0
    if group not in CHOICES or len(words) > 1:
        hint = did_you_mean(group, CHOICES)
        raise ConfigError(f"trainer list {' '.join(words)}: no such group.{hint} Groups: {', '.join(CHOICES)}.")
    for name, line in options_of(group, folders).items():
        print(f"{group}={name}\n    {line}")
        if group in OPTIONS and name in registry.names(group):
            for key, (_, default, about) in registry.lookup(group, name).keys().items():
                print(f"    {f'{group}.{key}={typed(default)}':<40} {about.doc}")
    return 0


def parsed(verb: str, what: str, arguments: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Return what is asked about and the folders of YAML files that were named; import the plug-ins.

    Args:
        verb: for its help.
        what: it asks about.
    """
    parser = argparse.ArgumentParser(prog=f"trainer {verb}")
    parser.add_argument("words", nargs="*", metavar=what)
    parser.add_argument("--import", dest="imports", action="append", default=[], help="as given to train")
    parser.add_argument("--config-dir", type=Path, action="append", default=[], help="as given to train")
    args = parser.parse_intermixed_args(arguments)
    check_folders(args.config_dir)
    plugins.load(args.imports)
    return args.words, args.config_dir


def _part(group: str, name: str) -> str:
    """Describe a component that keys select by name, such as a metric, with its keys as they are written there."""
    component = registry.lookup(group, name)
    keys = [
        f"    {f'{key}: {typed(default)}':<40} {about.doc}" for key, (_, default, about) in component.keys().items()
    ]
    facts = [f"    {component.facts()}"] if component.facts() else []
    return "\n".join([name, f"    {one_line(component)}", *facts, *keys])


def typed(value: Any) -> str:
    """Return a value as it is typed on a command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(typed(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
