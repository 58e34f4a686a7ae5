"""The levels of categories and classes: each is its value, whatever its spelling, where that is one only."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer.data.table.column_statistics import Values

WHOLE_WITH_ZEROS = r"^(-?(?:0|[1-9][0-9]*))\.0+$"


def level_values(texts: pa.Array) -> pa.Array:
    """Return what each text stands for as a level: whole numbers without a fraction of zeros, and all else as it is."""
    if not pc.any(pc.match_substring_regex(texts, WHOLE_WITH_ZEROS)).as_py():
        return texts
    return pc.replace_substring_regex(texts, WHOLE_WITH_ZEROS, r"\1")


def match_levels(texts: pa.Array, levels: tuple[str, ...]) -> Values:
    """Return the position of each text in `levels`, from 1, int64 (N,); 0: it is none of them.

    A text that is no level as it stands is the one that is the same number, or the same word in another case, where
    that is one only.
    """
    exact = {level: number for number, level in enumerate(levels, 1)}
    values = level_values(pa.array(levels, pa.string())).to_pylist()
    exact = {value: exact[level] for level, value in zip(levels, values, strict=True)} | exact
    found = np.array([exact.get(text, 0) for text in level_values(texts).to_pylist()], dtype=np.int64)
    new = np.flatnonzero(found == 0)
    if len(new):
        counts = Counter(_folded(level) for level in levels)
        alike = {_folded(level): number for number, level in enumerate(levels, 1) if counts[_folded(level)] == 1}
        for at in new.tolist():
            found[at] = alike.get(_folded(texts[at].as_py()), 0)
    return found


def sort_levels(levels: Iterable[str]) -> list[str]:
    """Sort levels: by size where all are numbers, else by letters."""
    texts = list(levels)
    try:
        return sorted(texts, key=lambda text: (float(text), text))
    except ValueError:
        return sorted(texts)


def _folded(text: str) -> str:
    """Return what two spellings of one value share: the number, or the letters in one case without blanks around."""
    word = text.strip().casefold()
    if word[:1] == "0" and word[1:2].isdigit():
        return word  # a code, such as 007
    try:
        return format(float(word), ".17g")
    except ValueError:
        return word
