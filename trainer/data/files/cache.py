"""A cache of decoded datasets beside their files, so that a second run need not decode them again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.checkpoint import durable
from trainer.errors import CheckpointError, TrainerError
from trainer.system.file_system import say_once
from trainer.system.home import is_writable, temporary_folder, user_cache

FOLDER = ".trainer-cache"


def cached(root: Path, key: str, make: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """Return what `make` makes, from the cache of `root` where a verified copy is there.

    Args:
        root: the folder of the dataset; where it cannot be written, the cache is under `~/.cache/trainer`.
        key: names the content: whatever changes the result must change the key.
        make: returns a dictionary of tensors and plain data.

    Returns:
        The dictionary, memory-mapped when it came from the cache; and whether it did.
    """
    for folder in cache_folders(root):
        try:
            return durable.load_verified(folder / key, mmap=True), True
        except CheckpointError:
            continue  # absent, or damaged: it is made anew and replaced
    made = make()
    for folder in cache_folders(root):
        try:
            durable.save_durably(folder / key, made, {"what": "decoded dataset; safe to delete"})
            say_where(folder)
            break
        except TrainerError:  # read-only or full: the next folder, or no cache
            continue
    return made, False


def cache_folders(root: Path) -> list[Path]:
    """Return where the cache of a folder may be: in it; else in the user's cache folder; else among temporary files."""
    home, name = user_cache(), root.resolve().name
    temporary = [] if is_writable(home) else [temporary_folder() / "cache" / name]
    return [root / FOLDER, home / name, *temporary]


def say_where(folder: Path) -> None:
    """Say that a cache is in the temporary folder, where it is."""
    if not is_writable(user_cache()) and folder.is_relative_to(temporary_folder()):
        say_once("cache", f"{folder}: has the cache, for {user_cache()} cannot be written.")
