"""The classifiers of torchvision, by name."""

import inspect
import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainer.data.files.download import Remote, fetch
from trainer.data.types import DataSpec
from trainer.errors import ConfigError, did_you_mean
from trainer.models.pretrained import Weights, load_pretrained, read_weights, renamed
from trainer.system.home import expanded, user_cache

log = logging.getLogger("trainer")


class PublishedImages(NamedTuple):
    """The images that weights were trained on: `size` is their side, `mean` and `std` of pixels from 0 to 1."""

    weights: str
    size: int
    mean: list[float]
    std: list[float]


def build_classifier(arch: str, weights: str | None, spec: DataSpec, load: bool = True) -> nn.Module:
    """Make a classifier of torchvision.

    Images of one channel are repeated to the three that these networks take.

    Args:
        arch: its name in torchvision.
        weights: to begin with: a file, or published ones by name; None: the initial weights of torchvision.
        spec: the shape of the images and the number of classes.
        load: whether the weights are loaded; a checkpoint takes their place where it is False.

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
        arguments["transform_input"] = published_weights(arch, weights) is not None  # their pixels are scaled otherwise
    if arch.startswith("vit_"):
        arguments["image_size"] = _square(arch, spec)
    try:
        network: nn.Module = models.get_model(arch, **arguments)
    except (ValueError, AssertionError) as error:
        raise ConfigError(f"model.arch={arch} cannot be built for images of {spec.shape_words()}: {error}") from error
    if weights is not None and load:
        _load(network, arch, weights, spec)
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


def published_weights(arch: str, name: str | None) -> Any:
    """Return torchvision's entry for weights of a published name, such as DEFAULT; None where a file is meant, or none.

    Raises:
        ConfigError: for a word that is neither a name nor a file.
    """
    if name is None or Path(name).exists() or Path(name).suffix or "/" in name:
        return None
    models = _torchvision_models()
    if arch not in models.list_models(module=models):
        return None  # an error of its own
    known = models.get_model_weights(arch)
    if name not in known.__members__:
        raise ConfigError(
            f"model.weights={name}: neither a file nor published weights of {arch}: {', '.join(known.__members__)}."
        )
    return known[name]


def published_images(arch: str, name: str | None) -> PublishedImages | None:
    """Return what images published weights were trained on; None where no such weights are named."""
    entry = published_weights(arch, name)
    if entry is None:
        return None
    made = entry.transforms()
    return PublishedImages(str(entry), made.crop_size[0], list(made.mean), list(made.std))


def _downloaded(entry: Any) -> Path:
    """Return the file of published weights, which is downloaded once."""
    name = entry.url.rpartition("/")[2]
    digits = name.rpartition("-")[2].removesuffix(".pth")  # of its SHA-256
    remote = Remote(name, f"sha256:{digits}", (entry.url,))
    return fetch(remote, user_cache() / "weights", "name a file: model.weights=FILE")


def _load(network: nn.Module, arch: str, weights: str, spec: DataSpec) -> None:
    """Load published weights, or those of a file; say what was loaded."""
    entry = published_weights(arch, weights)
    path = expanded(weights) if entry is None else _downloaded(entry)
    given, where = read_weights(path, "model.weights")
    if arch.startswith("vit_"):
        given = _for_size(network, given, spec)
    words = load_pretrained(network, given, f"model.weights={weights}", "classes" if spec.labels else "outputs")
    log.info(f"{'weights':<10}{entry or path}{where}: {words}")


def _for_size(network: Any, given: Weights, spec: DataSpec) -> Weights:
    """Return weights of a vision transformer with its position embeddings interpolated to the size of the images."""
    from torchvision.models.vision_transformer import interpolate_embeddings

    given = renamed(given, network.state_dict())
    if "encoder.pos_embedding" not in given:
        return given
    resized: Weights = interpolate_embeddings(spec.input_shape[1], network.patch_size, OrderedDict(given))
    return resized


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
