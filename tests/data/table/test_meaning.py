"""What a value means: a level, a missing word, a number, a code; the same whatever the file and its spelling."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.config.table import Csv
from trainer.data.table.column_types import Column, infer_columns
from trainer.data.table.levels import match_levels, sort_levels
from trainer.data.table.reading import read_table
from trainer.data.table.table import Table
from trainer.data.types import Data
from trainer.errors import ConfigError, DataError
from trainer.runs.build import build_data

ROWS = 60


def load(folder: Path, values: list[object], **keys: Any) -> Table:
    path = folder / "table.csv"
    path.write_text("\n".join(["x,y", *(f"{value},{i % 2}" for i, value in enumerate(values))]) + "\n")
    return read_table(Csv(path=str(path), **{"target": "y", **keys}))


def column(folder: Path, values: list[object], **keys: Any) -> Column:
    table = load(folder, values, **keys)
    return infer_columns(Csv(**{"target": "y", **keys}), table)[0]


def build(folder: Path, values: list[object], **keys: Any) -> Data:
    load(folder, values, **keys)
    return build_data(Csv(path=str(folder / "table.csv"), **{"target": "y", **keys}), 0)


@pytest.mark.parametrize(
    ("text", "levels", "number"),
    [
        ("1", ("1", "2"), 1),
        ("1.0", ("1", "2"), 1),
        ("2", ("1.0", "2.0"), 2),
        ("007", ("7", "007"), 2),
        ("7", ("007", "08"), 0),
        ("7.0", ("7", "007"), 1),
        ("1.50", ("1.5", "2.5"), 1),
        ("1.50", ("1.5", "1.50"), 2),
        ("1.500", ("1.5", "1.50"), 0),  # either could be meant
        ("TRUE", ("false", "true"), 2),
        ("no ", ("No", "Yes"), 1),
        ("no", ("No", "NO"), 0),
        ("new", ("old",), 0),
    ],
)
def test_a_level_is_its_value_where_that_is_one_only(text: str, levels: tuple[str, ...], number: int) -> None:
    assert match_levels(pa.array([text]), levels).tolist() == [number]


def test_levels_of_numbers_are_in_the_order_of_numbers() -> None:
    assert sort_levels(["10", "9", "-1", "2.5"]) == ["-1", "2.5", "9", "10"]
    assert sort_levels(["10", "9", "b"]) == ["10", "9", "b"]


def test_an_order_that_is_given_is_the_order_of_the_codes(tmp_path: Path) -> None:
    values: list[object] = [["mid", "low", "high"][i % 3] for i in range(ROWS)]
    keys = {"transforms": {"x": ["ordinal"]}}
    alphabetical, ordered = (
        build(tmp_path, values, **keys),
        build(tmp_path, values, order={"x": ["low", "mid", "high"]}, **keys),
    )
    rows = {int(row): float(value) for row, value in zip(ordered.train.rows, ordered.train.inputs[:, 0], strict=True)}
    assert all(value == {"low": 1, "mid": 2, "high": 3}[str(values[row])] for row, value in rows.items())
    assert not (alphabetical.train.inputs == ordered.train.inputs).all()
    with pytest.raises(ConfigError, match=r"data\.order\.z=z|data\.order=z"):
        build(tmp_path, values, order={"z": ["a", "b"]})


@pytest.mark.parametrize("word", ["-999", "-999.0", "-9.99e2", "-999.000"])
def test_a_missing_number_is_the_number_however_it_is_written(tmp_path: Path, word: str) -> None:
    values: list[object] = [word if i % 3 == 0 else i / 4 for i in range(ROWS)]
    table = load(tmp_path, values, missing=["-999"])
    assert table.columns["x"].null_count == 20
    assert pa.types.is_floating(table.columns["x"].type)
    pq.write_table(
        pa.table({"x": [-999.0 if i % 3 == 0 else i / 4 for i in range(ROWS)], "y": [0, 1] * 30}),
        tmp_path / "t.parquet",
    )
    parquet = read_table(Csv(path=str(tmp_path / "t.parquet"), target="y", missing=["-999"]))
    assert parquet.columns["x"].to_pylist() == table.columns["x"].to_pylist()


def test_the_usual_missing_words_always_count_unless_they_are_switched_off(tmp_path: Path) -> None:
    values: list[object] = ["NA" if i % 4 == 0 else i for i in range(ROWS)]
    for keys in ({}, {"missing": ["-999"]}, {"missing": ["", "-999"]}):
        assert load(tmp_path, values, **keys).columns["x"].null_count == 15
    assert (
        column(tmp_path, values, missing_defaults=False).kind == "categorical"
        or "NA" in load(tmp_path, values, missing_defaults=False).columns["x"].to_pylist()
    )


def test_whole_numbers_with_leading_zeros_are_codes(tmp_path: Path) -> None:
    assert load(tmp_path, [["007", "7", "010"][i % 3] for i in range(ROWS)]).columns["x"].to_pylist()[:3] == [
        "007",
        "7",
        "010",
    ]
    assert load(tmp_path, [["07", "8"][i % 2] for i in range(ROWS)], numeric=["x"]).columns["x"].to_pylist()[:2] == [
        7,
        8,
    ]
    path = tmp_path / "labels.csv"
    path.write_text("x,y\n" + "".join(f"{i / 7:.2f},{['001', '010'][i % 2]}\n" for i in range(ROWS)))
    assert build_data(Csv(path=str(path), target="y"), 0).spec.labels == ("001", "010")


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (["7,019", "8,440", "12,001"], "1,234.5"),
        (["$1,477,158.00", "$849,309.00", "($12.50)"], "1,234.5"),
        (["17%", "8 %", "29%"], ""),
        (["0,81", "1,5", "-2,25"], "1.234,5"),
        (["1.234,50", "12,75", "1.000.000,0"], "1.234,5"),
        (["1 234,5", "12 000", "5,5"], "1 234,5"),
    ],
)
def test_numbers_as_people_write_them_are_numbers(tmp_path: Path, values: list[str], form: str) -> None:
    quoted: list[object] = [f'"{values[i % 3]}"' for i in range(ROWS)]
    found = column(tmp_path, quoted)
    assert (found.kind, found.form) in (("numeric", form), ("numeric", form or "1,234.5"))
    assert build(tmp_path, quoted).description == "1 numeric + 0 categorical columns"


@pytest.mark.parametrize(
    ("values", "kind", "form"),
    [
        ([f"20{i % 20 + 10}0{i % 9 + 1}{i % 19 + 10}" for i in range(ROWS)], "datetime", "%Y%m%d"),
        ([10_000_000 + 7 * i for i in range(ROWS)], "numeric", ""),
        ([f"{i % 12 + 1}/{i % 28 + 1}/21" for i in range(ROWS)], "datetime", "%m/%d/%y"),
        (
            [f"{'0000-00-00' if i % 30 == 0 else f'2021-05-{i % 28 + 1:02d}'}" for i in range(ROWS)],
            "datetime",
            "ISO 8601",
        ),
    ],
)
def test_dates_are_found_by_all_of_their_values(tmp_path: Path, values: list[object], kind: str, form: str) -> None:
    found = column(tmp_path, values)
    assert (found.kind, found.form) == (kind, form)


def test_moments_of_a_clock_are_exact_and_known_by_their_name(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    seconds = [1_700_000_000.5 + i for i in range(2999)] + [1_705_000_000.5]  # float32 would know each 128th
    path.write_text("created_at,y\n" + "".join(f"{moment},{i % 2}\n" for i, moment in enumerate(seconds)))
    table = read_table(Csv(path=str(path), target="y"))
    assert len(set(table.columns["created_at"].to_pylist())) == 3000
    assert infer_columns(Csv(target="y"), table)[0].form == "unix seconds"


def test_identities_do_not_pass_through_floats(tmp_path: Path) -> None:
    keys = [2**63 + i for i in range(40)]
    pq.write_table(
        pa.table({"g": pa.array(keys * 2, pa.uint64()), "x": [float(i) for i in range(80)], "y": [0, 1] * 40}),
        tmp_path / "t.parquet",
    )
    data = build_data(Csv(path=str(tmp_path / "t.parquet"), target="y", group="g"), 0)
    assert len(data.val) == 16, "eight groups of two"


def test_a_format_that_is_given_decides(tmp_path: Path) -> None:
    values: list[object] = [f"0{i % 7 + 1}/0{i % 5 + 1}/2021" for i in range(ROWS)]
    assert column(tmp_path, values, formats={"x": "%d/%m/%Y"}).form == "%d/%m/%Y"
    assert column(tmp_path, values, formats={"x": "%m/%d/%Y"}).form == "%m/%d/%Y"
    assert column(tmp_path, values, formats={"x": "%m/%d/%Y"}).warning or column(tmp_path, values).warning
    with pytest.raises(ConfigError, match=r"data\.formats\.x=5"):
        Csv(formats={"x": 5})
    with pytest.raises(DataError, match=r"'01/01/2021' is not a date written as %Y-%m-%d"):
        build(tmp_path, values, formats={"x": "%Y-%m-%d"})


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        (["yes", "no"], "perhaps"),
        (["2021-05-01", "2021-06-02"], "soon"),
        (["1,234.5", "2,345.5"], "much"),
        (["1.5", "2.5"], "much"),
    ],
)
def test_a_misfit_deep_in_a_file_is_an_error_with_the_ways_out_or_is_skipped(
    tmp_path: Path, values: list[str], wrong: str
) -> None:
    cells: list[object] = [f'"{values[i % 2]}"' for i in range(ROWS)]
    cells[57] = wrong
    with pytest.raises(DataError) as caught:
        build(tmp_path, cells)
    for words in ("table.csv, line 59, column x", f"'{wrong}'", f"data.missing=[{wrong}]", "data.categorical", "skip"):
        assert words in str(caught.value)
    data = build(tmp_path, cells, on_error="skip")
    assert len(data.train) + len(data.val) == ROWS - 1
    assert data.files["rejected.csv"].splitlines()[1].split(",")[1:3] == ["59", "x"]
    assert "warnings" and any("1 of 60 rows were left out" in text for text in data.warnings)
    assert build(tmp_path, cells, missing=[wrong]).warnings is not None


def test_weights_times_and_sides_that_cannot_be_read_are_skipped_too(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = [
        [f"{i / 7:.2f}", "1", f"2021-05-{i % 28 + 1:02d}", "val" if i % 5 == 0 else "train", "uv"[i % 2]]
        for i in range(ROWS)
    ]
    rows[3][1], rows[4][1], rows[7][3] = "-1", "", "both"
    path.write_text("\n".join(["x,w,t,s,y", *map(",".join, rows)]) + "\n")
    data = build_data(Csv(path=str(path), target="y", weight="w", split="s", on_error="skip"), 0)
    assert len(data.train) + len(data.val) == ROWS - 3
    lines = [line.split(",")[1:3] for line in data.files["rejected.csv"].splitlines()[1:]]
    assert lines == [["5", "w"], ["6", "w"], ["9", "s"]]
    rows[7][3], rows[5][2] = "val", ""
    path.write_text("\n".join(["x,w,t,s,y", *map(",".join, rows)]) + "\n")
    data = build_data(Csv(path=str(path), target="y", time="t", ignore=["t", "w", "s"], on_error="skip"), 0)
    assert len(data.train) + len(data.val) == ROWS - 1


def test_a_time_that_is_ignored_says_which_rows_are_the_latest_and_is_no_input(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,t,y\n" + "".join(f"{i / 7:.2f},{(7 * i) % 60},{i % 2}\n" for i in range(ROWS)))
    data = build_data(Csv(path=str(path), target="y", time="t", ignore=["t"]), 0)
    assert data.spec.features == 1
    assert sorted((7 * int(row)) % 60 for row in data.val.rows) == list(range(48, 60))


def test_a_transform_of_a_column_that_is_left_out_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,x,y\n" + "".join(f"k{i},{i / 7:.2f},{i % 2}\n" for i in range(ROWS)))
    with pytest.raises(
        ConfigError, match=r"data\.transforms\.id: the column is no input, which has 60 distinct values"
    ):
        build_data(Csv(path=str(path), target="y", transforms={"id": ["ordinal"]}), 0)


def test_a_few_whole_numbers_are_numbers_where_the_rows_are_too_few_for_classes(tmp_path: Path) -> None:
    path = tmp_path / "women.csv"
    path.write_text("height,weight\n" + "".join(f"{58 + i},{115 + 3 * i}\n" for i in range(15)))
    assert build_data(Csv(path=str(path), target="weight"), 0).spec.labels is None


def test_huge_and_tiny_numbers_are_scaled_like_others(tmp_path: Path) -> None:
    for exponent in (-203, 158):
        data = build(tmp_path, [f"{1 + i % 9}.5e{exponent}" for i in range(ROWS)])
        assert data.train.inputs[:, 0].std() == pytest.approx(1, abs=0.05)


def test_what_says_that_there_is_no_date_is_told_and_counts_as_missing(tmp_path: Path) -> None:
    values: list[object] = [f"2021-05-{i % 28 + 1:02d}" for i in range(ROWS)]
    values[::20] = ["0000-00-00", "9999-12-31", "9999-12-31"]
    found = column(tmp_path, values)
    assert (found.kind, found.missing) == ("datetime", 3)
    assert (
        "says that there is no date, which is missing: '0000-00-00' in 1 rows, '9999-12-31' in 2 rows" in found.warning
    )


@pytest.mark.parametrize(
    "keys", [{"formats": {"x": "%Y"}, "categorical": ["x"]}, {"order": {"x": ["a", "b"]}, "numeric": ["x"]}]
)
def test_a_form_for_a_column_that_a_key_makes_something_else_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.(formats|order)\.x: is for a column of data\."):
        Csv(**keys)
