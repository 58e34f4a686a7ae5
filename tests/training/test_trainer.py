"""The loop against hand-written torch: what it computes, what it records, when it stops."""

import copy
import dataclasses
import math
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer import Config, Run, Trainer, assemble
from trainer.checkpoint.store import NullStore
from trainer.config.data import DataConfig, Synthetic, SyntheticImages
from trainer.config.model import Cnn, Linear, Mlp
from trainer.config.optimizer import SGD, AdamW
from trainer.config.scheduler import ConstantLR, CosineLR, PlateauLR
from trainer.config.section import key
from trainer.config.task import Auto, Classification, Regression
from trainer.config.trainer import TrainerConfig
from trainer.data.splits import from_splits
from trainer.data.types import Batch, Split
from trainer.data.types import Data as BuiltData
from trainer.errors import TrainerError
from trainer.loggers.base import LogRecord
from trainer.system import seeds
from trainer.system.signals import SignalHandler
from trainer.training.average import average_of, ema_decay, slow_average
from trainer.training.step import StepOutput


@dataclass
class Recorder:
    """A sink that keeps what it is given, and may be told to do something with it."""

    records: list[LogRecord] = field(default_factory=list)
    then: Callable[[LogRecord], None] | None = None

    def write(self, record: LogRecord) -> None:
        self.records.append(record)
        if self.then is not None:
            self.then(record)

    def flush(self) -> None:
        pass

    def rewind(self, step: int) -> None:
        self.records = [record for record in self.records if record.step <= step]

    def close(self, summary: dict[str, Any]) -> None:
        pass

    def column(self, name: str) -> dict[int, float]:
        return {record.step: record.scalars[name] for record in self.records if name in record.scalars}


def config(seed: int = 0, **sections: Any) -> Config:
    """80 training and 20 validation samples of 6 numbers, in batches of 32 (so 32, 32, 16) unless it says otherwise."""
    parts: dict[str, Any] = {
        "model": Mlp(hidden=[12]),
        "data": Synthetic(num_samples=100, num_features=6, batch_size=32, eval_batch_size=8),
        "optimizer": SGD(lr=0.1, momentum=0.9),
        "scheduler": ConstantLR(),
        "trainer": TrainerConfig(epochs=3),
    }
    return Config(**parts | sections, seed=seed)


def regression(**sections: Any) -> Config:
    data = SyntheticImages(num_samples=100, num_classes=5, image_size=4, channels=1, batch_size=32)
    return config(**{"task": Regression(), "data": data, "optimizer": SGD(lr=0.01)} | sections)


def build(made: Config, **options: Any) -> Trainer:
    return assemble(made, **options)


def fitted(made: Config, **options: Any) -> tuple[Trainer, Recorder, str]:
    recorder = Recorder()
    trainer = build(made, **options)
    return trainer, recorder, trainer.fit([recorder])


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.state.model.parameters()])


def batches(trainer: Trainer, steps: int, start: int = 0) -> list[tuple[Tensor, Tensor]]:
    stream = trainer.train.stream(start)
    return [(batch.inputs, batch.targets) for batch, _ in zip(stream, range(steps), strict=False)]


def validation(trainer: Trainer) -> tuple[Tensor, Tensor]:
    """All samples of the validation split, without the rows that only pad."""
    parts = [(b.inputs[b.weights > 0], b.targets[b.weights > 0]) for b in trainer.val if b.weights is not None]
    return torch.cat([inputs for inputs, _ in parts]), torch.cat([targets for _, targets in parts])


@dataclass
class ByHand:
    """The loop that everybody writes: the oracle for losses, gradients and weights."""

    trainer: Trainer
    clip: float = math.inf
    class_weights: Tensor | None = None

    def __post_init__(self) -> None:
        self.model = copy.deepcopy(self.trainer.state.model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.losses: list[float] = []
        self.norms: list[float] = []

    def run(self, steps: int) -> "ByHand":
        self.model.train()
        for step, (inputs, targets) in enumerate(batches(self.trainer, steps)):
            torch.manual_seed(seeds.fold(self.trainer.context.config.seed, seeds.DROPOUT, step))
            loss = F.cross_entropy(self.model(inputs), targets, self.class_weights)
            self.optimizer.zero_grad()
            loss.backward()
            self.norms.append(math.sqrt(sum(p.grad.square().sum().item() for p in self.model.parameters())))
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
            self.losses.append(loss.item())
        return self

    def weights(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])


@pytest.mark.parametrize("model", [Mlp(hidden=[12]), Mlp(hidden=[12, 8], dropout=0.4, batch_norm=True), Linear()])
def test_losses_and_weights_are_those_of_a_hand_written_loop(model: Any) -> None:
    trainer = build(config(model=model))
    oracle = ByHand(trainer).run(9)
    losses = [report.loss.item() for report in trainer.steps()]
    assert losses == pytest.approx(oracle.losses, rel=1e-5)
    torch.testing.assert_close(weights(trainer), oracle.weights(), rtol=1e-4, atol=1e-6)


def test_a_convolutional_network_equals_the_hand_written_loop() -> None:
    data = SyntheticImages(num_samples=60, image_size=8, num_classes=3, batch_size=16, augment=True)
    trainer = build(config(model=Cnn(), data=data))
    oracle = ByHand(trainer).run(4)
    losses = [report.loss.item() for report, _ in zip(trainer.steps(), range(4), strict=False)]
    assert losses == pytest.approx(oracle.losses, rel=1e-4)


def test_a_generator_of_steps_reports_each_step_once() -> None:
    trainer = build(config())
    reports = list(trainer.steps())
    assert [report.step for report in reports] == list(range(1, 10))
    assert [report.epoch for report in reports] == [0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert trainer.state.step == 9
    assert list(trainer.steps()) == []


def test_a_run_through_steps_and_through_fit_is_the_same() -> None:
    by_steps = build(config())
    list(by_steps.steps())
    by_fit, _, reason = fitted(config())
    assert reason == "completed"
    assert torch.equal(weights(by_steps), weights(by_fit))


@pytest.mark.parametrize("task", [Auto(), Classification(class_weights=[0.3, 2.0], label_smoothing=0.1)])
@pytest.mark.parametrize("micro", [8, 5, 32, 100])
def test_micro_batches_add_up_to_the_whole_batch(task: Any, micro: int) -> None:
    whole, split = (
        build(config(task=task, trainer=TrainerConfig(epochs=3, micro_batch=size, clip_norm=1.0)))
        for size in (None, micro)
    )
    for one, other in zip(whole.steps(), split.steps(), strict=True):
        assert other.loss.item() == pytest.approx(one.loss.item(), rel=1e-5)
        assert other.grad_norm is not None
        assert one.grad_norm is not None
        assert other.grad_norm.item() == pytest.approx(one.grad_norm.item(), rel=1e-4)
    torch.testing.assert_close(weights(split), weights(whole), rtol=1e-4, atol=1e-6)


def test_micro_batches_add_up_for_regression() -> None:
    whole, split = (build(regression(trainer=TrainerConfig(epochs=3, micro_batch=size))) for size in (None, 8))
    losses = [[report.loss.item() for report in trainer.steps()] for trainer in (whole, split)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(weights(split), weights(whole), rtol=1e-4, atol=1e-6)


def test_class_weights_weigh_the_loss_as_torch_does() -> None:
    made = config(task=Classification(class_weights=[0.25, 3.0]))
    trainer = build(made)
    oracle = ByHand(trainer, class_weights=torch.tensor([0.25, 3.0])).run(9)
    assert [report.loss.item() for report in trainer.steps()] == pytest.approx(oracle.losses, rel=1e-5)


@dataclass
class Weighted(DataConfig):
    """40 rows of 6 numbers, weighted 0, 1, 2, 3 in turn; or each as often as it weighs."""

    repeated: bool = key(False, "rows instead of weights")

    def build(self, seed: int) -> BuiltData:
        inputs = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
        counts = torch.arange(40) % 4
        split = Split(inputs, (inputs.sum(1) > 0).long(), weights=counts.float())
        train = split
        if self.repeated:
            train = dataclasses.replace(split.subset(torch.arange(40).repeat_interleave(counts)), weights=None)
        return from_splits(train, split, ("no", "yes"))


@pytest.mark.parametrize("micro", [None, 7])
def test_weighted_samples_train_as_if_they_were_there_so_often(micro: int | None) -> None:
    settings = TrainerConfig(epochs=5, micro_batch=micro)
    weighted = build(config(data=Weighted(batch_size=100), trainer=settings))
    repeated = build(config(data=Weighted(batch_size=100, repeated=True), trainer=settings))
    losses = [[report.loss.item() for report in trainer.steps()] for trainer in (weighted, repeated)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(weights(weighted), weights(repeated), rtol=1e-4, atol=1e-6)


def test_validation_counts_weighted_samples_alike() -> None:
    trainer = build(config(data=Weighted(batch_size=100)))
    inputs, targets = validation(trainer)
    with torch.no_grad():
        expected = F.cross_entropy(trainer.state.model(inputs), targets).item()
    assert trainer.validate()[0]["val/loss"] == pytest.approx(expected, rel=1e-6)


def test_at_the_end_of_an_epoch_its_mean_is_recorded_and_in_between_that_since_the_last_record() -> None:
    made = config(trainer=TrainerConfig(steps=8, log_every="2", eval_every=None))
    losses = [report.loss.item() for report in build(made).steps()]
    _, recorder, _ = fitted(made)

    def mean(*steps: int) -> float:  # batches of 32, 32, 16 samples
        weights = [(32, 32, 16)[(step - 1) % 3] for step in steps]
        return sum(w * losses[s - 1] for w, s in zip(weights, steps, strict=True)) / sum(weights)

    recent = {2: mean(1, 2), 4: mean(3, 4)}
    assert recorder.column("train_recent/loss") == pytest.approx(recent, rel=1e-6)
    assert recorder.column("train/loss") == pytest.approx({6: mean(4, 5, 6), 8: mean(7, 8)}, rel=1e-6)


def test_an_epoch_whose_first_step_is_skipped_does_not_take_over_the_sums_of_the_one_before() -> None:
    made = config(trainer=TrainerConfig(steps=6, log_every=None, eval_every="1ep", on_nan="skip"))
    losses: list[float] = []
    trainer = build(made)
    plain = trainer.optimizer_step

    def stumbling(batch: Batch) -> StepOutput:
        if trainer.state.step == 3:
            batch = batch._replace(inputs=batch.inputs * math.nan)
        output = plain(batch)
        losses.append(output.loss.item())
        return output

    stumbling.deferred = False  # type: ignore[attr-defined]
    trainer.optimizer_step = stumbling  # type: ignore[assignment]
    recorder = Recorder()
    trainer.fit([recorder])
    assert math.isnan(losses[3])
    assert recorder.column("train/loss")[6] == pytest.approx((32 * losses[4] + 16 * losses[5]) / 48, rel=1e-6)


def test_averages_count_samples_and_not_batches() -> None:
    made = config(trainer=TrainerConfig(epochs=2, log_every="1ep", eval_every="1ep"))
    trainer = build(made)
    sizes = [32, 32, 16]
    losses = [report.loss.item() for report in trainer.steps()]
    _, recorder, _ = fitted(made)
    expected = [sum(n * loss for n, loss in zip(sizes, part, strict=True)) / 80 for part in (losses[:3], losses[3:])]
    assert list(recorder.column("train/loss").values()) == pytest.approx(expected, rel=1e-6)
    assert expected[0] != pytest.approx(sum(losses[:3]) / 3, rel=1e-6)


def test_training_accuracy_counts_every_sample_of_the_interval() -> None:
    made = config(optimizer=SGD(lr=1e-12), trainer=TrainerConfig(epochs=1))  # weights as good as constant
    trainer = build(made)
    hits = sum(
        (trainer.state.model(inputs).argmax(1) == targets).sum().item() for inputs, targets in batches(trainer, 3)
    )
    _, recorder, _ = fitted(made)
    assert recorder.column("train/accuracy") == {3: pytest.approx(hits / 80)}


def test_validation_scores_are_those_of_all_samples_at_once() -> None:
    trainer, recorder, _ = fitted(config(trainer=TrainerConfig(epochs=1)))
    inputs, targets = validation(trainer)
    assert len(targets) == 20  # 8 + 8 + 4 and 4 rows of padding
    with torch.no_grad():
        outputs = trainer.state.model(inputs)
    assert recorder.column("val/loss")[3] == pytest.approx(F.cross_entropy(outputs, targets).item(), rel=1e-5)
    assert recorder.column("val/accuracy")[3] == pytest.approx((outputs.argmax(1) == targets).float().mean().item())


def test_validation_runs_in_evaluation_mode_and_training_mode_returns() -> None:
    trainer = build(config(model=Mlp(hidden=[12], dropout=0.5, batch_norm=True)))
    modes: list[tuple[bool, bool]] = []
    trainer.state.model.register_forward_hook(
        lambda module, args, out: modes.append((module.training, torch.is_inference_mode_enabled()))
    )
    before = copy.deepcopy(trainer.state.model.state_dict())
    trainer.validate()
    assert modes == [(False, True)] * 3
    assert all(module.training for module in trainer.state.model.modules())
    assert all(torch.equal(value, before[name]) for name, value in trainer.state.model.state_dict().items())
    modes.clear()
    trainer.fit()
    assert modes == [*[(True, False)] * 3, *[(False, True)] * 3] * 3


@pytest.mark.parametrize("clip", [0.05, 1e9])
def test_clip_norm_bounds_the_gradient_and_records_its_length_before(clip: float) -> None:
    made = config(trainer=TrainerConfig(epochs=3, clip_norm=clip, log_every="1"))
    oracle = ByHand(build(made), clip=clip).run(9)
    trainer, recorder, _ = fitted(made)
    torch.testing.assert_close(weights(trainer), oracle.weights(), rtol=1e-4, atol=1e-6)
    assert list(recorder.column("grad_norm").values()) == pytest.approx(oracle.norms, rel=1e-4)


def test_the_recorded_grad_norm_is_the_length_of_the_gradient() -> None:
    made = config(trainer=TrainerConfig(epochs=3, log_every="2", eval_every="1ep"))
    oracle = ByHand(build(made)).run(9)
    _, recorder, _ = fitted(made)
    assert recorder.column("grad_norm") == pytest.approx({k: oracle.norms[k - 1] for k in (2, 3, 4, 6, 8, 9)}, rel=1e-4)


@pytest.mark.parametrize("warmup", [True, False])
def test_the_average_of_the_weights_is_the_one_written_by_hand(warmup: bool) -> None:
    trainer = build(config(trainer=TrainerConfig(epochs=3, ema=0.8, ema_warmup=warmup)))
    expected: Tensor | None = None
    for report in trainer.steps():
        now, decay = weights(trainer), min(0.8, 1 - report.step ** (-2 / 3)) if warmup else 0.8
        expected = now.clone() if expected is None else decay * expected + (1 - decay) * now
    averaged = torch.cat([p.flatten() for p in trainer.state.average.module.parameters()])
    torch.testing.assert_close(averaged, expected, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(averaged, weights(trainer), rtol=1e-3)


def test_raw_and_averaged_weights_are_both_validated_and_the_raw_ones_trained() -> None:
    averaged, recorder, _ = fitted(config(trainer=TrainerConfig(epochs=3, ema=0.8)))
    plain, plain_recorder, _ = fitted(config())
    assert torch.equal(weights(averaged), weights(plain))
    inputs, targets = validation(averaged)
    with torch.no_grad():
        expected = F.cross_entropy(averaged.state.average.module(inputs), targets).item()
    assert recorder.column("val_ema/loss")[9] == pytest.approx(expected, rel=1e-5)
    assert recorder.column("val/loss") == plain_recorder.column("val/loss")
    assert recorder.column("val_ema/loss")[9] != pytest.approx(recorder.column("val/loss")[9], rel=1e-4)
    assert not any(name.startswith("val_ema/") for record in plain_recorder.records for name in record.scalars)


@pytest.mark.parametrize(
    ("monitor", "name", "averaged"),
    [
        (None, "val/accuracy", "val_ema/accuracy"),
        ("loss", "val/loss", "val_ema/loss"),
        ("val/loss", "val/loss", None),
        ("val_ema/loss", "val_ema/loss", None),
    ],
)
def test_the_better_weights_decide_unless_it_is_said_which(
    monitor: str | None, name: str, averaged: str | None
) -> None:
    trainer, recorder, _ = fitted(config(trainer=TrainerConfig(epochs=4, ema=0.9, monitor=monitor)))
    assert (trainer.state.monitor.name, trainer.state.monitor.averaged) == (name, averaged)
    best = max if trainer.state.monitor.mode == "max" else min
    columns = [recorder.column(each) for each in (name, averaged) if each]
    assert trainer.state.monitor.best == best(score for column in columns for score in column.values())
    last = best(column[12] for column in columns)
    used = trainer.state.evaluated is trainer.state.average.module
    assert used == (name.startswith("val_ema") or (averaged is not None and columns[0][12] != last))
    assert trainer.state.scores[trainer.state.monitor.deciding(trainer.state.scores)] == last


def test_the_statistics_of_batch_norm_are_averaged_as_the_weights_they_belong_to() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4))
    average = average_of(model, 0.9)
    expected: Tensor | None = None
    for step in range(20):
        model(torch.randn(16, 4, generator=torch.Generator().manual_seed(step)) * (1 + step))
        average.update(model)
        now, decay = model[0].running_var.clone(), ema_decay(step, 0.9)
        expected = now if expected is None else decay * expected + (1 - decay) * now
    torch.testing.assert_close(average.module.state_dict()["0.running_var"], expected)
    assert int(average.module.state_dict()["0.num_batches_tracked"]) == 20


@pytest.mark.parametrize(("steps", "warmup", "said"), [(138, True, "0.9627"), (138, False, "99%"), (10**5, True, None)])
def test_a_run_too_short_for_its_average_is_warned_about_with_the_number(
    steps: int, warmup: bool, said: str | None
) -> None:
    warning = slow_average(0.9999, warmup, steps)
    assert warning is None if said is None else warning and said in warning and "about 10,000 steps" in warning


def test_early_stopping_stops_and_says_so() -> None:
    settings = TrainerConfig(epochs=50, patience=2, min_delta=10.0, monitor="val/loss")  # nothing is ever enough
    trainer, recorder, reason = fitted(config(trainer=settings))
    assert reason == "early stopping"
    assert trainer.state.step == 9
    assert list(recorder.column("val/loss")) == [3, 6, 9]
    assert (trainer.state.monitor.reference, trainer.state.monitor.bad) == (recorder.column("val/loss")[3], 2)


def test_max_time_stops_saves_and_says_so(tmp_path: Path) -> None:
    run = Run.at(tmp_path / "run")
    trainer, _, reason = fitted(config(trainer=TrainerConfig(steps=10**9, max_time="0.5s", keep=2)), run=run)
    assert reason == "max_time"
    assert trainer.store is not None
    assert 0.5 <= trainer.clock.seconds + trainer.store.seconds < 20  # the time of a save is left for the last one
    assert trainer.store.load()[0]["step"] == trainer.state.step > 0
    run.release()


class Watched(NullStore):
    """A store that notes what the run says it does while it saves."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look

    def save(self, *_: Any) -> None:
        self.look()


def test_at_each_moment_a_run_says_what_it_does_and_how_far_it_is() -> None:
    made = build(config(trainer=TrainerConfig(epochs=2)))
    activity, state, seen = made.context.activity, made.state, list[tuple[str, int]]()

    def look(*_: Any) -> None:
        seen.append((activity.doing, activity.step))
        assert activity.step == state.step

    made = Trainer(made.context, Watched(look))
    stream = made.train.stream
    made.train.stream = lambda start: (look() or batch for batch in stream(start))
    state.model.register_forward_hook(look)
    made.fit()
    validating = [("validating", 3)] * 3  # 20 samples in batches of 8
    steps = [[("reading", step), ("training", step)] for step in range(6)]
    assert seen == [
        ("saving", 0), *steps[0], *steps[1], *steps[2], *validating, ("saving", 3),
        *steps[3], *steps[4], *steps[5], *(("validating", 6) for _ in validating), ("saving", 6),
    ]  # fmt: skip


def test_a_signal_stops_after_the_step_and_saves(tmp_path: Path) -> None:
    run, recorder = Run.at(tmp_path / "run"), Recorder()
    with SignalHandler() as signals:
        recorder.then = lambda record: signal.raise_signal(signal.SIGTERM) if record.step == 5 else None
        settings = TrainerConfig(epochs=3, log_every="1", save_every="1ep")
        trainer = build(config(trainer=settings), run=run, signals=signals)
        assert trainer.fit([recorder]) == f"signal {int(signal.SIGTERM)}"
    assert trainer.store is not None
    assert (trainer.state.step, trainer.store.load()[0]["step"]) == (5, 5)
    run.release()


@pytest.mark.parametrize("log_every", ["1", "1000"])
def test_a_run_that_diverges_fails_and_keeps_finite_checkpoints(tmp_path: Path, log_every: str) -> None:
    run = Run.at(tmp_path / "run")
    settings = TrainerConfig(epochs=20, log_every=log_every, save_every="1")
    trainer = build(regression(optimizer=SGD(lr=1e20), trainer=settings), run=run)
    with pytest.raises(TrainerError, match=r"diverged.*optimizer\.lr"):
        trainer.fit()
    assert trainer.store is not None
    for path in trainer.store.steps():
        model = trainer.store.load(path.name)[0]["model_state_dict"]
        assert all(value.isfinite().all() for value in model.values())
    assert trainer.store.load("last")[0]["step"] <= trainer.state.step
    run.release()


def test_the_checkpoint_of_a_diverging_run_has_no_infinite_running_averages(tmp_path: Path) -> None:
    run = Run.at(tmp_path / "run")
    made = config(
        model=Mlp(hidden=[12], batch_norm=True), optimizer=SGD(lr=1e38), trainer=TrainerConfig(epochs=5, save_every="1")
    )
    trainer = build(made, run=run)
    with pytest.raises(TrainerError, match="diverged"):
        trainer.fit()
    assert trainer.store is not None
    for path in trainer.store.steps():
        model = trainer.store.load(path.name)[0]["model_state_dict"]
        assert all(value.isfinite().all() for value in model.values())
    run.release()


def seen(trainer: Trainer) -> tuple[int, int]:
    """How many training samples an epoch goes through, and how many are validated."""
    samples = sum(len(targets) for _, targets in batches(trainer, trainer.train.steps_per_epoch))
    return samples, len(validation(trainer)[1])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (TrainerConfig(), (80, 20)),
        (TrainerConfig(limit_train="2"), (64, 20)),
        (TrainerConfig(limit_train="25%"), (20, 20)),
        (TrainerConfig(limit_val="1"), (80, 8)),
        (TrainerConfig(limit_val="50%"), (80, 10)),
        (TrainerConfig(limit_train="1000", limit_val="1000"), (80, 20)),
        (TrainerConfig(overfit_batches=1), (32, 32)),
        (TrainerConfig(fast_dev_run=True), (80, 8)),
    ],
)
def test_limits_take_a_part_of_the_data(settings: TrainerConfig, expected: tuple[int, int]) -> None:
    assert seen(build(config(trainer=settings))) == expected


def test_limited_training_data_is_a_part_of_the_whole() -> None:
    whole = {tuple(row.tolist()) for inputs, _ in batches(build(config()), 3) for row in inputs}
    part = build(config(trainer=TrainerConfig(limit_train="1")))
    rows = {tuple(row.tolist()) for inputs, _ in batches(part, 1) for row in inputs}
    assert len(rows) == 32
    assert rows < whole


def test_overfitting_validates_on_the_batches_it_trains_on() -> None:
    data = SyntheticImages(num_samples=60, image_size=8, num_classes=3, batch_size=16, augment=True)
    trainer = build(config(model=Linear(), data=data, trainer=TrainerConfig(overfit_batches=1, epochs=2)))
    trained = {tuple(row.flatten().tolist()) for inputs, _ in batches(trainer, 2) for row in inputs}
    validated = {tuple(row.flatten().tolist()) for row in validation(trainer)[0]}
    assert trained == validated
    assert len(trained) == 16


def test_a_fast_dev_run_tries_everything_once(tmp_path: Path) -> None:
    run = Run.at(tmp_path / "run")
    trainer, recorder, reason = fitted(config(trainer=TrainerConfig(fast_dev_run=True, epochs=100)), run=run)
    assert (reason, trainer.state.step) == ("completed", 3)
    assert list(recorder.column("val/loss")) == [3]
    assert trainer.store is not None
    assert (trainer.store.load("last")[0]["step"], trainer.store.load("best")[0]["step"]) == (3, 3)
    run.release()


NOISY = {
    "model": Cnn(),
    "data": SyntheticImages(num_samples=60, image_size=8, num_classes=3, batch_size=16, augment=True),
    "trainer": TrainerConfig(epochs=1),
}


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    first, again, other = (fitted(config(seed=seed, **NOISY))[0] for seed in (7, 7, 8))
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


def test_the_generator_of_the_process_does_not_matter() -> None:
    first = fitted(config(**NOISY))[0]
    torch.manual_seed(12345)
    torch.rand(17)
    assert torch.equal(weights(first), weights(fitted(config(**NOISY))[0]))


def test_dropout_differs_from_step_to_step() -> None:
    trainer = build(config(model=Mlp(hidden=[40], dropout=0.5)))
    masks: list[tuple[Tensor, Tensor]] = []
    dropout = next(m for m in trainer.state.model.modules() if isinstance(m, torch.nn.Dropout))
    dropout.register_forward_hook(lambda module, args, out: masks.append((args[0][:16] != 0, out[:16] != 0)))
    list(trainer.steps())
    pairs = [(a, b) for i, a in enumerate(masks) for b in masks[:i]]
    assert len(pairs) == 36
    for (alive, kept), (other_alive, other_kept) in pairs:
        assert ((kept != other_kept) & alive & other_alive).any()


def test_the_recorded_rate_follows_the_schedule() -> None:
    made = config(scheduler=CosineLR(warmup="3"), trainer=TrainerConfig(epochs=3, log_every="1"))
    _, recorder, _ = fitted(made)
    rise = [0.1 * (k + 1) / 3 for k in range(3)]
    fall = [0.05 * (1 + math.cos(math.pi * k / 6)) for k in range(6)]
    assert list(recorder.column("lr").values()) == pytest.approx([*rise, *fall])


def test_a_plateau_lowers_the_rate_after_its_patience() -> None:
    scheduler = PlateauLR(patience=1, factor=0.5, threshold=100.0)  # nothing is ever an improvement
    settings = TrainerConfig(epochs=7, log_every=None, monitor="val/loss")
    _, recorder, _ = fitted(config(scheduler=scheduler, trainer=settings))
    # The first validation is the best; the 2nd and 3rd are bad, so the 4th epoch has half the rate, and so on.
    rates = [0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025]
    assert list(recorder.column("lr").values()) == pytest.approx(rates)


def steps_with(recorder: Recorder, name: str) -> list[int]:
    return list(recorder.column(name))


@pytest.mark.parametrize(
    ("settings", "trained", "validated"),
    [
        (TrainerConfig(epochs=3), [3, 6, 9], [3, 6, 9]),
        (TrainerConfig(epochs=3, log_every="2"), [2, 3, 4, 6, 8, 9], [3, 6, 9]),
        (TrainerConfig(epochs=3, log_every="4", eval_every="2ep"), [4, 6, 8, 9], [6, 9]),
        (TrainerConfig(epochs=3, log_every=None, eval_every="0"), [9], [9]),
        (TrainerConfig(steps=7, log_every="5", eval_every=None), [5, 7], [7]),
        (TrainerConfig(steps=10, log_every="50%", eval_every="20%"), [2, 4, 5, 6, 8, 10], [2, 4, 6, 8, 10]),
    ],
)
def test_records_come_when_they_are_due(settings: TrainerConfig, trained: list[int], validated: list[int]) -> None:
    _, recorder, _ = fitted(config(trainer=settings))
    assert [record.step for record in recorder.records] == trained
    for name in ("lr", "grad_norm", "samples_per_second"):
        assert steps_with(recorder, name) == trained
    ends = [step for step in trained if step % 3 == 0 or step == trained[-1]]  # of epochs, and of the run
    for score in ("loss", "accuracy"):
        assert steps_with(recorder, f"train/{score}") == ends
        assert steps_with(recorder, f"train_recent/{score}") == [step for step in trained if step not in ends]
    for name in ("val/loss", "val/accuracy", "val/macro_f1"):
        assert steps_with(recorder, name) == validated
    assert [record.epoch for record in recorder.records] == [step // 3 for step in trained]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (TrainerConfig(epochs=3, keep=99, monitor="val/loss", min_delta=1e9), [0, 3, 6, 9]),
        (TrainerConfig(epochs=3, keep=99, save_every="4", eval_every=None), [0, 4, 8, 9]),
        (TrainerConfig(epochs=3, keep=99, save_every=None, eval_every=None), [0, 9]),
        (TrainerConfig(epochs=3, keep=2, save_every="1", eval_every=None), [8, 9]),
    ],
)
def test_checkpoints_come_when_they_are_due(tmp_path: Path, settings: TrainerConfig, expected: Sequence[int]) -> None:
    run = Run.at(tmp_path / "run")
    trainer, _, _ = fitted(config(trainer=settings), run=run)
    assert trainer.store is not None
    assert [trainer.store.load(path.name)[0]["step"] for path in trainer.store.steps()] == list(expected)
    run.release()


def test_the_best_checkpoint_has_the_best_score(tmp_path: Path) -> None:
    run = Run.at(tmp_path / "run")
    settings = TrainerConfig(epochs=8, monitor="val/loss", save_every=None)
    trainer, recorder, _ = fitted(config(optimizer=SGD(lr=2.0, momentum=0.9), trainer=settings), run=run)
    losses = recorder.column("val/loss")
    best = min(losses, key=lambda step: losses[step])
    assert trainer.store is not None
    payload = trainer.store.load("best")[0]
    assert (payload["step"], payload["scores"]["val/loss"]) == (best, losses[best])
    assert best < trainer.state.step  # it went up again, or the test would prove little
    run.release()


def test_histograms_come_when_they_are_due() -> None:
    _, recorder, _ = fitted(config(trainer=TrainerConfig(epochs=3, log_histograms="2ep")))
    drawn = [record for record in recorder.records if record.histograms]
    assert [record.step for record in drawn] == [6, 9]
    assert {name.split("/")[0] for name in drawn[0].histograms} == {"weights", "gradients"}


def test_frozen_parameters_stay_as_they_are() -> None:
    trainer = build(config(model=Mlp(hidden=[12]), optimizer=AdamW(lr=0.1)))
    first = next(trainer.state.model.parameters())
    before = first.detach().clone()
    first.requires_grad_(False)
    list(trainer.steps())
    assert torch.equal(first, before)


def test_a_save_for_the_best_score_restarts_an_interval_in_seconds(tmp_path: Path) -> None:
    """Step 4 validates, is the best and is due: what was saved there is not saved again one step later."""
    run, recorder = Run.at(tmp_path / "run"), Recorder()
    recorder.then = lambda record: time.sleep(1.1) if record.step == 4 else None
    settings = TrainerConfig(steps=6, log_every="4", eval_every="4", save_every="1s", keep=50)
    trainer = build(config(trainer=settings), run=run)
    trainer.fit([recorder])
    assert [path.name for path in trainer.store.steps()] == ["step-00000000", "step-00000004", "step-00000006"]
    run.release()


def test_a_save_before_its_time_restarts_an_interval_in_seconds(tmp_path: Path) -> None:
    """Step 3 is the best after 2 of 3 seconds and saved for that; 1.5 seconds later, at step 4, nothing is due yet."""
    run, recorder = Run.at(tmp_path / "run"), Recorder()
    recorder.then = lambda record: time.sleep({3: 2.0, 4: 1.5}.get(record.step, 0.0))
    settings = TrainerConfig(steps=5, log_every="1", eval_every="3", save_every="3s", keep=50)
    trainer = build(config(trainer=settings), run=run)
    trainer.fit([recorder])
    assert [path.name for path in trainer.store.steps()] == ["step-00000000", "step-00000003", "step-00000005"]
    run.release()
