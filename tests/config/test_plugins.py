"""Components from outside: from a file, a module or an installed package; never from a config."""

import importlib
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from support import run_python

from trainer import cli
from trainer.config import plugins
from trainer.errors import ConfigError

TINY = ("data=synthetic", "data.num_samples=200", "trainer.epochs=1")

MODEL = '''
from dataclasses import dataclass

from trainer import key, register
from trainer.config.model import ModelConfig


@register("model", "NAME")
@dataclass
class Mine(ModelConfig):
    """Two layers of a chosen width."""

    width: int = key(5, "units of the hidden layer", at_least=1)

    def build(self, spec):
        from torch import nn

        return nn.Sequential(nn.Linear(spec.features, self.width), nn.ReLU(), nn.Linear(self.width, spec.outputs))
'''

DATA = '''
from dataclasses import dataclass

from trainer import key, register
from trainer.config.data import DataConfig


@register("data", "mydata")
@dataclass
class MyData(DataConfig):
    """Whether a number is above a threshold."""

    threshold: float = key(0.25, "numbers above it are of the class high")

    def build(self, seed):
        import torch

        from trainer.data.splits import from_tensors

        x = torch.linspace(-1, 1, 100)[:, None]
        y = (x[:, 0] > self.threshold).long()
        return from_tensors(x, y, ("low", "high"), config=self, seed=seed)
'''


def write_plugin(path: Path, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(MODEL.replace("NAME", name))


def run_in(folder: Path, verb: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # -P: like the installed command, which does not have this folder on its path.
    return run_python(folder, "-P", "-m", "trainer", verb, *arguments, code=None, env={"COLUMNS": "200"} | environment)


def runs(folder: Path) -> list[Path]:
    return sorted((folder / "outputs").glob("*/*"))


FILES = ("--import", "my_models.py", "--import", "my_data.py")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a run that was made of a model and a dataset from files, and what the run printed."""
    folder = tmp_path_factory.mktemp("files")
    write_plugin(folder / "my_models.py", "mine")
    (folder / "my_data.py").write_text(DATA)
    result = run_in(folder, "train", *FILES, "model=mine", "model.width=3", "data=mydata", "trainer.epochs=1")
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


def test_a_model_and_a_dataset_from_files_train(started: tuple[Path, str]) -> None:
    folder, output = started
    [run] = runs(folder)
    assert "mine, 14 parameters" in output  # (1 + 1) × 3 + (3 + 1) × 2
    assert "mydata, 80 train / 20 val" in output
    assert json.loads((run / "summary.json").read_text())["status"] == "completed"


def test_a_run_records_its_imports_and_says_how_to_resume_with_them(started: tuple[Path, str]) -> None:
    folder, output = started
    [run] = runs(folder)
    assert json.loads((run / "environment.json").read_text())["imports"] == ["my_models.py", "my_data.py"]
    commands = [line for line in output.splitlines() if "resume=outputs" in line]
    assert len(commands) == 2
    flags = " ".join(FILES)
    assert all(f"train {flags} resume={run.relative_to(folder)}" in command for command in commands)


def test_resuming_needs_the_same_imports_and_then_continues(started: tuple[Path, str]) -> None:
    folder, _ = started
    [run] = runs(folder)
    where = f"resume={run.relative_to(folder)}"
    refused = run_in(folder, "train", where, "trainer.epochs=3")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert f"{' '.join(FILES)} {where}" in refused.stderr
    assert json.loads((run / "summary.json").read_text())["status"] == "completed"
    resumed = run_in(folder, "train", *FILES, where, "trainer.epochs=3")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed at step 2" in resumed.stdout
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("completed", 6)
    assert runs(folder) == [run]


def test_a_wrong_key_of_a_plugin_is_refused_with_the_nearest(started: tuple[Path, str]) -> None:
    folder, _ = started
    before = runs(folder)
    for typed, words in {
        "model.widht=3": "Did you mean 'model.width'?",
        "data.treshold=1": "Did you mean 'data.threshold'?",
    }.items():
        result = run_in(folder, "train", *FILES, "model=mine", "data=mydata", typed)
        assert result.returncode == 2
        assert words in result.stderr
        assert "Traceback" not in result.stderr
    assert runs(folder) == before


def test_help_shows_the_options_of_a_plugin(started: tuple[Path, str]) -> None:
    folder, _ = started
    lines = run_in(folder, "train", *FILES, "--help").stdout.splitlines()
    assert "  mine              Two layers of a chosen width." in lines
    assert "  mydata            Whether a number is above a threshold." in lines
    assert not any("Two layers" in line for line in run_in(folder, "train", "--help").stdout.splitlines())


def test_a_model_from_a_module_of_this_folder_trains(tmp_path: Path) -> None:
    write_plugin(tmp_path / "mylab" / "models.py", "of_module")
    result = run_in(tmp_path, "train", *TINY, "--import", "mylab.models", "model=of_module")
    assert result.returncode == 0, result.stderr
    assert "of_module, 67 parameters" in result.stdout
    [run] = runs(tmp_path)
    assert json.loads((run / "environment.json").read_text())["imports"] == ["mylab.models"]


def test_an_installed_package_is_found_without_a_flag(tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    write_plugin(site / "labkit" / "components.py", "of_package")
    metadata = site / "labkit-1.0.dist-info"
    metadata.mkdir()
    work.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: labkit\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[trainer.plugins]\nlabkit = labkit.components\n")
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    listed = run_in(work, "list", "model", PYTHONPATH=path).stdout
    assert "model=of_package\n    Two layers of a chosen width.\n" in listed
    assert "    model.width=5 " in listed
    explained = run_in(work, "explain", "model=of_package", PYTHONPATH=path).stdout
    assert "model.width: int, default 5, >= 1\n    units of the hidden layer" in explained
    result = run_in(work, "train", *TINY, "model=of_package", PYTHONPATH=path)
    assert result.returncode == 0, result.stderr
    assert "of_package, 67 parameters" in result.stdout


@pytest.mark.parametrize("name", ["missing.py", "no/such/models.py", "missing_lab.models", "json.no_such_part"])
def test_a_file_or_module_that_is_not_there_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run("train", ["--import", name]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --import {name}: no such ")


def test_a_name_that_is_taken_is_refused_with_both_classes(tmp_path: Path) -> None:
    write_plugin(tmp_path / "one.py", "twice")
    (tmp_path / "two.py").write_text(MODEL.replace("NAME", "twice").replace("Mine", "Other"))
    write_plugin(tmp_path / "cnn.py", "cnn")
    for files, classes in {
        ("one.py", "two.py"): (".Mine", ".Other"),
        ("cnn.py",): ("config.model.Cnn", ".Mine"),
    }.items():
        flags = [word for file in files for word in ("--import", file)]
        result = run_in(tmp_path, "train", *flags, *TINY)
        assert result.returncode == 2
        assert result.stderr.count("\n") == 1
        assert all(name in result.stderr for name in ("is registered twice", *classes))
    assert not (tmp_path / "outputs").exists()


def test_a_mistake_inside_a_plugin_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "sick.py").write_text("import a_package_that_is_not_there\n")
    (tmp_path / "lab.py").write_text("import a_package_that_is_not_there\n")
    for name in ("sick.py", "lab"):
        result = run_in(tmp_path, "train", "--import", name)
        assert result.returncode == 1
        assert "Traceback" in result.stderr
        assert "a_package_that_is_not_there" in result.stderr


# What each file would do, were its words taken for code: leave a file or folder called `executed`.
HOSTILE = {
    "a section": "model:\n  _target_: os.mkdir\n  _args_: [executed]\n",
    "the root": "_target_: os.mkdir\n_args_: [executed]\n",
    "a key": "optimizer:\n  lr:\n    _target_: os.mkdir\n    _args_: [executed]\n",
    "Hydra's callbacks": "hydra:\n  callbacks:\n    x:\n      _target_: pathlib.Path.mkdir\n      _args_: [executed]\n",
    "Hydra's logging": (
        "hydra:\n  job_logging:\n    version: 1\n    handlers:\n      x:\n        class: logging.FileHandler\n"
        "        filename: executed\n    root:\n      handlers: [x]\n"
    ),
    "a YAML tag": "seed: !!python/object/apply:os.mkdir [executed]\n",
}


@pytest.mark.parametrize("place", HOSTILE)
@pytest.mark.parametrize("sweep", [False, True], ids=["run", "sweep"])
def test_a_config_file_cannot_execute_anything(
    place: str, sweep: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiments = tmp_path / "theirs" / "experiment"
    experiments.mkdir(parents=True)
    (experiments / "hostile.yaml").write_text(f"# @package _global_\n{HOSTILE[place]}")
    monkeypatch.chdir(tmp_path)
    code = cli.run(
        "train",
        ["--config-dir", "theirs", "experiment=hostile", "model=linear", *TINY, *(["-m", "seed=0,1"] if sweep else [])],
    )
    error = capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs"]
    assert code == 2
    assert error.startswith("error: ")


@pytest.mark.parametrize(
    "hostile",
    [
        "_target_: os.mkdir\n_args_: [executed]\n",
        "optimizer:\n  _target_: os.mkdir\n  _args_: [executed]\n",
        "seed: !!python/object/apply:os.mkdir [executed]\n",
    ],
)
def test_the_config_beside_a_run_cannot_execute_anything(
    hostile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run("train", ["--cfg", "model=linear", *TINY]) == 0
    saved = capsys.readouterr().out
    name = hostile.partition(":")[0]
    kept = re.sub(rf"^{name}:.*\n(?:  .*\n|- .*\n)*", "", saved, flags=re.MULTILINE)  # in place of the key of that name
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(kept + hostile)
    code = cli.run("train", ["resume=run"])
    error = capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert code == 2
    assert error.startswith("error: ")
    assert "run/config.yaml" in error


@pytest.mark.parametrize(
    ("line", "now"),
    [
        ("from trainer.config.data import Data", "DataConfig"),
        ("from trainer.config.model import Model", "ModelConfig"),
        ("from trainer.data.split import from_tensors", "from_tensors"),
    ],
)
def test_what_was_documented_elsewhere_says_where_it_went(tmp_path: Path, line: str, now: str) -> None:
    (tmp_path / "old.py").write_text(line + "\n")
    with pytest.raises(ConfigError, match=f"--import .*old.py: .*write `from trainer import {now}`"):
        plugins.load([str(tmp_path / "old.py")])
    assert hasattr(importlib.import_module("trainer"), now)


def test_a_missing_import_of_ones_own_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("from trainer.config.data import Nothing\n")
    with pytest.raises(ImportError, match="Nothing"):
        plugins.load([str(tmp_path / "old.py")])
