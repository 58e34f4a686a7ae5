"""What a sweep varies: each key with its values or its interval, from overrides in Hydra's words."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep, Transformer

from trainer.config import compose
from trainer.config.yaml_files import CHOICES, options
from trainer.errors import ConfigError

DIGITS = 4  # significant ones of a number drawn from an interval: as a person would write it
MOST = 100_000  # values of one key
FEW = 1000  # whole numbers in an interval that are listed


@dataclass(frozen=True)
class Parameter:
    """A key that varies: over listed values, or over an interval.

    Attributes:
        key: its full name, or a group.
        values: as they are typed in an override; (): it varies over an interval.
        low, high: the ends of the interval, both inside.
        log: whether draws are uniform in the logarithm, by `tag(log, interval(...))`.
        whole: whether only whole numbers are drawn, by `int(interval(...))`.
    """

    key: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    @property
    def ends(self) -> tuple[str, ...]:
        """Return the values that stand for all of them in a check: the listed ones, or both ends."""
        return self.values or (self.text(self.low), self.text(self.high))

    def listed(self) -> "Parameter":
        """Return a short interval of whole numbers as their list, of which none need be drawn twice; else itself."""
        if self.values or not self.whole or self.log or self.high - self.low > FEW:
            return self
        return Parameter(self.key, tuple(str(n) for n in range(round(self.low), round(self.high) + 1)))

    def text(self, number: float) -> str:
        """Return a number of the interval as it is typed."""
        if self.whole:
            return str(round(number))
        return repr(min(max(float(f"{number:.{DIGITS}g}"), self.low), self.high))

    def at(self, share: float) -> str:
        """Return the value up to which this share of all values lies, from 0 to 1."""
        if self.values:
            return self.values[min(int(share * len(self.values)), len(self.values) - 1)]
        if self.whole and not self.log:
            return str(min(int(self.low + share * (self.high - self.low + 1)), round(self.high)))
        if self.log:
            return self.text(math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low))))
        return self.text(self.low + share * (self.high - self.low))


def read_parameters(
    overrides: Sequence[str], params: dict[str, Any], seed: int, config_dirs: Sequence[Path] = ()
) -> tuple[list[str], list[Parameter]]:
    """Return the overrides that all trials share, and the keys that vary, in the order typed.

    Args:
        overrides: of the command line, without those of the sweep itself.
        params: the key `sweep.params`; what is typed wins.
        seed: of `shuffle()`.

    Raises:
        ConfigError: for a key given twice, and for values that cannot be listed.
    """
    parsed = compose.parse(overrides)
    keys = [override.key_or_group for override in parsed]
    added = compose.parse([f"{key}={_words(value)}" for key, value in params.items() if key not in keys])
    for key in keys:
        if keys.count(key) > 1 and any(o.is_sweep_override() for o in parsed if o.key_or_group == key):
            raise ConfigError(f"{key} is given twice; give all its values at once, as {key}=a,b.")
    shared = [override.input_line or "" for override in (*parsed, *added) if not override.is_sweep_override()]
    varied = [_parameter(o, seed, config_dirs) for o in (*parsed, *added) if o.is_sweep_override()]
    for parameter in varied:
        if parameter.key == "resume":
            raise ConfigError("resume= cannot be swept over; resume one run at a time, or a whole sweep.")
    return shared, varied


def _words(value: Any) -> str:
    """Return a value of `sweep.params` as an override has it: text is in those words already, a list is a choice."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return f"choice({','.join(Transformer.str(item) for item in value)})"
    return str(Transformer.str(value))


def _parameter(override: Override, seed: int, config_dirs: Sequence[Path]) -> Parameter:
    key, value = override.key_or_group, override.value()
    typed: Any
    match value:
        case IntervalSweep():
            return _interval(override, value)
        case Glob():
            if key not in CHOICES:
                raise ConfigError(f"{override.input_line}: glob() chooses among the options of a group; {key} is none.")
            typed = value.filter(options(key, config_dirs))
        case RangeSweep():
            if not value.step or abs((value.stop or 0) - (value.start or 0)) > abs(value.step) * MOST:
                raise ConfigError(f"{override.input_line}: more than {MOST:,} values.")
            typed = _range(value)
        case ChoiceSweep():
            typed = list(value.list)
        case _:  # glob() in Hydra's grammar has no other relatives
            raise ConfigError(f"{override.input_line}: cannot be swept over.")
    if not typed:
        raise ConfigError(f"{override.input_line}: there is no such value; nothing would be trained.")
    if getattr(value, "shuffle", False):
        random.Random(f"{seed} shuffle {key}").shuffle(typed)
    return Parameter(key, tuple(str(Transformer.str(item)) for item in typed))


def _range(value: RangeSweep) -> list[int | float]:
    """Return the numbers of a range, in decimals as they are typed: 0.1, 0.2, 0.3 and no 0.30000000000000004."""
    start, stop, step = value.start, value.stop, value.step
    if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
        return list(range(start, stop, step))
    first, end, width = (Decimal(str(number)) for number in (start, stop, step))
    count = max(0, math.ceil((end - first) / width))
    return [float(first + i * width) for i in range(count)]


def _interval(override: Override, value: IntervalSweep) -> Parameter:
    low, high = value.start, value.end
    assert low is not None and high is not None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"{override.input_line}: must run from a smaller number to a larger one.")
    log = "log" in value.tags
    if log and low <= 0:
        raise ConfigError(f"{override.input_line}: an interval with the tag log must begin above 0.")
    return Parameter(override.key_or_group, (), low, high, log, isinstance(low, int) and isinstance(high, int))
