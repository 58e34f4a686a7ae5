"""Records as `metrics.jsonl` (one object a line) and `metrics.csv` (one row each)."""

import contextlib
import csv
import io
import json
import math
import os
from pathlib import Path
from typing import Any, TextIO

from trainer.loggers.base import LogRecord
from trainer.system import atomic_files

FIRST_COLUMNS = ["step", "epoch", "time"]


class Lines:
    """A file of one JSON object a line, each with its `step`; whatever is appended is flushed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def cut(self, step: int) -> int:
        """Open the file, without the lines after `step` and without those that are none; returns how many went."""
        self.close()
        rows = read_rows(self.path)
        kept = [row for row in rows if row["step"] <= step]
        atomic_files.write_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  # closed in close()
        return len(rows) - len(kept)

    def append(self, row: dict[str, Any]) -> None:
        """Write one line."""
        assert self._file is not None, "cut() opens it"
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Fsync."""
        assert self._file is not None, "cut() opens it"
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file, where it is open."""
        if self._file is not None:
            self._file.close()


class FilesLogger:
    """Appends each record to both files and flushes it.

    Rows after `start_step` are cut on opening: a run set back to a checkpoint stays one curve.

    Args:
        directory: of the run.
        start_step: steps done when this process starts.
    """

    def __init__(self, directory: Path, start_step: int = 0) -> None:
        self.lines, self.csv = Lines(directory / "metrics.jsonl"), directory / "metrics.csv"
        self._open(start_step)

    def write(self, record: LogRecord) -> None:
        """Append a line and a row, unless there are no numbers."""
        if not record.scalars:
            return
        row: dict[str, Any] = {"step": record.step, "epoch": record.epoch, "time": round(record.time, 3)}
        # JSON has no NaN: a score that is undefined (R² of constant targets) is null.
        row |= {name: value if math.isfinite(value) else None for name, value in record.scalars.items()}
        self.lines.append(row)
        new = [name for name in row if name not in self.columns]
        if new:
            self._table.close()
            self.columns += new
            self._rewrite(read_rows(self.lines.path))
        else:
            self._table.write(self._csv_line(row))
            self._table.flush()

    def flush(self) -> None:
        """Fsync the lines; the table is made from them when it is opened."""
        self.lines.sync()

    def rewind(self, step: int) -> None:
        """Cut the rows after `step`."""
        self._table.close()
        self._open(step)

    def _open(self, step: int) -> None:
        self.lines.cut(step)
        rows = read_rows(self.lines.path)
        self.columns = list(dict.fromkeys([*FIRST_COLUMNS, *(name for row in rows for name in row)]))
        self._rewrite(rows)

    def close(self, summary: dict[str, Any]) -> None:
        """Close both files."""
        self.lines.close()
        self._table.close()

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        """Write the whole table anew, when its columns have changed."""
        header = ",".join(self.columns) + "\n"
        atomic_files.write_text(self.csv, header + "".join(map(self._csv_line, rows)))
        self._table = open(self.csv, "a", encoding="utf-8", newline="")  # noqa: SIM115  # closed in close()

    def _csv_line(self, row: dict[str, Any]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self.columns, restval="", lineterminator="\n").writerow(row)
        return text.getvalue()


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """Return the records of a run, oldest first; see `read_rows`."""
    return read_rows(directory / "metrics.jsonl")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the objects with a step, in order, without lines that are none, such as one that a kill has cut short."""
    if not path.is_file():
        return []
    rows = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(text) if text.endswith("\n") else None
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                rows.append(row)
    return rows
