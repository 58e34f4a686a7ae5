"""Values that a sampler suggests, as a pure function: of the sweep, the number, and what the trials before came to.

Optuna works on a study in memory that is filled anew each time. What it would keep in a storage of its own (which a
kill can damage, and which can disagree with the run directories) stands in those directories, or follows from them.
"""

import importlib
import importlib.util
import logging
import random
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.config.sweep import OptunaSweep
from trainer.errors import ConfigError
from trainer.sweeps.definition import Definition, Values
from trainer.sweeps.directory import FAILED, FINISHED, SweepDirectory
from trainer.sweeps.parameters import Parameter

NEEDED = {"tpe": ("optuna",), "gp": ("optuna", "scipy"), "cmaes": ("optuna", "cmaes"), "qmc": ("scipy",), "random": ()}


@dataclass(frozen=True)
class Past:
    """What is known of an earlier setting.

    Attributes:
        values: of the keys that vary.
        cost: its score, smaller is better; None: none is known, or not yet.
        running: whether it may still come to one.
    """

    values: Values
    cost: float | None
    running: bool = False


def check_packages_of(sweep: OptunaSweep) -> None:
    """Raise `ConfigError` where a package is missing that the sampler or the pruner needs."""
    needed = dict.fromkeys(NEEDED[sweep.sampler], f"sweep.sampler={sweep.sampler}")
    if sweep.pruner != "none":
        needed |= dict.fromkeys(("optuna", *["scipy"] * (sweep.pruner == "wilcoxon")), f"sweep.pruner={sweep.pruner}")
    for name, key in needed.items():
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"{key} needs the package {name}: pip install 'trainer[optuna]'")


def suggested_values(directory: SweepDirectory, number: int) -> Values:
    """Return the values of a trial that begins: those of its setting's first trial, or newly suggested ones."""
    definition = directory.definition
    setting, seeds = definition.setting(number), definition.sweep.seeds
    for other in range(setting * seeds, number):
        if (values := directory.values(other)) is not None:
            return values
    past = {i: known for i in range(setting) if (known := _past(directory, i)) is not None}
    return suggest(definition, setting, past)


def _past(directory: SweepDirectory, setting: int) -> Past | None:
    """Return what the trials of a setting came to, as the mean over its seeds; None where none has begun."""
    seeds = directory.definition.sweep.seeds
    numbers = range(setting * seeds, (setting + 1) * seeds)
    values = next((found for n in numbers if (found := directory.values(n)) is not None), None)
    if values is None:
        return None
    bests = [(directory.summary(n) or {}).get("best") for n in numbers if directory.status(n) in FINISHED]
    costs = [best["value"] if best["mode"] == "min" else -best["value"] for best in bests if best]
    whole = len(bests) == seeds and len(costs) == seeds
    running = any(directory.status(n) not in (*FINISHED, FAILED) for n in numbers)
    return Past(values, statistics.fmean(costs) if whole else None, running)


def suggest(definition: Definition, number: int, past: Mapping[int, Past]) -> Values:
    """Return the values of a setting.

    Args:
        number: of the setting.
        past: the settings before it, by number; those of which nothing is known may be absent.
    """
    sweep, varied = definition.sweep, definition.varied
    assert isinstance(sweep, OptunaSweep)
    match sweep.sampler:
        case "random":
            return tuple(p.at(random.Random(f"{sweep.seed} {number} {p.key}").random()) for p in varied)
        case "qmc":
            return _sobol(sweep.seed, number, varied)
        case "cmaes":
            return _by_cmaes(sweep.seed, number, varied, past)
    return _by_optuna(sweep, number, varied, past)


def quiet_optuna() -> Any:
    """Return the module `optuna`, which then prints warnings alone, and none on what it calls experimental."""
    optuna = importlib.import_module("optuna")
    optuna.logging.set_verbosity(logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    return optuna


def _sobol(seed: int, number: int, varied: Sequence[Parameter]) -> Values:
    """Return a point of Sobol's sequence, scrambled by the seed."""
    qmc = importlib.import_module("scipy.stats.qmc")
    engine = qmc.Sobol(len(varied), scramble=True, rng=seed)
    if number:
        engine.fast_forward(number)
    return tuple(p.at(float(share)) for p, share in zip(varied, engine.random(1)[0], strict=True))


def _seed(seed: int, number: int) -> int:
    return random.Random(f"{seed} {number} sampler").getrandbits(31)


def _distribution(optuna: Any, parameter: Parameter) -> Any:
    distributions = optuna.distributions
    if parameter.values:
        return distributions.CategoricalDistribution(parameter.values)
    kind = distributions.IntDistribution if parameter.whole else distributions.FloatDistribution
    return kind(parameter.low, parameter.high, log=parameter.log)


def _number(parameter: Parameter, text: str) -> str | int | float:
    return text if parameter.values else int(text) if parameter.whole else float(text)


def _text(parameter: Parameter, value: Any) -> str:
    return str(value) if parameter.values else parameter.text(value)


def _frozen(optuna: Any, varied: Sequence[Parameter], known: Past, attributes: Mapping[str, Any] = {}) -> Any:
    """Return an earlier setting as a trial of Optuna."""
    states = optuna.trial.TrialState
    state = states.COMPLETE if known.cost is not None else states.RUNNING if known.running else states.FAIL
    return optuna.trial.create_trial(
        state=state,
        value=known.cost,
        params={p.key: _number(p, text) for p, text in zip(varied, known.values, strict=True)},
        distributions={p.key: _distribution(optuna, p) for p in varied},
        system_attrs=dict(attributes),
    )


def _by_optuna(sweep: OptunaSweep, number: int, varied: Sequence[Parameter], past: Mapping[int, Past]) -> Values:
    optuna = quiet_optuna()
    seed = _seed(sweep.seed, number)
    if sweep.sampler == "gp":
        sampler = optuna.samplers.GPSampler(seed=seed)
    else:
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    study = optuna.create_study(sampler=sampler)
    study.add_trials([_frozen(optuna, varied, known) for _, known in sorted(past.items())])
    asked = study.ask({p.key: _distribution(optuna, p) for p in varied}).params
    return tuple(_text(p, asked[p.key]) for p in varied)


def _by_cmaes(seed: int, number: int, varied: Sequence[Parameter], past: Mapping[int, Past]) -> Values:
    """Replay the evolution: its state is kept by Optuna as a pickle, which no file of ours holds."""
    optuna = quiet_optuna()
    space = {p.key: _distribution(optuna, p) for p in varied}
    study = optuna.create_study()
    for i in range(number + 1):
        study.sampler = optuna.samplers.CmaEsSampler(seed=_seed(seed, i), warn_independent_sampling=False)
        asked = study.ask(space)
        if i in past and i < number:
            study.add_trial(_frozen(optuna, varied, past[i], study.trials[asked.number].system_attrs))
    return tuple(_text(p, asked.params[p.key]) for p in varied)
