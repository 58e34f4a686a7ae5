"""The loop."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.checkpoint.store import Store
from trainer.data.loaders.protocols import EvalLoader, TrainLoader
from trainer.data.loaders.workers import worker_failure
from trainer.data.types import Batch
from trainer.errors import TrainerError
from trainer.loggers.base import Logger, LogRecord
from trainer.system import memory
from trainer.system.device import autocast
from trainer.system.signals import DEADLINE, Interrupted, SignalHandler
from trainer.tasks.base import Task
from trainer.training.non_finite import DivergenceError, check_finite, constants, format_indices, locate_non_finite
from trainer.training.recorder import Recorder
from trainer.training.state import TrainState
from trainer.training.step import StepOutput, TrainStep
from trainer.training.timeline import Timeline
from trainer.training.train_metrics import TrainMetrics

COMPLETED, MAX_TIME = "completed", "max_time"


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
        interruption: says when a signal has asked to stop or to save.
        channels_last: the memory format of image batches.
        picture: turns a few model inputs into pixels for people; None: the inputs are no images.
        labels: names of the classes, for those pictures.
        notes: plain data that goes into every checkpoint.
        tell: is told what a person should know, such as a step that was skipped.
    """

    def __init__(
        self,
        *,
        state: TrainState,
        task: Task,
        train: TrainLoader,
        val: EvalLoader,
        plan: Timeline,
        device: torch.device,
        precision: torch.dtype = torch.float32,
        seed: int = 0,
        store: Store | None = None,
        sinks: Sequence[Logger] = (),
        interruption: SignalHandler | None = None,
        channels_last: bool = False,
        picture: Callable[[Tensor], Tensor] | None = None,
        labels: tuple[str, ...] | None = None,
        notes: dict[str, object] | None = None,
        tell: Callable[[str], None] = print,
    ) -> None:
        self.state, self.task, self.train, self.val, self.plan = state, task, train, val, plan
        self.device, self.seed, self.store, self.tell, self.notes = device, seed, store, tell, notes or {}
        self.interruption = interruption or SignalHandler()
        self._autocast = autocast(device, precision)
        self._started = time.monotonic()
        self._first: Batch | None = None
        self._tally = TrainMetrics(state, task)
        self._step = TrainStep(
            state,
            task,
            plan,
            self._tally,
            device=device,
            precision=precision,
            seed=seed,
            memory_format=torch.channels_last if channels_last else torch.contiguous_format,
        )
        self._recorder = Recorder(state, task, plan, self._tally, sinks, self._first_batch, picture, labels)
        self._constants = constants(state.model)
        if store is not None:
            store.before = self._before_saving

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run, over all its resumptions."""
        return self.state.seconds + time.monotonic() - self._started

    def steps(self) -> Iterator[StepOutput]:
        """Train, one optimizer step for each item, from the state's step to the end of the plan.

        Raises:
            DivergenceError: at a step that is not finite, unless such steps are skipped.
            Interrupted: when a signal asks to stop while a batch is being made.
        """
        state, total = self.state, self.plan.total
        if state.step >= total:
            return
        state.model.train()
        self._recorder.restart_watch()
        if self.store is not None and self.train.workers:
            self.store.wait()  # workers are forked: no other thread may hold a lock then
        with contextlib.closing(self.train.stream(state.step)) as stream:
            while state.step < total:
                with self.interruption.droppable:
                    batch = next(stream)
                yield self.train_step(batch)

    def fit(self) -> str:
        """Train to the end of the plan with validation, records and checkpoints.

        Returns:
            Why it ended: "completed", "early stopping", "max_time", or "signal N".

        Raises:
            TrainerError: when the run diverges, a checkpoint cannot be written, a worker dies, or memory runs out.
        """
        self._started = time.monotonic()
        try:
            return self._fit()
        except Exception as error:
            if self.store is not None:
                self.store.settle()
            if failure := worker_failure(error):
                raise failure from error
            if memory.is_out_of_memory(error):
                remedy = "use a smaller model, data.batch_size or data.eval_batch_size"
                raise memory.exhausted(self.device, f"at step {self.state.step}", remedy) from error
            raise
        finally:
            self.interruption.alarm(0)
            self.val.close()

    def _fit(self) -> str:
        if self.state.step == 0:
            self.save(best=False)
        while True:
            try:
                self._set_alarm()
                reason = self._go_on()
                if reason == COMPLETED:
                    for report in self.steps():
                        reason = self._conclude(self.log(report) if report.recorded else None)
                        if reason != COMPLETED:
                            break
                self._wait()
                return reason
            except Interrupted as request:
                self.save(best=False)
                self._wait()
                return MAX_TIME if request.signal == DEADLINE else f"signal {request.signal}"
            except DivergenceError as diverged:
                self._roll_back(diverged)

    def _go_on(self) -> str:
        """Do what the process before was kept from after its last step; returns the reason to stop, if there is one."""
        record = self._recorder.resumed(self.seconds)
        if record is None:
            return self._reason_to_stop()
        if self.store is not None:
            self.store.outdated(self.state.step)  # the checkpoint in which the record was waiting
        return self._conclude(record)

    def _conclude(self, record: LogRecord | None) -> str:
        """What follows a step: validate, write the record, save; returns the reason to stop, if there is one."""
        plan, step = self.plan, self.state.step
        improved = False
        if record is not None:
            if plan.evaluate.due(step):
                try:
                    improved = self.evaluate(record)
                except Interrupted:
                    self._recorder.suspend(record)
                    raise
            self._recorder.write(record)
        if self.store is not None:
            self.store.check()
        reason = self._reason_to_stop()
        wanted, self.interruption.save_wanted = self.interruption.save_wanted, False
        if improved or wanted or plan.save.due(step) or reason != COMPLETED:
            self.save(best=improved)
        if wanted:
            self._tell_saved()
        return reason if step < plan.total or reason == "early stopping" else COMPLETED

    def train_step(self, batch: Batch) -> StepOutput:
        """One optimizer step on a batch, in micro-batches where the plan says so.

        Raises:
            DivergenceError: where it is not finite, unless such steps are skipped.
        """
        state = self.state
        if state.step == 0:
            self._first = batch
        micro_batch = state.micro_batch
        report = self._step(batch)
        if state.micro_batch != micro_batch:
            self.tell(f"warning: {self.device} is out of memory; from here on {state.micro_batch} samples at a time.")
        if not report.finite:
            self._refuse(report.step, batch)
            state.step += 1  # skipped: the clock goes on, the weights stay
        elif not self._step.patient:
            state.skips = 0
        self._recorder.count(batch.targets.size(0))
        if self._tally.bad:
            self._refuse_late()
        return report

    def validate(self, between: Callable[[], None] = lambda: None) -> tuple[dict[str, float], Tensor | None]:
        """The scores of the validation data (`val/...`) and the confusion matrix, with the averaged weights if any.

        Args:
            between: is called before each batch.
        """
        model = self.state.evaluated
        if self.store is not None and self.val.workers:
            self.store.wait()  # workers are forked with the first pass
        model.eval()
        sums = self.task.evaluation(self.device)
        try:
            with torch.inference_mode():
                for batch in self.val:
                    between()
                    with self._autocast:
                        outputs = model(self._step.formatted(batch.inputs))
                    sums.update(outputs, batch.targets, batch.weights)
                scores = {f"val/{name}": value for name, value in sums.scores().items()}
        finally:
            self.state.model.train()
        return scores, sums.confusion()

    def evaluate(self, record: LogRecord) -> bool:
        """Validate into the record, and tell the schedule and the monitor; returns whether it is the best so far."""
        state = self.state
        with self.interruption.droppable:
            scores, confusion = self.validate(between=lambda: self._save_meanwhile(record))
        state.scores, record.confusion = scores, confusion
        record.scalars |= scores
        score = scores[state.monitor.name]
        state.schedule.observe(score, state.monitor.mode)
        improved = state.monitor.observe(score, state.step)
        self._recorder.restart_watch()
        return improved

    def log(self, report: StepOutput) -> LogRecord:
        """A record of the training since the last one."""
        record = self._recorder.record(report, self.seconds)
        if self._tally.bad:
            self._refuse_late()
        return record

    def save(self, best: bool) -> None:
        """Save the state as `last`, and as `best` where it is; the writing goes on in the background.

        Raises:
            TrainerError: of the save before; a `DivergenceError` where that state was not finite: it was not saved.
        """
        if self.store is None:
            return
        state = self.state
        self._tally.close()
        if self._tally.bad:
            self._refuse_late()
        payload = state.state_dict(self.plan.steps_per_epoch) | {"seconds": self.seconds} | self.notes
        self.store.save(payload, {"step": state.step, "epoch": payload["epoch"], "scores": state.scores}, best)
        self._recorder.restart_watch()

    def _save_meanwhile(self, record: LogRecord) -> None:
        """Answer to SIGUSR1 in the middle of a validation: its record waits in the checkpoint."""
        if self.store is None or not self.interruption.save_wanted:
            return
        self.interruption.save_wanted = False
        with self.interruption.held(), torch.inference_mode(False):
            self._recorder.suspend(record)
            self.save(best=False)
            self.store.wait()
            self.store.outdated(self.state.step)
            self.state.pending = None
            self._tell_saved()
        if self._seconds_left() <= 0:
            raise Interrupted(DEADLINE)  # its alarm may have come meanwhile

    def _tell_saved(self) -> None:
        self.tell(f"Saved step {self.state.step}, as {signal.SIGUSR1.name} asked.")

    def _before_saving(self, payload: dict[str, Any]) -> None:
        """In the background: a state that is not finite is not saved; the records that lead to it are on the disk."""
        if what := check_finite(payload, self._constants):
            raise DivergenceError(what, payload["step"])
        self._recorder.flush()

    def _wait(self) -> None:
        if self.store is not None:
            self.store.wait()

    def _reason_to_stop(self) -> str:
        if self.interruption.signal is not None:
            return f"signal {self.interruption.signal}"
        if self._seconds_left() <= 0:
            return MAX_TIME
        if self.state.monitor.exhausted:
            return "early stopping"
        return COMPLETED

    def _seconds_left(self) -> float:
        """Until the run must be about to save, to have saved in time."""
        if self.plan.max_seconds is None:
            return float("inf")
        saving = 0.0 if self.store is None else self.store.seconds
        return self.plan.max_seconds - saving - (time.monotonic() - self._started)

    def _set_alarm(self) -> None:
        left = self._seconds_left()
        if 0 < left < float("inf"):
            self.interruption.alarm(left)

    def _refuse(self, step: int, batch: Batch) -> None:
        """Answer to a step that is not finite and was not made: raise, or say that it is skipped."""
        state = self.state
        if what := check_finite(state.state_dict(1), self._constants):
            raise DivergenceError(f"{what} since the step before: that update was too large", step)
        what, bad = locate_non_finite(state.model, self.task, batch)
        if batch.positions is not None:
            index = batch.positions.cpu()[bad]
            rows = self.train.split.rows
            what += f": {format_indices((index if rows is None else rows[index]).tolist())} of the dataset"
        state.skips += 1
        if self.plan.on_nan != "skip":
            raise DivergenceError(what, step)
        if state.skips > self.plan.on_nan_limit:
            raise TrainerError(
                f"{state.skips} steps in a row, up to step {step}, were not finite, more than "
                f"trainer.on_nan_limit={self.plan.on_nan_limit}: {what}. The last good checkpoint is kept."
            )
        self.tell(f"warning: step {step} is skipped: {what}.")

    def _refuse_late(self) -> None:
        """The same for steps that the device left out and that are known of only now."""
        bad, self._tally.bad = self._tally.bad, []
        if bad[-1] < self.state.step:
            self.state.skips = 0
        for step in bad:
            with contextlib.closing(self.train.stream(step - 1)) as stream:
                self._refuse(step, next(stream))

    def _roll_back(self, diverged: DivergenceError) -> None:
        """Go on from the last good checkpoint with a lower rate; raises the error where that is not wanted any more."""
        state, plan = self.state, self.plan
        rollbacks = state.rollbacks + 1
        if plan.on_nan != "rollback" or self.store is None:
            raise diverged
        if rollbacks > plan.on_nan_limit:
            raise TrainerError(
                f"{diverged} It was set back {plan.on_nan_limit} times already (trainer.on_nan_limit)."
            ) from diverged
        with contextlib.suppress(DivergenceError):  # of a save under way: the same divergence
            self.store.wait()
        payload, _ = self.store.load()
        state.load_state_dict(payload | {"seconds": self.seconds})
        self._started = time.monotonic()
        self.store.rewind(state.step, state.monitor.best_step)
        self.store.outdated(state.step)
        state.rollbacks, state.rate = rollbacks, plan.on_nan_factor**rollbacks
        self._recorder.rewind(state.recorded)
        self.tell(
            f"warning: step {diverged.step} is not finite ({diverged.what}); back to step {state.step} with "
            f"{state.rate:g} times the learning rate (rollback {rollbacks} of {plan.on_nan_limit})."
        )

    def _first_batch(self) -> Batch:
        """The first batch of the run, made again where another process has trained on it."""
        first, self._first = self._first, None
        if first is not None:
            return first
        with contextlib.closing(self.train.stream(0)) as stream:
            return next(stream)
