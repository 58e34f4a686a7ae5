"""Images whose classes are in their names."""

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

from trainer.data.images.image_index import ImageIndex
from trainer.data.images.labelled import Labelled
from trainer.data.images.split_names import split_of
from trainer.errors import ConfigError, DataError


def labels_by_pattern(root: Path, pattern: str) -> Labelled:
    """Return the images below a folder whose path or name a pattern fits; its first group is the class.

    Raises:
        ConfigError: where it is no pattern with a group.
        DataError: where it fits no image.
    """
    try:
        search: Callable[[str], re.Match[str] | None] = re.compile(pattern).search
        if re.compile(pattern).groups < 1:
            raise ConfigError(f"data.label_pattern={pattern}: put the class in parentheses, as in '^([a-z]+)\\.'.")
    except re.error as error:
        raise ConfigError(f"data.label_pattern={pattern}: not a regular expression ({error}).") from error
    index = ImageIndex(root)
    found = [(path, search(path.relative_to(root).as_posix()) or search(path.name)) for path in index.images]
    paths = [path for path, match in found if match and match[1]]
    if not paths:
        example = index.images[0].relative_to(root) if index.images else "no image"
        count = len(index.images)
        raise DataError(f"data.label_pattern={pattern}: fits none of {count} images in {root}, such as {example}.")
    labels = [unicodedata.normalize("NFC", match[1]) for _, match in found if match and match[1]]
    left = len(index.images) - len(paths)
    others = f" + {left:,} whose name does not fit" if left else ""
    notes = [f"{'files':<10}{len(index.images):,} images found = {len(paths):,} used{others}"]
    roles = [split_of(path.relative_to(root).parts[0]) or "" if path.parent != root else "" for path in paths]
    return Labelled(paths, labels, roles, None, notes, [])
