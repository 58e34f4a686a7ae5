"""Suggested values are a pure function, and what Optuna itself suggests in one study that nothing interrupts."""

import math
import random

import optuna
import pytest

from trainer.config.sweep import OptunaSweep
from trainer.errors import ConfigError
from trainer.sweeps.definition import Definition, Values
from trainer.sweeps.suggest import Past, check_packages_of, suggest

WORDS = ["optimizer.lr=tag(log,interval(1e-4,1))", "data.batch_size=int(interval(8,64))", "model=linear,mlp"]
NUMBERS = ["optimizer.lr=tag(log,interval(1e-4,1))", "optimizer.weight_decay=interval(0,1)"]


def definition(sampler: str, words: list[str] = WORDS, seed: int = 0) -> Definition:
    return Definition.make(OptunaSweep(sampler=sampler, seed=seed), words, (), ())


def loss(values: Values) -> float:
    """A score that is best at a rate of 0.01, and depends a little on the rest."""
    return (math.log10(float(values[0])) + 2) ** 2 + 0.01 * len(values[-1]) + 0.001 * float(values[1])


def work_off(searched: Definition, count: int, past: dict[int, Past] | None = None) -> dict[int, Past]:
    past = dict(past or {})
    for number in range(len(past), count):
        values = suggest(searched, number, past)
        past[number] = Past(values, loss(values))
    return past


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "gp", "qmc", "random"])
def test_a_suggestion_depends_on_the_past_alone(sampler: str) -> None:
    searched = definition(sampler)
    past = work_off(searched, 12)
    assert work_off(searched, 12, {i: past[i] for i in range(7)}) == past, "killed after seven, it goes on the same way"
    assert work_off(definition(sampler, seed=1), 3) != work_off(searched, 3)
    for known in past.values():
        rate, batch, model = known.values
        assert 1e-4 <= float(rate) <= 1
        assert 8 <= int(batch) <= 64
        assert model in ("linear", "mlp")
    assert len({known.values for known in past.values()}) > 8


@pytest.mark.parametrize("sampler", ["tpe", *(pytest.param(name, marks=pytest.mark.full) for name in ("cmaes", "gp"))])
def test_the_suggestions_get_better(sampler: str) -> None:
    past = work_off(definition(sampler, NUMBERS), 40)
    costs = [known.cost or 0.0 for known in past.values()]
    assert sum(costs[-10:]) < 0.5 * sum(costs[:10])


def test_they_are_those_of_one_study_of_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    searched = definition("tpe", NUMBERS)
    study, past = optuna.create_study(), {}
    distributions = {
        "optimizer.lr": optuna.distributions.FloatDistribution(1e-4, 1, log=True),
        "optimizer.weight_decay": optuna.distributions.FloatDistribution(0, 1),
    }
    for number in range(25):
        seed = random.Random(f"0 {number} sampler").getrandbits(31)
        study.sampler = optuna.samplers.TPESampler(seed=seed)
        trial = study.ask(distributions)
        values = suggest(searched, number, past)
        expected = tuple(trial.params.values())
        assert [float(value) for value in values] == pytest.approx(expected, rel=2e-2), number
        past[number] = Past(values, loss(values))
        study.tell(trial, loss(tuple(map(str, expected))))


def test_points_of_sobol_fill_the_space_evenly() -> None:
    found = [suggest(definition("qmc", NUMBERS), i, {}) for i in range(16)]
    decades = [int(math.log10(float(rate)) // 1) for rate, _ in found]
    assert all(decades.count(decade) == 4 for decade in (-4, -3, -2, -1))


def test_failed_and_running_settings_are_no_obstacle() -> None:
    searched = definition("tpe")
    past = work_off(searched, 12)
    past[3] = Past(past[3].values, None)
    past[11] = Past(past[11].values, None, running=True)
    del past[5]
    assert suggest(searched, 12, past) == suggest(searched, 12, past)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cmaes" else found(name))
    with pytest.raises(
        ConfigError, match=r"sweep.sampler=cmaes needs the package cmaes: pip install 'trainer\[optuna\]'"
    ):
        check_packages_of(OptunaSweep(sampler="cmaes"))
    check_packages_of(OptunaSweep(sampler="tpe"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"pruner": "asha", "seeds": 2}, "compares single trials"),
        ({"metric": ["loss", "accuracy"]}, "improves one score"),
    ],
)
def test_what_does_not_go_together_is_refused(keys: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OptunaSweep(**keys)
