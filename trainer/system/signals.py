"""Signals: a request to stop or to save is noted, and carried out as soon as no work is lost by it."""

import contextlib
import ctypes
import gc
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any

# Besides SIGTERM and Ctrl-C: the terminal has gone; the end is near (LSF, Grid Engine); the CPU time is over.
STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGXCPU)
SAVING = "trainer-saving"  # the name of the thread that writes checkpoints
SAVE, DEADLINE = signal.SIGUSR1, signal.SIGALRM


class Interrupted(BaseException):
    """Stop: what was being done may be dropped. Not an `Exception`, so that no library handles it as its own error.

    Attributes:
        signal: its number; SIGALRM stands for `trainer.max_time`.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


def heeded(numbers: Iterable[int]) -> list[int]:
    """Return those signals that this process was not started to ignore, as nohup and a shell's `trap ''` ask."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


class SignalHandler:
    """Note signals while entered: the first that asks to stop (STOP) in `signal`, SIGUSR1 in `save_wanted`.

    Work that may be dropped without loss (importing, reading data, waiting for a batch, validating) is done
    `with signals.interruptible:`; there a request to stop raises `Interrupted`, even one that came before.
    A Ctrl-C after a request to stop raises `KeyboardInterrupt` everywhere. What is ignored when it is entered stays so.

    Attributes:
        signal: the number of the first signal that asked to stop; None: none yet.
        save_wanted: whether a checkpoint was asked for; see `take_save_request`.
        interruptible: the context for work that may be dropped.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.save_wanted = False
        self.interruptible = _Interruptible(self)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "SignalHandler":
        if threading.current_thread() is threading.main_thread():
            for number in (*heeded((*STOP, SAVE)), DEADLINE):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def alarm(self, seconds: float) -> None:
        """Raise `Interrupted` after so many seconds if what is then running is `interruptible`; 0: cancel that.

        Nothing happens where the handlers are not installed (outside the main thread): the loop looks at the clock.
        """
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, max(0.0, seconds))

    def take_save_request(self) -> bool:
        """Return whether a checkpoint was asked for, and take the request as answered."""
        asked, self.save_wanted = self.save_wanted, False
        return asked

    @contextlib.contextmanager
    def uninterruptible(self) -> Iterator[None]:
        """Let a request to stop wait while inside, also where the code around it is `interruptible`."""
        self.interruptible.__exit__(None, None, None)
        yield
        self.interruptible.__enter__()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == SAVE:
            self.save_wanted = True
            return
        if number == signal.SIGINT and self.signal is not None:
            raise KeyboardInterrupt
        if number != DEADLINE and self.signal is None:
            self.signal = number
        self.interruptible.interrupt(number)


class _Interruptible:
    """The context of work that may be dropped. Not nested. Not a generator, because every step enters it."""

    def __init__(self, signals: SignalHandler) -> None:
        self._signals, self._inside = signals, False
        self._raised: int | None = None

    def __enter__(self) -> None:
        self._inside, self._raised = True, None
        if self._signals.signal is not None:
            self.interrupt(self._signals.signal)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside = False
        if self._raised is not None and not isinstance(error, (Interrupted, KeyboardInterrupt)):
            # A library has swallowed it: torch's C code clears any exception in its import of NumPy, and fails later.
            raise Interrupted(self._raised) from error

    def interrupt(self, number: int) -> None:
        """Raise `Interrupted` if what is running may be dropped."""
        if self._inside:
            self._inside, self._raised = False, number  # only once: what follows is the saving
            raise Interrupted(number)


def become_worker() -> None:
    """Prepare a loader worker: leave the signals to the training process, and end with it, however it ends.

    What it has inherited is left to the end of the process: a tensor of a GPU that the collector frees in a forked
    process ends that with an error of CUDA.

    A signal to the whole process group (Ctrl-C, `timeout`, a batch system) must not take the data away from a run that
    is about to save.
    """
    gc.freeze()
    for number in (*STOP, SAVE):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG: linux/prctl.h
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
