"""The classifiers of torchvision: built by name for the data, started from a local file, and what is refused."""

import os
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from trainer.config.model import Torchvision
from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.runs.build import build_network

SMALL = ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1", "mnasnet0_5"]
RGB, GREY = (3, 64, 64), (1, 64, 64)


class Bomb:
    """A pickle of this makes a folder when it is opened without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def spec_of(shape: tuple[int, ...], classes: int = 7) -> DataSpec:
    return DataSpec(shape, classes, tuple(map(str, range(classes))))


def saved_weights(path: Path, classes: int) -> dict[str, torch.Tensor]:
    """The state of a small network as torchvision makes it, saved to `path`."""
    state = models.get_model("shufflenet_v2_x0_5", num_classes=classes).state_dict()
    torch.save(state, path)
    return state


def build_small(weights: Path, classes: int) -> nn.Module:
    return build_network(Torchvision(arch="shufflenet_v2_x0_5", weights=str(weights)), spec_of(RGB, classes))


@pytest.mark.parametrize("shape", [RGB, GREY])
@pytest.mark.parametrize("arch", SMALL)
def test_small_networks_build_for_colour_and_grey(arch: str, shape: tuple[int, ...]) -> None:
    model = build_network(Torchvision(arch=arch), spec_of(shape))
    assert all(module.training for module in model.modules())
    assert model(torch.randn(2, *shape)).shape == (2, 7)


def test_resnet18_is_the_network_of_torchvision() -> None:
    torch.manual_seed(0)
    ours = build_network(Torchvision(), spec_of(RGB))
    torch.manual_seed(0)
    theirs = models.resnet18(num_classes=7)
    x = torch.randn(2, *RGB)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_grey_is_seen_as_three_equal_channels() -> None:
    model = build_network(Torchvision(arch="shufflenet_v2_x0_5"), spec_of(GREY)).eval()
    x = torch.randn(2, *GREY)
    assert torch.equal(model(x), model[1](x.repeat(1, 3, 1, 1)))


def test_weights_of_a_file_are_loaded_whole(tmp_path: Path) -> None:
    expected = saved_weights(tmp_path / "w.pt", classes=7)
    state = build_small(tmp_path / "w.pt", classes=7).state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_weights_with_another_head_load_the_body(tmp_path: Path) -> None:
    expected = saved_weights(tmp_path / "w.pt", classes=1000)
    state = build_small(tmp_path / "w.pt", classes=7).state_dict()
    assert state["fc.weight"].shape[0] == 7
    body = [name for name in expected if not name.startswith("fc.")]
    assert len(body) > 100
    assert all(torch.equal(state[name], expected[name]) for name in body)


def test_weights_of_another_network_are_an_error(tmp_path: Path) -> None:
    torch.save(models.get_model("squeezenet1_1").state_dict(), tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"w\.pt: not weights of this network; .* the first is "):
        build_small(tmp_path / "w.pt", classes=7)


def test_weights_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.weights=.*absent\.pt: no such file"):
        build_small(tmp_path / "absent.pt", classes=7)


@pytest.mark.parametrize("content", [b"", b"hello", b"a,b\n1,2\n", b"PK\x03\x04junk"])
def test_weights_that_are_no_torch_file_are_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(ConfigError, match=r"model\.weights=.*w\.pt"):
        build_small(tmp_path / "w.pt", classes=7)


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)], {"conv1.0.weight": 3}])
def test_weights_that_are_no_state_dict_are_an_error(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"model\.weights=.*w\.pt"):
        build_small(tmp_path / "w.pt", classes=7)


def test_a_weights_file_cannot_run_code(tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    torch.save({"conv1.0.weight": Bomb(proof)}, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match="not a state dict that can be loaded safely"):
        build_small(tmp_path / "w.pt", classes=7)
    assert not proof.exists()
    torch.load(tmp_path / "w.pt", weights_only=False)
    assert proof.exists(), "the file is as dangerous as the test needs"


def test_unknown_arch_is_an_error_with_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"model\.arch=resnet81: .*Did you mean 'resnet18'\?"):
        build_network(Torchvision(arch="resnet81"), spec_of(RGB))


@pytest.mark.parametrize("arch", ["fasterrcnn_resnet50_fpn", "raft_small", "fcn_resnet50"])
def test_a_network_that_is_no_classifier_is_an_error(arch: str) -> None:
    with pytest.raises(ConfigError, match="no such classifier"):
        build_network(Torchvision(arch=arch), spec_of(RGB))


@pytest.mark.parametrize("shape", [(14,), (4, 64, 64), (2, 64, 64)])
def test_data_that_is_not_images_of_one_or_three_channels_is_an_error(shape: tuple[int, ...]) -> None:
    words = "×".join(map(str, shape))
    with pytest.raises(ConfigError, match=f"needs images of 1 or 3 channels; .* {words}"):
        build_network(Torchvision(), spec_of(shape))


@pytest.mark.parametrize("arch", ["squeezenet1_1", "inception_v3"])
def test_images_too_small_for_the_network_are_an_error(arch: str) -> None:
    with pytest.raises(ConfigError, match=f"{arch} cannot take images of 3×16×16.*data.image_size"):
        build_network(Torchvision(arch=arch), spec_of((3, 16, 16)))


def test_images_that_do_not_divide_into_patches_are_an_error() -> None:
    with pytest.raises(ConfigError, match="vit_b_16"):
        build_network(Torchvision(arch="vit_b_16"), spec_of((3, 28, 28)))


def test_a_transformer_needs_square_images() -> None:
    with pytest.raises(ConfigError, match="vit_b_16 takes square images; the data gives 32×64"):
        build_network(Torchvision(arch="vit_b_16"), spec_of((3, 32, 64)))


@pytest.mark.parametrize(("kind", "said"), [("compressed", "is compressed"), ("larger", "it claims a tensor of")])
def test_a_weights_file_cannot_ask_for_more_memory_than_it_has(tmp_path: Path, kind: str, said: str) -> None:
    path = tmp_path / "w.pt"
    if kind == "compressed":
        torch.save({"w": torch.zeros(1 << 18)}, tmp_path / "plain.pt")
        with zipfile.ZipFile(tmp_path / "plain.pt") as plain:
            members = {name: plain.read(name) for name in plain.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in members.items():
                packed.writestr(name, content)
    else:
        torch.save({"w": torch.zeros(1).expand(1 << 40)}, path)
    with pytest.raises(ConfigError, match=rf"w\.pt: not a state dict that can be loaded safely: .*{said}"):
        build_small(path, classes=7)


def test_weights_in_the_form_before_archives_are_loaded(tmp_path: Path) -> None:
    expected = saved_weights(tmp_path / "w.pt", classes=7)
    torch.save(expected, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    state = build_small(tmp_path / "w.pt", classes=7).state_dict()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
