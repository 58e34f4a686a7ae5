"""Which source files a module depends on: its own, and those of the modules of its package that it imports."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

# A statement that imports, up to its end: parsing these alone takes a twentieth of the time of parsing whole files.
_STATEMENTS = re.compile(rb"^[ \t]*(?:from|import)\b(?:\\\r?\n|[^\n(])*(?:\([^)]*\))?", re.MULTILINE)


def imported_sources(module: str) -> dict[str, Path]:
    """Find the source files of a module and of all modules of its package that it imports, directly or through others.

    Nothing is run: the sources are searched. An import counts wherever it stands, in a function too.

    Args:
        module: its full name, such as `trainer.data.table.table_data`.

    Returns:
        The path of each source file by the name of its module, in alphabetical order.

    Raises:
        ModuleNotFoundError: where there is no such module.
    """
    package = module.partition(".")[0]
    spec = importlib.util.find_spec(package)
    folder = Path() if spec is None or spec.origin is None else Path(spec.origin).parents[1]
    found: dict[str, Path] = {}
    waiting = {module}
    while waiting:
        name = waiting.pop()
        stem = folder.joinpath(*name.split("."))
        path = next((file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()), None)
        if path is None:  # a class, function or constant of a module
            continue
        found[name] = path
        names = imported_names(path.read_bytes(), name if path.name == "__init__.py" else name.rpartition(".")[0])
        waiting |= {other for other in names if other.startswith(f"{package}.")} - found.keys()
    if module not in found:
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)
    return dict(sorted(found.items()))


def imported_names(source: bytes, package: str) -> Iterator[str]:
    """Yield the full names that a source imports: of modules, and of what may be a module or an attribute of one.

    Args:
        source: of a module.
        package: that its relative imports start from.
    """
    for statement in _parsed([text.strip() for text in _STATEMENTS.findall(source)]):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            base = importlib.util.resolve_name("." * statement.level + (statement.module or ""), package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in statement.names)


def _parsed(statements: list[bytes]) -> list[ast.stmt]:
    """Parse statements at once; where one is a line of a docstring, parse each by itself and leave that one out."""
    try:
        return ast.parse(b"\n".join(statements)).body
    except SyntaxError:
        return [] if len(statements) == 1 else [part for one in statements for part in _parsed([one])]
