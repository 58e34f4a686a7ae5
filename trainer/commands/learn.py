"""`trainer learn [LESSON]`: list the lessons, or run one. `trainer/lessons/00_index.py` is the same."""

import ast
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.errors import ConfigError, did_you_mean

HEAD = "Lessons that run, in order. Run one by number or name: trainer learn 1, trainer learn tensors --help."


def main(arguments: Sequence[str]) -> int:
    """Print the list; or become the process of the lesson, with the arguments that follow its name."""
    if arguments and arguments[0] not in ("-h", "--help"):
        path = find_lesson(arguments[0])
        sys.stdout.flush()
        # No child: a signal or a closed pipe is the lesson's own.
        os.execv(sys.executable, [sys.executable, str(path), *arguments[1:]])
    print(listing())
    return 0


def lessons_dir() -> Path:
    """Return the folder of the lessons."""
    return Path(__file__).parent.parent / "lessons"


def lessons() -> list[Path]:
    """Return the files of the lessons, in order."""
    return [path for path in sorted(lessons_dir().glob("[0-9][0-9]_*.py")) if not path.name.startswith("00_")]


def name_of(path: Path) -> str:
    """`autograd` of `04_autograd.py`."""
    return path.stem.partition("_")[2]


def listing() -> str:
    """Return number, name and one line of each lesson; none is imported."""
    width = max(len(name_of(path)) for path in lessons())
    lines = [f"{int(path.stem[:2]):>3}  {name_of(path):<{width}}  {about(path)}" for path in lessons()]
    return "\n".join([HEAD, "", *lines])


def about(path: Path) -> str:
    """Return the first line of a lesson's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def find_lesson(wanted: str) -> Path:
    """Find the lesson of that number, name or file name; raise `ConfigError` with the nearest one."""
    known = {name_of(path): path for path in lessons()}
    for name, path in known.items():
        if wanted in (name, path.stem, path.name, path.stem[:2], path.stem[:2].lstrip("0")):
            return path
    names = ", ".join(f"{int(path.stem[:2])} {name}" for name, path in known.items())
    raise ConfigError(f"trainer learn {wanted}: no such lesson.{did_you_mean(wanted, known)} Lessons: {names}.")
