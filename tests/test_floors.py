"""The floors of the package: a module imports only from lower floors, and there are no circles.

Every import counts: at the top of a file, inside a function, and for type checkers only. There are no exceptions.
"""

import ast
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

import trainer

# From the ground up. Rooms of one floor are neighbours: they do not import from one another.
FLOORS: list[list[str]] = [
    ["errors", "version"],
    ["config", "system"],
    ["checkpoint", "loggers", "optim"],
    ["data"],
    ["models", "tasks"],
    ["training"],
    ["runs"],
    ["commands"],
    ["cli"],
    ["__main__"],
    [""],  # the public face: `trainer` itself
    ["lessons"],
]
PACKAGE = Path(trainer.__file__).parent
MOST_AT_THE_TOP = 6  # modules beside the rooms

Sources = dict[str, str]  # module name -> source; a package's is that of its __init__.py


def _sources() -> Sources:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ("trainer", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def _room(module: str) -> str:
    """`data` of `trainer.data.table.reading`; "" of the public face, `trainer` itself."""
    return module.partition(".")[2].partition(".")[0]


def _floor(module: str) -> int | None:
    """The number of a module's floor; None for one that is not in the table."""
    return next((i for i, rooms in enumerate(FLOORS) if _room(module) in rooms), None)


def _names(statement: ast.Import | ast.ImportFrom, module: str, modules: Sources) -> Iterator[str]:
    """What a statement imports, as full module names: `from trainer.system import seeds` is `trainer.system.seeds`."""
    if isinstance(statement, ast.Import):
        targets = [alias.name for alias in statement.names]
    else:
        package = module if any(name.startswith(f"{module}.") for name in modules) else module.rpartition(".")[0]
        base = resolve_name("." * statement.level + (statement.module or ""), package)
        targets = [full if (full := f"{base}.{alias.name}") in modules else base for alias in statement.names]
    for target in targets:
        while target.partition(".")[0] == "trainer" and target not in modules:
            target = target.rpartition(".")[0]
        yield target


def _imports(modules: Sources) -> dict[str, set[str]]:
    """What each module imports, wherever the statement stands."""
    return {
        module: {
            name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in _names(node, module, modules)
        }
        for module, source in modules.items()
    }


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of the graph, or []."""
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
    found = [f"{module} is not in the table" for module in modules if _floor(module) is None]
    graph = _imports(modules)
    inner = {module: {name for name in names if name.partition(".")[0] == "trainer"} for module, names in graph.items()}
    for module, names in inner.items():
        for name in names:
            here, there = _floor(module), _floor(name)
            if here is not None and there is not None and not (there < here or _room(module) == _room(name)):
                found.append(f"{module} (floor {here}) imports {name} (floor {there})")
    if circle := _circle(inner):
        found.append(f"circle: {' -> '.join(circle)}")
    for module, names in graph.items():
        heavy = {name.partition(".")[0] for name in names} & {"torch", "torchvision"}
        if _room(module) in ("config", "errors", "version") and heavy:
            found.append(f"{module} imports {', '.join(sorted(heavy))}")
    return sorted(found)


def test_every_module_imports_only_from_lower_floors() -> None:
    assert violations(_sources()) == []


def test_every_room_of_the_table_is_there() -> None:
    rooms = {_room(module) for module in _sources()}
    assert rooms == {room for rooms in FLOORS for room in rooms}


def test_the_top_folder_is_small_and_every_package_says_what_belongs_there() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_AT_THE_TOP
    for path in PACKAGE.rglob("*/__init__.py"):
        (statement,) = ast.parse(path.read_text(encoding="utf-8")).body
        assert isinstance(statement, ast.Expr) and len(path.read_text(encoding="utf-8").splitlines()) == 1, path


def test_the_imports_of_the_package_are_seen() -> None:
    imports = _imports(_sources())
    assert {"trainer.training.trainer", "trainer.runs.directory"} <= imports["trainer.runs.assemble"]
    assert "trainer.runs.run_training" in imports["trainer.commands.train"], "inside a function"
    assert "trainer.models.mlp" in imports["trainer.runs.build"], "inside an arm of a match"
    assert "trainer.runs.assemble" in imports["trainer"], "for type checkers"


EMPTY = {"trainer": "", "trainer.config": "", "trainer.data": "", "trainer.runs": "", "trainer.tasks": ""}
TYPING = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "
BROKEN: list[tuple[str, Sources, str]] = [
    ("upwards", {"trainer.data.a": "from trainer.runs.b import Run", "trainer.runs.b": ""},
     "trainer.data.a (floor 3) imports trainer.runs.b (floor 6)"),
    ("upwards by a plain import", {"trainer.data.a": "import trainer.runs.b", "trainer.runs.b": ""},
     "trainer.data.a (floor 3) imports trainer.runs.b (floor 6)"),
    ("upwards to a package", {"trainer.data.a": "from trainer import runs"},
     "trainer.data.a (floor 3) imports trainer.runs (floor 6)"),
    ("upwards, relative", {"trainer.data.a": "from ..runs.b import Run", "trainer.runs.b": ""},
     "trainer.data.a (floor 3) imports trainer.runs.b (floor 6)"),
    ("upwards inside a method", {"trainer.config.data": "class A:\n    def build(self):\n        import trainer.tasks"},
     "trainer.config.data (floor 1) imports trainer.tasks (floor 4)"),
    ("upwards inside a try", {"trainer.data.a": "try:\n    import trainer.tasks\nexcept ImportError:\n    pass"},
     "trainer.data.a (floor 3) imports trainer.tasks (floor 4)"),
    ("upwards for type checkers", {"trainer.config.data": TYPING + "from trainer.tasks import A"},
     "trainer.config.data (floor 1) imports trainer.tasks (floor 4)"),
    ("the public face", {"trainer.data.a": "from trainer import Config"},
     "trainer.data.a (floor 3) imports trainer (floor 10)"),
    ("to a neighbour", {"trainer.tasks": "import trainer.models", "trainer.models": ""},
     "trainer.tasks (floor 4) imports trainer.models (floor 4)"),
    ("a circle in a room", {"trainer.data.a": "import trainer.data.b", "trainer.data.b": "from trainer.data import a"},
     "circle: trainer.data.a -> trainer.data.b -> trainer.data.a"),
    ("a circle through a function", {"trainer.data.a": "import trainer.data.b",
                                     "trainer.data.b": "def f():\n    import trainer.data.a"},
     "circle: trainer.data.a -> trainer.data.b -> trainer.data.a"),
    ("a circle for type checkers", {"trainer.data.a": "import trainer.data.b",
                                    "trainer.data.b": TYPING + "import trainer.data.a"},
     "circle: trainer.data.a -> trainer.data.b -> trainer.data.a"),
    ("torch in a config", {"trainer.config.model": "from torch import nn"}, "trainer.config.model imports torch"),
    ("torch in a function of a config", {"trainer.config.model": "def f():\n    import torch.nn"},
     "trainer.config.model imports torch"),
    ("an unknown module", {"trainer.helpers": ""}, "trainer.helpers is not in the table"),
]  # fmt: skip


@pytest.mark.parametrize(("modules", "message"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_module_that_breaks_a_rule_is_found(modules: Sources, message: str) -> None:
    assert violations(EMPTY | modules) == [message]


ALLOWED: dict[str, Sources] = {
    "downwards": {"trainer.data.a": "from trainer.errors import TrainerError", "trainer.errors": ""},
    "inside a room": {"trainer.data.a": "from trainer.data.b import split", "trainer.data.b": ""},
    "the public face itself": {"trainer": TYPING + "from trainer.tasks import A"},
    "torch above the ground": {"trainer.system.device": "import torch", "trainer.system": ""},
}


@pytest.mark.parametrize("modules", ALLOWED.values(), ids=ALLOWED.keys())
def test_what_the_rules_allow_is_no_violation(modules: Sources) -> None:
    assert violations(EMPTY | modules) == []
