"""One name, one thing: no public name is defined twice, imports keep names, and Hydra's private names are not used."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import trainer

PACKAGE = Path(trainer.__file__).parent
# Other names than their own by which the field knows them.
HABITS = {"numpy": "np", "torch.nn.functional": "F", "matplotlib.pyplot": "plt"}
GUARDED = {"hydra", "omegaconf"}  # their private names change without notice

Sources = dict[str, str]  # module name -> source


def _sources() -> Sources:
    return {
        ".".join(("trainer", *path.relative_to(PACKAGE).with_suffix("").parts)): path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*.py")
    }


def repeated(modules: Sources) -> list[str]:
    """The public classes and functions that two modules define; a verb's `main` and the lessons, scripts, are apart."""
    homes: dict[str, list[str]] = defaultdict(list)
    for module, source in modules.items():
        if module.startswith("trainer.lessons."):
            continue
        command = module.startswith(("trainer.commands.", "trainer.cli"))
        for node in ast.parse(source).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not (command and node.name == "main"):
                homes[node.name].append(module)
    homes = {name: found for name, found in homes.items() if not name.startswith("_")}
    return [f"{name}: {', '.join(sorted(found))}" for name, found in sorted(homes.items()) if len(found) > 1]


def _aliases(source: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                if alias.asname is not None:
                    yield prefix + alias.name, alias.asname


def aliased(modules: Sources) -> list[str]:
    """The imports under another name, but for the habits of the field and the parts of pyarrow."""
    return [
        f"{module}: {name} as {alias}"
        for module, source in sorted(modules.items())
        for name, alias in _aliases(source)
        if HABITS.get(name) != alias and name.partition(".")[0] != "pyarrow"
    ]


def private(modules: Sources) -> list[str]:
    """The attributes with a private name that a module which imports Hydra or OmegaConf takes of anything else."""
    found = []
    for module, source in sorted(modules.items()):
        nodes = list(ast.walk(ast.parse(source)))
        imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
        if GUARDED & {name.partition(".")[0] for name in imported}:
            taken = [n for n in nodes if isinstance(n, ast.Attribute) and re.match("_[^_]", n.attr)]
            found += [f"{module}: {ast.unparse(n)}" for n in taken if ast.unparse(n.value) not in ("self", "cls")]
    return found


def test_no_two_modules_define_the_same_public_name() -> None:
    assert repeated(_sources()) == []


def test_no_import_is_under_another_name() -> None:
    assert aliased(_sources()) == []


def test_no_private_name_of_hydra_or_omegaconf_is_used() -> None:
    assert private(_sources()) == []


@pytest.mark.parametrize(
    ("find", "modules", "found"),
    [
        (repeated, {"trainer.a": "class Data: ...", "trainer.b": "class Data: ..."}, ["Data: trainer.a, trainer.b"]),
        (repeated, {"trainer.a": "def load(): ...", "trainer.b": "class load: ..."}, ["load: trainer.a, trainer.b"]),
        (repeated, {"trainer.a": "def _load(): ...", "trainer.b": "def _load(): ..."}, []),
        (repeated, {"trainer.a": "class A:\n def f(self): ...", "trainer.b": "def f(): ..."}, []),
        (repeated, {"trainer.commands.a": "def main(): ...", "trainer.commands.b": "def main(): ..."}, []),
        (repeated, {f"trainer.{a}": "def main(): ..." for a in ("commands.a", "cli", "b", "c")},
         ["main: trainer.b, trainer.c"]),
        (aliased, {"trainer.a": "def f():\n from trainer.b import c as d"}, ["trainer.a: trainer.b.c as d"]),
        (aliased, {"trainer.a": "import numpy as num"}, ["trainer.a: numpy as num"]),
        (aliased, {"trainer.a": "import numpy as np, pyarrow.csv as pc\nfrom torch.nn import functional as F"}, []),
        (private, {"trainer.a": "import omegaconf\nx._metadata.y"}, ["trainer.a: x._metadata"]),
        (private, {"trainer.a": "from hydra.core import x\nself._x\nx.__name__"}, []),
        (private, {"trainer.a": "x._metadata"}, []),
    ],
)  # fmt: skip
def test_each_rule_finds_what_breaks_it_and_nothing_else(find, modules: Sources, found: list[str]) -> None:
    assert find(modules) == found
