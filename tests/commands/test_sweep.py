"""`train -m`: every trial is a whole run, mistakes stop them all, failures only themselves, and it ends in a table."""

import json
import re
import statistics
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support import TINY, rows, run_trainer
from sweeps.sweeping import WORDS, config, results, sweep, train, trials

GRID = [("0.01", "0"), ("0.01", "1"), ("0.001", "0"), ("0.001", "1")]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return sweep(tmp_path_factory.mktemp("grid"), "-m", "optimizer.lr=1e-2,1e-3", "seed=0,1", *WORDS, "sweep.jobs=2")


def test_every_combination_is_a_whole_run_with_its_own_config(grid: tuple[Path, str]) -> None:
    directory, _ = grid
    runs = trials(directory)
    assert [run.name for run in runs] == ["000", "001", "002", "003"]
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
        assert not (run / "output.log").exists()
    others = {path.name for path in directory.iterdir()} - {run.name for run in runs}
    assert others == {"sweep.yaml", "results.csv", "results.json", "means.csv"}


def test_the_results_are_a_table_with_the_best_first(grid: tuple[Path, str]) -> None:
    directory, _ = grid
    found = results(directory)
    assert sorted((row["optimizer.lr"], row["seed"]) for row in found) == sorted(GRID)
    scores = [float(row["best"]) for row in found]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 1
    for row in found:
        assert (row["optimizer.lr"], row["seed"]) == GRID[int(row["trial"])]
        assert (row["status"], row["metric"]) == ("completed", "val/accuracy")
        summary = json.loads((directory / f"{int(row['trial']):03d}" / "summary.json").read_text())
        assert float(row["best"]) == summary["best"]["value"]
        assert row["directory"].endswith(f"{directory.name}/{int(row['trial']):03d}")
    plain = json.loads((directory / "results.json").read_text())
    assert [str(row["trial"]) for row in plain["trials"]] == [row["trial"] for row in found]
    assert plain["best"]["trial"] == int(found[0]["trial"])


def test_the_screen_shows_each_event_the_leaderboard_and_the_way_on(grid: tuple[Path, str]) -> None:
    directory, output = grid
    lines = output.splitlines()
    assert re.match(rf"sweep +4 trials in outputs/.*{directory.name}, 2 at a time", lines[0])
    assert re.match(rf"resume +train resume=outputs/.*{directory.name}", lines[1])
    head = next(i for i, line in enumerate(lines) if line.startswith("trial"))
    assert "data.num_samples" not in lines[head]
    assert lines[head].split()[:5] == ["trial", "optimizer.lr", "seed", "best", "val/accuracy"]
    shown = [line.split()[:3] for line in lines[head + 1 : head + 5]]
    expected = [[f"{int(row['trial']):03d}", row["optimizer.lr"], row["seed"]] for row in results(directory)]
    assert shown == expected
    assert [line[:5] for line in lines if line.startswith("[")] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    best = results(directory)[0]["directory"]
    assert any(line.startswith("best ") and line.endswith(best) for line in lines)
    assert f"next      trainer evaluate {best}" in lines


def test_a_trial_gives_the_same_metrics_as_its_config_alone(grid: tuple[Path, str], tmp_path: Path) -> None:
    directory, _ = grid
    train(tmp_path, *WORDS, "optimizer.lr=1e-3", "seed=1")
    [alone] = (path.parent for path in tmp_path.glob("outputs/*/*/config.yaml"))
    assert rows(alone) == rows(directory / "003")
    assert rows(alone) != rows(directory / "002")
    assert config(alone) == config(directory / "003")


def test_the_hyperparameters_of_tensorboard_are_those_that_were_swept(grid: tuple[Path, str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    directory, _ = grid
    events = EventAccumulator(str(directory / "001" / "tensorboard"))
    events.Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    shown = HParamsPluginData.FromString(content).session_start_info.hparams
    assert {name: value.number_value for name, value in shown.items()} == {"optimizer.lr": 0.01, "seed": 1}


def test_groups_and_experiments_are_swept_with_the_flag_anywhere(tmp_path: Path) -> None:
    mine, experiments = tmp_path / "mine", tmp_path / "mine" / "experiment"
    experiments.mkdir(parents=True)
    (mine / "optimizer").mkdir()
    (mine / "optimizer" / "adamw.yaml").write_text("defaults: [_adamw, _self_]\n")
    for name, rate in (("slow", 1e-4), ("fast", 1e-2)):
        (experiments / f"{name}.yaml").write_text(f"# @package _global_\noptimizer:\n  lr: {rate}\n")
    options = ("model=linear,mlp", "-m", *WORDS[1:], "--config-dir", "mine", "experiment=choice(slow,fast)")
    directory, output = sweep(tmp_path, *options)
    made = [(config(run)["options"]["model"], config(run)["optimizer"]["lr"]) for run in trials(directory)]
    assert made == [("linear", 1e-4), ("linear", 1e-2), ("mlp", 1e-4), ("mlp", 1e-2)]
    assert {(row["model"], row["experiment"]) for row in results(directory)} == {
        (model, name) for model in ("linear", "mlp") for name in ("slow", "fast")
    }
    assert output.splitlines()[0] == "config    mine/optimizer/adamw.yaml in place of the packaged one"
    assert "model" in next(line for line in output.splitlines() if line.startswith("trial"))


@pytest.mark.parametrize(
    ("swept", "words"),
    [
        ("optimizer.lr=1e-2,fast", "optimizer.lr=fast: expected float"),
        ("optimizer.lr=1e-2,-1", "optimizer.lr=-1.0: must be > 0"),
        ("model=linear,cnnn", "Did you mean 'cnn'?"),
        ("optimizer.lrr=1e-2,1e-3", "Did you mean 'optimizer.lr'?"),
        ("+optimizer.foo=1,2", "optimizer.foo"),
        ("resume=last,best", "resume="),
        ("hydra/launcher=joblib", "sweep.engine and sweep.jobs"),
    ],
)
def test_a_mistake_in_any_trial_is_found_before_the_first_one_starts(swept: str, words: str, tmp_path: Path) -> None:
    output, error = train(tmp_path, "-m", *WORDS[1:], swept, code=2)
    assert output == ""
    assert error.startswith("error: ")
    assert words in error
    assert list(tmp_path.iterdir()) == []


def test_a_key_of_a_sweep_needs_one(tmp_path: Path) -> None:
    assert "add -m" in train(tmp_path, *WORDS, "sweep.trials=3", code=2)[1]
    assert "add -m" in train(tmp_path, *WORDS, "--dry-run", code=2)[1]


def test_a_dry_run_prints_the_trials_and_makes_nothing(tmp_path: Path) -> None:
    output, _ = train(tmp_path, "-m", "optimizer.lr=0.1,0.01", "sweep.seeds=2", "seed=3", *WORDS, "--dry-run")
    lines = [line.split() for line in output.splitlines()]
    assert lines[0] == ["trial", "optimizer.lr", "seed"]
    assert lines[1:5] == [["000", "0.1", "3"], ["001", "0.1", "4"], ["002", "0.01", "3"], ["003", "0.01", "4"]]
    assert list(tmp_path.iterdir()) == []


def test_a_row_tells_what_its_trial_was_trained_with_however_values_were_shuffled(tmp_path: Path) -> None:
    directory, _ = sweep(tmp_path, "-m", "optimizer.lr=shuffle(1e-1,1e-2,1e-3,1e-4)", *WORDS, "sweep.jobs=2")
    real = {int(run.name): config(run)["optimizer"]["lr"] for run in trials(directory)}
    assert {int(row["trial"]): float(row["optimizer.lr"]) for row in results(directory)} == real
    assert list(real.values()) != sorted(real.values(), reverse=True)


ENDINGS = '''
import os
import time
from dataclasses import dataclass

from torch import nn

from trainer import key, register
from trainer.config.model import ModelConfig


@register("model", "fragile")
@dataclass
class Fragile(ModelConfig):
    """A model that ends in many ways."""

    how: str = key("fine", "it ends")

    def build(self, spec):
        if self.how == "raise":
            raise RuntimeError("[bold]13[/] is bad luck")
        if self.how == "abort":
            os.abort()
        if self.how == "exit":
            os._exit(3)
        if self.how == "memory":
            import resource

            with open("/proc/self/statm") as file:
                limit = int(file.read().split()[0]) * resource.getpagesize() + (200 << 20)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            leak = []
            while True:
                leak.append(bytearray(32 << 20))
        while self.how == "hang":
            try:
                time.sleep(1000)
            except BaseException:
                pass
        return nn.Linear(spec.features, spec.outputs)
'''


def test_a_trial_that_ends_badly_is_shown_with_its_reason_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "fragile.py").write_text(ENDINGS)
    ends = ("fine", "raise", "abort", "exit", "memory", "hang", "well")
    words = (f"model.how={','.join(ends)}", *WORDS[1:], "sweep.jobs=2", "sweep.trial_max_time=4s")
    done = run_trainer(tmp_path, "train", "--import", "fragile.py", "-m", "model=fragile", *words, code=1)
    assert done.stderr == ""
    [file] = tmp_path.glob("**/results.csv")
    found = {row["model.how"]: row for row in results(file.parent)}
    assert {how: row["status"] for how, row in found.items()} == {
        how: "completed" if how in ("fine", "well") else "failed" for how in ends
    }
    reasons = {
        "raise": "RuntimeError: [bold]13[/] is bad luck",
        "abort": "crashed with SIGABRT",
        "exit": "exit code 3",
        "memory": "not enough memory",
        "hang": "sweep.trial_max_time=4s",
    }
    for how, reason in reasons.items():
        assert reason in found[how]["reason"]
        event = next(line for line in done.stdout.splitlines() if f"model.how={how} " in line and line[0] == "[")
        assert reason in event
        assert found[how]["directory"] in event
    log = (file.parent / "001" / "train.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert "sweep.retry=failed" in done.stdout
    again = run_trainer(tmp_path, "train", f"resume={file.parent.relative_to(tmp_path)}", code=2)
    assert "was started with --import fragile.py" in again.stderr
    before = file.read_text()
    again = run_trainer(
        tmp_path, "train", "--import", "fragile.py", f"resume={file.parent.relative_to(tmp_path)}", code=1
    )
    assert "[" not in again.stdout, "failed trials are not run again unless that is asked for"
    assert file.read_text() == before


def test_failed_trials_are_run_again_when_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "fragile.py").write_text(ENDINGS.replace('self.how == "raise"', 'not os.path.exists("mended")'))
    words = ("-m", "model=fragile", "seed=0,1", *WORDS[1:], "sweep.dir=mine", "sweep.jobs=2")
    run_trainer(tmp_path, "train", "--import", "fragile.py", *words, code=1)
    (tmp_path / "mended").touch()
    run_trainer(tmp_path, "train", "--import", "fragile.py", "resume=mine", "sweep.retry=failed")
    assert [row["status"] for row in results(tmp_path / "mine")] == ["completed"] * 2
    assert (tmp_path / "mine" / "000" / "train.log").read_text().count("Traceback") == 1


def test_a_sweep_over_the_monitor_is_ranked_by_the_score_that_is_named(tmp_path: Path) -> None:
    words = (
        "trainer.monitor=val/loss,val/accuracy",
        "sweep.metric=val/loss",
        *WORDS,
        "trainer.epochs=4",
        "sweep.jobs=2",
    )
    directory, _ = sweep(tmp_path, "-m", *words, "optimizer.lr=0.3")
    found = results(directory)
    assert {row["metric"] for row in found} == {"val/loss"}
    for row in found:
        records = rows(directory / f"{int(row['trial']):03d}")
        [scored] = [record for record in records if record["step"] == int(row["best_step"])]
        assert float(row["best"]) == scored["val/loss"]
    assert float(found[0]["best"]) <= float(found[1]["best"])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The directories of two sweeps with the same words, in the order of their names."""
    folder = tmp_path_factory.mktemp("pair")
    for _ in range(2):
        train(folder, "--multirun", "model=mlp", "model.hidden=[4],[8,4]", "seed=range(0,2)", *WORDS[1:])
    return sorted((folder / "outputs").glob("*/*-sweep"))


def test_two_sweeps_do_not_share_a_directory(pair: list[Path]) -> None:
    assert len(pair) == 2
    for directory in pair:
        assert [run.name for run in trials(directory)] == ["000", "001", "002", "003"]
        assert [row["status"] for row in results(directory)] == ["completed"] * 4
    assert [rows(run) for run in trials(pair[0])] == [rows(run) for run in trials(pair[1])]


def test_ranges_and_lists_are_understood(pair: list[Path]) -> None:
    made = [(config(run)["model"]["hidden"], config(run)["seed"]) for run in trials(pair[0])]
    assert made == [([4], 0), ([4], 1), ([8, 4], 0), ([8, 4], 1)]
    assert {row["model.hidden"] for row in results(pair[0])} == {"[4]", "[8,4]"}


def test_folds_and_seeds_are_averaged_for_each_setting(tmp_path: Path) -> None:
    words = ("data.folds=3", "data.fold=0,1,2", "optimizer.lr=0.1,0.01", "trainer.epochs=1", *TINY, "sweep.jobs=2")
    directory, output = sweep(tmp_path, "-m", *words)
    means = {row["optimizer.lr"]: row for row in results(directory, "means.csv")}
    assert means.keys() == {"0.1", "0.01"}
    for lr, row in means.items():
        scores = [float(trial["best"]) for trial in results(directory) if trial["optimizer.lr"] == lr]
        assert row["runs"] == "3"
        assert float(row["best_mean"]) == pytest.approx(statistics.mean(scores))
        assert float(row["best_std"]) == pytest.approx(statistics.stdev(scores))
        assert float(row["best_ci95"]) == pytest.approx(4.302653 * statistics.stdev(scores) / 3**0.5, rel=1e-6)
    assert "mean ± std over data.fold" in output
    assert "3 pairs of data.fold" in output
    validated = [config(run)["data"]["fold"] for run in trials(directory)]
    assert sorted(validated) == [0, 0, 1, 1, 2, 2]


def test_a_sweep_over_settings_alone_has_no_means(tmp_path: Path) -> None:
    directory, output = sweep(tmp_path, "-m", "optimizer.lr=0.1,0.01", *WORDS)
    assert not (directory / "means.csv").exists()
    assert "mean ±" not in output


def test_several_scores_give_a_pareto_table_and_the_best_keep_their_weights(tmp_path: Path) -> None:
    words = ("optimizer.lr=1,0.1,0.0001", "sweep.metric=[loss,accuracy]", "sweep.keep=1", *WORDS, "trainer.epochs=3")
    directory, output = sweep(tmp_path, "-m", *words)
    found = results(directory)
    losses = [float(row["best"]) for row in found]
    assert [row["metric"] for row in found] == ["val/loss"] * 3
    assert losses == sorted(losses)
    points = [(-float(row["best"]), float(row["val/accuracy"])) for row in found]
    beaten = [any(a != b and a[0] >= b[0] and a[1] >= b[1] for a in points) for b in points]
    assert [row["pareto"] == "True" for row in found] == [not lost for lost in beaten]
    assert "pareto" in output
    kept = [run.name for run in trials(directory) if (run / "checkpoints").exists()]
    assert kept == [f"{int(found[0]['trial']):03d}"]
    assert all((run / "metrics.csv").exists() for run in trials(directory))
