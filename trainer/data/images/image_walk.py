"""The image files below folders, and whatever else is in them."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.data.files.cache import FOLDER
from trainer.data.images.image_files import EXTENSIONS, HEIC

KINDS = 4  # of passed over files that are told with their counts
HIDDEN = "hidden, or of the system"
# What computers leave in folders: archives of a Mac, thumbnails of a NAS, notebooks, recycle bins, our own cache.
JUNK_FOLDERS = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found")
JUNK_FILES = ("thumbs.db", "desktop.ini")
# The first bytes of what people save under other endings, or none.
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*")
BRANDS = (b"ftypavif", b"ftypavis", *HEIC)
CONTAINERS = ((b"RIFF", 8, b"WEBP"), *((b"", 4, brand) for brand in BRANDS), (b"", 128, b"DICM"))


class FolderFiles(NamedTuple):
    """The image files below a folder, in a fixed order, and how many others are passed over, by what they are."""

    images: list[Path]
    passed_over: Counter[str]


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
            _count_all(parent / name, passed)
        for name in names:
            if is_junk(name):
                passed[HIDDEN] += 1
            elif is_image(parent / name):
                found.append(parent / name)
            else:
                passed[_ending(name)] += 1
    return FolderFiles(sorted(found), passed)


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield each folder below one, the junk folders in it but for our own cache, and its files."""
    entered = set[Path]()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = Path(parent).resolve()
        if real in entered:  # a link to where one already is
            folders.clear()
            continue
        entered.add(real)
        junk = [name for name in folders if is_junk(name)]
        folders[:] = sorted(set(folders) - set(junk))
        yield Path(parent), [name for name in junk if not name.startswith(FOLDER)], names


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


def has_images(folder: Path) -> bool:
    """Return whether there are images in a folder itself."""
    files = (Path(entry.path) for entry in os.scandir(folder) if entry.is_file() and not is_junk(entry.name))
    return any(map(is_image, files))


def has_images_below(folder: Path) -> bool:
    """Return whether there are images in a folder, at any depth."""
    return any(not is_junk(name) and is_image(parent / name) for parent, _, names in _walk(folder) for name in names)


def files_outside(root: Path, used: Sequence[Path]) -> Counter[str]:
    """Count the files below a folder that are in none of the `used` folders, by what they are or where."""
    passed, folders = Counter[str](), {*used}
    parents = {parent for path in used for parent in path.parents}

    def look(folder: Path) -> None:
        if folder in folders:
            return
        for entry in os.scandir(folder):
            path = folder / entry.name
            if entry.name.startswith(FOLDER) or path in folders:
                continue
            if path in parents:
                look(path)
            elif entry.is_dir():
                _count_all(path, passed)
            elif is_junk(entry.name):
                passed[HIDDEN] += 1
            else:
                passed["images beside the folders" if is_image(path) else _ending(entry.name)] += 1

    look(root)
    return passed


def _count_all(folder: Path, passed: Counter[str]) -> None:
    """Count all files below a folder that is passed over."""
    if count := sum(len(files) for _, _, files in os.walk(folder)):
        passed[f"in {folder.name}"] += count


def _ending(name: str) -> str:
    return Path(name).suffix.lower() or "no ending"


def passed_over_words(passed_over: Counter[str], start: str = ": ") -> str:
    """Return what was passed over, with its kinds; "" where nothing was."""
    if not passed_over:
        return ""
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in passed_over.most_common(KINDS))
    more = f" and {len(passed_over) - KINDS} more kinds" if len(passed_over) > KINDS else ""
    return f"{start}{passed_over.total():,} passed over ({kinds}{more})"


def name_below(path: Path, root: Path) -> Path:
    """Return a path relative to the folder that it is below; as it is where it is elsewhere, such as in a cache."""
    return path.relative_to(root) if path.is_relative_to(root) else path
