"""How people name the splits of a dataset."""

import re

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "development", "eval", "evaluation"),
    "test": ("test", "tests", "testing"),
}
FILLERS = ("set", "data", "dataset", "images", "image", "imgs", "img", "split", "folder", "seg")  # beside those words


def split_of(name: str) -> str | None:
    """Return the split that something of this name holds: train, val or test; None where the name says nothing."""
    words = [word for word in re.split(r"[\W_\d]+", name.casefold()) if word and word not in FILLERS]
    if len(words) != 1:
        return None
    return next((role for role, known in SPLITS.items() if words[0] in known), None)
