"""The fully connected network: its layers, and its function written out by hand."""

import pytest
import torch
from torch import nn

from trainer.config.model import ACTIVATIONS, Mlp
from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.models.mlp import MLP
from trainer.runs.build import build_network

SPEC = DataSpec((1, 8, 8), 10, tuple("0123456789"))


def kinds(model: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


def test_default_config_has_two_hidden_layers() -> None:
    model = build_network(Mlp(), SPEC)
    assert kinds(model) == ["Flatten", "Linear", "ReLU", "Linear", "ReLU", "Linear"]
    sizes = [(layer.in_features, layer.out_features) for layer in model.layers if isinstance(layer, nn.Linear)]
    assert sizes == [(64, 128), (128, 64), (64, 10)]


def test_no_hidden_layers_leave_a_linear_model() -> None:
    model = build_network(Mlp(hidden=[]), SPEC)
    assert kinds(model) == ["Flatten", "Linear"]
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(model(x), x.flatten(1) @ model.layers[1].weight.T + model.layers[1].bias)


def test_forward_is_the_composition_of_its_layers() -> None:
    model = MLP(4, 2, [5], activation="tanh")
    first, last = model.layers[1], model.layers[3]
    x = torch.randn(6, 4)
    hidden = torch.tanh(x @ first.weight.T + first.bias)
    torch.testing.assert_close(model(x), hidden @ last.weight.T + last.bias)


def test_normalisation_stands_before_the_activation_and_dropout_after() -> None:
    model = build_network(Mlp(hidden=[8], batch_norm=True, dropout=0.2, activation="gelu"), SPEC)
    assert kinds(model) == ["Flatten", "Linear", "BatchNorm1d", "GELU", "Dropout", "Linear"]
    assert model.layers[4].p == 0.2


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_of_the_config_can_be_built(activation: str) -> None:
    model = build_network(Mlp(hidden=[8], activation=activation), SPEC)
    assert type(model.layers[2]).__name__.lower() == activation
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 10)


def test_samples_of_any_shape_are_flattened() -> None:
    assert build_network(Mlp(hidden=[8]), DataSpec((14,), 1))(torch.randn(2, 14)).shape == (2, 1)


def test_unknown_activation_is_an_error_with_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"model\.activation=rely.*Did you mean 'relu'"):
        Mlp(activation="rely")


def test_a_layer_of_no_width_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"model\.hidden\[1\]=0"):
        Mlp(hidden=[8, 0])
