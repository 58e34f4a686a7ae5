"""Saving in the background: from a copy that holds still, with errors that come to light."""

import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from trainer.checkpoint.snapshot import Snapshot
from trainer.checkpoint.store import Store
from trainer.config.durations import RunLength
from trainer.config.scheduler import ConstantLR
from trainer.errors import TrainerError
from trainer.runs.build import build_schedule
from trainer.training.average import average_of
from trainer.training.state import TrainState
from trainer.training.stopping import Monitor


def test_a_copy_holds_still_while_the_state_moves_on() -> None:
    weight = torch.arange(6.0)
    taken = Snapshot().take({"a": [weight, ("x", {"b": weight[2:4]})], "n": 3, "none": None})
    weight.zero_()
    assert taken["a"][0].tolist() == [0, 1, 2, 3, 4, 5]
    assert taken["a"][1][1]["b"].tolist() == [2, 3]
    assert (type(taken["a"][1]), taken["n"], taken["none"]) == (tuple, 3, None)


def test_the_next_copy_takes_the_same_memory_and_what_has_another_form_takes_new() -> None:
    snapshot, weight = Snapshot(), torch.ones(8)
    first = snapshot.take({"w": weight})["w"]
    weight.fill_(2)
    second = snapshot.take({"w": weight})["w"]
    assert second.data_ptr() == first.data_ptr() and second.tolist() == [2] * 8
    assert snapshot.take({"w": torch.ones(9)})["w"].shape == (9,)
    assert snapshot.take({"w": torch.ones(9, dtype=torch.float64)})["w"].dtype == torch.float64


def test_the_layout_in_memory_is_copied() -> None:
    image = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    taken = Snapshot().take(image)
    assert taken.stride() == image.stride() and torch.equal(taken, image)


@pytest.mark.parametrize("saved_as", [torch.channels_last, torch.contiguous_format])
def test_moments_are_loaded_into_the_layout_of_their_parameter(saved_as: torch.memory_format) -> None:
    def state(memory_format: torch.memory_format) -> TrainState:
        torch.manual_seed(0)
        model = nn.Conv2d(3, 4, 3).to(memory_format=memory_format)
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        schedule, scaler = build_schedule(ConstantLR(), RunLength(1, 9)), torch.amp.GradScaler("cpu", enabled=False)
        return TrainState(model, optimizer, schedule, scaler, Monitor("val/loss", "min"), average_of(model, None))

    def step(one: TrainState) -> None:
        one.model(torch.arange(150.0).reshape(2, 3, 5, 5) / 150).square().mean().backward()
        one.optimizer.step()
        one.optimizer.zero_grad()

    other = torch.contiguous_format if saved_as is torch.channels_last else torch.channels_last
    before, after = state(saved_as), state(other)
    step(before)
    after.load_state_dict(Snapshot().take(before.state_dict(1)))
    weight = after.model.weight
    assert after.optimizer.state[weight]["exp_avg"].stride() == weight.stride()
    step(before), step(after)
    torch.testing.assert_close(weight, before.model.weight)


def payload(step: int, weight: torch.Tensor) -> dict[str, object]:
    return {"step": step, "weight": weight}


def test_a_save_does_not_hold_training_up_and_keeps_what_was_there_when_it_began(tmp_path: Path) -> None:
    store = Store(tmp_path)
    weight, began = torch.zeros(10), time.monotonic()
    store.save(payload(1, weight), {"step": 1}, False, lambda payload: time.sleep(0.5))
    assert time.monotonic() - began < 0.4
    weight.fill_(7)
    store.save(payload(2, weight), {"step": 2}, best=True)  # waits for the first: there is memory for one copy
    assert time.monotonic() - began > 0.5
    weight.fill_(8)
    assert store.load("last")[0]["weight"].tolist() == [7] * 10
    assert store.load("step-00000001")[0]["weight"].tolist() == [0] * 10
    assert store.seconds > 0.4


def test_what_a_save_meets_is_raised_once_by_the_next_look(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "checkpoints")
    store.save(payload(1, torch.zeros(1)), {}, best=False)
    store.join()
    with pytest.raises(TrainerError, match=r"cannot be written .*free"):
        store.check()
    store.check()


def test_what_is_done_before_a_save_sees_the_copy_and_can_prevent_it(tmp_path: Path) -> None:
    store, weight, seen = Store(tmp_path), torch.zeros(1), []

    def refuse(saved: dict[str, torch.Tensor]) -> None:
        time.sleep(0.1)
        seen.append((saved["weight"].item(), threading.current_thread() is threading.main_thread()))
        raise ValueError("not this one")

    store.save(payload(1, weight), {}, False, refuse)
    weight.fill_(7)
    with pytest.raises(ValueError, match="not this one"):
        store.wait()
    assert seen == [(0, False)] and store.steps() == []
    store.save(payload(2, weight), {}, best=False)  # it was asked for one save only
    assert store.load()[0]["weight"].tolist() == [7]


def test_a_state_that_could_not_be_loaded_again_is_an_error_of_the_first_save(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(payload(1, torch.zeros(1)) | {"path": tmp_path}, {}, best=False)
    with pytest.raises(TrainerError, match="only tensors and plain data are loaded"):
        store.wait()
    assert not (tmp_path / "last").exists()
