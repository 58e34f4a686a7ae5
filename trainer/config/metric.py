"""The metrics that `task.metrics` selects, and their keys."""

from dataclasses import dataclass
from typing import ClassVar

from trainer.config.loss import CLASSIFICATION, REGRESSION
from trainer.config.parts import Part
from trainer.config.registry import register
from trainer.config.section import key


@dataclass
class MetricConfig(Part):
    """Base of the metrics. What the built-in ones compute is in `trainer/tasks/`.

    A metric of a plug-in has, beside its keys, either `sums(outputs, targets, weights)`, a float64 vector that adds up
    over batches and processes, and `score(sums)`, the number that the added-up vector gives; or, with `summable =
    False`, `score_samples(outputs, targets)` for all samples of a validation at once, which are kept until its end.
    `outputs` are float32 (B, outputs), `targets` class indices, int64 (B,), or numbers, float (B, outputs); `weights`,
    float32 (B,), is 0 for rows that only fill up a batch and must not count, and 1 for the others.

    Attributes:
        kinds: of tasks that it is for, see `Task.kind`.
        larger_is_better: which way is better, for `trainer.monitor` with `trainer.mode=auto`.
        summable: whether it follows from sums over batches.
    """

    selected_by: ClassVar[str] = "task.metrics"
    kinds: ClassVar[tuple[str, ...]] = (CLASSIFICATION, REGRESSION)
    larger_is_better: ClassVar[bool] = True
    summable: ClassVar[bool] = True

    @classmethod
    def facts(cls) -> str:
        """Return the kinds of tasks that it is for, which way is better, and what it takes."""
        better = "larger" if cls.larger_is_better else "smaller"
        kept = "" if cls.summable else "; keeps the outputs of a whole validation"
        return f"for {' and '.join(cls.kinds)}; {better} is better{kept}"

    @property
    def score_name(self) -> str:
        """Return the name of its score, without the prefix `val/`: that of the metric."""
        return self.option


@dataclass
class _ClassificationMetric(MetricConfig):
    kinds: ClassVar[tuple[str, ...]] = (CLASSIFICATION,)


@dataclass
class _RegressionMetric(MetricConfig):
    kinds: ClassVar[tuple[str, ...]] = (REGRESSION,)


@register("metric", "accuracy")
@dataclass
class Accuracy(_ClassificationMetric):
    """Share of samples whose class is the one predicted."""


@register("metric", "macro_f1")
@dataclass
class MacroF1(_ClassificationMetric):
    """Mean over the classes of the harmonic mean of precision and recall."""


@register("metric", "weighted_f1")
@dataclass
class WeightedF1(_ClassificationMetric):
    """F1 of each class, averaged by the number of its samples."""


@register("metric", "precision")
@dataclass
class Precision(_ClassificationMetric):
    """Share of the predictions of a class that are right; mean over the classes."""


@register("metric", "recall")
@dataclass
class Recall(_ClassificationMetric):
    """Share of the samples of a class that are found; mean over the classes."""


@register("metric", "top5")
@dataclass
class Top5(_ClassificationMetric):
    """Share of samples whose class is among the k likeliest; the score is named after k."""

    k: int = key(5, "how many classes are looked at", at_least=1)

    @property
    def score_name(self) -> str:
        """Return `top5`, or `top3` where k is 3."""
        return f"top{self.k}"


@register("metric", "auroc")
@dataclass
class Auroc(_ClassificationMetric):
    """Area under the ROC curve: of the second of two classes; of more, the mean of each against the rest."""

    summable: ClassVar[bool] = False


@register("metric", "average_precision")
@dataclass
class AveragePrecision(_ClassificationMetric):
    """Area under the precision-recall curve: of the second of two classes; of more, the mean as for auroc."""

    summable: ClassVar[bool] = False


@register("metric", "mcc")
@dataclass
class Mcc(_ClassificationMetric):
    """Matthews correlation coefficient of true and predicted classes; 0 where one of them does not vary."""


@register("metric", "cohen_kappa")
@dataclass
class CohenKappa(_ClassificationMetric):
    """Agreement of true and predicted classes beyond chance."""

    weights: str = key(
        "none",
        "how a wrong class counts: all alike, or by its distance in the order of the classes",
        choices=("none", "linear", "quadratic"),
    )


@register("metric", "calibration_error")
@dataclass
class CalibrationError(_ClassificationMetric):
    """Expected calibration error: mean distance of confidence and accuracy over equal bins of confidence."""

    larger_is_better: ClassVar[bool] = False

    bins: int = key(15, "bins of the confidence from 0 to 1", at_least=1, at_most=10_000)


@register("metric", "rmse")
@dataclass
class Rmse(_RegressionMetric):
    """Root of the mean squared error, in units of the target."""

    larger_is_better: ClassVar[bool] = False


@register("metric", "mae")
@dataclass
class Mae(_RegressionMetric):
    """Mean absolute error, in units of the target."""

    larger_is_better: ClassVar[bool] = False


@register("metric", "r2")
@dataclass
class R2(_RegressionMetric):
    """Share of the target's variance that is explained, errors of the mean included; mean over the outputs."""


@register("metric", "mape")
@dataclass
class Mape(_RegressionMetric):
    """Mean absolute error as a share of the target (1 is 100 %)."""

    larger_is_better: ClassVar[bool] = False


@register("metric", "pearson")
@dataclass
class Pearson(_RegressionMetric):
    """Linear correlation of outputs and targets; mean over the outputs."""


@register("metric", "spearman")
@dataclass
class Spearman(_RegressionMetric):
    """Correlation of the ranks of outputs and targets; mean over the outputs."""

    summable: ClassVar[bool] = False


@register("metric", "explained_variance")
@dataclass
class ExplainedVariance(_RegressionMetric):
    """Share of the target's variance that is explained, a constant error forgiven; mean over the outputs."""
