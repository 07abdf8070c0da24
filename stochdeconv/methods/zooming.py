"""From one frame of a stream of dreams to the start of the next: the middle enlarged and turned, the colours kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A picture of less than this part of natural images' variance, as noise or a flat colour, has no colours of its own to keep.
_LEAST_VARIANCE = 0.15
# Variance below which a colour counts as absent, so that nothing is blown up without end; of values in [0, 1].
_NO_VARIANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Colors:
    """The mean and the covariance of a picture's colours.

    Attributes
    ----------
    mean : ndarray of shape (channel,)
    covariance : ndarray of shape (channel, channel)
    """

    mean: np.ndarray
    covariance: np.ndarray

    @staticmethod
    def of(picture: np.ndarray) -> Colors:
        """Measure them in a picture (height, width, channel)."""
        values = picture.reshape(-1, picture.shape[-1]).astype(np.float64)
        return Colors(values.mean(axis=0), np.atleast_2d(np.cov(values.T, ddof=0)))

    @staticmethod
    def to_keep_of(picture: np.ndarray) -> Colors:
        """Measure a picture (height, width, channel); where it has hardly any contrast, the covariance is that of natural images."""
        from stochdeconv.images.colors import color_root

        root = color_root(picture.shape[-1]).astype(np.float64)
        natural = root @ root.T
        own = Colors.of(picture)
        has_some = np.trace(own.covariance) >= _LEAST_VARIANCE * np.trace(natural)
        return own if has_some else Colors(own.mean, natural)

    def given_to(self, picture: np.ndarray) -> np.ndarray:
        """Give these colours to a picture (height, width, channel), but no more contrast than it has.

        By the linear map between two Gaussians that changes colours least (Pitié & Kokaram 2007).
        """
        own = Colors.of(picture)
        target = self.covariance * min(1.0, np.trace(own.covariance) / np.trace(self.covariance))
        root, inverse = _power(own.covariance, 0.5), _power(own.covariance, -0.5, least=_NO_VARIANCE)
        change = inverse @ _power(root @ target @ root, 0.5) @ inverse
        return np.clip((picture - own.mean) @ change + self.mean, 0, 1).astype(np.float32)


def _power(covariance: np.ndarray, exponent: float, *, least: float = 0.0) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.maximum(values, least) ** exponent) @ vectors.T


def moved(picture: np.ndarray, *, zoom: float, rotate: float) -> np.ndarray:
    """Enlarge the middle of a picture and turn it, bilinear.

    Parameters
    ----------
    picture : ndarray of shape (height, width, channel)
    zoom : float
        Part by which it is enlarged: 0.05 shows the middle 95 %.
    rotate : float
        Degrees, counterclockwise.

    Returns
    -------
    ndarray of shape (height, width, channel)
    """
    from keras import ops

    from stochdeconv.optimization.transforms import view

    # The matrix leads from the view to the picture, rows down: a minus for each.
    angle, factor = -np.deg2rad(rotate), 1.0 - zoom
    cosine, sine = factor * np.cos(angle), factor * np.sin(angle)
    matrix = np.array([[[cosine, -sine, 0], [sine, cosine, 0]]], np.float32)
    return np.asarray(
        ops.convert_to_numpy(view(ops.convert_to_tensor(picture[None]), matrix, interpolation="bilinear"))
    )[0]
