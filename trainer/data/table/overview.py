"""What the user should know about a table before training: its columns, their preprocessing, and what looks wrong."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.config.quoting import shell_override
from trainer.data.table.column_types import Column
from trainer.data.table.preprocess import FittedColumn, Preprocessor
from trainer.data.table.table import Table

SHOWN = 20  # columns on the screen
LISTED = 5  # columns that a warning names
HEADER = ("column", "kind", "missing", "distinct", "example", "becomes")
_WIDTHS = (24, 12, 9, 9, 20)  # characters at most; what is longer is cut
_PURPOSES = {
    "target": "what is predicted",
    "weight": "how much a row counts; no input",
    "group": "which rows belong together; no input",
    "split": "which rows are for training; no input",
    "time": "which rows are the latest; no input",
}


@dataclass(frozen=True)
class Overview:
    """The description of a table for the screen and for the run directory.

    Attributes:
        notes: for the screen, the columns as a table, one line each, abbreviated.
        warnings: what the user may want to change, one sentence each.
        files: for the run directory, by name: all columns, and the rows that were left out.
    """

    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    files: dict[str, str]


def describe_table(
    table: Table,
    columns: Sequence[Column],
    fitted: Preprocessor,
    leaks: dict[str, str],
    doubts: Sequence[str] = (),
    target_chain: Sequence[str] = (),
) -> Overview:
    """Describe the columns of a table.

    Args:
        table: all rows.
        columns: what each column is.
        fitted: what the inputs become.
        leaks: how columns determine the target, by their names; see `trainer.data.table.leakage`.
        doubts: further warnings, see `trainer.data.table.inspection`.
        target_chain: the transforms of the target.
    """
    made = {column.name: column for column in fitted.columns}
    rows = [_row(column, made.get(column.name), target_chain) for column in columns]
    notes = [*table.notes, *_aligned([HEADER, *rows[:SHOWN]])]
    if len(rows) > SHOWN:
        kinds = Counter(column.kind for column in columns[SHOWN:])
        counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        notes.append(f"… and {len(rows) - SHOWN:,} more columns: {counts}; all are in columns.csv of the run")
    files = {"columns.csv": _csv(HEADER, rows)}
    warnings = [*_left_out(columns), *(one.warning for one in columns if one.warning)]
    warnings += [*(_leak(name, how) for name, how in leaks.items()), *doubts]
    if table.rejected:
        cells = [(str(one.path), one.line, one.column or "", one.reason, one.text) for one in table.rejected]
        files["rejected.csv"] = _csv(("file", "line", "column", "reason", "text"), cells)
        warnings.append(
            f"{len(table.rejected):,} of {table.rows_read:,} rows were left out; first: {table.rejected[0]}. All are "
            "in rejected.csv of the run."
        )
    return Overview(tuple(notes), tuple(warnings), files)


def _row(column: Column, made: FittedColumn | None, chain: Sequence[str]) -> tuple[str, ...]:
    distinct = f"{column.distinct:,}" + "+" * column.sampled
    return (column.name, column.kind, f"{column.missing:,}", distinct, column.example, _becomes(column, made, chain))


def _becomes(column: Column, made: FittedColumn | None, chain: Sequence[str] = ()) -> str:
    """Describe what becomes of a column, such as "impute → standardize: 1 input"."""
    if column.kind == "target" and chain:
        return f"{' → '.join(chain)}: what is learned; it is predicted in its own unit"
    if column.kind in _PURPOSES:
        return _PURPOSES[column.kind]
    if made is None:
        return "left out" if not column.is_input else "left out: has no value in the training rows"
    idle = {"present": False}  # an indicator where nothing is missing
    steps = zip(made.transforms, made.states, strict=True)
    chain = " → ".join(transform.option for transform, states in steps if idle not in states)
    form = f"{column.form} → " if column.form else ""
    if made.cardinality:
        return f"{form}{chain}: {len(made.levels):,} level{'s' * (len(made.levels) != 1)}"
    width = made.width()
    return f"{form}{chain}: {width} input{'s' * (width != 1)}"


def _left_out(columns: Sequence[Column]) -> list[str]:
    """Make the warnings about columns that are left out: one for each reason."""
    found: dict[str, list[str]] = {}
    for column in columns:
        if column.reason:
            found.setdefault(column.reason, []).append(column.name)
    warnings = []
    for reason, names in found.items():
        more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
        subject = f"column{'s' * (len(names) > 1)} {', '.join(names[:LISTED])}{more}"
        ignored = shell_override("data.ignore", names[:1])
        way_out = f"{shell_override('data.categorical', names[:1])} or {ignored} decides"
        if reason.startswith("has no value"):
            way_out = f"{ignored} says so"
        warnings.append(f"left out: {subject}, which {reason}; {way_out}.")
    return warnings


def _leak(name: str, how: str) -> str:
    """Make the warning about a column that determines the target."""
    return (
        f"the column {name} determines the target by itself ({how}). If it is not known when predicting, the scores "
        f"mean nothing; leave it out with {shell_override('data.ignore', [name])}."
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Make lines of text with the cells below one another, cut to the widths of the columns."""
    cut = [[_cut(cell, limit) for cell, limit in zip(row, _WIDTHS, strict=False)] + [row[-1]] for row in rows]
    widths = [max(len(row[i]) for row in cut) for i in range(len(_WIDTHS))]
    sides = [str.rjust if name in ("missing", "distinct") else str.ljust for name in HEADER]
    return [
        "  ".join([*(side(*at) for side, at in zip(sides, zip(row, widths, strict=False), strict=False)), row[-1]])
        for row in cut
    ]


def _cut(text: str, limit: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
