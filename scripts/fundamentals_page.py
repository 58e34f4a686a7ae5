"""Write docs/fundamentals.md and its pictures from real runs of the lessons.

python scripts/fundamentals_page.py

Run again it gives the same page, but for what is measured.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from trainer.commands.learn import about, lessons, name_of

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = DOCS / "fundamentals"
LINES = 18  # of the output of a part; more is left out
GREYS = 32  # colours of a picture: enough for black lines on white, and small
HEAD = """\
# The fundamentals

Runnable lessons on the code that trains. Each is one short file in `trainer/lessons/`, to be read from top to
bottom; it prints its results, asserts the facts that it teaches, and draws pictures into a run directory.

```
$ trainer learn
{listing}
```

`python trainer/lessons/01_tensors.py` is the same as `trainer learn 1`, and `trainer/lessons/00_index.py` as
`trainer learn`. Each lesson takes `--seed`, `--device` and `--output-dir`. Run all:
`pytest tests/lessons`.

Below is their output on one CPU thread, shortened at `...`, as written by `python scripts/fundamentals_page.py`.
"""


def main() -> None:
    """Run every lesson and write the page."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for old in PICTURES.glob("*.png"):
        old.unlink()
    head = HEAD.format(listing=output(DOCS, "-m", "trainer", "learn"))
    (DOCS / "fundamentals.md").write_text("\n".join([head, *map(section, lessons())]), encoding="utf-8")


def output(folder: Path, *command: str) -> str:
    """What a command of Python prints in a folder; ends this script where it fails."""
    environment = os.environ | {"COLUMNS": "100", "OMP_NUM_THREADS": "1"}  # one thread: steadier times
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.rstrip()


def section(path: Path) -> str:
    """Heading, command, and each part of the output with its pictures."""
    topic, _, rest = about(path).partition(": ")
    blocks = [f"## {int(path.stem[:2])}. {topic}", rest[:1].upper() + rest[1:], f"`trainer learn {name_of(path)}`"]
    with tempfile.TemporaryDirectory() as folder:
        _, *parts = re.split(r"^(.+?) ─+$", output(Path(folder), str(path)), flags=re.MULTILINE)
        for title, text in zip(parts[::2], parts[1::2], strict=True):
            lines = [line.rstrip() for line in text.strip("\n").splitlines()]
            pictures = [Path(folder, line.split(maxsplit=1)[1]) for line in lines if line.startswith("picture  ")]
            lines = [line for line in lines if not line.startswith("picture  ")]
            shown = lines if len(lines) <= LINES else [*lines[: LINES - 1], "..."]
            blocks += [f"### {title}", "\n".join(["```", *shown, "```"])]
            blocks += [f"![{title}](fundamentals/{keep(picture, path)})" for picture in pictures]
    return "\n\n".join(blocks) + "\n"


def keep(picture: Path, lesson: Path) -> str:
    """Copy a picture beside the page, in few colours; gives its name."""
    name = f"{lesson.stem[:2]}_{picture.name}"
    with Image.open(picture) as image:
        image.convert("RGB").quantize(GREYS, dither=Image.Dither.NONE).save(PICTURES / name, optimize=True)
    return name


if __name__ == "__main__":
    main()
