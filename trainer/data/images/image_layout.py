"""Where the images of each split and class are: which folders are splits, and which are classes."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.data.images.image_files import EXTENSIONS
from trainer.data.images.image_walk import folder_names, has_images, has_images_below
from trainer.data.images.listed_split import ListedSplit, listed_split, tables_of
from trainer.data.images.split_names import FILLERS, split_of
from trainer.errors import DataError, did_you_mean

SHOWN = 5


class ClassFolders(NamedTuple):
    """The folders of a split, one for each class, by the name of the class in NFC."""

    folder: Path
    classes: dict[str, Path]


class Layout(NamedTuple):
    """Which folders are the splits.

    Attributes:
        train: the classes to learn.
        val: those of the validation images; None: they are `listed`, or images are held out.
        listed: the validation images, where a table says their classes.
        notes: what was found and is not obvious, a sentence each.
    """

    train: ClassFolders
    val: ClassFolders | None
    notes: list[str]
    listed: ListedSplit | None = None


def find_layout(root: Path, held_out: bool = False) -> Layout:
    """Find the folders of the splits and classes below a folder.

    Args:
        root: the folder that the user names.
        held_out: whether the user wants validation images to be held out, so that no other folder is looked at.

    Raises:
        DataError: where the folders cannot be understood, or in two ways; names them.
    """
    if not root.is_dir():
        raise DataError(f"data.root={root}: no such folder.")
    base = _unwrapped(root)
    notes = [f"data.root: the images are in {base}."] if base != root else []
    splits = _splits(base)
    if "train" not in splits:
        if splits:
            named = next(iter(splits.values())).folder
            raise DataError(f"{base}: has {_below(named, base)} but no folder of training images beside it; rename it.")
        if base != root and has_images(base):
            raise DataError(
                f"{root}: {base.name}/ has images and folders, so it may be one class or hold several; "
                f"data.root={base} takes its folders as the classes."
            )
        found = _classes(base)
        if all(split_of(name) for name in found.classes) and any(split_of(name) == "train" for name in found.classes):
            raise DataError(
                f"{base}: {', '.join(f'{name}/' for name in found.classes)} are splits, not classes, and have no "
                f"folder for each class in them; say the classes: {_way_out(base)}."
            )
        return Layout(found, None, notes)
    train = splits["train"]
    _check_count(train)
    chosen = None if held_out else splits.get("val") or splits.get("test")
    flat = None if held_out or "val" in splits else _flat(base, splits)
    listed = None if flat is None else listed_split(flat, [*train.classes])
    if listed is not None:
        chosen = None
    used = [train.folder, *(part.folder for part in (chosen, listed) if part is not None)]
    unused = [name for name in folder_names(base) if not any(_is_in(folder, base / name) for folder in used)]
    unused = [name for name in unused if has_images_below(base / name)]
    strangers = [name for name in unused if split_of(name) is None]
    if strangers and len(splits) == 1 and listed is None:
        raise DataError(
            f"{base}: {_below(train.folder, base)} is a folder of training images or a class beside {strangers[0]}/; "
            f"set data.root={train.folder}, or rename it."
        )
    if unused:
        told = " and ".join(_below(folder, base) for folder in used)
        verb = "is" if len(used) == 1 else "are"
        notes.append(f"{base}: {told} {verb} used, and not {', '.join(f'{name}/' for name in unused[:SHOWN])}.")
    if chosen is None and listed is None and not held_out:
        notes.append(f"{base}: no folder of validation images by class; some of {train.folder.name}/ are held out.")
    return Layout(train, chosen, notes, listed)


def match_classes(part: ClassFolders, labels: Sequence[str], trained: Path) -> None:
    """Raise `DataError` for a class that training lacks.

    Args:
        part: the folders.
        labels: of training.
        trained: where those are.
    """
    unknown = sorted(set(part.classes) - set(labels))
    if unknown:
        hint = did_you_mean(unknown[0], labels)
        raise DataError(f"{part.folder}: class folder '{unknown[0]}' is not in {trained}.{hint}")


def class_folders(folder: Path) -> ClassFolders:
    """Return the folders in a folder as classes; raise `DataError` for two whose names look the same."""
    classes: dict[str, Path] = {}
    for name in folder_names(folder):
        label = unicodedata.normalize("NFC", name)
        if label in classes:
            raise DataError(f"{folder}: two class folders are named '{label}', written in two forms of Unicode.")
        classes[label] = folder / name
    return ClassFolders(folder, dict(sorted(classes.items())))


def _splits(base: Path) -> dict[str, ClassFolders]:
    """Return the folders that are named as splits and have class folders with images, by split."""
    found: dict[str, ClassFolders] = {}
    for name in folder_names(base):
        role = split_of(name)
        if role is None:
            continue
        inner = _unwrapped(base / name, in_split=True)
        part = class_folders(inner)
        if len(part.classes) == 1 and {*map(str.casefold, part.classes)} <= {*FILLERS}:
            continue  # images/ is no class
        if not any(has_images_below(path) for path in part.classes.values()):
            if part.classes and not has_images_below(base / name):
                raise DataError(f"{inner}: no images ({', '.join(EXTENSIONS)}) in its class folders.")
            continue  # images without classes, or a class that bears such a name
        if role in found:
            one, other = sorted((_below(found[role].folder, base), _below(inner, base)))
            raise DataError(f"{base}: {one} and {other} both look like {role} images; rename one, or set data.root.")
        found[role] = part
    return found


def _flat(base: Path, splits: dict[str, ClassFolders]) -> Path | None:
    """Return the folder of validation, else of test images, that has images without folders for their classes."""
    found = {role: base / name for name in folder_names(base) if (role := split_of(name)) not in splits}
    flat = [found[role] for role in ("val", "test") if role in found]
    return next(filter(has_images_below, flat), None)


def _classes(base: Path) -> ClassFolders:
    part = class_folders(base)
    _check_count(part)
    return part


def _check_count(part: ClassFolders) -> None:
    if len(part.classes) < 2:
        hint = f" Or say the classes of its images: {_way_out(part.folder)}." if has_images(part.folder) else ""
        raise DataError(
            f"{part.folder}: found {len(part.classes)} class folder{'s' * (len(part.classes) != 1)}; expected one "
            f"folder for each class, at least two, with its images inside.{hint}"
        )


def _way_out(base: Path) -> str:
    """Return the keys that may say the classes of images without class folders."""
    tables = [f"data.labels={path}" for path in tables_of(base)]
    return " or ".join(tables[:SHOWN]) or "data.labels=TABLE, or data.label_pattern='^([a-z]+)' for files' names"


def _unwrapped(folder: Path, in_split: bool = False) -> Path:
    """Return the folder inside folders that hold nothing but one other folder, with folders in it.

    Args:
        in_split: whether the folder is that of a split, in which one may be named like it.
    """
    while True:
        names = folder_names(folder)
        if len(names) != 1 or not folder_names(folder / names[0]) or has_images(folder):
            return folder
        if not in_split and split_of(names[0]) is not None:
            return folder
        folder /= names[0]


def _is_in(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _below(path: Path, base: Path) -> str:
    return f"{path.relative_to(base)}/"
