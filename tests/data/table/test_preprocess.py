"""The fitted preprocessing: applied to any rows, saved as text, damaged and hostile texts refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer.config.table import Csv
from trainer.data.table import column_types, preprocess
from trainer.data.table.encode import encode_rows
from trainer.data.table.preprocess import Preprocessor
from trainer.data.table.reading import read_table
from trainer.data.table.table import Table
from trainer.errors import CheckpointError, ConfigError, DataError

ROWS = 90
HEADER = "n,many,flag,day,few,y"


def row(i: int) -> list[object]:
    day = f"2024-{i % 12 + 1:02d}-{i % 28 + 1:02d}"
    return ["" if i % 9 == 0 else i / 7, f"m{i % 30}", ["yes", "no"][i % 2], day, "ab"[i % 3 % 2], i % 2]


def write(path: Path, rows: list[list[object]], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, cells)) for cells in rows)]) + "\n")
    return path


def fitted(folder: Path, rows: np.ndarray | None = None, **keys: Any) -> tuple[Preprocessor, Table, Csv]:
    config = Csv(path=str(write(folder / "table.csv", [row(i) for i in range(ROWS)])), target="y", **keys)
    table = read_table(config)
    measured = preprocess.fit_preprocessor(
        config, table, column_types.infer_columns(config, table), np.arange(ROWS) if rows is None else rows
    )
    return measured, table, config


def other(folder: Path, config: Csv, cells: list[object], header: str = HEADER) -> Table:
    """Another file of two rows: one of the first kind, and the given one."""
    return read_table(dataclasses.replace(config, path=str(write(folder / "other.csv", [row(1), cells], header))))


def test_inputs_are_ordered_by_kind_and_codes_are_last(tmp_path: Path) -> None:
    measured, table, _ = fitted(tmp_path)
    kinds = [(column.name, column.kind, column.width()) for column in measured.columns]
    assert kinds == [
        ("n", "numeric", 2),
        ("flag", "boolean", 1),
        ("day", "datetime", 7),
        ("few", "categorical", 3),
        ("many", "categorical", 1),
    ]
    assert measured.cardinalities == (32,), "30 levels, one for unseen, one for missing"
    codes = encode_rows(measured, table)[0][:, -1]
    assert codes.tolist() == [1 + sorted(f"m{j}" for j in range(30)).index(f"m{i % 30}") for i in range(ROWS)]


@pytest.mark.parametrize("block_size", [1, 31_000, 1 << 20])
def test_any_parts_and_blocks_give_the_same_rows(tmp_path: Path, block_size: int) -> None:
    """20,000 rows: more than one block of the smallest size (1,024 rows), in chunks of the reader's own."""
    path = tmp_path / "table.csv"
    write(path, [row(i) for i in range(20_000)])
    config = Csv(path=str(path), target="y")
    table = read_table(config)
    measured = preprocess.fit_preprocessor(
        config, table, column_types.infer_columns(config, table), np.arange(0, 20_000, 2)
    )
    (whole,) = encode_rows(measured, table)
    rows = np.sort(np.random.default_rng(0).permutation(20_000)[:15_000])
    others = np.setdiff1d(np.arange(20_000), rows)
    parts = encode_rows(measured, table, [rows, others, None], block_size=block_size)
    for part, index in zip(parts, (rows, others, np.arange(20_000)), strict=True):
        assert part.dtype == torch.float32
        assert torch.equal(part, whole[index])


def test_nothing_is_measured_on_the_other_rows(tmp_path: Path) -> None:
    rows = np.arange(0, ROWS, 2)
    once, _, _ = fitted(tmp_path, rows)
    cells = [row(i) if i % 2 == 0 else ["1e6", "z", "no", "1999-01-01", "zz", i % 2] for i in range(ROWS)]
    config = Csv(path=str(write(tmp_path / "table.csv", cells)), target="y")
    table = read_table(config)
    again = preprocess.fit_preprocessor(config, table, column_types.infer_columns(config, table), rows)
    assert again.to_json() == once.to_json()


def test_what_is_saved_makes_the_same_inputs(tmp_path: Path) -> None:
    chains = {"n": ["impute", {"name": "clip", "low": 0.1}, {"name": "quantile", "quantiles": 9}], "few": ["onehot"]}
    for keys in ({}, {"transforms": chains}):
        measured, table, _ = fitted(tmp_path, **keys)
        text = measured.to_json()
        loaded = Preprocessor.from_json(text)
        assert loaded.to_json() == text
        assert torch.equal(encode_rows(loaded, table)[0], encode_rows(measured, table)[0])


def test_what_training_did_not_have_is_given_its_place(tmp_path: Path) -> None:
    measured, _, config = fitted(tmp_path, transforms={"categorical": ["impute", "embed"]})
    table = other(tmp_path, config, ["", "unheard of", "", "", "", 1])
    inputs = encode_rows(measured, table)[0][1]
    names = [column.name for column in measured.columns]
    assert names[-2:] == ["many", "few"]
    assert inputs[-2:].tolist() == [0.0, 3.0], "0 is unseen; the last code of few, after its two levels, is missing"
    assert inputs[1] == 1, "n is missing"
    assert torch.isfinite(inputs).all()


def test_a_column_that_is_gone_is_named(tmp_path: Path) -> None:
    measured, _, config = fitted(tmp_path)
    table = read_table(dataclasses.replace(config, path=str(write(tmp_path / "other.csv", [["m1", 1]] * 3, "many,y"))))
    with pytest.raises(DataError, match=r"other\.csv: has no column n, which the model was trained with"):
        encode_rows(measured, table)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([1, "m1", "perhaps", "2024-01-01", "a", 0], "line 3, column flag: 'perhaps' is neither yes nor no"),
        ([1, "m1", "no", "soon", "a", 0], "line 3, column day: 'soon' is not a date written as ISO 8601"),
    ],
)
def test_a_value_that_cannot_be_read_as_in_training_is_named(tmp_path: Path, cells: list[object], words: str) -> None:
    measured, _, config = fitted(tmp_path)
    with pytest.raises(DataError) as caught:
        encode_rows(measured, other(tmp_path, config, cells))
    assert words in str(caught.value)


def test_a_word_where_numbers_were_is_named(tmp_path: Path) -> None:
    measured, _, config = fitted(tmp_path)
    config = dataclasses.replace(config, categorical=["n"])  # the file may be read, the model may not have it
    with pytest.raises(DataError, match=r"line 3, column n: 'lots' is not a finite number"):
        encode_rows(measured, other(tmp_path, config, ["lots", "m1", "no", "2024-01-01", "a", 0]))


def test_a_gap_that_no_transform_fills_is_named_with_its_line(tmp_path: Path) -> None:
    measured, table, _ = fitted(tmp_path, transforms={"n": ["standardize"]})
    with pytest.raises(DataError, match=r"line 2: the column n is missing, .*\(standardize\).*begin them with impute"):
        encode_rows(measured, table)


@pytest.mark.parametrize(
    ("transforms", "words"),
    [
        ({"n": ["onehot"]}, "data.transforms.n: onehot is for columns of categories, and n has numbers there"),
        ({"few": ["standardize"]}, "standardize is for columns of numbers, and few has categories there"),
        ({"categorical": ["impute"]}, "leaves the categories of"),
        ({"few": ["embed", "none"]}, "embed gives codes, and must be the last"),
    ],
)
def test_transforms_that_do_not_fit_a_column_are_refused(
    tmp_path: Path, transforms: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        fitted(tmp_path, transforms=transforms)
    assert words in str(caught.value)


def test_an_order_of_levels_may_be_a_number(tmp_path: Path) -> None:
    measured, table, _ = fitted(tmp_path, transforms={"few": ["impute", "ordinal", "standardize"]})
    column = encode_rows(measured, table)[0][:, -2]
    assert column.unique().numel() == 2 and abs(column.mean()) < 1e-6


def damaged(plain: dict[str, Any]) -> list[Any]:
    """The content with something wrong in it."""
    first = plain["columns"][0]
    wrong: list[Any] = [None, [], {}, {"columns": None}, {"columns": [{}]}, {"columns": [[]]}, "columns"]
    changes: dict[str, list[Any]] = {
        "kind": ["target", 3, None, {}],
        "name": [7, None],
        "levels": [None, [1], 5],
        "transforms": [
            [],
            None,
            ["no_such"],
            [{"name": "impute", "method": "eval"}],
            [{"name": "clip", "low": "x"}],
            "os",
        ],
        "states": [None, [], [[]], [[{}], [{}], [{}]], [[{"present": 1}], [{"value": "x"}], [{"center": None}]]],
    }
    for key, values in changes.items():
        wrong += [{"columns": [first | {key: value}]} for value in values]
    return wrong


def test_damaged_and_hostile_texts_are_refused(tmp_path: Path) -> None:
    measured, _, _ = fitted(tmp_path)
    plain = json.loads(measured.to_json())
    texts = [json.dumps(one) for one in damaged(plain)]
    texts += ["", "{", "\0", "[" * 100_000, measured.to_json()[:-20], '{"columns": [1e999]}']
    few = next(column for column in plain["columns"] if column["name"] == "few")
    for levels in (10**12, -1, "3", 1.5, None):
        states = [few["states"][0], [{"levels": levels}]]
        texts.append(json.dumps({"columns": [few | {"states": states}]}))
    for text in texts:
        with pytest.raises(CheckpointError, match="saved preprocessing"):
            Preprocessor.from_json(text)


def test_a_transform_that_is_not_registered_is_named(tmp_path: Path) -> None:
    text = fitted(tmp_path)[0].to_json().replace('"standardize"', '"of_a_plugin"')
    with pytest.raises(CheckpointError, match="no transform 'of_a_plugin'"):
        Preprocessor.from_json(text)
