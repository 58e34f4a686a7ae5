"""One optimizer step."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.data.types import Batch
from trainer.system import memory, seeds
from trainer.system.device import autocast
from trainer.tasks.base import Task
from trainer.training.layer_stats import LayerMeter, LayerStats
from trainer.training.non_finite import NonFiniteCheck
from trainer.training.state import TrainState
from trainer.training.timeline import Timeline
from trainer.training.train_metrics import TrainMetrics

# Of a micro-batch: outputs, targets, weights, and the sum of the losses, all detached.
Part = tuple[Tensor, Tensor, Tensor | None, Tensor]

_ENGINE = torch.autograd.Variable._execution_engine


class StepOutput(NamedTuple):
    """One optimizer step, just done.

    Attributes:
        step: its number: steps done, this one included.
        epoch: whole epochs done.
        loss_sum, weight: of this batch, on the device; see `Task`.
        lr: the rate it was made with.
        recorded: whether a record follows it.
        grad_norm: length of the gradient before clipping, on the device; None where it was not needed.
        finite: False where the loss or the gradient was not, and the step was not made.
        flow: what it did to each layer, where that was to be measured.
    """

    step: int
    epoch: int
    loss_sum: Tensor
    weight: Tensor | float
    lr: float
    recorded: bool
    grad_norm: Tensor | None
    finite: bool = True
    flow: LayerStats | None = None

    @property
    def loss(self) -> Tensor:
        """Of this batch, a scalar on the device; reading its value waits for the device."""
        return self.loss_sum / self.weight


class TrainStep:
    """Makes optimizer steps on batches, in micro-batches where the plan says so; none that is not finite.

    Args:
        state: what is trained.
        tally: takes the outputs of the steps that count.
        device, precision, seed, memory_format: see `Trainer`.
        patient: whether a step may be found not finite later, when its numbers are read (see `Tally.bad`), so that no
            step waits for the device; None: on devices that one waits for.
    """

    def __init__(
        self,
        state: TrainState,
        task: Task,
        plan: Timeline,
        tally: TrainMetrics,
        *,
        device: torch.device,
        precision: torch.dtype,
        seed: int,
        memory_format: torch.memory_format,
        patient: bool | None = None,
    ) -> None:
        self.state, self.task, self.plan, self.tally = state, task, plan, tally
        self.device, self.seed, self.memory_format = device, seed, memory_format
        self._autocast = autocast(device, precision)
        self._parameters = [p for p in state.model.parameters() if p.requires_grad]
        self._inverses: dict[float, Tensor] = {}
        self._guard = NonFiniteCheck(state.model, device)
        self._meter = LayerMeter(state.model)
        # The fused optimizers take `found_inf` and leave the weights alone where it is 1.
        skips = getattr(state.optimizer, "_step_supports_amp_scaling", False)
        self.patient = (
            skips and not state.scaler.is_enabled() and (device.type != "cpu" if patient is None else patient)
        )

    def __call__(self, batch: Batch) -> StepOutput:
        """One optimizer step; one that is found not finite is not made, and leaves the state as it was before."""
        state = self.state
        step = state.step + 1
        recorded = self.plan.records(step)
        lr = state.schedule.apply(state.optimizer, state.step, state.rate)
        weight = self.task.weight(batch.targets, batch.weights)
        self._guard.keep()
        parts, loss_sum = self._accumulate(batch, weight)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        # With a scaler, gradients that overflow are its daily work: it skips the step and scales less.
        found = self._guard.check(loss_sum, [] if state.scaler.is_enabled() else gradients)
        if self.patient:
            self._guard.undo(found)
        elif found.item():
            self._guard.undo()
            return StepOutput(step, self._epoch(step), loss_sum, weight, lr, recorded, None, finite=False)
        if recorded or self.plan.clip_norm is not None:
            state.scaler.unscale_(state.optimizer)
        measured = bool(gradients) and self.plan.measures(step)
        if measured:
            self._meter.before()
        grad_norm = self._clip(gradients, recorded)
        self._update(found)
        flow = self._meter.after() if measured else None
        if state.ema is not None:
            state.ema.update_parameters(state.model)
        state.step = step
        for outputs, targets, weights, part in parts:
            self.tally.add(step, outputs, targets, weights, part, found.clone() if self.patient else None)
        return StepOutput(step, self._epoch(step), loss_sum, weight, lr, recorded, grad_norm, flow=flow)

    def _epoch(self, step: int) -> int:
        return step // self.plan.steps_per_epoch

    def formatted(self, inputs: Tensor) -> Tensor:
        """Image batches in the memory format of the run."""
        return inputs.contiguous(memory_format=self.memory_format) if inputs.ndim == 4 else inputs

    def _accumulate(self, batch: Batch, weight: Tensor | float) -> tuple[list[Part], Tensor]:
        """The gradient of a batch; what came of each micro-batch, and the sum of their losses."""
        while True:
            try:
                return self._attempt(batch, weight)
            except (RuntimeError, MemoryError) as error:
                if not memory.is_out_of_memory(error):
                    raise
                self._shrink(batch, error)
            memory.release(self.device)  # outside the handler: the exception holds on to the tensors
            self._guard.undo()

    def _attempt(self, batch: Batch, weight: Tensor | float) -> tuple[list[Part], Tensor]:
        state = self.state
        seeds.reseed(self.device, seeds.fold(self.seed, seeds.DROPOUT, state.step))
        for parameter in self._parameters:
            parameter.grad = None
        parts = []
        loss_sum: Tensor | None = None
        for inputs, targets, weights in self._micro_batches(batch):
            with self._autocast:
                outputs = state.model(inputs)
                part = self.task.loss_sum(outputs, targets, weights)
            # d(sum / weight) = d(sum) · 1 / weight: the division is left to the first gradient.
            self._backward(part, state.scaler.scale(self._inverse(weight, part)))
            part = part.detach()
            parts.append((outputs.detach(), targets, weights, part))
            loss_sum = part if loss_sum is None else loss_sum + part
        assert loss_sum is not None
        return parts, loss_sum

    def _backward(self, loss: Tensor, gradient: Tensor) -> None:
        """`loss.backward(gradient)`.

        On the CPU straight to torch's engine: what torch looks at before, for its tracers, its compiler and other
        kinds of tensors, takes half as long as the backward pass of a small model.
        """
        if self.device.type == "cpu" and type(loss) is Tensor:
            _ENGINE.run_backward((loss,), (gradient,), False, False, (), allow_unreachable=True, accumulate_grad=True)
        else:
            loss.backward(gradient)

    def _micro_batches(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        samples, size = batch.targets.size(0), self._micro_batch(batch)
        if size == samples:
            yield self.formatted(batch.inputs), batch.targets, batch.weights
            return
        for start in range(0, samples, size):
            part = slice(start, start + size)
            weights = None if batch.weights is None else batch.weights[part]
            yield self.formatted(batch.inputs[part]), batch.targets[part], weights

    def _micro_batch(self, batch: Batch) -> int:
        """Samples at a time: as the plan says, and what lack of memory has left of it while that is looked after."""
        left = self.state.micro_batch if self.plan.auto_micro_batch else None
        return min(size for size in (batch.targets.size(0), self.plan.micro_batch, left) if size is not None)

    def _shrink(self, batch: Batch, error: BaseException) -> None:
        """Halve the micro-batch where that is wanted and possible; raises `TrainerError` where not."""
        size = self._micro_batch(batch)
        shape = "×".join(map(str, batch.inputs.shape[1:]))
        doing = f"in step {self.state.step + 1}, with {size} samples of {shape} at a time"
        if not self.plan.auto_micro_batch:
            remedy = f"set trainer.micro_batch={max(1, size // 2)}, or trainer.auto_micro_batch=true to have it found"
            raise memory.exhausted(self.device, doing, f"{remedy}; the batch and the result stay the same") from error
        if size == 1:
            raise memory.exhausted(self.device, doing, "even one sample is too much; use a smaller model") from error
        self.state.micro_batch = -(-size // 2)

    def _inverse(self, weight: Tensor | float, like: Tensor) -> Tensor:
        """1 / weight as a scalar on the device; the few weights that are plain numbers are kept there."""
        if isinstance(weight, Tensor):
            return (1 / weight).to(like.dtype)
        if weight not in self._inverses:
            self._inverses[weight] = torch.tensor(1 / weight, device=like.device, dtype=like.dtype)
        return self._inverses[weight]

    def _clip(self, gradients: list[Tensor], recorded: bool) -> Tensor | None:
        """Clip the gradient; measure it where it is clipped or about to be recorded."""
        if self.plan.clip_norm is not None:
            return torch.nn.utils.clip_grad_norm_(self._parameters, self.plan.clip_norm)
        return torch.nn.utils.get_total_norm(gradients) if recorded else None

    def _update(self, found: Tensor) -> None:
        optimizer = self.state.optimizer
        if not self.patient:
            self.state.scaler.step(optimizer)
            self.state.scaler.update()
            return
        optimizer.grad_scale, optimizer.found_inf = None, found  # type: ignore[attr-defined]  # as GradScaler sets them
        try:
            optimizer.step()
        finally:
            del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
