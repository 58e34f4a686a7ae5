"""What a config dataclass is made of: keys with a type, a default, a doc and a range, checked on creation."""

import copy
import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, ClassVar

from trainer.config import durations
from trainer.errors import ConfigError, did_you_mean

# What changing a key does to a resumed run: nothing to what is learned (FREE), or another future (FUTURE); or it is
# refused, since it shapes the model, the data or the random streams of the steps already made (FIXED).
FREE, FUTURE, FIXED = "free", "future", "fixed"


@dataclass(frozen=True)
class Key:
    """What a key has beside its type and default: one line of doc and the values it allows."""

    doc: str
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    choices: tuple[str, ...] | None = None
    length: int | None = None  # of a list
    duration: bool = False  # a string such as 500, 10ep, 5%, 15min
    wall_clock: bool = True  # whether a duration may be in minutes
    auto: bool = False  # whether a duration may be "auto"
    part: str | None = None  # the group of which it selects one by name, alone or as a mapping of name and keys
    on_resume: str | None = None  # FREE, FUTURE or FIXED; None: as its section says

    def allowed(self) -> str:
        """Return the range in words, such as "> 0, <= 1"; "" where every value of the type is allowed."""
        if self.choices:
            return " | ".join(self.choices)
        if self.duration:
            more = (", 15min" if self.wall_clock else "") + (", auto" if self.auto else "")
            return f"a duration: 500, 10ep, 5%{more}"
        bounds = ((">", self.above), (">=", self.at_least), ("<", self.below), ("<=", self.at_most))
        return ", ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)

    def check(self, name: str, value: Any) -> None:
        """Raise `ConfigError` unless `value` (or each of its items) is allowed; whether null is, its type says."""
        if isinstance(value, (list, tuple)):
            if self.length is not None and len(value) != self.length:
                raise ConfigError(f"{name}={value}: must be a list of {self.length}.")
            for index, item in enumerate(value):
                self.check(f"{name}[{index}]", item)
            return
        if value is None:
            return
        if self.choices and value not in self.choices:
            hint = did_you_mean(str(value), self.choices)
            raise ConfigError(f"{name}={value}: not one of {', '.join(self.choices)}.{hint}")
        if self.duration and not (self.auto and value == "auto"):
            durations.parse_duration(value, name, self.wall_clock)
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{name}={value}: must be a finite number.")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            inside = (
                (self.above is None or value > self.above)
                and (self.at_least is None or value >= self.at_least)
                and (self.below is None or value < self.below)
                and (self.at_most is None or value <= self.at_most)
            )
            if not inside:
                raise ConfigError(f"{name}={value}: must be {self.allowed()}.")


def key(default: Any, doc: str, *, kw_only: bool = False, **limits: Any) -> Any:
    """Return a dataclass field with its doc and limits (the fields of `Key`).

    Args:
        kw_only: for a key of a base class: it is shown after those of the class, and is no positional argument.
    """
    return _field(default, Key(doc, **limits), kw_only)


def other_default(base: "type[Section]", name: str, default: Any, doc: str | None = None) -> Any:
    """Give a key of a base class another default in a subclass; its limits stay, and its doc unless one is given.

    Raises:
        KeyError: where the base class has no key `name`.
    """
    known = {field.name: field.metadata["key"] for field in dataclasses.fields(base)}[name]
    return _field(default, known if doc is None else dataclasses.replace(known, doc=doc))


def _field(default: Any, known: Key, kw_only: bool = False) -> Any:
    metadata = {"key": known}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: copy.copy(default), metadata=metadata, kw_only=kw_only)
    return dataclasses.field(default=default, metadata=metadata, kw_only=kw_only)


@dataclass
class Section:
    """Base of every config dataclass: checks types and ranges whenever one is made, from YAML or from Python.

    Raises:
        ConfigError: naming the key, the value and what is allowed.
    """

    section: ClassVar[str] = ""  # the group it is registered in
    option: ClassVar[str] = ""
    on_resume: ClassVar[str] = FUTURE  # of its keys, unless they say otherwise

    def __post_init__(self) -> None:
        declared = self.field_types()
        for field in dataclasses.fields(self):
            value, name = getattr(self, field.name), self.key_name(field.name)
            value = _coerce(value, declared[field.name], name)
            setattr(self, field.name, value)
            if "key" in field.metadata:
                field.metadata["key"].check(name, value)

    @classmethod
    def key_name(cls, field: str) -> str:
        """Return the full name of a key of this section, such as `optimizer.lr`."""
        return f"{cls.section}.{field}" if cls.section else field

    @classmethod
    def change(cls, name: str) -> str:
        """Return what a change of the key `name` means on resuming: FREE, FUTURE or FIXED."""
        return cls.keys()[name][2].on_resume or cls.on_resume

    @classmethod
    def as_saved(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values that a run has saved, with durations that are no longer accepted as what they were then."""

        def mended(value: Any) -> Any:
            if isinstance(value, list):
                return [mended(item) for item in value]
            return durations.whole_steps(value) if isinstance(value, str) else value

        timed = {name for name, (_, _, known) in cls.keys().items() if known.duration}
        return {name: mended(value) if name in timed else value for name, value in values.items()}

    @classmethod
    def field_types(cls) -> dict[str, Any]:
        """Return the declared type of each field."""
        hints = typing.get_type_hints(cls)
        return {field.name: hints[field.name] for field in dataclasses.fields(cls)}

    @classmethod
    def keys(cls) -> dict[str, tuple[str, Any, Key]]:
        """Return each key of this section: its type in words, its default and its `Key`."""
        declared = cls.field_types()
        return {
            field.name: (
                type_words(declared[field.name]),
                field.default_factory() if callable(field.default_factory) else field.default,
                field.metadata["key"],
            )
            for field in sorted(dataclasses.fields(cls), key=lambda field: bool(field.kw_only))
            if "key" in field.metadata
        }


def type_words(hint: Any) -> str:
    """Return a type as people write it: `int`, `float or null`, `list of str`."""
    if isinstance(hint, types.UnionType):
        return " or ".join(type_words(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        return f"list of {type_words(typing.get_args(hint)[0])}"
    if typing.get_origin(hint) is dict:
        return "mapping"
    if hint is type(None):
        return "null"
    return "any" if hint is Any else str(getattr(hint, "__name__", hint))


def is_mapping(hint: Any) -> bool:
    """Say whether a type is a dictionary, such as `dict[str, Any]`, or one or null."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return any(typing.get_origin(part) is dict for part in parts)


def _coerce(value: Any, hint: Any, name: str) -> Any:
    """Hold Python callers to the declared types, as OmegaConf holds YAML to them; whole numbers pass as floats."""
    if hint is Any:
        return value
    if isinstance(hint, type) and issubclass(hint, Section):
        if not isinstance(value, hint):
            raise ConfigError(f"{name}={value!r}: expected a trainer.{hint.__name__}.")
        return value
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is list:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name}={value}: expected a {type_words(hint)}, such as [a,b].")
        return [_coerce(item, typing.get_args(hint)[0], name) for item in value]
    if typing.get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{name}={value}: expected a mapping, such as {{a: b}}.")
        return {str(word): item for word, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # a duration may be typed as a bare number
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError(f"{name}={value!r}: expected {type_words(hint)}.")
    return value
