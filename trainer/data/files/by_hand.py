"""Files of a published dataset that somebody has put somewhere by hand: found near the folder that is named."""

from collections.abc import Sequence
from pathlib import Path

from trainer.errors import DataError

DEPTH = 3  # levels of folders, that of the named one included


def best_folder(root: Path, names: Sequence[str]) -> tuple[Path, list[str]] | None:
    """Return the folder in or near `root` that has most of some files, and which; None where there is none of them."""
    best: tuple[Path, list[str]] | None = None
    level = [root] if root.is_dir() else []
    for _ in range(DEPTH):
        for folder in level:
            there = [name for name in names if (folder / name).is_file()]
            if there and (best is None or len(there) > len(best[1])):
                best = folder, there
        level = [path for folder in level for path in sorted(folder.iterdir()) if path.is_dir()]
    return best


def incomplete(folder: Path, names: Sequence[str], there: Sequence[str], changed: Sequence[str] = ()) -> DataError:
    """Return the error about files of which some are there, as published or not."""
    missing = [name for name in names if name not in there]
    words = [f"missing: {', '.join(missing)}"] if missing else []
    words += [f"not as published: {', '.join(changed)}"] if changed else []
    return DataError(
        f"{folder}: has {len(there)} of {len(names)} files of the dataset; {'; '.join(words)}. Put them right, or take "
        "the others away: where nothing is there, all is downloaded."
    )
