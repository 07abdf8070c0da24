"""Count what a rebuild of the package is judged by: modules, lines, long functions, files.

    python scripts/tools/count_house.py [FOLDER]

FOLDER is a checkout, this one by default; two checkouts can be held side by side.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path


def main() -> None:
    """Print the counts."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    package = root / "stochdeconv"
    modules = sorted(package.rglob("*.py"))
    top = [path for path in package.iterdir() if (path.suffix == ".py" or path.is_dir()) and path.name[0] != "_"]
    n_lines = {path: len(path.read_text().splitlines()) for path in modules}
    functions = sorted(function for path in modules for function in measured_functions(path))
    print(f"rooms at the top: {len(top)}, modules in all: {len(modules)}, lines: {sum(n_lines.values())}")
    print(f"files over 400 lines: {sum(n > 400 for n in n_lines.values())}")
    n_body, n_whole, name = functions[-1]
    print(f"longest function without its docstring: {n_body} lines, {name} ({n_whole} with it)")
    print(f"longest with it: {max((whole, name) for _, whole, name in functions)}")
    print(f"functions over 80 lines with their docstring: {sum(whole > 80 for _, whole, _ in functions)}")
    print(f"functions with functions in functions: {sum(map(n_nested, modules))}")
    for folder in ("tests", "scripts"):
        print(f"{folder}: {sum(len(path.read_text().splitlines()) for path in (root / folder).rglob('*.py'))} lines")
    print(f"README: {len((root / 'README.md').read_text().splitlines())} lines")


def measured_functions(path: Path) -> list[tuple[int, int, str]]:
    """Measure the functions of a module: lines without the docstring, lines in all, name."""
    rows = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            n_whole = node.end_lineno - node.lineno + 1
            first = node.body[0]
            n_docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) is not None else 0
            rows.append((n_whole - n_docstring, n_whole, f"{path.stem}.{node.name}"))
    return rows


def n_nested(path: Path) -> int:
    """Count functions that hold a function which holds another."""
    return sum(depth(node) >= 3 for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))


def depth(node: ast.AST) -> int:
    """Tell how many functions lie in each other from here down."""
    below = max((depth(child) for child in ast.iter_child_nodes(node)), default=0)
    return below + isinstance(node, ast.FunctionDef)


if __name__ == "__main__":
    main()
