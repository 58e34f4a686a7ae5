"""Sweeps: every combination is a run of its own, mistakes stop them all, failures only themselves."""

import csv
import json
import re
import signal
import statistics
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support import TINY, finish, rows, run_trainer, start_trainer, the_run, wait_until

from trainer import cli

WORDS = (*TINY, "trainer.epochs=1")


def sweep(folder: Path, *arguments: str, code: int = 0) -> tuple[Path, str]:
    """Run a sweep to its end; returns its directory and what it printed."""
    done = run_trainer(folder, "train", *arguments, code=code)
    assert "Traceback" not in done.stderr
    [directory] = (folder / "outputs").glob("*/*-sweep")
    return directory, done.stdout


def results(directory: Path) -> list[dict[str, str]]:
    with open(directory / "results.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def config(run: Path) -> dict:
    plain = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"), resolve=False)
    assert isinstance(plain, dict)
    return plain


def jobs(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.is_dir())


GRID = [("0.01", "0"), ("0.01", "1"), ("0.001", "0"), ("0.001", "1")]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return sweep(tmp_path_factory.mktemp("grid"), "-m", "optimizer.lr=1e-2,1e-3", "seed=0,1", *WORDS)


def test_every_combination_is_a_whole_run_with_its_own_config(grid: tuple[Path, str]) -> None:
    directory, _ = grid
    runs = jobs(directory)
    assert [run.name for run in runs] == ["0", "1", "2", "3"]
    for run, (rate, seed) in zip(runs, GRID, strict=True):
        saved = config(run)
        assert (saved["optimizer"]["lr"], saved["seed"]) == (float(rate), int(seed))
        assert (saved["options"]["model"], saved["options"]["data"]) == ("linear", "synthetic")
        assert (saved["data"]["num_samples"], saved["trainer"]["epochs"]) == (200, 1)
        typed = OmegaConf.to_container(OmegaConf.load(run / "overrides.yaml"))
        assert sorted(typed) == sorted([f"optimizer.lr={rate}", f"seed={seed}", *WORDS])
        assert json.loads((run / "summary.json").read_text())["status"] == "completed"
        assert (run / "checkpoints" / "best" / "state.pt").is_file()
        assert "end       completed" in (run / "train.log").read_text()
        assert list((run / "tensorboard").iterdir())
    others = {path.name for path in directory.iterdir()} - {run.name for run in runs}
    assert others - {"multirun.yaml"} == {"results.csv", "means.csv"}  # the former is Hydra's own


def test_the_results_are_a_table_with_the_best_first(grid: tuple[Path, str]) -> None:
    directory, _ = grid
    rows = results(directory)
    assert sorted((row["optimizer.lr"], row["seed"]) for row in rows) == sorted(GRID)
    scores = [float(row["best"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 1
    for row in rows:
        assert (row["optimizer.lr"], row["seed"]) == GRID[int(row["job"])]
        assert (row["status"], row["metric"]) == ("completed", "val/accuracy")
        summary = json.loads((directory / row["job"] / "summary.json").read_text())
        assert float(row["best"]) == summary["best"]["value"]
        assert row["directory"].endswith(f"{directory.name}/{row['job']}")


def test_the_printed_table_has_the_swept_keys_and_every_job(grid: tuple[Path, str]) -> None:
    directory, output = grid
    lines = output.splitlines()
    assert re.match(rf"sweep +4 runs in outputs/.*{directory.name}", lines[0])
    head = next(i for i, line in enumerate(lines) if line.startswith("job"))
    assert "optimizer.lr" in lines[head]
    assert "seed" in lines[head]
    assert "best val/accuracy" in lines[head]
    assert "data.num_samples" not in lines[head]
    shown = [line.split()[:3] for line in lines[head + 1 : head + 5]]
    assert shown == [[row["job"], row["optimizer.lr"], row["seed"]] for row in results(directory)]
    assert lines[-1].endswith("results.csv")
    assert [line[:5] for line in lines if line.startswith("[")] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]


def test_a_job_gives_the_same_metrics_as_its_config_alone(grid: tuple[Path, str], tmp_path: Path) -> None:
    directory, _ = grid
    run_trainer(tmp_path, "train", *WORDS, "optimizer.lr=1e-3", "seed=1")
    alone = the_run(tmp_path)
    assert rows(alone) == rows(directory / "3")
    assert rows(alone) != rows(directory / "2")
    assert config(alone) == config(directory / "3")


def test_groups_and_experiments_are_swept_with_the_flag_anywhere(tmp_path: Path) -> None:
    mine, experiments = tmp_path / "mine", tmp_path / "mine" / "experiment"
    experiments.mkdir(parents=True)
    (mine / "optimizer").mkdir()
    (mine / "optimizer" / "adamw.yaml").write_text("defaults: [_adamw, _self_]\n")
    for name, rate in (("slow", 1e-4), ("fast", 1e-2)):
        (experiments / f"{name}.yaml").write_text(f"# @package _global_\noptimizer:\n  lr: {rate}\n")
    options = ("model=linear,mlp", "-m", *WORDS[1:], "--config-dir", "mine", "experiment=choice(slow,fast)")
    directory, output = sweep(tmp_path, *options)
    made = [(config(run)["options"]["model"], config(run)["optimizer"]["lr"]) for run in jobs(directory)]
    assert made == [("linear", 1e-4), ("linear", 1e-2), ("mlp", 1e-4), ("mlp", 1e-2)]
    assert {(row["model"], row["experiment"]) for row in results(directory)} == {
        (model, name) for model in ("linear", "mlp") for name in ("slow", "fast")
    }
    assert output.splitlines()[0] == "config    mine/optimizer/adamw.yaml in place of the packaged one"
    assert "model" in next(line for line in output.splitlines() if line.startswith("job"))


@pytest.mark.parametrize(
    ("swept", "words"),
    [
        ("optimizer.lr=1e-2,fast", "optimizer.lr=fast: expected float"),
        ("optimizer.lr=1e-2,-1", "optimizer.lr=-1.0: must be > 0"),
        ("model=linear,cnnn", "Did you mean 'cnn'?"),
        ("optimizer.lrr=1e-2,1e-3", "Did you mean 'optimizer.lr'?"),
        ("+optimizer.foo=1,2", "optimizer.foo"),
        ("resume=last,best", "resume="),
    ],
)
def test_a_mistake_in_any_job_is_found_before_the_first_one_starts(
    swept: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run("train", ["-m", *WORDS[1:], swept]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert words in printed.err
    assert list(tmp_path.iterdir()) == []


FRAGILE_MODEL = '''
from dataclasses import dataclass

from torch import nn

from trainer import key, register
from trainer.config.model import ModelConfig


@register("model", "fragile")
@dataclass
class Fragile(ModelConfig):
    """A model that cannot be built 13 wide."""

    width: int = key(4, "of the hidden layer")

    def build(self, spec):
        if self.width == 13:
            raise RuntimeError("13 is bad luck")
        return nn.Sequential(nn.Linear(spec.features, self.width), nn.Linear(self.width, spec.outputs))
'''


def test_a_job_that_fails_does_not_take_the_others_down(tmp_path: Path) -> None:
    (tmp_path / "fragile.py").write_text(FRAGILE_MODEL)
    directory, output = sweep(
        tmp_path, "--import", "fragile.py", "-m", "model=fragile", "model.width=4,13,8", *WORDS[1:], code=1
    )
    status = {row["model.width"]: row["status"] for row in results(directory)}
    assert status == {"4": "completed", "13": "failed", "8": "completed"}
    assert results(directory)[-1]["model.width"] == "13"
    log = (directory / "1" / "train.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert "RuntimeError: 13 is bad luck" in log
    assert "Traceback" not in (directory / "2" / "train.log").read_text()
    failed = next(line for line in output.splitlines() if line.startswith("[2/3]"))
    assert "model.width=13" in failed
    assert "failed: RuntimeError: 13 is bad luck" in failed
    assert f"{directory.name}/1/train.log" in failed


def test_a_signal_stops_a_sweep_and_keeps_the_results_so_far(tmp_path: Path) -> None:
    process = start_trainer(tmp_path, "train", "-m", *WORDS, "trainer.steps=3,5000000,6", "trainer.log_every=50")
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert "3 runs in" in first
        directory = tmp_path / first.split()[-1]
        recorded = directory / "1" / "metrics.jsonl"
        wait_until(lambda: recorded.exists() and recorded.stat().st_size, process)
        process.send_signal(signal.SIGTERM)
    finally:
        done = finish(process, code=143)
    assert "Traceback" not in done.stderr
    status = {row["trainer.steps"]: row["status"] for row in results(directory)}
    assert status == {"3": "completed", "5000000": "stopped", "6": "not started"}
    stopped = json.loads((directory / "1" / "summary.json").read_text())
    last = json.loads((directory / "1" / "checkpoints" / "last" / "manifest.json").read_text())
    assert last["step"] == stopped["steps"] > 0
    assert not (directory / "2").exists()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The directories of two sweeps that were started at the same time, in the order of their names."""
    folder = tmp_path_factory.mktemp("pair")
    overrides = ("model=mlp", "model.hidden=[4],[8,4]", "seed=range(0,2)", *WORDS[1:])
    both = [start_trainer(folder, "train", "--multirun", *overrides) for _ in range(2)]
    printed = [finish(process).stdout for process in both]
    directories = sorted((folder / "outputs").glob("*/*-sweep"))
    assert [sum(directory.name in output for output in printed) for directory in directories] == [1, 1]
    return directories


def test_two_sweeps_at_once_do_not_share_a_directory(pair: list[Path]) -> None:
    for directory in pair:
        assert [run.name for run in jobs(directory)] == ["0", "1", "2", "3"]
        assert [row["status"] for row in results(directory)] == ["completed"] * 4
    assert [rows(run) for run in jobs(pair[0])] == [rows(run) for run in jobs(pair[1])]


def test_ranges_and_lists_are_understood(pair: list[Path]) -> None:
    made = [(config(run)["model"]["hidden"], config(run)["seed"]) for run in jobs(pair[0])]
    assert made == [([4], 0), ([4], 1), ([8, 4], 0), ([8, 4], 1)]


def test_folds_and_seeds_are_averaged_for_each_setting(tmp_path):
    directory, output = sweep(
        tmp_path, "-m", "data.folds=3", "data.fold=0,1,2", "optimizer.lr=0.1,0.01", "trainer.epochs=1", *WORDS[:3]
    )
    with open(directory / "means.csv", encoding="utf-8", newline="") as file:
        means = {row["optimizer.lr"]: row for row in csv.DictReader(file)}
    assert means.keys() == {"0.1", "0.01"}
    for lr, row in means.items():
        scores = [float(job["best"]) for job in results(directory) if job["optimizer.lr"] == lr]
        assert row["runs"] == "3"
        assert float(row["best_mean"]) == pytest.approx(statistics.mean(scores))
        assert float(row["best_std"]) == pytest.approx(statistics.stdev(scores))
    assert "mean ± std over data.fold" in output
    validated = [config(run)["data"]["fold"] for run in jobs(directory)]
    assert sorted(validated) == [0, 0, 1, 1, 2, 2]


def test_a_sweep_over_settings_alone_has_no_means(tmp_path):
    directory, output = sweep(tmp_path, "-m", "optimizer.lr=0.1,0.01", *WORDS)
    assert not (directory / "means.csv").exists()
    assert "mean ±" not in output
