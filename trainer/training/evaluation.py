"""Passes over the validation data."""

from collections.abc import Generator

import torch
from torch import Tensor

from trainer.checkpoint.store import AnyStore
from trainer.training.context import RunContext


class Evaluator:
    """Scores the network that is used (the averaged one, where there is one) on the validation data."""

    def __init__(self, context: RunContext, store: AnyStore) -> None:
        self.state, self.task, self.loader, self.store = context.state, context.task, context.val, store
        self.compute, self.autocast = context.compute, context.compute.autocast()
        self.activity = context.activity

    def batches(self) -> Generator[None, None, None]:
        """Start a pass, and yield before each batch is scored: the caller may save the state then."""
        if self.loader.workers:
            self.store.wait()  # workers are forked with the first pass: no other thread may hold a lock then
        self.activity.doing = "validating"
        model = self.state.evaluated.eval()
        self.sums = self.task.evaluation(self.compute.device)
        try:
            for batch in self.loader:
                yield
                self.activity.doing = "validating"  # again, where the state was saved meanwhile
                with torch.inference_mode():
                    with self.autocast:
                        outputs = model(self.compute.formatted(batch.inputs))
                    self.sums.update(outputs, batch.targets, batch.weights)
        finally:
            self.state.model.train()

    def scores(self) -> dict[str, float]:
        """Return the scores of the last pass, `val/...`; waits for the device."""
        return {f"val/{name}": value for name, value in self.sums.scores().items()}

    def confusion(self) -> Tensor | None:
        """Return the confusion matrix of the last pass, see `Evaluation.confusion`."""
        return self.sums.confusion()
