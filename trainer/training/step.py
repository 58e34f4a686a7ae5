"""One optimizer step."""

from typing import NamedTuple

from torch import Tensor

from trainer.data.types import Batch
from trainer.models.progress import ModelProgress
from trainer.optim.fused import backward, step_unless, takes_found_inf
from trainer.system import seeds
from trainer.training.context import RunContext
from trainer.training.freezing import freezing_of
from trainer.training.gradients import GradientClip, InverseWeights, MicroBatching
from trainer.training.layer_stats import LayerMeter, LayerStats
from trainer.training.non_finite import BufferBackup, all_finite, find_inf
from trainer.training.train_metrics import MicroBatchOutput, TrainMetrics


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
        self.reseed = seeds.reseed_all if context.config.has_outside_parts else seeds.reseed
        self.parameters = [p for p in self.state.model.parameters() if p.requires_grad]
        self.micro_batching, self.autocast = MicroBatching(context), self.compute.autocast()
        self.buffers = BufferBackup(self.state.model)
        self.clip = GradientClip(self.parameters, context.config.trainer.clip_norm)
        self.progress = ModelProgress(self.state.model, self.timeline.total)
        self.freezing = freezing_of(self.state.model, context.config.model, self.timeline)
        self.meter, self.inverse = LayerMeter(self.state.model), InverseWeights()
        waits = self.compute.device.type == "cpu" or self.state.scaler.is_enabled()
        self.deferred = not waits and takes_found_inf(self.state.optimizer)

    def __call__(self, batch: Batch) -> StepOutput:
        """Make one optimizer step; one that is found not finite is not made, and leaves the state as it was before."""
        state, step = self.state, self.state.step + 1
        epoch, recorded = self.timeline.epoch(step), self.timeline.records(step)
        self.progress(state.step)
        self.freezing.apply(state.step)
        lr = state.schedule.apply(state.optimizer, state.step, state.rate)
        weight = self.task.weight(batch.targets, batch.weights)
        self.buffers.keep()
        outputs, loss_sum = self._backward_in_memory(batch, weight)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        # With a scaler, gradients that overflow are its daily work: it skips the step and scales less.
        checked = [] if state.scaler.is_enabled() else gradients
        found_inf = find_inf(loss_sum, checked) if self.deferred else None
        if found_inf is not None:
            self.buffers.undo(found_inf)
        elif not all_finite(loss_sum, checked):
            self.buffers.undo()
            return StepOutput(step, epoch, loss_sum, weight, lr, recorded, finite=False)
        if recorded or self.clip.clips:
            state.scaler.unscale_(state.optimizer)
        self.meter.before(self.timeline.measures_layers(step))
        grad_norm = self.clip(gradients, recorded)
        if found_inf is not None:
            step_unless(state.optimizer, found_inf)
        else:
            state.scaler.step(state.optimizer)
            state.scaler.update()
        layer_stats = self.meter.after()
        state.average.update(state.model)
        state.step = step
        self.metrics.add(step, outputs, found_inf)
        return StepOutput(step, epoch, loss_sum, weight, lr, recorded, grad_norm, layer_stats=layer_stats)

    def _backward_in_memory(self, batch: Batch, weight: Tensor | float) -> tuple[list[MicroBatchOutput], Tensor]:
        """Do `_backward`, again with smaller micro-batches where the device runs out of memory and that is wanted."""
        while True:
            try:
                return self._backward(batch, weight)
            except (RuntimeError, MemoryError) as error:
                self.micro_batching.shrink(batch, error)
            self.micro_batching.release()  # outside the handler: the exception holds on to the tensors
            self.buffers.undo()

    def _backward(self, batch: Batch, weight: Tensor | float) -> tuple[list[MicroBatchOutput], Tensor]:
        """Compute the gradient of a batch; return what came of each micro-batch, and the sum of their losses."""
        state, outputs = self.state, []
        self.reseed(self.compute.device, seeds.fold(self.seed, seeds.DROPOUT, state.step))
        for parameter in self.parameters:
            parameter.grad = None
        for inputs, targets, weights in self.micro_batching.split(batch):
            with self.autocast:
                predicted = state.model(inputs)
                loss = self.task.loss_sum(predicted, targets, weights)
            # d(sum / weight) = d(sum) · 1 / weight: the division is left to the first gradient.
            backward(loss, state.scaler.scale(self.inverse(weight, loss)))
            outputs.append(MicroBatchOutput(predicted.detach(), targets, weights, loss.detach()))
        first, *rest = outputs
        return outputs, sum((output.loss_sum for output in rest), first.loss_sum) if rest else first.loss_sum
