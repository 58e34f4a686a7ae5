"""`trainer evaluate` and `trainer predict`: the scores that training saw, and new samples treated as the first were."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Command, payload, the_run

from trainer import Config, Run
from trainer.commands.evaluate import ClassScores, class_scores
from trainer.config import compose
from trainer.config.model import Mlp
from trainer.config.optimizer import AdamW
from trainer.config.table import Csv
from trainer.config.trainer import TrainerConfig
from trainer.runs.loading import load_trained
from trainer.runs.run_training import run_training
from trainer.runs.start import RunStart
from trainer.system.signals import SignalHandler

COLOURS = ("red", "green", "blue")


def table(path: Path, rows: range, target: bool = True, **changes: str) -> Path:
    """A number with gaps, a category, a date and a class (or without it); `changes` are cells such as r3_size."""
    lines = ["size,colour,day" + ",y" * target]
    for i in rows:
        cells = {
            "size": "" if i % 7 == 0 else f"{math.sin(i) * 10:.2f}",
            "colour": COLOURS[i % 3],
            "day": f"2024-{1 + i % 12:02}-15",
        }
        cells = {name: changes.get(f"r{i}_{name}", value) for name, value in cells.items()}
        lines.append(",".join([*cells.values(), *(["yes" if math.sin(i) > 0 else "no"] * target)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def trained(folder: Path, rate: float) -> Path:
    """A model of a small table, trained for two epochs; its validation batches, of 16, are padded."""
    data = Csv(path=str(table(folder / "table.csv", range(200))), target="y", eval_batch_size=16)
    config = Config(model=Mlp(), data=data, optimizer=AdamW(lr=rate), trainer=TrainerConfig(epochs=2))
    made = Run.create(folder / "outputs")
    summary = run_training(RunStart(compose.from_config(config), config), made, None, SignalHandler())
    assert summary["status"] == "completed"
    made.release()
    return made.directory


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("trained"), rate=0.01)


def predictions(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_evaluate_gives_the_scores_of_training(trainer: Any, run: Path) -> None:
    best = json.loads((run / "summary.json").read_text())["best"]
    found = json.loads(trainer("evaluate", str(run), "--json").stdout)
    assert found["accuracy"] == pytest.approx(best["value"])
    assert found["samples"] == 40
    assert sum(one["samples"] for one in found["classes"].values()) == 40
    last = json.loads((run / "summary.json").read_text())["last"]["scores"]
    again = json.loads(trainer("evaluate", str(run), "--checkpoint", "last", "--json").stdout)
    assert again["loss"] == pytest.approx(last["val/loss"], rel=1e-5)
    shown = trainer("evaluate", str(run)).stdout
    assert f"accuracy  {found['accuracy']:.4f}" in shown
    assert "precision" in shown


def test_new_rows_are_encoded_by_what_was_measured_in_training(trainer: Any, run: Path, tmp_path: Path) -> None:
    """Two rows alone are predicted as they are among many: nothing is measured anew on them."""
    many = predictions(trainer("predict", str(run), str(table(tmp_path / "many.csv", range(300, 400)))).stdout)
    few = predictions(trainer("predict", str(run), str(table(tmp_path / "few.csv", range(310, 312)))).stdout)
    assert [row | {"line": ""} for row in few] == [row | {"line": ""} for row in many[10:12]]
    assert [row["line"] for row in few] == ["2", "3"]
    for row in many:
        shares = {label: float(row[f"p({label})"]) for label in ("no", "yes")}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert row["prediction"] == max(shares, key=lambda label: shares[label])


def test_predicting_needs_no_target_and_evaluating_does(trainer: Any, run: Path, tmp_path: Path) -> None:
    bare, whole = (table(tmp_path / f"{target}.csv", range(250, 290), target=target) for target in (False, True))
    said = predictions(trainer("predict", str(run), str(bare)).stdout)
    assert said == predictions(trainer("predict", str(run), str(whole)).stdout)
    truth = ["yes" if math.sin(i) > 0 else "no" for i in range(250, 290)]
    hits = sum(row["prediction"] == true for row, true in zip(said, truth, strict=True))
    found = json.loads(trainer("evaluate", str(run), str(whole), "--json").stdout)
    assert found["accuracy"] == pytest.approx(hits / 40)
    assert "has no column y, which the model predicts" in trainer("evaluate", str(run), str(bare), code=2).stderr


def test_a_category_not_seen_in_training_has_a_place(trainer: Any, run: Path, tmp_path: Path) -> None:
    new = table(tmp_path / "new.csv", range(300, 304), r301_colour="violet", r302_colour="")
    assert len(predictions(trainer("predict", str(run), str(new)).stdout)) == 4


def test_the_table_of_training_may_be_gone(trainer: Any, run: Path, tmp_path: Path) -> None:
    new = table(tmp_path / "new.csv", range(300, 304))
    before = trainer("predict", str(run), str(new)).stdout
    given = run.parents[2] / "table.csv"
    given.rename(given.with_suffix(".away"))
    try:
        assert trainer("predict", str(run), str(new)).stdout == before
        assert "no such file" in trainer("evaluate", str(run), code=2).stderr
    finally:
        given.with_suffix(".away").rename(given)


def test_predictions_go_to_a_file_whole(trainer: Any, run: Path, tmp_path: Path) -> None:
    new = table(tmp_path / "new.csv", range(300, 330))
    done = trainer("predict", str(run), str(new), "--output", "out.csv")
    assert done.stdout == ""
    assert "30 samples: 30 predicted, 0 left out, in out.csv" in done.stderr
    assert (tmp_path / "out.csv").read_text() == trainer("predict", str(run), str(new)).stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"r301_size": "tall"}, "new.csv, line 3"),
        ({"r302_day": "soon"}, "new.csv, line 4, column day: 'soon' is not a date"),
    ],
)
def test_what_is_not_as_it_was_names_its_line(
    trainer: Any, run: Path, tmp_path: Path, change: dict[str, str], words: str
) -> None:
    new = table(tmp_path / "new.csv", range(300, 304), **change)
    assert words in trainer("predict", str(run), str(new), code=2).stderr


def test_a_column_that_is_not_there_is_named(trainer: Any, run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("size,day\n1,2024-01-15\n")
    error = trainer("predict", str(run), "new.csv", code=2).stderr
    assert "new.csv" in error and "colour" in error


def test_numbers_are_predicted_in_the_units_of_the_target(trainer: Any, train: Any, tmp_path: Path) -> None:
    lines = ["x,y", *(f"{i / 50},{1000 + 3 * i}" for i in range(100))]
    (tmp_path / "line.csv").write_text("\n".join(lines) + "\n")
    keys = ("data=csv", "data.path=line.csv", "data.target=y", "data.target_type=number")
    train("model=linear", *keys, "trainer.epochs=60", "optimizer.lr=0.05")
    run = next(tmp_path.glob("outputs/*/*"))
    said = [float(row["prediction"]) for row in predictions(trainer("predict", str(run), "line.csv").stdout)]
    assert said == pytest.approx([1000 + 3 * i for i in range(100)], abs=15)
    assert json.loads(trainer("evaluate", str(run), "line.csv", "--json").stdout)["r2"] > 0.99


def test_data_that_is_made_has_no_new_samples(trainer: Any, train: Any, tmp_path: Path) -> None:
    train("experiment=synthetic_linear", "trainer.epochs=1")
    run = next(tmp_path.glob("outputs/*/*"))
    assert json.loads(trainer("evaluate", str(run), "--json").stdout)["samples"] > 0
    assert "x.csv: a run of data=synthetic takes no new samples" in trainer("predict", str(run), "x.csv", code=2).stderr


def test_scores_of_classes_are_those_of_the_definition() -> None:
    matrix = torch.tensor([[8, 2, 0], [1, 3, 0], [0, 0, 0]])
    assert class_scores(matrix) == [
        ClassScores(10, 8 / 9, 0.8),
        ClassScores(4, 3 / 5, 0.75),
        ClassScores(0, None, None),
    ]


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_a_run_that_is_not_there_is_named(trainer: Any, verb: str, tmp_path: Path) -> None:
    source = ["x.csv"] if verb == "predict" else []
    assert "nowhere: no such run directory" in trainer(verb, "nowhere", *source, code=2).stderr


def test_the_best_checkpoint_is_taken_unless_another_is_named(tmp_path: Path) -> None:
    run = trained(tmp_path, rate=1e-12)  # nothing is learned: the first validation stays the best
    first, last = (load_trained(run, name).step for name in ("best", "last"))
    assert (first, last) == (load_trained(run).step, 2 * first)


@pytest.mark.parametrize(("decay", "weights"), [("0.99999", "model"), ("0.5", "average")])
def test_the_weights_are_those_that_the_checkpoint_was_judged_by(
    decay: str, weights: str, tmp_path: Path, train: Command
) -> None:
    """Without a warm-up a slow average stays at the first weights; a fast one is nearly the last, and smoother."""
    words = ("model=mlp", "data=digits", "trainer.epochs=6", "optimizer.lr=0.02", "trainer.monitor=loss")
    train(*words, f"trainer.ema={decay}", "trainer.ema_warmup=false", "scheduler=constant")
    run = the_run(tmp_path)
    saved = payload(run, "best")
    assert saved["weights"] == weights
    raw = saved["model_state_dict"]
    average = {k.removeprefix("module."): v for k, v in saved["ema_state_dict"].items() if k.startswith("module.")}
    used, other = (raw, average) if weights == "model" else (average, raw)
    loaded = load_trained(run)
    assert loaded.averaged == (weights == "average")
    found = loaded.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in used.items())
    assert not all(torch.equal(found[name], value) for name, value in other.items())
