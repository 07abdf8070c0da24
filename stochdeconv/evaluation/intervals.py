"""Intervals of figures: which images are drawn again, and what the draws say.

A draw is a row of ``counts``: how many times each image is in it. Every figure of this package takes such counts, so
that the value and its resampled replicates come from one formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

N_REPLICATES = 1000
COVERAGE_PERCENT = (2.5, 97.5)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A figure of one set of images, with its resampled replicates.

    Attributes
    ----------
    value : float
        The figure; NaN where it is undefined.
    replicates : ndarray of shape (replicate,)
        The figure of resampled images; all NaN where no interval can be given.
    """

    value: float
    replicates: np.ndarray


UNDEFINED = Estimate(float("nan"), np.full(N_REPLICATES, np.nan))


def draw_with_replacement(n_images: int, *, rng: np.random.Generator, n_replicates: int = N_REPLICATES) -> np.ndarray:
    """Draw bootstrap samples of a set of images (Efron 1979).

    Parameters
    ----------
    n_images : int
    rng : numpy.random.Generator
    n_replicates : int
        How many samples.

    Returns
    -------
    ndarray of shape (replicate, image)
        How often each image was drawn; every row sums to ``n_images``.
    """
    return rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=n_replicates)


def draw_halves(n_images: int, *, rng: np.random.Generator, n_replicates: int = N_REPLICATES) -> np.ndarray:
    """Draw subsamples of half the images, without repetition (Politis, Romano and Wolf 1999).

    Parameters
    ----------
    n_images : int
    rng : numpy.random.Generator
    n_replicates : int
        How many subsamples.

    Returns
    -------
    ndarray of shape (replicate, image)
        1 where an image is in the half, 0 elsewhere; at least one image a row.
    """
    half = np.zeros((n_replicates, n_images), dtype=np.int64)
    half[:, : max(n_images // 2, 1)] = 1
    return rng.permuted(half, axis=1)


def bootstrap(figure: Callable[[np.ndarray], np.ndarray], n_images: int, *, seed: Sequence[int]) -> Estimate:
    """Estimate a figure that is a mean over images or over pairs of images, by resampling the images.

    Parameters
    ----------
    figure : callable
        ``counts`` of shape (replicate, image) -> (replicate,).
    n_images : int
        Images measured. With a single one the value stands without an interval.
    seed : sequence of int
        Seed of the draws: the same seed gives the same interval.

    Returns
    -------
    Estimate
    """
    if n_images < 1:
        return UNDEFINED
    value = float(figure(np.ones((1, n_images)))[0])
    if n_images < 2:
        return Estimate(value, UNDEFINED.replicates)
    return Estimate(value, figure(draw_with_replacement(n_images, rng=np.random.default_rng(seed))))


def subsample(
    figure: Callable[[np.ndarray], np.ndarray], n_images: int, *, seed: Sequence[int], highest: float = np.inf
) -> Estimate:
    """Estimate a figure that counts how much *different* there is in a set, by subsampling halves.

    A bootstrap draw holds copies (about 37 % of the images are missing from it), so it understates such a figure:
    Vendi score, coverage and the distance of a pooled histogram. A half without repetition holds none. Its size
    lowers the figure too, so what is used is the relative spread around the halves' own mean, scaled from half to
    full size by sqrt(m / (n - m)) (the delete-d jackknife's factor).

    Parameters
    ----------
    figure, n_images, seed
        As in `bootstrap`.
    highest : float
        What the figure can reach; no figure of this kind is negative.

    Returns
    -------
    Estimate
        Below four images there is a value but no interval.
    """
    if n_images < 1:
        return UNDEFINED
    value = float(figure(np.ones((1, n_images)))[0])
    if n_images < 4:
        return Estimate(value, UNDEFINED.replicates)
    n_half = n_images // 2
    halves = figure(draw_halves(n_images, rng=np.random.default_rng(seed)))
    mean = np.mean(halves)
    if not np.isfinite(mean):
        return Estimate(value, UNDEFINED.replicates)
    if mean == 0:
        return Estimate(value, np.full(N_REPLICATES, value))
    scale = np.sqrt(n_half / (n_images - n_half))
    return Estimate(value, np.clip(value * (1 + scale * (halves / mean - 1)), 0.0, highest))


def average(estimates: Sequence[Estimate], *, seed: Sequence[int]) -> Estimate:
    """Average a figure over classes; its replicates draw classes first, then images inside each (clusters by class).

    Classes where the figure is undefined are left out.
    """
    defined = [estimate for estimate in estimates if np.isfinite(estimate.value)]
    if not defined:
        return UNDEFINED
    if len(defined) == 1:
        return defined[0]
    value = float(np.mean([estimate.value for estimate in defined]))
    replicates = np.stack([estimate.replicates for estimate in defined])
    rng = np.random.default_rng(seed)
    shape = (N_REPLICATES, len(defined))
    drawn = replicates[rng.integers(len(defined), size=shape), rng.integers(replicates.shape[1], size=shape)]
    return Estimate(value, drawn.mean(axis=1))


def interval(estimate: Estimate) -> dict[str, float | None]:
    """Write an estimate as ``{"value", "low", "high"}``: the 95 % percentile interval of its replicates.

    A value that is undefined, and the interval of a figure that has none (one image, no pair of images), are None.
    Draws in which the figure is undefined (all copies of one image: no pair) are left out; where fewer than half
    remain, no interval is given.
    """
    if not np.isfinite(estimate.value):
        return {"value": None, "low": None, "high": None}
    finite = estimate.replicates[np.isfinite(estimate.replicates)]
    if 2 * len(finite) < len(estimate.replicates):
        return {"value": float(estimate.value), "low": None, "high": None}
    low, high = np.percentile(finite, COVERAGE_PERCENT)
    return {"value": float(estimate.value), "low": float(low), "high": float(high)}


def mean_of(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Turn one number per image into a figure: its mean, images without a number (NaN) left out."""
    values = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(values)
    filled = np.where(finite, values, 0.0)

    def figure(counts: np.ndarray) -> np.ndarray:
        n_finite = counts @ finite
        return np.divide(counts @ filled, n_finite, out=np.full(len(counts), np.nan), where=n_finite > 0)

    return figure


def median_of(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Turn one number per image into a figure: its median, for numbers with a long tail; NaN as in `mean_of`."""
    values = np.asarray(values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    order = order[np.isfinite(values[order])]
    ordered = values[order]

    def figure(counts: np.ndarray) -> np.ndarray:
        if not len(order):
            return np.full(len(counts), np.nan)
        reached = np.cumsum(np.asarray(counts)[:, order], axis=1)
        n_drawn = reached[:, -1:]
        lower = ordered[np.argmax(reached >= np.ceil(n_drawn / 2), axis=1)]
        upper = ordered[np.argmax(reached >= np.floor(n_drawn / 2) + 1, axis=1)]
        return np.where(n_drawn[:, 0] > 0, (lower + upper) / 2, np.nan)

    return figure
