"""From images with labels to the splits of a run: as the table says, by group, or not divided yet."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from trainer.config.data import ImageFolder
from trainer.data.images.image_listing import Listing, Scanned, count_words
from trainer.data.images.labelled import Labelled
from trainer.data.splits import split_samples
from trainer.errors import DataError

HELD_OUT = 0.2  # share of the images held out where nothing else is given
WORDS = float("inf")  # the place of labels that are no numbers
FEW = 20  # different numbers, from which a label is rather a number than a class


def labelled_listings(config: ImageFolder, labelled: Labelled, seed: int) -> Scanned:
    """Make the listings of images with labels: [train, val] where they are divided here, else [all].

    Raises:
        DataError: where there is one class, or no image to train on.
    """
    names = class_names(labelled.labels)
    weights = None if labelled.weights is None else torch.tensor(labelled.weights)
    whole = Listing(tuple(labelled.paths), labelled.targets(names), weights)
    parts = [
        whole if index is None else whole.subset(index)
        for index in divided(config, whole.targets, labelled.roles, labelled.group_numbers(), seed)
    ]
    notes = [*labelled.notes, *split_notes(names, [part.targets for part in parts])]
    held = sum(role in ("val", "test") for role in labelled.roles)
    if config.holds_out and held:
        notes.append(f"{'note':<10}{held:,} images are for validation or a test, and not used: a share is held out")
    return Scanned(names, parts, notes)


def class_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the different labels, numbers by their size; raise `DataError` for fewer than two."""
    names = tuple(sorted(set(labels), key=_by_number))
    if len(names) < 2:
        raise DataError(f"data.labels: all {len(labels)} images are of one class, {names[0]}.")
    return names


def divided(
    config: ImageFolder, targets: Tensor, roles: Sequence[str], groups: Tensor | None, seed: int
) -> list[Tensor | None]:
    """Return the positions of the samples of [train, val], each int64 (n,); or of [all], where nothing divides them.

    Where a share is held out, what the table has for validation or a test is left out. None stands for all positions.

    Args:
        config: says what is held out: that goes before what a table says.
        targets: int64 (N,).
        roles: of each sample: train, val, test or "".
        groups: of each sample, int64 (N,), which no split divides.
        seed: of the run.

    Raises:
        DataError: where one side would be empty.
    """
    val = next((role for role in ("val", "test") if role in roles), None)
    train = torch.tensor([i for i, role in enumerate(roles) if role in ("train", "")], dtype=torch.int64)
    if not len(train):
        raise DataError(f"data.split_column: no image is for training, and {len(roles)} are for {val}.")
    if val is not None and not config.holds_out:
        return [train, torch.tensor([i for i, role in enumerate(roles) if role == val], dtype=torch.int64)]
    if groups is not None:
        numbers = groups[train].unique(return_inverse=True)[1]
        return [train[index] for index in split_samples(holding_out(config), targets[train], seed, numbers)]
    return [train if len(train) < len(roles) else None]


def torn_groups(config: ImageFolder, roles: Sequence[str], groups: Sequence[str] | None) -> list[str]:
    """Return a warning where the splits of a table divide groups, such as the images of one patient."""
    if groups is None or config.holds_out:
        return []
    train = {group for role, group in zip(roles, groups, strict=True) if role in ("train", "")}
    held = {group for role, group in zip(roles, groups, strict=True) if role in ("val", "test")}
    torn = sorted(train & held)
    if not torn:
        return []
    return [f"{len(torn):,} groups are on both sides of the split of data.labels, the first: {torn[0]}."]


def holding_out(config: ImageFolder) -> ImageFolder:
    """Return the config with a share to hold out, where it says none."""
    return config if config.holds_out else replace(config, val_fraction=HELD_OUT)


def split_notes(names: Sequence[str], targets: Sequence[Tensor]) -> list[str]:
    """Return a line on the classes of each split, or of all samples; and one where they look like numbers."""
    sides = ("train", "val") if len(targets) > 1 else ("images",)
    counts = [torch.bincount(part, minlength=len(names)).tolist() for part in targets]
    lines = [
        f"{side:<10}{len(part):,}: {count_words(dict(zip(names, count, strict=True)))}"
        for side, part, count in zip(sides, targets, counts, strict=True)
    ]
    if len(names) > FEW and all(_by_number(name)[0] != WORDS for name in names):
        lines.append(f"{'note':<10}{len(names):,} different numbers; task=regression predicts the number itself")
    return lines


def _by_number(label: str) -> tuple[float, str]:
    """Sort labels that are numbers by their size, and then the others by their text."""
    try:
        number = float(label)
    except ValueError:
        number = WORDS
    return number if math.isfinite(number) else WORDS, label
