"""What a trained network says of samples, and how well."""

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from trainer.data.loaders.protocols import EvalLoader
from trainer.data.loaders.selection import make_eval_loader
from trainer.data.types import Batch, Data, DataSpec, Samples
from trainer.errors import CheckpointError, DataError
from trainer.runs.loading import Trained
from trainer.tasks.base import Task

NAMED = 5  # classes that an error names


@torch.inference_mode()
def evaluate(
    trained: Trained, data: Data | Iterable[Samples], task: Task, device: torch.device
) -> tuple[dict[str, float], Tensor | None]:
    """Score the validation samples of some data, or new samples; return scores and confusion matrix (`Evaluation`).

    Args:
        trained: the network.
        data: whose validation samples count, or the parts of new samples.
        task: of the run, on the device.
        device: where the network runs.

    Raises:
        CheckpointError: where the data is not of the kind that the network was trained with.
    """
    if isinstance(data, Data):
        theirs, ours = data.spec, trained.spec
        if (theirs.input_shape, theirs.outputs, theirs.labels) != (ours.input_shape, ours.outputs, ours.labels):
            raise CheckpointError(
                f"{trained.checkpoint} was trained on samples of {ours.shape_words()} with {ours.outputs} outputs, and "
                f"the data is now {theirs.shape_words()} with {theirs.outputs}{_other_classes(ours, theirs)}; name the "
                "data as it was, or new samples: trainer evaluate RUN SOURCE."
            )
    sums = task.evaluation(device)
    for part in [data] if isinstance(data, Data) else data:
        for outputs, batch in _forward(trained, part, device):
            sums.update(outputs.float(), batch.targets, batch.weights)
    return sums.scores(), sums.confusion()


def _other_classes(ours: DataSpec, theirs: DataSpec) -> str:
    """Return which classes are gone and which are new."""
    before, now = set(ours.labels or ()), set(theirs.labels or ())
    changes = (("gone", before - now), ("new", now - before))
    words = [f"{what}: {', '.join(sorted(labels)[:NAMED])}" for what, labels in changes if labels]
    return f" (classes {'; '.join(words)})" if words else ""


@torch.inference_mode()
def predict(trained: Trained, samples: Samples, device: torch.device) -> Tensor:
    """Return the outputs for new samples, float32 (N, outputs) on the CPU: logits of classes, or numbers."""
    parts = []
    for outputs, batch in _forward(trained, samples, device):
        assert batch.weights is not None
        parts.append(outputs[batch.weights > 0].float().cpu())
    return torch.cat(parts)


def _forward(trained: Trained, data: Data | Samples, device: torch.device) -> Iterator[tuple[Tensor, Batch]]:
    """Yield outputs and batch, for each batch."""
    split = data.val if isinstance(data, Data) else data.split
    if not len(split):
        raise DataError("There are no samples.")
    size, timeout = trained.config.data.eval_batch_size, trained.config.data.timeout
    model = trained.model.to(device)
    loader: EvalLoader = make_eval_loader(split, size, data.prepare, device, data.workers, timeout)
    with contextlib.closing(loader):
        for batch in loader:
            yield model(batch.inputs), batch
