"""Every schedule against its counterpart in torch, stepped once per optimizer step."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.optim import SGD, Optimizer, lr_scheduler

from trainer.config import scheduler as config
from trainer.config import scheduler_phases as phases
from trainer.config.durations import RunLength
from trainer.config.section import key
from trainer.errors import ConfigError
from trainer.optim.schedules import Schedule
from trainer.runs.build import build_schedule

BASE = 0.3
Counterpart = Callable[[Optimizer], Any]

pytestmark = pytest.mark.filterwarnings(
    "ignore:The epoch parameter:UserWarning", "ignore:.*lr_scheduler.step:UserWarning"
)


def _optimizer(base: float = BASE) -> SGD:
    return SGD([torch.zeros(1, requires_grad=True)], lr=base)


def _theirs(make: Counterpart, steps: int, base: float = BASE) -> list[float]:
    """The rate of each of the first `steps` optimizer steps under a scheduler of torch."""
    optimizer = _optimizer(base)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def _ours(schedule: Schedule, steps: int, base: float = BASE) -> list[float]:
    return [schedule(step, base) for step in range(steps)]


def _close(rates: list[float]) -> Any:
    return pytest.approx(rates, rel=1e-9, abs=1e-12)


PAIRS: list[tuple[str, config.SchedulerConfig, Callable[[int], Counterpart]]] = [
    ("constant", config.ConstantLR(), lambda n: lambda o: lr_scheduler.LambdaLR(o, lambda _: 1.0)),
    ("cosine", config.CosineLR(), lambda n: lambda o: lr_scheduler.CosineAnnealingLR(o, n)),
    ("cosine to 0.01", config.CosineLR(eta_min=0.01), lambda n: lambda o: lr_scheduler.CosineAnnealingLR(o, n, 0.01)),
    ("step 7", config.StepLR(step_size="7"), lambda n: lambda o: lr_scheduler.StepLR(o, 7)),
    ("step 1", config.StepLR(step_size="1", gamma=0.9), lambda n: lambda o: lr_scheduler.StepLR(o, 1, 0.9)),
    ("multistep", config.MultiStepLR(milestones=["3", "11", "11"], gamma=0.5),
     lambda n: lambda o: lr_scheduler.MultiStepLR(o, [3, 11, 11], 0.5)),
    ("multistep unsorted", config.MultiStepLR(milestones=["11", "3"]),
     lambda n: lambda o: lr_scheduler.MultiStepLR(o, [11, 3])),
    ("no milestones", config.MultiStepLR(milestones=[]), lambda n: lambda o: lr_scheduler.MultiStepLR(o, [])),
    ("exponential", config.ExponentialLR(gamma=0.9, period="1"),
     lambda n: lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
    ("exponential up", config.ExponentialLR(gamma=1.1, period="1"),
     lambda n: lambda o: lr_scheduler.ExponentialLR(o, 1.1)),
    ("linear", config.LinearLR(), lambda n: lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, n)),
    ("linear up over 9", config.LinearLR(start_factor=0.1, end_factor=0.8, total="9"),
     lambda n: lambda o: lr_scheduler.LinearLR(o, 0.1, 0.8, 9)),
    ("polynomial", config.PolynomialLR(power=2.0), lambda n: lambda o: lr_scheduler.PolynomialLR(o, n, 2.0)),
    ("polynomial over 9", config.PolynomialLR(power=0.5, total="9"),
     lambda n: lambda o: lr_scheduler.PolynomialLR(o, 9, 0.5)),
    ("onecycle", phases.OneCycleLR(),
     lambda n: lambda o: lr_scheduler.OneCycleLR(o, BASE, total_steps=n, cycle_momentum=False)),
    ("onecycle linear", phases.OneCycleLR(anneal="linear", pct_start=0.5, div_factor=10, final_div_factor=100),
     lambda n: lambda o: lr_scheduler.OneCycleLR(
         o, BASE, total_steps=n, cycle_momentum=False, anneal_strategy="linear",
         pct_start=0.5, div_factor=10, final_div_factor=100)),
    ("onecycle early peak", phases.OneCycleLR(pct_start=0.17, div_factor=3),
     lambda n: lambda o: lr_scheduler.OneCycleLR(
         o, BASE, total_steps=n, cycle_momentum=False, pct_start=0.17, div_factor=3)),
    ("restarts", phases.CosineRestartsLR(t_0="7", eta_min=0.01),
     lambda n: lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 7, 1, 0.01)),
    ("longer restarts", phases.CosineRestartsLR(t_0="3", t_mult=3),
     lambda n: lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 3)),
    ("cyclic", phases.CyclicLR(step_size_up="5"),
     lambda n: lambda o: lr_scheduler.CyclicLR(o, BASE / 4, BASE, 5, cycle_momentum=False)),
    ("cyclic halving", phases.CyclicLR(step_size_up="3", step_size_down="8", mode="triangular2", div_factor=10),
     lambda n: lambda o: lr_scheduler.CyclicLR(o, BASE / 10, BASE, 3, 8, "triangular2", cycle_momentum=False)),
    ("cyclic shrinking", phases.CyclicLR(step_size_up="9", step_size_down="2", mode="exp_range", gamma=0.97),
     lambda n: lambda o: lr_scheduler.CyclicLR(o, BASE / 4, BASE, 9, 2, "exp_range", 0.97, cycle_momentum=False)),
]  # fmt: skip
NAMED = [pytest.param(ours, theirs, id=name) for name, ours, theirs in PAIRS]
# OneCycleLR and CyclicLR write over the rate that the rise before them starts from, so neither can be in a sequence.
SEQUENCED = [pytest.param(ours, theirs, id=name) for name, ours, theirs in PAIRS if "cycl" not in name]


@pytest.mark.parametrize("total", [10, 37, 200])
@pytest.mark.parametrize(("scheduler", "counterpart"), NAMED)
def test_a_schedule_equals_its_counterpart_in_torch(
    scheduler: config.SchedulerConfig, counterpart: Callable[[int], Counterpart], total: int
) -> None:
    schedule = build_schedule(scheduler, RunLength(steps_per_epoch=10, total=total))
    assert _ours(schedule, total) == _close(_theirs(counterpart(total), total))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("warmup", [1, 2, 13])
@pytest.mark.parametrize(("scheduler", "counterpart"), SEQUENCED)
def test_warmup_equals_a_sequence_with_a_linear_rise(
    scheduler: config.SchedulerConfig, counterpart: Callable[[int], Counterpart], warmup: int
) -> None:
    total = 60

    def sequence(optimizer: Optimizer) -> lr_scheduler.SequentialLR:
        rise = lr_scheduler.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)
        rest = counterpart(total - warmup)(optimizer)
        return lr_scheduler.SequentialLR(optimizer, [rise, rest], milestones=[warmup])

    warm = type(scheduler)(**{**vars(scheduler), "warmup": str(warmup)})
    schedule = build_schedule(warm, RunLength(steps_per_epoch=10, total=total))
    assert _ours(schedule, total) == _close(_theirs(sequence, total))


@pytest.mark.parametrize("warmup", [1, 2, 13])
@pytest.mark.parametrize(("scheduler", "counterpart"), NAMED)
def test_after_the_warmup_a_schedule_is_that_of_a_run_without_one(
    scheduler: config.SchedulerConfig, counterpart: Callable[[int], Counterpart], warmup: int
) -> None:
    warm = type(scheduler)(**{**vars(scheduler), "warmup": str(warmup)})
    rates = _ours(build_schedule(warm, RunLength(steps_per_epoch=10, total=60)), 60)
    assert rates[:warmup] == _close([BASE * (step + 1) / warmup for step in range(warmup)])
    assert rates[warmup:] == _close(_theirs(counterpart(60 - warmup), 60 - warmup))


PER_EPOCH: list[tuple[config.SchedulerConfig, Callable[[int], Counterpart]]] = [
    (config.CosineLR(interval="epoch", eta_min=0.01), lambda n: lambda o: lr_scheduler.CosineAnnealingLR(o, n, 0.01)),
    (config.StepLR(interval="epoch", step_size="2ep"), lambda n: lambda o: lr_scheduler.StepLR(o, 2)),
    (config.MultiStepLR(interval="epoch", milestones=["1ep", "4ep"]),
     lambda n: lambda o: lr_scheduler.MultiStepLR(o, [1, 4])),
    (config.ExponentialLR(interval="epoch", gamma=0.5), lambda n: lambda o: lr_scheduler.ExponentialLR(o, 0.5)),
    (config.LinearLR(interval="epoch"), lambda n: lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, n)),
    (config.PolynomialLR(interval="epoch", power=3), lambda n: lambda o: lr_scheduler.PolynomialLR(o, n, 3.0)),
]  # fmt: skip


@pytest.mark.parametrize(("scheduler", "counterpart"), PER_EPOCH, ids=lambda value: getattr(value, "option", ""))
def test_a_schedule_by_epochs_equals_its_counterpart_stepped_once_an_epoch(
    scheduler: config.SchedulerConfig, counterpart: Callable[[int], Counterpart]
) -> None:
    epochs, per_epoch = 6, 7
    schedule = build_schedule(scheduler, RunLength(per_epoch, epochs * per_epoch))
    expected = [rate for rate in _theirs(counterpart(epochs), epochs) for _ in range(per_epoch)]
    assert _ours(schedule, epochs * per_epoch) == _close(expected)


def test_an_interval_of_epochs_counts_from_the_end_of_the_warmup() -> None:
    schedule = build_schedule(config.ExponentialLR(interval="epoch", gamma=0.5, warmup="3"), RunLength(10, 50))
    assert _ours(schedule, 25) == _close(
        [BASE / 3, BASE * 2 / 3, BASE] + [BASE] * 10 + [BASE / 2] * 10 + [BASE / 4] * 2
    )


@pytest.mark.parametrize(
    ("typed", "in_steps"),
    [
        (config.StepLR(step_size="2ep"), config.StepLR(step_size="20")),
        (config.StepLR(step_size="30%"), config.StepLR(step_size="24")),
        (config.MultiStepLR(milestones=["50%", "6ep"]), config.MultiStepLR(milestones=["40", "60"])),
        (config.CosineLR(t_max="50%"), config.CosineLR(t_max="40")),
        (config.LinearLR(total="4ep"), config.LinearLR(total="40")),
        (config.PolynomialLR(total="25%"), config.PolynomialLR(total="20")),
        (config.ExponentialLR(gamma=0.5, period="3ep"), config.ExponentialLR(gamma=0.5 ** (1 / 30), period="1")),
        (config.CosineLR(warmup="1ep"), config.CosineLR(warmup="10")),
        (phases.CosineRestartsLR(t_0="1ep"), phases.CosineRestartsLR(t_0="10")),
        (phases.CyclicLR(step_size_up="5%"), phases.CyclicLR(step_size_up="4")),
        (phases.CyclicLR(step_size_down="1ep"), phases.CyclicLR(step_size_up="20", step_size_down="10")),
        (config.InverseSqrtLR(), config.InverseSqrtLR(warmup="4")),
        (phases.TrapezoidLR(decay="1ep"), phases.TrapezoidLR(decay="10", warmup="4")),
        (config.ConstantLR(warmup="5%"), config.ConstantLR(warmup="4")),
        (config.ConstantLR(warmup="0.5ep"), config.ConstantLR(warmup="5")),
    ],
)
def test_durations_in_epochs_and_per_cent(typed: config.SchedulerConfig, in_steps: config.SchedulerConfig) -> None:
    clock = RunLength(steps_per_epoch=10, total=80)
    assert _ours(build_schedule(typed, clock), 80) == _close(_ours(build_schedule(in_steps, clock), 80))
    assert len(set(_ours(build_schedule(typed, clock), 80))) > 1


@pytest.mark.parametrize(
    "scheduler", [config.CosineLR(t_max="10", eta_min=0.02), config.LinearLR(total="10", end_factor=0.02 / BASE)]
)
def test_a_descent_that_ends_early_stays_at_the_bottom(scheduler: config.SchedulerConfig) -> None:
    schedule = build_schedule(scheduler, RunLength(steps_per_epoch=10, total=40))
    assert _ours(schedule, 40)[10:] == _close([0.02] * 30)


def test_a_bottom_above_the_rate_does_not_raise_it() -> None:
    schedule = build_schedule(config.CosineLR(eta_min=1.0), RunLength(10, 20))
    assert _ours(schedule, 20) == _close([BASE] * 20)


@pytest.mark.parametrize("total", [1, 2, 3, 4])
@pytest.mark.parametrize("option", [ours for _, ours, _ in PAIRS], ids=[name for name, _, _ in PAIRS])
def test_the_shortest_runs_have_finite_rates_not_above_the_peak(option: config.SchedulerConfig, total: int) -> None:
    rates = _ours(build_schedule(option, RunLength(1, total)), total + 5)
    growth = 1.1 ** (total + 5)  # of the exponential with gamma 1.1
    assert all(math.isfinite(rate) and 0 <= rate <= BASE * growth for rate in rates)


@pytest.mark.parametrize(("warmup", "total"), [("10", 10), ("11", 10), ("1ep", 10), ("100%", 50), ("3ep", 25)])
def test_a_warmup_that_leaves_nothing_of_the_run_is_refused(warmup: str, total: int) -> None:
    with pytest.raises(ConfigError, match=rf"^scheduler\.warmup={warmup} is \d+ steps, but the run has only {total}"):
        build_schedule(config.CosineLR(warmup=warmup), RunLength(steps_per_epoch=10, total=total))


def test_a_warmup_of_all_but_one_step_is_allowed() -> None:
    assert _ours(build_schedule(config.CosineLR(warmup="9"), RunLength(10, 10)), 10)[-2:] == _close([BASE, BASE])


@pytest.mark.parametrize(
    ("option", "name"),
    [
        (config.ConstantLR, "warmup"),
        (config.CosineLR, "t_max"),
        (config.StepLR, "step_size"),
        (config.LinearLR, "total"),
    ],
)
def test_a_duration_in_minutes_is_refused(option: type[config.SchedulerConfig], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^scheduler\.{name}=5min: not a duration"):
        option(**{name: "5min"})


@pytest.mark.parametrize(
    "option", [config.CosineLR(t_max="0"), config.MultiStepLR(milestones=["5", "0%"]), config.StepLR(step_size="0ep")]
)
def test_a_part_of_a_schedule_without_length_is_refused(option: config.SchedulerConfig) -> None:
    with pytest.raises(ConfigError, match=r"^scheduler\.\w+=0(%|ep)?: a part of a schedule takes at least one step"):
        build_schedule(option, RunLength(10, 40))


def test_rates_are_set_on_every_group_from_its_own_rate() -> None:
    parameters = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    optimizer = SGD([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.02}], lr=0.2)
    schedule = build_schedule(config.LinearLR(), RunLength(10, 10))
    for step in (0, 5, 9, 5):
        assert schedule.apply(optimizer, step) == pytest.approx(0.2 * (1 - step / 10))
        assert [group["lr"] for group in optimizer.param_groups] == _close(
            [0.2 * (1 - step / 10), 0.02 * (1 - step / 10)]
        )


# Long runs


@pytest.mark.parametrize(
    "name", ["restarts", "longer restarts", "cyclic", "cyclic halving", "cyclic shrinking", "cosine", "onecycle"]
)
def test_a_schedule_equals_its_counterpart_over_thousands_of_steps(name: str) -> None:
    [(scheduler, counterpart)] = [(ours, theirs) for other, ours, theirs in PAIRS if other == name]
    schedule = build_schedule(scheduler, RunLength(steps_per_epoch=100, total=5000))
    assert _ours(schedule, 5000) == _close(_theirs(counterpart(5000), 5000))


@pytest.mark.parametrize("warmup", [1, 40, 4000])
def test_inverse_sqrt_is_the_formula_of_the_paper(warmup: int) -> None:
    """Vaswani et al. 2017, equation 3, for the width whose peak is ours: min(n^-0.5, n · warmup^-1.5)."""
    schedule = build_schedule(config.InverseSqrtLR(warmup=str(warmup)), RunLength(100, 10_000))
    peak = warmup**-0.5
    expected = [BASE / peak * min(n**-0.5, n * warmup**-1.5) for n in range(1, 10_001)]
    assert _ours(schedule, 10_000) == _close(expected)


def test_inverse_sqrt_without_a_warmup_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^scheduler\.warmup=0: scheduler=inverse_sqrt .* needs one, such as 5%"):
        build_schedule(config.InverseSqrtLR(warmup="0"), RunLength(10, 40))


@pytest.mark.parametrize(
    ("shape", "counterpart"),
    [
        ("linear", lambda o, n: lr_scheduler.LinearLR(o, 1.0, 0.0, n)),
        ("cosine", lr_scheduler.CosineAnnealingLR),
        ("sqrt", lambda o, n: lr_scheduler.LambdaLR(o, lambda step: 1 - math.sqrt(step / n))),
    ],
)
@pytest.mark.parametrize(("warmup", "decay"), [(1, 1000), (250, 1000), (100, 4900), (250, 1)])
def test_a_trapezoid_is_a_rise_a_constant_and_a_decay(
    shape: str, counterpart: Callable[[Optimizer, int], Any], warmup: int, decay: int
) -> None:
    total = 5000

    def sequence(optimizer: Optimizer) -> lr_scheduler.SequentialLR:
        rise = lr_scheduler.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)
        flat = lr_scheduler.ConstantLR(optimizer, factor=1.0)
        parts = [rise, flat, counterpart(optimizer, decay)]
        return lr_scheduler.SequentialLR(optimizer, parts, milestones=[warmup, total - decay])

    scheduler = phases.TrapezoidLR(warmup=str(warmup), decay=str(decay), shape=shape)
    schedule = build_schedule(scheduler, RunLength(100, total))
    assert _ours(schedule, total) == _close(_theirs(sequence, total))
    assert schedule(total, BASE) == pytest.approx(0, abs=1e-12)


def test_a_trapezoid_by_default_rises_for_5_and_falls_for_20_per_cent_to_the_end_factor() -> None:
    rates = _ours(build_schedule(phases.TrapezoidLR(end_factor=0.1, shape="linear"), RunLength(10, 200)), 201)
    assert rates[:10] == _close([BASE * (step + 1) / 10 for step in range(10)])
    assert rates[10:161] == _close([BASE] * 151)
    assert (rates[180], rates[200]) == _close((BASE * 0.55, BASE * 0.1))


def test_a_decay_longer_than_what_the_warmup_leaves_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^scheduler\.decay=96% is 96 steps, but the warm-up leaves only 95"):
        build_schedule(phases.TrapezoidLR(decay="96%"), RunLength(10, 100))


# The schedule with a memory

PLATEAUS = [
    {"factor": 0.5, "patience": 2},
    {"factor": 0.1, "patience": 0, "min_lr": 1e-3},
    {"factor": 0.5, "patience": 1, "cooldown": 3},
    {"factor": 0.9, "patience": 3, "threshold": 0.05, "cooldown": 1},
    {"factor": 0.5, "patience": 1, "threshold": 0.0, "min_lr": 0.05},
    {"factor": 0.5, "patience": 1, "min_lr": 0.9},
]


def _scores(seed: int, mode: str, length: int = 120) -> list[float]:
    """A noisy series of positive scores that first improves and then does not."""
    draw = random.Random(seed)
    falling = [max(0.2, 1 - i / 60) * draw.uniform(0.9, 1.1) for i in range(length)]
    return falling if mode == "min" else [1.2 - score for score in falling]


def _plateau_rates(values: dict[str, Any], scores: list[float], mode: str) -> tuple[list[float], list[float]]:
    """Ours and torch's, after each of the scores."""
    optimizer = _optimizer()
    theirs = lr_scheduler.ReduceLROnPlateau(optimizer, mode, **values)  # type: ignore[arg-type]
    schedule = build_schedule(config.PlateauLR(**values), RunLength(10, 10_000))
    rates: tuple[list[float], list[float]] = ([], [])
    for step, score in enumerate(scores):
        schedule.observe(score, mode)
        theirs.step(score)
        rates[0].append(schedule(step, BASE))
        rates[1].append(optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("values", PLATEAUS, ids=str)
def test_plateau_equals_torch_on_a_random_series(values: dict[str, Any], mode: str, seed: int) -> None:
    ours, theirs = _plateau_rates(values, _scores(seed, mode), mode)
    # torch ignores a drop of less than 1e-8; before that they are the same.
    comparable = [i for i, rate in enumerate(theirs) if rate > 1e-6]
    assert [ours[i] for i in comparable] == pytest.approx([theirs[i] for i in comparable], rel=1e-9)
    assert (len(set(theirs)) > 1) == (values.get("min_lr", 0) < BASE)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("start", [0, 3])
def test_a_score_that_is_no_number_is_no_improvement(start: int, mode: str) -> None:
    scores = _scores(5, mode)
    scores[start : start + 2] = [math.nan, math.nan]
    ours, theirs = _plateau_rates({"factor": 0.5, "patience": 4}, scores, mode)
    assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_constant_negative_score_is_no_improvement(mode: str) -> None:
    schedule = build_schedule(config.PlateauLR(factor=0.5, patience=1), RunLength(10, 100))
    for _ in range(5):
        schedule.observe(-1.0, mode)
    assert schedule(5, BASE) == pytest.approx(BASE / 4)


def test_a_drop_lasts_through_the_steps_that_follow_and_the_warmup_is_not_touched() -> None:
    schedule = build_schedule(config.PlateauLR(factor=0.5, patience=0, warmup="4"), RunLength(10, 100))
    schedule.observe(1.0, "min")
    schedule.observe(2.0, "min")
    assert _ours(schedule, 6) == _close([BASE / 4, BASE / 2, BASE * 3 / 4, BASE, BASE / 2, BASE / 2])


@pytest.mark.parametrize("values", PLATEAUS, ids=str)
def test_the_state_of_a_plateau_survives_saving_and_loading(values: dict[str, Any]) -> None:
    scores = _scores(7, "min")
    whole, first, second = (build_schedule(config.PlateauLR(**values), RunLength(10, 10_000)) for _ in range(3))
    for score in scores[:50]:
        whole.observe(score, "min")
        first.observe(score, "min")
    state = first.state_dict()
    assert all(value is None or isinstance(value, (int, float)) for value in state.values())
    second.load_state_dict(state)
    for score in scores[50:]:
        whole.observe(score, "min")
        second.observe(score, "min")
        assert second(10, BASE) == whole(10, BASE)
    assert second.state_dict() == whole.state_dict()


def test_the_memory_of_a_plateau_has_the_names_that_checkpoints_of_earlier_versions_have() -> None:
    schedule = build_schedule(config.PlateauLR(factor=0.5, patience=2, cooldown=4), RunLength(10, 100))
    saved = {"factor": 0.25, "best": 0.7, "bad": 2, "cooldown": 0}
    schedule.load_state_dict(saved)
    assert schedule.state_dict() == saved
    schedule.observe(0.9, "min")
    assert schedule.state_dict() == {"factor": 0.125, "best": 0.7, "bad": 0, "cooldown": 4}
    assert schedule(5, BASE) == BASE / 8
    for name, value in (("factor", None), ("bad", "3"), ("best", [1.0])):
        with pytest.raises(ValueError, match=f"the plateau's {name} is"):
            schedule.load_state_dict(saved | {name: value})


def test_the_pure_schedules_have_no_state() -> None:
    schedule = build_schedule(config.CosineLR(), RunLength(10, 100))
    before = _ours(schedule, 100)
    schedule.observe(1.0, "min")
    assert schedule.state_dict() == {}
    schedule.load_state_dict({"factor": 0.5, "best": 0.7, "bad": 2, "cooldown": 0})  # the run had a plateau before
    assert _ours(schedule, 100) == before


# Schedules of plug-ins


@dataclass
class Harmonic(config.SchedulerConfig):
    """The rate over 1 + t / period."""

    period: str = key("1ep", "the duration after which the rate is halved", duration=True, wall_clock=False)

    def formula(self, run: RunLength) -> config.Formula:
        period = run.span(self.period, "scheduler.period")
        return lambda step, base: base / (1 + step / period)


@dataclass
class Forgotten(config.SchedulerConfig):
    """Keys, and nothing else."""

    section, option = "scheduler", "forgotten"


@dataclass
class Built(config.SchedulerConfig):
    """Makes its schedule itself."""

    def build(self, run: RunLength) -> Schedule:
        return Schedule(lambda step, base: base * run.total, interval=run.steps_per_epoch)


def test_a_schedule_of_a_plugin_is_its_keys_and_its_formula() -> None:
    schedule = build_schedule(Harmonic(warmup="2"), RunLength(4, 20))
    assert _ours(schedule, 7) == _close([BASE / 2, BASE, BASE, BASE / 1.25, BASE / 1.5, BASE / 1.75, BASE / 2])


def test_a_schedule_without_a_formula_is_refused_and_never_constant() -> None:
    with pytest.raises(ConfigError, match=r"^scheduler=forgotten: .*\.Forgotten has no method formula\(self, run\)"):
        build_schedule(Forgotten(), RunLength(4, 20))


def test_a_formula_that_is_none_is_refused_before_the_first_step() -> None:
    @dataclass
    class Unreturned(config.SchedulerConfig):
        section, option = "scheduler", "unreturned"

        def formula(self, run: RunLength) -> config.Formula:  # type: ignore[return]
            run.span("1ep", "scheduler.period")

    with pytest.raises(ConfigError, match=r"^scheduler=unreturned: formula\(self, run\) gave None"):
        build_schedule(Unreturned(), RunLength(4, 20))


def test_a_plugin_may_build_its_schedule_itself() -> None:
    assert build_schedule(Built(), RunLength(4, 20))(5, BASE) == 20 * BASE
