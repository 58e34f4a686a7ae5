"""Private names of other packages stand in few files, where each has its reason; see CONTRIBUTING."""

import ast
from pathlib import Path

import trainer

PACKAGE = Path(trainer.__file__).parent
# The files that may use them: those of torch; and, until their own parts are done, of OmegaConf, TensorBoard and nn.
ALLOWED = {"optim/fused.py", "config/compose.py", "loggers/tensorboard.py", "runs/assemble.py"}


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def foreign(source: str) -> list[str]:
    """The private names that a module uses and does not define itself."""
    nodes = list(ast.walk(ast.parse(source)))
    own = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    used = [
        ast.unparse(node)
        for node in nodes
        if isinstance(node, ast.Attribute)
        and _private(node.attr)
        and node.attr not in own
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "os"))  # os._exit is documented
    ]
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names] + (node.module or "").split(".")
            used += [ast.unparse(node)] * any(map(_private, names))
        if isinstance(node, ast.Import):
            used += [ast.unparse(node)] * any(_private(part) for alias in node.names for part in alias.name.split("."))
    return used


def test_private_names_of_others_stand_in_few_files() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix(): names
        for path in PACKAGE.rglob("*.py")
        if (names := foreign(path.read_text(encoding="utf-8")))
    }
    assert {file: names for file, names in found.items() if file not in ALLOWED} == {}


USES = (
    "torch._foreach_norm([], 2)",
    "from torch._utils import x",
    "from torch.nn.modules.batchnorm import _BatchNorm",
    "import numpy._core",
    "def f(gradient):\n    return gradient._values()",
)
NO_USES = ("self._x", "a.__name__", "class A:\n    def f(self, b):\n        self._x = b._x", "import os")


def test_a_private_name_is_found_however_it_is_reached() -> None:
    assert all(map(foreign, USES))
    assert not any(map(foreign, NO_USES))
