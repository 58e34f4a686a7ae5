"""The open sets: which models, datasets, optimizers, ... there are, by group and name.

A component is a dataclass whose fields are the keys of the config. How a built-in one becomes its part stands in
`trainer/runs/build.py`; a plug-in's has a `build` of its own. Once registered it is selected as `group=name`.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from trainer.errors import ConfigError, did_you_mean

GROUPS = ("model", "data", "optimizer", "scheduler", "task", "trainer", "run")  # the sections of a config
SWEEP = "sweep"  # the group of what runs many of them, which is no section
PARTS = ("transform", "loss", "metric", "logger")  # what keys of a section select by name

_registry: dict[str, dict[str, type[Any]]] = {group: {} for group in (*GROUPS, SWEEP, *PARTS)}
Component = TypeVar("Component")


def register(group: str, name: str) -> Callable[[type[Component]], type[Component]]:
    """Register a config dataclass as the option `name` of `group`, and tell the class both.

    Raises `ConfigError` for an unknown group and for a name that another class holds already.
    """
    if group not in _registry:
        raise ConfigError(f"There is no group '{group}' to register '{name}' in; groups: {', '.join(_registry)}.")

    def add(component: type[Component]) -> type[Component]:
        held = _registry[group].get(name)
        # The same file imported again (a notebook cell, a sweep's next job) replaces its own class only.
        if held is not None and (held.__module__, held.__qualname__) != (component.__module__, component.__qualname__):
            raise ConfigError(
                f"{group}={name} is registered twice: by {held.__module__}.{held.__qualname__} "
                f"and by {component.__module__}.{component.__qualname__}; rename one."
            )
        component.section, component.option = group, name  # type: ignore[attr-defined]
        _registry[group][name] = component
        return component

    return add


def names(group: str) -> list[str]:
    """Return the options of a group, sorted."""
    return sorted(_registry[group])


def lookup(group: str, name: str) -> type[Any]:
    """Return the class registered as `group=name`; raises `ConfigError` naming the options."""
    try:
        return _registry[group][name]
    except KeyError:
        raise unknown_option(group, name, names(group)) from None


def unknown_option(group: str, name: str, options: list[str]) -> ConfigError:
    """Return the error for an option that does not exist."""
    hint = did_you_mean(name, options)
    return ConfigError(f"{group}={name}: no such option.{hint} Options of {group}: {', '.join(options)}.")
