"""Weights from a file, in whatever people wrap them: read safely, and put into a network by name."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer.checkpoint import untrusted
from trainer.checkpoint.durable import UNLOADABLE
from trainer.errors import ConfigError
from trainer.models.parts import network_parts

# Where programs keep the weights in what they save, the ones that they evaluate with first.
WRAPPERS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model_state_dict", "model"),
    *("module", "net", "network", "backbone", "encoder", "weights", "params"),
)
COUNTERS = ("num_batches_tracked", "n_averaged")  # what no output depends on
# What torchvision's first DenseNets are published as: norm.1 for norm1 (its own loader renames them in the same way).
DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")
NAMED = 3  # names that a message shows

Weights = dict[str, Tensor]


def read_weights(path: Path, key: str) -> tuple[Weights, str]:
    """Return the tensors of a file by name, and which entry of the file they are, in words; "" where it is no other.

    Args:
        path: of a file of torch or of safetensors, known by its content.
        key: that named the file, for errors.

    Raises:
        ConfigError: where it cannot be read without running its code, or holds no tensors by name.
    """
    if path.is_dir():
        raise ConfigError(
            f"{key}={path}: is a folder; of a run of trainer, init_from={path} takes the weights, and its head."
        )
    if not path.is_file():
        raise ConfigError(f"{key}={path}: no such file.")
    content: Any = _safetensors(path, key) if _is_safetensors(path) else _pickled(path, key)
    where = ""
    while not _are_tensors(content):
        name = next((n for n in WRAPPERS if isinstance(content, Mapping) and isinstance(content.get(n), Mapping)), None)
        if name is None:
            raise ConfigError(f"{key}={path}: not a state dict (tensors by name), nor one of {', '.join(WRAPPERS)}.")
        content, where = content[name], f" of its {name}"
    return {str(name): value for name, value in content.items()}, where


def _are_tensors(content: object) -> bool:
    return isinstance(content, Mapping) and bool(content) and all(isinstance(v, Tensor) for v in content.values())


def _is_safetensors(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"  # after the length of a header in JSON


def _safetensors(path: Path, key: str) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{key}={path}: not a file of safetensors: {error}.") from error


def _pickled(path: Path, key: str) -> object:
    try:
        with open(path, "rb") as file:
            if file.read(2) == b"PK":  # older files of torchvision are no archives: what they claim, they must have
                untrusted.examine_members(file)
            content = torch.load(path, map_location="cpu", weights_only=True)
            untrusted.examine_tensors(content, path.stat().st_size)
    except UNLOADABLE as error:
        raise ConfigError(f"{key}={path}: not a state dict that can be loaded safely: {_reason(error)}.") from error
    return content


def _reason(error: Exception) -> str:
    """Return why torch does not load a file, without the advice to load it as code."""
    text = str(error)
    if found := re.search(r"GLOBAL (\S+) was not an allowed global", text):
        return f"it holds a {found[1]}, and making objects runs code; save model.state_dict() where the file is from"
    if text.startswith("Weights only load failed"):
        return "it is no file of torch or safetensors"
    return " ".join(text.split())[:300]


def renamed(given: Weights, own: Weights) -> Weights:
    """Return weights under the names of a network, without the prefixes that wrappers put before all of them.

    A prefix is left away, or added, where more tensors then have the name and shape of one of the network's.
    """
    fronts = sorted({name.partition(".")[0] for name in own if "." in name})  # of ours, before the network itself
    forms = [given]
    for start in (given, {DENSENET.sub(r"\1\2", name): value for name, value in given.items()}):
        form = start
        while form:
            forms += [form, *({f"{front}.{name}": value for name, value in form.items()} for front in fronts)]
            firsts = sorted({name.partition(".")[0] for name in form if "." in name})
            shorter = [{n[len(f) + 1 :]: v for n, v in form.items() if n.startswith(f"{f}.")} for f in firsts]
            form = max(shorter, key=lambda one: (_score(one, own), len(one)), default={})
    return max(forms, key=lambda one: _score(one, own))


def _score(given: Weights, own: Weights) -> int:
    return sum(name in own and own[name].shape == value.shape for name, value in given.items())


def load_pretrained(network: nn.Module, given: Weights, source: str, outputs: str = "outputs") -> str:
    """Put weights into a network, whose head may be another one and then keeps its initial weights.

    Args:
        network: loaded in place.
        given: see `read_weights`.
        source: that they come from, for errors.
        outputs: what the network gives, for people: classes, or outputs.

    Returns:
        What was loaded, in words.

    Raises:
        ConfigError: where tensors outside of the head are absent, or of another shape.
    """
    own: Weights = network.state_dict()
    held, given = _counted(given), renamed(given, own)
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    needed = _counted(own)
    head = network_parts(network)[-1].name
    top = head.partition(".")[0]  # of several dense layers, each may be another one
    new = [name for name in needed if name not in fitting]
    if strange := sorted(name for name in new if not name.startswith(f"{top}.")):
        sample = ", ".join(list(given)[:NAMED])
        raise ConfigError(
            f"{source}: not weights of this network; {len(strange)} of its tensors are absent or of another shape, the "
            f"first is {strange[0]}. The file has {len(given)}: {sample}, …"
        )
    network.load_state_dict(fitting, strict=False)
    words = f"{len(needed) - len(new)} of {len(needed)} tensors loaded"
    if new:
        last = f"{head}.weight"
        was, now = (len(part[last]) if last in part else 0 for part in (given, own))
        why = f"{now:,} {outputs} instead of {was:,}" if was and was != now else "the file has none of its shape"
        words += f"; head {top} ({len(new)} tensors) is new: {why}"
    if unused := len(held) - sum(name in own for name in _counted(given)):
        words += f"; {unused} tensors of the file are not of this network"
    return words


def _counted(weights: Weights) -> list[str]:
    return [name for name in weights if name.rpartition(".")[2] not in COUNTERS]
