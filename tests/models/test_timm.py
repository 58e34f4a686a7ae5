"""The networks of timm: built for the data, started from a file, and what is refused."""

from pathlib import Path

import pytest
import timm
import torch

from trainer import Config
from trainer.config.data import ImageFolder
from trainer.config.model import Timm
from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.models.parts import network_parts
from trainer.runs.build import build_network, with_published_inputs

ARCH = "test_vit"


def spec_of(*shape: int, classes: int = 5) -> DataSpec:
    return DataSpec(shape, classes, tuple(map(str, range(classes))))


@pytest.mark.parametrize(
    ("arch", "shape"), [("test_resnet", (1, 32, 32)), ("test_resnet", (4, 48, 32)), (ARCH, (3, 96, 96))]
)
def test_networks_are_built_for_the_channels_and_the_size_of_the_images(arch: str, shape: tuple[int, ...]) -> None:
    model = build_network(Timm(arch=arch), spec_of(*shape))
    assert model.training
    assert model(torch.randn(2, *shape)).shape == (2, 5)
    assert len(network_parts(model)) > 2


def test_weights_of_a_file_have_another_head_or_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "trainer")
    given = timm.create_model("test_resnet", num_classes=9).state_dict()
    torch.save({"state_dict_ema": given, "epoch": 3}, tmp_path / "w.pth")
    config = Timm(arch="test_resnet", weights=str(tmp_path / "w.pth"))
    state = build_network(config, spec_of(3, 32, 32)).state_dict()
    body = [name for name in given if not name.startswith(("fc.", "head."))]
    assert all(torch.equal(state[name], given[name]) for name in body)
    assert "w.pth of its state_dict_ema: " in caplog.text
    assert "is new: 5 classes instead of 9" in caplog.text


def test_what_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"timm has no such network\. Did you mean 'resnet18'"):
        build_network(Timm(arch="resnet81"), spec_of(3, 32, 32))
    with pytest.raises(ConfigError, match="neither a file nor published weights of resnet18: DEFAULT, "):
        build_network(Timm(weights="IMAGENET"), spec_of(3, 32, 32))
    with pytest.raises(ConfigError, match="needs images; the data gives samples of shape 7"):
        build_network(Timm(), spec_of(7))


def test_published_weights_bring_the_size_and_normalisation_of_their_images() -> None:
    config = Config(model=Timm(arch="vit_small_patch16_224", weights="DEFAULT"), data=ImageFolder())
    data, note = with_published_inputs(config.model, config.data)
    assert isinstance(data, ImageFolder)
    assert (data.image_size, data.mean) == (224, [0.5, 0.5, 0.5])
    assert "timm's vit_small_patch16_224" in note
    kept = build_network(config.model, spec_of(3, 224, 224), load=False)  # no download
    assert kept.head.out_features == 5  # type: ignore[union-attr]
