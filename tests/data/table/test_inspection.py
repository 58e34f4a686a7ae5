"""Doubts about a table, each told once and with its numbers; none about one that gives no cause."""

import random
from pathlib import Path
from typing import Any

import pytest

from trainer.config.table import Csv
from trainer.runs.build import build_data

ROWS = 200


def warnings(folder: Path, header: str, rows: list[tuple[object, ...]], **keys: Any) -> list[str]:
    path = folder / "table.csv"
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return list(build_data(Csv(path=str(path), **{"target": "y", **keys}), 0).warnings)


def numbers(count: int = ROWS, seed: int = 0) -> list[tuple[float, float]]:
    draw = random.Random(seed)
    return [(draw.gauss(0, 1), draw.gauss(0, 1)) for _ in range(count)]


def labelled(seed: int = 0) -> list[tuple[object, ...]]:
    draw = random.Random(seed)
    return [(f"{a:.4f}", f"{b:.4f}", draw.choice("uv")) for a, b in numbers(seed=seed)]


def test_an_honest_table_is_not_doubted(tmp_path: Path) -> None:
    assert warnings(tmp_path, "a,b,y", labelled()) == []


def test_rows_on_both_sides_are_counted(tmp_path: Path) -> None:
    (told,) = warnings(tmp_path, "a,b,y", labelled() * 2)
    count = int(told.split(" of 80 validation rows are training rows, too", maxsplit=1)[0])
    assert 50 <= count <= 80, "four of five partners of a validation row are in training"
    assert "data.group" in told


def test_few_values_that_meet_by_chance_are_no_repeated_rows(tmp_path: Path) -> None:
    draw = random.Random(0)
    assert (
        warnings(tmp_path, "a,b,y", [(draw.randrange(3), draw.randrange(4), draw.choice("uv")) for _ in range(200)])
        == []
    )


def test_classes_on_one_side_and_rare_ones_and_those_of_two_spellings_are_named(tmp_path: Path) -> None:
    rows = [(*row, "train" if i < 150 else "val") for i, row in enumerate(labelled())]
    rows[:3] = [(0.1 * i, 0.2, "U", "train") for i in range(3)]
    rows[160:170] = [(0.1 * i, 0.2, "u.", "val") for i in range(10)]
    told = warnings(tmp_path, "a,b,y,side", rows, split="side")
    assert any("class u. of y: in validation rows only, not in training" in text for text in told)
    assert any("class U of y: in training rows only, not in validation" in text for text in told)
    assert any("class U (3) of y with fewer than 5 training rows" in text for text in told)
    assert any("classes U, u of y differ in upper and lower case alone" in text for text in told)


def test_levels_that_training_has_not_seen_are_counted(tmp_path: Path) -> None:
    rows = [(*row[:2], "xyz"[i % 3], row[2], "train" if i < 150 else "val") for i, row in enumerate(labelled())]
    rows[150:154] = [(*row[:2], "w", *row[3:]) for row in rows[150:154]]
    (told,) = warnings(tmp_path, "a,b,c,y,side", rows, split="side")
    assert told == "validation: c: 4 of 50 rows have levels never seen in training: w."


def test_a_target_with_a_long_tail_is_told_and_its_logarithm_named(tmp_path: Path) -> None:
    draw = random.Random(0)
    rows = [(f"{a:.4f}", f"{b:.4f}", f"{draw.lognormvariate(0, 2):.3f}") for a, b in numbers()]
    (told,) = warnings(tmp_path, "a,b,y", rows)
    assert "the target y has a long tail" in told
    assert "data.transforms.y=[log1p]" in told
    assert warnings(tmp_path, "a,b,y", [(*row[:2], f"{draw.gauss(10, 1):.3f}") for row in rows]) == []


def test_groups_that_files_divide_are_told(tmp_path: Path) -> None:
    rows = [(*row[:2], i % 60, row[2]) for i, row in enumerate(labelled())]
    for name, part in (("train.csv", rows[:150]), ("val.csv", rows[150:])):
        (tmp_path / name).write_text("\n".join(["a,b,g,y", *(",".join(map(str, row)) for row in part)]) + "\n")
    keys = {"path": str(tmp_path / "train.csv"), "val_path": str(tmp_path / "val.csv"), "target": "y"}
    assert build_data(Csv(ignore=["g"], **keys), 0).warnings == ()


def test_a_column_of_one_value_is_told(tmp_path: Path) -> None:
    (told,) = warnings(tmp_path, "a,b,c,y", [(*row[:2], "same", row[2]) for row in labelled()])
    assert told == "column c has one value in all rows, and tells nothing."


@pytest.mark.parametrize(
    ("words", "share", "told"),
    [
        ([".", "."], 12, "the column m is 88% numbers, and read as text; not numbers: '.' in 24 rows"),
        (
            ["<5", "n.d."],
            20,
            "the column m is 80% numbers, and read as text; not numbers: '<5' in 20 rows, 'n.d.' in 20",
        ),
    ],
)
def test_a_column_that_is_mostly_numbers_is_told_as_that(
    tmp_path: Path, words: list[str], share: int, told: str
) -> None:
    rows = [(*row[:2], words[i % 2] if i % 100 < share else 40 + i % 50, row[2]) for i, row in enumerate(labelled())]
    (text,) = [text for text in warnings(tmp_path, "a,b,m,y", rows) if "the column m is" in text]
    assert text.startswith(told)
    assert "data.missing=" in text
    assert "data.categorical=[m]" in text
    missing = sorted(set(words))
    assert not any("the column m is" in text for text in warnings(tmp_path, "a,b,m,y", rows, missing=missing))
