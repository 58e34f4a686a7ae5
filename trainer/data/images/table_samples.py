"""New images for a trained model that a table names, or has in it: as files, or a column for each pixel."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from trainer.config.data import ImageFolder
from trainer.data.images.embedded_images import image_column
from trainer.data.images.image_walk import is_image
from trainer.data.images.label_table import labelled_images, named_images, names_images, root_of
from trainer.data.images.listed_split import TABLES
from trainer.data.images.normalize import Normalize, pixel_range
from trainer.data.images.pixel_table import BYTES, read_pixel_table
from trainer.data.types import DataSpec, Samples, Split
from trainer.errors import ConfigError, DataError, did_you_mean


def is_label_table(source: Path) -> bool:
    """Return whether a source is a table: by its ending, and no image in truth."""
    return source.is_file() and any(ending.lower() in TABLES for ending in source.suffixes) and not is_image(source)


def listed_samples(
    config: ImageFolder, table: Path, spec: DataSpec, labelled: bool
) -> tuple[Path, Sequence[Path], Tensor, list[str]]:
    """Find the images of a table: below its own folder, else below that of the run.

    Returns:
        The folder of the images, the images, their targets (0 where they are not `labelled`), and notes.

    Raises:
        DataError: where it names no images, or a class that the run has not learned.
    """
    own = replace(config, labels=str(table), label_pattern=None, root=None)
    root = table.parent if names_images(own, table.parent, table) else root_of(config)
    if not labelled:
        folder, paths, missing = named_images(own, root, table)
        return folder, paths, torch.zeros(len(paths), dtype=torch.int64), _of_missing(table, missing)
    found = labelled_images(own, root)
    assert found is not None
    targets = _targets(table, found.labels, spec)
    root = root if image_column(table) is None else found.paths[0].parent
    return root, found.paths, targets, [*(" ".join(note.split()) for note in found.notes), *found.warnings]


def _of_missing(table: Path, missing: Sequence[str]) -> list[str]:
    return [f"{len(missing):,} rows of {table} name no image, the first: {missing[0]}."] if missing else []


def _targets(table: Path, labels: Sequence[str], spec: DataSpec) -> Tensor:
    """Return classes int64 (N,), or numbers float32 (N, 1)."""
    if spec.labels is None:
        return torch.tensor([[_number(table, label)] for label in labels])
    place = {label: i for i, label in enumerate(spec.labels)}
    strange = next((label for label in labels if label not in place), None)
    if strange is not None:
        hint = did_you_mean(strange, spec.labels)
        raise DataError(f"{table}: '{strange}' is no class of the run.{hint} It has {', '.join(spec.labels[:10])}.")
    return torch.tensor([place[label] for label in labels])


def _number(table: Path, label: str) -> float:
    try:
        value = float(label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{table}: the run predicts numbers, and '{label}' is none.")
    return value


def read_pixel_samples(
    config: ImageFolder, table: Path, spec: DataSpec, preprocessing: str | None, normalize: Normalize, labelled: bool
) -> Samples:
    """Read new images of a table with a column for each pixel, scaled as those of training.

    Raises:
        ConfigError, DataError: where its columns are others, or a class is none of the run's.
    """
    ends = next(iter(pixel_range(preprocessing)), BYTES)
    read = read_pixel_table(config, table, labelled, ends)
    lines, targets = read.table.lines(), torch.zeros(len(read.images), dtype=torch.int64)
    used = list(range(len(lines)))
    rejected = [str(rejection) for rejection in read.table.rejected]
    if labelled:
        if read.labels is None:
            raise ConfigError(f"{table}: has no column of classes.")
        used = [i for i, label in enumerate(read.labels) if label]
        rejected += [f"{table}, line {lines[i]}: has no class" for i, label in enumerate(read.labels) if not label]
        targets = _targets(table, [read.labels[i] for i in used], spec)
    index = torch.tensor(used, dtype=torch.int64)
    split = Split(read.images[index], targets if labelled else targets[index])
    return Samples(split, normalize, "line", [lines[i] for i in used], tuple(rejected))
