"""What is learned: the loss and the scores."""

from dataclasses import dataclass
from typing import Any, ClassVar

from trainer.config import parts, registry
from trainer.config.loss import CLASSIFICATION, REGRESSION, LossConfig
from trainer.config.metric import MetricConfig
from trainer.config.registry import register
from trainer.config.section import FIXED, Section, key
from trainer.errors import ConfigError

METRICS = "scores of a validation beside the loss (trainer list metric); null: "


@dataclass
class TaskConfig(Section):
    """Base of the task configs: `build(spec)` makes the task for data of that kind."""


@dataclass
class _LossAndMetrics(TaskConfig):
    """What the built-in tasks have in common: the checks of the keys `loss` and `metrics`."""

    kind: ClassVar[str | None] = None  # see `Task.kind`; None: known with the data

    def __post_init__(self) -> None:
        super().__post_init__()
        self.loss: Any = parts.plain(self.loss)
        self.metrics: Any = None if self.metrics is None else [parts.plain(entry) for entry in self.metrics]
        self.loss_config()
        self.metric_configs()

    def loss_config(self) -> LossConfig | None:
        """Return what `loss` names; None for the default of the kind of task.

        Raises:
            ConfigError: for a loss that does not exist, does not have such a key, or is for another kind of task.
        """
        if self.loss is None:
            return None
        chosen = parts.select_one("loss", self.loss, f"task.loss={self.loss}")
        assert isinstance(chosen, LossConfig)
        self._check_kind("loss", chosen)
        return chosen

    def metric_configs(self) -> list[MetricConfig] | None:
        """Return what `metrics` names, in its order; None for the defaults of the kind of task.

        Raises:
            ConfigError: as `loss_config`, and for two metrics whose scores have one name.
        """
        if self.metrics is None:
            return None
        chosen: list[MetricConfig] = parts.select("metric", self.metrics, "task.metrics", may_be_empty=True)
        taken = {"loss"}
        for metric in chosen:
            self._check_kind("metrics", metric)
            if metric.score_name in taken:
                raise ConfigError(f"task.metrics: {metric.score_name} is there twice (loss always is); leave one out.")
            taken.add(metric.score_name)
        return chosen

    def _check_kind(self, name: str, part: LossConfig | MetricConfig) -> None:
        if self.kind is None or self.kind in part.kinds:
            return
        group = part.section
        fitting = [n for n in registry.names(group) if self.kind in registry.lookup(group, n).kinds]
        raise ConfigError(
            f"task.{name}={part.option}: is for {' and '.join(part.kinds)}, and the task is {self.kind}; "
            f"{parts.plural(group)} for it: {', '.join(fitting)}."
        )


@register("task", "classification")
@dataclass
class Classification(_LossAndMetrics):
    """One class out of several: cross-entropy; accuracy, macro F1, and top-5 from 11 classes on."""

    kind: ClassVar[str | None] = CLASSIFICATION

    label_smoothing: float = key(0.0, "share of the target spread evenly over all classes", at_least=0, below=1)
    class_weights: Any = key(
        None, "weight of each class in the loss: null, balanced (n / (classes × count)), or a list with one number each"
    )
    loss: Any = key("cross_entropy", "what is minimised (trainer list loss)", part="loss")
    metrics: list[Any] | None = key(None, METRICS + "accuracy, macro_f1, and top5 from 11 classes on")

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = self.class_weights
        numbers = isinstance(weights, (list, tuple)) and all(
            isinstance(w, (int, float)) and not isinstance(w, bool) and 0 <= w < float("inf") for w in weights
        )
        if weights not in (None, "balanced") and not (numbers and sum(weights) > 0):
            raise ConfigError(
                f"task.class_weights={weights}: must be null, balanced, or a list of numbers >= 0, one for each class."
            )
        loss = self.loss_config()
        if self.label_smoothing and loss is not None and not loss.smooths:
            raise ConfigError(
                f"task.label_smoothing={self.label_smoothing}: task.loss={loss.option} does not smooth labels; "
                "set it to 0, or task.loss=cross_entropy."
            )


RESCALE = (
    "scale the model's outputs to the target's units, so that it learns numbers of mean 0 and deviation 1; null: for "
    "the models of this package, and not for one of a plug-in"
)


@register("task", "regression")
@dataclass
class Regression(_LossAndMetrics):
    """A number: MSE, MAE or Huber loss; R² and RMSE."""

    kind: ClassVar[str | None] = REGRESSION

    loss: Any = key("mse", "what is minimised (trainer list loss)", part="loss")
    delta: float = key(1.0, "Huber: the error at which the loss turns from square to straight", above=0)
    metrics: list[Any] | None = key(None, METRICS + "rmse and r2")
    rescale: bool | None = key(None, RESCALE, on_resume=FIXED)


@register("task", "auto")
@dataclass
class Auto(_LossAndMetrics):
    """Classification when the data has classes, regression when it has numbers."""

    label_smoothing: float = key(0.0, "of classes: see task=classification", at_least=0, below=1)
    loss: Any = key(None, "what is minimised (trainer list loss); null: cross_entropy, or mse", part="loss")
    metrics: list[Any] | None = key(None, METRICS + "those of the kind of task")
    rescale: bool | None = key(None, f"of numbers: {RESCALE}", on_resume=FIXED)
