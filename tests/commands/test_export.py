"""`trainer export`: what other programs run says what `trainer predict` says."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from support import Command, payload, run_python, run_trainer, the_run

from trainer import load_model

RUNTIME = """
import json, sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
outputs = [session.run(None, {"inputs": np.load(name)})[0] for name in sys.argv[2:]]
np.savez("outputs.npz", *outputs)
print(json.dumps(session.get_modelmeta().custom_metadata_map))
assert not {"trainer", "torch"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run on a table of numbers, gaps, categories, truths, dates and classes."""
    folder, draw = tmp_path_factory.mktemp("table"), random.Random(3)
    lines = ["a,b,kind,flag,day,target"]
    for _ in range(300):
        a, kind = draw.gauss(0, 1), draw.choice("xyz")
        b = "" if draw.random() < 0.1 else f"{draw.gauss(5, 30):.3f}"
        day = f"2024-{draw.randint(1, 12):02d}-{draw.randint(1, 28):02d}"
        shown = kind if draw.random() > 0.1 else ""
        lines.append(
            f"{a:.4f},{b},{shown},{draw.choice(('yes', 'no'))},{day},{'in' if a + (kind == 'x') > 0.4 else 'out'}"
        )
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    words = ("model=mlp", "data=csv", "data.path=t.csv", "data.target=target", "trainer.epochs=4", "optimizer.lr=0.01")
    run_trainer(folder, "train", *words)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run on images."""
    folder = tmp_path_factory.mktemp("images")
    words = ("model=cnn", "data=synthetic_images", "data.num_samples=300", "data.image_size=12", "data.num_classes=3")
    run_trainer(folder, "train", *words, "trainer.epochs=2", "trainer.ema=0.9")
    return folder


def exported(folder: Path, form: str, name: str) -> tuple[Path, dict[str, Any]]:
    words = (str(the_run(folder)), "--format", form, "--output", name, "--overwrite")
    printed = run_trainer(folder, "export", *words).stdout
    assert "largest difference" in printed
    return folder / name, json.loads((folder / f"{name}.json").read_text())


def by_runtime(folder: Path, path: Path, *inputs: np.ndarray[Any, Any]) -> tuple[list[Any], dict[str, str]]:
    """The outputs of a graph in a process that has neither torch nor this package, and its metadata."""
    names = [f"inputs{i}.npy" for i in range(len(inputs))]
    for name, array in zip(names, inputs, strict=True):
        np.save(folder / name, array)
    printed = run_python(folder, "-c", RUNTIME, str(path), *names, cold=True).stdout
    return list(np.load(folder / "outputs.npz").values()), json.loads(printed)


def columns_of(folder: Path, description: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The rows of the table as the description says that the graph takes them."""
    rows = list(csv.DictReader((folder / "t.csv").open()))

    def entry(column: dict[str, Any], text: str) -> float:
        if text == "":
            return np.nan
        if column["kind"] == "categorical":
            return float(column["codes"].get(text, 0))
        return {"yes": 1.0, "no": 0.0}.get(text) if column["kind"] == "boolean" else float(text)  # type: ignore[return-value]

    inside = [column for column in description["columns"] if column["inside"]]
    return np.array([[entry(column, row[column["name"]]) for column in inside] for row in rows])


def test_the_graph_of_a_table_says_what_predict_says_without_this_package(table: Path) -> None:
    """The dates, whose calendar is no tensor work, come as the description says: as they are transformed."""
    path, description = exported(table, "onnx", "table.onnx")
    [day] = [column for column in description["columns"] if not column["inside"]]
    assert (day["name"], day["transforms"]) == ("day", ["missing_indicator", "impute", "calendar", "standardize"])
    from trainer.data.table.preprocess import Preprocessor
    from trainer.data.table.reading import read_table
    from trainer.runs.loading import load_trained

    trained = load_trained(the_run(table))
    fitted = Preprocessor.from_json(str(trained.preprocessing))
    at = [column.name for column in fitted.columns].index("day")
    whole = read_table(trained.config.data.__class__(path=str(table / "t.csv"), target="target"))
    days = fitted.columns[at].apply(fitted.columns[at].lazy(whole).between(0, 300))
    known = columns_of(table, description)
    rows = np.concatenate([known[:, :at], np.stack(days, axis=1), known[:, at:]], axis=1)
    [all_rows, one], metadata = by_runtime(table, path, rows, rows[:1])
    run_trainer(table, "predict", str(the_run(table)), "t.csv", "--output", "said.csv")
    said = np.array(
        [[float(row["p(in)"]), float(row["p(out)"])] for row in csv.DictReader((table / "said.csv").open())]
    )
    np.testing.assert_allclose(all_rows, said, atol=2e-6)
    np.testing.assert_allclose(one, said[:1], atol=2e-6)
    assert json.loads(metadata["classes"]) == ["in", "out"]
    assert json.loads(metadata["trainer"])["input"] == {
        "name": "inputs",
        "dtype": "float64",
        "shape": ["batch", rows.shape[1]],
    }


def test_the_graph_of_images_takes_pixels_and_has_the_weights_that_are_best(images: Path) -> None:
    path, description = exported(images, "onnx", "images.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (7, 3, 12, 12), dtype=np.uint8)
    [seven, one], metadata = by_runtime(images, path, pixels, pixels[:1])
    mean, std = (np.array(description["normalisation"][name])[:, None, None] for name in ("mean", "std"))
    with torch.no_grad():
        expected = load_model(the_run(images))(torch.from_numpy((pixels / 255 - mean) / std).float()).softmax(1).numpy()
    np.testing.assert_allclose(seven, expected, atol=1e-5)
    np.testing.assert_allclose(one, expected[:1], atol=1e-5)
    assert len(json.loads(metadata["classes"])) == 3
    assert description["image"] == {"channels": 3, "height": 12, "width": 12}


def test_a_program_of_torch_and_bare_weights(images: Path) -> None:
    path, _ = exported(images, "torch", "images.pt2")
    extra = {"trainer.json": ""}
    program = torch.export.load(path, extra_files=extra).module()
    pixels = torch.randint(0, 256, (5, 3, 12, 12), dtype=torch.uint8)
    assert program(pixels).shape == (5, 3)
    assert program(pixels[:1]).sum().item() == pytest.approx(1)
    assert json.loads(extra["trainer.json"])["format"] == "torch"
    path, description = exported(images, "safetensors", "images.safetensors")
    weights = load_model(the_run(images)).state_dict()
    with safe_open(path, "pt") as file:
        assert {name: file.get_tensor(name).tolist() for name in file.keys()} == {
            k: v.tolist() for k, v in weights.items()
        }
        assert json.loads(file.metadata()["trainer"])["classes"] == description["classes"]
    assert description["config"]["model"] == "cnn"


def test_a_regression_gives_numbers(tmp_path: Path, trainer: Command, train: Command) -> None:
    rows = [f"{i % 17},{i % 5},{3 * (i % 17) + i % 5 + 0.5}" for i in range(200)]
    (tmp_path / "t.csv").write_text("a,b,y\n" + "\n".join(rows) + "\n")
    train("model=mlp", "data=csv", "data.path=t.csv", "data.target=y", "trainer.epochs=3")
    trainer("export", str(the_run(tmp_path)), "--output", "m.onnx")
    description = json.loads((tmp_path / "m.onnx.json").read_text())
    assert (description["classes"], description["output"]["meaning"]) == (None, "predicted numbers")
    [outputs], _ = by_runtime(tmp_path, tmp_path / "m.onnx", np.array([[3.0, 2.0], [np.nan, 1.0]]))
    (tmp_path / "new.csv").write_text("a,b\n3,2\n,1\n")
    said = list(csv.DictReader(trainer("predict", str(the_run(tmp_path)), "new.csv").stdout.splitlines()))
    np.testing.assert_allclose(outputs[:, 0], [float(row["prediction"]) for row in said], rtol=1e-5)


def test_outputs_that_differ_leave_no_file(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken on purpose: a program that has lost its normalisation."""
    from trainer.errors import TrainerError
    from trainer.runs import export
    from trainer.runs.loading import load_trained

    monkeypatch.setattr(export.Normalize, "__call__", lambda self, pixels: pixels.float())
    monkeypatch.setattr(export, "_outputs", lambda *given: torch.full((given[2], 3), 1 / 3))
    with pytest.raises(TrainerError, match="differ from those of the network"):
        export.export(load_trained(the_run(images)), "torch", images / "bad.pt2")
    assert not list(images.glob("*bad*"))


def test_mistakes_are_one_sentence(images: Path, trainer: Command, tmp_path: Path) -> None:
    run = str(the_run(images))
    (tmp_path / "there.onnx").write_text("")
    (tmp_path / "empty").mkdir()
    for words, message in (
        ((run, "--format", "tflite"), "--format tflite: not one of onnx, torch, safetensors."),
        ((run, "--output", "there.onnx"), "there.onnx: is there already; give --overwrite"),
        (("nowhere",), "nowhere: no such run directory or checkpoint, nor a run in"),
        (("empty",), "neither a run directory"),
    ):
        assert message in trainer("export", *words, code=2).stderr
    assert (tmp_path / "there.onnx").read_text() == ""
    assert payload(Path(run))["step"] > 0


def test_rows_that_were_left_out_do_not_shift_those_that_are_compared(
    tmp_path: Path, trainer: Command, train: Command
) -> None:
    rows = [f"{i / 7:.3f},{'yes' if i % 3 else 'no'},{'uv'[i % 2]}" for i in range(120)]
    rows[3], rows[50], rows[80] = "0.5,perhaps,u", "0.25,yes,", "abc,no,v"
    (tmp_path / "t.csv").write_text("\n".join(["x,flag,y", *rows]) + "\n")
    keys = ("data=csv", "data.path=t.csv", "data.target=y", "data.on_error=skip", "model=linear", "trainer.epochs=2")
    train(*keys)
    assert "largest difference" in trainer("export", str(the_run(tmp_path)), "--format", "torch").stdout
