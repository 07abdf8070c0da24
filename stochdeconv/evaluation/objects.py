"""Objects: at how many places of an image the judge sees its class."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import maximum_filter

# Peaks count above this share of the median real maximum, and must lie this share of the side apart.
PEAK_FRACTION = 0.5
PEAK_SPACING = 0.2


def class_activation_maps(feature_maps: np.ndarray, class_weights: np.ndarray) -> np.ndarray:
    """Show where a class is seen: the class activation map (Zhou et al., CVPR 2016).

    CAM(y, x) = Σ over channels of weight(channel, class) · map(y, x, channel), without the class's bias.

    Parameters
    ----------
    feature_maps : ndarray of shape (image, height, width, channel)
        The map the judge's last weighted layer reads, before any averaging over positions.
    class_weights : ndarray of shape (channel,)
        That layer's weights of the class.

    Returns
    -------
    ndarray of shape (image, height, width)
    """
    return np.asarray(feature_maps, dtype=np.float64) @ np.asarray(class_weights, dtype=np.float64)


def peak_threshold(real_maps: np.ndarray) -> float:
    """Take half the median of the real photographs' map maxima; NaN where it is not positive (no object is seen)."""
    if not len(real_maps):
        return float("nan")
    median = float(np.median(real_maps.max(axis=(1, 2))))
    return PEAK_FRACTION * median if median > 0 else float("nan")


def count_peaks(maps: np.ndarray, *, threshold: float) -> np.ndarray:
    """Count the places of each map where a class peaks: one object gives one peak, a tiled texture many.

    A peak is a position above the threshold, not below any of its eight neighbours. Higher peaks first, a peak nearer
    than a fifth of the side to an accepted one is dropped.

    Parameters
    ----------
    maps : ndarray of shape (image, height, width)
        Class activation maps.
    threshold : float
        From `peak_threshold`; NaN makes the counts NaN.

    Returns
    -------
    ndarray of float of shape (image,)
        Number of peaks, 0 where the class is nowhere above the threshold.
    """
    if not np.isfinite(threshold):
        return np.full(len(maps), np.nan)
    return np.array([_count_peaks(of_image, threshold) for of_image in maps], dtype=np.float64)


def _count_peaks(evidence: np.ndarray, threshold: float) -> int:
    highest_around = maximum_filter(evidence, size=3, mode="nearest")
    positions = np.argwhere((evidence >= highest_around) & (evidence > threshold))
    heights = evidence[tuple(positions.T)]
    accepted: list[np.ndarray] = []
    for position in positions[np.argsort(-heights, kind="stable")]:
        place = position / evidence.shape
        if all(np.hypot(*(place - other)) >= PEAK_SPACING for other in accepted):
            accepted.append(place)
    return len(accepted)
