"""Kernel distance (KID): how far a set of images lies from the real photographs, unbiased at any number of images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.metrics.pairwise import polynomial_kernel


def cubic_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compare features by (x·y / d + 1)³, d the number of features (Bińkowski et al. 2018).

    Parameters
    ----------
    x, y : ndarray of shape (image, feature)

    Returns
    -------
    ndarray of shape (image of x, image of y)
    """
    return polynomial_kernel(x, y, degree=3, gamma=1 / x.shape[1], coef0=1)


def kernel_distance(features: np.ndarray, real: np.ndarray, *, same: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Make the figure KID: squared maximum mean discrepancy to the real photographs with the cubic kernel, unbiased.

    KID = mean k(x, x') + mean k(y, y') - 2 mean k(x, y), each mean over pairs of *different* images: neither an image
    with itself, nor with its copy in a bootstrap draw, nor a real photograph with itself where real photographs are
    the contestant.

    Parameters
    ----------
    features : ndarray of shape (image, feature)
        Standardised judge features of the contestant.
    real : ndarray of shape (photograph, feature)
        Those of the real photographs.
    same : ndarray of int of shape (image,)
        Row of ``real`` that is the same photograph, -1 where none is.

    Returns
    -------
    callable
        ``counts`` (replicate, image) -> KID (replicate,), without unit; 0 expected for real photographs, and slightly
        negative values do occur. NaN where there is no pair of different images, or fewer than two photographs.

    Notes
    -----
    Source: Bińkowski, Sutherland, Arbel and Gretton, *Demystifying MMD GANs*, ICLR 2018; estimator of
    Gretton et al., JMLR 2012, lemma 6. We keep the whole sets where the former averages over subsets.
    """
    among_real = cubic_kernel(real, real)
    np.fill_diagonal(among_real, 0.0)
    n_real = len(real)
    real_term = among_real.sum() / (n_real * (n_real - 1)) if n_real > 1 else np.nan

    different = np.arange(n_real)[None, :] != same[:, None]
    n_different = different.sum(axis=1)
    across_sum = (cubic_kernel(features, real) * different).sum(axis=1)
    across = np.divide(across_sum, n_different, out=np.full(len(features), np.nan), where=n_different > 0)

    among = cubic_kernel(features, features)
    np.fill_diagonal(among, 0.0)

    def figure(counts: np.ndarray) -> np.ndarray:
        counts = np.asarray(counts, dtype=np.float64)
        n_drawn = counts.sum(axis=1)
        n_pairs = n_drawn**2 - (counts**2).sum(axis=1)
        pair_sum = np.einsum("bi,ij,bj->b", counts, among, counts, optimize=True)
        own_term = np.divide(pair_sum, n_pairs, out=np.full(len(counts), np.nan), where=n_pairs > 0)
        return own_term + real_term - 2 * (counts @ across) / n_drawn

    return figure
