"""Pixels: spectrum, edges and colours of an image against those of photographs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.stats import kurtosis

from stochdeconv.images.colors import luminance

LOWEST_CYCLES = 3  # below, the Hann window's own shape dominates
N_COLOR_BINS = 8  # per channel: 512 colours
GRADIENT_EDGES = np.linspace(-0.5, 0.5, 102)


def radial_spectra(images: np.ndarray) -> np.ndarray:
    """Measure how much of an image is coarse and how much is fine: its amplitude spectrum, averaged around the circle.

    The grey image's central square, less its mean, under a Hann window in both directions; absolute value of its
    discrete Fourier transform, divided by the number of pixels; averaged over all frequencies that round to the same
    number of cycles an image.

    Parameters
    ----------
    images : ndarray of shape (image, height, width, 3)

    Returns
    -------
    ndarray of shape (image, side // 2)
        Amplitude at 0, 1, 2 … side // 2 - 1 cycles an image.
    """
    grey = luminance(images.astype(np.float64))
    side = min(grey.shape[1:])
    top, left = (grey.shape[1] - side) // 2, (grey.shape[2] - side) // 2
    grey = grey[:, top : top + side, left : left + side]
    window = np.hanning(side)
    windowed = (grey - grey.mean(axis=(1, 2), keepdims=True)) * np.outer(window, window)
    amplitude = np.abs(np.fft.fft2(windowed)) / side**2
    frequency = np.fft.fftfreq(side) * side
    ring = np.rint(np.hypot(frequency[:, None], frequency[None, :])).astype(int).ravel()
    n_rings = side // 2
    inside = ring < n_rings
    size = np.bincount(ring[inside], minlength=n_rings)
    return np.stack(
        [np.bincount(ring[inside], one.ravel()[inside], n_rings) / np.maximum(size, 1) for one in amplitude]
    )


def spectrum_slopes(spectra: np.ndarray) -> np.ndarray:
    """Measure each image's amplitude-spectrum slope: photographs fall with about the power -1 of the frequency (Field 1987).

    Least-squares line through log amplitude against log frequency, over 3 … size / 4 cycles.

    Parameters
    ----------
    spectra : ndarray of shape (image, side // 2)
        From `radial_spectra`.

    Returns
    -------
    ndarray of shape (image,)
        Slopes, without unit; NaN for a blank image and for images too small to hold three such frequencies (side < 20).
    """
    highest = spectra.shape[1] * 2 // 4
    cycles = np.arange(LOWEST_CYCLES, highest + 1)
    if len(cycles) < 3:
        return np.full(len(spectra), np.nan)
    band = spectra[:, LOWEST_CYCLES : highest + 1]
    x = np.log(cycles) - np.log(cycles).mean()
    y = np.log(np.where(band > 1e-12, band, np.nan))
    return y @ x / (x @ x)


def gradient_kurtosis(images: np.ndarray) -> np.ndarray:
    """Measure how peaked the differences of neighbouring pixels are: photographs are mostly flat with few strong edges.

    Excess kurtosis (0 for a normal distribution) of the horizontal and vertical differences of the grey image, pooled.

    Parameters
    ----------
    images : ndarray of shape (image, height, width, 3)

    Returns
    -------
    ndarray of shape (image,)
        NaN for a blank image.
    """
    result = np.full(len(images), np.nan)
    for index, differences in enumerate(gradients(images)):
        if differences.std() > 1e-9:
            result[index] = kurtosis(differences)
    return result


def gradients(images: np.ndarray) -> np.ndarray:
    """List the differences of neighbouring pixels of the grey images: (image, difference), range [-1, 1]."""
    grey = luminance(images.astype(np.float64))
    parts = (np.diff(grey, axis=2), np.diff(grey, axis=1))
    return np.concatenate([part.reshape(len(grey), -1) for part in parts], axis=1)


def gradient_histograms(images: np.ndarray) -> np.ndarray:
    """Share of pixel differences in each bin of ``GRADIENT_EDGES``: (image, bin); larger ones count in the outermost bins."""
    clipped = np.clip(gradients(images), GRADIENT_EDGES[0], GRADIENT_EDGES[-1])
    return np.stack([np.histogram(one, GRADIENT_EDGES)[0] / len(one) for one in clipped])


def color_histograms(images: np.ndarray) -> np.ndarray:
    """Share of pixels in each of 8 × 8 × 8 colours.

    Parameters
    ----------
    images : ndarray of shape (image, height, width, 3), range [0, 1]

    Returns
    -------
    ndarray of shape (image, 512)
        Index = (red bin · 8 + green bin) · 8 + blue bin; every row sums to 1.
    """
    bins = np.clip((np.asarray(images) * N_COLOR_BINS).astype(int), 0, N_COLOR_BINS - 1)
    index = (bins[..., 0] * N_COLOR_BINS + bins[..., 1]) * N_COLOR_BINS + bins[..., 2]
    n_colors = N_COLOR_BINS**3
    return np.stack([np.bincount(one.ravel(), minlength=n_colors) / one.size for one in index])


def color_distance(histograms: np.ndarray, real: np.ndarray, *, same: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Make the figure of colour: the Jensen-Shannon distance between the pooled colours of the images and of the real photographs.

    Parameters
    ----------
    histograms, real : ndarray of shape (image, colour)
        From `color_histograms`.
    same : ndarray of int of shape (image,)
        Row of ``real`` that is the same photograph (left out of the real pool), -1 where none is.

    Returns
    -------
    callable
        ``counts`` (replicate, image) -> distance (replicate,), 0 (the same colours) to 1 (none in common), base-2
        logarithm. NaN where no real photograph remains.

    Notes
    -----
    Source: Endres and Schindelin, *A New Metric for Probability Distributions*, 2003.
    """
    others = np.delete(real, np.unique(same[same >= 0]), axis=0)

    def figure(counts: np.ndarray) -> np.ndarray:
        if not len(others):
            return np.full(len(counts), np.nan)
        pooled = counts @ histograms / counts.sum(axis=1, keepdims=True)
        return jensenshannon(pooled, np.broadcast_to(others.mean(axis=0), pooled.shape), base=2, axis=1)

    return figure
