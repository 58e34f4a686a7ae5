"""Runs as a collection: naming them, `trainer runs`, `compare` and `clean`, on real runs and a real sweep."""

import csv
import json
import re
import shutil
import signal
import statistics
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import Command, finish, run_trainer, start_trainer, wait_until

from trainer import load_model
from trainer.runs.directory import Run

MLP = ("model=mlp", "data=digits", "trainer.threads=1", "trainer.limit_train=6")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep of 2 rates and 2 seeds, a named run after it, and one that a signal has stopped."""
    folder = tmp_path_factory.mktemp("runs")
    words = ("-m", *MLP, "trainer.epochs=2", "optimizer.lr=1e-4,1e-2", "seed=0,1", "sweep.dir=outputs/mine-sweep")
    run_trainer(folder, "train", *words)
    run_trainer(folder, "train", *MLP, "trainer.epochs=1", "run.name=small", "run.tags=[good,first]")
    words = (*MLP, "model.hidden=[7]", "trainer.epochs=100000", "run.name=stopped")
    process = start_trainer(folder, "train", *words)
    records = "outputs/*/*/metrics.jsonl"
    wait_until(lambda: sum(path.stat().st_size > 0 for path in folder.glob(records)) == 6, process)
    process.send_signal(signal.SIGTERM)
    finish(process, code=143)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True, symlinks=True)
    return tmp_path


def listed(folder: Path, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run_trainer(folder, "runs", *words, "--json").stdout.splitlines()]


def test_all_runs_are_listed_with_what_became_of_them(made: Path) -> None:
    found = listed(made)
    assert len(found) == 6
    assert [one["name"] for one in found[:2]] == ["stopped", "small"]  # the last one first
    assert [one["status"] for one in found] == ["stopped", *["completed"] * 5]
    assert found[1]["tags"] == ["good", "first"]
    assert found[2]["sweep"] == "outputs/mine-sweep"
    summary = json.loads((made / found[1]["run"] / "summary.json").read_text())
    assert found[1]["best"] == {"metric": "val/accuracy", "mode": "max", "value": summary["best"]["value"]}
    files = [path for path in (made / found[1]["run"]).rglob("*") if path.is_file() and not path.is_symlink()]
    assert found[1]["bytes"] == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (("status=stopped",), 1), (("tag=good",), 1), (("name=sm*",), 1), (("sweep=mine-sweep",), 4), (("seed=1",), 2),
        (("seed=1", "optimizer.lr=0.01"), 1), (("model=mlp",), 6), (("model=cnn",), 0), (("model.hidden=[[]7]",), 1),
        (("outputs/mine-sweep",), 4),
    ],
)  # fmt: skip
def test_filters_are_columns_and_keys_of_the_config(made: Path, words: tuple[str, ...], count: int) -> None:
    assert len(listed(made, *words)) == count


def test_they_are_sorted_and_fit_the_screen(made: Path) -> None:
    values = [one["best"]["value"] for one in listed(made, "--sort", "best") if one["best"]]
    assert values == sorted(values, reverse=True)
    text = run_trainer(made, "runs", env={"COLUMNS": "80"}).stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "6 of 6 runs in outputs" in text
    assert re.search(r"^small +\d\d-\d\d \d\d:\d\d +completed +accuracy 0\.\d+ +\d", text, re.MULTILINE)
    assert "    model=mlp data=digits" in text


def test_a_run_is_found_by_whatever_names_it(made: Path) -> None:
    best = max((one for one in listed(made) if one["best"]), key=lambda one: one["best"]["value"])
    trials = {one["run"][-3:]: one for one in listed(made, "sweep=mine-sweep")}
    small = next(one for one in listed(made) if one["name"] == "small")
    best_trial = max(trials.values(), key=lambda one: one["best"]["value"])
    (made / "small").mkdir(exist_ok=True)  # a folder of data, not the run of that name
    for reference, expected in (
        ("best", best),
        ("small", small),
        (Path(small["run"]).name[:-2], small),
        (small["run"], small),
        ("mine:2", trials["002"]),
        ("outputs/mine-sweep:2", trials["002"]),
        ("outputs/mine-sweep", best_trial),
        ("mine", best_trial),
        ("last", listed(made)[0]),
    ):
        assert f"{expected['run']}/checkpoints" in run_trainer(made, "evaluate", reference).stdout, reference


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("mine:9", "has no trial 9; its trials are 000 to 003"),
        ("other:1", "there is no such sweep in outputs"),
        ("smal1", "no such run directory or checkpoint, nor a run in outputs"),
        ("20", "runs are called so|no such run"),
    ],
)
def test_what_names_no_run_or_several_is_a_sentence(made: Path, reference: str, message: str) -> None:
    error = run_trainer(made, "evaluate", reference, code=2).stderr
    assert re.search(message, error)
    assert len(error.splitlines()) == 1


def test_best_among_runs_of_different_scores_is_refused(folder: Path) -> None:
    run_trainer(folder, "train", *MLP, "trainer.epochs=1", "trainer.monitor=val/loss")
    error = run_trainer(folder, "evaluate", "best", code=2).stderr
    assert "have different scores (" in error
    assert "val/loss" in error


def test_runs_are_compared_by_what_differs(folder: Path) -> None:
    words = ("outputs/mine-sweep", "--csv", "table.csv", "--json")
    found = json.loads(run_trainer(folder, "compare", *words).stdout)
    assert found["keys"] == ["optimizer.lr", "seed"]
    assert (found["metric"], found["mode"], found["notes"]) == ("val/accuracy", "max", [])
    values = [row["best"] for row in found["runs"]]
    assert values == sorted(values, reverse=True)
    for entry in found["means"]:
        mine = [row["best"] for row in found["runs"] if row["optimizer.lr"] == entry["optimizer.lr"]]
        assert entry["best_mean"] == pytest.approx(statistics.fmean(mine))
        assert entry["best_std"] == pytest.approx(statistics.stdev(mine))
    assert found["test"]["pairs"] == 2
    rows = list(csv.DictReader((folder / "table.csv").open()))
    assert [float(row["best"]) for row in rows] == values
    with Image.open(folder / "compare.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 5
    text = run_trainer(folder, "compare", "outputs/mine-sweep", "small", "--metric", "loss").stdout
    assert "best val/loss" in text
    assert text.count("curve ") == 5
    assert "some runs monitor another score (val/accuracy)" in text


def test_other_data_is_said(folder: Path) -> None:
    run_trainer(folder, "train", *MLP, "trainer.epochs=1", "data.val_fraction=0.3", "run.name=other")
    assert "2 different datasets or splits" in run_trainer(folder, "compare", "small", "other").stdout
    error = run_trainer(folder, "compare", "small", "other", "--metric", "auroc", code=2).stderr
    assert "--metric auroc: none of these runs has it; they have val/accuracy" in error
    assert "that is one run" in run_trainer(folder, "compare", "small", code=2).stderr


def test_clean_says_what_it_would_free_and_frees_it_when_told(folder: Path) -> None:
    trials = sorted(listed(folder, "sweep=mine-sweep"), key=lambda one: -one["best"]["value"])
    before = {
        path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "checkpoints" not in path.parts
    }
    said = run_trainer(folder, "clean").stdout
    assert said.count("weights ") == 3
    assert "would be freed; to do it: trainer clean --yes" in said
    assert len(listed(folder)) == 6
    assert all((folder / one["run"] / "checkpoints").exists() for one in trials)
    held = Run(folder / trials[1]["run"]).lock()
    said = run_trainer(folder, "clean", "--yes").stdout
    held.release()
    assert f"left      1 that a process is writing ({trials[1]['run']})" in said
    assert [(folder / one["run"] / "checkpoints").exists() for one in trials] == [True, True, False, False]
    changed = {path.name for path, data in before.items() if not path.exists() or path.read_bytes() != data}
    assert changed <= {"summary.json", ".lock"}
    load_model(folder / trials[0]["run"])
    load_model(next(folder.glob("outputs/*/*/config.yaml")).parent)


def test_clean_removes_what_never_began_and_no_folder_of_anybody_else(folder: Path) -> None:
    """A run that was killed while it read its data; one with a note in it; and a config that was put into a folder."""
    begun = next(path.parent for path in folder.glob("outputs/2*/*/config.yaml") if "small" in path.read_text())
    for name in ("checkpoints", "tensorboard"):
        shutil.rmtree(begun / name)
    for name in ("metrics.jsonl", "metrics.csv", "summary.json"):
        (begun / name).unlink(missing_ok=True)
    mine = folder / "outputs" / "thesis"
    mine.mkdir()
    shutil.copy(begun / "config.yaml", mine)
    (mine / "chapter.txt").write_text("a year of work")
    for path in begun.iterdir():
        if path.name not in (
            ".lock",
            "config.yaml",
            "environment.json",
            "overrides.yaml",
            "resolved.json",
            "train.log",
        ):
            path.unlink()
    (begun / "note.txt").write_text("mine")
    assert "not begun" not in run_trainer(folder, "clean", "--yes").stdout
    assert begun.exists()
    (begun / "note.txt").unlink()
    assert f"not begun {begun.relative_to(folder)}" in run_trainer(folder, "clean", "--yes").stdout
    assert not begun.exists()
    assert (mine / "chapter.txt").read_text() == "a year of work"


def test_an_empty_folder_is_a_sentence(trainer: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for verb in (("runs", "empty"), ("clean", "empty"), ("compare", "empty", "empty")):
        assert "empty: there is no run in it" in trainer(*verb, code=2).stderr
    assert "--sort size2: not one of" in trainer("runs", "--sort", "size2", code=2).stderr
