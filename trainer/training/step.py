"""One optimizer step."""

from typing import NamedTuple

import torch
from torch import Tensor

from trainer.data.types import Batch
from trainer.system import memory, seeds
from trainer.training.context import RunContext
from trainer.training.layer_stats import LayerMeter, LayerStats
from trainer.training.micro_batching import MicroBatching
from trainer.training.non_finite import NonFiniteCheck
from trainer.training.train_metrics import MicroBatchOutput, TrainMetrics

_ENGINE = torch.autograd.Variable._execution_engine


class StepOutput(NamedTuple):
    """One optimizer step, just done.

    Attributes:
        step: its number: steps done, this one included.
        epoch: whole epochs done.
        loss_sum, weight: of this batch, on the device; see `Task`.
        lr: the rate it was made with.
        recorded: whether a record follows it.
        grad_norm: L2 norm of the gradient before clipping, on the device; None where it was not needed.
        finite: False where the loss or the gradient was not, and the step was not made.
        layer_stats: what it did to each layer, where that was to be measured.
    """

    step: int
    epoch: int
    loss_sum: Tensor
    weight: Tensor | float
    lr: float
    recorded: bool
    grad_norm: Tensor | None = None
    finite: bool = True
    layer_stats: LayerStats | None = None

    @property
    def loss(self) -> Tensor:
        """Of this batch, a scalar on the device; reading its value waits for the device."""
        return self.loss_sum / self.weight


class TrainStep:
    """Makes optimizer steps on batches, in micro-batches where wanted; none that is not finite.

    Args:
        context: what is trained, and how.
        metrics: takes the outputs of the steps that count.

    Attributes:
        deferred: whether a step may be found not finite later, when its numbers are read (see
            `TrainMetrics.skipped_steps`), so that no step waits for the device; so on all devices but the CPU.
    """

    def __init__(self, context: RunContext, metrics: TrainMetrics) -> None:
        self.state, self.task, self.timeline = context.state, context.task, context.timeline
        self.compute, self.metrics, self.seed = context.compute, metrics, context.config.seed
        self.max_norm = context.config.trainer.clip_norm
        self.micro_batching = MicroBatching(context)
        self.parameters = [p for p in self.state.model.parameters() if p.requires_grad]
        self.check = NonFiniteCheck(self.state.model, self.compute.device)
        self.meter = LayerMeter(self.state.model)
        self.autocast = self.compute.autocast()
        self._inverses: dict[float, Tensor] = {}
        # The fused optimizers take `found_inf` and leave the weights alone where it is 1.
        skips = getattr(self.state.optimizer, "_step_supports_amp_scaling", False)
        self.deferred = skips and not self.state.scaler.is_enabled() and self.compute.device.type != "cpu"

    def __call__(self, batch: Batch) -> StepOutput:
        """Make one optimizer step; one that is found not finite is not made, and leaves the state as it was before."""
        state, step = self.state, self.state.step + 1
        epoch, recorded = self.timeline.epoch(step), self.timeline.records(step)
        lr = state.schedule.apply(state.optimizer, state.step, state.rate)
        weight = self.task.weight(batch.targets, batch.weights)
        self.check.keep()
        outputs, loss_sum = self._backward_in_memory(batch, weight)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        # With a scaler, gradients that overflow are its daily work: it skips the step and scales less.
        found_inf = self.check.found_inf(loss_sum, [] if state.scaler.is_enabled() else gradients)
        if self.deferred:
            self.check.undo(found_inf)
        elif found_inf.item():
            self.check.undo()
            return StepOutput(step, epoch, loss_sum, weight, lr, recorded, finite=False)
        if recorded or self.max_norm is not None:
            state.scaler.unscale_(state.optimizer)
        self.meter.before(self.timeline.measures_layers(step))
        grad_norm = self._clip(gradients, recorded)
        self._update(found_inf)
        layer_stats = self.meter.after()
        state.average.update(state.model)
        state.step = step
        self.metrics.add(step, outputs, found_inf if self.deferred else None)
        return StepOutput(step, epoch, loss_sum, weight, lr, recorded, grad_norm, layer_stats=layer_stats)

    def _backward_in_memory(self, batch: Batch, weight: Tensor | float) -> tuple[list[MicroBatchOutput], Tensor]:
        """Do `_backward`, again with smaller micro-batches where the device runs out of memory and that is wanted."""
        before = self.state.micro_batch
        while True:
            try:
                done = self._backward(batch, weight)
                self.micro_batching.tell(before)
                return done
            except (RuntimeError, MemoryError) as error:
                self.micro_batching.shrink(batch, error)
            memory.release(self.compute.device)  # outside the handler: the exception holds on to the tensors
            self.check.undo()

    def _backward(self, batch: Batch, weight: Tensor | float) -> tuple[list[MicroBatchOutput], Tensor]:
        """Compute the gradient of a batch; return what came of each micro-batch, and the sum of their losses."""
        state, outputs = self.state, []
        seeds.reseed(self.compute.device, seeds.fold(self.seed, seeds.DROPOUT, state.step))
        for parameter in self.parameters:
            parameter.grad = None
        loss_sum: Tensor | float = 0.0
        for inputs, targets, weights in self.micro_batching.split(batch):
            with self.autocast:
                predicted = state.model(inputs)
                loss = self.task.loss_sum(predicted, targets, weights)
            # d(sum / weight) = d(sum) · 1 / weight: the division is left to the first gradient.
            self._differentiate(loss, state.scaler.scale(self._inverse(weight, loss)))
            outputs.append(MicroBatchOutput(predicted.detach(), targets, weights, loss.detach()))
            loss_sum = outputs[-1].loss_sum if len(outputs) == 1 else loss_sum + outputs[-1].loss_sum
        assert isinstance(loss_sum, Tensor), "a batch has at least one sample"
        return outputs, loss_sum

    def _differentiate(self, loss: Tensor, gradient: Tensor) -> None:
        """Do `loss.backward(gradient)`.

        On the CPU straight to torch's engine: what torch looks at before, for its tracers, its compiler and other
        kinds of tensors, takes half as long as the backward pass of a small model.
        """
        if self.compute.device.type == "cpu" and type(loss) is Tensor:
            _ENGINE.run_backward((loss,), (gradient,), False, False, (), allow_unreachable=True, accumulate_grad=True)
        else:
            loss.backward(gradient)

    def _inverse(self, weight: Tensor | float, like: Tensor) -> Tensor:
        """Return 1 / weight as a scalar on the device; the few weights that are plain numbers are kept there."""
        if isinstance(weight, Tensor):
            return (1 / weight).to(like.dtype)
        if weight not in self._inverses:
            self._inverses[weight] = torch.tensor(1 / weight, device=like.device, dtype=like.dtype)
        return self._inverses[weight]

    def _clip(self, gradients: list[Tensor], recorded: bool) -> Tensor | None:
        """Clip the gradient; measure it where it is clipped or about to be recorded."""
        if not recorded and self.max_norm is None:
            return None
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.max_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.max_norm, norm)
        return norm

    def _update(self, found_inf: Tensor) -> None:
        optimizer = self.state.optimizer
        if not self.deferred:
            self.state.scaler.step(optimizer)
            self.state.scaler.update()
            return
        optimizer.grad_scale, optimizer.found_inf = None, found_inf  # type: ignore[attr-defined]  # as GradScaler does
        try:
            optimizer.step()
        finally:
            del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
