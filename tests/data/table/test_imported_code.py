"""Which source files the table code depends on, so that another version of any of them is another cache key."""

import ast
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trainer
from trainer.data.table.cache_key import LOADER
from trainer.data.table.imported_code import imported_names, imported_sources

PACKAGE = Path(trainer.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Prints the key of a table: before anything is changed, then after each change that the arguments name.
KEYS = """
import sys
from pathlib import Path
from trainer import Csv
from trainer.data.table.cache_key import table_key

folder, table, *changed = map(Path, sys.argv[1:])

def key():
    return table_key(Csv(path=str(table), target="y"), 0, [table], 0)

print(key())
for name in changed:
    path = folder / name
    before = path.read_bytes() if path.exists() else None
    path.write_bytes((before or b"") + b"# changed\\n")
    print(key())
    path.unlink() if before is None else path.write_bytes(before)
print(key())
"""


def test_a_module_that_the_table_code_imports_changes_the_key_wherever_it_lies(tmp_path: Path) -> None:
    folder, table = tmp_path / "trainer", tmp_path / "table.csv"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__", "*.gz"))
    table.write_text("x,y\n1,a\n2,b\n")
    dates = folder / "data" / "table" / "dates.py"
    dates.write_text(f"{dates.read_text()}\n\ndef late():\n    from trainer.system.added import anything\n")
    (folder / "system" / "added.py").write_text("anything = 1\n")
    imported = [
        "config/transform.py",
        "system/seeds.py",
        "data/files/mapped.py",
        "data/table/leakage.py",
        "system/added.py",
    ]
    others = ["models/cnn.py", "data/images/augment.py", "data/table/unused.py", "runs/build.py"]
    command = [sys.executable, "-c", KEYS, str(folder), str(table), *imported, *others]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, *changed, last = done.stdout.split()
    assert first == last
    keys = dict(zip(imported + others, changed, strict=True))
    assert {name for name, key in keys.items() if key != first} == set(imported)
    assert len(set(changed)) == len(imported) + 1, "each change has a key of its own"


def test_the_code_is_what_python_imports_and_no_more() -> None:
    source = f"import sys; before = set(sys.modules); import {LOADER}; print(*(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    loaded = {name for name in run.stdout.split() if name.startswith("trainer.")}
    code = imported_sources(LOADER)
    assert all(path.is_file() for path in code.values())
    packages = {name for name in loaded if (PACKAGE.parent / name.replace(".", "/")).is_dir()}
    assert code.keys() >= loaded - packages - {"trainer.version"}
    assert not {name for name in code if name.startswith(("trainer.runs", "trainer.models", "trainer.training"))}


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"trainer\.data\.table\.moved"):
        imported_sources("trainer.data.table.moved")


def names_by_parsing(path: Path) -> set[str]:
    """What a source imports, by the parser of Python over the whole of it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), "trainer.data")
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def test_the_imports_of_every_module_are_found_as_by_parsing_it() -> None:
    assert len(SOURCES) > 100
    for path in SOURCES:
        found, expected = set(imported_names(path.read_bytes(), "trainer.data")), names_by_parsing(path)
        assert found >= expected, path
        assert found == expected or path.name == "lesson.py", "its docstring shows a program"


WRITTEN = {
    "in one line": "import os, trainer.a as b",
    "in parentheses": "from trainer.a import (\n    b,  # (a comment\n    c as d,\n)",
    "over two lines": "from trainer.a import b, \\\n    c",
    "indented": "def f():\n    if 1:\n\tfrom trainer.a import b\n",
    "relative": "from . import b\nfrom .a import c\nfrom ..tasks import d",
    "with carriage returns": "import trainer.a\r\nfrom trainer.b import (c,\r\n d)\r\n",
    "beside prose": '"""It imports\nfrom where it stands\nimport duties: none\n"""\nimport trainer.a',
    "for type checkers": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from trainer.a import b",
}


@pytest.mark.parametrize("source", WRITTEN.values(), ids=WRITTEN.keys())
def test_an_import_is_found_however_it_is_written(tmp_path: Path, source: str) -> None:
    path = tmp_path / "module.py"
    path.write_bytes(source.replace("\tfrom", "        from").encode())
    assert set(imported_names(path.read_bytes(), "trainer.data")) == names_by_parsing(path)
