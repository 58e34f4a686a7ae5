"""Which rows of a table are for training and which for validation."""

from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.config.table import Csv
from trainer.data.types import Data
from trainer.errors import ConfigError, DataError
from trainer.runs.build import build_data

ROWS = 60


def write(folder: Path, name: str = "table.csv", rows: range = range(ROWS), **columns: list[Any]) -> Path:
    """A table of the row's number, a class and further columns."""
    given = {"n": [float(row) for row in rows], **columns, "y": ["ab"[row % 2] for row in rows]}
    lines = [",".join(given), *(",".join(map(str, row)) for row in zip(*given.values(), strict=True))]
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def build(path: Path, **keys: Any) -> Data:
    return build_data(Csv(path=str(path), target="y", transforms={"numeric": ["none"]}, **keys), 0)


def rows_of(data: Data) -> tuple[list[int], list[int]]:
    """The numbers of the rows on both sides."""
    numbers = []
    for split in (data.train, data.val):
        assert isinstance(split.inputs, torch.Tensor)
        assert split.inputs[:, 0].long().tolist() == split.rows.tolist()  # type: ignore[union-attr]
        numbers.append(split.inputs[:, 0].long().tolist())
    return numbers[0], numbers[1]


def message(kind: type[Exception], path: Path, **keys: Any) -> str:
    with pytest.raises(kind) as caught:
        build(path, **keys)
    return str(caught.value)


def test_files_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, "train-1.csv", range(40))
    write(tmp_path, "train-2.csv", range(40, 50))
    val = write(tmp_path, "held.csv", range(50, 60))
    data = build(tmp_path / "train-*.csv", val_path=str(val))
    assert rows_of(data) == (list(range(50)), list(range(50, 60)))


def test_a_column_says_which_side(tmp_path: Path) -> None:
    side = ["Train", "val", "test"] * 20
    data = build(write(tmp_path, side=side), split="side")
    assert rows_of(data) == (list(range(0, 60, 3)), list(range(1, 60, 3)))
    assert data.spec.features == 1


def test_test_rows_are_validated_on_where_there_are_no_others(tmp_path: Path) -> None:
    data = build(write(tmp_path, side=["train", "train", "test"] * 20), split="side")
    assert rows_of(data)[1] == list(range(2, 60, 3))


@pytest.mark.parametrize(
    "written",
    [lambda i: f"2024-01-{1 + i:02}", lambda i: 3.5 * i, lambda i: 1_700_000_000 + i],
    ids=["dates", "numbers", "whole numbers"],
)
def test_the_latest_rows_are_held_out(tmp_path: Path, written: Any) -> None:
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0)).tolist()
    path = write(tmp_path, when=[written(i) for i in order for _ in range(2)])
    data = build_data(Csv(path=str(path), target="y", transforms={"n": ["none"]}, time="when", val_fraction=0.2), 0)
    latest = [row for row in range(ROWS) if order[row // 2] >= 24]
    assert data.val.rows.tolist() == latest  # type: ignore[union-attr]
    assert sorted(data.train.rows.tolist() + latest) == list(range(ROWS))  # type: ignore[union-attr]


def test_rows_of_one_moment_are_on_one_side(tmp_path: Path) -> None:
    data = build(write(tmp_path, when=[row // 25 for row in range(ROWS)]), time="when", val_fraction=0.1, ignore=[])
    assert rows_of(data)[1] == list(range(50, 60))


def test_a_group_is_on_one_side_and_is_no_input(tmp_path: Path) -> None:
    who = [f"person {row // 4}" for row in range(ROWS)]
    data = build(write(tmp_path, who=who), group="who")
    train, val = rows_of(data)
    assert not {who[row] for row in train} & {who[row] for row in val}
    assert len(val) == 12
    assert data.spec.features == 1


def test_folds_of_groups(tmp_path: Path) -> None:
    who = [str(row // 4) for row in range(ROWS)]
    path = write(tmp_path, who=who)
    parts = [rows_of(build(path, group="who", folds=3, fold=fold))[1] for fold in range(3)]
    assert sorted(row for part in parts for row in part) == list(range(ROWS))
    assert all(len({row // 4 for row in part}) * 4 == len(part) for part in parts)


def test_rows_without_a_group_are_of_a_group_each(tmp_path: Path) -> None:
    train, val = rows_of(build(write(tmp_path, who=["a"] * 30 + [""] * 30), group="who"))
    assert len(val) == 12
    assert set(range(30)) <= set(train)


def test_folds_are_disjoint_and_complete(tmp_path: Path) -> None:
    path = write(tmp_path)
    parts = [rows_of(build(path, folds=4, fold=fold))[1] for fold in range(4)]
    assert sorted(row for part in parts for row in part) == list(range(ROWS))
    assert all(sum(row % 2 for row in part) in (7, 8) for part in parts)


def test_weights_reach_the_split_and_are_no_input(tmp_path: Path) -> None:
    data = build(write(tmp_path, w=[row / 2 for row in range(ROWS)]), weight="w")
    assert data.spec.features == 1
    for split in (data.train, data.val):
        assert split.weights is not None and split.rows is not None
        assert split.weights.tolist() == [row / 2 for row in split.rows.tolist()]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"split": "w", "time": "n"}, "data.split and data.time both say"),
        ({"split": "w", "folds": 3}, "data.split and data.folds both say"),
        ({"val_path": "x.csv", "folds": 3}, "data.val_path and data.folds both say"),
        ({"time": "n", "group": "w"}, "data.time and data.group both say"),
        ({"time": "m"}, "data.time=m: "),
        ({"split": "m"}, "data.split=m: "),
        ({"group": "m"}, "data.group=m: "),
        ({"weight": "m"}, "data.weight=m: "),
        ({"val_fraction": 0.0}, "data.val_fraction=0: a table has no validation rows of its own"),
    ],
    ids=str,
)
def test_keys_that_cannot_be_followed(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    assert words in message(ConfigError, write(tmp_path, w=[1] * ROWS), **keys)


@pytest.mark.parametrize(
    ("column", "keys", "words"),
    [
        (["train", "vall"] * 30, {"split": "c"}, "the column c holds 'vall'"),
        (["train", "val", ""] * 20, {"split": "c"}, "line 4: the column c (data.split) is empty"),
        (["train", "train"] * 30, {"split": "c"}, "no row for validation"),
        (["val"] * 60, {"split": "c"}, "no row for training"),
        ([1] * 60, {"time": "c"}, "leaves no rows before the last 20%"),
        (["soon"] * 60, {"time": "c"}, "data.time: the column c holds 'soon'"),
        ([*range(59), ""], {"time": "c"}, "line 61: the column c (data.time) is empty"),
        (["me"] * 60, {"group": "c"}, "all samples are of one group"),
        ([1, -1.5] * 30, {"weight": "c"}, "line 3: the column c (data.weight) holds -1.5"),
        ([1, ""] * 30, {"weight": "c"}, "line 3: the column c (data.weight) is empty"),
        ([0] * 60, {"weight": "c"}, "is 0 in every row"),
        (["train", "val"] * 30, {"split": "c"}, "The target y is a in every training row"),
        (
            ["train", "train", "train", "val"] * 15,
            {"split": "c"},
            "The target y is b in every validation row: a score on them would say nothing of the other",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_columns_that_cannot_be_followed(tmp_path: Path, column: list[Any], keys: dict[str, Any], words: str) -> None:
    assert words in message(DataError, write(tmp_path, c=column), **keys)
