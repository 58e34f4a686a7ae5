"""Which trials a sweep has: a pure function of what is typed and the number, checked before the first one starts."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config.sweep import RandomSweep
from trainer.errors import ConfigError
from trainer.sweeps.definition import Definition, check_trials

RATES = "optimizer.lr=1e-1,1e-2,1e-3"


def trials(*overrides: str, config_dirs: tuple[Path, ...] = ()) -> list[list[str]]:
    """The overrides of each trial."""
    definition = Definition.of(overrides, (), config_dirs)
    return [definition.overrides(i, definition.values(i)) for i in range(definition.count)]


def varied(*overrides: str, config_dirs: tuple[Path, ...] = ()) -> list[tuple[str, ...]]:
    definition = Definition.of(overrides, (), config_dirs)
    return [definition.values(i) for i in range(definition.count)]


def test_a_grid_is_every_combination_with_the_last_key_fastest() -> None:
    assert trials(RATES, "model=linear", "seed=range(0,2)") == [
        ["model=linear", f"optimizer.lr={lr}", f"seed={seed}"]
        for lr, seed in itertools.product(("0.1", "0.01", "0.001"), (0, 1))
    ]


def test_lists_zip_together() -> None:
    assert varied(RATES, "model=linear,mlp,cnn", "sweep=zip") == [("0.1", "linear"), ("0.01", "mlp"), ("0.001", "cnn")]
    with pytest.raises(ConfigError, match=r"optimizer.lr has 3, model has 2"):
        varied(RATES, "model=linear,mlp", "sweep=zip")


def test_every_spelling_of_values_is_understood() -> None:
    assert varied("optimizer=glob(ada*,exclude=adamw)")[:3] == [("adadelta",), ("adafactor",), ("adagrad",)]
    assert ("adamw",) not in varied("optimizer=glob(ada*,exclude=adamw)")
    assert varied("optimizer.lr=choice(0.1,0.2)") == [("0.1",), ("0.2",)]
    assert varied("optimizer.lr=range(0.1,0.4,0.1)") == [("0.1",), ("0.2",), ("0.3",)]
    assert varied("model=mlp", "model.hidden=[4],[8,4]") == [("[4]",), ("[8,4]",)]
    assert varied("optimizer.lr=tag(log,choice(0.1,0.2))") == [("0.1",), ("0.2",)]


def test_shuffled_values_are_a_function_of_the_seed() -> None:
    words = "optimizer.lr=shuffle(range(1,30))"
    first = varied(words)
    assert first == varied(words)
    assert first != varied(words, "sweep.seed=1")
    assert sorted(first) == sorted((str(i),) for i in range(1, 30)) != first


@given(number=st.integers(0, 10_000), seed=st.integers(0, 5))
def test_a_random_trial_depends_on_its_number_alone(number: int, seed: int) -> None:
    words = ["optimizer.lr=tag(log,interval(1e-4,1e-1))", "data.batch_size=int(interval(8,4000))", "model=linear,mlp"]
    values = Definition.make(RandomSweep(trials=20_000, seed=seed), words, (), ()).values(number)
    assert values == Definition.make(RandomSweep(trials=10_001, seed=seed, jobs="2"), words, (), ()).values(number)
    rate, batch, model = values
    assert 1e-4 <= float(rate) <= 1e-1
    assert 8 <= int(batch) <= 4000
    assert model in ("linear", "mlp")


def test_a_random_search_of_lists_repeats_nothing() -> None:
    found = varied(RATES, "seed=range(0,5)", "data.batch_size=int(interval(8,11))", "sweep=random", "sweep.trials=60")
    assert len(set(found)) == 60
    assert found[:7] == varied(
        RATES, "seed=range(0,5)", "data.batch_size=int(interval(8,11))", "sweep=random", "sweep.trials=7"
    )
    with pytest.raises(ConfigError, match="these lists have 3 combinations"):
        varied(RATES, "sweep=random", "sweep.trials=4")


def test_a_logarithmic_interval_is_drawn_in_the_logarithm() -> None:
    found = varied("optimizer.lr=tag(log,interval(1e-6,1))", "sweep=random", "sweep.trials=400")
    assert 150 < sum(float(value) < 1e-3 for (value,) in found) < 250


def test_each_setting_gets_several_seeds_from_the_configs_own() -> None:
    assert [t[-1] for t in trials("optimizer.lr=0.1,0.2", "sweep.seeds=3", "seed=5")] == [
        "seed=5",
        "seed=6",
        "seed=7",
    ] * 2
    definition = Definition.of(["optimizer.lr=0.1,0.2", "sweep.seeds=2"])
    assert definition.keys == ["optimizer.lr", "seed"]
    assert [definition.setting(i) for i in range(definition.count)] == [0, 0, 1, 1]
    with pytest.raises(ConfigError, match=r"sweep.seeds=2 and seed=... both vary the seed"):
        trials("seed=0,1", "sweep.seeds=2")


def test_an_experiment_can_hold_a_sweep_and_what_is_typed_wins(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /sweep: random\nsweep:\n  trials: 4\n  params:\n"
        "    optimizer.lr: tag(log, interval(1e-3, 1e-1))\n    data.batch_size: [16, 32]\n"
    )
    found = varied("experiment=mine", "data.batch_size=8", config_dirs=(tmp_path,))
    assert len(found) == 4
    assert all(1e-3 <= float(rate) <= 1e-1 for (rate,) in found)
    found = varied("experiment=mine", "sweep.trials=20", config_dirs=(tmp_path,))
    assert len(found) == 20
    assert {batch for _, batch in found} == {"16", "32"}


def test_the_ranking_score_is_what_decides_in_each_trial() -> None:
    assert all(t[0] == "trainer.monitor=val/loss" for t in trials("optimizer.lr=0.1,0.2", "sweep.metric=loss"))
    assert trials("seed=0,1", "sweep.metric=loss", "trainer.monitor=val/f1")[0] == ["trainer.monitor=val/f1", "seed=0"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("optimizer.lr=interval(0.001,0.1)", "add sweep=random or sweep=optuna"),
        ("optimizer.lr=interval(0.1,0.001)", "from a smaller number to a larger one"),
        ("sweep=random optimizer.lr=tag(log,interval(0,1))", "must begin above 0"),
        ("sweep=random optimizer.lr=interval(-1,0.1)", r"optimizer.lr=-1.0: must be > 0"),
        ("sweep=optuna optimizer.lr=interval(0.1,1) model=linear,cnnn", "Did you mean 'cnn'"),
        ("optimizer.lr=0.1 optimizer.lr=0.2,0.3", "optimizer.lr is given twice"),
        ("optimizer.lr=0.1,0.10", "Trials 0 and 1 have the same config"),
        ("trainer.monitor=val/loss,val/accuracy", "sweep.metric=val/loss"),
        ("model=glob(zz*)", "there is no such value"),
        ("optimizer.lr=glob(a*)", "chooses among the options of a group"),
        ("seed=range(0,10000000)", "more than 100,000 values"),
        ("seed=range(0,9999) optimizer.lr=range(1,99)", "trials are more than"),
        ("resume=last,best", "resume= cannot be swept over"),
        ("resume=last seed=0,1", "resume= cannot be given to a sweep"),
        ("sweep.jobs=1,2 seed=0,1", "cannot be swept over"),
        ("sweep.jobs=many seed=0,1", "must be auto or a number"),
        ("sweep.trial_max_time=5ep seed=0,1", "must be a wall-clock time"),
        ("sweep.trails=3 seed=0,1", "Did you mean 'sweep.trials'"),
        ("sweep=optuna", "nothing varies"),
        ("sweep=optuna sweep.pruner=median seed=0,1 logger=[console]", "add files to the key logger"),
        ("hydra/launcher=joblib seed=0,1", "sweep.engine and sweep.jobs say"),
        ("+hydra.sweeper.params.seed=0,1", "sweep.trials, sweep.sampler"),
        ("hydra.sweep.dir=out seed=0,1", "is sweep.dir"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_before_anything_starts(words: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_trials(Definition.of(words.split()))
