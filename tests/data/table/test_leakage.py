"""Columns that give the target away are found, and honest ones are not accused."""

from pathlib import Path

import numpy as np
import pytest

from trainer.config.table import Csv
from trainer.data.table.leakage import describe_leak
from trainer.runs.build import build_data

RNG = np.random.default_rng(0)
N = 400
CLASSES = RNG.integers(0, 2, N)
MANY = RNG.integers(0, 5, N)
NUMBERS = RNG.normal(size=(N, 1))
NAN = np.nan


@pytest.mark.parametrize(
    ("values", "targets", "words"),
    [
        (CLASSES * 2.0 + RNG.random(N), CLASSES, "the classes lie apart in it"),
        (-MANY + RNG.random(N) * 0.9, MANY, "the classes lie apart in it"),
        (np.array([3.0, 1, 2, 5, 4])[MANY], MANY, "each of its values occurs with one class only"),
        (CLASSES + 2.0 * RNG.integers(0, 20, N), CLASSES, "each of its values occurs with one class only"),
        (np.where(CLASSES, RNG.normal(size=N), NAN), CLASSES, "its being missing tells the class"),
        (3 * NUMBERS[:, 0] - 7, NUMBERS, "its correlation with the target is 1.0000"),
        (-NUMBERS[:, 0] + 0.02 * RNG.normal(size=N), NUMBERS, "its correlation with the target is -0.9998"),
        (np.where(RNG.random(N) < 0.05, NAN, NUMBERS[:, 0]), NUMBERS, "its correlation with the target is 1.0000"),
    ],
)
def test_a_column_that_determines_the_target_is_found(values: np.ndarray, targets: np.ndarray, words: str) -> None:
    assert describe_leak(values, targets, classes=targets.ndim == 1) == words


@pytest.mark.parametrize(
    ("values", "targets"),
    [
        (RNG.normal(size=N), CLASSES),
        (CLASSES + 0.5 * RNG.normal(size=N), CLASSES),
        (np.where(np.arange(N) == 7, 1 - CLASSES, CLASSES).astype(float), CLASSES),  # but for one row
        (np.arange(N, dtype=float), CLASSES),  # each value is there once: of course with one class
        (np.arange(N) // 2 * 1.0, np.arange(N) // 2 % 2 * (np.arange(N) < 4)),  # pairs, and nearly one class
        (np.where(np.arange(N) % 2, 0.0, RNG.random(N)), np.where(np.arange(N) % 2, 0, CLASSES)),  # its zeros alone do
        (np.zeros(N), CLASSES),
        (np.full(N, NAN), CLASSES),
        (np.where(RNG.random(N) < 0.5, NAN, 1.0), CLASSES),
        (np.array([1.0, 2, 3, 4, 5, 6]), np.array([0, 0, 0, 1, 1, 1])),  # six rows may do so by chance
        (np.array([0.0, 0, 0, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 1])),
        (NUMBERS[:, 0] + 0.1 * RNG.normal(size=N), NUMBERS),
        (np.zeros(N), NUMBERS),
    ],
)
def test_an_honest_column_is_not_accused(values: np.ndarray, targets: np.ndarray) -> None:
    assert describe_leak(values, targets, classes=targets.ndim == 1) is None


def test_ten_thousand_columns_of_noise_beside_few_rows_are_not_accused() -> None:
    targets = RNG.integers(0, 2, 24)
    levels, numbers = RNG.integers(0, 3, (10_000, 24)).astype(float), RNG.normal(size=(10_000, 24))
    assert not any(describe_leak(values, targets, classes=True) for values in (*levels, *numbers))


def test_a_leak_is_a_warning_that_names_the_column_and_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    rows = [f"{RNG.normal():.3f},{'won' if label else 'lost'},{label}" for label in CLASSES]
    path.write_text("\n".join(["x,outcome,y", *rows]) + "\n")
    (warning,) = build_data(Csv(path=str(path), target="y"), 0).warnings
    assert "the column outcome determines the target by itself" in warning
    assert "data.ignore=[outcome]" in warning
    assert build_data(Csv(path=str(path), target="y", ignore=["outcome"]), 0).warnings == ()
