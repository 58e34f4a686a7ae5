"""Where messages to a person go: the logger "trainer", with one handler for the screen and one for `train.log`."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from trainer.loggers.screen import TextConsole, say
from trainer.runs.directory import Run
from trainer.system.atomic_files import unwritable

log = logging.getLogger("trainer")


class ConsoleHandler(logging.Handler):
    """Prints messages to a console, warnings as `warning: ...`; one that fails is left alone from then on.

    Args:
        console: where to print.
        level: what is less important is not printed; DEBUG lets the tracebacks through.
        path: the file behind the console, to be named where it can no longer be written; None: a screen.
    """

    def __init__(self, console: Console, level: int, path: Path | None = None) -> None:
        super().__init__(level)
        self.console, self.path = console, path

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        prefix = "warning: " if record.levelno == logging.WARNING else ""
        try:
            say(self.console, f"{prefix}{record.getMessage()}")
        except OSError as error:
            self.console.quiet = True
            if self.path is not None:
                log.warning(f"{self.path} can no longer be written ({error}).")


@contextlib.contextmanager
def messages_to(console: Console | None, run: Run) -> Iterator[Console]:
    """Print messages to the screen (None: there is none) and to `train.log`; yield the console of the latter.

    Raises:
        TrainerError: where the log cannot be opened.
    """
    try:
        # Names of files that are no text are written all the same. Not `with`: its closing may fail, below.
        file = open(run.log, "a", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    except OSError as error:
        raise unwritable(run.log, error) from error
    log_console = TextConsole(file=file, width=200, color_system=None)
    handlers = [ConsoleHandler(log_console, logging.DEBUG, run.log)]
    if console is not None:
        handlers.append(ConsoleHandler(console, logging.INFO))
    level = log.level
    log.setLevel(logging.DEBUG)
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield log_console
    finally:
        for handler in handlers:
            log.removeHandler(handler)
        log.setLevel(level)
        with contextlib.suppress(OSError):  # reported when it was written to
            file.close()
