"""The parts of networks: which they are, what freezing holds still, and rates by part."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from trainer import Config, assemble, load_model
from trainer.config.data import SyntheticImages
from trainer.config.model import Cnn, ModelConfig
from trainer.config.optimizer import AdamW
from trainer.config.trainer import TrainerConfig
from trainer.errors import ConfigError
from trainer.models.parts import frozen_parameters, matches, network_parts, set_rates
from trainer.runs.summary import rate_lines

PARTS = {
    "resnet18": (10, "conv1", "fc"),
    "vit_b_32": (14, "conv_proj", "heads.head"),
    "mobilenet_v3_small": (19, "features.0", "classifier.3"),
    "squeezenet1_1": (10, "features.0", "classifier.1"),
    "densenet121": (9, "features.conv0", "classifier"),
}


@pytest.mark.parametrize("arch", PARTS)
def test_parts_are_the_blocks_from_the_inputs_to_the_head(arch: str) -> None:
    with torch.device("meta"):
        model = models.get_model(arch)
    parts = network_parts(model)
    assert (len(parts), parts[0].name, parts[-1].name) == PARTS[arch]
    names = [name for part in parts for name in part.parameters]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters()), "each parameter is of one part"
    if arch == "vit_b_32":
        assert "class_token" in parts[0].parameters
    if arch == "resnet18":
        assert {"conv1.weight", "bn1.weight", "bn1.bias"} == parts[0].parameters.keys()


def test_a_pattern_names_whole_components() -> None:
    assert matches("layer1.0.conv1.weight", "layer1")
    assert matches("1.layer1.0.conv1.weight", "layer*")
    assert matches("layer1.0.conv1.weight", "conv1")
    assert not matches("layer10.0.conv1.weight", "layer1")
    assert matches("features.3.weight", "features.*")


def test_what_is_frozen_is_named_and_a_mistake_tells_the_parts() -> None:
    model = models.get_model("resnet18", num_classes=3)
    assert len(frozen_parameters(model, "all-but-head")) == 60
    assert frozen_parameters(model, "1").keys() == {"conv1.weight", "bn1.weight", "bn1.bias"}
    assert all(name.startswith("layer4.") for name in frozen_parameters(model, "layer4"))
    assert frozen_parameters(model, None) == {}
    for wrong, words in {"lyer1": "its parts: conv1, layer1.0", "99": "has 10 parts", "*": "nothing is left"}.items():
        with pytest.raises(ConfigError, match=f"model.freeze=.*{words}"):
            frozen_parameters(model, wrong)
    with pytest.raises(ConfigError, match="nothing is frozen"):
        ModelConfig(unfreeze_at="3")


def trained(model: ModelConfig, optimizer: AdamW | None = None) -> Any:
    """A trainer of 4 epochs of 4 steps on images; BatchNorm in the body."""
    data = SyntheticImages(num_samples=75, num_classes=3, image_size=8, batch_size=16)
    settings = TrainerConfig(epochs=4, threads=1, ema=0.9)
    return assemble(Config(model=model, data=data, trainer=settings, optimizer=optimizer or AdamW(lr=0.01)))


def test_frozen_parts_and_their_statistics_stay_and_the_head_learns() -> None:
    trainer = trained(Cnn(freeze="all-but-head"))
    before = {name: value.clone() for name, value in trainer.state.model.state_dict().items()}
    trainer.fit()
    head = network_parts(trainer.state.model)[-1].name
    for name, value in trainer.state.model.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith(f"{head}."), name
    assert sum(len(group["params"]) for group in trainer.state.optimizer.param_groups) == 2


def test_parts_are_trained_from_the_step_on_at_which_they_thaw() -> None:
    trainer = trained(Cnn(freeze="all-but-head", unfreeze_at="50%"))  # of 16 steps
    start = {name: value.clone() for name, value in trainer.state.model.state_dict().items()}
    body = [name for name in start if not name.startswith(f"{network_parts(trainer.state.model)[-1].name}.")]
    for output in trainer.steps():
        now = trainer.state.model.state_dict()
        still = [name for name in body if torch.equal(now[name], start[name])]
        assert (still == body) == (output.step <= 8), output.step
        assert bool(still) == (output.step <= 8)


def test_rates_are_by_part_and_by_pattern_and_are_shown() -> None:
    model: Any = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    set_rates(model, {"0": 0.1, "*.bias": 3.0}, layer_decay=0.5)
    rates = {name: parameter.lr_factor for name, parameter in model.named_parameters()}
    expected = {"0.weight": 0.025, "0.bias": 0.75, "2.weight": 0.5, "2.bias": 1.5, "3.weight": 0.5, "3.bias": 1.5}
    assert rates == pytest.approx(expected | {"4.weight": 1.0, "4.bias": 3.0})
    trainer = trained(Cnn(), AdamW(lr=0.01, lr_mult={"*.bias": 2.0}, layer_decay=0.9))
    [(what, words)] = rate_lines(trainer.context)
    assert what == "rates"
    assert " × 1 and 2" in words
    groups = {round(group["lr"] / 0.01, 4) for group in trainer.state.optimizer.param_groups}
    assert {1.0, 2.0, 0.9, 1.8} <= groups
    with pytest.raises(ConfigError, match=r"optimizer\.lr_mult\.backbone=0\.1: no part of the network is called so"):
        trained(Cnn(), AdamW(lr_mult={"backbone": 0.1}))


def test_a_checkpoint_needs_the_file_of_weights_no_more(tmp_path: Path, train: Any, trainer: Any) -> None:
    torch.save(models.get_model("shufflenet_v2_x0_5", num_classes=4).state_dict(), tmp_path / "w.pt")
    said = train(
        *("model=torchvision", "model.arch=shufflenet_v2_x0_5", "model.weights=w.pt", "model.freeze=all-but-head"),
        *("data=synthetic_images", "data.num_samples=60", "data.num_classes=3", "trainer.epochs=1", "output_dir=o"),
    )
    assert "head fc (2 tensors) is new: 3 classes instead of 4" in said.stdout
    assert "3,075 of 344,867 parameters trained: model.freeze=all-but-head" in said.stdout
    (tmp_path / "w.pt").unlink()
    assert "val loss" in train("resume=last", "output_dir=o", "trainer.epochs=2").stdout
    [run] = tmp_path.glob("o/*/*/")
    assert "accuracy" in trainer("evaluate", str(run)).stdout
    assert load_model(run).fc.out_features == 3  # type: ignore[union-attr]
