"""Draw docs/floors.svg: the rooms of the package on their floors, and which room imports from which.

    python scripts/floors.py            # draw it
    python scripts/floors.py --check    # say whether the picture shows the package as it is; exit code 1 if not

Every import counts: at the top of a file, inside a function, and for type checkers only. `tests/test_floors.py` reads
the same imports, and holds that they lead downwards.
"""

import argparse
import ast
import difflib
import re
import sys
from collections.abc import Iterator
from html import escape, unescape
from importlib.util import resolve_name
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "trainer"
TARGET = REPOSITORY / "docs" / "floors.svg"

# From the ground up. Rooms of one floor are neighbours: they do not import from one another.
FLOORS: list[list[str]] = [
    ["errors", "version"],
    ["config", "system"],
    ["checkpoint", "loggers", "optim"],
    ["data"],
    ["models", "tasks"],
    ["training"],
    ["runs"],
    ["sweeps"],
    ["commands"],
    ["cli"],
    ["__main__"],
    [""],  # the public face: `trainer` itself
    ["lessons"],
]

Sources = dict[str, str]  # module name -> source; a package's is that of its __init__.py
Graph = dict[str, set[str]]  # module name -> the modules that it imports

WIDTH, MARGIN, LEFT, BOX, ROW, GAP, LANE = 1000, 8, 34, 640, 38, 8, 18  # pixels of the picture
LONGEST = 64  # characters of what a room says of itself
IN, OUT = 13, 25  # where in a row the arrow into a room and the line out of it are
COLOURS = ["#b8860b", "#8b4513", "#2e8b57", "#1f77b4", "#6a51a3", "#c0392b", "#0b7a75", "#d2691e", "#555555"]
STYLE = (
    "text{font-family:-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:12px;fill:#444}"
    ".name{font-size:14px;font-weight:600;fill:#111}.floor{font-size:13px;fill:#888}.size{fill:#777}"
    "path[stroke]{fill:none}"
)
LEGEND = "● imports from that room, anywhere in a file   ○ only names a module of it, to import it when it is used"
TOLERANCE = 0.25  # the numbers in a picture may be that far from those of the package before it is out of date


def sources() -> Sources:
    """Return the modules of the package."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ("trainer", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def room_of(module: str) -> str:
    """Return `data` for `trainer.data.table.reading`; "" for the public face, `trainer` itself."""
    return module.partition(".")[2].partition(".")[0]


def floor_of(module: str) -> int | None:
    """Return the number of a module's floor; None for a module that is not in the table."""
    return next((i for i, rooms in enumerate(FLOORS) if room_of(module) in rooms), None)


def imports(modules: Sources) -> Graph:
    """Return what each module imports, wherever the statement stands."""
    return {
        module: {
            name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in _imported(node, module, modules)
        }
        for module, source in modules.items()
    }


def _imported(statement: ast.Import | ast.ImportFrom, module: str, modules: Sources) -> Iterator[str]:
    """Yield what a statement imports as module names: `from trainer.system import seeds` is `trainer.system.seeds`."""
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


def arrows(modules: Sources) -> dict[tuple[str, str], bool]:
    """Return the pairs (room, room that it imports from); True: it only names a module of it in a string."""
    strings: Graph = {
        module: {str(node.value) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
        for module, source in modules.items()
    }

    def between_rooms(graph: Graph) -> set[tuple[str, str]]:
        pairs = {(room_of(a), room_of(b)) for a, names in graph.items() for b in names & modules.keys()}
        return {(a, b) for a, b in pairs if a != b}

    imported = between_rooms(imports(modules))
    named = {(a, b) for a, b in between_rooms(strings) - imported if b}  # "trainer" is the name of the logger too
    return dict.fromkeys(imported, False) | dict.fromkeys(named, True)


def described(modules: Sources) -> list[str]:
    """Return the picture as text, one line a room: its size, then the rooms that it imports from."""
    lines, found = [], arrows(modules)
    for room in (room for rooms in reversed(FLOORS) for room in rooms):
        targets = sorted((b or "trainer") + " (by name)" * named for (a, b), named in found.items() if a == room)
        lines.append(f"{room or 'trainer'}: {_size(room, modules)}; imports {', '.join(targets) or 'nothing'}")
    return lines


def _size(room: str, modules: Sources) -> str:
    own = [source for module, source in modules.items() if room_of(module) == room]
    return f"{len(own)} module{'s' * (len(own) != 1)}, {sum(source.count(chr(10)) for source in own)} lines"


def is_current(picture: list[str], now: list[str]) -> bool:
    """Return whether two descriptions have the same rooms and arrows, and nearly the same numbers."""
    if [re.sub(r"\d+", "N", line) for line in picture] != [re.sub(r"\d+", "N", line) for line in now]:
        return False
    pairs = zip(*([int(n) for n in re.findall(r"\d+", " ".join(lines))] for lines in (picture, now)), strict=True)
    return all(abs(old - new) <= TOLERANCE * new for old, new in pairs)


def draw(modules: Sources) -> str:
    """Return the picture as SVG.

    A room is a row. From its box a line leads down its own lane; a dot in the row of another room says that it imports
    from there, a ring that it only names a module of it in a string.
    """
    rooms = [room for rooms in reversed(FLOORS) for room in rooms]
    rows: dict[str, int] = {}
    bands, top = [], MARGIN
    for number, floor in reversed(list(enumerate(FLOORS))):
        rows |= {room: top + ROW * i for i, room in enumerate(floor)}
        height = ROW * len(floor)
        bands += [
            f'<rect x="0" y="{top}" width="{WIDTH}" height="{height}" fill="#f4f4f2"/>',
            f'<text x="12" y="{top + height / 2 + 4:g}" class="floor">{number}</text>',
        ]
        top += height + GAP
    height = top + 22
    found = arrows(modules)
    lanes = {room: WIDTH - MARGIN - LANE * (i + 0.5) for i, room in enumerate(rooms)}
    lines = [line for room in rooms for line in _incoming(room, rows[room], lanes, found)]
    for room in rooms:
        lines += _outgoing(room, rows, lanes, found)
        lines += _box(room, rows[room], modules)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}">',
            f"<desc>\n{escape(chr(10).join(described(modules)))}\n</desc>",
            f"<style>{STYLE}</style>",
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            *bands,
            *lines,
            f'<text x="{LEFT}" y="{top + 10}" class="size">{LEGEND}</text>',
            "</svg>\n",
        ]
    )


def _box(room: str, top: int, modules: Sources) -> list[str]:
    about = ast.get_docstring(ast.parse(modules[f"trainer.{room}" if room else "trainer"])) or ""
    first = about.replace("\n", " ").replace("`", "").partition(". ")[0].removesuffix(".")
    if len(first) > LONGEST:
        first = first.partition(":")[0]
    y, middle = top + 4, top + ROW / 2 + 5
    return [
        f'<rect x="{LEFT}" y="{y}" width="{BOX}" height="{ROW - 8}" rx="4" fill="white" stroke="{_colour(room)}"/>',
        f'<text x="{LEFT + 10}" y="{middle:g}" class="name">{room or "trainer"}</text>',
        f'<text x="{LEFT + 108}" y="{middle:g}">{escape(first)}</text>',
        f'<text x="{LEFT + BOX - 10}" y="{middle:g}" text-anchor="end" class="size">{_size(room, modules)}</text>',
    ]


def _incoming(room: str, top: int, lanes: dict[str, float], found: dict[tuple[str, str], bool]) -> list[str]:
    """Draw the arrow into a room, from the farthest lane that joins it."""
    farthest = max((lanes[a] for a, b in found if b == room), default=None)
    if farthest is None:
        return []
    x, y = LEFT + BOX, top + IN
    return [
        f'<path d="M{farthest:g} {y}H{x + 6}" stroke="#999"/>',
        f'<path d="M{x + 7} {y - 3.5}L{x + 1} {y}L{x + 7} {y + 3.5}Z" fill="#666"/>',
    ]


def _outgoing(
    room: str, rows: dict[str, int], lanes: dict[str, float], found: dict[tuple[str, str], bool]
) -> list[str]:
    """Draw a room's lane down to the lowest room that it imports from, with a dot at each of them."""
    targets = {b: "white" if named else _colour(room) for (a, b), named in found.items() if a == room}
    if not targets:
        return []
    x, colour, lowest = lanes[room], _colour(room), max(rows[target] for target in targets) + IN
    return [
        f'<path d="M{LEFT + BOX} {rows[room] + OUT}H{x:g}V{lowest}" stroke="{colour}"/>',
        *(
            f'<circle cx="{x:g}" cy="{rows[target] + IN}" r="3.2" fill="{fill}" stroke="{colour}"/>'
            for target, fill in sorted(targets.items())
        ),
    ]


def _colour(room: str) -> str:
    return COLOURS[[room for rooms in FLOORS for room in rooms].index(room) % len(COLOURS)]


def main() -> int:
    """Draw the picture, or say whether it is current; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where it is out of date")
    modules = sources()
    if not parser.parse_args().check:
        TARGET.write_text(draw(modules), encoding="utf-8")
        return 0
    now, picture = described(modules), drawn(TARGET)
    if is_current(picture, now):
        return 0
    print(f"{TARGET.relative_to(REPOSITORY)} is out of date; draw it anew: python scripts/floors.py")
    print("\n".join(line for line in difflib.ndiff(picture, now) if line[0] in "+-"))
    return 1


def drawn(path: Path) -> list[str]:
    """Return the description that a picture contains."""
    found = re.search(r"<desc>\n(.*?)\n</desc>", path.read_text(encoding="utf-8"), re.DOTALL)
    return unescape(found[1]).splitlines() if found else []


if __name__ == "__main__":
    sys.exit(main())
