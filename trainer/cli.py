"""The two console scripts: `train`, and `trainer VERB` for everything else."""

import atexit
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from trainer.errors import ConfigError, TrainerError, did_you_mean
from trainer.system import streams
from trainer.system.signals import SAVE, SAVING, STOP, Interrupted, heeded

# verb: (module, one line of help). The module is imported when the verb is used.
VERBS = {
    "train": ("trainer.commands.train", "train a model (the same as the command `train`)"),
    "evaluate": ("trainer.commands.evaluate", "score a trained model: trainer evaluate RUN [SOURCE]"),
    "predict": ("trainer.commands.predict", "predict for new samples: trainer predict RUN SOURCE"),
    "runs": ("trainer.commands.runs", "list runs, by any key: trainer runs status=failed"),
    "compare": ("trainer.commands.compare", "compare runs: keys, scores, curves: trainer compare RUN RUN"),
    "clean": ("trainer.commands.clean", "free the weights of all but the best trials, and caches"),
    "export": ("trainer.commands.export", "write a trained model for other programs: trainer export RUN"),
    "list": ("trainer.commands.list", "list the groups, or the options of one: trainer list model"),
    "explain": ("trainer.commands.explain", "explain a key: trainer explain optimizer.lr"),
    "learn": ("trainer.commands.learn", "list the lessons on the fundamentals, or run one: trainer learn 1"),
    "completion": ("trainer.commands.completion", "print what makes Tab complete: trainer completion bash|zsh|fish"),
}


def train() -> None:
    """Entry point of `train`."""
    _process("train", sys.argv[1:])


def main() -> None:
    """Entry point of `trainer`."""
    verb, *arguments = sys.argv[1:] or ["--help"]
    _process(verb, arguments)


def _process(verb: str, arguments: Sequence[str]) -> None:
    """Be the process of a verb. Once it is done its outcome stands: a late signal does not change the exit code."""
    streams.prepare()
    for number in heeded([SAVE]):
        signal.signal(number, lambda *_: None)  # before and after training there is nothing to save
    for number in STOP:
        atexit.register(signal.signal, number, signal.SIG_IGN)  # the first to be registered is the last to be called
    sys.excepthook = _report
    code = run(verb, arguments)

    def leave(*_: object) -> None:
        os._exit(code)

    for number in heeded(STOP):
        signal.signal(number, leave)
    if any(thread.name == SAVING for thread in threading.enumerate()) or "pyarrow" in sys.modules:
        # A save that a second Ctrl-C has given up, or pyarrow reading ahead in a file that an error has ended. Waiting
        # is not what was asked for, and the end of the interpreter would take such a thread down in the middle of C++
        # code, which aborts.
        leave()
    sys.exit(code)


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a bug with its whole traceback; that of a plug-in without the frames of this package."""
    from trainer.config.plugins import outside_traceback

    text = outside_traceback(error)
    if text is None:
        sys.__excepthook__(kind, error, trace)
    else:
        streams.tell(f"{text}\n(The frames of the trainer are left out; the train.log of the run has all.)")


def usage() -> str:
    """`trainer --help`."""
    lines = [f"  {verb:<12}{line}" for verb, (_, line) in VERBS.items()]
    return "\n".join(["usage: trainer VERB ...", "", "verbs:", *lines])


def run(verb: str, arguments: Sequence[str]) -> int:
    """Run a verb; a user's mistake becomes one message and its exit code, a bug keeps its traceback."""
    failure: OSError | None = None
    try:
        code = _run(verb, arguments)
    except TrainerError as error:
        streams.tell(f"error: {error}")
        code = error.exit_code
    except Interrupted as request:
        name = signal.Signals(request.signal).name
        streams.tell(f"Stopped by {name} before the first step: nothing was trained, and nothing is lost.")
        code = 128 + request.signal
    except KeyboardInterrupt:
        streams.tell("interrupted")
        code = 130
    except OSError as error:
        code, failure = 1, error
    unwritten = streams.settle()  # by an answer that was asked for; a run gives up its screen and goes on
    if failure is not None and unwritten is None and streams.refuses(failure):
        unwritten = failure  # an answer that is longer than a buffer fails while it is printed
    if isinstance(failure or unwritten, BrokenPipeError):
        return 1  # the reader has gone (`train --help | head`), and knows
    if failure is not None and unwritten is None:
        raise failure
    if unwritten is not None:
        streams.tell(f"error: the answer could not be written ({unwritten.strerror}).")
        return 1
    return code


def _run(verb: str, arguments: Sequence[str]) -> int:
    if verb in ("-h", "--help"):
        print(usage())
        return 0
    if verb == "--version":
        verb, arguments = "train", ["--version"]
    return _command(verb)(arguments)


def _command(verb: str) -> Callable[[Sequence[str]], int]:
    if verb not in VERBS:
        raise ConfigError(f"trainer {verb}: no such verb.{did_you_mean(verb, VERBS)} Verbs: {', '.join(VERBS)}.")
    main: Callable[[Sequence[str]], int] = importlib.import_module(VERBS[verb][0]).main
    return main
