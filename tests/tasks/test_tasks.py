"""Losses against torch's own, scores against brute force and numpy."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config import task as config
from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.runs.build import build_task
from trainer.tasks.base import Task
from trainer.tasks.classification import ClassificationTask
from trainer.tasks.regression import RegressionTask

CPU = torch.device("cpu")
Batches = list[tuple[Tensor, Tensor, Tensor | None]]


def _classes(count: int, counts: tuple[int, ...] | None = None) -> DataSpec:
    return DataSpec((4,), count, tuple(f"c{i}" for i in range(count)), class_counts=counts or (10,) * count)


def _numbers(outputs: int = 1) -> DataSpec:
    return DataSpec((4,), outputs, None, target_mean=(0.0,) * outputs, target_std=(1.0,) * outputs)


def _logits(samples: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(samples, classes, generator=draw), torch.randint(classes, (samples,), generator=draw)


def _batches(outputs: Tensor, targets: Tensor, sizes: list[int]) -> Batches:
    """Uneven batches, all rows of which count."""
    return [(o, t, None) for o, t in zip(outputs.split(sizes), targets.split(sizes), strict=True)]


def _padded(outputs: Tensor, targets: Tensor, size: int) -> Batches:
    """Batches of one size; the last is filled up with rows of weight 0 that would spoil every score."""
    batches: Batches = []
    for o, t in zip(outputs.split(size), targets.split(size), strict=True):
        short = size - len(t)
        wrong = torch.full((short, *o.shape[1:]), 50.0) * torch.arange(1, o.shape[1] + 1)
        padding = torch.zeros((short, *t.shape[1:]), dtype=t.dtype)
        weights = torch.cat([torch.ones(len(t)), torch.zeros(short)])
        batches.append((torch.cat([o, wrong]), torch.cat([t, padding]), weights))
    return batches


def _classifier(spec: DataSpec, smoothing: float = 0.0, weights: Any = None, **keys: Any) -> ClassificationTask:
    task = build_task(config.Classification(label_smoothing=smoothing, class_weights=weights, **keys), spec)
    assert isinstance(task, ClassificationTask)
    return task


def _regressor(spec: DataSpec, loss: str = "mse", **keys: Any) -> RegressionTask:
    task = build_task(config.Regression(loss=loss, **keys), spec)
    assert isinstance(task, RegressionTask)
    return task


def _scores(task: Task, batches: Batches) -> dict[str, float]:
    evaluation = task.evaluation(CPU)
    for batch in batches:
        evaluation.update(*batch)
    scores: dict[str, float] = evaluation.scores()
    return scores


def _close(scores: dict[str, float]) -> Any:
    return pytest.approx(scores, rel=1e-5, abs=1e-7)


# Classification


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 0.0], "balanced"], ids=str)
def test_the_loss_of_a_batch_is_the_mean_cross_entropy_of_torch(
    weights: list[float] | str | None, smoothing: float
) -> None:
    task = build_task(
        config.Classification(label_smoothing=smoothing, class_weights=weights), _classes(4, (5, 10, 20, 40))
    )
    logits, targets = _logits(23, 4)
    given = {"balanced": [75 / (4 * n) for n in (5, 10, 20, 40)]}.get(str(weights), weights)
    tensor = None if given is None else torch.tensor(given)
    expected = F.cross_entropy(logits, targets, tensor, label_smoothing=smoothing)
    ours = task.loss_sum(logits, targets) / task.weight(targets)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-6)
    assert _scores(task, _batches(logits, targets, [10, 10, 3]))["loss"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]], ids=str)
def test_the_gradient_of_micro_batches_adds_up_to_that_of_the_batch(weights: list[float] | None) -> None:
    task = _classifier(_classes(3), 0.1, weights)
    logits, targets = _logits(12, 3)
    whole, parts = (logits.clone().requires_grad_() for _ in range(2))
    F.cross_entropy(whole, targets, task.class_weights, label_smoothing=0.1).backward()
    for part in (slice(0, 5), slice(5, 9), slice(9, 12)):
        (task.loss_sum(parts[part], targets[part]) / task.weight(targets)).backward()
    assert whole.grad is not None
    assert torch.allclose(parts.grad, whole.grad, atol=1e-7)  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]], ids=str)
def test_training_sums_add_up_to_the_scores_of_all_samples(weights: list[float] | None) -> None:
    task = _classifier(_classes(3), 0.0, weights)
    logits, targets = _logits(50, 3)
    sums = sum(task.train_sums(o, t, task.loss_sum(o, t)) for o, t, _ in _batches(logits, targets, [20, 20, 10]))
    assert isinstance(sums, Tensor)
    assert sums.dtype == torch.float64
    expected = {
        "loss": F.cross_entropy(logits, targets, task.class_weights).item(),
        "accuracy": (logits.argmax(1) == targets).float().mean().item(),
    }
    assert task.train_scores(sums.tolist()) == _close(expected)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]], ids=str)
def test_mixed_targets_share_the_loss_and_the_hits_of_their_two_classes(weights: list[float] | None) -> None:
    task = _classifier(_classes(3), 0.1, weights)
    logits, targets = _logits(50, 3)
    partners, share = targets.roll(1), torch.rand(50, generator=torch.Generator().manual_seed(1))
    mixed = F.one_hot(targets, 3).float().lerp(F.one_hot(partners, 3).float(), share[:, None])
    losses = [
        F.cross_entropy(logits, classes, task.class_weights, reduction="none", label_smoothing=0.1)
        for classes in (targets, partners)
    ]
    each = torch.ones(3) if task.class_weights is None else task.class_weights
    expected = {
        "loss": ((1 - share) * losses[0] + share * losses[1]).sum().item(),
        "weight": ((1 - share) * each[targets] + share * each[partners]).sum().item(),
    }
    assert task.loss_sum(logits, mixed).item() == pytest.approx(expected["loss"], rel=1e-5)
    assert float(task.weight(mixed)) == pytest.approx(expected["weight"], rel=1e-5)
    parts = zip(logits.split([20, 30]), mixed.split([20, 30]), strict=True)
    sums = sum(task.train_sums(o, t, task.loss_sum(o, t)) for o, t in parts)
    predicted = logits.argmax(1)
    hits = ((1 - share) * (predicted == targets) + share * (predicted == partners)).sum().item()
    assert isinstance(sums, Tensor)
    assert task.train_scores(sums.tolist()) == _close(
        {"loss": expected["loss"] / expected["weight"], "accuracy": hits / 50}
    )


def _brute_force(logits: Tensor, targets: Tensor, classes: int) -> dict[str, float]:
    """The scores by counting in plain Python."""
    rows, truth = logits.tolist(), targets.tolist()
    predicted = [row.index(max(row)) for row in rows]
    losses, in_top5, f1 = [], 0, []
    for row, true in zip(rows, truth, strict=True):
        losses.append(math.log(sum(math.exp(x) for x in row)) - row[true])
        in_top5 += sum(x > row[true] for x in row) < 5
    for c in range(classes):
        hits = sum(p == c and t == c for p, t in zip(predicted, truth, strict=True))
        found, present = predicted.count(c), truth.count(c)
        if found or present:
            precision, recall = hits / found if found else 0.0, hits / present if present else 0.0
            f1.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    samples = len(truth)
    scores = {
        "loss": sum(losses) / samples,
        "accuracy": sum(p == t for p, t in zip(predicted, truth, strict=True)) / samples,
        "macro_f1": sum(f1) / len(f1),
    }
    return scores | ({"top5": in_top5 / samples} if classes >= 11 else {})


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("classes", "samples"), [(2, 9), (3, 50), (10, 30), (11, 40), (30, 17)])
def test_scores_equal_brute_force_over_uneven_and_padded_batches(classes: int, samples: int, seed: int) -> None:
    task = _classifier(_classes(classes))
    logits, targets = _logits(samples, classes, seed)
    logits[torch.arange(samples), targets] += 1.0
    expected = _brute_force(logits, targets, classes)
    assert tuple(expected) == task.score_names
    assert _scores(task, [(logits, targets, None)]) == _close(expected)
    assert _scores(task, _batches(logits, targets, [samples - 3, 2, 1])) == _close(expected)
    assert _scores(task, _padded(logits, targets, 8)) == _close(expected)


def test_uneven_batches_are_averaged_over_samples_not_batches() -> None:
    task = _classifier(_classes(2))
    right, wrong = torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 5.0]])
    logits, targets = torch.cat([right] * 9 + [wrong]), torch.zeros(10, dtype=torch.int64)
    assert _scores(task, _batches(logits, targets, [9, 1]))["accuracy"] == pytest.approx(0.9)


def test_padding_leaves_weighted_and_smoothed_losses_alone() -> None:
    task = _classifier(_classes(4), 0.1, [1.0, 2.0, 0.5, 3.0])
    logits, targets = _logits(21, 4)
    expected = F.cross_entropy(logits, targets, task.class_weights, label_smoothing=0.1).item()
    assert _scores(task, _padded(logits, targets, 8))["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_class_that_is_neither_present_nor_predicted_does_not_count_in_f1() -> None:
    task = _classifier(_classes(3))
    logits = torch.tensor([[5.0, 0, 0], [0, 5.0, 0], [0, 5.0, 0]])
    assert _scores(task, [(logits, torch.tensor([0, 1, 1]), None)])["macro_f1"] == pytest.approx(1.0)
    absent_but_predicted = torch.tensor([[5.0, 0, 0], [0, 5.0, 0], [0, 0, 5.0]])
    scores = _scores(task, [(absent_but_predicted, torch.tensor([0, 1, 1]), None)])
    assert scores["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_the_confusion_matrix_has_the_true_classes_in_its_rows() -> None:
    evaluation = _classifier(_classes(3)).evaluation(CPU)
    logits = F.one_hot(torch.tensor([0, 1, 1, 2, 0]), 3).float()
    evaluation.update(logits, torch.tensor([0, 0, 1, 1, 2]), torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]))
    confusion = evaluation.confusion()
    assert confusion is not None
    assert confusion.dtype == torch.int64
    assert confusion.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize(("classes", "has"), [(10, False), (11, True)])
def test_top5_is_reported_from_11_classes_on(classes: int, has: bool) -> None:
    task = _classifier(_classes(classes))
    assert ("top5" in task.score_names) == has
    assert ("top5" in _scores(task, [(*_logits(6, classes), None)])) == has


def test_outputs_in_half_precision_are_scored_in_full() -> None:
    task = _classifier(_classes(4))
    logits, targets = _logits(33, 4)
    half = logits.bfloat16()
    assert _scores(task, [(half, targets, None)]) == _close(_brute_force(half.float(), targets, 4))


def test_balanced_weights_are_n_over_classes_times_count() -> None:
    task = _classifier(_classes(3, (10, 30, 60)), weights="balanced")
    assert task.class_weights is not None
    assert task.class_weights.tolist() == pytest.approx([100 / (3 * 10), 100 / (3 * 30), 100 / (3 * 60)])
    each = [task.weight(torch.full((count,), c)) for c, count in enumerate((10, 30, 60))]
    assert [float(weight) for weight in each] == pytest.approx([100 / 3] * 3), "each class weighs the same"


@pytest.mark.parametrize(
    ("spec", "weights", "message"),
    [
        (_numbers(), None, "task=classification: the target is a number"),
        (_classes(3), [1.0, 2.0], "task.class_weights has 2 numbers, but the data has 3 classes: c0, c1, c2."),
        (_classes(3, (5, 0, 5)), "balanced", "task.class_weights=balanced: class 'c1' has no training sample."),
    ],
    ids=["numbers", "another count", "an empty class"],
)
def test_data_that_does_not_suit_classification_is_refused(spec: DataSpec, weights: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_task(config.Classification(class_weights=weights), spec)
    assert str(error.value).startswith(message)


def test_regression_refuses_classes() -> None:
    with pytest.raises(ConfigError, match="task=regression: the data has classes"):
        build_task(config.Regression(), _classes(3))


def test_auto_follows_the_data() -> None:
    assert build_task(config.Auto(), _classes(3)).kind == "classification"
    assert build_task(config.Auto(), _numbers()).kind == "regression"


@pytest.mark.parametrize("task", [_classifier(_classes(3)), _regressor(_numbers())], ids=["classes", "numbers"])
def test_the_monitored_score_is_one_of_the_scores(task: ClassificationTask | RegressionTask) -> None:
    assert task.monitor.removeprefix("val/") in task.score_names
    assert task.mode == ("max" if task.monitor == "val/accuracy" else "min")


# Regression

LOSSES = {
    "mse": lambda error, delta: error**2,
    "mae": lambda error, delta: np.abs(error),
    "huber": lambda error, delta: np.where(np.abs(error) <= delta, error**2 / 2, delta * (np.abs(error) - delta / 2)),
}


def _pairs(samples: int, outputs: int, offset: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    targets = torch.randn(samples, outputs, generator=draw) * 2 + offset
    return targets + torch.randn(samples, outputs, generator=draw) * 0.7, targets


def _numpy_scores(outputs: Tensor, targets: Tensor, loss: str = "mse", delta: float = 1.0) -> dict[str, float]:
    predicted, true = outputs.double().numpy(), targets.double().numpy()
    squares, variation = ((predicted - true) ** 2).sum(0), ((true - true.mean(0)) ** 2).sum(0)
    return {
        "loss": float(LOSSES[loss](predicted - true, delta).mean()),
        "rmse": float(np.sqrt(((predicted - true) ** 2).mean())),
        "r2": float((1 - squares / variation).mean()),
    }


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize(("loss", "delta"), [("mse", 1.0), ("mae", 1.0), ("huber", 1.0), ("huber", 0.3)])
def test_regression_equals_the_formulas_of_numpy(loss: str, delta: float, outputs: int) -> None:
    task = build_task(config.Regression(loss=loss, delta=delta), _numbers(outputs))
    predicted, targets = _pairs(45, outputs)
    expected = _numpy_scores(predicted, targets, loss, delta)
    ours = task.loss_sum(predicted, targets) / task.weight(targets)
    assert ours.item() == pytest.approx(expected["loss"], rel=1e-5)
    assert tuple(expected) == task.score_names
    assert _scores(task, [(predicted, targets, None)]) == _close(expected)
    assert _scores(task, _batches(predicted, targets, [40, 4, 1])) == _close(expected)
    assert _scores(task, _padded(predicted, targets, 16)) == _close(expected)


@pytest.mark.parametrize("offset", [1e3, -1e4, 1e6])
def test_r2_keeps_its_digits_under_a_large_offset(offset: float) -> None:
    predicted, targets = _pairs(400, 2, offset)
    scores = _scores(_regressor(_numbers(2)), _padded(predicted, targets, 64))
    expected = _numpy_scores(predicted, targets)
    assert scores == _close(expected)
    assert scores["r2"] == pytest.approx(expected["r2"], rel=1e-9)
    assert 0.8 < expected["r2"] < 0.95


def test_r2_is_1_for_perfect_0_for_the_mean_and_nan_without_variation() -> None:
    task = _regressor(_numbers())
    _, targets = _pairs(30, 1)
    assert _scores(task, [(targets, targets, None)])["r2"] == 1.0
    assert _scores(task, [(targets.mean().expand(30, 1), targets, None)])["r2"] == pytest.approx(0.0, abs=1e-6)
    assert _scores(task, [(2 * targets.mean() - targets, targets, None)])["r2"] < 0
    assert math.isnan(_scores(task, [(targets, torch.ones(30, 1), None)])["r2"])


def test_regression_has_no_confusion_matrix() -> None:
    evaluation = _regressor(_numbers()).evaluation(CPU)
    evaluation.update(*_pairs(5, 1), None)
    assert evaluation.confusion() is None


@pytest.mark.parametrize(("loss", "outputs"), list(itertools.product(LOSSES, [1, 2])))
def test_training_sums_of_regression_add_up(loss: str, outputs: int) -> None:
    task = _regressor(_numbers(outputs), loss)
    predicted, targets = _pairs(50, outputs)
    sums = sum(task.train_sums(o, t, task.loss_sum(o, t)) for o, t, _ in _batches(predicted, targets, [20, 20, 10]))
    assert isinstance(sums, Tensor)
    expected = _numpy_scores(predicted, targets, loss)
    assert task.train_scores(sums.tolist()) == _close({name: expected[name] for name in ("loss", "rmse")})


def test_regression_outputs_in_half_precision_are_scored_in_full() -> None:
    predicted, targets = _pairs(33, 1)
    half = predicted.bfloat16()
    assert _scores(_regressor(_numbers()), [(half, targets, None)]) == _close(_numpy_scores(half.float(), targets))


# Weights of samples


@pytest.mark.parametrize("class_weights", [None, [1.0, 2.0, 0.5]], ids=str)
def test_a_sample_of_weight_2_counts_as_if_it_were_there_twice(class_weights: list[float] | None) -> None:
    task = _classifier(_classes(3), 0.1, class_weights)
    logits, targets = _logits(12, 3)
    counts = torch.tensor([0, 1, 2, 3]).repeat(3)
    many = torch.arange(12).repeat_interleave(counts)
    weighted = task.loss_sum(logits, targets, counts.float())
    torch.testing.assert_close(weighted, task.loss_sum(logits[many], targets[many]))
    assert float(task.weight(targets, counts.float())) == pytest.approx(float(task.weight(targets[many])))
    sums = task.train_sums(logits, targets, weighted, counts.float()).tolist()
    expected = task.train_sums(logits[many], targets[many], weighted).tolist()
    assert task.train_scores(sums)["loss"] == pytest.approx(task.train_scores(expected)["loss"])


@pytest.mark.parametrize("loss", LOSSES)
def test_a_number_of_weight_2_counts_as_if_it_were_there_twice(loss: str) -> None:
    task = _regressor(_numbers(2), loss)
    predicted, targets = _pairs(12, 2)
    counts = torch.tensor([0, 1, 2, 3]).repeat(3)
    many = torch.arange(12).repeat_interleave(counts)
    weighted = task.loss_sum(predicted, targets, counts.float())
    torch.testing.assert_close(weighted, task.loss_sum(predicted[many], targets[many]))
    assert float(task.weight(targets, counts.float())) == float(task.weight(targets[many]))
    scores = task.train_scores(task.train_sums(predicted, targets, weighted, counts.float()).tolist())
    again = task.train_sums(predicted[many], targets[many], weighted)
    assert scores["loss"] == pytest.approx(task.train_scores(again.tolist())["loss"])
    plain = task.train_scores(task.train_sums(predicted, targets, task.loss_sum(predicted, targets)).tolist())
    assert scores["rmse"] == plain["rmse"]  # errors count alike


def test_a_batch_whose_samples_all_weigh_nothing_has_no_loss() -> None:
    nothing = torch.zeros(4)
    for task, outputs, targets in (
        (_classifier(_classes(3)), *_logits(4, 3)),
        (_regressor(_numbers()), *_pairs(4, 1)),
    ):
        loss = task.loss_sum(outputs, targets, nothing)
        assert (loss / task.weight(targets, nothing)).item() == 0
        assert task.train_scores(task.train_sums(outputs, targets, loss, nothing).tolist())["loss"] == 0
