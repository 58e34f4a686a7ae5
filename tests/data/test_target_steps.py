"""A transform of the target: what is learned is the transformed, what is predicted and scored is in its own unit."""

import json
import math
import random
from pathlib import Path

import pytest
import torch
from support import run_trainer, the_run

from trainer.config.table import Csv
from trainer.data.target_steps import LOG1P, SCALE, apply_steps, undo_steps
from trainer.errors import ConfigError
from trainer.runs.build import build_data
from trainer.runs.loading import load_model


def table(folder: Path) -> Path:
    draw = random.Random(0)
    path = folder / "table.csv"
    lines = [f"{(a := draw.gauss(0, 1)):.4f},{math.exp(2 * a + 3):.6g}" for _ in range(300)]
    path.write_text("\n".join(["a,price", *lines]) + "\n")
    return path


def test_what_is_done_is_undone() -> None:
    steps = ((LOG1P, 0.0, 1.0), (SCALE, 2.0, 3.0))
    values = torch.tensor([[-5.0], [0.0], [0.25], [1e6]])
    assert apply_steps(values, steps)[1].item() == pytest.approx(-2 / 3)
    torch.testing.assert_close(undo_steps(apply_steps(values, steps), steps), values)
    assert torch.isfinite(undo_steps(torch.tensor([[1e9]]), steps)).all()
    assert apply_steps(values, ()) is values


def test_the_steps_are_fitted_on_the_training_rows(tmp_path: Path) -> None:
    data = build_data(Csv(path=str(table(tmp_path)), target="price", transforms={"price": ["log1p", "standardize"]}), 0)
    (log, (name, centre, width)) = data.spec.target_steps
    logs = data.train.targets.log1p()
    assert (log[0], name) == (LOG1P, SCALE)
    assert (centre, width) == (
        pytest.approx(logs.mean().item(), rel=1e-5),
        pytest.approx(logs.std(correction=0).item(), rel=1e-5),
    )
    assert data.spec.target_mean == (pytest.approx(0, abs=1e-5),)
    assert data.train.targets.max() > 100, "in its own unit"


@pytest.mark.parametrize("chain", [["quantile"], ["clip"], ["log1p", "missing_indicator"]])
def test_what_cannot_be_undone_is_refused(tmp_path: Path, chain: list[str]) -> None:
    with pytest.raises(
        ConfigError, match=r"data\.transforms\.price: .* of the target cannot be undone; there are log1p"
    ):
        build_data(Csv(path=str(table(tmp_path)), target="price", transforms={"price": chain}), 0)
    (tmp_path / "c.csv").write_text("a,y\n" + "1,u\n2,v\n" * 20)
    with pytest.raises(ConfigError, match=r"data\.transforms\.y: the target is classes"):
        build_data(Csv(path=str(tmp_path / "c.csv"), target="y", transforms={"y": ["log1p"]}), 0)


def test_a_run_learns_the_logarithm_and_predicts_the_price(tmp_path: Path) -> None:
    words = ("data=csv", f"data.path={table(tmp_path)}", "data.target=price", "model=linear", "optimizer.lr=0.1")
    done = run_trainer(tmp_path, "train", *words, "data.transforms.price=[log1p]", "trainer.epochs=30")
    assert "log1p: what is learned; it is predicted in its own unit" in done.stdout
    run = the_run(tmp_path)
    scores = json.loads(run_trainer(tmp_path, "evaluate", str(run), "table.csv", "--json").stdout)
    assert scores["loss"] < 0.1, "of logarithms"
    assert scores["rmse"] > 1, "of prices"
    assert scores["r2"] > 0.7
    inputs = torch.zeros(1, 1)
    assert load_model(run)(inputs).item() == pytest.approx(math.exp(3), rel=0.3), "a price, not its logarithm"
    again = run_trainer(tmp_path, "train", f"resume={run}", "trainer.epochs=31")
    assert "resumed at step" in again.stdout
