"""The floors of the package: a module imports only from lower floors, and there are no cycles.

Imports inside functions count like those at the top. Two kinds do not: those for type checkers only, and those inside
the `build` and `read` methods of `trainer.config`, where a config imports what it makes.
"""

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.util import resolve_name
from pathlib import Path

import pytest

import trainer

# Each floor is a list of rows. A module imports from lower floors and from its own row, not from its neighbours.
FLOORS: dict[int, list[str]] = {
    0: ["trainer errors registry cadence seeds archive storage config config.*"],
    1: ["interfaces", "device", "memory", "process", "signals"],
    2: [
        "models models.*",
        "data data.*",
        "sinks sinks.*",
        "optimizers",
        "schedulers",
        "tasks",
        "plugins",
        "compose",
        "snapshot",
        "divergence",
        "gradients",
    ],
    3: ["state", "checkpoints", "plan"],
    4: ["tally step recorder engine"],
    5: ["runs resumption weights assembly inference screen execution"],
    6: ["commands commands.* cli __main__"],
}
TORCH_ON_THE_GROUND = {"trainer.seeds", "trainer.archive", "trainer.storage"}
PACKAGE = Path(trainer.__file__).parent

Sources = dict[str, str]  # module name -> source; a package's is that of its __init__.py


def _sources() -> Sources:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ("trainer", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def _place(module: str) -> tuple[int, int] | None:
    """Floor and row of a module; None for one that is not in the table."""
    name = module.removeprefix("trainer.")
    for floor, rows in FLOORS.items():
        for number, row in enumerate(rows):
            if any(fnmatchcase(name, pattern) for pattern in row.split()):
                return floor, number
    return None


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _import_statements(
    node: ast.AST, module: str, inside: str = ""
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """The imports that count, each with whether it is inside a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, inside == "function"
        elif _for_type_checkers(child):
            assert isinstance(child, ast.If)
            for other in child.orelse:
                yield from _import_statements(ast.Module([other], []), module, inside)
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if not (child.name in ("build", "read") and inside == "class" and module.startswith("trainer.config.")):
                yield from _import_statements(child, module, "function")
        elif isinstance(child, ast.ClassDef):
            yield from _import_statements(child, module, inside or "class")
        else:
            yield from _import_statements(child, module, inside)


def _names(statement: ast.Import | ast.ImportFrom, module: str, modules: Sources) -> list[str]:
    """What a statement imports, as full module names: `from trainer import seeds` is `trainer.seeds`."""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    is_package = any(name.startswith(f"{module}.") for name in modules)
    package = module if is_package else module.rpartition(".")[0]
    base = resolve_name("." * statement.level + (statement.module or ""), package)
    return [full if (full := f"{base}.{alias.name}") in modules else base for alias in statement.names]


def _imports(modules: Sources, at_the_top: bool = False) -> dict[str, set[str]]:
    """What each module imports; only at the top of the file, where asked."""
    return {
        module: {
            name
            for statement, in_function in _import_statements(ast.parse(source), module)
            if not (at_the_top and in_function)
            for name in _names(statement, module, modules)
        }
        for module, source in modules.items()
    }


def _cycle(graph: dict[str, set[str]]) -> list[str]:
    """A cycle of the graph, or []."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph.get(module, ())):
            if found := visit(other, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := visit(module, []))), [])


def violations(modules: Sources) -> list[str]:
    """Every broken rule, in words."""
    found = [f"{module} is not in the table" for module in modules if _place(module) is None]
    inner = {
        module: {name for name in names if name.partition(".")[0] == "trainer"}
        for module, names in _imports(modules).items()
    }
    for module, names in inner.items():
        for name in names:
            here, there = _place(module), _place(name)
            if here and there and not (there[0] < here[0] or there == here):
                found.append(f"{module} (floor {here[0]}) imports {name} (floor {there[0]})")
    if cycle := _cycle(inner):
        found.append(f"cycle: {' -> '.join(cycle)}")
    for module, names in _imports(modules, at_the_top=True).items():
        place = _place(module)
        if place and place[0] == 0 and module not in TORCH_ON_THE_GROUND:
            found += [
                f"{module} imports {name}" for name in names if name.partition(".")[0] in ("torch", "torchvision")
            ]
    return sorted(found)


def test_every_module_imports_only_from_lower_floors() -> None:
    assert violations(_sources()) == []


def test_every_row_of_the_table_has_a_module() -> None:
    names = [module.removeprefix("trainer.") for module in _sources()]
    patterns = [pattern for rows in FLOORS.values() for row in rows for pattern in row.split()]
    assert [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)] == []


def test_the_imports_of_the_package_are_seen() -> None:
    imports = _imports(_sources())
    assert {"trainer.engine", "trainer.runs", "trainer.compose"} <= imports["trainer.assembly"]
    assert "trainer.execution" in imports["trainer.commands.train"], "inside a function"
    assert "trainer.models.mlp" not in imports["trainer.config.model"], "inside build"
    assert "trainer.assembly" not in imports["trainer"], "for type checkers"


EMPTY = {"trainer": "", "trainer.config": "", "trainer.data": ""}
BROKEN: list[tuple[str, Sources, str]] = [
    ("upwards", {"trainer.engine": "from trainer.runs import Run", "trainer.runs": ""},
     "trainer.engine (floor 4) imports trainer.runs (floor 5)"),
    ("upwards by a plain import", {"trainer.engine": "import trainer.runs", "trainer.runs": ""},
     "trainer.engine (floor 4) imports trainer.runs (floor 5)"),
    ("upwards from the package", {"trainer.state": "from trainer import engine", "trainer.engine": ""},
     "trainer.state (floor 3) imports trainer.engine (floor 4)"),
    ("upwards, relative", {"trainer.data.csv": "from ..engine import Trainer", "trainer.engine": ""},
     "trainer.data.csv (floor 2) imports trainer.engine (floor 4)"),
    ("upwards inside a function", {"trainer.tasks": "def f():\n    import trainer.engine", "trainer.engine": ""},
     "trainer.tasks (floor 2) imports trainer.engine (floor 4)"),
    ("upwards inside a method", {"trainer.config.data": "class A:\n    def keys(self):\n        import trainer.tasks",
                                 "trainer.tasks": ""},
     "trainer.config.data (floor 0) imports trainer.tasks (floor 2)"),
    ("upwards inside a build that is no config's", {"trainer.tasks": "class A:\n    def build(self):\n"
                                                    "        import trainer.engine", "trainer.engine": ""},
     "trainer.tasks (floor 2) imports trainer.engine (floor 4)"),
    ("upwards inside a try", {"trainer.device": "try:\n    import trainer.tasks\nexcept ImportError:\n    pass",
                              "trainer.tasks": ""},
     "trainer.device (floor 1) imports trainer.tasks (floor 2)"),
    ("to a neighbour", {"trainer.tasks": "from trainer.schedulers import Clock", "trainer.schedulers": ""},
     "trainer.tasks (floor 2) imports trainer.schedulers (floor 2)"),
    ("cycle in a row", {"trainer.data.a": "import trainer.data.b", "trainer.data.b": "from trainer.data import a"},
     "cycle: trainer.data.a -> trainer.data.b -> trainer.data.a"),
    ("cycle through a function", {"trainer.data.a": "import trainer.data.b",
                                  "trainer.data.b": "def f():\n    import trainer.data.a"},
     "cycle: trainer.data.a -> trainer.data.b -> trainer.data.a"),
    ("torch on the ground", {"trainer.cadence": "import torch"}, "trainer.cadence imports torch"),
    ("a part of torch on the ground", {"trainer.config.model": "from torch import nn"},
     "trainer.config.model imports torch"),
    ("torch in a class body", {"trainer.registry": "class A:\n    import torch.nn"},
     "trainer.registry imports torch.nn"),
    ("an unknown module", {"trainer.helpers": ""}, "trainer.helpers is not in the table"),
]  # fmt: skip


@pytest.mark.parametrize(("modules", "message"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_module_that_breaks_a_rule_is_found(modules: Sources, message: str) -> None:
    assert violations(EMPTY | modules) == [message]


ALLOWED: dict[str, Sources] = {
    "downwards": {"trainer.engine": "from trainer.errors import TrainerError", "trainer.errors": ""},
    "inside a row": {"trainer.data.csv": "from trainer.data.split import split", "trainer.data.split": ""},
    "for type checkers": {
        "trainer.config.model": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from trainer.tasks import A",
        "trainer.tasks": "",
    },
    "what a config builds": {
        "trainer.config.model": "class A:\n    def build(self):\n        from trainer.models.a import B",
        "trainer.models.a": "",
    },
    "torch inside a function": {"trainer.config.model": "def f():\n    import torch"},
    "torch in seeds": {"trainer.seeds": "import torch"},
    "torch above the ground": {"trainer.device": "import torch"},
}


@pytest.mark.parametrize("modules", ALLOWED.values(), ids=ALLOWED.keys())
def test_what_the_rules_allow_is_no_violation(modules: Sources) -> None:
    assert violations(EMPTY | modules) == []
