"""The loop."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trainer import seeds
from trainer.checkpoints import Store
from trainer.device import autocast
from trainer.errors import TrainerError
from trainer.interfaces import Batch, EvalLoader, Record, Sink, Task, TrainLoader
from trainer.plan import Plan
from trainer.signals import Interruption
from trainer.state import TrainState
from trainer.tally import Tally

COMPLETED = "completed"


class Report(NamedTuple):
    """One optimizer step, just done.

    Attributes:
        step: steps done, this one included.
        epoch: whole epochs done.
        loss_sum, weight: of this batch, on the device; see `Task`.
        lr: the rate it was made with.
        grad_norm: length of the gradient before clipping, on the device; None where it was not needed.
    """

    step: int
    epoch: int
    loss_sum: Tensor
    weight: Tensor | float
    lr: float
    grad_norm: Tensor | None

    @property
    def loss(self) -> Tensor:
        """Of this batch, a scalar on the device; reading its value waits for the device."""
        return self.loss_sum / self.weight


def diverged(what: str, step: int) -> TrainerError:
    """The error for a run whose numbers have left the finite."""
    return TrainerError(
        f"The {what} at step {step}: the run has diverged. The last good checkpoint is kept. Try a smaller "
        "optimizer.lr, scheduler.warmup=5%, or trainer.clip_norm=1."
    )


class Trainer:
    """Trains a state on a stream of batches.

    Args:
        state: what is trained.
        task: what is minimised and scored.
        train, val: the loaders.
        plan: how far, and when to do what.
        device, precision: where the maths runs, and in what.
        seed: of the run; dropout is a function of it and the step.
        store: where checkpoints go; None: nowhere.
        sinks: where records go.
        interruption: says when a signal has asked to stop.
        channels_last: the memory format of image batches.
        picture: turns a few model inputs into pixels for people; None: the inputs are no images.
        labels: names of the classes, for those pictures.
    """

    def __init__(
        self,
        *,
        state: TrainState,
        task: Task,
        train: TrainLoader,
        val: EvalLoader,
        plan: Plan,
        device: torch.device,
        precision: torch.dtype = torch.float32,
        seed: int = 0,
        store: Store | None = None,
        sinks: Sequence[Sink] = (),
        interruption: Interruption | None = None,
        channels_last: bool = False,
        picture: Callable[[Tensor], Tensor] | None = None,
        labels: tuple[str, ...] | None = None,
        notes: dict[str, object] | None = None,
    ) -> None:
        self.state, self.task, self.train, self.val, self.plan = state, task, train, val, plan
        self.device, self.precision, self.seed = device, precision, seed
        self.store, self.sinks, self.interruption = store, sinks, interruption or Interruption()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.picture, self.labels, self.notes = picture, labels, notes or {}
        self._started = time.monotonic()
        self._samples, self._since = 0, self._started
        self._first: Batch | None = None
        self._parameters = [p for p in state.model.parameters() if p.requires_grad]
        self._tally = Tally(state, task)
        self._inverses: dict[float, Tensor] = {}
        self._autocast = autocast(device, precision)

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run, over all its resumptions."""
        return self.state.seconds + time.monotonic() - self._started

    def steps(self) -> Iterator[Report]:
        """Train, one optimizer step for each item, from the state's step to the end of the plan."""
        state, plan = self.state, self.plan
        if state.step >= plan.total:
            return
        state.model.train()
        self._restart_watch()
        for batch in self.train.stream(state.step):
            yield self.train_step(batch)
            if state.step >= plan.total:
                return

    def fit(self) -> str:
        """Train to the end of the plan with validation, records and checkpoints.

        Returns:
            Why it ended: "completed", "early stopping", "max_time", or "signal N".

        Raises:
            TrainerError: when the loss or the weights are no longer finite.
        """
        state, plan = self.state, self.plan
        self._started = time.monotonic()
        if state.step == 0:
            self.save(best=False)
        reason = self._reason_to_stop()
        if reason != COMPLETED:
            return reason  # a signal came before the first step, or a resumed run has nothing left to do
        for report in self.steps():
            improved = False
            if plan.records(report.step):
                record = self.log(report)
                improved = plan.evaluate.due(report.step) and self.evaluate(record)
                self.write(record)
            reason = self._reason_to_stop()
            if improved or plan.save.due(report.step) or reason != COMPLETED:
                self.save(best=improved)
            if reason != COMPLETED:
                break
        return reason

    def train_step(self, batch: Batch) -> Report:
        """One optimizer step on a batch, in micro-batches where the plan says so."""
        state, task, optimizer = self.state, self.task, self.state.optimizer
        seeds.reseed(self.device, seeds.fold(self.seed, seeds.DROPOUT, state.step))
        lr = state.schedule.apply(optimizer, state.step)
        weight = task.weight(batch.targets)
        for parameter in self._parameters:
            parameter.grad = None
        loss_sum: Tensor | None = None
        for inputs, targets in self._micro_batches(batch):
            with self._autocast:
                outputs = state.model(inputs)
                part = task.loss_sum(outputs, targets)
            # d(sum / weight) = d(sum) · 1 / weight: the division is left to the first gradient.
            part.backward(state.scaler.scale(self._inverse(weight, part)))
            part = part.detach()
            self._tally.add(outputs.detach(), targets, part)
            loss_sum = part if loss_sum is None else loss_sum + part
        assert loss_sum is not None
        grad_norm = self._clip()
        state.scaler.step(optimizer)
        state.scaler.update()
        if state.ema is not None:
            state.ema.update_parameters(state.model)
        state.step += 1
        self._samples += batch.targets.size(0)
        if self._first is None and self.picture is not None:
            self._first = batch
        return Report(state.step, state.step // self.plan.steps_per_epoch, loss_sum, weight, lr, grad_norm)

    def validate(self) -> tuple[dict[str, float], Tensor | None]:
        """The scores of the validation data (`val/...`) and the confusion matrix, with the averaged weights if any."""
        model = self.state.evaluated
        model.eval()
        sums = self.task.evaluation(self.device)
        with torch.inference_mode():
            for batch in self.val:
                with self._autocast:
                    outputs = model(self._formatted(batch.inputs))
                sums.update(outputs, batch.targets, batch.weights)
            scores = {f"val/{name}": value for name, value in sums.scores().items()}
        self.state.model.train()
        return scores, sums.confusion()

    def evaluate(self, record: Record) -> bool:
        """Validate into the record, and tell the schedule and the monitor; returns whether it is the best so far."""
        state = self.state
        state.scores, record.confusion = self.validate()
        record.scalars |= state.scores
        score = state.scores[state.monitor.name]
        state.schedule.observe(score, state.monitor.mode)
        improved = state.monitor.observe(score, state.step)
        self._restart_watch()
        return improved

    def log(self, report: Report) -> Record:
        """A record of the training since the last one: the one wait for the device in an interval."""
        state = self.state
        record = Record(report.step, report.epoch, self.seconds)
        self._tally.close()
        assert state.tally is not None  # at least one step has been made since the last record
        scores = self.task.training_scores(state.tally.tolist())
        state.tally = None
        if not math.isfinite(scores["loss"]):
            raise diverged(f"training loss is {scores['loss']}", report.step)
        record.scalars |= {f"train/{name}": value for name, value in scores.items()}
        record.scalars["lr"] = report.lr
        if report.grad_norm is not None:
            record.scalars["grad_norm"] = report.grad_norm.item()
        elapsed = time.monotonic() - self._since
        record.scalars["samples_per_second"] = self._samples / elapsed if elapsed else 0.0
        if self.plan.histograms.recurs and self.plan.histograms.due(report.step):
            self._histograms(record)
        self._restart_watch()
        return record

    def save(self, best: bool) -> None:
        """Save the state as `last`, and as `best` where it is."""
        if self.store is None:
            return
        state = self.state
        self._tally.close()
        if not state.is_finite():
            raise diverged("weights are no longer finite", state.step)
        payload = state.state_dict(self.plan.steps_per_epoch) | {"seconds": self.seconds} | self.notes
        self.store.save(payload, {"step": state.step, "epoch": payload["epoch"], "scores": state.scores}, best)
        self._restart_watch()

    def write(self, record: Record) -> None:
        """Give a record to the sinks, with the first training images the first time."""
        record.best = self.state.monitor.best
        if self._first is not None and self.picture is not None:
            record.images = self.picture(self._first.inputs[:32]).cpu()
            if self.labels is not None:
                record.labels = [self.labels[target] for target in self._first.targets[:32].tolist()]
            self.picture = self._first = None
        for sink in self.sinks:
            sink.write(record)

    def _micro_batches(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        samples, size = batch.targets.size(0), self.plan.micro_batch
        if size is None or size >= samples:
            yield self._formatted(batch.inputs), batch.targets
            return
        for start in range(0, samples, size):
            yield self._formatted(batch.inputs[start : start + size]), batch.targets[start : start + size]

    def _inverse(self, weight: Tensor | float, like: Tensor) -> Tensor:
        """1 / weight as a scalar on the device; the few weights that are plain numbers are kept there."""
        if isinstance(weight, Tensor):
            return (1 / weight).to(like.dtype)
        if weight not in self._inverses:
            self._inverses[weight] = torch.tensor(1 / weight, device=like.device, dtype=like.dtype)
        return self._inverses[weight]

    def _formatted(self, inputs: Tensor) -> Tensor:
        return inputs.contiguous(memory_format=self.memory_format) if inputs.ndim == 4 else inputs

    def _clip(self) -> Tensor | None:
        """Clip the gradient; measure it where it is clipped or about to be recorded."""
        state, plan = self.state, self.plan
        if plan.clip_norm is None and not plan.records(state.step + 1):
            return None
        state.scaler.unscale_(state.optimizer)
        limit = math.inf if plan.clip_norm is None else plan.clip_norm
        if math.isinf(limit):
            gradients = [p.grad for p in self._parameters if p.grad is not None]
            return torch.nn.utils.get_total_norm(gradients)
        return torch.nn.utils.clip_grad_norm_(self._parameters, limit)

    def _reason_to_stop(self) -> str:
        if self.interruption.signal is not None:
            return f"signal {self.interruption.signal}"
        if self.plan.max_seconds is not None and time.monotonic() - self._started >= self.plan.max_seconds:
            return "max_time"
        if self.state.monitor.exhausted:
            return "early stopping"
        return COMPLETED

    def _histograms(self, record: Record) -> None:
        for name, parameter in self.state.model.named_parameters():
            record.histograms[f"weights/{name}"] = parameter.detach().float().cpu()
            if parameter.grad is not None:
                record.histograms[f"gradients/{name}"] = parameter.grad.float().cpu()

    def _restart_watch(self) -> None:
        """Samples per second count training alone, not validating and saving."""
        self._samples, self._since = 0, time.monotonic()
