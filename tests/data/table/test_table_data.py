"""CSV files: which columns are read how, what is measured on which rows, and which files are refused."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer.config.table import Csv
from trainer.data.splits import split_index
from trainer.data.table import column_types, preprocess
from trainer.data.table.encode import encode_rows
from trainer.data.table.reading import read_table
from trainer.data.types import Data
from trainer.errors import ConfigError, DataError
from trainer.runs.build import build_data

Rows = list[tuple[object, ...]]
ROWS = 40
RAW = {"numeric": ["missing_indicator", "impute"]}


def write(folder: Path, header: str, rows: Rows, separator: str = ",") -> Path:
    path = folder / "table.csv"
    lines = [separator.join(map(str, row)) for row in rows]
    path.write_text("\n".join([header, *lines] if header else lines) + "\n", encoding="utf-8")
    return path


def build(path: Path, **keys: Any) -> Data:
    return build_data(Csv(path=str(path), **{"target": "y", **keys}), 0)


def mixed(rows: int = ROWS) -> Rows:
    """A number, a category of three levels, a class."""
    return [(i * 1.5, ["red", "green", "blue"][i % 3], i % 2) for i in range(rows)]


def in_file_order(data: Data, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Features and targets as the file has them, put together from the two splits."""
    codes = torch.arange(rows) % 2 if data.spec.labels is not None else torch.zeros(rows, 1)
    parts = split_index(codes, len(data.val) / rows, seed=0)
    inputs, targets = torch.empty(rows, data.spec.features), torch.empty(rows, *data.train.targets.shape[1:])
    for index, split in zip(parts, (data.train, data.val), strict=True):
        inputs[index], targets[index] = split.inputs, split.targets.float()
    return inputs.numpy(), targets.numpy()


def training_rows(rows: int = ROWS) -> np.ndarray:
    """Which rows of a file with the class i % 2 are for training, with the default fraction and seed 0."""
    return split_index(torch.arange(rows) % 2, 0.2, seed=0)[0].numpy()


def message(kind: type[Exception], path: Path, **keys: Any) -> str:
    with pytest.raises(kind) as caught:
        build(path, **keys)
    return str(caught.value)


def test_numbers_and_categories_are_told_apart(tmp_path: Path) -> None:
    data = build(write(tmp_path, "size,colour,y", mixed()))
    assert data.description == "1 numeric + 1 categorical columns"
    assert data.spec.input_shape == (1 + 3 + 1,), "a number; three levels and one for missing"
    assert data.train.inputs.dtype == torch.float32
    assert (len(data.train), len(data.val)) == (32, 8)


def test_numbers_are_standardised_as_measured_on_the_training_rows(tmp_path: Path) -> None:
    rows = [(i**2 / 3, i % 2) for i in range(ROWS)]
    inputs, _ = in_file_order(build(write(tmp_path, "x,y", rows)))
    x = np.array([row[0] for row in rows])
    known = x[training_rows()]
    np.testing.assert_allclose(inputs[:, 0], (x - known.mean()) / known.std(), rtol=1e-5)
    assert abs(known.mean() - x.mean()) > 1, "the whole table would give other numbers"


def test_numbers_stay_as_they_are_where_asked(tmp_path: Path) -> None:
    rows = mixed()
    inputs, _ = in_file_order(build(write(tmp_path, "size,colour,y", rows), transforms=RAW))
    np.testing.assert_allclose(inputs[:, 0], [row[0] for row in rows])


def test_a_constant_column_is_only_centred(tmp_path: Path) -> None:
    data = build(write(tmp_path, "x,y", [(7, i % 2) for i in range(ROWS)]))
    assert data.train.inputs.abs().max() == 0


def test_a_category_is_one_column_a_level_in_order(tmp_path: Path) -> None:
    inputs, _ = in_file_order(build(write(tmp_path, "size,colour,y", mixed())))
    levels = ["blue", "green", "red"]
    expected = [[float(row[1] == level) for level in levels] for row in mixed()]
    np.testing.assert_array_equal(inputs[:, 1:4], expected)
    assert not inputs[:, 4].any(), "nothing is missing"


def test_a_category_is_one_column_of_codes_where_asked(tmp_path: Path) -> None:
    inputs, _ = in_file_order(
        build(write(tmp_path, "size,colour,y", mixed()), transforms={"categorical": ["impute", "ordinal"]})
    )
    assert inputs.shape == (ROWS, 2)
    assert inputs[:, 1].tolist() == [1 + ["blue", "green", "red"].index(row[1]) for row in mixed()]


def test_a_number_may_be_read_as_a_category(tmp_path: Path) -> None:
    path = write(tmp_path, "x,y", [(i % 3, i % 2) for i in range(ROWS)])
    assert build(path).spec.input_shape == (1,)
    assert build(path, categorical=["x"]).spec.input_shape == (4,)


def test_a_category_cannot_be_read_as_a_number(tmp_path: Path) -> None:
    text = message(DataError, write(tmp_path, "size,colour,y", mixed()), numeric=["colour"])
    assert "line 2, column colour: 'red' is not a finite number" in text


def test_one_word_in_a_column_of_numbers_is_an_error_with_the_ways_out(tmp_path: Path) -> None:
    path = write(tmp_path, "x,y", [(i % 3 if i else "unknown", i % 2) for i in range(ROWS)])
    text = message(DataError, path)
    assert f"{path}, line 2, column x: 'unknown'" in text
    assert "data.missing=[unknown]" in text and "data.categorical" in text
    assert "'unknown'" in message(DataError, path, numeric=["x"])
    assert build(path, categorical=["x"]).description == "0 numeric + 1 categorical columns"
    assert build(path, missing=["unknown"]).description == "1 numeric + 0 categorical columns"


def test_infinity_is_no_number(tmp_path: Path) -> None:
    path = write(tmp_path, "x,y", [("inf" if i % 4 == 0 else i % 3, i % 2) for i in range(ROWS)])
    assert "not a finite number" in message(DataError, path, numeric=["x"])


def test_ignored_columns_are_left_out(tmp_path: Path) -> None:
    data = build(write(tmp_path, "size,colour,y", mixed()), ignore=["colour"])
    assert data.spec.input_shape == (1,)


def test_a_missing_number_becomes_the_training_median_with_an_indicator(tmp_path: Path) -> None:
    words = ["", "?", "NA", "NaN", "null"]
    rows: Rows = [(words[i // 4 % 5] if i % 4 == 0 else i**2, i % 2) for i in range(ROWS)]
    inputs, _ = in_file_order(build(write(tmp_path, "x,y", rows)))
    x = np.array([np.nan if i % 4 == 0 else i**2 for i in range(ROWS)], dtype=float)
    median = np.nanmedian(x[training_rows()])
    filled = np.where(np.isnan(x), median, x)
    known = filled[training_rows()]
    np.testing.assert_allclose(inputs[:, 0], (filled - known.mean()) / known.std(), rtol=1e-5)
    assert inputs[:, 1].tolist() == [float(i % 4 == 0) for i in range(ROWS)]
    assert median != np.nanmedian(x), "the whole table would give another median"


def test_a_column_without_gaps_has_no_indicator(tmp_path: Path) -> None:
    assert build(write(tmp_path, "x,y", [(i, i % 2) for i in range(ROWS)])).spec.input_shape == (1,)


@pytest.mark.parametrize(("categories", "expected"), [("onehot", [0.0, 0.0, 1.0]), ("embedding", [3.0])])
def test_a_missing_category_is_a_level_of_its_own(tmp_path: Path, categories: str, expected: list[float]) -> None:
    rows = [("?" if i == 0 else "ab"[i // 2 % 2], i % 2) for i in range(ROWS)]
    inputs, _ = in_file_order(build(write(tmp_path, "c,y", rows), categories=categories))
    assert inputs[0].tolist() == expected
    assert inputs[2].tolist() == ([0.0, 1.0, 0.0] if categories == "onehot" else [2.0])


@pytest.mark.parametrize(("categories", "expected"), [("onehot", [0.0, 0.0, 0.0]), ("embedding", [0.0])])
def test_a_category_not_seen_in_training_is_none_of_the_levels(
    tmp_path: Path, categories: str, expected: list[float]
) -> None:
    path = tmp_path / "table.csv"
    path.write_text("c,y\na,0\nb,1\na,0\nz,1\n")
    config = Csv(path=str(path), target="y", categories=categories)
    table = read_table(config)
    fitted = preprocess.fit_preprocessor(config, table, column_types.infer_columns(config, table), np.array([0, 1, 2]))
    assert fitted.columns[0].levels == ("a", "b")
    assert encode_rows(fitted, table)[0][3].tolist() == expected


def test_levels_are_those_of_the_training_rows(tmp_path: Path) -> None:
    held_out = set(range(ROWS)) - set(training_rows().tolist())
    rows = [("rare" if i in held_out else "ab"[i // 2 % 2], i % 2) for i in range(ROWS)]
    data = build(write(tmp_path, "c,y", rows))
    assert data.spec.input_shape == (3,)
    assert not data.val.inputs.any()


def test_a_column_that_training_knows_nothing_of_is_left_out(tmp_path: Path) -> None:
    data = build(write(tmp_path, "x,gone,y", [(i, "NA", i % 2) for i in range(ROWS)]))
    assert data.spec.input_shape == (1,)


def test_new_tables_are_encoded_as_the_first(tmp_path: Path) -> None:
    config = Csv(path=str(write(tmp_path, "size,colour,y", mixed())), target="y")
    table = read_table(config)
    fitted = preprocess.fit_preprocessor(config, table, column_types.infer_columns(config, table), training_rows())
    (whole,) = encode_rows(fitted, table)
    reordered = dataclasses.replace(table, columns=table.columns.select(["y", "colour", "size"]))
    assert torch.equal(encode_rows(fitted, reordered)[0], whole)
    part = dataclasses.replace(table, columns=table.columns.slice(3, 2))
    assert torch.equal(encode_rows(fitted, part)[0], whole[3:5])


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 1], ("0", "1")),
        ([10, 9, 100], ("9", "10", "100")),
        ([-1, 1], ("-1", "1")),
        (["yes", "no"], ("no", "yes")),
        (["10", "2"], ("2", "10")),
    ],
)
def test_words_and_few_whole_numbers_are_classes_in_order(
    tmp_path: Path, values: list[object], labels: tuple[str, ...]
) -> None:
    rows = [(i, values[i % len(values)]) for i in range(ROWS)]
    data = build(write(tmp_path, "x,y", rows))
    assert data.spec.labels == labels
    assert data.spec.outputs == len(labels)
    assert data.train.targets.dtype == torch.int64
    assert sum(data.spec.class_counts) == len(data.train)


def test_targets_are_the_codes_of_their_labels(tmp_path: Path) -> None:
    data = build(write(tmp_path, "x,y", [(i, "yes" if i % 2 else "no") for i in range(ROWS)]), transforms=RAW)
    for part in (data.train, data.val):
        assert torch.equal(part.inputs[:, 0].long() % 2, part.targets)


@pytest.mark.parametrize("values", [[0.5, 1.0], list(range(21))])
def test_fractions_and_many_whole_numbers_are_numbers(tmp_path: Path, values: list[float]) -> None:
    rows = [(i, values[i % len(values)]) for i in range(ROWS)]
    data = build(write(tmp_path, "x,y", rows), transforms=RAW)
    assert (data.spec.labels, data.spec.outputs) == (None, 1)
    expected = torch.tensor([values[int(i) % len(values)] for i in data.train.inputs[:, 0]], dtype=torch.float32)
    assert torch.equal(data.train.targets, expected.unsqueeze(1))
    assert data.spec.target_mean == pytest.approx((expected.mean().item(),))


def test_twenty_whole_numbers_are_still_classes(tmp_path: Path) -> None:
    assert build(write(tmp_path, "x,y", [(i, i % 20) for i in range(100)])).spec.outputs == 20


def test_target_type_decides_against_the_inference(tmp_path: Path) -> None:
    whole = write(tmp_path, "x,y", [(i, i % 3) for i in range(ROWS)])
    assert build(whole, target_type="number").spec.labels is None
    fractions = write(tmp_path, "x,y", [(i, (i % 3) / 2) for i in range(ROWS)])
    assert build(fractions, target_type="class").spec.labels == ("0.0", "0.5", "1.0")


def test_one_number_written_in_two_ways_is_one_class(tmp_path: Path) -> None:
    rows = [(i, f"{i % 2}.0" if i % 4 < 2 else i % 2) for i in range(ROWS)]
    assert build(write(tmp_path, "x,y", rows)).spec.outputs == 2


@pytest.mark.parametrize("word", ["many", "inf"])
def test_words_are_no_numbers(tmp_path: Path, word: str) -> None:
    path = write(tmp_path, "x,y", [(i, i / 3 if i else word) for i in range(ROWS)])
    text = message(DataError, path, target_type="number")
    assert f"line 2, column y: '{word}' is not a finite number" in text


@pytest.mark.parametrize(("separator", "typed"), [(";", ";"), ("\t", "\\t"), ("\t", "\t"), ("|", "|")])
def test_other_delimiters(tmp_path: Path, separator: str, typed: str) -> None:
    data = build(write(tmp_path, separator.join(["size", "colour", "y"]), mixed(), separator), delimiter=typed)
    plain = build(write(tmp_path, "size,colour,y", mixed()))
    assert torch.equal(data.train.inputs, plain.train.inputs)


@pytest.mark.parametrize("delimiter", ["", ";;", "\\t\\t"])
def test_a_delimiter_is_one_character(tmp_path: Path, delimiter: str) -> None:
    text = message(ConfigError, write(tmp_path, "size,colour,y", mixed()), delimiter=delimiter)
    assert f"data.delimiter={delimiter}: must be a single character" in text


def test_the_wrong_delimiter_shows_in_the_columns_of_the_error(tmp_path: Path) -> None:
    path = write(tmp_path, "size;colour;y", mixed(), ";")
    assert "Columns: size;colour;y" in message(ConfigError, path, delimiter=",")


def test_columns_are_numbered_without_a_header(tmp_path: Path) -> None:
    data = build(write(tmp_path, "", mixed()), header=False, target="2", ignore=["1"])
    named = build(write(tmp_path, "size,colour,y", mixed()), ignore=["colour"])
    assert torch.equal(data.train.inputs, named.train.inputs)
    assert data.spec == named.spec


@pytest.mark.parametrize("change", ["blanks", "blank last line", "blank lines between", "carriage returns", "quotes"])
def test_how_a_table_is_typed_makes_no_difference(tmp_path: Path, change: str) -> None:
    path = write(tmp_path, "size,colour,y", mixed())
    plain, text = build(path), path.read_text()
    typed = {
        "blanks": text.replace(",", " ,  "),
        "blank last line": text + "\n \n",
        "blank lines between": text.replace("\n", "\n\n"),
        "carriage returns": text.replace("\n", "\r\n"),
        "quotes": "\n".join(",".join(f'"{word}"' for word in line.split(",")) for line in text.splitlines()),
    }[change]
    path.write_bytes(typed.encode())
    data = build(path)
    assert torch.equal(data.train.inputs, plain.train.inputs)
    assert torch.equal(data.val.targets, plain.val.targets)
    assert data.spec == plain.spec


def test_a_quoted_value_may_hold_the_delimiter(tmp_path: Path) -> None:
    rows = [('"a, b"' if i % 4 < 2 else "c", i % 2) for i in range(ROWS)]
    assert build(write(tmp_path, "c,y", rows)).spec.input_shape == (3,)


@pytest.mark.parametrize(("header", "line"), [("x,y", 5), ("", 4)])
def test_a_missing_target_names_its_line(tmp_path: Path, header: str, line: int) -> None:
    rows: Rows = [(i, "?" if i in (3, 7) else i % 2) for i in range(ROWS)]
    path = write(tmp_path, header, rows)
    text = message(DataError, path, header=bool(header), target="y" if header else "1")
    assert (
        f"{path}, line {line}, column {'y' if header else '1'}: the target is missing, as in 2 of {ROWS} rows" in text
    )


def test_blank_lines_count_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("x,y\n1,0\n\n2,1\n3,\n")
    assert "line 5, column y: the target is missing" in message(DataError, path)


@pytest.mark.parametrize("key", ["target", "numeric", "categorical", "ignore"])
def test_an_unknown_column_is_an_error_with_a_hint(tmp_path: Path, key: str) -> None:
    path = write(tmp_path, "size,colour,y", mixed())
    text = message(ConfigError, path, **{key: "color" if key == "target" else ["color"]})
    assert f"data.{key}=color: {path} has no such column. Did you mean 'colour'? Columns: size, colour, y." in text


def test_a_target_must_be_given(tmp_path: Path) -> None:
    text = message(ConfigError, write(tmp_path, "size,colour,y", mixed()), target=None)
    assert "data.target is needed" in text
    assert "size, colour, y" in text


def test_the_target_cannot_be_ignored(tmp_path: Path) -> None:
    assert "holds the target, y" in message(ConfigError, write(tmp_path, "size,colour,y", mixed()), ignore=["y"])


def test_a_path_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"data\.path is needed"):
        build_data(Csv(target="y"), 0)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert f"data.path={tmp_path / 'no.csv'}: no such file" in message(DataError, tmp_path / "no.csv")


@pytest.mark.parametrize("keys", [{}, {"target_type": "number"}, {"target_type": "class"}])
def test_a_constant_target_is_an_error(tmp_path: Path, keys: dict[str, Any]) -> None:
    text = message(DataError, write(tmp_path, "x,y", [(i, 3) for i in range(ROWS)]), **keys)
    assert "The target y is 3 in every row: there is nothing to learn" in text


def test_a_target_of_free_text_is_an_error(tmp_path: Path) -> None:
    text = message(DataError, write(tmp_path, "x,y", [(i, f"word {i}") for i in range(ROWS)]))
    assert f"The target y has {ROWS} distinct values in {ROWS} rows" in text


def test_a_target_alone_is_an_error(tmp_path: Path) -> None:
    text = message(DataError, write(tmp_path, "x,y", [(i, i % 2) for i in range(ROWS)]), ignore=["x"])
    assert "no column to learn from" in text


def test_a_header_alone_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "x,y", [])
    assert f"{path}: has no rows" in message(DataError, path)


@pytest.mark.parametrize(
    "content",
    [b"", b"x,y\n1,2,3,4\n", b'x,y\n"1,2\n3,4\n', b"\x00\x01\x02\xff\xfe"],
    ids=["empty", "too many values", "open quote", "bytes"],
)
def test_a_file_that_is_no_table_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises((DataError, ConfigError), match=str(path)):
        build(path)


def test_two_columns_of_one_name_are_told_of(tmp_path: Path) -> None:
    path = write(tmp_path, "x, x ,y", [(i, i + 1, i % 2) for i in range(ROWS)])
    with pytest.raises((DataError, ConfigError), match="x"):
        build(path)


def test_a_fraction_must_be_held_out(tmp_path: Path) -> None:
    text = message(ConfigError, write(tmp_path, "size,colour,y", mixed()), val_fraction=0.0)
    assert "data.val_fraction=0" in text


def test_the_seed_decides_which_rows_are_held_out(tmp_path: Path) -> None:
    config = Csv(path=str(write(tmp_path, "size,colour,y", mixed())), target="y", transforms=RAW)
    assert torch.equal(build_data(config, 0).val.inputs, build_data(config, 0).val.inputs)
    assert not torch.equal(build_data(config, 0).val.inputs, build_data(config, 1).val.inputs)


def test_classes_that_are_numbers_can_be_regressed(tmp_path: Path) -> None:
    data = build(write(tmp_path, "x,y", [(i, 3 + i % 6) for i in range(60)]), transforms=RAW)
    assert data.spec.labels == tuple("345678")
    numbers = data.as_regression()
    for part in (numbers.train, numbers.val):
        assert torch.equal(part.targets, (3 + part.inputs[:, :1] % 6))
        assert part.targets.dtype == torch.float32
    assert (numbers.spec.outputs, numbers.spec.labels, numbers.spec.class_counts) == (1, None, None)
    assert numbers.spec.target_mean == pytest.approx((numbers.train.targets.mean().item(),))
    assert numbers.spec.target_std == pytest.approx((numbers.train.targets.std(correction=0).item(),))
    assert torch.equal(numbers.train.inputs, data.train.inputs)


def test_numbers_are_already_a_regression(tmp_path: Path) -> None:
    data = build(write(tmp_path, "x,y", [(i, i / 3) for i in range(ROWS)]))
    assert data.as_regression() is data


def test_classes_that_are_words_cannot_be_regressed(tmp_path: Path) -> None:
    data = build(write(tmp_path, "x,y", [(i, "yes" if i % 2 else "no") for i in range(ROWS)]))
    with pytest.raises(ConfigError, match=r"task=regression: .* no, yes .*not numbers"):
        data.as_regression()


@pytest.mark.parametrize(
    "keys", [{"categorical": ["y"]}, {"numeric": ["a"], "categorical": ["a"]}, {"ignore": ["a"], "numeric": ["a"]}]
)
def test_a_column_named_for_two_ends_is_an_error(tmp_path: Path, keys: dict[str, Any]) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,y\n1,0\n2,1\n")
    with pytest.raises(ConfigError, match=r"data\.\w+"):
        build_data(Csv(path=str(path), target="y", **keys), 0)


@pytest.mark.parametrize(("name", "character"), [("semicolon", ";"), ("tab", "\t"), ("pipe", "|")])
def test_a_delimiter_may_be_named(tmp_path: Path, name: str, character: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,y\n1,0\n2,1\n".replace(",", character))
    table = read_table(Csv(path=str(path), target="y", delimiter=name))
    assert table.columns.column_names == ["a", "y"]
