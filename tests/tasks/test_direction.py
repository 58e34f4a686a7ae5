"""Which way a score is better, of a task that a plug-in brings."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainer import Task
from trainer.config.registry import register
from trainer.config.task import TaskConfig
from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.runs.build import build_task
from trainer.tasks.base import score_direction

# A task that derives from nothing of ours, with a score of its own; what is best of it is the lowest.
PLUGIN = '''
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from trainer import TaskConfig, register


class Distance:
    kind, monitor, mode, score_names = "regression", "val/distance", "min", ("loss", "distance")

    def to(self, device):
        pass

    def weight(self, targets, weights=None):
        return float(len(targets))

    def loss_sum(self, outputs, targets, weights=None):
        return F.cross_entropy(outputs, targets, reduction="sum")

    def train_sums(self, outputs, targets, loss_sum, weights=None):
        return torch.stack([loss_sum.double(), torch.tensor(float(len(targets)), dtype=torch.float64)])

    def train_scores(self, sums):
        return {"loss": sums[0] / sums[1]}

    def evaluation(self, device):
        return Sums()


class Sums:
    def __init__(self):
        self.loss, self.rows = 0.0, 0.0

    def update(self, outputs, targets, weights):
        self.loss += float(F.cross_entropy(outputs, targets, reduction="none") @ weights)
        self.rows += float(weights.sum())

    def scores(self):
        return {"loss": self.loss / self.rows, "distance": abs(self.loss / self.rows - 0.6)}

    def confusion(self):
        return None


@register("task", "distance")
@dataclass
class DistanceConfig(TaskConfig):
    """How far the loss is from 0.6: it falls to it, passes it, and goes away."""

    def build(self, spec):
        return Distance()
'''


def test_a_task_of_a_plug_in_whose_mode_is_min_keeps_its_lowest_score(train: Any, tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    said = train(
        *("--import", "plugin.py", "task=distance", "data=synthetic", "data.num_samples=400", "model=linear"),
        *("optimizer.lr=0.02", "trainer.epochs=12", "scheduler=constant"),
    ).stdout
    assert "best by val/distance (min)" in said
    [run] = tmp_path.glob("outputs/*/*")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scores = {row["val/distance"]: row["step"] for row in rows if "val/distance" in row}
    best = json.loads((run / "summary.json").read_text())["best"]
    first, *_, last = scores
    assert min(scores) < min(first, last), "the lowest is neither the first nor the last"
    assert (best["value"], best["step"], best["mode"]) == (min(scores), scores[min(scores)], "min")


@pytest.mark.parametrize("base", [Task, object], ids=["derived", "alike"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_mode_is_the_direction_of_the_monitored_score_alone(base: type, mode: str) -> None:
    methods = ("to", "weight", "loss_sum", "train_sums", "train_scores", "evaluation")
    kind = type("Own", (base,), dict.fromkeys(methods, lambda *given: None) | {"monitor": "val/own", "mode": mode})
    task = kind()
    assert [score_direction(task, name) for name in ("own", "val/own", "val/loss", "other")] == [
        mode,
        mode,
        "min",
        "max",
    ]


def test_a_task_that_says_its_directions_is_asked() -> None:
    task: Any = SimpleNamespace(monitor="val/a", mode="max", direction=lambda score: "min")
    assert score_direction(task, "val/a") == "min"


def test_a_task_written_for_the_names_of_before_says_what_they_are_now() -> None:
    @register("task", "old_names")
    class Old(TaskConfig):
        def build(self, spec: DataSpec) -> Any:
            names = ("kind", "monitor", "mode", "score_names", "to", "weight", "loss_sum", "tally", "evaluation")
            return SimpleNamespace(**dict.fromkeys(names))

    message = r"task=old_names: SimpleNamespace has no train_sums, train_scores \(train_sums was called tally; train_"
    with pytest.raises(ConfigError, match=message):
        build_task(Old(), DataSpec((1,), 2, ("a", "b"), class_counts=(1, 1)))
