"""Images with their labels, whatever says them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

SHOWN = 4  # tables whose notes are all shown


@dataclass(frozen=True)
class Labelled:
    """Images with what a table says of them.

    Attributes:
        paths: of the images.
        labels: the class of each.
        roles: the split of each, train, val or test; "" where nothing is said.
        groups: what belongs together on one side of a split; None: nothing is said.
        weights: how much each counts in the training loss; None: all the same.
        notes, warnings: for the first screen.
    """

    paths: list[Path]
    labels: list[str]
    roles: list[str]
    groups: list[str] | None
    notes: list[str]
    warnings: list[str]
    weights: list[float] | None = None

    def targets(self, names: Sequence[str]) -> Tensor:
        """Return the position of each label in `names`, int64 (N,)."""
        place = {name: number for number, name in enumerate(names)}
        return torch.tensor([place[label] for label in self.labels])

    def group_numbers(self) -> Tensor | None:
        """Return the number of the group of each image, int64 (N,)."""
        if self.groups is None:
            return None
        place = {name: number for number, name in enumerate(dict.fromkeys(self.groups))}
        return torch.tensor([place[name] for name in self.groups])


def together(parts: Sequence[Labelled]) -> Labelled:
    """Return the images of several tables as those of one."""
    groups = None if any(part.groups is None for part in parts) else [g for part in parts for g in part.groups or ()]
    paths = [path for part in parts for path in part.paths]
    labels, roles = ([x for part in parts for x in getattr(part, name)] for name in ("labels", "roles"))
    notes, warnings = ([x for part in parts for x in getattr(part, name)] for name in ("notes", "warnings"))
    weights = [x for part in parts for x in part.weights or [1.0] * len(part.paths)]
    if len(parts) > SHOWN:  # one of many files is like the others
        notes = [*parts[0].notes, f"{'note':<10}{len(parts) - 1:,} more tables, {len(paths):,} images in all"]
    weighted = any(part.weights is not None for part in parts)
    return Labelled(paths, labels, roles, groups, notes, warnings, weights if weighted else None)
