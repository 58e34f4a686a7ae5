"""Predictions as a file: CSV, Parquet or JSON lines, written part by part and put in place as a whole."""

import contextlib
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.errors import ConfigError
from trainer.system import atomic_files

Columns = dict[str, Sequence[str | int | float | None]]  # of equal length, by name
Write = Callable[[Columns], None]
ENDINGS = (".csv", ".parquet", ".jsonl")


@contextlib.contextmanager
def open_predictions(path: Path | None, stream: TextIO) -> Iterator[Write]:
    """Open a file for predictions; it appears under its name once all of them are there.

    Args:
        path: its ending says the format; None: CSV on `stream`.
        stream: where there is no file.

    Raises:
        ConfigError: for another ending.
        TrainerError: where the file cannot be written.
    """
    if path is None:
        yield _csv_writer(stream)
        return
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"--output {path}: its ending must be one of {', '.join(ENDINGS)}.")
    temporary = atomic_files.temp_path(path)
    try:
        with contextlib.ExitStack() as stack:
            if path.suffix.lower() == ".parquet":
                yield _parquet_writer(temporary, stack)
            else:
                file = stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
                yield _csv_writer(file) if path.suffix.lower() == ".csv" else _json_writer(file)
        with temporary.open("rb+") as written:
            atomic_files.sync_file(written)
        temporary.replace(path)
        atomic_files.sync_directory(path.parent)
    except OSError as error:
        raise atomic_files.unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _csv_writer(file: TextIO) -> Write:
    writer, begun = csv.writer(file, lineterminator="\n"), False

    def write(columns: Columns) -> None:
        nonlocal begun
        if not begun:
            writer.writerow(columns)
        begun = True
        writer.writerows(zip(*(_as_text(name, values) for name, values in columns.items()), strict=True))

    return write


def _as_text(name: str, values: Sequence[str | int | float | None]) -> Sequence[object]:
    """Return numbers with the digits that they have: seven of a float32, six places of a probability."""
    if not values or not isinstance(values[0], float):
        return values
    places = ".6f" if name.startswith(("p(", "probability")) else ".7g"
    return [format(value, places) for value in values]


def _json_writer(file: TextIO) -> Write:
    def write(columns: Columns) -> None:
        for row in zip(*columns.values(), strict=True):
            file.write(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n")

    return write


def _parquet_writer(path: Path, stack: contextlib.ExitStack) -> Write:
    opened: list[pq.ParquetWriter] = []

    def write(columns: Columns) -> None:
        table = pa.table({name: _typed(values) for name, values in columns.items()})
        if not opened:
            opened.append(stack.enter_context(pq.ParquetWriter(path, table.schema)))
        opened[0].write_table(table.cast(opened[0].schema))

    return write


def _typed(values: Sequence[str | int | float | None]) -> pa.Array:
    kind = pa.string() if all(value is None for value in values) else None
    return pa.array(values, pa.float32() if values and isinstance(values[0], float) else kind)
