"""A CSV pipeline, an exercise solved: from text to tensors to `train data=csv`.

The exercise: a dataset of the rows of a CSV file, and transforms that make numbers of them. What a transform must know
(medians, means, levels) is measured on the training rows only: validation rows stand for data that nobody has seen.
"""

import csv
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Any

import torch
from lesson import Lesson, start
from torch.utils.data import DataLoader, Dataset

from trainer import Run
from trainer.data.splits import split_index
from trainer.errors import DataError

MISSING, NUMBER = ("", "?", "NA"), re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
Row = dict[str, Any]  # by column: texts at first, numbers at last


def make_table(path: Path) -> Path:
    """Make a table of customers, some facts unknown: who stays?"""
    lines = ["age,spent,city,plan,stays"]
    for age, spent, city, plan, luck, unknown in torch.rand(1500, 6).tolist():
        years = "" if unknown < 0.1 else f"{18 + 60 * age:.0f}"
        place = "NA" if 0.4 < unknown < 0.5 else ("Bern", "Oslo", "Rome")[int(3 * city)]
        stays = "yes" if age + spent + plan - city + 0.4 * luck > 1.2 else "no"
        lines.append(f"{years},{20_000 * spent**2:.0f},{place},{('basic', 'free', 'full')[int(3 * plan)]},{stays}")
    path.write_text("\n".join(lines) + "\n")
    return path


class CsvDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The rows of a file: each is read as text, sent through the transforms, and given with its class."""

    def __init__(self, path: Path, target: str) -> None:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        self.rows: list[Row] = list(csv.DictReader(text.splitlines(keepends=True), restval=""))
        if not self.rows or target not in self.rows[0]:
            raise DataError(f"--path {path} --target {target}: there is no such file, or no such column in it.")
        names, self.transforms = [row.pop(target) for row in self.rows], list[Callable[[Row], Row]]()
        codes = {name: code for code, name in enumerate(sorted(set(names)))}
        self.targets = torch.tensor([codes[name] for name in names])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        row = self.rows[index]
        for transform in self.transforms:
            row = transform(row)
        return torch.tensor(list(row.values())), self.targets[index]


def fill(rows: list[Row], columns: list[str]) -> Callable[[Row], Row]:
    """Replace a number that is missing by the median of those that are known."""
    middle = {name: median([float(row[name]) for row in rows if row[name] not in MISSING] or [0.0]) for name in columns}
    return lambda row: row | {name: float(middle[name] if row[name] in MISSING else row[name]) for name in columns}


def standardise(rows: list[Row], columns: list[str]) -> Callable[[Row], Row]:
    """Numbers get mean 0 and standard deviation 1; one that never varies is only centred."""
    scale = {name: (fmean(v), pstdev(v) or 1.0) for name in columns for v in [[row[name] for row in rows]]}
    return lambda row: row | {name: (row[name] - mean) / std for name, (mean, std) in scale.items()}


def one_hot(rows: list[Row], columns: list[str]) -> Callable[[Row], Row]:
    """Encode a category as a 0/1 number for each level (missing is one too); a level not seen here gives zeros."""
    levels = [(name, level) for name in columns for level in sorted({row[name] for row in rows})]
    return lambda row: (
        {name: value for name, value in row.items() if name not in columns}
        | {f"{name}={level}": float(row[name] == level) for name, level in levels}
    )


def options(parser: Any) -> None:
    parser.add_argument("--path", type=Path, help="your CSV file, with a header (default: a table is made)")
    parser.add_argument("--target", default="stays", help="its column of classes")


def main(lesson: Lesson) -> None:
    given, target = lesson.arguments.path, lesson.arguments.target
    path = given or make_table(lesson.keep("customers.csv"))
    dataset = CsvDataset(path, target)
    train, val = (index.tolist() for index in split_index(dataset.targets, 0.2, lesson.seed))
    rows = [dataset.rows[i] for i in train]
    numeric = [n for n in rows[0] if all(row[n] in MISSING or NUMBER.fullmatch(row[n]) for row in dataset.rows)]
    shown = next((i for i, row in enumerate(rows) if set(MISSING) & set(row.values())), 0)
    lesson.show("a training row, as text", rows[shown])
    for fit, columns in ((fill, numeric), (standardise, numeric), (one_hot, [n for n in rows[0] if n not in numeric])):
        lesson.title(f"{fit.__name__}: {', '.join(columns)}")
        lesson.say(fit.__doc__)
        dataset.transforms.append(fit(rows, columns))
        rows = [dataset.transforms[-1](row) for row in rows]
        lesson.show("the same row", {n: round(v, 2) if isinstance(v, float) else v for n, v in rows[shown].items()})
    assert one_hot([{"city": "Bern"}, {"city": "Oslo"}], ["city"])({"city": "Rome"}) == {"city=Bern": 0, "city=Oslo": 0}
    lesson.title("A DataLoader makes batches of it")
    x, y = next(iter(DataLoader(dataset, len(train), sampler=train)))
    assert lesson.show("all training rows: features, classes", (x.shape, y.shape))[0] == (len(train), len(rows[0]))
    numbers, flags = x[:, : len(numeric)], x[:, len(numeric) :]
    std, mean = torch.std_mean(numbers, 0, correction=0)
    assert (mean.abs() < 1e-5).all()
    assert ((std - 1).abs() < 1e-5).logical_or(std == 0).all()
    assert (flags.sum(1) == len(dataset.rows[0]) - len(numeric)).all()  # one level of each category
    with lesson.figure("csv_pipeline", ncols=2, figsize=(10, 4)) as axes:
        known = [[float(row[n]) for row in dataset.rows if row[n] not in MISSING] for n in numeric]
        for axis, values, title in zip(axes, (known, numbers.T.tolist()), ("as read", "standardised"), strict=True):
            axis.boxplot(values, tick_labels=numeric, medianprops={"color": "black"})
            axis.set(title=title, xlabel="column", ylabel="value")

    lesson.title("All this and the training, by the package")
    command = ["train", "model=mlp", "data=csv", f"data.path={path}", f"data.target={target}", "trainer.epochs=5"]
    command += [f"trainer.device={lesson.device}", f"seed={lesson.seed}", f"output_dir={lesson.keep('runs')}"]
    done = subprocess.run([sys.executable, "-m", "trainer", *command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:  # it has said why
        sys.exit(done.returncode)
    lesson.show("$ " + " ".join(command), done.stdout)
    largest = lesson.show("share of the largest class", dataset.targets[val].bincount().max().item() / len(val))
    assert given or Run(next(lesson.folder.glob("runs/*/*"))).summary()["best"]["value"] > largest + 0.1


if __name__ == "__main__":
    start(__doc__, main, options)
