"""From image files to numbers: every picture is opened once, looked at by the judge, and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from stochdeconv import images as image_files
from stochdeconv.metrics import objects, pixels
from stochdeconv.metrics.judge import BATCH, FaceJudge, Judge


@dataclass(frozen=True, eq=False)
class Measurements:
    """Everything the figures need of a set of images, a row an image.

    Attributes
    ----------
    features : ndarray of shape (image, feature)
        The judge's feature, not standardised.
    logits : ndarray of shape (image, class)
    cams : ndarray of shape (image, height, width) or None
        None where the judge has no map of the class.
    spectra : ndarray of shape (image, cycles)
    kurtoses : ndarray of shape (image,)
    gradients : ndarray of shape (image, bin)
    colors : ndarray of shape (image, 512)
    probabilities : ndarray of shape (image, class) or None
        The judge's own; None of photographs that come from a file, where only figures are kept.
    faces : ndarray of object of shape (image,) or None
        Boxes (face, 4), see `judge.Judgement`; None of a judge that looks for none.
    """

    features: np.ndarray
    logits: np.ndarray
    cams: np.ndarray | None
    spectra: np.ndarray
    kurtoses: np.ndarray
    gradients: np.ndarray
    colors: np.ndarray
    probabilities: np.ndarray | None = None
    faces: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: np.ndarray) -> Measurements:
        changes = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        return replace(self, **{name: None if array is None else array[rows] for name, array in changes.items()})


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


@dataclass(frozen=True, eq=False)
class Standardizer:
    """Features in units of the real photographs: (feature - their mean) / their standard deviation."""

    mean: np.ndarray
    std: np.ndarray
    kept: np.ndarray

    @classmethod
    def fit(cls, real: np.ndarray) -> Standardizer:
        """Learn mean and standard deviation (population) of each feature over the real photographs (photograph, feature).

        A feature that is constant over them gives no unit and is left out.
        """
        real = np.asarray(real, dtype=np.float64)
        std = real.std(axis=0)
        kept = std > 1e-6 * max(float(std.max(initial=0.0)), 1e-30)
        return cls(real.mean(axis=0)[kept], std[kept], kept)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Standardise features (image, feature) -> (image, kept feature)."""
        return (np.asarray(features, dtype=np.float64)[:, self.kept] - self.mean) / self.std
