"""What is said of a table before training, on the screen and in the files of the run; transforms from files."""

import csv
import json
import re
from pathlib import Path

import pytest

from trainer.checkpoint.store import Store
from trainer.config.table import Csv
from trainer.data.table.preprocess import Preprocessor
from trainer.runs.build import build_data
from trainer.runs.loading import load_model

ROWS = 80
TINY = ("model=linear", "data=csv", "data.path=table.csv", "data.target=y", "trainer.epochs=1")


def cells(i: int) -> list[object]:
    number = "" if i % 10 == 0 else i * 1.5
    return [
        i,
        number,
        ["red", "green"][i // 2 % 2],
        f"2024-{i % 12 + 1:02d}-03",
        f"c{i}",
        f"word {i} of many",
        "",
        i % 2,
    ]


def write(path: Path, rows: int = ROWS) -> Path:
    lines = [",".join(map(str, cells(i))) for i in range(rows)]
    path.write_text("\n".join(["id,size,colour,when,code,remark,void,y", *lines]) + "\n")
    return path


def the_run(folder: Path) -> Path:
    (run,) = folder.glob("outputs/*/*")
    return run


@pytest.fixture
def output(train, tmp_path: Path) -> list[str]:
    """The lines of a run."""
    write(tmp_path / "table.csv")
    return train(*TINY).stdout.splitlines()


def test_the_columns_are_shown_before_training(output: list[str], tmp_path: Path) -> None:
    start = next(i for i, line in enumerate(output) if line.startswith("column "))
    assert [line.split("  ")[0] for line in output[start:][:9]] == [
        "column", "id", "size", "colour", "when", "code", "remark", "void", "y"
    ]  # fmt: skip
    shown = [re.split(r" {2,}", line) for line in output[start + 1 :][:8]]
    assert shown[:5] == [
        ["id", "id", "0", "80", "0", "left out"],
        ["size", "numeric", "8", "72", "1.5", "missing_indicator → impute → standardize: 2 inputs"],
        ["colour", "categorical", "0", "2", "red", "impute → onehot: 3 inputs"],
        ["when", "datetime", "0", "12", "2024-01-03", "ISO 8601 → impute → calendar → standardize: 5 inputs"],
        ["code", "id", "0", "80", "c0", "left out"],
    ]
    assert shown[7] == ["y", "target", "0", "2", "0", "what is predicted"]
    warnings = [line for line in output if line.startswith("warning: left out: ")]
    assert len(warnings) == 4
    assert "column code, which has 80 distinct values in 80 rows, like an identifier; 'data.cat" in "".join(warnings)
    assert all(f"data.ignore=[{name}]" in "".join(warnings) for name in ("id", "code", "remark", "void"))
    assert output.index(warnings[-1]) < next(i for i, line in enumerate(output) if line.startswith("epoch 1/1"))
    assert max(map(len, output[start : start + 9])) < 160
    with (the_run(tmp_path) / "columns.csv").open(newline="", encoding="utf-8") as file:
        assert [row[0] for row in csv.reader(file)][1:] == [row[0] for row in shown]


def test_a_run_that_goes_on_does_not_show_them_again(output: list[str], train, tmp_path: Path) -> None:
    again = train(f"resume={the_run(tmp_path)}", "trainer.epochs=2").stdout
    assert "what is predicted" not in again
    assert "is not what the run was trained on" not in again


def test_a_table_that_has_changed_is_told_of_on_resuming(output: list[str], train, tmp_path: Path) -> None:
    write(tmp_path / "table.csv", ROWS + 10)
    again = train(f"resume={the_run(tmp_path)}", "trainer.epochs=2").stdout
    assert "warning: The data is not what the run was trained on before" in again


def test_a_checkpoint_has_the_preprocessing_of_its_model(output: list[str], tmp_path: Path) -> None:
    payload, _ = Store(the_run(tmp_path) / "checkpoints").load("last")
    data = build_data(Csv(path=str(tmp_path / "table.csv"), target="y"), 0)
    assert payload["preprocessing"] == data.preprocessing
    saved = Preprocessor.from_json(payload["preprocessing"])
    assert saved.width() == data.spec.features
    assert load_model(the_run(tmp_path))(data.val.inputs).shape == (16, 2)


def test_of_many_columns_twenty_are_shown_and_all_are_in_the_file(train, tmp_path: Path) -> None:
    names = [f"x{i}" for i in range(3000)]
    lines = [",".join([*(str(i * j % 7 / 2) for j in range(3000)), str(i % 2)]) for i in range(30)]
    (tmp_path / "table.csv").write_text("\n".join([",".join([*names, "y"]), *lines]) + "\n")
    output = train(*TINY).stdout
    assert "x19 " in output and "x20 " not in output
    assert "… and 2,981 more columns: 2,980 numeric, 1 target; all are in columns.csv of the run" in output
    assert len((the_run(tmp_path) / "columns.csv").read_text().splitlines()) == 3002


def test_rows_that_were_left_out_are_counted_and_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "table.csv")
    path.write_text(path.read_text() + "1,2,3\n")
    data = build_data(Csv(path=str(path), target="y", on_error="skip"), 0)
    (warning,) = [text for text in data.warnings if "rows were left out" in text]
    assert warning.startswith("1 of 81 rows were left out; first: ") and "line 82" in warning
    assert len(data.files["rejected.csv"].splitlines()) == 2
    assert len(data.train) + len(data.val) == 80


TRANSFORM = """
from dataclasses import dataclass

import numpy as np

from trainer import key, register
from trainer.config.transform import TransformConfig


@register("transform", "above")
@dataclass
class Above(TransformConfig):
    \"\"\"1 where a value is above a quantile of the training values.\"\"\"

    share: float = key(0.5, "which quantile", at_least=0, at_most=1)

    def fit(self, values, levels):
        return {"limit": float(np.nanquantile(values, self.share))}

    def apply(self, values, state):
        return (values > state["limit"]).astype(np.float32)
"""


def test_a_transform_from_a_file_is_selected_by_its_name(train, tmp_path: Path) -> None:
    write(tmp_path / "table.csv")
    (tmp_path / "above.py").write_text(TRANSFORM)
    chain = "data.transforms.size=[impute,{name:above,share:0.25}]"
    output = train("--import", "above.py", *TINY, chain).stdout
    assert "impute → above: 1 input" in output
    payload, _ = Store(the_run(tmp_path) / "checkpoints").load("last")
    size = next(one for one in json.loads(payload["preprocessing"])["columns"] if one["name"] == "size")
    assert size["transforms"][1] == {"name": "above", "share": 0.25}
    assert 20 < size["states"][1][0]["limit"] < 45
    again = train("--import", "above.py", f"resume={the_run(tmp_path)}", "trainer.epochs=2").stdout
    assert "completed" in again
    error = train(*TINY, chain, code=2).stderr
    assert "data.transforms.size: no transform 'above'" in error
    error = train("--import", "above.py", *TINY, "data.transforms.size=[{name:above,shar:1}]", code=2).stderr
    assert "above has no key 'shar'. Did you mean 'share'?" in error
