"""The pages for people name files that are there."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
FOLDERS = ("trainer", "conf", "tests", "scripts", "docs")
PLACEHOLDER = re.compile(r"[A-Z*{]")  # `trainer/models/NAME.py`


def named_paths(text: str) -> set[str]:
    """Return the targets of links that are no addresses, and the code that begins with a folder of the repository."""
    links = {target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in target}
    code = {word for span in re.findall(r"`([^`\n]+)`", text) for word in span.split()}
    return links | {word for word in code if word.startswith(tuple(f"{name}/" for name in FOLDERS))}


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/fundamentals.md", "docs/fine_tuning.md"]
)
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    path = REPOSITORY / page
    named = {name for name in named_paths(path.read_text(encoding="utf-8")) if not PLACEHOLDER.search(name)}
    assert named
    missing = [name for name in named if not (path.parent / name).exists() and not (REPOSITORY / name).exists()]
    assert missing == []


def test_placeholders_are_not_left_in_a_page() -> None:
    for page in REPOSITORY.glob("*.md"):
        assert re.findall(r"@[A-Z]+@", page.read_text(encoding="utf-8")) == [], page.name
