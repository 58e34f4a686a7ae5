"""What is learned: the loss and the scores."""

from dataclasses import dataclass
from typing import Any

from trainer.config.registry import register
from trainer.config.section import Section, key
from trainer.errors import ConfigError


@dataclass
class TaskConfig(Section):
    """Base of the task configs: `build(spec)` makes the task for data of that kind."""


@register("task", "classification")
@dataclass
class Classification(TaskConfig):
    """One class out of several: cross-entropy; accuracy, macro F1, and top-5 from 11 classes on."""

    label_smoothing: float = key(0.0, "share of the target spread evenly over all classes", at_least=0, below=1)
    class_weights: Any = key(
        None, "weight of each class in the loss: null, balanced (n / (classes × count)), or a list with one number each"
    )

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


@register("task", "regression")
@dataclass
class Regression(TaskConfig):
    """A number: MSE, MAE or Huber loss; R² and RMSE."""

    loss: str = key("mse", "what is minimised", choices=("mse", "mae", "huber"))
    delta: float = key(1.0, "Huber: the error at which the loss turns from square to straight", above=0)


@register("task", "auto")
@dataclass
class Auto(TaskConfig):
    """Classification when the data has classes, regression when it has numbers."""
