"""What is saved: a state dict that plain torch reads and that fits only its own network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trainer.config.durations import RunLength
from trainer.config.scheduler import PlateauLR
from trainer.errors import CheckpointError
from trainer.runs.build import build_schedule
from trainer.training.average import average_of
from trainer.training.state import TrainState
from trainer.training.stopping import Monitor


def network(hidden: int = 5) -> nn.Module:
    return nn.Sequential(nn.Linear(4, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 3))


def state(hidden: int = 5, optimizer: str = "AdamW", steps: int = 0, ema: bool = True) -> TrainState:
    torch.manual_seed(hidden)
    model = network(hidden)
    made = TrainState(
        model=model,
        optimizer=getattr(torch.optim, optimizer)(model.parameters(), lr=0.1),
        schedule=build_schedule(PlateauLR(patience=0), RunLength(10, 100)),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        monitor=Monitor("val/loss", "min", patience=9),
        average=average_of(model, 0.5 if ema else None),
    )
    for _ in range(steps):
        train_a_step(made)
    return made


def train_a_step(made: TrainState) -> None:
    made.optimizer.zero_grad()
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(made.step))
    made.schedule.apply(made.optimizer, made.step)
    made.model(inputs).square().sum().backward()
    made.optimizer.step()
    made.average.update(made.model)
    made.step += 1
    made.schedule.observe(float(made.step), "min")
    made.monitor.observe(float(made.step), made.step)
    made.train_sums = torch.full((3,), float(made.step), dtype=torch.float64)
    made.scores = {"val/loss": float(made.step)}


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_the_state_dict_has_the_usual_keys() -> None:
    saved = state(steps=23).state_dict(steps_per_epoch=10)
    assert {"epoch", "step", "model_state_dict", "optimizer_state_dict", "scores"} <= saved.keys()
    assert (saved["epoch"], saved["step"], saved["scores"]) == (2, 23, {"val/loss": 23.0})
    assert equal(saved["model_state_dict"], state(steps=23).model.state_dict())


def test_plain_torch_loads_it_without_running_code(tmp_path: Path) -> None:
    saved = state(steps=3).state_dict(10)
    torch.save(saved, tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    assert equal(loaded, saved)
    plain = network()
    plain.load_state_dict(loaded["model_state_dict"])
    torch.optim.AdamW(plain.parameters()).load_state_dict(loaded["optimizer_state_dict"])


def test_a_restored_state_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    torch.save(state(steps=4).state_dict(10), tmp_path / "state.pt")
    resumed, straight = state(), state(steps=7)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(3):
        train_a_step(resumed)
    assert equal(resumed.state_dict(10), straight.state_dict(10))


def test_averaging_that_starts_on_resuming_starts_from_the_weights_there_are() -> None:
    saved, resumed = state(steps=4, ema=False).state_dict(10), state(ema=True)
    resumed.load_state_dict(saved)
    assert equal(resumed.evaluated.state_dict(), saved["model_state_dict"])


def test_another_architecture_is_refused() -> None:
    with pytest.raises(CheckpointError, match="does not fit this model"):
        state(hidden=6).load_state_dict(state(hidden=5, steps=1).state_dict(10))


def test_another_number_of_parameters_is_refused() -> None:
    other = state()
    other.optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(2))], lr=0.1)
    with pytest.raises(CheckpointError, match="does not fit"):
        other.load_state_dict(state(steps=1).state_dict(10))


@pytest.mark.parametrize("key", ["model_state_dict", "optimizer_state_dict", "step", "tally", "monitor", "scores"])
def test_a_checkpoint_that_lacks_something_is_refused(key: str) -> None:
    saved = state(steps=1).state_dict(10)
    del saved[key]
    with pytest.raises(CheckpointError, match=key):
        state().load_state_dict(saved)


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "step"])
def test_an_optimizer_memory_that_lacks_what_it_will_look_up_is_refused(name: str) -> None:
    saved = state(steps=1).state_dict(10)
    memory = saved["optimizer_state_dict"]["state"][1]
    memory["renamed"] = memory.pop(name)
    with pytest.raises(CheckpointError, match=f"does not fit.*{name}"):
        state().load_state_dict(saved)


def test_the_network_to_use_is_the_one_that_decided() -> None:
    made = state(ema=True)
    assert made.evaluated is made.model
    made.weights = "average"
    assert made.evaluated is made.average.module is not made.model
    restored = state(ema=True)
    restored.load_state_dict(made.state_dict(10))
    assert restored.evaluated is restored.average.module
    without = state(ema=False)
    without.load_state_dict(made.state_dict(10))  # it no longer keeps an average
    assert without.evaluated is without.model


@pytest.mark.parametrize(("ema", "weights"), [(True, "average"), (False, "model")])
def test_a_state_of_an_older_version_uses_the_average_where_there_was_one(ema: bool, weights: str) -> None:
    saved, made = state(steps=4, ema=ema).state_dict(10), state(ema=ema)
    for name in ("weights", "epoch_sums", "sums_epoch"):
        del saved[name]
    made.load_state_dict(saved)
    assert (made.weights, made.epoch_sums, made.step) == (weights, None, 4)
