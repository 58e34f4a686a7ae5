"""Numbers that have left the finite: caught before they reach the weights, and traced to the samples they came from."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainer.checkpoint import untrusted
from trainer.data.types import Batch
from trainer.errors import TrainerError
from trainer.tasks.base import Task

NAMED = 8  # samples that a message names
_PARTS = {
    "model_state_dict": "the weights are",
    "ema_state_dict": "the averaged weights are",
    "optimizer_state_dict": "the optimizer's memory is",
}


class DivergenceError(TrainerError):
    """A step, or the weights, are no longer finite numbers.

    Attributes:
        what: in words.
        step: the step that was about to be made (the first is 1).
    """

    def __init__(self, what: str, step: int) -> None:
        super().__init__(
            f"The run has diverged at step {step}: {what}. The last good checkpoint is kept. Try a smaller "
            "optimizer.lr, scheduler.warmup=5%, or trainer.clip_norm=1; trainer.on_nan=skip or rollback goes on by "
            "itself."
        )
        self.what, self.step = what, step


class BufferBackup:
    """Undoes what the forward pass of a step that is not made does to a model's buffers.

    BatchNorm takes a batch into its running statistics in the forward pass, before anyone knows that the step will not
    be made.
    """

    def __init__(self, model: nn.Module) -> None:
        by_kind: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for buffer in model.buffers():
            by_kind.setdefault((buffer.dtype, buffer.device), []).append(buffer)
        # One tensor for all buffers of a kind: on a GPU the start of each operation costs more than its work.
        flat = [[b.view(-1) for b in buffers if b.is_contiguous()] for buffers in by_kind.values()]
        self._together = [(buffers, torch.cat(buffers)) for buffers in flat if buffers]
        self._pairs = [
            pair
            for buffers, kept in self._together
            for pair in zip(buffers, kept.split([b.numel() for b in buffers]), strict=True)
        ]
        self._others = [(buffer, buffer.clone()) for buffer in model.buffers() if not buffer.is_contiguous()]

    def keep(self) -> None:
        """Remember the buffers as they are before the step."""
        for buffers, kept in self._together:
            torch.cat(buffers, out=kept)
        for buffer, kept in self._others:
            kept.copy_(buffer)

    def undo(self, found: Tensor | None = None) -> None:
        """Put the buffers back: at once, or where `found` (on the device) is 1."""
        back = None if found is None else found > 0
        for buffer, kept in (*self._pairs, *self._others):
            if back is None:
                buffer.copy_(kept)
            else:
                torch.where(back, kept, buffer, out=buffer)


def locate_non_finite(model: nn.Module, task: Task, batch: Batch) -> tuple[str, list[int]]:
    """Return what is wrong with a batch whose step was not finite, and the positions of the samples it is due to.

    Looked for in this order: inputs, targets, outputs, losses; each sample on its own, so with the model in eval mode.
    """
    for what, numbers in (("inputs", batch.inputs), ("targets", batch.targets)):
        if bad := _rows(numbers):
            return f"the {what} are not finite", bad
    training = model.training
    model.eval()
    with torch.no_grad():
        outputs = model(batch.inputs)
        losses = [task.loss_sum(outputs[i : i + 1], batch.targets[i : i + 1]) for i in range(len(outputs))]
    model.train(training)
    for what, numbers in (("outputs", outputs), ("losses", torch.stack(losses))):
        if bad := _rows(numbers):
            return f"the {what} are not finite", bad
    return "the gradient of the whole batch is not finite", list(range(len(batch.targets)))


def _rows(numbers: Tensor) -> list[int]:
    finite: list[bool] = (
        numbers.isfinite().flatten(1).all(1).tolist() if numbers.ndim > 1 else numbers.isfinite().tolist()
    )
    return [i for i, good in enumerate(finite) if not good]


def constants(model: nn.Module) -> frozenset[str]:
    """Return the names of the buffers that are not finite from the beginning, as the masks of attention are."""
    return frozenset(name for name, buffer in model.named_buffers() if not is_finite(buffer))


def check_finite(saved: dict[str, Any], apart: frozenset[str]) -> str | None:
    """Return what is not finite in a state as `TrainState.state_dict` gives it, in words; None: nothing.

    Args:
        apart: the names of buffers that are not looked at; see `constants`.
    """
    for part, what in _PARTS.items():
        numbers = {
            name: value for name, value in (saved[part] or {}).items() if name.removeprefix("module.") not in apart
        }
        if not all(map(is_finite, untrusted.tensors_in(numbers))):
            return f"{what} not finite"
    return None


def all_finite(loss: Tensor, gradients: Sequence[Tensor]) -> bool:
    """Return whether the numbers of a step are finite; waits for the device.

    A finite sum has finite terms only; where it is not finite they may only be large, and each tensor is looked at.
    """
    if not loss.is_cpu:
        return not find_inf(loss, gradients).item()
    total: float = loss.item()
    for gradient in gradients:
        total += gradient.sum().item()
    return math.isfinite(total) or all(map(is_finite, (loss, *map(stored_numbers, gradients))))


def find_inf(loss: Tensor, gradients: Sequence[Tensor]) -> Tensor:
    """Return 1.0 where any number of a step is not finite, else 0.0: float32, on the device, without a wait for it."""
    numbers = [tensor for tensor in (loss, *map(stored_numbers, gradients)) if tensor.numel()]
    # 0 times a number is 0, unless it is not finite: two operations on the device, where `isfinite` takes five.
    return torch.nn.utils.get_total_norm(numbers, math.inf).mul(0).ne(0).float()


def stored_numbers(gradient: Tensor) -> Tensor:
    """Return the numbers of a sparse gradient without its zeros, on which torch has more operations; else itself."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def is_finite(numbers: Tensor) -> bool:
    """Whether all are; waits for the device.

    The least and the largest say it in one pass: 0.13 s for 500 MB on a CPU, where `isfinite().all()` takes 1.1 s.
    """
    if numbers.is_complex():
        numbers = torch.view_as_real(numbers)
    if not numbers.is_floating_point() or not numbers.numel():
        return True
    return bool(torch.stack(numbers.aminmax()).isfinite().all())


def format_indices(rows: Sequence[int]) -> str:
    """`sample 17`, `samples 3, 17`, `samples 3, 17, 20, … (64 in all)`: rows of the dataset as it was read."""
    shown = ", ".join(map(str, rows[:NAMED]))
    more = f", … ({len(rows)} in all)" if len(rows) > NAMED else ""
    return f"sample{'s' * (len(rows) != 1)} {shown}{more}"
