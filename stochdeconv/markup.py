"""HTML to stand inside a page or a notebook: pictures as data, tables, whatever comes from outside escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from markupsafe import Markup

from stochdeconv import images as image_files
from stochdeconv.errors import InputError

# Longest side of a picture in a notebook, pixels: as wide as a cell is.
_LONGEST = 960
# Columns of a history that say where a row belongs; all others are losses.
_COUNTERS = ("batch", "step", "octave", "frame", "constraints")


def data_uri(image: np.ndarray, *, longest: int | None = None, quality: int = 88) -> str:
    """Write a picture as an address that holds it, for the ``src`` of an ``img``.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3)
        Values in [0, 1], clipped.
    longest : int, optional
        A picture with a longer side, in pixels, is made smaller.
    quality : int
        Of the JPEG, 1 to 95.

    Returns
    -------
    str
    """
    scale = 1.0 if longest is None else longest / max(image.shape[:2])
    if scale < 1.0:
        height, width = (max(round(side * scale), 1) for side in image.shape[:2])
        image = image_files.resize(np.asarray(image, np.float32), (height, width))
    content = image_files.jpeg_bytes(image, quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}"


def picture(image: np.ndarray, *, alt: str, longest: int = _LONGEST) -> Markup:
    """Embed a picture, (height, width, 3) in [0, 1]; `alt` says what is on it to those who cannot see it."""
    return Markup('<img src="{}" alt="{}">').format(data_uri(image, longest=longest), alt)


def facts_table(facts: Mapping[str, object]) -> Markup:
    """Write names and values, a row each."""
    rows = (Markup("<tr><th>{}</th><td>{}</td></tr>").format(name, value) for name, value in facts.items())
    return Markup("<table>{}</table>").format(Markup("").join(rows))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """Write rows of cells below a header.

    Raises
    ------
    InputError
        A row has more or fewer cells than the header.
    """
    written = []
    for row in rows:
        if len(row) != len(header):
            raise InputError(f"a row of a table has {len(row)} cells; expected {len(header)}: {', '.join(header)}")
        written.append(_row("td", row))
    return Markup("<table><thead>{}</thead><tbody>{}</tbody></table>").format(
        _row("th", header), Markup("").join(written)
    )


def _row(tag: str, cells: Iterable[object]) -> Markup:
    written = Markup("").join(Markup(f"<{tag}>{{}}</{tag}>").format(cell) for cell in cells)
    return Markup("<tr>{}</tr>").format(written)


def final_losses(history: Sequence[Mapping[str, object]]) -> Markup:
    """Tabulate the last value of each loss term of a history; where its rows carry a ``batch``, the mean over the batches."""
    last = {row.get("batch", 0): row for row in history}.values()
    names = dict.fromkeys(name for row in last for name in row if name not in _COUNTERS)
    means = {name: np.mean([row[name] for row in last if row.get(name) is not None]) for name in names}
    return table(("loss", "at the end"), ((name, f"{mean:.4g}") for name, mean in means.items()))
