"""What keys of a section select by name: transforms, losses, metrics and loggers."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from trainer.config import registry
from trainer.config.section import Section
from trainer.errors import ConfigError, did_you_mean

# A list of entries, and an entry with keys, as they are typed: for messages.
EXAMPLES = {
    "transform": ("[impute, standardize]", "{name: clip, low: 0.02}"),
    "loss": ("[focal]", "{name: focal, gamma: 2}"),
    "metric": ("[accuracy, auroc]", "{name: top5, k: 3}"),
    "logger": ("[console, files]", "{name: wandb, project: demo}"),
}


@dataclass
class Part(Section):
    """Base of the components that a key selects by name, alone or with keys of their own.

    Attributes:
        selected_by: the key that selects it, for messages.
    """

    selected_by: ClassVar[str] = ""

    @classmethod
    def key_name(cls, field: str) -> str:
        """Return the full name of a key, such as `data.transforms: clip.low`."""
        return f"{cls.selected_by}: {cls.option}.{field}"

    @classmethod
    def facts(cls) -> str:
        """Return what `trainer list` says of it beside its doc and its keys; "": nothing."""
        return ""


def select(group: str, entries: Any, where: str, *, may_be_empty: bool = False) -> list[Any]:
    """Return the components of a group that entries name, in their order.

    Args:
        group: one of `registry.PARTS`.
        entries: each a name, a mapping of `name` and keys, or a component; a single name is a list of one.
        where: the key that holds them; it begins the errors.
        may_be_empty: whether there may be no entry.

    Raises:
        ConfigError: for an unknown name, a key that the component does not have, or a value out of range.
    """
    if isinstance(entries, str):
        entries = [entries]
    if not isinstance(entries, (list, tuple)) or not (entries or may_be_empty):
        raise ConfigError(f"{where}={entries}: expected a list of {plural(group)}, such as {EXAMPLES[group][0]}.")
    return [select_one(group, entry, where) for entry in entries]


def select_one(group: str, entry: Any, where: str) -> Any:
    """Return the component that one entry names; see `select`."""
    if isinstance(entry, Part) and entry.section == group:
        return entry
    keys = dict(entry) if isinstance(entry, dict) else {"name": entry}
    name = keys.pop("name", None)
    known = registry.names(group)
    if name is None and isinstance(entry, dict):
        raise ConfigError(f"{where}: {entry} does not say which {group}; write {EXAMPLES[group][1]}.")
    if name not in known:
        hint = did_you_mean(str(name), known)
        raise ConfigError(f"{where}: no {group} '{name}'.{hint} {plural(group).capitalize()}: {', '.join(known)}.")
    component = registry.lookup(group, name)
    for word in keys:
        if word not in component.keys():
            has = f"Its keys: {', '.join(component.keys())}." if component.keys() else "It has no keys."
            raise ConfigError(f"{where}: {name} has no key '{word}'.{did_you_mean(str(word), component.keys())} {has}")
    return component(**keys)


def plain(entry: Any) -> Any:
    """Return an entry as it is typed: a component becomes a mapping of name and keys, which a YAML file can hold."""
    if not isinstance(entry, Part):
        return entry
    return {"name": entry.option} | {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}


def plural(group: str) -> str:
    """Return `losses` for `loss`, `metrics` for `metric`."""
    return f"{group}es" if group.endswith("s") else f"{group}s"
