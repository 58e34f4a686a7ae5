"""Images as rows of a table with a column for each pixel, as digits are often passed on."""

import math
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainer.config.data import ImageFolder
from trainer.config.table import Csv
from trainer.data.images.image_data import make_image_data
from trainer.data.images.label_table import GROUPS, LABELS, SPLITS, WEIGHTS
from trainer.data.images.labelled import Labelled
from trainer.data.images.labelled_listings import class_names, divided, holding_out, split_notes, torn_groups
from trainer.data.images.normalize import Normalize, with_pixel_range
from trainer.data.images.split_names import split_of
from trainer.data.images.words import normalize_note
from trainer.data.table.reading import read_table
from trainer.data.table.row_split import row_weights
from trainer.data.table.sniffing import sniff
from trainer.data.table.table import Table
from trainer.data.table.typed_file import TypedFile
from trainer.data.types import Data, Split
from trainer.errors import ConfigError, DataError, did_you_mean
from trainer.system.home import expanded

NUMBERED = re.compile(r"(.*?)\d+(x\d+)?")  # pixel0, or 1x1
BYTES = (0.0, 255.0)


@dataclass(frozen=True)
class PixelTable:
    """The images of a table.

    Attributes:
        table: as it was read.
        images: uint8 (N, channels, height, width).
        scale: what became 0 and 255.
        labels: the class of each, "" where there is none; None: no column has them.
        label: the name of that column.
        pixels: the names of the columns of pixels.
        others: the names of the columns of splits, groups and weights, by their key; None where there is none.
    """

    table: Table
    images: Tensor
    scale: tuple[float, float]
    labels: list[str] | None
    label: str | None
    pixels: list[str]
    others: dict[str, str | None]

    def texts(self, key: str) -> list[str] | None:
        """Return the values of a column of `others` as text; None where there is none."""
        name = self.others[key]
        return None if name is None else [value or "" for value in self.table.columns[name].to_pylist()]


def load_pixel_table(config: ImageFolder, seed: int) -> Data:
    """Load the images of the table of `data.labels`.

    Raises:
        ConfigError: where its columns are not those that the keys say.
        DataError: where it cannot be read.
    """
    assert config.labels is not None
    path = expanded(config.labels)
    read = read_pixel_table(config, path)
    used, labelled = _labelled(config, path, read)
    names = class_names(labelled.labels)
    targets, weight = labelled.targets(names), read.others["weight_column"]
    weights = None if weight is None else row_weights(read.table, weight, "data.weight_column")[used]
    whole = Split(read.images[used], targets, weights=weights)
    parts = divided(config, targets, labelled.roles, labelled.group_numbers(), seed)
    splits = [whole if index is None else whole.subset(index) for index in parts]
    if len(splits) == 2:
        config = replace(config, val_fraction=0.0, folds=None, fold=0)
    official = splits[1] if len(splits) == 2 else None
    data = make_image_data(config if official else holding_out(config), splits[0], official, names, seed, "read")
    assert data.preprocessing is not None
    normalised = normalize_note(config, Normalize.from_json(data.preprocessing))
    notes = [*labelled.notes, *split_notes(names, [part.targets for part in splits]), normalised, *data.notes]
    warnings, scale = (*data.warnings, *labelled.warnings), read.scale
    return replace(
        data,
        notes=tuple(notes),
        warnings=warnings,
        preprocessing=with_pixel_range(data.preprocessing, [] if scale == BYTES else [scale]),
    )


def _labelled(config: ImageFolder, path: Path, read: PixelTable) -> tuple[Tensor, Labelled]:
    """Return the rows that have a class, int64 (n,), and what the table says of them.

    Raises:
        ConfigError: where no column has the classes.
        DataError: where no row has one.
    """
    if read.labels is None:
        raise ConfigError(f"data.label_column is needed: which column of {path} is the class?")
    used = [i for i, label in enumerate(read.labels) if label]
    if not used:
        raise DataError(f"{path}: no row has a class in {read.label}.")
    words, groups = read.texts("split_column"), read.texts("group_column")
    if words is not None and not any(map(split_of, words)):
        if config.split_column is not None:
            raise DataError(f"data.split_column={config.split_column}: none of its values is train, val or test.")
        words = None  # such as the numbers of folds
    roles = [split_of(words[i]) or "" if words else "" for i in used]
    members = None if groups is None else [groups[i] or f"row {i}" for i in used]
    warnings = torn_groups(config, roles, members)
    if left := len(read.labels) - len(used):
        warnings.append(f"{left:,} of {len(read.labels):,} rows of {path} have no class, and are left out.")
    if rejected := read.table.rejected:
        warnings.append(f"{len(rejected):,} rows of {path} are left out, the first: {rejected[0]}.")
    found = [f"{'note':<10}{note.partition(' (else')[0]}" for note in read.table.notes]  # its keys are of data=csv
    notes = [*found, *_notes(config, path, read)]
    return torch.tensor(used), Labelled([], [read.labels[i] for i in used], roles, members, notes, warnings)


def read_pixel_table(
    config: ImageFolder, path: Path, labelled: bool = True, scale: tuple[float, float] | None = None
) -> PixelTable:
    """Read the images of a table.

    Args:
        config: says the shape, and which columns are what.
        path: the table, in any form that `data=csv` reads.
        labelled: whether the classes are wanted.
        scale: what becomes 0 and 255; None: as the config says, or as the values lie: 0 to 255, or 0 to 1.

    Raises:
        ConfigError: where its columns are not those that the keys say.
        DataError: where it cannot be read.
    """
    typed = TypedFile.of(path)
    names = list(sniff(Csv(), path).names if typed is None else typed.names)
    others = {
        key: _column(config, key, names, usual, path)
        for key, usual in (("split_column", SPLITS), ("group_column", GROUPS), ("weight_column", WEIGHTS))
    }
    label = _column(config, "label_column", names, LABELS, path) if labelled or config.label_column in names else None
    pixels = _pixels(config, names, {label, *others.values()}, path)
    rest = [name for name in names if name not in pixels and name not in others.values()]
    if label is None and labelled and len(rest) == 1:
        label = rest[0]
    texts = [name for name in (label, others["split_column"], others["group_column"]) if name is not None]
    numbers = [*pixels, *([weight] if (weight := others["weight_column"]) is not None else [])]
    ignored = [name for name in names if name not in (*numbers, *texts)]
    source = Csv(path=str(path), categorical=texts, numeric=numbers, ignore=ignored, on_error=config.on_error)
    table = read_table(source, labelled=False)
    values = np.empty((table.columns.num_rows, len(pixels)), np.float32)
    for i, name in enumerate(pixels):
        values[:, i] = table.columns[name].to_numpy()
    images, ends = _as_bytes(values, table, scale or (tuple(config.range) if config.range else None))
    labels = None if label is None or not labelled else [x or "" for x in table.columns[label].to_pylist()]
    return PixelTable(table, images.view(-1, *config.shape), ends, labels, label, pixels, others)


def _column(config: ImageFolder, key: str, names: list[str], usual: tuple[str, ...], path: Path) -> str | None:
    """Return the column that a key names, or one with a usual name."""
    typed = getattr(config, key)
    if typed is None:
        return next((name for name in names if name.lower() in usual), None)
    if typed not in names:
        raise ConfigError(f"data.{key}={typed}: {path} has no such column.{did_you_mean(typed, names)}")
    return str(typed)


def _pixels(config: ImageFolder, names: list[str], others: set[str | None], path: Path) -> list[str]:
    """Return the columns of pixels: those that differ by a number, or else all that are nothing else."""
    count = math.prod(config.shape)
    series = defaultdict[str, list[str]](list)
    for name in names:
        if (match := NUMBERED.fullmatch(name)) and name not in others:
            series[match[1]].append(name)
    rest = [name for name in names if name not in others]
    found = next((each for each in (*series.values(), rest) if len(each) == count), None)
    if found is None:
        shape = "x".join(map(str, config.shape))
        raise ConfigError(
            f"data.shape={shape}: is {count:,} pixels, and {path} has {len(rest):,} columns that may be some; "
            "name the others: data.label_column, data.split_column, data.group_column, data.weight_column."
        )
    return found


def _as_bytes(values: np.ndarray, table: Table, scale: tuple[float, ...] | None) -> tuple[Tensor, tuple[float, float]]:
    """Return numbers (N, pixels) as uint8, and what became 0 and 255.

    Raises:
        ConfigError: where the values are neither from 0 to 255 nor from 0 to 1, and nothing says what they are.
        DataError: where one is missing.
    """
    missing = np.isnan(values).any(1)
    if missing.any():
        raise DataError(f"{table.where(int(missing.argmax()))}: a pixel is missing.")
    least, most = (float(values.min()), float(values.max())) if values.size else BYTES
    if scale is None:
        whole = bool((values == np.round(values)).all())
        if least < 0 or most > BYTES[1] or (most > 1 and not whole):
            raise ConfigError(f"{table.files[0]}: has pixels from {least:g} to {most:g}; data.range=[BLACK,WHITE].")
        scale = BYTES if whole else (0.0, 1.0)
    low, high = scale
    if (low, high) != BYTES:
        values = (values - low) * (BYTES[1] / (high - low))
    return torch.from_numpy(np.clip(np.rint(values), *BYTES).astype(np.uint8)), (low, high)


def _notes(config: ImageFolder, path: Path, read: PixelTable) -> list[str]:
    shape = "×".join(map(str, config.shape))
    others = {
        "split_column": "the split",
        "group_column": "what stays together",
        "weight_column": "how much each counts",
    }
    said = [f"{read.label} is the class", *(f"{name} {others[key]}" for key, name in read.others.items() if name)]
    ends = "" if read.scale == BYTES else f"; {read.scale[0]:g} to {read.scale[1]:g} become 0 to 255 (data.range)"
    return [
        f"{'labels':<10}{path}: {', '.join(said)}",
        f"{'pixels':<10}{len(read.pixels):,} columns, {read.pixels[0]} … {read.pixels[-1]}, are {shape}{ends}",
    ]
