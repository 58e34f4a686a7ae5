"""The parts of a network from its inputs to its head: what is frozen, or trained at a rate of its own, part by part."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

from torch import nn

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
STACK = 3  # blocks from which a stack of the same is one


class Part(NamedTuple):
    """A block of layers; its parameters by their full names."""

    name: str
    parameters: dict[str, nn.Parameter]


def network_parts(model: nn.Module) -> list[Part]:
    """Return the parts that have parameters, in the order in which the network holds them; the last one is its head.

    A part is a layer, or a block of layers. What only scales or shifts, such as a normalisation, belongs to the part
    before it, and a parameter beside parts, such as a position embedding, to the first one.
    """
    parts: list[Part] = []
    for name, module in _blocks(model, ""):
        own = {f"{name}.{key}".lstrip("."): value for key, value in module.named_parameters()}
        if parts and all(value.ndim < 2 for value in own.values()):
            parts[-1].parameters.update(own)
        elif own:
            parts.append(Part(name, own))
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
