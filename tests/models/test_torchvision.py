"""The classifiers of torchvision: built by name for the data, started from a local file, and what is refused."""

import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from trainer import Config
from trainer.config.data import ImageFolder
from trainer.config.model import Torchvision
from trainer.data.types import DataSpec
from trainer.errors import ConfigError, DataError
from trainer.models.pretrained import renamed
from trainer.runs.build import build_network, with_published_inputs

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


def test_weights_are_found_in_what_programs_wrap_them_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each form of one network is loaded to the same bits, and what was loaded is said."""
    caplog.set_level("INFO", "trainer")
    plain = models.get_model("shufflenet_v2_x0_5", num_classes=9).state_dict()
    body = {name: value for name, value in plain.items() if not name.startswith("fc.")}

    def prefixed(first: str) -> dict[str, torch.Tensor]:
        return {f"{first}{name}": value for name, value in plain.items()}

    forms: dict[str, Any] = {
        "imagenet example": {"epoch": 9, "state_dict": prefixed("module."), "optimizer": {}, "best": torch.tensor(1.0)},
        "reference": {"model": plain, "epoch": 1, "args": {"lr": 0.1}},
        "reference, averaged": {"model": {}, "model_ema": prefixed("module.") | {"n_averaged": torch.tensor(3)}},
        "lightning": {"state_dict": prefixed("model.") | {"loss.weight": torch.ones(9)}, "global_step": 10},
        "compiled in parallel": prefixed("module._orig_mod."),
        "without a head": body,
        "half": {name: value.half() if value.is_floating_point() else value for name, value in plain.items()},
    }
    for name, form in forms.items():
        torch.save(form, tmp_path / "w.pt")
        state = build_small(tmp_path / "w.pt", classes=7).state_dict()
        tolerance = 1e-3 if name == "half" else 0
        for key, value in body.items():
            torch.testing.assert_close(state[key], value, atol=tolerance, rtol=tolerance, msg=name)
        assert "tensors loaded; head fc (2 tensors) is new: " in caplog.messages[-1]
    save_file(plain, tmp_path / "w.safetensors")
    assert torch.equal(build_small(tmp_path / "w.safetensors", classes=9).fc.weight, plain["fc.weight"])  # type: ignore[union-attr, arg-type]
    assert re.fullmatch(r"weights   .*w\.safetensors: (\d+) of \1 tensors loaded", caplog.messages[-1])
    assert "1 tensors of the file are not of this network" in caplog.text
    assert "w.pt of its model_ema: " in caplog.text
    assert "head fc (2 tensors) is new: 7 classes instead of 9" in caplog.text
    assert "head fc (2 tensors) is new: the file has none of its shape" in caplog.text


def test_the_names_of_published_densenets_are_those_of_today() -> None:
    own = models.get_model("densenet121", num_classes=5).state_dict()
    published = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): value for name, value in own.items()}
    assert published.keys() != own.keys()
    assert renamed(published, own).keys() == own.keys()


def test_position_embeddings_are_interpolated_to_the_size_of_the_images(tmp_path: Path) -> None:
    given = models.vit_b_32(image_size=64, num_classes=7).state_dict()
    torch.save(given, tmp_path / "w.pt")
    model: Any = build_network(Torchvision(arch="vit_b_32", weights=str(tmp_path / "w.pt")), spec_of((3, 128, 128)))
    assert model.encoder.pos_embedding.shape == (1, 1 + 16, 768)
    expected = torch.nn.functional.interpolate(
        given["encoder.pos_embedding"][:, 1:].mT.unflatten(2, (2, 2)), size=(4, 4), mode="bicubic", align_corners=True
    )
    torch.testing.assert_close(model.encoder.pos_embedding[:, 1:].mT.unflatten(2, (4, 4)), expected)


def test_published_weights_are_downloaded_once_and_bring_what_their_images_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody answers there
    with pytest.raises(DataError) as error:
        build_network(Torchvision(weights="DEFAULT"), spec_of(RGB))
    for word in (f"{tmp_path}/trainer/weights/resnet18-f37072fd.pth", "https://download.pytorch.org/", "weights=FILE"):
        assert word in str(error.value)
    with pytest.raises(ConfigError, match="neither a file nor published weights of resnet18: IMAGENET1K_V1, DEFAULT"):
        build_network(Torchvision(weights="IMAGENET"), spec_of(RGB))
    config = Config(model=Torchvision(weights="DEFAULT"), data=ImageFolder())
    data, note = with_published_inputs(config.model, config.data)
    assert (data.image_size, data.mean, data.std) == (224, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # type: ignore[attr-defined]
    assert "ResNet18_Weights.IMAGENET1K_V1" in note
    own = ImageFolder(image_size=64, mean=[0.5], std=[0.5])
    assert with_published_inputs(config.model, own) == (own, "")
    kept = build_network(Torchvision(arch="googlenet", weights="DEFAULT"), spec_of(RGB), load=False)
    assert kept.transform_input  # a checkpoint takes the place of the weights, and their pixels stay scaled


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
