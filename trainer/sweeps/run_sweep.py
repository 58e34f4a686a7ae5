"""The loop of a sweep: claim a trial, have the engine run it, take note of how it ended, and again."""

import functools
import signal
import time
from pathlib import Path

from omegaconf import DictConfig

from trainer.sweeps.definition import composer_of
from trainer.sweeps.directory import (
    FAILED,
    FINISHED,
    NOT_STARTED,
    RUNNING,
    STOPPED,
    UNFINISHED,
    SweepDirectory,
)
from trainer.sweeps.engine import OUTPUT, TAKEN, Ending, Engine, TrialTask
from trainer.sweeps.keeping import keep_best
from trainer.sweeps.results import Results, ResultsReader
from trainer.sweeps.screen import SweepScreen
from trainer.sweeps.suggest import suggested_values
from trainer.system.signals import SignalHandler

TICK = 0.2  # seconds between two looks at signals and clocks
LOOK = 1.0  # seconds between two looks for trials that another process has given up
GRACE = 30.0  # seconds at most that a trial has to save after its time is over
HURRY = 5.0  # seconds that it has after a second Ctrl-C
READ = 10_000  # bytes of the end of a log
TIME_IS_OVER = 124  # exit code, as of timeout(1)


class SweepRun:
    """Works off the trials of a sweep; what is true stands on the disk, so that another process may do the same.

    Args:
        directory: of the sweep.
        engine: runs the trials.
        screen: where a person reads.
        signals: entered by the caller.
    """

    def __init__(self, directory: SweepDirectory, engine: Engine, screen: SweepScreen, signals: SignalHandler) -> None:
        self.directory, self.engine, self.screen, self.signals = directory, engine, screen, signals
        self.definition = directory.definition
        self.reader = ResultsReader(directory)
        self._compose = composer_of(self.definition)
        self._open = list(range(self.definition.count))  # trials that this process may have to run
        self._started: dict[int, float] = {}  # running trials, and since when
        self._overdue: dict[int, float] = {}  # those whose time is over, and since when
        self._killed: set[int] = set()  # trials that were killed and went on at once
        self._stopping: int | None = None  # the exit code of a sweep that has been told to stop
        self._next_look = 0.0
        limit = self.definition.sweep.seconds("max_time")
        self._deadline = None if limit is None else time.monotonic() + limit

    def run(self) -> int:
        """Work until nothing is left, or a request to stop; return the exit code.

        A Ctrl-C after a request to stop raises `KeyboardInterrupt`; the trials have ended then, too.
        """
        try:
            self.write()
            while True:
                self._check_stop()
                if self._stopping is None:
                    self._fill()
                if not self._started and (self._stopping is not None or not self._open):
                    break
                for ending in self.engine.wait(TICK):
                    self._ended(ending)
                self._check_times()
                self.screen.update(self.reader, self._started)
        except KeyboardInterrupt:
            self._abort(signal.SIGINT, HURRY)
            raise
        except BaseException:
            self._abort(signal.SIGTERM, GRACE)
            raise
        finally:
            self.engine.close()
        return self._exit_code()

    def _fill(self) -> None:
        """Start trials as long as there is room."""
        now = time.monotonic()
        if len(self._started) >= self.engine.jobs or now < self._next_look:
            return
        for number in list(self._open):
            if len(self._started) >= self.engine.jobs:
                return
            if number in self._started:
                continue
            status = self.directory.status(number)
            if status not in FINISHED:
                status = self.directory.claim(number, functools.partial(self._config, number)) or NOT_STARTED
            if status in (*FINISHED, FAILED):
                self._open.remove(number)
            elif status != RUNNING:
                self._start(number)
        self._next_look = now + LOOK  # all others are run by other processes, or done

    def _start(self, number: int) -> None:
        self._open.remove(number)  # once by each process: what kills a trial again and again does not do so for ever
        directory = self.directory.run(number).directory
        definition = self.definition
        task = TrialTask(directory.absolute(), definition.imports, definition.keys, number, definition.pruned)
        self.engine.start(number, task)
        self._started[number] = time.monotonic()

    def _config(self, number: int) -> tuple[DictConfig, list[str]]:
        """Return the config and the overrides of a trial that begins."""
        definition = self.definition
        values = suggested_values(self.directory, number) if definition.suggested else definition.values(number)
        overrides = definition.overrides(number, values)
        return self._compose(overrides), overrides

    def _ended(self, ending: Ending) -> None:
        """Take note of a trial whose process has ended."""
        number = ending.number
        del self._started[number]
        self._next_look = 0.0
        if ending.code == TAKEN:
            self._open = sorted([*self._open, number])
            self._next_look = time.monotonic() + LOOK
            return
        found = self._reason(ending)
        if found is not None:
            self.directory.note_end(number, *found)
        if self._again(number):
            self._open = sorted([*self._open, number])
        self._overdue.pop(number, None)
        results = self.write()
        done = sum(row["status"] in (*FINISHED, FAILED) for row in results.rows)
        self.screen.event(done, next(row for row in results.rows if row["trial"] == number), self.reader.title(number))

    def _again(self, number: int) -> bool:
        """Whether a trial that was killed goes on at once, as it does where later ones depend on it; once only."""
        killed = self.directory.status(number) in (STOPPED, UNFINISHED) and self._stopping is None
        again = killed and self.definition.suggested and number not in self._killed
        self._killed |= {number} if again else set()
        return again

    def _reason(self, ending: Ending) -> tuple[str, str] | None:
        """Return status and reason of a trial, where its own process could not or did not write them."""
        if ending.number in self._overdue:
            return FAILED, f"sweep.trial_max_time={self.definition.sweep.trial_max_time}"
        run = self.directory.run(ending.number)
        status = self.directory.status(ending.number)
        if ending.code is None or ending.code == 0:
            return (STOPPED, "stopped before the first step") if status == UNFINISHED else None
        if ending.code > 0:
            if status == FAILED:
                return None
            return FAILED, _last_line(run.directory / OUTPUT) or f"exit code {ending.code}"
        name = signal.Signals(-ending.code).name
        if -ending.code == signal.SIGKILL:
            return STOPPED, f"killed by {name}, as the system does when memory runs out"
        if -ending.code in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            return STOPPED, f"killed by {name}"
        return FAILED, f"crashed with {name}"

    def write(self) -> Results:
        """Write the results, and remove the weights that are not to be kept; return the results."""
        results = self.reader.write(set(self._started))
        keep_best(self.directory, results)
        return results

    def _check_stop(self) -> None:
        """See whether the sweep is to stop or to save."""
        if self.signals.take_save_request():
            self._send(signal.SIGUSR1)
        over = self._deadline is not None and time.monotonic() >= self._deadline
        if self._stopping is None and (self.signals.signal is not None or over):
            self._stopping = TIME_IS_OVER if self.signals.signal is None else 128 + self.signals.signal
            self.screen.stopping(len(self._started))
            self._send(signal.SIGTERM)

    def _check_times(self) -> None:
        """Stop the trials whose time is over, by force where they do not."""
        limit = self.definition.sweep.seconds("trial_max_time")
        if limit is None:
            return
        now = time.monotonic()
        for number, since in self._started.items():
            if now - since > limit and number not in self._overdue:
                self._overdue[number] = now
                self.engine.send(number, signal.SIGTERM)
            elif now - self._overdue.get(number, now) > min(limit, GRACE):
                self.engine.send(number, signal.SIGKILL)

    def _send(self, number: int) -> None:
        for trial in self._started:
            self.engine.send(trial, number)

    def _abort(self, number: int, patience: float) -> None:
        """End what is running where this process is about to end: let it save for so many seconds, then by force."""
        for request, seconds in ((number, patience), (signal.SIGKILL, HURRY)):
            self._send(request)
            end = time.monotonic() + seconds
            while self._started and time.monotonic() < end:
                for ending in self.engine.wait(TICK):
                    self._started.pop(ending.number, None)

    def _exit_code(self) -> int:
        """Return 0 where every trial is finished; otherwise why not."""
        statuses = [self.directory.status(number) for number in range(self.definition.count)]
        if all(status in FINISHED for status in statuses):
            return 0
        if self._stopping is not None and any(s not in (*FINISHED, FAILED) for s in statuses):
            return self._stopping
        return 1


def _last_line(path: Path) -> str | None:
    """Return the last line of a text that is not empty; None where there is none."""
    try:
        lines = path.read_bytes()[-READ:].decode(errors="replace").split("\n")
    except OSError:
        return None
    return next((line.strip() for line in reversed(lines) if line.strip()), None)
