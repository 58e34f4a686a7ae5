"""The loop."""

import contextlib
import logging
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.checkpoint.store import AnyStore, NullStore
from trainer.data.loaders.workers import worker_failure
from trainer.data.types import Batch
from trainer.loggers.base import Logger, LogRecord
from trainer.system import memory
from trainer.system.signals import DEADLINE, Interrupted, SignalHandler
from trainer.tasks.base import AVERAGED_PREFIX
from trainer.training.average import AVERAGE, MODEL
from trainer.training.context import RunContext
from trainer.training.evaluation import Evaluator
from trainer.training.non_finite import DivergenceError
from trainer.training.non_finite_policy import NonFinitePolicy
from trainer.training.recorder import Recorder
from trainer.training.step import StepOutput, TrainStep
from trainer.training.stopping import NullPruner, Pruner, RunClock
from trainer.training.train_metrics import TrainMetrics

COMPLETED, EARLY_STOPPING, MAX_TIME, PRUNED = "completed", "early stopping", "max_time", "pruned"  # why `fit` ended

log = logging.getLogger("trainer")


class Trainer:
    """Trains the state of a run on its stream of batches.

    Args:
        context: the parts of the run.
        store: where checkpoints go; None: nowhere.
        signals: says when a signal has asked to stop or to save; None: none does.
        pruner: decides after each validation whether to go on; None: always.
    """

    def __init__(
        self,
        context: RunContext,
        store: AnyStore | None = None,
        signals: SignalHandler | None = None,
        pruner: Pruner | None = None,
    ) -> None:
        self.context, self.state, self.timeline = context, context.state, context.timeline
        self.train, self.val, self.notes = context.train, context.val, context.notes()
        self.store, self.signals = store or NullStore(), signals or SignalHandler()
        metrics = TrainMetrics(context.state, context.task, context.timeline.steps_per_epoch)
        self.optimizer_step = TrainStep(context, metrics)
        self.recorder = Recorder(context, metrics)
        self.evaluator = Evaluator(context, self.store)
        context.activity.step = context.state.step
        self.clock = RunClock(context.state.seconds, context.timeline.max_seconds, self.store)
        self.non_finite = NonFinitePolicy(context, self.recorder, self.store)
        self.pruner, self._pruned = pruner or NullPruner(), False

    @property
    def device(self) -> torch.device:
        """Where the maths runs."""
        return self.context.compute.device

    def fit(self, loggers: Sequence[Logger] = ()) -> str:
        """Train to the end with validation, records and checkpoints.

        Args:
            loggers: where records go.

        Returns:
            Why it ended: "completed", "early stopping", "pruned", "max_time", or "signal N".

        Raises:
            TrainerError: when the run diverges, a checkpoint cannot be written, a worker dies, or memory runs out.
        """
        self.recorder.loggers = loggers
        self.clock.start()
        with self._errors_explained():
            if self.state.step == 0:
                self.save()
            while True:
                try:
                    self.clock.set_alarm(self.signals)
                    reason = self._train()
                    self.store.wait()
                    return reason
                except Interrupted as request:
                    self.save()
                    self.store.wait()
                    return MAX_TIME if request.signal == DEADLINE else f"signal {request.signal}"
                except DivergenceError as diverged:
                    self.non_finite.roll_back(diverged)

    def _train(self) -> str:
        """Train until there is a reason to stop; first finish what an interrupted process had to do after its step."""
        pending = self.recorder.resumed(self.clock.seconds)
        reason = self._finish_step(pending) if pending else self._reason_to_stop()
        if reason is None:
            for output in self.steps():
                if reason := self._finish_step(self.record(output) if output.recorded else None):
                    break
        return reason or COMPLETED

    def steps(self) -> Iterator[StepOutput]:
        """Train, one optimizer step for each item, from the state's step to the last one.

        Raises:
            DivergenceError: at a step that is not finite, unless such steps are skipped.
            Interrupted: when a signal asks to stop while a batch is being made.
        """
        self.state.model.train()
        self.recorder.restart_watch()
        if self.train.workers:
            self.store.wait()  # workers are forked: no other thread may hold a lock then
        activity = self.context.activity
        activity.step = self.state.step
        with contextlib.closing(self.train.stream(self.state.step)) as stream:
            while self.state.step < self.timeline.total:
                activity.doing = "reading"
                with self.signals.interruptible:
                    batch = next(stream)
                activity.doing = "training"
                output = self.train_step(batch)
                activity.step = self.state.step
                yield output

    def train_step(self, batch: Batch) -> StepOutput:
        """Make one optimizer step on a batch, in micro-batches where wanted.

        Raises:
            DivergenceError: where it is not finite, unless such steps are skipped.
        """
        if self.state.step == 0:
            self.recorder.images.keep(batch)
        output = self.optimizer_step(batch)
        self.recorder.count(batch.targets.size(0))
        self.non_finite.after_step(output, batch, self.optimizer_step.deferred)
        return output

    def _finish_step(self, record: LogRecord | None) -> str | None:
        """Do what follows a step: validate, write the record, save; return the reason to stop, if there is one."""
        step, improved = self.state.step, False
        if record is not None:
            if self.timeline.evaluate.due(step):
                improved = self.evaluate(record)
            self.recorder.write(record)
        self.store.check()
        due, reason, asked = self.timeline.save.due(step), self._reason_to_stop(), self.signals.take_save_request()
        if due or improved or asked or reason is not None:
            self.save(best=improved)
        if asked:
            self._tell_saved()
        return reason

    def record(self, output: StepOutput) -> LogRecord:
        """Return a record of the training since the last one; raises as `train_step`."""
        record = self.recorder.record(output, self.clock.seconds)
        self.non_finite.reject_deferred()
        return record

    def evaluate(self, record: LogRecord) -> bool:
        """Validate into the record, and tell the schedule and the monitor; return whether it is the best so far."""
        state = self.state
        try:
            with self.signals.interruptible, contextlib.closing(self.evaluator.batches()) as batches:
                for _ in batches:
                    if self.signals.save_wanted:
                        self._save_in_validation(record)
                state.scores = self.evaluator.scores()
        except Interrupted:
            self.recorder.suspend(record)
            raise
        decides = state.monitor.deciding(state.scores)
        state.weights = AVERAGE if decides.startswith(AVERAGED_PREFIX) else MODEL
        record.scalars |= state.scores
        record.confusion = self.evaluator.confusion(decides)
        state.schedule.observe(state.scores[decides], state.monitor.mode)
        self.recorder.restart_watch()
        score = state.scores[decides]
        self._pruned = self.pruner.observe(state.monitor.name, state.monitor.mode, state.step, score)
        return state.monitor.observe(score, state.step, decides)

    def validate(self) -> tuple[dict[str, float], Tensor | None]:
        """Return the scores of the validation data, and the confusion matrix of those that decide; see `Evaluator`."""
        for _ in self.evaluator.batches():
            pass
        scores = self.evaluator.scores()
        return scores, self.evaluator.confusion(self.state.monitor.deciding(scores))

    def save(self, best: bool = False) -> None:
        """Save the state as `last`, and as `best` where it is; the writing goes on in the background.

        Raises:
            TrainerError: of the save before; a `DivergenceError` where that state was not finite: it was not saved.
        """
        state, self.context.activity.doing = self.state, "saving"
        self.recorder.metrics.close()
        self.non_finite.reject_deferred()
        payload = state.state_dict(self.timeline.steps_per_epoch) | {"seconds": self.clock.seconds} | self.notes
        notes = {"step": state.step, "epoch": payload["epoch"], "scores": state.scores}
        self.store.save(payload, notes, best, self._pre_save)
        self.timeline.save.restart(state.step)
        self.recorder.restart_watch()

    def _pre_save(self, payload: dict[str, Any]) -> None:
        """In the background: a state that is not finite is not saved; the records that lead to it are on the disk."""
        self.non_finite.check_payload(payload)
        self.recorder.flush()

    def _save_in_validation(self, record: LogRecord) -> None:
        """Answer to SIGUSR1 in the middle of a validation: its record waits in the checkpoint."""
        self.signals.take_save_request()
        with self.signals.uninterruptible():
            self.recorder.suspend(record)
            self.save()
            self.store.wait()
            self.store.invalidate(self.state.step)
            self.state.pending = None
            self._tell_saved()
        if self.clock.left <= 0:
            raise Interrupted(DEADLINE)  # its alarm may have come meanwhile

    def _tell_saved(self) -> None:
        if self.store.saves:
            log.info(f"Saved step {self.state.step}, as {signal.SIGUSR1.name} asked.")

    def _reason_to_stop(self) -> str | None:
        """Return why the run is not to go on, if so; what comes after the last step finds it completed."""
        if self.signals.signal is not None:
            reason = f"signal {self.signals.signal}"
        elif self.clock.left <= 0:
            reason = MAX_TIME
        elif self._pruned:
            reason = PRUNED
        else:
            return EARLY_STOPPING if self.state.monitor.exhausted else None
        return reason if self.state.step < self.timeline.total else None

    @contextlib.contextmanager
    def _errors_explained(self) -> Iterator[None]:
        """Let a save come to its end, release what the run holds, and turn what a person can fix into a message."""
        try:
            yield
        except Exception as error:
            self.store.join()
            if failure := worker_failure(error):
                raise failure from error
            if memory.is_out_of_memory(error):
                remedy = "use a smaller model, data.batch_size or data.eval_batch_size"
                raise memory.exhausted(self.device, f"at step {self.state.step}", remedy) from error
            raise
        finally:
            self.signals.alarm(0)
            self.val.close()
