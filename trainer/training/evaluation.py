"""Passes over the validation data."""

from collections.abc import Generator

import torch
from torch import Tensor

from trainer.checkpoint.store import AnyStore
from trainer.training.context import RunContext


class Evaluator:
    """Scores the network that is trained, and the averaged one where there is one, on the validation data."""

    def __init__(self, context: RunContext, store: AnyStore) -> None:
        self.state, self.task, self.loader, self.store = context.state, context.task, context.val, store
        self.compute, self.autocast = context.compute, context.compute.autocast()
        self.activity = context.activity

    def batches(self) -> Generator[None, None, None]:
        """Start a pass, and yield before each batch is scored: the caller may save the state then."""
        if self.loader.workers:
            self.store.wait()  # workers are forked with the first pass: no other thread may hold a lock then
        self.activity.doing = "validating"
        networks = self.state.average.networks
        self.sums = {prefix: self.task.evaluation(self.compute.device) for prefix in networks}
        scored = [(network.eval(), self.sums[prefix]) for prefix, network in networks.items()]
        try:
            for batch in self.loader:
                yield
                self.activity.doing = "validating"  # again, where the state was saved meanwhile
                with torch.inference_mode():
                    inputs = self.compute.formatted(batch.inputs)
                    for network, sums in scored:
                        with self.autocast:
                            outputs = network(inputs)
                        sums.update(outputs.float(), batch.targets, batch.weights)
        finally:
            self.state.model.train()

    def scores(self) -> dict[str, float]:
        """Return the scores of the last pass, `val/...` and `val_ema/...`; waits for the device."""
        return {f"{prefix}{name}": x for prefix, sums in self.sums.items() for name, x in sums.scores().items()}

    def confusion(self, score: str) -> Tensor | None:
        """Return the confusion matrix that belongs to a score of the last pass, see `Evaluation.confusion`."""
        return self.sums[f"{score.partition('/')[0]}/"].confusion()
