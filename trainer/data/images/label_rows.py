"""Tables that name images, as rows of text."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from trainer.errors import DataError

DELIMITERS = ",;\t|"
LINES = 200  # that the delimiter is guessed from

Rows = list[list[str]]


def read_label_rows(path: Path) -> Rows:
    """Return the rows of a table as text, its names first; CSV of any delimiter, JSON lines or Parquet.

    Raises:
        DataError: where it cannot be read.
    """
    if not path.is_file():
        raise DataError(f"data.labels={path}: no such file.")
    try:
        match path.suffix.lower():
            case ".parquet":
                rows = list(_of_parquet(path))
            case ".jsonl" | ".ndjson":
                rows = list(_of_json(path.read_text(encoding="utf-8-sig")))
            case _:
                rows = list(_of_text(path.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, AttributeError, csv.Error) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"data.labels={path}: cannot be read as a table ({reason}).") from error
    if not rows:
        raise DataError(f"data.labels={path}: it is empty.")
    width = max(map(len, rows))
    return [[cell.strip() for cell in row] + [""] * (width - len(row)) for row in rows]


def _of_parquet(path: Path) -> Iterator[list[str]]:
    table = pq.read_table(path)
    yield table.column_names
    columns = [["" if value is None else str(value) for value in column.to_pylist()] for column in table.columns]
    yield from map(list, zip(*columns, strict=True))


def _of_json(text: str) -> Iterator[list[str]]:
    entries = [json.loads(line) for line in text.splitlines() if line.strip()]
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    if names:
        yield names
    for entry in entries:
        yield [str(entry.get(name, "")) for name in names]


def _of_text(text: str) -> Iterator[list[str]]:
    lines = [line for line in text.splitlines()[:LINES] if line.strip()]

    def evenness(delimiter: str) -> tuple[bool, int, int]:
        [(count, lines_with_it)] = Counter(line.count(delimiter) for line in lines).most_common(1)
        return count > 0, lines_with_it, count

    delimiter = max(DELIMITERS, key=evenness) if lines else ","
    for row in csv.reader(io.StringIO(text), delimiter=delimiter):
        if any(cell.strip() for cell in row):
            yield row
