"""Variety: are the images different from each other, and from the training photographs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import cdist, pdist
from sklearn.neighbors import NearestNeighbors


def pairwise_distance(features: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Make the figure of variety: the mean Euclidean feature distance between two different images.

    Parameters
    ----------
    features : ndarray of shape (image, feature)
        Standardised judge features.

    Returns
    -------
    callable
        ``counts`` (replicate, image) -> distance (replicate,), in standard deviations of the real features; pairs of
        copies of one image are left out; NaN where no pair remains.
    """
    distances = cdist(features, features)

    def figure(counts: np.ndarray) -> np.ndarray:
        counts = np.asarray(counts, dtype=np.float64)
        n_pairs = counts.sum(axis=1) ** 2 - (counts**2).sum(axis=1)
        pair_sum = np.einsum("bi,ij,bj->b", counts, distances, counts, optimize=True)
        return np.divide(pair_sum, n_pairs, out=np.full(len(counts), np.nan), where=n_pairs > 0)

    return figure


def median_distance(real: np.ndarray) -> float:
    """Measure the median distance between two real photographs, the length scale of `vendi`; NaN below two photographs."""
    return float(np.median(pdist(real))) if len(real) > 1 else float("nan")


def vendi(features: np.ndarray, *, length_scale: float) -> Callable[[np.ndarray], np.ndarray]:
    """Make the figure Vendi score: the effective number of different images.

    Vendi = exp(-Σ λ log λ) over the eigenvalues λ of K / n, K_ij = exp(-|x_i - x_j|² / (2 ℓ²)): 1 for n copies of one
    image, n for n images with nothing in common. It grows with n: compare it at equal numbers only.

    Parameters
    ----------
    features : ndarray of shape (image, feature)
    length_scale : float
        ℓ, here `median_distance` of the real photographs.

    Returns
    -------
    callable
        ``counts`` (replicate, image) -> score (replicate,). Rows must be equally long subsets (0 or 1) or hold every
        image once. NaN where the length scale is not positive, or for a single image, which has no variety.

    Notes
    -----
    Source: Friedman and Dieng, *The Vendi Score: A Diversity Evaluation Metric for Machine Learning*,
    TMLR 2023. Their package (vendi-score 0.0.3) reaches into a SciPy namespace that SciPy 2 removes, so the two lines
    are here.
    """
    squared = cdist(features, features, "sqeuclidean")

    def figure(counts: np.ndarray) -> np.ndarray:
        n_drawn = int(counts[0].sum())
        if not length_scale > 0 or len(features) < 2:
            return np.full(len(counts), np.nan)
        kernel = np.exp(-squared / (2 * length_scale**2))
        scores = np.empty(len(counts))
        # One replicate at a time: all of them together would hold replicates times images squared.
        for replicate, drawn in enumerate(counts > 0):
            eigenvalues = np.linalg.eigvalsh(kernel[np.ix_(drawn, drawn)] / n_drawn)
            # 0 log 0 = 0; rounding leaves eigenvalues a little below zero.
            positive = np.maximum(eigenvalues, np.finfo(np.float64).tiny)
            scores[replicate] = np.exp(-(positive * np.log(positive)).sum())
        return scores

    return figure


def nearest_photographs(features: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find each image's nearest training photograph, to see whether it is a copy.

    Parameters
    ----------
    features : ndarray of shape (image, feature)
    train : ndarray of shape (photograph, feature)
        At least one.

    Returns
    -------
    distances : ndarray of shape (image,)
        Euclidean, in standard deviations of the real features. A large distance alone proves nothing: noise is far
        from every photograph.
    rows : ndarray of int of shape (image,)
        Which photograph.
    """
    distances, rows = NearestNeighbors(n_neighbors=1).fit(train).kneighbors(features)
    return distances[:, 0], rows[:, 0]
