"""A split whose images lie in one folder, with a table that says their classes; training has a folder for each."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.data.images.image_index import ImageIndex
from trainer.data.images.label_rows import Rows, read_label_rows
from trainer.data.images.split_names import split_of
from trainer.errors import DataError, did_you_mean

FOUND = 0.5  # share of the cells that must fit, in a column of files or of classes
TABLES = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")  # that may have the labels


class ListedSplit(NamedTuple):
    """The images of a folder that a table names, with the class of each.

    Attributes:
        folder: the images are below it.
        table: the file, such as Tiny ImageNet's val_annotations.txt.
        paths: of the images.
        labels: the class of each.
        passed_over: other files below the folder, by what they are: images that are not in the table, too.
        missing: rows of the table that name no image.
    """

    folder: Path
    table: Path
    paths: list[Path]
    labels: list[str]
    passed_over: Counter[str]
    missing: int


def tables_of(folder: Path) -> list[Path]:
    """Return the tables in a folder that may have labels; those named as training images are first."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in TABLES and path.is_file()]
    return sorted(found, key=lambda path: (split_of(path.stem) != "train", path.name))


def listed_split(folder: Path, classes: Sequence[str]) -> ListedSplit | None:
    """Find the table that says the classes of the images below a folder; None where there is none.

    It is in the folder, or beside it with the name of the split; a column names the images, another the classes.

    Args:
        folder: of the split.
        classes: of training, by which the column is known.

    Raises:
        DataError: where two tables fit, or one has a class that training lacks.
    """
    beside = [path for path in tables_of(folder.parent) if split_of(path.stem) == split_of(folder.name)]
    index = ImageIndex(folder)
    fitting = [found for path in (*tables_of(folder), *beside) if (found := _listed(path, index, {*classes}))]
    if len(fitting) > 1:
        raise DataError(
            f"{folder}: {fitting[0].table} and {fitting[1].table} both say the classes of its images; keep one of them."
        )
    for path, label in zip(fitting[0].paths, fitting[0].labels, strict=True) if fitting else ():
        if label not in classes:
            table = fitting[0].table
            hint = did_you_mean(label, classes)
            raise DataError(f"{table}: the class '{label}' of {path.name} is none of the training images.{hint}")
    return fitting[0] if fitting else None


def _listed(table: Path, index: ImageIndex, classes: set[str]) -> ListedSplit | None:
    """Read a table; None where it names no images, or no classes."""
    try:
        rows = read_label_rows(table)
    except DataError:
        return None  # a text that is no table, such as a README
    named = _column(rows, lambda cell: bool(index.find(cell)))
    of_class = _column(rows, lambda cell: unicodedata.normalize("NFC", cell) in classes)
    if named is None or of_class is None:
        return None
    body = rows if index.find(rows[0][named]) else rows[1:]
    found = index.find_all([row[named] for row in body])
    used = [(path, unicodedata.normalize("NFC", row[of_class])) for path, row in zip(found, body, strict=True) if path]
    paths, labels = [path for path, _ in used], [label for _, label in used]
    left = Counter({f"not in {table.name}": len({*index.images} - {*paths})})
    return ListedSplit(index.root, table, paths, labels, index.passed_over + left, len(body) - len(used))


def _column(rows: Rows, fits: Callable[[str], bool]) -> int | None:
    """Return the column in which most cells fit; None where in none half of them do."""
    body = rows[1:] or rows
    shares = [sum(fits(row[i]) for row in body) / len(body) for i in range(len(rows[0]))]
    best = max(range(len(shares)), key=shares.__getitem__)
    return best if shares[best] >= FOUND else None
