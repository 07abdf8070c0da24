"""What experiments show of finished runs: their images, sheets of them, figures as text."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stochdeconv.images.files import load_image, resize, save_png
from stochdeconv.images.sheets import contact_sheet


def image_paths(run: Path) -> list[Path]:
    """List the images of a run folder, in their order."""
    return sorted(run.glob("image_[0-9]*.png"))


def images_of(run: Path) -> list[np.ndarray]:
    """Read the images of a run folder: float32 RGB in [0, 1], (height, width, 3)."""
    return [load_image(path) for path in image_paths(run)]


def halved(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Bring images to half their size, for a sheet of many."""
    return [resize(image, (image.shape[0] // 2, image.shape[1] // 2)) for image in images]


def save_sheet(path: Path, rows: Sequence[Sequence[np.ndarray]], captions: Sequence[str] | None = None) -> None:
    """Put rows of images on one sheet; a caption for each image, row by row."""
    images = np.stack([image for row in rows for image in row])
    save_png(path, contact_sheet(images, columns=len(rows[0]), captions=captions))


def figure_text(figure: dict[str, float | None], *, interval: bool = False) -> str:
    """Write a figure of metrics.json, with its interval where it has one; ``-`` where there is none."""
    if figure["value"] is None:
        return "-"
    ends = f" [{figure['low']:.3g}, {figure['high']:.3g}]" if interval and figure["low"] is not None else ""
    return f"{figure['value']:.3g}{ends}"
