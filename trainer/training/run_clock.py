"""The wall-clock time of a run, and what is left of it."""

import math
import time

from trainer.checkpoint.store import AnyStore
from trainer.system.signals import SignalHandler
from trainer.training.state import TrainState
from trainer.training.timeline import Timeline


class RunClock:
    """Measures how long a run has taken, and when `trainer.max_time` asks it to save and stop.

    Args:
        state: knows the seconds of the processes before this one.
        timeline: knows `max_seconds`.
        store: knows how long a save takes: the run stops early enough to have saved in time.
    """

    def __init__(self, state: TrainState, timeline: Timeline, store: AnyStore) -> None:
        self.state, self.timeline, self.store = state, timeline, store
        self.start()

    def start(self) -> None:
        """Begin: `max_seconds` count from here."""
        self._began = self._since = time.monotonic()

    def go_back(self, seconds: float) -> None:
        """Count on from `seconds` after the state was set back to a checkpoint; what is left does not change."""
        self.state.seconds, self._since = seconds, time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run, over all its resumptions."""
        return self.state.seconds + time.monotonic() - self._since

    @property
    def left(self) -> float:
        """Seconds until the run must begin to save, to have saved in time; infinity without `max_time`."""
        return self.timeline.max_seconds - self.store.seconds - (time.monotonic() - self._began)

    def set_alarm(self, signals: SignalHandler) -> None:
        """Let what can be interrupted be interrupted when the time is over."""
        if 0 < self.left < math.inf:
            signals.alarm(self.left)
