"""Decoded datasets kept beside their files, so that a second run need not decode again."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.checkpoint import durable
from trainer.errors import CheckpointError, TrainerError

FOLDER = ".trainer-cache"


def cached(root: Path, key: str, make: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """What `make` gives, from the cache of `root` where a verified copy is there.

    Args:
        root: the dataset's folder; where it cannot be written, the cache is under `~/.cache/trainer`.
        key: names the content: whatever changes the result must change the key.
        make: gives a dictionary of tensors and plain data.

    Returns:
        The dictionary, memory-mapped when it came from the cache; and whether it did.
    """
    for folder in folders(root):
        try:
            return durable.load_verified(folder / key, mmap=True), True
        except CheckpointError:
            continue  # absent, or damaged: made anew, which replaces it
    made = make()
    for folder in folders(root):
        try:
            durable.save_durably(folder / key, made, {"what": "decoded dataset; safe to delete"})
            break
        except TrainerError:  # read-only or full: the next folder, or no cache
            continue
    return made, False


def folders(root: Path) -> list[Path]:
    """Where the cache of a dataset's folder may be: in it, or below the user's where that cannot be written."""
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return [root / FOLDER, home / "trainer" / root.resolve().name]
