"""The classifiers of torchvision, by name."""

import inspect
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer.checkpoint import untrusted
from trainer.checkpoint.durable import UNLOADABLE
from trainer.data.types import DataSpec
from trainer.errors import ConfigError, did_you_mean


def build_classifier(arch: str, weights: str | None, spec: DataSpec) -> nn.Module:
    """Make a classifier of torchvision.

    Images of one channel are repeated to the three that these networks take.

    Args:
        arch: its name in torchvision.
        weights: path of a state dict to begin with; None: the initial weights of torchvision.
        spec: the shape of the images and the number of classes.

    Raises:
        ConfigError: for an unknown name, a file that does not fit, or data that is not images.
    """
    models = _torchvision_models()
    classifiers = models.list_models(module=models)
    if arch not in classifiers:
        hint = did_you_mean(arch, classifiers)
        raise ConfigError(
            f"model.arch={arch}: torchvision has no such classifier.{hint} It has: {', '.join(classifiers)}."
        )
    if len(spec.input_shape) != 3 or spec.input_shape[0] not in (1, 3):
        raise ConfigError(
            f"model=torchvision needs images of 1 or 3 channels; the data gives samples of shape {spec.shape_words()}."
        )
    arguments: dict[str, Any] = {"num_classes": spec.outputs, "weights": None}
    parameters = inspect.signature(models.get_model_builder(arch)).parameters
    if "weights_backbone" in parameters:
        arguments["weights_backbone"] = None
    if arch in ("googlenet", "inception_v3"):
        # Their auxiliary heads return a tuple in training; one output is what a task takes.
        arguments |= {"aux_logits": False, "init_weights": True}
    if arch.startswith("vit_"):
        arguments["image_size"] = _square(arch, spec)
    try:
        network: nn.Module = models.get_model(arch, **arguments)
    except (ValueError, AssertionError) as error:
        raise ConfigError(f"model.arch={arch} cannot be built for images of {spec.shape_words()}: {error}") from error
    if weights is not None:
        _load(network, Path(weights))
    _try(network, arch, spec)
    return nn.Sequential(GreyToRGB(), network) if spec.input_shape[0] == 1 else network


class GreyToRGB(nn.Module):
    """Repeats the channel of grey images: (B, 1, H, W) to (B, 3, H, W), as a view."""

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(-1, 3, -1, -1)


def _torchvision_models() -> Any:
    """Import torchvision's models; raise `ConfigError` where that is impossible."""
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # RuntimeError: "operator torchvision::nms does not exist"
        raise ConfigError(
            f"model=torchvision needs a torchvision built for this torch ({torch.__version__}): {error}. "
            "Install both together: pip install --upgrade torch torchvision"
        ) from error
    return models


def _square(arch: str, spec: DataSpec) -> int:
    """Return the side of the images; raise `ConfigError` where they are not square."""
    _, height, width = spec.input_shape
    if height != width:
        raise ConfigError(f"model.arch={arch} takes square images; the data gives {height}×{width}.")
    return height


def _load(network: nn.Module, path: Path) -> None:
    """Load a state dict, leaving out parameters of another shape (the head of another number of classes)."""
    if not path.is_file():
        raise ConfigError(f"model.weights={path}: no such file.")
    try:
        with open(path, "rb") as file:
            if file.read(2) == b"PK":  # older files of torchvision are no archives: what they claim, they must have
                untrusted.examine_members(file)
            given = torch.load(path, map_location="cpu", weights_only=True)
            untrusted.examine_tensors(given, file.seek(0, os.SEEK_END))
    except UNLOADABLE as error:
        raise ConfigError(f"model.weights={path}: not a state dict that can be loaded safely: {error}") from error
    if not isinstance(given, dict) or not all(isinstance(value, Tensor) for value in given.values()):
        raise ConfigError(f"model.weights={path}: not a state dict (tensors by name).")
    own = network.state_dict()
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    body = {name for name in own if not name.startswith(("fc.", "classifier.", "head.", "heads."))}
    missing = sorted(body - fitting.keys())
    if missing:
        raise ConfigError(
            f"model.weights={path}: not weights of this network; {len(missing)} of its tensors are absent or of "
            f"another shape, the first is {missing[0]}."
        )
    network.load_state_dict(fitting, strict=False)


def _try(network: nn.Module, arch: str, spec: DataSpec) -> None:
    """Run one blank image through the network, so that images that are too small are an error before the first step."""
    network.eval()
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, *spec.input_shape[1:]))
    except RuntimeError as error:
        raise ConfigError(
            f"model.arch={arch} cannot take images of {spec.shape_words()}: {str(error).splitlines()[0]}. "
            "Use larger images (data.image_size) or another arch."
        ) from error
    network.train()
