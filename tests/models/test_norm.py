"""The normalisation of the networks that have a choice, and what micro-batches change of it."""

from dataclasses import dataclass

import pytest
import torch
from messages import heard
from torch import nn

from trainer import Config, assemble
from trainer.config.data import Synthetic, SyntheticImages
from trainer.config.model import Cnn, Mlp, ModelConfig, Tabular
from trainer.config.optimizer import SGD
from trainer.config.trainer import TrainerConfig
from trainer.data.types import DataSpec
from trainer.errors import ConfigError, TrainerError
from trainer.models.norm import BATCH_NORMS, norm_groups
from trainer.runs.build import build_network
from trainer.training.trainer import Trainer

IMAGES = DataSpec((3, 8, 8), 4, tuple("abcd"))
NUMBERS = DataSpec((6,), 2, tuple("ab"))
NETWORKS: list[tuple[ModelConfig, DataSpec]] = [
    (Cnn(norm="group", conv_dropout=0, dropout=0), IMAGES),
    (Mlp(norm="group"), NUMBERS),
    (Mlp(norm="group", batch_norm=True), NUMBERS),
    (Tabular(norm="group", dropout=0), NUMBERS),
]


def kinds(network: nn.Module) -> list[str]:
    return [type(module).__name__ for module in network.modules() if isinstance(module, (nn.GroupNorm, *BATCH_NORMS))]


@pytest.mark.parametrize(("model", "spec"), NETWORKS, ids=lambda value: getattr(value, "option", ""))
def test_with_groups_no_sample_changes_the_output_of_another(model: ModelConfig, spec: DataSpec) -> None:
    network = build_network(model, spec).train()
    x = torch.randn(6, *spec.input_shape)
    assert set(kinds(network)) == {"GroupNorm"}
    parts = torch.cat([network(part) for part in x.split([1, 2, 3])])
    torch.testing.assert_close(parts, network(x))


def test_without_a_word_the_networks_are_normalised_as_before() -> None:
    assert kinds(build_network(Cnn(), IMAGES)) == ["BatchNorm2d"] * 5
    assert kinds(build_network(Mlp(), NUMBERS)) == []
    assert kinds(build_network(Mlp(batch_norm=True), NUMBERS)) == ["BatchNorm1d"] * 2
    assert kinds(build_network(Mlp(norm="batch"), NUMBERS)) == ["BatchNorm1d"] * 2
    assert kinds(build_network(Tabular(), NUMBERS)) == ["BatchNorm1d"] * 2
    names = build_network(Cnn(), IMAGES).state_dict()
    assert "features.1.running_mean" in names and "features.4.weight" in names and len(names) == 41


@pytest.mark.parametrize(
    ("channels", "groups"), [(32, 8), (64, 8), (128, 8), (100, 5), (200, 8), (7, 1), (8, 2), (12, 3), (2, 1), (97, 1)]
)
def test_the_groups_are_as_many_as_fit_and_none_is_small(channels: int, groups: int) -> None:
    assert norm_groups(channels) == groups


def test_a_unit_that_would_be_normalised_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^model\.norm=group needs layers of at least 2 units"):
        build_network(Mlp(norm="group", hidden=[8, 1]), NUMBERS)


# In micro-batches


def trained(model: ModelConfig, micro_batch: int | None) -> tuple[nn.Module, list[str]]:
    data = SyntheticImages(num_samples=40, batch_size=16) if isinstance(model, Cnn) else Synthetic(num_samples=40)
    data.batch_size = 16
    settings = TrainerConfig(epochs=2, device="cpu", micro_batch=micro_batch)
    trainer = assemble(Config(model=model, data=data, optimizer=SGD(lr=0.01), trainer=settings))
    with heard() as said:
        trainer.fit()
    return trainer.state.model, said


@pytest.mark.parametrize("model", [Cnn(norm="group", conv_dropout=0, dropout=0), Mlp(norm="group")])
def test_with_groups_micro_batches_change_nothing_and_nothing_is_said(model: ModelConfig) -> None:
    whole, _ = trained(model, None)
    split, said = trained(model, 4)
    assert said == []
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(split.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("model", [Cnn(), Mlp(batch_norm=True), Tabular()])
def test_with_batch_norm_micro_batches_are_said_once_to_change_the_result(model: ModelConfig) -> None:
    assert trained(model, None)[1] == []
    [said] = trained(model, 4)[1]
    assert said.startswith("BatchNorm takes its statistics from 4 samples at a time, not from the batch of 16: ")
    assert said.endswith("model.norm=group does not depend on it.")


@dataclass
class Limited(ModelConfig):
    """A network of a plug-in with BatchNorm, which runs out of memory above so many samples."""

    most: int = 3
    late: bool = False  # only when BatchNorm has seen them

    def build(self, spec: DataSpec) -> nn.Module:
        network = nn.Sequential(nn.Linear(spec.features, 4), nn.BatchNorm1d(4), nn.Linear(4, spec.outputs))
        if self.late:
            network.register_forward_hook(self._check)
        else:
            network.register_forward_pre_hook(self._check)
        return network

    def _check(self, network: nn.Module, inputs: tuple[torch.Tensor], outputs: torch.Tensor | None = None) -> None:
        if network.training and len(inputs[0]) > self.most:
            torch.empty(1 << 50)


def halving(most: int, batch: int) -> Trainer:
    settings = TrainerConfig(epochs=2, device="cpu", auto_micro_batch=True)
    data = Synthetic(num_samples=100, batch_size=batch, val_fraction=0.1)
    return assemble(Config(model=Limited(most=most), data=data, optimizer=SGD(lr=0.01), trainer=settings))


@pytest.mark.parametrize("batch", [9, 10, 27])
def test_halving_leaves_no_part_of_one_sample_to_batch_norm(batch: int) -> None:
    """Of 10 samples, 3 at a time would leave one: they go through 2 at a time."""
    trainer = halving(3, batch)
    sizes: list[int] = []
    trainer.state.model.register_forward_hook(lambda model, inputs, outputs: sizes.append(len(outputs)))
    with heard() as said:
        trainer.fit()
    assert said[0].startswith("cpu is out of memory; from here on")
    assert said[1].endswith("A model without BatchNorm does not depend on it.") and len(said) == 2
    assert 1 not in sizes


def test_an_attempt_that_ran_out_of_memory_leaves_the_statistics_of_batch_norm_as_they_were() -> None:
    def trained(**settings: object) -> dict[str, torch.Tensor]:
        trainer = TrainerConfig(epochs=2, device="cpu", **settings)
        data = Synthetic(num_samples=90, batch_size=8, val_fraction=0.2)
        made = Config(model=Limited(most=4, late=True), data=data, optimizer=SGD(lr=0.01), trainer=trainer)
        run = assemble(made)
        run.fit()
        return run.state.model.state_dict()

    halved, typed = trained(auto_micro_batch=True), trained(micro_batch=4)
    assert all(torch.equal(halved[name], typed[name]) for name in typed)


def test_two_samples_too_many_for_batch_norm_cannot_be_halved() -> None:
    with pytest.raises(TrainerError, match="even 2 samples, of which BatchNorm needs two, are too much"):
        halving(1, 10).fit()
