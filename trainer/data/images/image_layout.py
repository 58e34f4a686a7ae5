"""Where the images of each split and class are: how people name folders, and what in them is no image."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.data.files.cache import FOLDER
from trainer.data.images.image_files import EXTENSIONS, HEIC
from trainer.errors import DataError, did_you_mean

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "development", "eval", "evaluation"),
    "test": ("test", "tests", "testing"),
}
FILLERS = ("set", "data", "dataset", "images", "image", "imgs", "img", "split", "folder", "seg")  # beside those words
# What computers leave in folders: archives of a Mac, thumbnails of a NAS, notebooks, recycle bins, our own cache.
JUNK_FOLDERS = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found")
JUNK_FILES = ("thumbs.db", "desktop.ini")
# The first bytes of what people save under other endings, or none.
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*")
BRANDS = (b"ftypavif", b"ftypavis", *HEIC)
CONTAINERS = ((b"RIFF", 8, b"WEBP"), *((b"", 4, brand) for brand in BRANDS), (b"", 128, b"DICM"))
SHOWN = 5
TABLES = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")  # that may have the labels


class FolderFiles(NamedTuple):
    """The image files below a folder, in a fixed order, and how many others are passed over, by what they are."""

    images: list[Path]
    passed_over: Counter[str]


class ClassFolders(NamedTuple):
    """The folders of a split, one for each class, by the name of the class in NFC."""

    folder: Path
    classes: dict[str, Path]


class Layout(NamedTuple):
    """Which folders are the splits.

    Attributes:
        train: the classes to learn.
        val: those of the validation images; None: images are held out.
        notes: what was found and is not obvious, a sentence each.
    """

    train: ClassFolders
    val: ClassFolders | None
    notes: list[str]


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
        found = _classes(base)
        if all(split_of(name) for name in found.classes) and any(split_of(name) == "train" for name in found.classes):
            tables = [path for path in sorted(base.iterdir()) if path.suffix.lower() in TABLES]
            hint = f"data.labels={tables[0]}" if tables else "data.labels=TABLE, or data.label_pattern"
            raise DataError(
                f"{base}: {', '.join(f'{name}/' for name in found.classes)} are splits, not classes, and have no "
                f"folder for each class in them; say the classes: {hint}."
            )
        return Layout(found, None, notes)
    train = splits["train"]
    _check_count(train)
    chosen = None if held_out else splits.get("val") or splits.get("test")
    used = [train, *([chosen] if chosen else [])]
    unused = [name for name in folder_names(base) if not any(_is_in(part.folder, base / name) for part in used)]
    unused = [name for name in unused if _has_images(base / name)]
    strangers = [name for name in unused if split_of(name) is None]
    if strangers and len(splits) == 1:
        raise DataError(
            f"{base}: {_below(train.folder, base)} is a folder of training images or a class beside {strangers[0]}/; "
            f"set data.root={train.folder}, or rename it."
        )
    if unused:
        told = " and ".join(_below(part.folder, base) for part in used)
        verb = "is" if len(used) == 1 else "are"
        notes.append(f"{base}: {told} {verb} used, and not {', '.join(f'{name}/' for name in unused[:SHOWN])}.")
    if chosen is None and not held_out:
        notes.append(f"{base}: no folder of validation images by class; some of {train.folder.name}/ are held out.")
    return Layout(train, chosen, notes)


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


def folder_names(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, without junk, sorted."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_junk(entry.name))


def is_junk(name: str) -> bool:
    """Return whether a folder or a file of this name is something that a computer has left there."""
    return name.startswith((".", FOLDER)) or name.casefold() in (*JUNK_FOLDERS, *JUNK_FILES)


def files_below(folder: Path) -> FolderFiles:
    """Find the images below a folder; links are followed, each folder is entered once.

    A file is an image by its ending, or where that says nothing by its first bytes.
    """
    found, passed = list[Path](), Counter[str]()
    for parent, junk, names in _walk(folder):
        for name in junk:
            passed[f"in {name}"] += sum(len(files) for _, _, files in os.walk(parent / name))
        for name in names:
            if is_junk(name):
                passed["hidden, or of the system"] += 1
            elif is_image(parent / name):
                found.append(parent / name)
            else:
                passed[Path(name).suffix.lower() or "no ending"] += 1
    return FolderFiles(sorted(found), passed)


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield each folder below one, the junk folders in it that are not hidden, and its files."""
    entered = set[Path]()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = Path(parent).resolve()
        if real in entered:  # a link to where one already is
            folders.clear()
            continue
        entered.add(real)
        junk = [name for name in folders if is_junk(name)]
        folders[:] = sorted(set(folders) - set(junk))
        yield Path(parent), [name for name in junk if not name.startswith((".", FOLDER))], names


def is_image(path: Path) -> bool:
    """Return whether a file is taken for an image: by its ending, else by its first bytes."""
    if path.name.lower().endswith(EXTENSIONS):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return False
    return head.startswith(SIGNATURES) or any(
        head.startswith(start) and head[at : at + len(word)] == word for start, at, word in CONTAINERS
    )


def _splits(base: Path) -> dict[str, ClassFolders]:
    """Return the folders that are named as splits and have class folders with images, by split."""
    found: dict[str, ClassFolders] = {}
    for name in folder_names(base):
        role = split_of(name)
        if role is None:
            continue
        inner = _unwrapped(base / name, in_split=True)
        part = class_folders(inner)
        if not any(_has_images(path) for path in part.classes.values()):
            if part.classes and not _has_images(base / name):
                raise DataError(f"{inner}: no images ({', '.join(EXTENSIONS)}) in its class folders.")
            continue  # images without classes, or a class that bears such a name
        if role in found:
            one, other = sorted((_below(found[role].folder, base), _below(inner, base)))
            raise DataError(f"{base}: {one} and {other} both look like {role} images; rename one, or set data.root.")
        found[role] = part
    return found


def split_of(name: str) -> str | None:
    """Return the split that a folder of this name holds: train, val or test; None where the name says nothing."""
    words = [word for word in re.split(r"[\W_\d]+", name.casefold()) if word and word not in FILLERS]
    if len(words) != 1:
        return None
    return next((role for role, known in SPLITS.items() if words[0] in known), None)


def _classes(base: Path) -> ClassFolders:
    part = class_folders(base)
    _check_count(part)
    return part


def _check_count(part: ClassFolders) -> None:
    if len(part.classes) < 2:
        raise DataError(
            f"{part.folder}: found {len(part.classes)} class folder{'s' * (len(part.classes) != 1)}; expected one "
            "folder for each class, at least two, with its images inside."
        )


def _unwrapped(folder: Path, in_split: bool = False) -> Path:
    """Return the folder inside folders that hold nothing but one other folder, with folders in it.

    Args:
        in_split: whether the folder is that of a split, in which one may be named like it.
    """
    while True:
        names = folder_names(folder)
        if len(names) != 1 or not folder_names(folder / names[0]) or _images_in(folder):
            return folder
        if not in_split and split_of(names[0]) is not None:
            return folder
        folder /= names[0]


def _images_in(folder: Path) -> bool:
    files = (Path(entry.path) for entry in os.scandir(folder) if entry.is_file() and not is_junk(entry.name))
    return any(map(is_image, files))


def _has_images(folder: Path) -> bool:
    return any(not is_junk(name) and is_image(parent / name) for parent, _, names in _walk(folder) for name in names)


def _is_in(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _below(path: Path, base: Path) -> str:
    return f"{path.relative_to(base)}/"
