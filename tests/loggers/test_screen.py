"""The screen: text as it is, a stream that fails, and a line that moves with the steps and cuts nothing."""

import io
import os
import pty
import random
import re
import signal
import time
from collections.abc import Iterator

import pytest
from rich.console import Console
from rich.table import Table

from trainer.loggers.base import Activity, LogRecord
from trainer.loggers.console import LiveConsoleLogger, Progress
from trainer.loggers.screen import LiveLine, Screen, TextConsole, fitted, is_live, say

NAMES = ["[red]", "[/red]", ":dog:", "[bold]x", "a:warning:b", "[link=x]y", "\\[a]", "ünï", "x" * 300]


def terminal(width: int = 80) -> Console:
    """A terminal of a width, and what is written to it in `file`."""
    return TextConsole(file=io.StringIO(), width=width, force_terminal=True, color_system=None)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_neither_markup_nor_emoji(name: str) -> None:
    for console in (TextConsole(file=io.StringIO(), width=40), Console(file=io.StringIO(), width=40)):
        say(console, name)
        assert console.file.getvalue() == f"{name}\n"


def test_names_in_a_table_are_neither_markup_nor_emoji() -> None:
    console = TextConsole(file=io.StringIO(), width=400)
    table = Table(*NAMES[:-2], title=":dog:", box=None)
    table.add_row(*NAMES[:-2])
    console.print(table)
    assert all(console.file.getvalue().count(name) >= 2 for name in NAMES[:-2])


@pytest.fixture(params=["full", "terminal that is gone", "pipe without a reader"])
def lost(request: pytest.FixtureRequest) -> Iterator[io.TextIOWrapper]:
    """A stream that cannot be written to."""
    if request.param == "full":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, descriptor = pty.openpty() if "terminal" in request.param else os.pipe()
        os.close(reader)
    with open(descriptor, "w") as stream:
        yield stream


def test_a_run_goes_on_where_its_screen_is_lost(lost: io.TextIOWrapper) -> None:
    screen = Screen(file=lost)
    say(screen, "lost")
    say(screen, "lost as well")
    print("of a plug-in", file=lost, flush=True)


def test_an_answer_that_is_lost_is_an_error(lost: io.TextIOWrapper) -> None:
    with pytest.raises(OSError, match=r"\[Errno"):
        say(TextConsole(file=lost), "lost")
    os.dup2(os.open(os.devnull, os.O_WRONLY), lost.fileno())


def test_only_a_terminal_that_moves_its_cursor_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    with open(slave, "w") as stream:
        for variables, live in (({}, True), ({"TERM": "dumb"}, False), ({"FORCE_COLOR": "1"}, True)):
            environment = {"TERM": "xterm"} | variables
            assert is_live(Screen(file=stream, _environ=environment)) is live, variables
    os.close(master)
    assert not is_live(Screen(file=io.StringIO(), _environ={"FORCE_COLOR": "1", "TERM": "xterm"}))


def test_what_fits_is_whole_in_order_and_the_most_important() -> None:
    draw = random.Random(0)
    for _ in range(300):
        parts = [(draw.randrange(9), "x" * draw.randint(0, 20)) for _ in range(draw.randint(0, 8))]
        parts = [(rank, f"{i}{text}" if text else "") for i, (rank, text) in enumerate(parts)]
        columns = draw.randint(1, 130)
        line = fitted(parts, columns)
        assert len(line) <= columns
        shown = line.split("  ") if line else []
        assert shown == [text for _, text in parts if text in shown and text]
        dropped = [(rank, text) for rank, text in parts if text and text not in shown]
        for rank, text in dropped:  # it has not fitted beside what matters more
            above = [other for level, other in parts if other in shown and level <= rank]
            assert len("  ".join([*above, text])) > columns


def record(step: int, **scalars: float) -> LogRecord:
    named = {name.replace("__", "/"): value for name, value in scalars.items()}
    return LogRecord(step, step // 10, 1.0, best=0.8774, scalars=named)


@pytest.fixture
def live() -> Iterator[LiveConsoleLogger]:
    progress = Progress(total=4600, steps_per_epoch=230, monitor="val/accuracy")
    logger = LiveConsoleLogger(terminal(), progress, Activity())
    logger.write(record(60, train__loss=0.93581, train__accuracy=0.69125, lr=0.000947, samples_per_second=6336.0))
    yield logger
    logger.close({})


WHOLE = re.compile(
    r"(epoch 1/20  )?step 69/4600(  [━─]{16})?(  training)?(  train loss 0\.9358)?(  train accuracy 0\.6913)?"
    r"(  lr 0\.000947)?(  6,336 samples/s)?(  eta \w+)?(  best 0\.8774)?"
)


def test_a_line_of_any_width_has_whole_parts_only(live: LiveConsoleLogger) -> None:
    live.activity.step, live.activity.doing = 69, "training"
    for columns in range(12, 200):
        line = live.text(columns)
        assert len(line) <= columns
        assert WHOLE.fullmatch(line), line
    assert "train" not in live.text(20)
    assert live.text(39).startswith("epoch 1/20  step 69/4600  training")
    assert "eta" in live.text(59)
    assert "train loss 0.9358" in live.text(79)
    assert all(word in live.text(129) for word in ("─" * 16, "accuracy 0.6913", "best 0.8774"))
    assert all(word in live.text(180) for word in ("lr 0.000947", "6,336 samples/s"))
    assert live.text(5) == ""


@pytest.mark.parametrize("width", [40, 60, 80, 130])
def test_what_is_written_to_a_terminal_fits_its_width(width: int) -> None:
    console = terminal(width)
    progress = Progress(total=4600, steps_per_epoch=230, monitor="val/accuracy")
    logger = LiveConsoleLogger(console, progress, Activity(69, "validating"))
    logger.write(record(69, train__loss=0.93581, val__loss=0.81234, val__accuracy=0.87741, val__macro_f1=0.86091))
    logger.close({})
    written = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", console.file.getvalue()).replace("\r", "\n")
    lines = [line.rstrip() for line in written.split("\n")]
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    assert {"0.9358", "0.8123", "0.8774", "0.8609", "macro_f1", "validating"} <= set(words)
    known = {"epoch", "1/20", "step", "69/4600", "train", "val", "loss", "accuracy", "macro_f1", "best", "validating"}
    others = [word for word in words if word not in known and not re.fullmatch(r"0\.\d{4}|[━─]{16}|\d+s|eta", word)]
    assert others == []


def test_it_says_what_is_done(live: LiveConsoleLogger) -> None:
    activity = live.activity
    activity.step = 70
    assert "training" in live.text(80)  # a batch is waited for in each step
    assert "reading" in live.text(80)  # no step was made since
    for doing in ("validating", "saving", "training"):
        activity.step, activity.doing = activity.step + 1, doing
        assert doing in live.text(80)


def test_it_moves_with_the_steps_ten_times_a_second_at_most() -> None:
    console = terminal()
    progress = Progress(total=10**9, steps_per_epoch=10**6, monitor="val/loss")
    began = time.monotonic()
    logger = LiveConsoleLogger(console, progress, Activity())
    while len(set(re.findall(r"step (\d+)/", console.file.getvalue()))) < 4:
        logger.activity.step += 1
        assert time.monotonic() - began < 20
    redraws = console.file.getvalue().count("step ")
    assert redraws <= (time.monotonic() - began) * 10 + 1
    logger.close({})
    assert console.file.getvalue().endswith("\x1b[2K")  # the line is erased


def test_a_process_forked_in_the_middle_of_a_redraw_does_not_hang() -> None:
    drawing: list[int] = []

    def slow(columns: int) -> str:
        drawing.append(columns)
        time.sleep(0.05 if len(drawing) > 1 else 0)
        return "slow"

    console = terminal()
    line = LiveLine(console, slow)
    while len(drawing) < 2:
        time.sleep(0.001)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(5)
        say(console, "from a worker")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    line.close()
