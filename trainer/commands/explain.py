"""`trainer explain KEY`: type, default, range and meaning of a key, for every option that has it."""

from collections.abc import Sequence
from pathlib import Path

from trainer.commands.help import one_line, options_of
from trainer.commands.list import parsed, typed
from trainer.config import registry
from trainer.config.root import Config
from trainer.config.section import Section
from trainer.config.yaml_files import CHOICES, OPTIONS
from trainer.errors import ConfigError, did_you_mean


def main(arguments: Sequence[str]) -> int:
    """Explain each argument: a key such as `optimizer.lr`, a group, or an option such as `model=cnn`."""
    names, folders = parsed("explain", "KEY", arguments)
    if not names:
        raise ConfigError("trainer explain KEY: name a key, such as optimizer.lr, or an option, such as model=cnn.")
    print("\n\n".join(explain(name, folders) for name in names))
    return 0


def explain(name: str, config_dirs: Sequence[Path] = ()) -> str:
    """Return the explanation of a key, a group or an option."""
    group, _, key = name.partition(".")
    if name in CHOICES:
        return "\n".join(
            [f"{name}=", *(f"  {option:<18}{line}" for option, line in options_of(name, config_dirs).items())]
        )
    if "=" in name:
        group, _, option = name.partition("=")
        if group in OPTIONS:
            component = registry.lookup(group, option)
            keys = [_entry(component, name) for name in component.keys()]
            return "\n".join([f"{name}: {one_line(component)}", *keys])
    if name in Config.keys():
        return _entry(Config, name)
    if group in OPTIONS and key:
        owners = [registry.lookup(group, option) for option in registry.names(group)]
        entries: dict[str, list[str]] = {}
        for owner in owners:
            if key in owner.keys():
                entries.setdefault(_entry(owner, key), []).append(f"{group}={owner.option}")
        if entries:
            whole = len(next(iter(entries.values()))) == len(owners)
            return "\n".join(
                text + ("" if whole else f"\n    in {', '.join(options)}") for text, options in entries.items()
            )
    known = _all_keys()
    # A key typed without its section ("ema") is the commonest slip.
    whole_name = next((full for full in known if full.endswith(f".{name}")), None)
    hint = f" Did you mean '{whole_name}'?" if whole_name else did_you_mean(name, known)
    raise ConfigError(f"trainer explain {name}: no such key.{hint}")


def _entry(owner: type[Section], key: str) -> str:
    kind, default, about = owner.keys()[key]
    allowed = about.allowed()
    line = f"{owner.key_name(key)}: {kind}, default {typed(default)}" + (f", {allowed}" if allowed else "")
    return f"{line}\n    {about.doc}"


def _all_keys() -> list[str]:
    keys = list(Config.keys())
    for group in OPTIONS:
        for option in registry.names(group):
            keys += [f"{group}.{key}" for key in registry.lookup(group, option).keys()]
    return keys
