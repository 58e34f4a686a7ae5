"""CNNClassifier: its layers one by one, its size, its shapes, and how the config builds it."""

import pytest
import torch
from torch import nn

from trainer.config.model import Cnn
from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.models.cnn import CNNClassifier
from trainer.runs.build import build_network

BLOCK_OF_TWO = ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "Dropout2d"]
BLOCK_OF_ONE = ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "Dropout2d"]
HEAD = ["Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]


def of_type(modules: nn.Module, kind: type) -> list[nn.Module]:
    return [module for module in modules.modules() if isinstance(module, kind)]


def spec_of(*shape: int) -> DataSpec:
    return DataSpec(shape, 10, tuple("0123456789"))


def test_it_has_exactly_698794_parameters() -> None:
    assert sum(p.numel() for p in CNNClassifier(num_classes=10).parameters()) == 698_794


def test_all_parameters_learn() -> None:
    assert all(p.requires_grad for p in CNNClassifier(num_classes=10).parameters())


def test_its_parts_are_features_and_classifier() -> None:
    assert [name for name, _ in CNNClassifier(num_classes=10).named_children()] == ["features", "classifier"]


def test_its_layers_stand_in_order() -> None:
    model = CNNClassifier(num_classes=10)
    assert [type(layer).__name__ for layer in model.features] == BLOCK_OF_TWO + BLOCK_OF_TWO + BLOCK_OF_ONE
    assert [type(layer).__name__ for layer in model.classifier] == HEAD


def test_its_convolutions_are_three_by_three_with_padding_one() -> None:
    convolutions = of_type(CNNClassifier(num_classes=10).features, nn.Conv2d)
    channels = [(c.in_channels, c.out_channels) for c in convolutions]
    assert channels == [(3, 32), (32, 32), (32, 64), (64, 64), (64, 128)]
    for c in convolutions:
        assert (c.kernel_size, c.padding, c.stride, c.groups) == ((3, 3), (1, 1), (1, 1), 1)
        assert c.bias is not None


def test_each_convolution_is_normalised_over_its_channels() -> None:
    norms = of_type(CNNClassifier(num_classes=10).features, nn.BatchNorm2d)
    assert [n.num_features for n in norms] == [32, 32, 64, 64, 128]


def test_relu_of_the_features_works_in_place() -> None:
    assert [layer.inplace for layer in of_type(CNNClassifier(num_classes=10).features, nn.ReLU)] == [True] * 5


def test_pooling_halves() -> None:
    pools = of_type(CNNClassifier(num_classes=10).features, nn.MaxPool2d)
    assert [(p.kernel_size, p.stride, p.padding) for p in pools] == [(2, 2, 0)] * 3


def test_dropout_is_a_quarter_of_channels_and_half_of_units() -> None:
    model = CNNClassifier(num_classes=10)
    assert [layer.p for layer in of_type(model.features, nn.Dropout2d)] == [0.25] * 3
    assert [layer.p for layer in of_type(model.classifier, nn.Dropout)] == [0.5] * 2


def test_the_head_goes_from_2048_over_256_and_128_to_10() -> None:
    layers = of_type(CNNClassifier(num_classes=10).classifier, nn.Linear)
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(2048, 256), (256, 128), (128, 10)]


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 40, 24)])
def test_logits_have_one_row_a_sample(shape: tuple[int, int, int]) -> None:
    model = CNNClassifier(num_classes=7, in_channels=shape[0], image_size=shape[1:])
    assert model(torch.randn(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 40, 24)])
def test_config_builds_for_the_shape_of_the_data(shape: tuple[int, ...]) -> None:
    model = build_network(Cnn(), spec_of(*shape))
    assert isinstance(model, CNNClassifier)
    assert model(torch.randn(2, *shape)).shape == (2, 10)


def test_config_defaults_give_the_network_of_the_class() -> None:
    assert repr(build_network(Cnn(), spec_of(3, 32, 32))) == repr(CNNClassifier(num_classes=10))


def test_config_passes_both_dropouts_on() -> None:
    model = build_network(Cnn(conv_dropout=0.1, dropout=0.3), spec_of(3, 32, 32))
    assert {layer.p for layer in of_type(model, nn.Dropout2d)} == {0.1}
    assert {layer.p for layer in of_type(model, nn.Dropout)} == {0.3}


@pytest.mark.parametrize("shape", [(14,), (28, 28)])
def test_data_that_is_not_images_is_an_error_with_a_way_out(shape: tuple[int, ...]) -> None:
    words = "×".join(map(str, shape))
    with pytest.raises(ConfigError, match=f"model=cnn needs images.* {words}; use model=mlp or model=linear"):
        build_network(Cnn(), spec_of(*shape))


@pytest.mark.parametrize("shape", [(1, 7, 7), (3, 32, 7), (3, 4, 32)])
def test_tiny_images_are_an_error_that_says_the_least_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=f"8×8 pixels.*the data gives {shape[1]}×{shape[2]}"):
        build_network(Cnn(), spec_of(*shape))
