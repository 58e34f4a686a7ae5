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
        min_delta: smallest change that resets the patience; what is best is the best there was, by however little.
        patience: validations without such a change after which to stop; None: never.
        averaged: the name of the same score of the averaged weights, where the better of the two decides; None: one
            score does.
        latest: whether the last of several that have the best score is best, and not the first.
        best, best_step, best_name: the best score so far, the step it was reached at, and its name.
        bad: validations since the patience was reset.
        reference: the score that reset it.
    """

    name: str
    mode: str
    min_delta: float = 0.0
    patience: int | None = None
    averaged: str | None = None
    latest: bool = False
    best: float | None = None
    best_step: int = 0
    best_name: str = ""
    bad: int = 0
    reference: float | None = None

    def __post_init__(self) -> None:
        self.best_name = self.best_name or self.name

    @property
    def words(self) -> str:
        """What decides, for people."""
        decides = self.name if self.averaged is None else f"the better of {self.name} and {self.averaged}"
        return f"{decides} ({self.mode})"

    def deciding(self, scores: dict[str, float]) -> str:
        """Return the name of the score that decides among those of a validation."""
        name, other = self.name, self.averaged
        return name if other is None or self._gain(scores[other], scores[name]) <= 0 else other

    def observe(self, score: float, step: int, name: str | None = None) -> bool:
        """Take the score that decides in a validation, and its name where it is not `name`.

        Returns:
            Whether it is the best so far; NaN and infinity never are.
        """
        gain = self._gain(score, self.best)
        improved = gain > 0 or (self.latest and gain == 0)
        if improved:
            self.best, self.best_step, self.best_name = score, step, name or self.name
        if self._gain(score, self.reference) > self.min_delta:
            self.reference, self.bad = score, 0
        else:
            self.bad += 1
        return improved

    def _gain(self, score: float, than: float | None) -> float:
        """Return by how much a score is better than another; any number is better than none, NaN and infinity."""
        if not math.isfinite(score):
            return -math.inf
        if than is None or not math.isfinite(than):
            return math.inf
        return score - than if self.mode == "max" else than - score

    @property
    def exhausted(self) -> bool:
        """Whether the patience is used up."""
        return self.patience is not None and self.bad >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return the past as plain data."""
        return {name: getattr(self, name) for name in ("name", *_PAST)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the past, also that of an older version; another score than the saved one starts without a past.

        Raises:
            ValueError: for anything but scores, a step and a count.
        """
        state = {"best_name": state["name"], "reference": state["best"]} | state
        scores, counts = (state["best"], state["reference"]), (state["best_step"], state["bad"])
        are_scores = all(each is None or (isinstance(each, (int, float)) and math.isfinite(each)) for each in scores)
        names = isinstance(state["name"], str) and isinstance(state["best_name"], str)
        if not (are_scores and names and all(isinstance(n, int) and 0 <= n < 1 << 62 for n in counts)):
            raise ValueError(f"monitor {state!r:.80} is not a score, a step and a count")
        if state["name"] == self.name:
            for name in _PAST:
                setattr(self, name, state[name])


_PAST = ("best", "best_step", "best_name", "bad", "reference")  # of a monitor, as they are saved


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
