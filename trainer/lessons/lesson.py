"""What every lesson has in common: its arguments, how it prints, where it draws.

A lesson is a file `NN_name.py` with a docstring, whose first line is its title, and a `main(lesson)`:

    from lesson import Lesson, start

    def main(lesson: Lesson) -> None:
        lesson.title("Creation")
        x = lesson.show("torch.arange(6)", torch.arange(6))
        assert x.numel() == 6

    if __name__ == "__main__":
        start(__doc__, main)
"""

import argparse
import contextlib
import functools
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from trainer.config.trainer import TrainerConfig
from trainer.errors import TrainerError
from trainer.runs.directory import make_directory
from trainer.system import seeds, streams
from trainer.system.device import choose_device

T = TypeVar("T")


class Lesson:
    """One lesson while it runs.

    Attributes:
        device: where its tensors live.
        seed: of its random numbers; `torch` is seeded with it before `main`.
        folder: the run directory for its pictures, made when the first one is drawn.
        arguments: all that was typed, for a lesson that has options of its own.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.seed = arguments, arguments.seed
        self.device = choose_device(TrainerConfig(device=arguments.device).device)  # Settings checks the name
        self.console = Console(highlight=False)
        seeds.reseed(torch.device("cpu"), self.seed)
        seeds.reseed(self.device, self.seed)

    @functools.cached_property
    def folder(self) -> Path:
        return make_directory(self.arguments.output_dir)

    def title(self, text: str) -> None:
        """Begin a part."""
        self.console.print()
        self.console.print(Rule(Text(text, style="bold"), align="left"))

    def say(self, text: str) -> None:
        """Print a sentence."""
        self.console.print(text, markup=False)

    def show(self, expression: str, value: T) -> T:
        """Print an expression and its result; gives the result back."""
        lines = str(value).splitlines() or [""]
        if len(lines) == 1 and len(expression) + len(lines[0]) < 100:
            self.console.print(Text.assemble((expression, "cyan"), "  →  ", lines[0]), soft_wrap=True)
        else:
            self.console.print(Text(expression, style="cyan"), soft_wrap=True)
            self.console.print(Text("\n".join("    " + line for line in lines)), soft_wrap=True)
        return value

    def refused(self, expression: str, error: type[Exception], call: Callable[[], object]) -> None:
        """Print an expression and the error that it must raise."""
        try:
            call()
        except error as raised:
            self.show(expression, f"{type(raised).__name__}: {textwrap.shorten(str(raised), 150, placeholder=' …')}")
        else:
            raise AssertionError(f"{expression} raised no {error.__name__}")

    def table(self, columns: Sequence[Any], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
        """Print rows under their column names."""
        names = map(str, columns)
        table = Table(*names, title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(*(Text(str(cell)) for cell in row))
        self.console.print(table)

    @contextlib.contextmanager
    def figure(self, name: str, **subplots: Any) -> Iterator[Any]:
        """Matplotlib's axes to draw on (see `plt.subplots`); saved as `NAME.png` in the run directory."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt

        figure, axes = plt.subplots(layout="constrained", **subplots)
        yield axes
        figure.savefig(self.keep(f"{name}.png", "picture"), dpi=100)
        plt.close(figure)

    def keep(self, name: str, kind: str = "file") -> Path:
        """Where something of that name stays in the run directory; told to the reader."""
        path = self.folder / name
        self.console.print(Text.assemble(f"{kind}  ", str(path)), soft_wrap=True)
        return path


def start(
    doc: str, main: Callable[[Lesson], None], options: Callable[[argparse.ArgumentParser], None] = lambda parser: None
) -> None:
    """Run a lesson from the command line.

    Args:
        doc: its docstring.
        main: its content.
        options: adds arguments of its own.
    """
    streams.prepare()
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default 0)")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda, cuda:N or mps (default cpu)")
    parser.add_argument("--output-dir", default="outputs/fundamentals", help="folder of the run directories")
    options(parser)
    arguments = parser.parse_args()
    try:
        lesson = Lesson(arguments)
        lesson.console.print(Text(doc.strip().splitlines()[0], style="bold"))
        main(lesson)
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
