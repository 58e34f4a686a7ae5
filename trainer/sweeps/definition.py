"""Which trials a sweep has: a pure function of what was typed and of a trial's number."""

import dataclasses
import functools
import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from trainer.config import compose
from trainer.config.section import FIXED
from trainer.config.sweep import OptunaSweep, RandomSweep, SweepConfig, ZipSweep
from trainer.errors import ConfigError
from trainer.sweeps.parameters import Parameter, read_parameters

Values = tuple[str, ...]  # of the keys that vary, in their order, as typed
SEED = "seed"
MOST_TRIALS = 100_000


@dataclass(frozen=True)
class Definition:
    """What is varied, and how.

    Attributes:
        sweep: the section `sweep`, checked.
        typed: the overrides as they were typed, those of the sweep apart.
        imports, config_dirs: what `--import` and `--config-dir` were given.
        shared: the overrides that all trials have.
        varied: the keys that vary, without the seeds of `sweep.seeds`.
        composed: what the YAML files give, each read once for all trials.
    """

    sweep: SweepConfig
    typed: Sequence[str]
    imports: Sequence[str]
    config_dirs: Sequence[Path]
    shared: Sequence[str]
    varied: Sequence[Parameter]
    composed: compose.Composed = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(
        cls, overrides: Sequence[str], imports: Sequence[str] = (), config_dirs: Sequence[Path] = ()
    ) -> "Definition":
        """Return the sweep that was typed.

        Raises:
            ConfigError: for anything that makes no sweep; the configs of its trials are for `check_trials`.
        """
        parsed = compose.parse(overrides)
        own = [o for o in parsed if compose.is_of_sweep(o)]
        if any(o.is_sweep_override() for o in own):
            raise ConfigError(f"{own[0].input_line}: how a sweep is run cannot be swept over.")
        experiment = [o for o in parsed if o.key_or_group == "experiment" and not o.is_sweep_override()]
        composed: compose.Composed = {}
        sweep = compose.compose_sweep([o.input_line or "" for o in (*experiment, *own)], config_dirs, composed)
        typed = [o.input_line or "" for o in parsed if not compose.is_of_sweep(o)]
        return dataclasses.replace(cls.make(sweep, typed, imports, config_dirs), composed=composed)

    @classmethod
    def make(
        cls, sweep: SweepConfig, typed: Sequence[str], imports: Sequence[str], config_dirs: Sequence[Path]
    ) -> "Definition":
        """Return the sweep of a section and of typed overrides; raises as `of`."""
        shared, varied = read_parameters(typed, sweep.params, sweep.seed, config_dirs)
        if isinstance(sweep, RandomSweep):
            varied = [parameter.listed() for parameter in varied]
        names = sweep.metrics()
        if names and not any(text.partition("=")[0].lstrip("+") == "trainer.monitor" for text in typed):
            shared = [*shared, f"trainer.monitor={names[0]}"]  # what ranks the trials decides what is best in each
        return cls(sweep, typed, imports, config_dirs, shared, varied)

    def __post_init__(self) -> None:
        intervals = [parameter.key for parameter in self.varied if not parameter.values]
        if intervals and not isinstance(self.sweep, (RandomSweep, OptunaSweep)):
            raise ConfigError(
                f"{intervals[0]}: an interval has no list of values to combine; add sweep=random or sweep=optuna, or "
                f"list values, as {intervals[0]}=range(0.1,0.5,0.1)."
            )
        if isinstance(self.sweep, ZipSweep) and len({len(p.values) for p in self.varied}) > 1:
            counts = ", ".join(f"{p.key} has {len(p.values)}" for p in self.varied)
            raise ConfigError(f"sweep=zip takes the values of all keys together: as many of each ({counts}).")
        if isinstance(self.sweep, OptunaSweep) and not self.varied:
            raise ConfigError("sweep=optuna: nothing varies; give a key several values or an interval(...).")
        if self.sweep.seeds > 1 and any(p.key == SEED for p in self.varied):
            raise ConfigError(f"sweep.seeds={self.sweep.seeds} and seed=... both vary the seed; give one of them.")
        total, most = self.sweep.trials, self.most
        if isinstance(self.sweep, RandomSweep) and total is not None and total > most:
            text = f"sweep.trials={total}: these lists have {most} combinations"
            raise ConfigError(
                f"{text}; ask for as many, or use sweep=grid." if most > 1 else f"{text}: nothing varies."
            )
        if self.count > MOST_TRIALS:
            raise ConfigError(
                f"{self.count:,} trials are more than {MOST_TRIALS:,}; see sweep.trials, or sweep=random."
            )

    @property
    def most(self) -> int:
        """Return how many trials there can be, those of all seeds counted."""
        if isinstance(self.sweep, OptunaSweep) or any(not p.values for p in self.varied):
            return MOST_TRIALS
        lengths = [len(p.values) for p in self.varied]
        settings = (lengths or [1])[0] if isinstance(self.sweep, ZipSweep) else math.prod(lengths)
        return settings * self.sweep.seeds

    @property
    def count(self) -> int:
        """Return how many trials there are."""
        return self.most if self.sweep.trials is None else min(self.sweep.trials, self.most)

    def is_same(self, other: "Definition") -> bool:
        """Whether another sweep has the same trials, however many of them, and however they are worked off."""
        fixed = [key for key in self.sweep.keys() if self.sweep.change(key) == FIXED]
        return (
            list(self.typed) == list(other.typed)
            and self.sweep.option == other.sweep.option
            and all(getattr(self.sweep, key) == getattr(other.sweep, key) for key in fixed)
        )

    @property
    def suggested(self) -> bool:
        """Whether values depend on what is finished."""
        return isinstance(self.sweep, OptunaSweep)

    @property
    def pruned(self) -> bool:
        """Whether trials are stopped early."""
        return isinstance(self.sweep, OptunaSweep) and self.sweep.pruner != "none"

    @property
    def keys(self) -> list[str]:
        """Return the keys that vary, the seed of `sweep.seeds` last."""
        return [p.key for p in self.varied] + [SEED] * (self.sweep.seeds > 1)

    @functools.cached_property
    def first_seed(self) -> int:
        """Return the first seed of each setting."""
        seed: int = compose.compose(self.shared, self.config_dirs, self.composed).seed
        return seed

    def setting(self, number: int) -> int:
        """Return the number of a trial's setting: its trials follow one another, each with another seed."""
        return number // self.sweep.seeds

    def values(self, number: int) -> Values:
        """Return the values of a trial of a grid, a zip or a random search, the seed apart."""
        setting, lists = self.setting(number), [p.values for p in self.varied]
        if isinstance(self.sweep, ZipSweep):
            return tuple(values[setting] for values in lists)
        if isinstance(self.sweep, RandomSweep):
            if any(not values for values in lists):
                return tuple(p.at(random.Random(f"{self.sweep.seed} {setting} {p.key}").random()) for p in self.varied)
            setting = _shuffled(self.most // self.sweep.seeds, self.sweep.seed)[setting]
        chosen = []
        for values in reversed(lists):
            setting, position = divmod(setting, len(values))
            chosen.append(values[position])
        return tuple(reversed(chosen))

    def overrides(self, number: int, values: Values) -> list[str]:
        """Return the overrides of one trial."""
        typed = [f"{p.key}={value}" for p, value in zip(self.varied, values, strict=True)]
        overrides = [*self.shared, *typed]
        if self.sweep.seeds > 1:
            overrides.append(f"{SEED}={self.first_seed + number % self.sweep.seeds}")  # the last one counts
        return overrides


@functools.cache
def _shuffled(count: int, seed: int) -> list[int]:
    """Return the numbers below `count` in random order."""
    order = list(range(count))
    random.Random(f"{seed} order").shuffle(order)
    return order


def check_trials(definition: Definition) -> None:
    """Compose and check the config of every trial, before the first one starts; of suggested ones, what is possible.

    Raises:
        ConfigError: for a mistake in any of them, at the ends of an interval too, and for two that are the same.
    """
    composer = composer_of(definition)
    for overrides in _ends(definition):
        loggers = compose.to_config(composer(overrides)).logger_configs()
        if definition.pruned and not any(one.option == "files" for one in loggers):
            raise ConfigError("sweep.pruner reads what the trials have recorded so far; add files to the key logger.")
    seen: dict[str, int] = {}
    monitors = set()
    for number in range(0 if definition.suggested else definition.count):
        cfg = composer(definition.overrides(number, definition.values(number)))
        monitors.add(cfg.trainer.monitor)
        other = seen.setdefault(hashlib.sha256(compose.to_yaml(cfg).encode()).hexdigest(), number)
        if other != number:
            what = " ".join(f"{k}={v}" for k, v in zip(definition.keys, definition.values(number), strict=False))
            way_out = "ask for fewer trials" if isinstance(definition.sweep, RandomSweep) else "give each value once"
            raise ConfigError(f"Trials {other} and {number} have the same config ({what}); {way_out}.")
    if not definition.sweep.metrics() and len(monitors) > 1:
        raise ConfigError(
            "trainer.monitor differs between the trials, whose scores cannot be compared then; say by which score they "
            "are ranked: sweep.metric=val/loss."
        )


def replaced_files(definition: Definition) -> list[Path]:
    """Return the files of `--config-dir` that a trial reads in the place of packaged ones."""
    if not definition.config_dirs:
        return []
    numbers = range(0 if definition.suggested else definition.count)
    trials = [*_ends(definition), *(definition.overrides(n, definition.values(n)) for n in numbers)]
    found = (path for trial in trials for path in compose.user_files(trial, definition.config_dirs))
    return list(dict.fromkeys(found))


def composer_of(definition: Definition) -> Callable[[Sequence[str]], DictConfig]:
    """Return what composes and checks the config of a trial."""

    def composer(overrides: Sequence[str]) -> DictConfig:
        cfg = compose.compose(overrides, definition.config_dirs, definition.composed)
        config = compose.to_config(cfg)
        if config.resume is not None:
            raise ConfigError("resume= cannot be given to a sweep; go on with one by train resume=SWEEP.")
        return cfg

    return composer


def _ends(definition: Definition) -> list[list[str]]:
    """Return the overrides of trials with both ends of each interval; where none is known, each listed value."""
    middle = tuple(p.ends[0] for p in definition.varied)
    return [
        definition.overrides(0, (*middle[:i], end, *middle[i + 1 :]))
        for i, parameter in enumerate(definition.varied)
        for end in parameter.ends
        if definition.suggested or not parameter.values
    ]
