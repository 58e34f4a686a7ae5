"""The pruner of a trial decides as Optuna's own would in one study that nothing interrupts."""

import json
import random
from pathlib import Path

import optuna
import pytest
from sweeps.sweeping import results, sweep

from trainer.config.sweep import OptunaSweep
from trainer.sweeps.definition import Definition
from trainer.sweeps.directory import SweepDirectory
from trainer.sweeps.pruning import SweepPruner

TRIALS, VALIDATIONS = 24, 10
PRUNERS = {
    "median": optuna.pruners.MedianPruner(n_startup_trials=5),
    "asha": optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    "hyperband": optuna.pruners.HyperbandPruner(min_resource=1, reduction_factor=3),
    "wilcoxon": optuna.pruners.WilcoxonPruner(),
}


def curve(number: int) -> list[float]:
    """The accuracies of a trial after each validation."""
    draw = random.Random(number)
    top, noise = draw.random(), 0.05
    return [top * (1 - 0.6**i) + noise * draw.random() for i in range(1, VALIDATIONS + 1)]


@pytest.mark.parametrize(
    "kind", ["median", "asha", *(pytest.param(kind, marks=pytest.mark.full) for kind in ("hyperband", "wilcoxon"))]
)
def test_it_decides_as_optuna_does(kind: str, tmp_path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    words = ["optimizer.lr=interval(0.1,1)"]
    definition = Definition.make(OptunaSweep(pruner=kind, trials=TRIALS), words, (), ())
    study = optuna.create_study(pruner=PRUNERS[kind], study_name="sweep", sampler=optuna.samplers.RandomSampler(seed=1))
    pruned = []
    for number in range(TRIALS):
        run = tmp_path / f"{number:03d}"
        run.mkdir()
        (run / "config.yaml").touch()
        trial, status, rows = study.ask(), "completed", []
        pruner = SweepPruner(SweepDirectory(tmp_path, definition), number)
        for position, score in enumerate(curve(number), start=1):
            trial.report(-score, position)
            expected = trial.should_prune()
            assert pruner.observe("val/accuracy", "max", 50 * position, score) == expected, (number, position)
            rows.append({"step": 50 * position, "val/accuracy": score})
            (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            if expected:
                status = "pruned"
                break
        pruned.append(status == "pruned")
        best = max(row["val/accuracy"] for row in rows)
        (run / "summary.json").write_text(json.dumps({"status": status, "best": {"value": best, "mode": "max"}}))
        study.tell(trial, *([None, optuna.trial.TrialState.PRUNED] if pruned[-1] else [-best]))
    assert 0 < sum(pruned) < TRIALS


def test_a_pruned_trial_stops_early_and_counts_as_finished(tmp_path: Path) -> None:
    words = ("optimizer.lr=tag(log,interval(1e-5,1))", "model=linear", "data=synthetic", "data.num_samples=200")
    options = ("trainer.epochs=9", "sweep=optuna", "sweep.trials=7", "sweep.pruner=asha", "sweep.sampler=random")
    directory, output = sweep(tmp_path, "-m", *words, *options)
    status = [row["status"] for row in results(directory)]
    assert set(status) == {"completed", "pruned"}
    stopped = next(row for row in results(directory) if row["status"] == "pruned")
    summary = json.loads((tmp_path / stopped["directory"] / "summary.json").read_text())
    assert summary["steps"] < summary["total_steps"] == 27
    assert f"{int(stopped['trial']):03d} optimizer.lr={stopped['optimizer.lr']}" in output
    assert "  pruned" in output
