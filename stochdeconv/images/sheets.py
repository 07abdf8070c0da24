"""Contact sheets: pictures tiled on white, with captions, to be looked at together."""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stochdeconv.errors import InputError

# Pictures narrower than this, in pixels, are enlarged where they bear captions: words need the room, and small pictures the size.
_CAPTIONED_WIDTH = 224
#: What a person still makes out, in pixels: digits of 28 are shown at four times their size.
LEGIBLE_WIDTH = 96
_BOX_COLOR = (0.2, 1.0, 0.2)


def contact_sheet(
    images: np.ndarray,
    *,
    columns: int | None = None,
    margin: int = 4,
    captions: Sequence[str] = (),
    least_width: int = 1,
) -> np.ndarray:
    """Tile pictures on white, to be looked at together.

    Parameters
    ----------
    images : ndarray of shape (image, height, width, 3) or (image, height, width, 1)
        Values in [0, 1].
    columns : int, optional
        Pictures in a row; by default a single row up to five pictures, then near square with the fewest gaps.
    margin : int
        White pixels around each picture.
    captions : sequence of str
        One for each picture, written below it on as many lines as it takes (a line break starts one); none by default.
    least_width : int
        Narrower pictures are enlarged by a whole factor, each pixel to a square; those with captions at least to 224 pixels.

    Returns
    -------
    ndarray of shape (rows * (height + caption + margin) + margin, columns * (width + margin) + margin, 3)
        float32 in [0, 1]; height and width are those of an enlarged picture.

    Raises
    ------
    InputError
        These are no pictures, or none; no column; another number of captions than of pictures.
    """
    images = np.asarray(images, dtype=np.float32)
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images.repeat(3, axis=-1)
    if images.ndim != 4 or images.shape[-1] != 3 or len(images) == 0:
        raise InputError(f"a contact sheet is made of pictures of shape (image, height, width, 3); got {images.shape}")
    factor = math.ceil(max(least_width, _CAPTIONED_WIDTH if captions else 1) / images.shape[2])
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    n_images, height, width, _ = images.shape
    if columns is None:
        columns = _columns(n_images)
    elif columns < 1:
        raise InputError(f"a contact sheet has at least one column; got {columns}")
    if captions and len(captions) != n_images:
        raise InputError(f"a contact sheet has a caption for each picture; got {len(captions)} for {n_images}")
    written = _written(captions, width)
    step_y, step_x = height + margin + written.shape[1], width + margin
    rows = math.ceil(n_images / columns)
    sheet = np.ones((rows * step_y + margin, columns * step_x + margin, 3), np.float32)
    for index, image in enumerate(images):
        top = margin + (index // columns) * step_y
        left = margin + (index % columns) * step_x
        sheet[top : top + height, left : left + width] = np.clip(image, 0.0, 1.0)
        if captions:
            sheet[top + height : top + height + written.shape[1], left : left + width] = written[index]
    return sheet


def outlined(picture: np.ndarray, boxes: Sequence[Sequence[int]]) -> np.ndarray:
    """Draw boxes on a picture, bright green with black around it, so that they are seen on whatever it shows.

    Parameters
    ----------
    picture : ndarray of shape (height, width, 3) or (height, width, 1)
        In [0, 1].
    boxes : sequence of (x, y, width, height)
        Left and upper edge and size of each, in pixels.

    Returns
    -------
    ndarray of shape (height, width, 3)
        A copy, float32.
    """
    drawn = np.array(np.broadcast_to(picture, (*picture.shape[:2], 3)), np.float32)
    line = max(1, min(picture.shape[:2]) // 150)
    rows, columns = np.indices(picture.shape[:2])
    for x, y, width, height in boxes:
        # How far inside the box a pixel lies; the line is within it, the black on both sides of the line.
        depth = np.minimum.reduce([columns - x, x + width - 1 - columns, rows - y, y + height - 1 - rows])
        drawn[(depth >= -line) & (depth < 2 * line)] = 0
        drawn[(depth >= 0) & (depth < line)] = _BOX_COLOR
    return drawn


def _written(captions: Sequence[str], width: int) -> np.ndarray:
    """Write captions in black on white, (caption, height, width, 3), all as high as the highest; height 0 without any."""
    if not captions:
        return np.ones((0, 0, width, 3), np.float32)
    size = min(max(width // 14, 9), 24)
    font = ImageFont.truetype(_font_file(), size)
    fitted = [
        "\n".join(line for part in caption.split("\n") for line in _lines(part, font, width)) for caption in captions
    ]
    height = max(caption.count("\n") + 1 for caption in fitted) * (size + 4) + 2
    written = []
    for caption in fitted:
        picture = Image.new("RGB", (width, height), "white")
        ImageDraw.Draw(picture).multiline_text((1, 0), caption, fill="black", font=font, spacing=2)
        written.append(np.asarray(picture, np.float32) / 255)
    return np.stack(written)


@functools.cache
def _font_file() -> str:
    # Pillow's own font knows hardly a letter outside English; matplotlib brings DejaVu Sans. Importing it all would take a second.
    spec = importlib.util.find_spec("matplotlib")
    (folder,) = (spec.submodule_search_locations if spec else None) or []
    return str(Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf")


def _lines(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break a text between words so that it fits; a word that is too long is cut."""
    lines = [""]
    for word in text.split(" "):
        if font.getlength(word) > width - 2:
            while len(word) > 1 and font.getlength(f"{word}…") > width - 2:
                word = word[:-1]
            word = f"{word}…"
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width - 2 or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _columns(n_images: int) -> int:
    if n_images <= 5:
        return n_images
    root = math.ceil(math.sqrt(n_images))
    # Wider than tall suits a screen; the fewest empty places first, then the squarest.
    return min(range(root, 2 * root + 1), key=lambda columns: (-n_images % columns, columns))
