"""Images whose classes are not their folders: a table says which is which."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trainer.config.data import ImageFolder
from trainer.data.images.embedded_images import image_column, shards, unpacked
from trainer.data.images.image_files import EXTENSIONS
from trainer.data.images.image_index import ImageIndex
from trainer.data.images.image_walk import files_below, passed_over_words
from trainer.data.images.label_pattern import labels_by_pattern
from trainer.data.images.label_rows import Rows, read_label_rows
from trainer.data.images.labelled import Labelled, together
from trainer.data.images.split_names import split_of
from trainer.errors import ConfigError, DataError, did_you_mean
from trainer.system.home import expanded

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # of Hugging Face's imagefolder, beside the images
METADATA_FILE = "file_name"
LABELS = ("label", "labels", "class", "class_name", "category", "target", "species", "breed", "diagnosis", "y", "dx")
SPLITS = ("split", "set", "subset", "partition", "fold", "dataset")
GROUPS = ("group", "group_id", "patient", "patient_id", "subject", "subject_id", "patientid")
WEIGHTS = ("sample_weight",)  # and not weight, which may be that of an animal
LOOKED_AT, FOUND = 200, 0.5  # rows; the share of them whose cell must name an image, for a column of files
NAMED = 3
MANY = 0.1  # of the rows: so many with a separator have several labels


def names_images(config: ImageFolder, root: Path, path: Path) -> bool:
    """Return whether a table has images in it, or a column that names those below a folder."""
    if image_column(path) is not None:
        return True
    index, rows = ImageIndex(root), read_label_rows(path)
    if not index.images:
        return False
    try:
        place, has_header = _file_column(config, root, path, rows, index)
    except DataError:
        return False
    return any(index.find(row[place]) for row in rows[has_header:])


def root_of(config: ImageFolder) -> Path:
    """Return the folder of the images: that of the table, where only a table is named.

    Raises:
        ConfigError: where neither is named.
    """
    if config.root is not None:
        return expanded(config.root)
    if config.labels is None:
        raise ConfigError("data.root is needed: the folder with train/ and val/ (or with one folder for each class).")
    return expanded(config.labels).parent


def labelled_images(config: ImageFolder, root: Path) -> Labelled | None:
    """Return the images of a folder with the labels that a table or a pattern gives; None where neither is there.

    Raises:
        ConfigError, DataError: where columns are not there, or nothing fits; names what was found on both sides.
    """
    if config.label_pattern is not None:
        return labels_by_pattern(root, config.label_pattern)
    if config.labels is not None:
        path = expanded(config.labels)
        path = path if path.exists() or not (root / config.labels).exists() else root / config.labels
        return _of_file(config, root, path, "")
    found = [path for folder in (root, *_folders(root)) for name in METADATA if (path := folder / name).is_file()]
    tables = [(path, rows) for path in found if _is_metadata(rows := read_label_rows(path))]
    parts = [_by_table(config, path.parent, path, rows, _role(path, root)) for path, rows in tables]
    if not parts and (files := shards(root)) and not files_below(root).images:
        parts = [_of_file(config, root, path, role) for path, role in files]
    return together(parts) if parts else None


def _of_file(config: ImageFolder, root: Path, path: Path, role: str) -> Labelled:
    """Return the images that a table names, or that are in it."""
    column = image_column(path) if path.is_file() else None
    if column is None:
        return _by_table(config, root, path, read_label_rows(path), role)
    folder, rows = unpacked(path, column, root)
    found = _by_table(config, folder, path, rows, role)
    return replace(found, notes=[f"{'unpacked':<10}the images of {path} are in {folder}", *found.notes])


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _role(path: Path, root: Path) -> str:
    return "" if path.parent == root else split_of(path.parent.name) or ""


def _is_metadata(rows: Rows) -> bool:
    return bool(rows) and METADATA_FILE in rows[0] and any(name.lower() in LABELS for name in rows[0])


def _by_table(config: ImageFolder, root: Path, path: Path, rows: Rows, role: str) -> Labelled:
    index = ImageIndex(root)
    if not index.images:
        raise DataError(f"{root}: no images ({', '.join(EXTENSIONS)}) in this folder or below it.")
    file_column, has_header = _file_column(config, root, path, rows, index)
    names = rows[0] if has_header else [f"column {i + 1}" for i in range(len(rows[0]))]
    body = rows[1:] if has_header else rows
    lower = [name.lower() for name in names]

    def column(key: str, usual: Sequence[str]) -> int | None:
        typed = getattr(config, key)
        if typed is None:
            places = (lower.index(name) for name in usual if name in lower)
            return next((place for place in places if place != file_column), None)
        if typed not in names:
            hint = did_you_mean(typed, names)
            raise ConfigError(f"data.{key}={typed}: {path} has no such column.{hint} It has {', '.join(names)}.")
        return names.index(typed)

    split, group = column("split_column", SPLITS), column("group_column", GROUPS)
    weight = column("weight_column", WEIGHTS)
    if split is not None and not any(split_of(row[split]) for row in body):
        if config.split_column is not None:
            raise DataError(f"data.split_column={names[split]}: none of its values is train, val or test.")
        split = None  # such as the numbers of folds
    known = {file_column, split, group, weight}
    label, labels = _labels(config, path, names, body, column("label_column", LABELS), known)
    found = index.find_all([row[file_column] for row in body])
    used = [i for i, image in enumerate(found) if image is not None and labels[i]]
    if not used:
        example = body[0][file_column] if body else ""
        raise DataError(
            f"data.labels={path}: none of its {len(body)} rows names an image in {root}; it has names such as "
            f"'{example}', and the folder {index.images[0].relative_to(root)}. See data.root and data.file_column."
        )
    paths = [image for i in used if (image := found[i]) is not None]
    left = len(index.images) - len(set(paths))
    notes = [
        f"{'labels':<10}{path}: {names[file_column]} names the file, {label} the class"
        + (f", {names[split]} the split" if split is not None else "")
        + (f", {names[group]} what stays together" if group is not None else "")
        + (f", {names[weight]} how much each counts" if weight is not None else ""),
        f"{'files':<10}{len(index.images) + index.passed_over.total():,} found = {len(set(paths)):,} used"
        + (f" + {left:,} not in the table" if left else "")
        + passed_over_words(index.passed_over, " + "),
    ]
    missing = [body[i][file_column] for i, image in enumerate(found) if image is None]
    warnings = []
    if missing:
        shown = ", ".join(missing[:NAMED])
        warnings.append(
            f"{len(missing):,} of {len(body):,} rows of {path} name no image in {root}, the first: {shown}."
        )
    if bare := sum(image is not None and not label for image, label in zip(found, labels, strict=True)):
        warnings.append(f"{bare:,} of {len(body):,} rows of {path} have no class, and are left out.")
    if twice := [name for name, count in Counter(paths).items() if count > 1]:
        warnings.append(f"{len(twice):,} images are in {path} more than once, the first: {twice[0]}.")
    roles = [role if split is None else split_of(body[i][split]) or "" for i in used]
    if split is not None and (others := roles.count("")):
        warnings.append(f"{others:,} images have another word than train, val or test in {names[split]}: for training.")
    if "val" in roles and (spare := roles.count("test")):
        notes.append(f"{'note':<10}{spare:,} images are for a test, and not used")
    groups = None if group is None else [body[i][group] or f"row {i}" for i in used]
    weights = None if weight is None else [_weight(path, names[weight], body[i][weight]) for i in used]
    return Labelled(paths, [labels[i] for i in used], roles, groups, notes, warnings, weights)


def _weight(path: Path, name: str, cell: str) -> float:
    try:
        weight = float(cell)
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise DataError(f"{path}: the column {name} (data.weight_column) holds '{cell}'; a weight is a number >= 0.")
    return weight


def named_images(config: ImageFolder, root: Path, path: Path) -> tuple[Path, list[Path], list[str]]:
    """Return the folder of the images that a table names or has in it, these images, and what it names in vain."""
    column = image_column(path)
    folder, rows = (root, read_label_rows(path)) if column is None else unpacked(path, column, root)
    index = ImageIndex(folder)
    if not index.images:
        raise DataError(f"{folder}: no images ({', '.join(EXTENSIONS)}) in this folder or below it.")
    place, has_header = _file_column(config, folder, path, rows, index)
    cells = [row[place] for row in rows[has_header:]]
    found = index.find_all(cells)
    images = [image for image in found if image is not None]
    return folder, images, [cell for cell, image in zip(cells, found, strict=True) if image is None]


def _file_column(config: ImageFolder, root: Path, path: Path, rows: Rows, index: ImageIndex) -> tuple[int, bool]:
    """Return which column names the files, and whether the first row is one of names."""
    if config.file_column is not None:
        if config.file_column not in rows[0]:
            hint = did_you_mean(config.file_column, rows[0])
            raise ConfigError(
                f"data.file_column={config.file_column}: {path} has no such column.{hint} It has {', '.join(rows[0])}."
            )
        return rows[0].index(config.file_column), True
    sample = rows[1 : LOOKED_AT + 1] or rows
    shares = [sum(bool(index.find(row[i])) for row in sample) / len(sample) for i in range(len(rows[0]))]
    best = max(range(len(shares)), key=shares.__getitem__)
    if shares[best] < FOUND:
        cells = ", ".join(f"'{cell}'" for cell in sample[0][:NAMED])
        raise DataError(
            f"data.labels={path}: no column of it names the images in {root}: its first row has {cells}, and the "
            f"folder {index.images[0].relative_to(root)}. See data.root and data.file_column."
        )
    return best, not index.find(rows[0][best])


def _labels(
    config: ImageFolder, path: Path, names: list[str], body: Rows, chosen: int | None, others: set[int | None]
) -> tuple[str, list[str]]:
    """Return what says the class, and the class of each row."""
    rest = [i for i in range(len(names)) if i not in others]
    if chosen is None and len(rest) == 1:
        chosen = rest[0]
    if chosen is not None:
        labels = [unicodedata.normalize("NFC", row[chosen]) for row in body]
        if config.label_column is None and (example := _several(labels)) is not None:
            raise DataError(
                f"data.labels={path}: {names[chosen]} has several labels for an image, such as '{example}', which no "
                f"task here learns; data.label_column={names[chosen]} takes each combination for a class of its own."
            )
        return names[chosen], labels
    flags = [i for i in rest if {row[i] for row in body} <= {"0", "1", "0.0", "1.0"}]
    if len(flags) > 1:
        ones = [[names[i] for i in flags if row[i] in ("1", "1.0")] for row in body]
        if all(len(one) == 1 for one in ones):
            return f"the 1 among {', '.join(names[i] for i in flags[:NAMED])} …", [one[0] for one in ones]
        raise DataError(
            f"data.labels={path}: {', '.join(names[i] for i in flags[:NAMED])} … are any number of labels for an "
            "image, which no task here learns; name a column of one class: data.label_column."
        )
    raise ConfigError(f"data.label_column is needed: which column of {path} is the class? It has {', '.join(names)}.")


def _several(labels: Sequence[str]) -> str | None:
    """Return an example where many labels are lists, or some consist of words that are labels elsewhere."""
    lists = [label for label in labels if any(len([*filter(None, label.split(sign))]) > 1 for sign in "|;")]
    if len(lists) > MANY * len(labels):
        return lists[0]
    known = {*labels}
    parts = ((label, [*filter(None, re.split(sign, label))]) for label in known for sign in (r"\s+", r"\s*,\s*"))
    return min((label for label, words in parts if len(words) > 1 and {*words} <= known), default=None)
