"""Count what a house is made of, so that a rebuild can be weighed: rooms, lines, long functions, imports that go up.

    python scripts/tools/count_house.py [FOLDER]

prints a table of a checkout, by default this one. Nothing of it is imported or run: it is read.
"""

from __future__ import annotations

import ast
import statistics
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LONG_FUNCTION, LONG_FILE = 80, 400


@dataclass(frozen=True)
class Function:
    """A function and its lines, with decorators and signature.

    Attributes
    ----------
    name : str
        Its module's, dotted, and its own.
    lines : int
        With its docstring.
    code : int
        Without.
    """

    name: str
    lines: int
    code: int


def read_modules(package: Path) -> dict[str, str]:
    """Read the sources of a package.

    Parameters
    ----------
    package : path

    Returns
    -------
    dict of str to str
        By dotted name, ``""`` for the package itself and ``"losses"`` for ``losses/__init__.py``.
    """
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return modules


def functions_of(name: str, source: str) -> Iterator[Function]:
    """Measure the functions and methods of a module, those within others too.

    Parameters
    ----------
    name, source : str
        Of the module.

    Yields
    ------
    Function
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            lines = node.end_lineno - first + 1
            documented = ast.get_docstring(node) is not None
            docstring = node.body[0].end_lineno - node.body[0].lineno + 1 if documented else 0
            yield Function(f"{name}.{node.name}", lines, lines - docstring)


def depth(node: ast.AST) -> int:
    """Tell how many functions lie in each other from a node down."""
    below = max(map(depth, ast.iter_child_nodes(node)), default=0)
    return below + isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def arrows_between_rooms(modules: dict[str, str], package: str, within: str = "") -> set[tuple[str, str]]:
    """Find which room imports which, anywhere in a module: a room is what lies side by side in a package.

    Parameters
    ----------
    modules : dict of str to str
        See `read_modules`.
    package : str
        Name of the whole.
    within : str
        The package whose rooms are meant, dotted; by default the whole.

    Returns
    -------
    set of (str, str)
        The room that imports, and the room that is imported. Imports for type checkers count, too.
    """
    rooms = {_room(name, within) for name in modules} - {""}
    arrows = set()
    for name, source in modules.items():
        if room := _room(name, within):
            targets = [target for node in ast.walk(ast.parse(source)) for target in _imported(node)]
            below = [target.removeprefix(f"{package}.") for target in targets if target.startswith(f"{package}.")]
            arrows |= {(room, _room(target, within)) for target in below if _room(target, within) in rooms - {room}}
    return arrows


def _room(name: str, within: str) -> str:
    if within and not name.startswith(f"{within}."):
        return ""
    return name.removeprefix(f"{within}.").split(".")[0]


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def read_floors(folder: Path) -> list[list[str]]:
    """Read the floors of a checkout, the top one first; none where no contract says them.

    Parameters
    ----------
    folder : path
        With a pyproject.toml.

    Returns
    -------
    list of list of str
    """
    contracts = tomllib.loads((folder / "pyproject.toml").read_text()).get("tool", {}).get("importlinter", {})
    layers = [contract["layers"] for contract in contracts.get("contracts", ()) if contract["type"] == "layers"]
    return [[room.strip("() ") for room in floor.replace(":", "|").split("|")] for floor in layers[0]] if layers else []


def rooms_in_circles(arrows: set[tuple[str, str]]) -> list[str]:
    """Name the rooms from which arrows lead back to themselves.

    Parameters
    ----------
    arrows : set of (str, str)

    Returns
    -------
    list of str
    """
    reach = set(arrows)
    while further := {(a, d) for a, b in reach for c, d in arrows if b == c} - reach:
        reach |= further
    return sorted(a for a, b in reach if a == b)


def count_lines(folder: Path, pattern: str) -> int:
    """Count lines of all files of a pattern; 0 where there are none."""
    return sum(len(path.read_text().splitlines()) for path in folder.rglob(pattern))


def count(folder: Path) -> list[tuple[str, str]]:
    """Count a checkout.

    Parameters
    ----------
    folder : path
        Holds ``stochdeconv/``, ``tests/``, ``scripts/``, README.md and pyproject.toml.

    Returns
    -------
    list of (str, str)
        What is counted, and how much it is.
    """
    package = folder / "stochdeconv"
    modules = read_modules(package)
    lengths = {name or "__init__": len(source.splitlines()) for name, source in modules.items()}
    functions = [function for name, source in modules.items() for function in functions_of(name, source)]
    longest, longest_code = (max(functions, key=lambda f, by=by: getattr(f, by)) for by in ("lines", "code"))
    long = [sum(getattr(function, by) > LONG_FUNCTION for function in functions) for by in ("lines", "code")]
    nested = sum(
        isinstance(node, ast.FunctionDef) and depth(node) > 2
        for source in modules.values()
        for node in ast.walk(ast.parse(source))
    )
    floors = read_floors(folder)
    insides = {name.rpartition(".")[0] for name in modules}
    circling = [
        f"{inside}.{room}".lstrip(".")
        for inside in sorted(insides)
        for room in rooms_in_circles(arrows_between_rooms(modules, package.name, inside))
    ]
    floor_of = {room: number for number, floor in enumerate(floors) for room in floor}
    arrows = arrows_between_rooms(modules, package.name)
    placed = [(floor_of[a], floor_of[b]) for a, b in arrows if a in floor_of and b in floor_of]
    packages = [path for path in package.iterdir() if (path / "__init__.py").is_file()]
    top = [path for path in package.glob("*.py") if path.stem != "__init__"]
    return [
        ("modules at the top", f"{len(top)}"),
        ("packages at the top", f"{len(packages)}"),
        ("modules in all", f"{len(modules)}"),
        (
            "lines of the package",
            f"{sum(lengths.values())}, median of a module {statistics.median(lengths.values()):g}",
        ),
        ("longest function", f"{longest.lines} ({longest.name})"),
        ("longest function without docstring", f"{longest_code.code} ({longest_code.name})"),
        (f"functions over {LONG_FUNCTION} lines", f"{long[0]}, {long[1]} without docstring"),
        ("functions in functions in functions", f"{nested}"),
        (f"files over {LONG_FILE} lines", f"{sum(length > LONG_FILE for length in lengths.values())}"),
        ("rooms on floors of the contract", f"{len(floor_of)} on {len(floors)}"),
        ("arrows between rooms", f"{len(arrows)}"),
        ("arrows upward", f"{sum(a > b for a, b in placed)}" if floors else "no floors"),
        ("arrows sideways", f"{sum(a == b for a, b in placed)}" if floors else "no floors"),
        ("rooms in circles, of all packages", ", ".join(circling) or "none"),
        ("lines of README.md", f"{len((folder / 'README.md').read_text().splitlines())}"),
        ("lines of tests", f"{count_lines(folder / 'tests', '*.py')}"),
        ("lines of scripts", f"{count_lines(folder / 'scripts', '*.py')}"),
    ]


if __name__ == "__main__":
    counted = count(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
    width = max(len(what) for what, _ in counted)
    for what, number in counted:
        print(f"{what:{width}}  {number}")
