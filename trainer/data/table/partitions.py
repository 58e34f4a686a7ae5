"""Columns that stand in the names of folders, as Hive and Spark write them: year=2021/part-0.parquet."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

EMPTY = "__HIVE_DEFAULT_PARTITION__"  # the name of the folder for rows without a value
_FOLDER = re.compile(r"([A-Za-z_][^=/\\]*)=(.*)")
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")


def of_paths(paths: Sequence[Path], wanted: Collection[str] = ()) -> dict[str, pa.DataType]:
    """Return the columns that the folders of all files name, and their types: int64 where all are whole, or text.

    A name counts where files differ in it, or where it is `wanted`: an `lr=0.1` above all files tells nothing.
    """
    found = [of_path(path) for path in paths]
    columns: dict[str, pa.DataType] = {}
    for name in found[0] if found else ():
        values = {each.get(name, EMPTY) for each in found}
        if name in wanted or (len(values) > 1 and all(name in each for each in found)):
            whole = all(value is None or _WHOLE.fullmatch(value) for value in values)
            columns[name] = pa.int64() if whole else pa.string()
    return columns


def of_path(path: Path) -> dict[str, str | None]:
    """Return name and value of each folder above a file that is written so."""
    matches = [_FOLDER.fullmatch(part) for part in path.parts[:-1]]
    return {match[1]: None if match[2] == EMPTY else match[2] for match in matches if match is not None}


def with_columns(table: pa.Table, path: Path, columns: Mapping[str, pa.DataType]) -> pa.Table:
    """Return the table of a file with columns whose values stand in its path."""
    values = of_path(path)
    for name, kind in columns.items():
        value = values[name]
        typed = int(value) if value is not None and pa.types.is_integer(kind) else value
        table = table.append_column(name, pa.chunked_array([pa.repeat(pa.scalar(typed, kind), table.num_rows)]))
    return table
