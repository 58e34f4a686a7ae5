"""The networks of timm (pytorch-image-models, Wightman 2019), by name."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainer.data.types import DataSpec
from trainer.errors import ConfigError, did_you_mean
from trainer.models.pretrained import load_pretrained, read_weights
from trainer.models.torchvision import PublishedImages
from trainer.system.home import expanded

DEFAULT = "DEFAULT"
NAMED = 8
log = logging.getLogger("trainer")


def build_timm(arch: str, weights: str | None, spec: DataSpec, load: bool = True) -> nn.Module:
    """Make a network of timm with a head for the classes, for images of any number of channels.

    Args:
        arch: its name in timm, without a tag.
        weights: to begin with: a file, or published ones by their tag or as DEFAULT; None: the initial weights of timm.
        spec: the shape of the images and the number of classes.
        load: whether the weights are loaded; a checkpoint takes their place where it is False.

    Raises:
        ConfigError: for an unknown name, weights that cannot be had, and images that do not fit.
    """
    timm = _timm()
    _check_name(timm, arch)
    if len(spec.input_shape) != 3:
        raise ConfigError(f"model=timm needs images; the data gives samples of shape {spec.shape_words()}.")
    channels, height, width = spec.input_shape
    tag = _tag(timm, arch, weights)
    name = f"{arch}.{tag}" if tag else arch
    options: dict[str, Any] = {"num_classes": spec.outputs, "in_chans": channels}
    if getattr(timm.get_pretrained_cfg(arch), "fixed_input_size", False):
        options["img_size"] = (height, width)  # of networks with position embeddings
    try:
        network: nn.Module = timm.create_model(name, pretrained=load and tag is not None, **options)
        network.eval()
        with torch.inference_mode():
            network(torch.zeros(1, *spec.input_shape))
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ConfigError(f"model.arch={arch} cannot take images of {spec.shape_words()}: {error}") from error
    except (OSError, ValueError) as error:
        made, reason = timm.get_pretrained_cfg(name), str(error).splitlines()[0]
        raise ConfigError(
            f"model.weights={weights}: {made.hf_hub_id or made.url} could not be had ({reason}). "
            "Without a network: put the file somewhere, and name it: model.weights=FILE."
        ) from error
    network.train()
    if tag is not None and load:
        log.info(f"{'weights':<10}{name} as published; the head is new")
    elif weights is not None and load:
        path = expanded(weights)
        given, where = read_weights(path, "model.weights")
        words = load_pretrained(network, given, f"model.weights={weights}", "classes" if spec.labels else "outputs")
        log.info(f"{'weights':<10}{path}{where}: {words}")
    return network


def timm_images(arch: str, weights: str | None) -> PublishedImages | None:
    """Return what images published weights of timm were trained on; None where no such weights are named."""
    if weights is None:
        return None
    timm = _timm()
    tag = _tag(timm, arch, weights)
    if tag is None:
        return None
    name = f"{arch}.{tag}" if tag else arch
    made = timm.get_pretrained_cfg(name)
    return PublishedImages(f"timm's {name}", made.input_size[1], list(made.mean), list(made.std))


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise ConfigError(f"model=timm needs timm ({error}): pip install 'trainer[timm]'") from error
    return timm


def _check_name(timm: Any, arch: str) -> None:
    known = timm.list_models()
    if arch not in known:
        hint = did_you_mean(arch, known)
        raise ConfigError(
            f"model.arch={arch}: timm has no such network.{hint} Its {len(known):,} are listed by timm.list_models()."
        )


def _tag(timm: Any, arch: str, weights: str | None) -> str | None:
    """Return the tag of published weights, "" for the usual ones; None where a file is meant, or none."""
    if weights is None or Path(weights).exists() or "/" in weights or Path(weights).suffix:
        return None
    if weights == DEFAULT:
        return ""
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{arch}.*")]
    if weights not in tags:
        raise ConfigError(
            f"model.weights={weights}: neither a file nor published weights of {arch}: "
            f"{', '.join([DEFAULT, *tags[:NAMED]])}{' …' * (len(tags) > NAMED)}."
        )
    return weights
