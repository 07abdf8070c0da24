"""The site: every public name has its place, the picture of the layout is that of the contract, pictures are there and are used."""

import re
import sys
from pathlib import Path

import pytest

import stochdeconv

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "scripts" / "tools"))
import draw_layout  # noqa: E402

PAGES = [*DOCS.rglob("*.md"), ROOT / "README.md"]
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")


def test_every_public_name_is_on_a_page():
    pages = "\n".join(page.read_text() for page in (DOCS / "reference" / "python").glob("*.md"))
    documented = set(re.findall(r"^::: stochdeconv\.(\w+)$", pages, flags=re.MULTILINE))
    assert set(stochdeconv.__all__) - {"__version__"} <= documented


def test_layout_is_that_of_the_contract():
    assert draw_layout.PICTURE.read_text() == draw_layout.draw(), "run 'python scripts/tools/draw_layout.py'"


def test_layout_draws_every_room():
    rooms = [room for floor in draw_layout.floors() for room in floor]
    assert {"cli", "losses", "sampling", "errors"} <= set(rooms)
    assert all(draw_layout.purpose(room) for room in rooms)
    assert all(f">{room}</text>" in draw_layout.draw() for room in rooms)


def pictures_of(page):
    return {(page.parent / name).resolve() for name in PICTURE.findall(page.read_text())}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pictures_are_there(page):
    assert [picture for picture in pictures_of(page) if not picture.is_file()] == []


def test_pictures_are_used():
    stored = {path for suffix in ("jpg", "png", "webp", "gif", "svg") for path in DOCS.rglob(f"*.{suffix}")}
    assert stored == stored & set().union(*map(pictures_of, PAGES))


def test_no_picture_is_larger_than_a_page_bears():
    assert [
        path.name for path in DOCS.rglob("*.*") if path.suffix in {".jpg", ".webp"} and path.stat().st_size > 1e6
    ] == []
    assert not list(DOCS.rglob("*.gif"))
