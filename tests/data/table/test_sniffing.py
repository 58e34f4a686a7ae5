"""What stands above and beside the rows of a file, and is none of them: found, told, and never read as data."""

from pathlib import Path
from typing import Any

import pytest

from trainer.config.table import Csv
from trainer.data.table.reading import read_table
from trainer.data.table.table import Table
from trainer.errors import DataError

ROWS = [("1.5", "0.25", "a"), ("2.5", "0.75", "b"), ("3.5", "0.5", "a"), ("0.5", "1.25", "b"), ("4.5", "0.125", "a")]


def body(separator: str = ",") -> str:
    return "".join(separator.join(row) + "\n" for row in ROWS)


def load(folder: Path, content: str, **keys: Any) -> Table:
    path = folder / "table.csv"
    path.write_text(content)
    return read_table(Csv(path=str(path), **{"target": "y", **keys}))


def cells(table: Table) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in table.columns.to_pylist()]


EXPECTED = [(1.5, 0.25, "a"), (2.5, 0.75, "b"), (3.5, 0.5, "a"), (0.5, 1.25, "b"), (4.5, 0.125, "a")]


@pytest.mark.parametrize(
    ("content", "first_line", "notes"),
    [
        (f"u,v,y\n{body()}", 2, []),
        (f"0,1,y\n{body()}", 2, []),
        (f"Measured in May\nu,v,y\n{body()}", 3, ["its first line is a title, passed over"]),
        (f"Lab 7\n\nMay 2021\nu,v,y\n{body()}", 5, ["its first 2 lines are titles, passed over"]),
        (f"Lab 7,,\nu,v,y\n{body()}", 3, ["its first line is a title, passed over"]),
        (f"u,v,y\nmm,kg,\n{body()}", 3, ["line 2: 'mm,kg,' looks like a second header"]),
        (f"sep=;\nu;v;y\n{body(';')}", 3, ["its first line says that ';' separates the columns"]),
        (f"sep=,\n{body()}", 2, ["its first line says that ','", "its first line looks like data"]),
        (f"u,v,y,,\n{body().replace(chr(10), ',,' + chr(10))}", 2, ["2 columns without name and values, left out"]),
    ],
    ids=["plain", "two numbers", "title", "titles", "title with commas", "units", "sep", "sep alone", "nameless"],
)
def test_what_is_above_the_rows_is_told_and_no_row(
    tmp_path: Path, content: str, first_line: int, notes: list[str]
) -> None:
    target = "y" if "y" in content else "2"
    table = load(tmp_path, content, target=target)
    assert cells(table) == EXPECTED
    assert table.where(0).endswith(f"table.csv, line {first_line}")
    assert len(table.notes) == len(notes)
    assert all(words in note for words, note in zip(notes, table.notes, strict=True)), table.notes


@pytest.mark.parametrize(
    ("first", "is_header"),
    [
        ("0,1,2", True),
        ("1,2,3", True),  # whole numbers that count, above columns of fractions
        ("1990,1991,1992", True),
        ("10,20,30", True),
        ("0.5,1.5,2.5", False),
        ("3,1,2", False),
        ("2,2,2", False),
    ],
)
def test_a_line_of_numbers_is_a_header_where_it_counts_the_columns(tmp_path: Path, first: str, is_header: bool) -> None:
    rows = "".join(f"{0.37 * i % 1:.3f},{0.71 * i % 3:.2f},{0.13 * i % 2:.3f}\n" for i in range(1, 30))
    table = load(tmp_path, f"{first}\n{rows}", target=first.split(",")[2] if is_header else "2")
    assert table.columns.num_rows == 29 + (not is_header)
    assert table.columns.column_names == (first.split(",") if is_header else ["0", "1", "2"])
    assert bool(table.notes)


def test_a_header_that_counts_above_whole_numbers_is_one_from_three_columns_on(tmp_path: Path) -> None:
    rows = "".join(f"{i % 3},{i % 5},{i % 7},{i % 2}\n" for i in range(1, 40))
    assert load(tmp_path, f"0,1,2,3\n{rows}", target="3").columns.num_rows == 39
    assert load(tmp_path, f"0,1\n{rows.replace(',', ',', 1)}", target="1", on_error="skip").rows_read >= 39


def test_a_second_line_of_missing_words_is_a_row(tmp_path: Path) -> None:
    assert load(tmp_path, f"u,v,y\nNA,?,a\n{body()}").columns.num_rows == 6


def test_an_index_is_read_where_a_key_names_it(tmp_path: Path) -> None:
    content = ",u,y\n" + "".join(f"{i},{i / 7:.3f},{'ab'[i % 2]}\n" for i in range(20))
    table = load(tmp_path, content)
    assert table.columns.column_names == ["u", "y"]
    assert "data.numeric=[index]" in table.notes[0]
    assert load(tmp_path, content, numeric=["index"]).columns.column_names == ["index", "u", "y"]


def test_the_header_is_the_line_with_the_names_that_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a report; of 2021\n\nsecond; line\nz;v;u\n9;0,25;1,5\n8;0,75;2,5\n")
    table = read_table(Csv(path=str(path), target="y"), labelled=False, wanted=["u", "v"])
    assert table.columns.to_pydict() == {"u": [1.5, 2.5], "v": [0.25, 0.75]}
    assert [text.split(": ", 1)[1] for text in table.notes] == [
        "its first 2 lines are titles, passed over.",
        "read with a decimal comma.",
        "not used: z.",
    ]


def test_names_of_folders_are_columns_where_they_differ(tmp_path: Path) -> None:
    for year, month in ((2021, "may"), (2022, "may"), (2022, "__HIVE_DEFAULT_PARTITION__")):
        folder = tmp_path / "lr=0.1" / f"year={year}" / f"month={month}"
        folder.mkdir(parents=True)
        (folder / "part.csv").write_text("u,y\n1.5,a\n2.5,b\n")
    table = read_table(Csv(path=str(tmp_path / "**/*.csv"), target="y"))
    assert table.columns.column_names == ["u", "y", "year", "month"]
    assert table.columns["year"].to_pylist() == [2021, 2021, 2022, 2022, 2022, 2022]
    assert table.columns["month"].to_pylist() == ["may", "may", None, None, "may", "may"]
    one = str(tmp_path / "lr=0.1/year=2021/month=may/part.csv")
    alone = read_table(Csv(path=one, target="y"), labelled=False, wanted=["u", "year"])
    assert alone.columns.to_pydict() == {"u": [1.5, 2.5], "year": [2021, 2021]}


def test_numbers_as_names_are_no_header_where_they_occur_among_values(tmp_path: Path) -> None:
    """The names of a table without a header are 0 and 1, which a row of 0 and 1 has, too."""
    path = tmp_path / "table.csv"
    for rows in ("1,1\n0,1\n1,0\n0,1\n", "0,1\n1,1\n1,0\n0,1\n"):
        path.write_text(rows)
        read = read_table(Csv(path=str(path), target="2"), labelled=False, wanted=["0", "1"])
        assert [f"{a},{b}" for a, b in zip(*read.columns.to_pydict().values(), strict=True)] == rows.split()
    path.write_text("0,1,2\n1,1,5\n")
    assert read_table(Csv(path=str(path), target="3"), labelled=False, wanted=["0", "1"]).columns.num_rows == 1


def test_a_name_that_is_a_value_far_below_does_not_make_a_header_of_its_row(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("X;n\nx;1\ny;2\n")
    with pytest.raises(DataError, match="has no column x"):
        read_table(Csv(path=str(path), target="y"), labelled=False, wanted=["x"])
