"""The parts of a network from its inputs to its head: what is frozen, or trained at a rate of its own, part by part."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from torch import nn

from trainer.config.model import ALL_BUT_HEAD
from trainer.errors import ConfigError

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
STACK = 3  # blocks from which a stack of the same is one
SHOWN = 12  # parts that an error names


class NetworkPart(NamedTuple):
    """A block of layers; its parameters by their full names."""

    name: str
    parameters: dict[str, nn.Parameter]


def network_parts(model: nn.Module) -> list[NetworkPart]:
    """Return the parts that have parameters, in the order in which the network holds them; the last one is its head.

    A part is a layer, or a block of layers. What only scales or shifts, such as a normalisation, belongs to the part
    before it, and a parameter beside parts, such as a position embedding, to the first one.
    """
    parts: list[NetworkPart] = []
    for name, module in _blocks(model, ""):
        own = {f"{name}.{key}".lstrip("."): value for key, value in module.named_parameters()}
        if parts and all(value.ndim < 2 for value in own.values()):
            parts[-1].parameters.update(own)
        elif own:
            parts.append(NetworkPart(name, own))
    held = {id(value) for part in parts for value in part.parameters.values()}
    beside = {name: value for name, value in model.named_parameters() if id(value) not in held}
    if parts:
        parts[0].parameters.update(beside)
    return parts


def _blocks(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the blocks of a module: itself, or those of the modules in it, where it only strings them together."""
    if name and not _strings_together(module):
        yield name, module
        return
    children = list(module.named_children())
    if not children:
        yield name, module
    for key, child in children:
        yield from _blocks(child, f"{name}.{key}".lstrip("."))


def _strings_together(module: nn.Module) -> bool:
    """Whether a module is a plain list of others, or little else than a stack of the same block."""
    if type(module) in CONTAINERS:
        return True
    whole = sum(p.numel() for p in module.parameters())
    for child in module.children():
        if type(child) not in CONTAINERS:
            continue
        blocks = [type(block) for block in child.children() if any(True for _ in block.parameters())]
        same = len(blocks) >= STACK and len(set(blocks)) == 1
        if same and sum(p.numel() for p in child.parameters()) > whole / 2:
            return True
    return False


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern names a parameter: `layer1` those of each module of that name, with `*` as in a shell."""
    return any(fnmatchcase(f".{name}.", f"*.{pattern}{end}") for end in (".", ".*"))


def frozen_parameters(model: nn.Module, freeze: str | None) -> dict[str, nn.Parameter]:
    """Return the parameters that `model.freeze` names: of all parts but the head, of the first N, or by a pattern.

    Raises:
        ConfigError: for a pattern that names none, and where nothing would be left to train.
    """
    if freeze is None:
        return {}
    parts, named = network_parts(model), dict(model.named_parameters())
    if freeze == ALL_BUT_HEAD or freeze.isdecimal():
        most = len(parts) - 1
        count = most if freeze == ALL_BUT_HEAD else int(freeze)
        if count > most:
            raise ConfigError(f"model.freeze={freeze}: the network has {len(parts)} parts; the last one is trained.")
        return {name: value for part in parts[:count] for name, value in part.parameters.items()}
    frozen = {name: value for name, value in named.items() if matches(name, freeze)}
    if not frozen:
        raise ConfigError(
            f"model.freeze={freeze}: no part of the network is called so; its parts: {part_names(parts)}. Or a number "
            f"of parts from the first, or {ALL_BUT_HEAD}."
        )
    if len(frozen) == len(named):
        raise ConfigError(f"model.freeze={freeze}: that is the whole network, and nothing is left to train.")
    return frozen


def freeze_for_good(model: nn.Module, freeze: str | None, thawed: bool) -> None:
    """Take the parameters that `model.freeze` names out of training, unless they are `thawed` at some step."""
    for parameter in frozen_parameters(model, freeze).values():
        parameter.requires_grad_(thawed)


def set_rates(model: nn.Module, multiples: Mapping[str, float], layer_decay: float | None) -> None:
    """Give parameters their multiples of the learning rate, in their attribute `lr_factor`.

    Args:
        multiples: by pattern; where several name a parameter, the last one counts.
        layer_decay: the head is trained at the full rate, and each part before it at this multiple of the rate of the
            part after it (ELECTRA, Clark et al. 2020, appendix B; BEiT, Bao et al. 2022).

    Raises:
        ConfigError: for a pattern that names no parameter.
    """
    parts = network_parts(model)
    for depth, part in enumerate(reversed(parts)):
        for parameter in part.parameters.values() if layer_decay is not None else ():
            _multiply(parameter, (layer_decay or 1.0) ** depth)
    chosen: dict[str, float] = {}
    named = dict(model.named_parameters())
    for pattern, multiple in multiples.items():
        found = dict.fromkeys((name for name in named if matches(name, pattern)), multiple)
        if not found:
            raise ConfigError(
                f"optimizer.lr_mult.{pattern}={multiple}: no part of the network is called so; its parts: "
                f"{part_names(parts)}."
            )
        chosen |= found
    for name, multiple in chosen.items():
        _multiply(named[name], multiple)


def _multiply(parameter: nn.Parameter, multiple: float) -> None:
    factor = getattr(parameter, "lr_factor", 1.0) * multiple
    parameter.lr_factor = factor  # type: ignore[attr-defined]


def part_names(parts: Sequence[NetworkPart]) -> str:
    """Return the names of parts for people: of many the first and the last ones."""
    names = [part.name for part in parts]
    return ", ".join(names) if len(names) <= SHOWN else ", ".join([*names[: SHOWN - 3], "…", *names[-2:]])
