"""The images below a folder, found by what tables call them."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from trainer.data.images.image_walk import files_below


class ImageIndex:
    """Finds images by what tables call them: a path below the folder, a file's name, or its name without ending.

    Attributes:
        root: the folder.
        images: below it.
        passed_over: other files below it, by what they are.
    """

    def __init__(self, root: Path) -> None:
        below = files_below(root)
        self.root = root
        self.images, self.passed_over = below.images, below.passed_over
        self.by_name: dict[str, list[Path]] = {}
        for path in self.images:
            relative = unicodedata.normalize("NFC", path.relative_to(root).as_posix())
            for name in {relative, Path(relative).name, str(Path(relative).with_suffix("")), Path(relative).stem}:
                self.by_name.setdefault(name, []).append(path)

    def find(self, cell: str) -> list[Path]:
        """Return the images that a cell may name."""
        name = unicodedata.normalize("NFC", cell.strip().replace("\\", "/"))
        name = name.removeprefix("./")
        for form in (name, name.partition("/")[2], Path(name).name if name else ""):
            if form and form in self.by_name:
                return self.by_name[form]
        return []

    def find_all(self, cells: Sequence[str]) -> list[Path | None]:
        """Return the image of each cell: of several of a name the one in the folder that most of the others are in."""
        found = [self.find(cell) for cell in cells]
        folders = Counter(candidates[0].parent for candidates in found if len(candidates) == 1).most_common(1)
        usual = folders[0][0] if folders else None
        chosen: list[Path | None] = []
        for candidates in found:
            here = [path for path in candidates if path.parent == usual] if len(candidates) > 1 else candidates
            chosen.append(here[0] if len(here) == 1 else None)
        return chosen
