"""HTML to stand inside a page or a notebook: pictures as data, tables, whatever comes from outside escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from markupsafe import Markup

from stochdeconv.errors import InputError
from stochdeconv.images import files as image_files

# Longest side of a picture in a notebook, pixels: as wide as a cell is. One that is narrower than half of the other number is enlarged.
_LONGEST, _SMALLEST = 960, 480
# Numbers of a history that say where a row belongs; all others are losses.
_COUNTERS = ("batch", "step", "octave", "frame", "n_steps")


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


def picture(image: np.ndarray, *, alt: str) -> Markup:
    """Embed a picture in a notebook, neither wider than a cell nor too small to be seen.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3)
        Values in [0, 1].
    alt : str
        What is on it, for those who cannot see it.

    Returns
    -------
    Markup
    """
    # Pixels of a small picture are shown as squares, by a whole factor.
    factor = max(_SMALLEST // image.shape[1], 1)
    width = min(factor * image.shape[1], _LONGEST)
    return Markup('<img src="{}" alt="{}" width="{}" style="image-rendering:pixelated">').format(
        data_uri(image, longest=_LONGEST), alt, width
    )


def facts_table(facts: Mapping[str, object]) -> Markup:
    """Write names and values, a row each."""
    rows = (Markup("<tr><th>{}</th><td>{}</td></tr>").format(name, value) for name, value in facts.items())
    return Markup("<table>{}</table>").format(Markup("").join(rows))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """Write rows of cells below a header.

    Parameters
    ----------
    header : sequence of str
    rows : iterable of sequence
        Of each row its cells, whose text is escaped.

    Returns
    -------
    Markup

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
    values: dict[str, list[float]] = {}
    for row in last:
        for name, value in row.items():
            # Texts, as counters, say where a row belongs.
            if name not in _COUNTERS and isinstance(value, int | float | np.number):
                values.setdefault(name, []).append(float(value))
    return table(("loss", "at the end"), ((name, f"{np.mean(losses):.4g}") for name, losses in values.items()))
