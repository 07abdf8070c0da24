"""From image files to numbers: every picture is opened once, looked at by the judge, and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from stochdeconv.evaluation import objects, pixels
from stochdeconv.evaluation.judge import BATCH, FaceJudge, Judge
from stochdeconv.evaluation.measurements import Measurements
from stochdeconv.images import files as image_files


def measure(
    paths: Sequence[Path],
    judge: Judge | FaceJudge,
    *,
    size: tuple[int, int],
    class_index: int | None,
    tick: Callable[[int], None],
) -> Measurements:
    """Measure image files at one size.

    Parameters
    ----------
    paths : sequence of path
    judge : Judge or FaceJudge
    size : tuple of int
        (height, width) of the generator's images: every picture passes through it before the judge sees it.
    class_index : int or None
        The judge's index of the class.
    tick : callable
        Called with the number of pictures just done.

    Returns
    -------
    Measurements
    """
    weights = judge.class_weights(class_index)
    parts: list[dict[str, np.ndarray]] = []
    for first in range(0, len(paths), BATCH):
        batch = _load(paths[first : first + BATCH], size)
        seen = judge.look(batch)
        part = {
            "features": seen.features,
            "logits": seen.logits,
            "probabilities": seen.probabilities,
            "spectra": pixels.radial_spectra(batch),
            "kurtoses": pixels.gradient_kurtosis(batch),
            "gradients": pixels.gradient_histograms(batch),
            "colors": pixels.color_histograms(batch),
        }
        if weights is not None:
            part["cams"] = objects.class_activation_maps(seen.feature_maps, weights)
        if seen.faces is not None:
            part["faces"] = seen.faces
        parts.append(part)
        tick(len(batch))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Measurements(**{"cams": None, **columns})


def measure_features(
    paths: Sequence[Path], judge: Judge, *, size: tuple[int, int], tick: Callable[[int], None]
) -> np.ndarray:
    """Measure only the judge's feature, for the training photographs: (photograph, feature)."""
    parts = []
    for first in range(0, len(paths), BATCH):
        batch = _load(paths[first : first + BATCH], size)
        parts.append(judge.look(batch).features)
        tick(len(batch))
    return np.concatenate(parts)


def _load(paths: Sequence[Path], size: tuple[int, int]) -> np.ndarray:
    return np.stack([image_files.load_image(path, size) for path in paths])
