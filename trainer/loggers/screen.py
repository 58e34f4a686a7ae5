"""The screen: a console that prints text as it is and may vanish, and a line on it that moves with the work."""

import errno
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.text import Text

from trainer.system import streams

REDRAW_SECONDS = 0.1  # between two redraws of a line, at least

_drawing = threading.Lock()
# A process that is forked in the middle of a redraw would wait for the locks of the screen for ever.
os.register_at_fork(before=_drawing.acquire, after_in_parent=_drawing.release, after_in_child=_drawing.release)


class TextConsole(Console):
    """Prints text as it is: names and paths of people are no markup, and `:dog:` is no dog.

    Args:
        options: as those of `Console`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def on_broken_pipe(self) -> None:
        """Raise, where rich would end the process."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class Screen(TextConsole):
    """A console that may be left (`train | head`), full or gone: the run goes on, with `train.log` alone."""

    def __exit__(self, *error: Any) -> None:
        """Write what was printed; where that is not possible, write to nowhere from now on."""
        try:
            super().__exit__(*error)
        except OSError:
            self.quiet = True
            streams.give_up(self.file)


def say(console: Console, text: str) -> None:
    """Print a line as it is, never broken: what it names or tells to type can be copied."""
    console.print(Text(text), soft_wrap=True)


def is_live(console: Console) -> bool:
    """Return whether the last line can be drawn again and again: on a terminal, not in a file that has colours."""
    return console.is_interactive and console.file.isatty()


def fitted(parts: Sequence[tuple[int, str]], columns: int) -> str:
    """Join the parts that fit into so many columns, in their order; what does not fit is left out whole.

    Args:
        parts: (rank, text); those of the lowest rank are taken first.
    """
    kept, width = list[int](), -2
    for i in sorted(range(len(parts)), key=lambda i: parts[i][0]):
        size = cell_len(parts[i][1]) + 2
        if parts[i][1] and width + size <= columns:
            kept.append(i)
            width += size
    return "  ".join(parts[i][1] for i in sorted(kept))


class LiveLine:
    """The last line of a terminal, drawn by a thread of its own; whatever is printed meanwhile comes above it.

    Args:
        console: where.
        text: gives the line for so many columns.
    """

    def __init__(self, console: Console, text: Callable[[int], str]) -> None:
        self._console, self._text, self._closed = console, text, threading.Event()
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stderr=sys.stderr.isatty(),
            get_renderable=self._line,
        )
        self._live.start()
        self._thread = threading.Thread(target=self._draw, name="trainer-screen", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Remove the line."""
        self._closed.set()
        self._thread.join()
        self._live.stop()

    def _line(self) -> Text:
        return Text(self._text(self._console.width - 1), no_wrap=True, overflow="ignore")

    def _draw(self) -> None:
        while not self._closed.wait(REDRAW_SECONDS):
            with _drawing:
                self._live.refresh()
