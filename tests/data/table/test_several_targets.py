"""Several columns of numbers to predict at once."""

import csv
import math
from pathlib import Path

import pytest
import torch
from support import Command, the_run

from trainer.config.table import Csv
from trainer.data.table.table_data import load_table
from trainer.errors import ConfigError, DataError


def written(folder: Path, rows: int = 300, **odd: str) -> Path:
    """Write a table in which two columns follow from two others; `odd` replaces the last row's cells."""
    path = folder / "table.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "a", "b", "sum", "product"])
        writer.writeheader()
        for i in range(rows):
            a, b = math.sin(i * 0.7), math.cos(i * 1.3)
            row = {"id": f"r{i}", "a": a, "b": b, "sum": 100 + 10 * (a + b), "product": a * b}
            writer.writerow(row | (odd if i == rows - 1 else {}))
    return path


def test_the_targets_are_columns_of_the_tensor_in_the_order_of_the_key(tmp_path: Path) -> None:
    path = str(written(tmp_path))
    data = load_table(Csv(path=path, target=["product", "sum"], ignore=["id"]), 0)
    assert data.spec.outputs == 2
    assert data.spec.input_shape == (2,)
    assert data.spec.labels is None
    each = [load_table(Csv(path=path, target=name, ignore=["id"]), 0).train.targets for name in ("product", "sum")]
    torch.testing.assert_close(data.train.targets, torch.cat(each, dim=1))
    assert load_table(Csv(path=path, target=["sum"], ignore=["id"]), 0).spec.outputs == 1


def test_a_run_learns_them_and_predictions_bear_their_names(tmp_path: Path, trainer: Command, train: Command) -> None:
    written(tmp_path)
    words = ("data=csv", "data.path=table.csv", "data.target=[sum,product]", "data.ignore=[id]", "data.transforms={}")
    said = train("model=mlp", *words, "trainer.epochs=40", "optimizer.lr=0.01").stdout
    assert "sum" in said
    run = the_run(tmp_path)
    scores = trainer("evaluate", str(run), "table.csv").stdout
    assert float(scores.split("r2")[1].split()[0]) > 0.9
    header = (tmp_path / "table.csv").read_text().splitlines()
    (tmp_path / "new.csv").write_text("\n".join(["b,id,a", *(f"{i / 9 - 1},r,0.5" for i in range(19))]))
    assert header
    trainer("predict", str(run), "new.csv", "--output", "said.csv")
    with open(tmp_path / "said.csv", encoding="utf-8", newline="") as file:
        predicted = list(csv.DictReader(file))
    assert list(predicted[0]) == ["line", "prediction_sum", "prediction_product"]
    assert max(abs(float(row["prediction_sum"]) - 105 - 10 * (i / 9 - 1)) for i, row in enumerate(predicted)) < 3
    assert max(abs(float(row["prediction_product"]) - 0.5 * (i / 9 - 1)) for i, row in enumerate(predicted)) < 0.3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"target": ["sum", "sum"]}, "expected a column, or a list of different columns"),
        ({"target": []}, "expected a column, or a list of different columns"),
        ({"target": ["sum", "product"], "target_type": "class"}, "several columns are predicted as numbers"),
        ({"target": ["sum", "product"], "transforms": {"sum": ["log1p"]}}, "where it is one column alone"),
        ({"target": ["sum", "product"], "ignore": ["product"]}, "data.ignore=['product']: holds the target, product"),
    ],
)
def test_what_does_not_fit_several_targets_is_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Csv(path="table.csv", **keys)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_a_target_that_lacks_a_value_or_a_number_is_named(tmp_path: Path) -> None:
    keys = {"target": ["sum", "product"], "ignore": ["id"]}
    path = str(written(tmp_path, product=""))
    with pytest.raises(DataError, match="line 301, column product: the target is missing, as in 1 of 300 rows"):
        load_table(Csv(path=path, **keys), 0)  # type: ignore[arg-type]
    left = load_table(Csv(path=path, on_error="skip", **keys), 0)  # type: ignore[arg-type]
    assert len(left.train) + len(left.val) == 299
    path = str(written(tmp_path, product="many"))
    with pytest.raises(DataError, match="many"):
        load_table(Csv(path=path, **keys), 0)  # type: ignore[arg-type]
    left = load_table(Csv(path=path, on_error="skip", **keys), 0)  # type: ignore[arg-type]
    assert len(left.train) + len(left.val) == 299
