"""Density and coverage: do the images lie where real photographs lie, and does every kind of photograph get an image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

N_NEIGHBOURS = 5  # k of Naeem et al. 2020


def neighbour_radii(real: np.ndarray, *, n_neighbours: int = N_NEIGHBOURS) -> np.ndarray:
    """Measure how far each real photograph's k-th nearest other photograph is.

    Parameters
    ----------
    real : ndarray of shape (photograph, feature)
        More than ``n_neighbours`` photographs.
    n_neighbours : int
        k.

    Returns
    -------
    ndarray of shape (photograph,)
        Radii in the unit of the features.
    """
    # Without an argument kneighbors leaves each photograph itself out.
    distances, _ = NearestNeighbors(n_neighbors=n_neighbours).fit(real).kneighbors()
    return distances[:, -1]


def inside_radii(features: np.ndarray, real: np.ndarray, *, same: np.ndarray) -> np.ndarray:
    """Tell which images lie within which real photographs' radii.

    Parameters
    ----------
    features : ndarray of shape (image, feature)
    real : ndarray of shape (photograph, feature)
        The full real set: the radii come from it.
    same : ndarray of int of shape (image,)
        Row of ``real`` that is the same photograph (it does not count as inside its own radius), -1 where none is.

    Returns
    -------
    ndarray of bool of shape (image, photograph)
    """
    within = cdist(features, real) <= neighbour_radii(real)[None, :]
    return within & (np.arange(len(real))[None, :] != same[:, None])


def density(within: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Make the figure density: how many real photographs' neighbourhoods an image lies in, over k.

    density = 1 / (k n) · Σ over images and photographs of [image within the photograph's k-th neighbour radius]. Real
    images give about 1, more is possible (images that crowd where photographs crowd), 0 is far from every photograph.

    Parameters
    ----------
    within : ndarray of bool of shape (image, photograph)
        From `inside_radii`.

    Returns
    -------
    callable
        ``counts`` (replicate, image) -> density (replicate,).

    Notes
    -----
    Source: Naeem, Oh, Uh, Choi and Yoo, *Reliable Fidelity and Diversity Metrics for Generative Models*, ICML 2020, k = 5.
    """
    per_image = within.sum(axis=1) / N_NEIGHBOURS

    def figure(counts: np.ndarray) -> np.ndarray:
        return counts @ per_image / counts.sum(axis=1)

    return figure


def coverage(within: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Make the figure coverage: the fraction of real photographs with at least one image inside their radius.

    coverage = 1 / N · Σ over photographs of [some image within the photograph's k-th neighbour radius], 0 to 1. It
    grows with the number of images: compare it at equal numbers only, and with that of as many real photographs.

    Parameters, result and source as in `density`.
    """

    def figure(counts: np.ndarray) -> np.ndarray:
        return ((counts > 0).astype(np.float64) @ within > 0).mean(axis=1)

    return figure
