"""What a column is taken for, and what is said where the config says otherwise."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.config.table import Csv
from trainer.data.table import column_types
from trainer.data.table.reading import read_table
from trainer.errors import ConfigError, DataError
from trainer.runs.build import build_data

ROWS = 60
Values = list[object]


def infer(folder: Path, values: Values, name: str = "x", **keys: Any) -> column_types.Column:
    """The column of these values beside a target."""
    path = folder / "table.csv"
    path.write_text("\n".join([f"{name},y", *(f'"{value}",{i % 2}' for i, value in enumerate(values))]) + "\n")
    config = Csv(path=str(path), target="y", **keys)
    return column_types.infer_columns(config, read_table(config))[0]


def cycle(values: list[object]) -> Values:
    return [values[i % len(values)] for i in range(ROWS)]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([i / 7 for i in range(ROWS)], "numeric"),
        (list(range(ROWS)), "numeric"),
        (cycle([0, 1]), "numeric"),
        (cycle(["a", "b", "c"]), "categorical"),
        (cycle(["M", "F"]), "categorical"),
        (cycle(["true", "false"]), "boolean"),
        (cycle(["Yes", "no", "NO", "yes"]), "boolean"),
        (cycle(["t", "f", ""]), "boolean"),
        (cycle(["yes", "no", "maybe"]), "categorical"),
        (cycle(["2024-05-31", "2023-01-01"]), "datetime"),
        ([f"2024-05-{i % 28 + 1:02d} 17:{i:02d}" for i in range(ROWS)], "datetime"),
        ([f"{i % 28 + 1}.{i % 12 + 1}.2020" for i in range(ROWS)], "datetime"),
        (cycle(["2024-05-31", "soon"]), "categorical"),
        (cycle(["1.2.20", "1.2.21"]), "categorical"),
        ([f"id-{i}" for i in range(ROWS)], "id"),
        ([f"the customer said {i} things" for i in range(ROWS)], "text"),
        ([""] * ROWS, "empty"),
    ],
)
def test_a_column_is_taken_for_what_its_values_are(tmp_path: Path, values: Values, kind: str) -> None:
    column = infer(tmp_path, values)
    assert column.kind == kind
    assert bool(column.reason) == (kind in ("id", "text", "empty")), "what is left out has a reason"


@pytest.mark.parametrize("name", ["id", "ID", "user_id", "userId", "Unnamed: 3", "row", "customer uuid"])
def test_whole_numbers_that_all_differ_and_are_named_so_are_identifiers(tmp_path: Path, name: str) -> None:
    assert infer(tmp_path, list(range(ROWS)), name).kind == "id"
    assert infer(tmp_path, cycle([1, 2, 3]), name).kind == "numeric", "they repeat"
    assert infer(tmp_path, [i / 2 for i in range(ROWS)], name).kind == "numeric", "they are not whole"
    assert infer(tmp_path, list(range(ROWS)), name, numeric=[name]).kind == "numeric", "the user knows better"


@pytest.mark.parametrize("name", ["paid", "valid", "humidity", "grid", "window", "width"])
def test_a_word_that_ends_like_id_is_no_identifier(tmp_path: Path, name: str) -> None:
    assert infer(tmp_path, list(range(ROWS)), name).kind == "numeric"


def test_what_is_known_of_a_column(tmp_path: Path) -> None:
    column = infer(tmp_path, cycle(["", "b", "a", "c"]))
    assert (column.name, column.missing, column.distinct, column.sampled, column.example) == ("x", 15, 3, False, "b")


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (["2024-05-31"], "ISO 8601"),
        (["2024-05-31T10:00:00+02:00"], "ISO 8601"),
        (["3/4/2020", "12/31/2020"], "%m/%d/%Y"),
        (["3/4/2020", "31/12/2020"], "%d/%m/%Y"),
        (["03.04.2020 10:30"], "%d.%m.%Y %H:%M"),
        (["5 Jan 2020"], "%d %b %Y"),
    ],
)
def test_the_way_in_which_dates_are_written_is_found(tmp_path: Path, values: list[object], form: str) -> None:
    assert infer(tmp_path, cycle(values)).form == form
    assert infer(tmp_path, cycle(values), datetime=["x"]).form == form


@pytest.mark.parametrize("key", ["numeric", "categorical", "boolean", "text"])
def test_the_config_decides_against_the_inference(tmp_path: Path, key: str) -> None:
    column = infer(tmp_path, cycle([0, 1]), **{key: ["x"]})
    assert (column.kind, column.reason) == (key, "")


@pytest.mark.parametrize("key", ["weight", "group", "split"])
def test_a_column_with_a_role_is_no_input(tmp_path: Path, key: str) -> None:
    column = infer(tmp_path, cycle([1, 2]), **{key: "x"})
    assert column.kind == key and not column.is_input


def test_what_is_no_date_cannot_be_read_as_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.datetime: the column x holds 'soon', not a date such as 2024-05-31"):
        infer(tmp_path, cycle(["soon", "later"]), datetime=["x"])


@pytest.mark.parametrize("key", ["boolean", "datetime", "text", "numeric", "categorical"])
def test_a_column_that_is_not_there_is_named_with_the_nearest(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{key}=colour: .* no such column. Did you mean 'color'\?"):
        infer(tmp_path, cycle(["a", "b"]), "color", **{key: ["colour"]})


@pytest.mark.parametrize("key", ["weight", "group", "split"])
def test_a_role_of_a_column_that_is_not_there_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{key}=z: .* no such column"):
        infer(tmp_path, cycle(["a", "b"]), **{key: "z"})


def test_transforms_of_a_column_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.transforms=numerc: .* Did you mean 'numeric'\?"):
        infer(tmp_path, cycle([1, 2]), transforms={"numerc": ["none"]})


@pytest.mark.parametrize(
    "keys",
    [{"numeric": ["x"], "datetime": ["x"]}, {"weight": "x", "group": "x"}, {"text": ["x"], "ignore": ["x"]}],
)
def test_a_column_named_for_two_ends_is_refused_before_anything_is_read(keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.\w+ and data\.\w+ both name the column x; leave it in one"):
        Csv(path="there-is-no-such-file.csv", target="y", **keys)


def test_types_of_parquet_are_what_they_are(tmp_path: Path) -> None:
    table = pa.table(
        {
            "when": pa.array([10**15 + i for i in range(ROWS)], pa.timestamp("us")),
            "day": pa.array([19000 + i for i in range(ROWS)], pa.date32()),
            "flag": [i % 3 == 0 for i in range(ROWS)],
            "y": [i % 2 for i in range(ROWS)],
        }
    )
    pq.write_table(table, tmp_path / "table.parquet")
    config = Csv(path=str(tmp_path / "table.parquet"), target="y")
    kinds = [column.kind for column in column_types.infer_columns(config, read_table(config))]
    assert kinds == ["datetime", "datetime", "boolean", "target"]
    assert build_data(config, 0).description == "0 numeric + 1 boolean + 2 datetime + 0 categorical columns"
