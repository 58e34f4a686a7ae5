"""When to stop: which score decides and how long it has not improved, and how much of the time is left."""

import math
import time
from dataclasses import dataclass
from typing import Any, Protocol

from trainer.checkpoint.store import AnyStore
from trainer.system.signals import SignalHandler


@dataclass
class Monitor:
    """Which score decides, which was best, and how long ago that was.

    Attributes:
        name: of the score, such as "val/accuracy".
        mode: "max" or "min".
        min_delta: smallest change that counts as an improvement.
        patience: validations without improvement after which to stop; None: never.
        best, best_step: the best score so far, and the step it was reached at.
        bad: validations since then.
    """

    name: str
    mode: str
    min_delta: float = 0.0
    patience: int | None = None
    best: float | None = None
    best_step: int = 0
    bad: int = 0

    def observe(self, score: float, step: int) -> bool:
        """Take the score of a validation; return whether it is the best so far. NaN and infinity never are."""
        gain = math.inf if self.best is None else score - self.best if self.mode == "max" else self.best - score
        if math.isfinite(score) and gain > self.min_delta:
            self.best, self.best_step, self.bad = score, step, 0
            return True
        self.bad += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether the patience is used up."""
        return self.patience is not None and self.bad >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return the past as plain numbers."""
        return {"name": self.name, "best": self.best, "best_step": self.best_step, "bad": self.bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the past; another score than the saved one starts without a past.

        Raises:
            ValueError: for anything but a score, a step and a count.
        """
        best, counts = state["best"], (state["best_step"], state["bad"])
        is_score = best is None or (isinstance(best, (int, float)) and math.isfinite(best))
        if not is_score or not all(isinstance(n, int) and 0 <= n < 1 << 62 for n in counts):
            raise ValueError(f"monitor {state!r:.80} is not a score, a step and a count")
        if state["name"] == self.name:
            self.best, (self.best_step, self.bad) = best, counts


class Pruner(Protocol):
    """Decides whether a run that is one of many is worth going on with."""

    def observe(self, name: str, mode: str, step: int, score: float) -> bool:
        """Take the monitored score of a validation; return whether to stop.

        Args:
            name: of the score, such as "val/accuracy".
            mode: whether a larger one is better ("max") or a smaller one ("min").
            step: optimizer steps done.
            score: the latest; those before it are in the run's records.
        """
        ...


class NullPruner:
    """Never stops a run."""

    def observe(self, name: str, mode: str, step: int, score: float) -> bool:
        """Return False."""
        return False


class RunClock:
    """Measures how long a run has taken, and when `trainer.max_time` asks it to save and stop.

    Args:
        before: seconds that the processes before this one have taken.
        max_seconds: of this process; infinity: no limit.
        store: knows how long a save takes: the run stops early enough to have saved in time.
    """

    def __init__(self, before: float, max_seconds: float, store: AnyStore) -> None:
        self.before, self.max_seconds, self.store = before, max_seconds, store
        self.start()

    def start(self) -> None:
        """Begin: the seconds of this process count from here."""
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run, over all its resumptions."""
        return self.before + time.monotonic() - self._began

    @property
    def left(self) -> float:
        """Seconds until the run must begin to save, to have saved in time; infinity without a limit."""
        return self.max_seconds - self.store.seconds - (time.monotonic() - self._began)

    def set_alarm(self, signals: SignalHandler) -> None:
        """Let what can be interrupted be interrupted when the time is over."""
        if 0 < self.left < math.inf:
            signals.alarm(self.left)
