"""Facets: what kinds of places the images of a class have, found in one deep layer, and what shallower layers hold there."""

from __future__ import annotations

import numpy as np

from stochdeconv.statistics.class_statistics import Facets
from stochdeconv.statistics.summary import MapReader, rounded

#: Kinds of places told apart: enough for an object's parts and its surroundings.
N_FACETS = 12
# Places are compared along this many principal directions of the layer's channels.
_DIMENSIONS = 24
# Places and images the clusters are learned from: enough for centroids of 24 numbers, and a bound on memory.
_MAX_IMAGES = 512
_PLACES_PER_IMAGE = 48
# A facet that covers little of an image says little: its mean is drawn toward the image's own by this share of all places.
_PRIOR_SHARE = 0.011
_BLOCK_IMAGES = 64


def fit_facets(layer: str, maps: MapReader, n_channels: int) -> Facets | None:
    """Cluster the places of a class's images by what a layer shows there.

    Parameters
    ----------
    layer : str
    maps : MapReader
        Pooled maps of the layer, rows in the order of the images.
    n_channels : int

    Returns
    -------
    Facets or None
        None where there are too few places, or nothing varies.
    """
    from sklearn.cluster import KMeans  # slow to import: only where facets are fitted

    chosen = np.unique(np.linspace(0, maps.n_images - 1, min(maps.n_images, _MAX_IMAGES)).astype(np.int64))
    rng = np.random.default_rng(0)
    n_places = maps.n_values // n_channels
    samples = []
    for start in range(0, len(chosen), _BLOCK_IMAGES):
        values = maps.read(chosen[start : start + _BLOCK_IMAGES], slice(0, maps.n_values))
        places = values.reshape(len(values), n_places, n_channels)
        picked = rng.permuted(np.tile(np.arange(n_places), (len(values), 1)), axis=1)[:, :_PLACES_PER_IMAGE]
        samples.append(np.take_along_axis(places, picked[:, :, None], axis=1).reshape(-1, n_channels))
    sample = np.concatenate(samples).astype(np.float64)
    offset = sample.mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov(sample - offset, rowvar=False).reshape(n_channels, n_channels))
    order = np.argsort(variances)[::-1][:_DIMENSIONS]
    order = order[variances[order] > 1e-9 * max(float(variances.max()), 1e-30)]
    if len(sample) < 10 * N_FACETS or not len(order):
        return None
    # Halfway to whitening: strong directions lead, but do not drown the others.
    projection = axes[:, order] / variances[order] ** 0.25
    points = (sample - offset) @ projection
    centroids = KMeans(N_FACETS, n_init=3, random_state=0).fit(points).cluster_centers_
    nearest = _squared_distances(points, centroids).min(axis=1)
    temperature = max(0.25 * float(np.median(nearest)), 1e-12)
    return Facets(
        layer, offset.astype(np.float32), projection.astype(np.float32), centroids.astype(np.float32), temperature
    )


def _squared_distances(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return ((points[..., None, :] - centroids) ** 2).sum(axis=-1)


def memberships(facets: Facets, places: np.ndarray) -> np.ndarray:
    """Tell to which facet places belong: values (..., channel) -> weights (..., facet) that sum to one."""
    from scipy.special import softmax

    points = (np.asarray(places, np.float32) - facets.offset) @ facets.projection
    distances = _squared_distances(points, facets.centroids) / facets.temperature
    return softmax(-distances, axis=-1)


def facet_means(facets: Facets, keys: MapReader, maps: MapReader, n_channels: int, rows: np.ndarray) -> np.ndarray:
    """Average a layer over the places of each facet, image by image.

    Parameters
    ----------
    facets : Facets
    keys : MapReader
        Pooled maps of the facets' layer.
    maps : MapReader
        Pooled maps of the layer to average, over the same places.
    n_channels : int
        Of that layer.
    rows : ndarray of int
        The images wanted.

    Returns
    -------
    ndarray of shape (row, facet, channel), float32
        Drawn toward the image's mean plus the class's usual difference where the facet covers little of the image.
    """
    n_key_channels = len(facets.offset)
    n_places = keys.n_values // n_key_channels
    areas = np.empty((len(rows), facets.n_facets), np.float32)
    sums = np.empty((len(rows), facets.n_facets, n_channels), np.float32)
    means = np.empty((len(rows), n_channels), np.float32)
    for start in range(0, len(rows), _BLOCK_IMAGES):
        block = slice(start, start + _BLOCK_IMAGES)
        places = keys.read(rows[block], slice(0, keys.n_values)).reshape(-1, n_places, n_key_channels)
        values = maps.read(rows[block], slice(0, maps.n_values)).reshape(-1, n_places, n_channels)
        weights = memberships(facets, places)
        areas[block] = weights.sum(axis=1)
        sums[block] = np.swapaxes(weights, 1, 2) @ values
        means[block] = values.mean(axis=1)
    areas, means = areas[:, :, None], means[:, None]
    usual = (sums - areas * means).sum(axis=0, dtype=np.float64) / areas.sum(axis=0, dtype=np.float64)
    prior = _PRIOR_SHARE * n_places
    return rounded(((sums + prior * (means + usual)) / (areas + prior)).astype(np.float32))
