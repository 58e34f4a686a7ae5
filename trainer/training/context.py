"""What a run is made of."""

from dataclasses import dataclass
from typing import Any

from trainer.config.root import Config
from trainer.data.loaders.base import EvalLoader, TrainLoader
from trainer.data.types import Data
from trainer.system.device import numerics
from trainer.tasks.base import Task
from trainer.training.compute import Compute
from trainer.training.state import TrainState
from trainer.training.timeline import Timeline


@dataclass(frozen=True)
class RunContext:
    """All parts of a run, put together.

    Attributes:
        config: of the run, checked.
        data: what is trained and validated on.
        task: what is minimised and scored.
        train, val: the loaders of the two splits.
        timeline: how far to train, and when to do what.
        state: what training changes.
        compute: where the maths runs, and in what.
    """

    config: Config
    data: Data
    task: Task
    train: TrainLoader
    val: EvalLoader
    timeline: Timeline
    state: TrainState
    compute: Compute

    def environment(self) -> dict[str, Any]:
        """Return what the bits of a result depend on beside the config, by name."""
        return numerics(self.compute.device, self.compute.precision)

    def notes(self) -> dict[str, Any]:
        """Return the plain data that goes into every checkpoint, for whoever uses or resumes it."""
        return {
            "data_spec": self.data.spec.to_dict(),
            "preprocessing": self.data.preprocessing,
            "environment": self.environment(),
        }
