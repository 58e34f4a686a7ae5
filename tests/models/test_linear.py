"""CustomLinear against torch.nn.Linear, and the models made of it."""

import pytest
import torch
from torch import nn

from trainer.config.model import Linear
from trainer.data.types import DataSpec
from trainer.models.linear import CustomLinear, linear_model
from trainer.runs.build import build_network


def twins(bias: bool) -> tuple[CustomLinear, nn.Linear]:
    """Ours and torch's layer, with the same weights and a bias that is not zero."""
    ours, oracle = CustomLinear(5, 3, bias), nn.Linear(5, 3, bias)
    ours.load_state_dict(oracle.state_dict())
    return ours, oracle


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 5), (2, 4, 5)])
def test_forward_equals_torch(shape: tuple[int, ...], bias: bool) -> None:
    ours, oracle = twins(bias)
    x = torch.randn(shape)
    torch.testing.assert_close(ours(x), oracle(x))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 5), (2, 4, 5)])
def test_gradients_equal_torch(shape: tuple[int, ...], bias: bool) -> None:
    ours, oracle = twins(bias)
    x_ours = torch.randn(shape, requires_grad=True)
    x_oracle = x_ours.detach().clone().requires_grad_()
    ours(x_ours).square().sum().backward()
    oracle(x_oracle).square().sum().backward()
    torch.testing.assert_close(x_ours.grad, x_oracle.grad)
    for (name, parameter), (other, expected) in zip(ours.named_parameters(), oracle.named_parameters(), strict=True):
        assert name == other
        torch.testing.assert_close(parameter.grad, expected.grad)


def test_state_dict_has_the_names_and_shapes_of_torch() -> None:
    ours, oracle = twins(bias=True)
    assert {n: v.shape for n, v in ours.state_dict().items()} == {n: v.shape for n, v in oracle.state_dict().items()}


def test_without_bias_there_is_no_bias_parameter() -> None:
    layer = CustomLinear(5, 3, bias=False)
    assert layer.bias is None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


@pytest.mark.parametrize("features", [50, 800])
def test_weights_start_kaiming_normal(features: int) -> None:
    torch.manual_seed(0)
    weight = CustomLinear(features, 200_000 // features).weight.detach()
    # Of 200,000 draws the mean is within 5/sqrt(200,000) deviations of 0, the variance within 5·sqrt(2/200,000).
    assert abs(weight.mean()) < 5 * (2 / features) ** 0.5 / 200_000**0.5
    assert weight.var().item() == pytest.approx(2 / features, rel=5 * (2 / 200_000) ** 0.5)
    fourth = (weight / weight.std()).pow(4).mean().item()
    assert fourth == pytest.approx(3, abs=0.1), "normal has kurtosis 3, uniform 1.8"


def test_bias_starts_at_zero() -> None:
    assert torch.equal(CustomLinear(5, 3).bias, torch.zeros(3))


def test_repr_says_the_sizes() -> None:
    assert repr(CustomLinear(5, 3, bias=False)) == "CustomLinear(in_features=5, out_features=3, bias=False)"


def test_model_flattens_images() -> None:
    model = linear_model(3 * 4 * 4, 7)
    images = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(model(images), model(images.flatten(1)))
    assert model(images).shape == (2, 7)


@pytest.mark.parametrize("bias", [True, False])
def test_config_builds_one_layer_for_the_data(bias: bool) -> None:
    model = build_network(Linear(bias=bias), DataSpec((1, 8, 8), 10, tuple("0123456789")))
    layers = [module for module in model.modules() if isinstance(module, CustomLinear)]
    assert [(layer.in_features, layer.out_features, layer.bias is not None) for layer in layers] == [(64, 10, bias)]
    assert sum(p.numel() for p in model.parameters()) == 64 * 10 + 10 * bias
