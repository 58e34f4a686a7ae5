"""The streams of this process: a screen that is closed, full, gone, or lacks a character costs nobody's work."""

import codecs
import contextlib
import io
import os
import sys
from typing import IO

# What the program itself prints beyond ASCII, in letters that every screen has.
PLAIN = {"×": "x", "→": "->", "±": "+/-", "–": "-", "…": "...", "━": "=", "─": "-"}
REPLACING = "trainer.plain"  # how an encoding treats what it lacks


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    character, after = error.object[error.start], error.start + 1
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is no text (PEP 383): as it is
        return bytes([ord(character) - 0xDC00]), after
    return PLAIN.get(character, "?"), after


codecs.register_error(REPLACING, _plain)


def prepare() -> None:
    """Make the three streams of a new process usable whatever it was started with; a size of 0 means an unknown one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file to be opened must not become the screen
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one
    # What Python has found closed is None; whoever prints, flushes or asks for a terminal expects a file.
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115  # for as long as the process
    sys.stdout, sys.stderr = (s or open(os.devnull, "w", encoding="utf-8") for s in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=REPLACING)
    for name in ("COLUMNS", "LINES"):
        if os.environ.get(name) == "0":
            del os.environ[name]


def tell(text: str, stream: IO[str] | None = None) -> None:
    """Print a line for a person at once, where that is possible.

    Args:
        stream: None: the standard error.
    """
    stream = stream or sys.stderr
    try:
        print(text, file=stream, flush=True)
    except OSError:
        give_up(stream)


def give_up(stream: IO[str]) -> None:
    """Let a stream that cannot be written lead nowhere from now on: what it still holds must not fail again."""
    with contextlib.suppress(OSError):  # one that is no file of the system
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def refuses(error: OSError) -> bool:
    """Return whether the standard output refuses another line for the reason of an error, which is then its own."""
    if error.filename is not None or sys.stdout is None:
        return False
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError as again:
        give_up(sys.stdout)  # else the interpreter would try once more as it ends
        return again.errno == error.errno
    return False


def settle() -> OSError | None:
    """Write out what the streams hold; return why the standard output could not be written, if so."""
    failure = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            give_up(stream)
            failure = error if stream is sys.stdout else failure
    return failure
