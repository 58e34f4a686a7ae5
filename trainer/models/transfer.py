"""The weights of one network as the beginning of another, whose classes or channels may be others."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.models.parts import network_parts
from trainer.models.pretrained import COUNTERS, Weights, renamed

NAMED = 5  # classes that the words name
GREY, RGB = 1, 3


def transfer(
    model: nn.Module, given: Weights, learned: Sequence[str] | None, classes: Sequence[str] | None
) -> list[str]:
    """Put the weights of a network into another one of the same body.

    Where the classes are others, the head keeps its initial weights, but for the rows of classes of the same name.
    Where images are grey instead of colour, or the other way round, the first convolution is adapted.

    Args:
        model: loaded in place.
        given: a state dict.
        learned: the classes that `given` tells apart; None: not known, or numbers.
        classes: those that `model` is to tell apart.

    Returns:
        What is not as it was, a sentence each.

    Raises:
        ValueError: where the bodies differ; names the first tensor that does.
    """
    own: Weights = model.state_dict()
    given = dict(renamed(given, own))
    said = [_adapt_channels(own, given)]
    parts = network_parts(model)
    head = list(parts[-1].parameters) if parts else []
    others = learned is not None and classes is not None and [*learned] != [*classes]
    if others or any(given[name].shape != own[name].shape for name in head if name in given):
        assert parts
        said.append(_transfer_head(parts[-1].name, head, own, given, learned or [], classes or []))
    strange = [
        name
        for name, value in own.items()
        if (name not in given or given[name].shape != value.shape) and name.rpartition(".")[2] not in COUNTERS
    ]
    unused = [name for name in given if name not in own and name.rpartition(".")[2] not in COUNTERS]
    if strange or unused:
        first, where = (strange[0], "of this network") if strange else (unused[0], "that this network has not")
        raise ValueError(f"{len(strange) + len(unused)} tensors differ, the first is {first} {where}")
    model.load_state_dict(given, strict=False)
    return [words for words in said if words]


def _adapt_channels(own: Weights, given: Weights) -> str:
    """Let the first convolution take images of other channels as it took those it has learned."""
    first = next((name for name, value in own.items() if value.ndim == 4), None)
    if first is None or first not in given:
        return ""
    now, before = own[first].shape, given[first].shape
    if len(before) != 4 or {now[1], before[1]} != {GREY, RGB} or now[0] != before[0] or now[2:] != before[2:]:
        return ""
    if now[1] == GREY:
        given[first] = given[first].sum(1, keepdim=True)  # a grey image is one whose three channels are alike
        return f"{first}: its colours summed for grey images"
    given[first] = given[first].expand(-1, RGB, -1, -1) / RGB
    return f"{first}: spread over the three colours"


def _transfer_head(
    name: str, head: list[str], own: Weights, given: Weights, learned: Sequence[str], classes: Sequence[str]
) -> str:
    """Make the head in `given` the initial one, with the rows of known classes; return what it has become."""
    known = [label for label in classes if label in learned]
    to = torch.tensor([classes.index(label) for label in known], dtype=torch.int64)
    from_ = torch.tensor([learned.index(label) for label in known], dtype=torch.int64)
    kept = False
    for key in head:
        new: Tensor = own[key].clone()
        old = given.get(key)
        if known and old is not None and _has_rows(new, classes) and _has_rows(old, learned, like=new):
            new[to] = old[from_].to(new.dtype)
            kept = True
        given[key] = new
    fresh = [label for label in classes if label not in learned] if kept else [*classes]
    words = [f"{_some(known)} as learned"] if kept else []
    words += [f"{_some(fresh)} new"] if fresh else []
    return f"head {name}: {'; '.join(words) or 'new'}"


def _has_rows(weights: Tensor, classes: Sequence[str], like: Tensor | None = None) -> bool:
    """Whether there is a row for each class, as long as those of another head."""
    return len(weights) == len(classes) and (like is None or weights.shape[1:] == like.shape[1:])


def _some(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:NAMED]) + ", …" * (len(labels) > NAMED)
    return f"{len(labels)} class{'es' * (len(labels) != 1)} ({shown})"
