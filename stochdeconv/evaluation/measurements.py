"""What was measured of a set of images, and the unit in which features are compared."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np


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
        arrays = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        chosen: dict[str, Any] = {name: None if array is None else array[rows] for name, array in arrays.items()}
        return replace(self, **chosen)


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
