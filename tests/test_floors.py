"""The floors of the package: a module imports only from lower floors, and there are no circles.

Every import counts: at the top of a file, inside a function, and for type checkers only. There are no exceptions.
"""

import ast
from pathlib import Path
from xml.etree import ElementTree

import floors
import pytest
from floors import FLOORS, PACKAGE, Graph, Sources, floor_of, imports, room_of, sources

import trainer

MOST_AT_THE_TOP = 6  # modules beside the rooms


def _circle(graph: Graph) -> list[str]:
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
    found = [f"{module} is not in the table" for module in modules if floor_of(module) is None]
    graph = imports(modules)
    inner = {module: {name for name in names if name.partition(".")[0] == "trainer"} for module, names in graph.items()}
    for module, names in inner.items():
        for name in names:
            here, there = floor_of(module), floor_of(name)
            if here is not None and there is not None and not (there < here or room_of(module) == room_of(name)):
                found.append(f"{module} (floor {here}) imports {name} (floor {there})")
    if circle := _circle(inner):
        found.append(f"circle: {' -> '.join(circle)}")
    for module, names in graph.items():
        heavy = {name.partition(".")[0] for name in names} & {"torch", "torchvision"}
        if room_of(module) in ("config", "errors", "version") and heavy:
            found.append(f"{module} imports {', '.join(sorted(heavy))}")
    return sorted(found)


def test_these_are_the_floors_of_the_package_that_is_tested() -> None:
    assert Path(trainer.__file__).parent == PACKAGE


def test_every_module_imports_only_from_lower_floors() -> None:
    assert violations(sources()) == []


def test_every_room_of_the_table_is_there() -> None:
    rooms = {room_of(module) for module in sources()}
    assert rooms == {room for rooms in FLOORS for room in rooms}


def test_the_top_folder_is_small_and_every_package_says_what_belongs_there() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_AT_THE_TOP
    for path in PACKAGE.rglob("*/__init__.py"):
        (statement,) = ast.parse(path.read_text(encoding="utf-8")).body
        assert isinstance(statement, ast.Expr) and len(path.read_text(encoding="utf-8").splitlines()) == 1, path


def test_the_imports_of_the_package_are_seen() -> None:
    found = imports(sources())
    assert {"trainer.training.trainer", "trainer.runs.directory"} <= found["trainer.runs.assemble"]
    assert "trainer.runs.run_training" in found["trainer.commands.train"], "inside a function"
    assert "trainer.models.mlp" in found["trainer.runs.build"], "inside an arm of a match"
    assert "trainer.runs.assemble" in found["trainer"], "for type checkers"


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
     "trainer.data.a (floor 3) imports trainer (floor 11)"),
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


def test_the_picture_of_the_floors_is_current() -> None:
    assert floors.is_current(floors.drawn(floors.TARGET), floors.described(sources())), "python scripts/floors.py"


def test_a_picture_is_out_of_date_with_another_arrow_or_numbers_that_are_far_off() -> None:
    picture = ["data: 50 modules, 7000 lines; imports errors", "errors: 1 modules, 40 lines; imports nothing"]
    assert floors.is_current(picture, picture)
    assert floors.is_current(picture, [picture[0].replace("7000", "8000"), picture[1]])
    assert not floors.is_current(picture, [picture[0].replace("7000", "10000"), picture[1]])
    assert not floors.is_current(picture, [picture[0].replace("50", "80"), picture[1]])
    assert not floors.is_current(picture, [picture[0].replace("errors", "errors, system"), picture[1]])
    assert not floors.is_current(picture, [picture[0].replace("errors", "errors (by name)"), picture[1]])
    assert not floors.is_current(picture, picture[:1])


def test_the_picture_is_drawn_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors, "TARGET", tmp_path / "floors.svg")
    monkeypatch.setattr(floors, "REPOSITORY", tmp_path)
    monkeypatch.setattr("sys.argv", ["floors.py"])
    assert floors.main() == 0
    assert ElementTree.parse(floors.TARGET).getroot().tag.endswith("svg")
    monkeypatch.setattr("sys.argv", ["floors.py", "--check"])
    assert floors.main() == 0
    floors.TARGET.write_text(floors.TARGET.read_text().replace("config, data", "data"))
    assert floors.main() == 1
