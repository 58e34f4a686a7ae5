"""What a step that is not finite leads to: `trainer.on_nan`."""

import contextlib
import logging
from typing import Any

from trainer.checkpoint.store import AnyStore
from trainer.data.types import Batch
from trainer.errors import TrainerError
from trainer.training.context import RunContext
from trainer.training.non_finite import DivergenceError, check_finite, constants, format_indices, locate_non_finite
from trainer.training.recorder import Recorder
from trainer.training.step import StepOutput

log = logging.getLogger("trainer")


class NonFinitePolicy:
    """Stops the run at a step that is not finite, skips the step, or sets the run back, as `trainer.on_nan` says.

    Args:
        context: what is trained, and how.
        recorder: forgets the records of steps that the run is set back from.
        store: has the checkpoint to go back to.
    """

    def __init__(self, context: RunContext, recorder: Recorder, store: AnyStore) -> None:
        self.settings, self.state, self.task, self.train = (
            context.config.trainer,
            context.state,
            context.task,
            context.train,
        )
        self.recorder, self.metrics, self.store = recorder, recorder.metrics, store
        self._constants = constants(context.state.model)

    def after_step(self, output: StepOutput, batch: Batch, deferred: bool) -> None:
        """Answer to a step that was not finite, or that is now known to have been.

        Args:
            deferred: whether it is known of a step only later that it was not finite.

        Raises:
            DivergenceError: unless such steps are skipped.
            TrainerError: after too many of them in a row.
        """
        if not output.finite:
            self._reject_step(output.step, batch)
            self.state.step += 1  # skipped: the clock goes on, the weights stay
        elif not deferred:
            self.state.skips = 0
        if self.metrics.skipped_steps:
            self.reject_deferred()

    def reject_deferred(self) -> None:
        """Answer to steps that the device has left out and that are known of only now; raises as `after_step`."""
        steps, self.metrics.skipped_steps = self.metrics.skipped_steps, []
        if steps and steps[-1] < self.state.step:
            self.state.skips = 0
        for step in steps:
            with contextlib.closing(self.train.stream(step - 1)) as stream:
                self._reject_step(step, next(stream))

    def check_payload(self, payload: dict[str, Any]) -> None:
        """Raise `DivergenceError` where a state that is about to be saved is not finite."""
        if what := check_finite(payload, self._constants):
            raise DivergenceError(what, payload["step"])

    def roll_back(self, diverged: DivergenceError) -> None:
        """Go on from the last good checkpoint with a lower learning rate.

        Raises:
            DivergenceError: the one given, where that is not wanted or nothing was saved.
            TrainerError: where it was done too often.
        """
        state, settings, rollbacks = self.state, self.settings, self.state.rollbacks + 1
        if settings.on_nan != "rollback" or not self.store.saves:
            raise diverged
        if rollbacks > settings.on_nan_limit:
            raise TrainerError(
                f"{diverged} It was set back {settings.on_nan_limit} times already (trainer.on_nan_limit)."
            ) from diverged
        with contextlib.suppress(DivergenceError):  # of a save under way: the same divergence
            self.store.wait()
        payload, _ = self.store.load()
        state.load_state_dict(payload)
        self.store.rewind(state.step, state.monitor.best_step)
        self.store.invalidate(state.step)
        state.rollbacks, state.rate = rollbacks, settings.on_nan_factor**rollbacks
        self.recorder.rewind(state.recorded)
        log.warning(
            f"step {diverged.step} is not finite ({diverged.what}); back to step {state.step} with "
            f"{state.rate:g} times the learning rate (rollback {rollbacks} of {settings.on_nan_limit})."
        )

    def _reject_step(self, step: int, batch: Batch) -> None:
        """Raise for a step that was not made, or say that it is skipped."""
        state, settings = self.state, self.settings
        if what := check_finite(state.state_dict(1), self._constants):
            raise DivergenceError(f"{what} since the step before: that update was too large", step)
        what, bad = locate_non_finite(state.model, self.task, batch)
        if batch.positions is not None:
            index = batch.positions.cpu()[bad]
            rows = self.train.split.rows
            what += f": {format_indices((index if rows is None else rows[index]).tolist())} of the dataset"
        state.skips += 1
        if settings.on_nan != "skip":
            raise DivergenceError(what, step)
        if state.skips > settings.on_nan_limit:
            raise TrainerError(
                f"{state.skips} steps in a row, up to step {step}, were not finite, more than "
                f"trainer.on_nan_limit={settings.on_nan_limit}: {what}. The last good checkpoint is kept."
            )
        log.warning(f"step {step} is skipped: {what}.")
