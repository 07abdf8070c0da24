"""Counts of values: how often each channel fires, histograms of activations and of gradients, spread of the spectra."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from stochdeconv.images.measures import LOG_GRADIENT_EPSILON, amplitude_spectrum, log_gradient_magnitude
from stochdeconv.statistics.drawing import key_number
from stochdeconv.statistics.statistic import Array, LayerStatistic, PhotographStatistic, Storage

#: Positions of every map that enter the histograms; a map with no more positions enters whole.
N_POSITIONS = 49
#: Edges of the activation histograms: asinh-spaced, so fine around zero (0.00125) and 13 % wide far from it. Values beyond
#: the ends (± 44,430) count in the end bins; a bin holds ``edge[i] <= value < edge[i + 1]``, so zero opens a bin.
HISTOGRAM_EDGES = (0.01 * np.sinh(np.linspace(-16.0, 16.0, 257))).astype(np.float32)
#: Edges of the histogram of log gradient magnitude, from no gradient at all to the largest possible one.
LOG_GRADIENT_EDGES = np.linspace(np.log(LOG_GRADIENT_EPSILON), np.log(np.sqrt(2.0) + LOG_GRADIENT_EPSILON), 65).astype(
    np.float32
)


def count_histogram(values: np.ndarray) -> np.ndarray:
    """Count values per channel.

    Parameters
    ----------
    values : ndarray of shape (..., channel)
        float32 activations.

    Returns
    -------
    ndarray of shape (channel, bin)
        int64 counts in the bins of ``HISTOGRAM_EDGES``.
    """
    n_channels, n_bins = values.shape[-1], len(HISTOGRAM_EDGES) - 1
    values = values.reshape(-1, n_channels).astype(np.float32, copy=False)
    # The edges' own spacing gives the bin to within rounding; the comparison with the edges decides.
    index = np.arcsinh(np.clip(values, -4e4, 4e4) * np.float32(100.0)) * np.float32(8.0) + np.float32(128.0)
    index = np.clip(index.astype(np.int64), 0, n_bins - 1)
    index -= (values < HISTOGRAM_EDGES[index]) & (index > 0)
    index += (values >= HISTOGRAM_EDGES[index + 1]) & (index < n_bins - 1)
    index += np.arange(n_channels) * n_bins
    return np.bincount(index.ravel(), minlength=n_channels * n_bins).reshape(n_channels, n_bins)


def seeded_positions(key: str, n_rows: int, n_columns: int) -> np.ndarray:
    """Choose the positions of a map that enter the histograms, from the image's name alone.

    The same relative places in every layer, independent of all other images.

    Parameters
    ----------
    key : str
        The image's name.
    n_rows, n_columns : int
        Size of the map.

    Returns
    -------
    ndarray of shape (min(N_POSITIONS, n_rows * n_columns),)
        int32 positions, row by row.
    """
    if n_rows * n_columns <= N_POSITIONS:
        return np.arange(n_rows * n_columns, dtype=np.int32)
    row, column = np.random.default_rng(key_number(key)).random((2, N_POSITIONS))
    return (np.floor(row * n_rows) * n_columns + np.floor(column * n_columns)).astype(np.int32)


def count_log_gradients(values: np.ndarray) -> np.ndarray:
    """Count log gradient magnitudes in the bins of ``LOG_GRADIENT_EDGES``; rounding beyond the ends counts in the end bins.

    Returns
    -------
    ndarray of shape (bin,)
        int64 counts.
    """
    inside = np.clip(values, LOG_GRADIENT_EDGES[0], LOG_GRADIENT_EDGES[-1])
    return np.histogram(inside, LOG_GRADIENT_EDGES)[0]


class LayerCounts(LayerStatistic):
    """How often each channel fires, and a histogram of its values. Fields of a layer: ``firing_fraction`` (channel,), ``histogram``."""

    name = "counts"
    layer_fields: ClassVar = {"firing_fraction": Array("<f4"), "histogram": Array("<u4", "<i8")}

    def storage(self, layer):
        """Count both."""
        n_channels = layer.shape[-1]
        return Storage(counts={"firing": (n_channels,), "histogram": (n_channels, len(HISTOGRAM_EDGES) - 1)})

    def places(self, key, layer):
        """Choose the positions whose values are counted."""
        return seeded_positions(key, *layer.shape[:2])

    def measure(self, maps, layer, places):
        """Measure how many positions fire, and take the values at some of them."""
        from keras import ops

        n_images, n_positions, n_channels = maps.shape[0], layer.shape[0] * layer.shape[1], layer.shape[2]
        flat = ops.reshape(maps, (n_images, n_positions, n_channels))
        firing = ops.matmul(np.ones((1, n_positions), np.float32), ops.cast(flat > 0, "float32"))[:, 0]
        offsets = np.arange(n_images, dtype=np.int32)[:, np.newaxis] * n_positions
        values = ops.take(ops.reshape(flat, (-1, n_channels)), places + offsets, axis=0)
        return {"firing": firing, "values": values}

    def encode(self, measured):
        """Count the values."""
        return {
            "firing": measured["firing"].astype(np.int64),
            "histogram": count_histogram(measured["values"])[np.newaxis],
        }

    def summarise(self, measured):
        """Divide by the number of positions."""
        n_positions = measured.n_images * measured.layer.shape[0] * measured.layer.shape[1]
        firing = (measured.count("firing") / n_positions).astype(np.float32)
        return {"firing_fraction": firing, "histogram": measured.count("histogram")}


class PhotographCounts(PhotographStatistic):
    """Histogram of the log gradients, spread of the spectra. Fields: ``log_gradient_histogram``, ``amplitude_variance``."""

    name = "photograph counts"
    class_fields: ClassVar = {
        "log_gradient_histogram": Array("<i8"),
        "amplitude_variance": Array("<f4", is_rounded_when_compacted=True),
    }

    def storage(self, shape):
        """Count log gradients, add up squared amplitudes."""
        height, width, n_channels = shape
        return Storage(
            sums={"amplitude_squared": (height, width // 2 + 1, n_channels)},
            counts={"log_gradient": (len(LOG_GRADIENT_EDGES) - 1,)},
        )

    def measure(self, photograph):
        """Measure both."""
        amplitude = amplitude_spectrum(photograph).astype(np.float64)
        counts = count_log_gradients(log_gradient_magnitude(photograph))
        return {"amplitude_squared": amplitude * amplitude, "log_gradient": counts}

    def summarise(self, measured):
        """Take the mean amplitude off."""
        n_images = measured.n_images
        squared = measured.mean("amplitude_squared")
        variance = np.maximum(squared - measured.mean("amplitude") ** 2, 0.0) * (n_images / max(n_images - 1, 1))
        return {
            "log_gradient_histogram": measured.count("log_gradient"),
            "amplitude_variance": variance.astype(np.float32),
        }


LAYER_COUNTS = LayerCounts()
PHOTOGRAPH_COUNTS = PhotographCounts()
