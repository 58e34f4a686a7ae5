"""Out of memory: named with what to set, or halved away with the same result."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from messages import heard
from torch import Tensor, nn

from trainer import Config, Run, Trainer, assemble
from trainer.config.data import Synthetic
from trainer.config.model import ModelConfig
from trainer.config.optimizer import SGD
from trainer.config.trainer import TrainerConfig
from trainer.data.types import DataSpec
from trainer.errors import TrainerError


class Greedy(nn.Module):
    """Asks the allocator for a petabyte where it is given more samples than `most`; dropout draws from each batch."""

    def __init__(self, features: int, outputs: int, most: int) -> None:
        super().__init__()
        self.linear, self.most = nn.Linear(features, outputs), most
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += len(x)
        if len(x) > self.most:
            torch.empty(1 << 50)
        return self.linear(x)


@dataclass
class GreedyConfig(ModelConfig):
    most: int = 1 << 30

    def build(self, spec: DataSpec) -> nn.Module:
        return Greedy(spec.features, spec.outputs, self.most)


def config_of(most: int, **settings: object) -> Config:
    return Config(
        model=GreedyConfig(most=most),
        data=Synthetic(num_samples=96, batch_size=16, eval_batch_size=4),
        optimizer=SGD(lr=0.1, momentum=0.9),
        trainer=TrainerConfig(**({"epochs": 2, "device": "cpu"} | settings)),
    )


def trained(most: int, **settings: object) -> tuple[Trainer, list[str]]:
    trainer = assemble(config_of(most, **settings))
    with heard() as said:
        trainer.fit()
    return trainer, said


def test_a_full_device_is_named_with_the_batch_and_what_to_set() -> None:
    with pytest.raises(
        TrainerError, match=r"cpu is out of memory in step 1, with 16 samples of 10 at a time"
    ) as caught:
        trained(most=5)
    assert "trainer.micro_batch=8" in str(caught.value)
    assert "trainer.auto_micro_batch=true" in str(caught.value)
    assert caught.value.exit_code == 1


def test_the_micro_batch_is_halved_until_it_fits_and_the_result_is_the_same_to_rounding() -> None:
    free, _ = trained(most=1 << 30)
    tight, said = trained(most=5, auto_micro_batch=True)
    assert said == ["cpu is out of memory; from here on 4 samples at a time."]
    assert tight.state.micro_batch == 4
    for name, value in free.state.model.state_dict().items():
        torch.testing.assert_close(tight.state.model.state_dict()[name], value, msg=name)
    # What the attempts that failed did to buffers is undone: each training sample was seen once in each epoch.
    assert float(tight.state.model.state_dict()["seen"]) == 2 * len(tight.train.targets)


def test_a_sample_too_many_cannot_be_halved() -> None:
    with pytest.raises(TrainerError, match="even one sample is too much; use a smaller model"):
        trained(most=0, auto_micro_batch=True)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [4, 4, 4, 4]),  # what the first process had to find out is not found out again
        ({"micro_batch": 2}, [2] * 8),
        ({"auto_micro_batch": False, "micro_batch": 5}, [5, 5, 5, 1]),
        ({"auto_micro_batch": False}, [16]),
    ],
)
def test_what_a_resumed_run_is_given_counts_beside_what_memory_has_left(
    tmp_path: Path, settings: dict[str, object], expected: list[int]
) -> None:
    run = Run.at(tmp_path / "run")
    run.config.touch()  # a config of a class that is registered nowhere
    assemble(config_of(5, auto_micro_batch=True, steps=1), run).fit()
    again = assemble(config_of(16, **({"auto_micro_batch": True, "steps": 2} | settings)), run, resume="last")
    sizes: list[int] = []
    again.state.model.register_forward_hook(lambda model, inputs, outputs: sizes.append(len(outputs)))
    next(again.steps())
    assert sizes == expected
    run.release()


def test_a_network_of_a_petabyte_is_refused_before_a_run_begins(train) -> None:
    said = train("model=mlp", "model.hidden=[1000000000000]", "data=synthetic", code=2).stderr
    assert said.count("\n") == 1
    assert "memory" in said
