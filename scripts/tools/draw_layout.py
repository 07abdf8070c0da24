"""Draw the layout of the package from the import contract in pyproject.toml.

    python scripts/tools/draw_layout.py

writes ``docs/explanation/layout.svg``; a test holds the picture equal to the contract and to what each room says it is for.
"""

from __future__ import annotations

import ast
import textwrap
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "explanation" / "layout.svg"

WIDTH, MARGIN, FLOOR, GAP = 760, 20, 58, 12
STYLE = (
    "text{font-family:system-ui,sans-serif;fill:#22303a}.room{font-weight:600;font-size:15px}.purpose{font-size:12px;fill:#4a5a66}"
    "rect.room{fill:#eef3f6;stroke:#8aa0ae}path{fill:none;stroke:#8aa0ae;stroke-width:1.5}"
)


def floors() -> list[list[str]]:
    """Read the rooms of the package from the contract, from the top floor down.

    Returns
    -------
    list of list of str
        Rooms side by side know nothing of each other; a room may import what lies below it.
    """
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [floor.split(" | ") for floor in layers]


def purpose(room: str) -> str:
    """Read what a room is for: the first line of its docstring.

    Parameters
    ----------
    room : str
        A package or module of ``stochdeconv``.

    Returns
    -------
    str
    """
    package = ROOT / "stochdeconv" / room
    source = package / "__init__.py" if package.is_dir() else package.with_suffix(".py")
    return (ast.get_docstring(ast.parse(source.read_text())) or "").split("\n")[0]


def draw() -> str:
    """Draw the floors one above the other.

    Returns
    -------
    str
        SVG with no reference to anything outside it.
    """
    rows = floors()
    height = 2 * MARGIN + len(rows) * FLOOR + (len(rows) - 1) * GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Layout of the package">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0L7,4L0,8"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for number, rooms in enumerate(rows):
        top = MARGIN + number * (FLOOR + GAP)
        parts += _floor(rooms, top)
        if number:
            middle = WIDTH / 2
            parts.append(f'<path d="M{middle:g},{top - GAP}V{top}" marker-end="url(#tip)"/>')
    return "\n".join([*parts, "</svg>", ""])


def _floor(rooms: list[str], top: int) -> list[str]:
    width = (WIDTH - 2 * MARGIN - (len(rooms) - 1) * GAP) / len(rooms)
    parts = []
    for number, room in enumerate(rooms):
        left = MARGIN + number * (width + GAP)
        parts.append(
            f'<rect class="room" x="{left:g}" y="{top}" width="{width:g}" height="{FLOOR}" rx="6"/>'
            f'<text class="room" x="{left + 12:g}" y="{top + 21}">{escape(room)}</text>'
        )
        lines = textwrap.wrap(purpose(room), width=int((width - 24) / 6.7), max_lines=2, placeholder=" …")
        parts += [
            f'<text class="purpose" x="{left + 12:g}" y="{top + 37 + 14 * line}">{escape(text)}</text>'
            for line, text in enumerate(lines)
        ]
    return parts


if __name__ == "__main__":
    PICTURE.write_text(draw())
    print(PICTURE)
