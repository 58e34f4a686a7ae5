"""Every metric against torchmetrics, over uneven and padded batches; their directions; and those of plug-ins."""

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import scipy.stats
import torch
import torchmetrics.functional as reference
from torch import Tensor

from trainer import MetricConfig, register
from trainer.config import registry
from trainer.config.task import Auto, Classification, Regression
from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.runs.build import build_task
from trainer.tasks.base import Task

CPU = torch.device("cpu")


def classes(count: int) -> DataSpec:
    return DataSpec((4,), count, tuple(f"c{i}" for i in range(count)), class_counts=(10,) * count)


def numbers(outputs: int = 1, mean: float = 0.0) -> DataSpec:
    return DataSpec((4,), outputs, None, target_mean=(mean,) * outputs, target_std=(1.0,) * outputs)


def scored(task: Task, outputs: Tensor, targets: Tensor, size: int = 16) -> dict[str, float]:
    """The scores of a validation in batches of one size; the last is filled up with rows that would spoil any score."""
    evaluation = task.evaluation(CPU)
    for o, t in zip(outputs.split(size), targets.split(size), strict=True):
        short = size - len(t)
        wrong = 50 * torch.arange(1.0, o.size(1) + 1).expand(short, -1)
        weights = torch.cat([torch.ones(len(t)), torch.zeros(short)])
        evaluation.update(torch.cat([o, wrong]), torch.cat([t, t.new_zeros(short, *t.shape[1:])]), weights)
    return evaluation.scores()


def logits_of(count: int, samples: int = 137, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that are right more often than not, and true classes, all of them present."""
    draw = torch.Generator().manual_seed(seed)
    targets = torch.arange(samples) % count
    logits = torch.randn(samples, count, generator=draw)
    logits[torch.arange(samples), targets] += torch.rand(samples, generator=draw) * 2
    return logits, targets


Reference = Callable[[Tensor, Tensor, int], Tensor | float]


def multiclass(name: str, **keys: Any) -> Reference:
    """A metric of torchmetrics for logits, classes and their number."""
    return lambda logits, targets, count: getattr(reference.classification, f"multiclass_{name}")(
        logits.softmax(1), targets, num_classes=count, **keys
    )


def second_of_two(name: str, **keys: Any) -> Reference:
    """The same; of two classes, that of the second."""

    def score(logits: Tensor, targets: Tensor, count: int) -> Tensor | float:
        if count > 2:
            return multiclass(name, **keys)(logits, targets, count)
        two: Tensor = getattr(reference.classification, f"binary_{name}")(logits.softmax(1)[:, 1], targets)
        return two

    return score


OF_CLASSES: dict[str, Reference] = {
    "accuracy": multiclass("accuracy", average="micro"),
    "macro_f1": multiclass("f1_score", average="macro"),
    "weighted_f1": multiclass("f1_score", average="weighted"),
    "precision": multiclass("precision", average="macro"),
    "recall": multiclass("recall", average="macro"),
    "top5": lambda logits, targets, count: multiclass("accuracy", average="micro", top_k=min(5, count))(
        logits, targets, count
    ),
    "auroc": second_of_two("auroc"),
    "average_precision": second_of_two("average_precision"),
    "mcc": multiclass("matthews_corrcoef"),
    "cohen_kappa": multiclass("cohen_kappa"),
    "calibration_error": multiclass("calibration_error", n_bins=15, norm="l1"),
}
OF_NUMBERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rmse": lambda x, y: reference.mean_squared_error(x, y, squared=False),
    "mae": reference.mean_absolute_error,
    "r2": reference.r2_score,
    "mape": reference.mean_absolute_percentage_error,
    "pearson": lambda x, y: reference.pearson_corrcoef(x.squeeze(1), y.squeeze(1)).mean(),
    "spearman": lambda x, y: reference.spearman_corrcoef(x.squeeze(1), y.squeeze(1)).mean(),
    "explained_variance": reference.explained_variance,
}


def test_every_metric_is_compared() -> None:
    ours = {
        name
        for name in registry.names("metric")
        if registry.lookup("metric", name).__module__ == "trainer.config.metric"
    }
    assert ours == OF_CLASSES.keys() | OF_NUMBERS.keys()
    for name in ours:
        kinds = registry.lookup("metric", name).kinds
        assert kinds == (("classification",) if name in OF_CLASSES else ("regression",))


@pytest.mark.parametrize("count", [2, 3, 12])
@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_metric_of_classes_is_that_of_torchmetrics(name: str, count: int) -> None:
    logits, targets = logits_of(count)
    task = build_task(Classification(metrics=[name]), classes(count))
    assert task.score_names == ("loss", name)
    expected = float(OF_CLASSES[name](logits, targets, count))
    assert 0 < expected < 1 or name == "top5"
    assert scored(task, logits, targets)[name] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", OF_NUMBERS)
def test_a_metric_of_numbers_is_that_of_torchmetrics(name: str, outputs: int) -> None:
    draw = torch.Generator().manual_seed(1)
    targets = 2 * torch.randn(137, outputs, generator=draw)
    predicted = targets + 0.5 + torch.randn(137, outputs, generator=draw)
    task = build_task(Regression(metrics=[name]), numbers(outputs))
    expected = float(OF_NUMBERS[name](predicted, targets))
    assert scored(task, predicted, targets)[name] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", ["linear", "quadratic"])
def test_kappa_weighs_by_the_distance_of_classes(weights: str) -> None:
    logits, targets = logits_of(4)
    task = build_task(Classification(metrics=[{"name": "cohen_kappa", "weights": weights}]), classes(4))
    expected = float(multiclass("cohen_kappa", weights=weights)(logits, targets, 4))
    assert scored(task, logits, targets)["cohen_kappa"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("bins", [1, 7, 100])
def test_calibration_has_as_many_bins_as_asked_for(bins: int) -> None:
    logits, targets = logits_of(3)
    task = build_task(Classification(metrics=[{"name": "calibration_error", "bins": bins}]), classes(3))
    expected = float(multiclass("calibration_error", n_bins=bins)(logits, targets, 3))
    assert scored(task, logits, targets)["calibration_error"] == pytest.approx(expected, rel=1e-5)


def test_a_prediction_that_is_certain_belongs_to_the_last_bin_of_confidence() -> None:
    task = build_task(Classification(metrics=["calibration_error"]), classes(2))
    certain = torch.tensor([[0.0, 200.0]]).expand(4, 2)
    assert scored(task, certain, torch.tensor([1, 1, 1, 0]))["calibration_error"] == pytest.approx(0.25)


def test_auroc_is_the_share_of_pairs_in_the_right_order_also_where_float32_says_certain() -> None:
    draw = torch.Generator().manual_seed(0)
    margin, targets = 20 + torch.randn(90, generator=draw), torch.arange(90) % 2
    logits = torch.stack([torch.zeros(90), margin + targets], 1)
    scores = scored(build_task(Classification(metrics=["auroc"]), classes(2)), logits, targets)
    pairs = (logits[targets == 1, 1][:, None] > logits[targets == 0, 1]).float().mean().item()
    assert scores["auroc"] == pytest.approx(pairs, abs=1e-6)


def test_a_class_that_is_absent_does_not_count_in_auroc_and_average_precision() -> None:
    logits, targets = logits_of(3)
    present = targets < 2
    names = ["auroc", "average_precision", "macro_f1"]
    scores = scored(build_task(Classification(metrics=names), classes(3)), logits[present], targets[present])
    p = logits[present].double().softmax(1)
    for name in names[:2]:
        curve = getattr(reference.classification, f"binary_{name}")
        expected = sum(curve(p[:, k], (targets[present] == k).long()) for k in range(2)) / 2
        assert scores[name] == pytest.approx(float(expected), rel=1e-6)
    only = scored(build_task(Classification(metrics=names), classes(3)), logits[:5], torch.zeros(5, dtype=torch.int64))
    assert math.isnan(only["auroc"]) and math.isnan(only["average_precision"])


@pytest.mark.parametrize("offset", [1e4, 1e6])
def test_correlations_keep_their_digits_under_a_large_offset(offset: float) -> None:
    draw = torch.Generator().manual_seed(2)
    targets = 2 * torch.randn(400, 1, generator=draw) + offset
    predicted = targets + torch.randn(400, 1, generator=draw)
    names = ["pearson", "spearman", "explained_variance"]
    scores = scored(build_task(Regression(metrics=names), numbers(mean=offset)), predicted, targets, 64)
    x, y = predicted.double().squeeze(1).numpy(), targets.double().squeeze(1).numpy()
    assert scores["pearson"] == pytest.approx(scipy.stats.pearsonr(x, y)[0], rel=1e-7)
    assert scores["spearman"] == pytest.approx(scipy.stats.spearmanr(x, y)[0], rel=1e-4)
    assert scores["explained_variance"] == pytest.approx(1 - (x - y).var() / y.var(), rel=1e-7)


def test_what_does_not_vary_has_no_correlation() -> None:
    names = ["pearson", "explained_variance", "r2"]
    scores = scored(build_task(Regression(metrics=names), numbers()), torch.randn(20, 1), torch.ones(20, 1))
    assert all(math.isnan(scores[name]) for name in names)
    task = build_task(Classification(metrics=["mcc"]), classes(3))
    assert scored(task, *(logits_of(3)[0][:9], torch.zeros(9, dtype=torch.int64)))["mcc"] == 0


def test_scores_come_in_the_order_asked_for_and_k_names_its_score() -> None:
    logits, targets = logits_of(12)
    names = [{"name": "top5", "k": 3}, "mcc", "top5", "accuracy"]
    task = build_task(Classification(metrics=names), classes(12))
    assert list(scored(task, logits, targets)) == list(task.score_names) == ["loss", "top3", "mcc", "top5", "accuracy"]


@pytest.mark.parametrize(
    ("task", "spec", "names"),
    [
        (Classification(), classes(10), ["loss", "accuracy", "macro_f1"]),
        (Auto(), classes(11), ["loss", "accuracy", "macro_f1", "top5"]),
        (Regression(), numbers(), ["loss", "rmse", "r2"]),
        (Classification(metrics=[]), classes(3), ["loss"]),
        (Auto(metrics=["mae"]), numbers(), ["loss", "mae"]),
    ],
)
def test_the_scores_of_a_task(task: Any, spec: DataSpec, names: list[str]) -> None:
    assert list(build_task(task, spec).score_names) == names


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Classification(metrics=["acuracy"]), "task.metrics: no metric 'acuracy'. Did you mean 'accuracy'?"),
        (lambda: Classification(metrics=["rmse"]), "task.metrics=rmse: is for regression, and the task is"),
        (lambda: Regression(metrics=["auroc"]), "task.metrics=auroc: is for classification, and the"),
        (lambda: build_task(Auto(metrics=["auroc"]), numbers()), "task.metrics=auroc: is for classification"),
        (lambda: Classification(metrics=["mcc", "mcc"]), "task.metrics: mcc is there twice"),
        (lambda: Classification(metrics=[{"name": "top5", "k": 0}]), "task.metrics: top5.k=0: must be >= 1."),
        (lambda: Classification(metrics=[{"name": "top5", "j": 1}]), "task.metrics: top5 has no key 'j'"),
    ],
)  # fmt: skip
def test_a_metric_that_does_not_fit_is_one_sentence(make: Any, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert words in str(error.value)


def test_every_score_has_its_direction() -> None:
    lower = {"loss", "rmse", "mae", "mape", "calibration_error"}
    for task in (
        build_task(Classification(metrics=list(OF_CLASSES)), classes(12)),
        build_task(Regression(metrics=list(OF_NUMBERS)), numbers()),
    ):
        for name in task.score_names:
            assert task.direction(name) == task.direction(f"val/{name}") == ("min" if name in lower else "max"), name
        assert task.mode == task.direction(task.monitor)


@pytest.mark.parametrize(
    ("metrics", "monitor", "mode"),
    [
        (None, "val/accuracy", "max"),
        (["macro_f1", "accuracy"], "val/accuracy", "max"),
        (["calibration_error", "mcc"], "val/calibration_error", "min"),
        ([], "val/loss", "min"),
    ],
)
def test_best_is_by_accuracy_where_it_is_there_and_else_by_the_first_metric(
    metrics: list[str] | None, monitor: str, mode: str
) -> None:
    task = build_task(Classification(metrics=metrics), classes(3))
    assert (task.monitor, task.mode) == (monitor, mode)


def test_a_metric_of_a_plug_in_is_one_class() -> None:
    @register("metric", "worst_class")
    @dataclass
    class WorstClass(MetricConfig):
        """The recall of the class that is recognised worst."""

        kinds = ("classification",)

        def sums(self, outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
            hits = (outputs.argmax(1) == targets) * weights
            empty = torch.zeros(3, dtype=torch.float64)
            return torch.cat([empty.index_add(0, targets, each.double()) for each in (hits, weights)])

        def score(self, sums: Tensor) -> float:
            hits, samples = sums.view(2, 3)
            return float((hits / samples).min())

    @register("metric", "median_margin")
    @dataclass
    class MedianMargin(MetricConfig):
        """The median of the lead of the true class."""

        larger_is_better = False
        summable = False

        def score_samples(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return outputs.gather(1, targets[:, None]).median()

    logits, targets = logits_of(3)
    task = build_task(Classification(metrics=["worst_class", "median_margin"]), classes(3))
    scores = scored(task, logits, targets)
    recalls = [(logits[targets == k].argmax(1) == k).float().mean().item() for k in range(3)]
    assert scores["worst_class"] == pytest.approx(min(recalls))
    assert scores["median_margin"] == logits.gather(1, targets[:, None]).median().item()
    assert (task.direction("worst_class"), task.direction("val/median_margin")) == ("max", "min")
    assert (task.monitor, task.mode) == ("val/worst_class", "max")


def test_a_metric_without_its_methods_says_which_to_write() -> None:
    @register("metric", "empty")
    @dataclass
    class Empty(MetricConfig):
        """A metric that computes nothing."""

    with pytest.raises(ConfigError, match=r"metric=empty: .*Empty has no method score\(self, sums\) with sums"):
        build_task(Classification(metrics=["empty"]), classes(3))


def test_torchmetrics_is_imported_only_where_it_is_needed() -> None:
    program = """
import sys
from trainer.config.task import Classification
from trainer.data.types import DataSpec
from trainer.runs.build import build_task
spec = DataSpec((4,), 2, ("a", "b"), class_counts=(1, 1))
others = "accuracy macro_f1 weighted_f1 precision recall top5 mcc cohen_kappa calibration_error".split()
build_task(Classification(metrics=others), spec)
assert "torchmetrics" not in sys.modules
build_task(Classification(metrics=["auroc"]), spec)
assert "torchmetrics" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], timeout=120, check=True)
