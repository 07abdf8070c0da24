"""Regions: what kinds of places the images of a class have, told apart in one deep layer, and what shallower layers hold there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from stochdeconv.statistics.directions import covariance
from stochdeconv.statistics.layout import pooled_maps
from stochdeconv.statistics.maps import BLOCK_IMAGES, MapReader
from stochdeconv.statistics.measured import LayerMeasurements
from stochdeconv.statistics.rounding import rounded
from stochdeconv.statistics.shared_maps import SharedMap
from stochdeconv.statistics.statistic import (
    Array,
    Block,
    LayerStatistic,
    Number,
    PureLoss,
    Record,
    Tensor,
    Text,
    Weights,
)

#: Kinds of places told apart: enough for an object's parts and its surroundings.
N_REGIONS = 12
# Places are compared along this many principal directions of the layer's channels.
_DIMENSIONS = 24
# Places and images the clusters are learned from: enough for centroids of 24 numbers, and a bound on memory.
_MAX_IMAGES = 512
_PLACES_PER_IMAGE = 48
# Places whose distances to all centroids are worked out at once.
_PLACES_AT_A_TIME = 2048
# A region that covers little of an image says little: its mean is drawn toward the image's own by this share of all places.
_PRIOR_SHARE = 0.011
#: Kinds of places are told apart by a layer with at most this many pixels of the image to one of its positions: 8 in most networks, and
#: what convolutions without padding leave out at the border (Inception: 35 positions of 299 pixels).
COARSEST_PLACES = 9.0
# Weight of the regions' means in the samplers, against the channel means.
_REGION_WEIGHT = 2.0
# Keeps a quotient finite where nothing varies; far below any activation's variance.
_VARIANCE_FLOOR = 1e-8


@dataclass(frozen=True, eq=False)
class Regions:
    """Kinds of places in the images of a class, told apart by what one deep layer shows there: the dog, the grass, the sky.

    A place (a cell of the pooled map) with values a belongs to region j with weight softmax_j(-|(a - offset) projection - centroid_j|² /
    temperature).

    Attributes
    ----------
    layer : str
        The layer whose pooled maps tell places apart.
    offset : ndarray of shape (channel,)
    projection : ndarray of shape (channel, dimension)
    centroids : ndarray of shape (region, dimension)
    temperature : float
        Squared distance over which memberships fade.
    """

    layer: str
    offset: np.ndarray
    projection: np.ndarray
    centroids: np.ndarray
    temperature: float

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.centroids)


@dataclass(frozen=True)
class RegionsWeights(Weights):
    """Weight of the regions in a recipe.

    Attributes
    ----------
    facets : float
        Means of the shallower layers over each kind of place, to the sampled ones: which texture is where.
    """

    facets: float = 4.0


class RegionMeans(LayerStatistic):
    """Means over each kind of place.

    Field of the class: ``facets``, the `Regions`, or None where no layer is fine and deep enough to tell them apart.
    Field of a layer: ``facet_means`` (row, region, channel), or None where the layer is not below the regions' own.
    Targets: ``facet_means`` (image, region, channel), where the layer has them.
    """

    name = "regions"
    weights = RegionsWeights
    class_fields: ClassVar = {
        "facets": Record(
            Regions,
            {
                "layer": Text(),
                "offset": Array("<f4"),
                "projection": Array("<f4"),
                "centroids": Array("<f4"),
                "temperature": Number(),
            },
        )
    }
    layer_fields: ClassVar = {
        "facet_means": Array("<f4", per_row=True, is_rounded_when_compacted=True, is_optional=True),
    }

    def summarise_together(self, measured):
        """Tell the kinds of places apart by the deepest layer that is fine enough, and average the layers below it over them."""
        layers = measured.layers
        key, means = _key_layer(layers), {}
        regions = None if key is None else fit_regions(key.layer.name, pooled_maps(key), key.layer.shape[2])
        if key is not None and regions is not None:
            grid = key.layer.layout_shape[:2]
            for part in layers[: key.layer.number]:
                if part.layer.layout_shape[:2] == grid:
                    maps, n_channels = pooled_maps(part), part.layer.shape[2]
                    means[part.layer.name] = region_means(regions, pooled_maps(key), maps, n_channels, measured.rows)
        of_layers = {part.layer.name: {"facet_means": means.get(part.layer.name)} for part in layers}
        return {"facets": regions}, of_layers

    def blocks(self, layer):
        """Sample the means of all regions."""
        means = layer.facet_means
        return [] if means is None else [Block(means.reshape(len(means), -1), _REGION_WEIGHT)]

    def targets(self, blocks, layer):
        """Part the means by region."""
        (means,) = blocks
        return {"facet_means": means.reshape(len(means), -1, layer.shape[-1])}

    def weight(self, recipe, layer, maps):
        """Ask every layer that has them."""
        return recipe.facets

    def channel_covariances(self, layer):
        """Look where the regions' means vary, from one to another and between images."""
        means = layer.facet_means
        return [] if means is None else [covariance(means.reshape(-1, means.shape[-1]))]

    def loss(self, statistics, layer, target, directions):
        """Ask for the sampled means."""
        means = statistics[layer].facet_means
        if means is None:
            return None
        return ask_facet_moments(
            layer,
            regions=statistics.facets,
            layout_shape=statistics[layer].layout_shape[:2],
            means=target.facet_means,
            variance=float(means.reshape(-1, means.shape[-1]).var(axis=0).sum()),
            directions=directions,
        )


def _key_layer(layers: Sequence[LayerMeasurements]) -> LayerMeasurements | None:
    """Find the deepest layer with the image's own grid of places that is fine enough to tell places apart."""
    image = layers[0].layer
    grid = image.layout_shape[:2]
    fine = [
        part for part in layers[1:] if part.layer.layout_shape[:2] == grid and is_fine(part.layer.shape, image.shape)
    ]
    return fine[-1] if fine and grid != (1, 1) else None


def is_fine(shape: Sequence[int], size: Sequence[int]) -> bool:
    """Tell whether a layer of a shape (height, width, …) has positions enough to tell places of an image (height, width, …) apart."""
    return all(n * COARSEST_PLACES >= n_pixels for n, n_pixels in zip(shape[:2], size[:2], strict=True))


def fit_regions(layer: str, maps: MapReader, n_channels: int) -> Regions | None:
    """Cluster the places of a class's images by what a layer shows there.

    Parameters
    ----------
    layer : str
    maps : MapReader
        Pooled maps of the layer, rows in the order of the images.
    n_channels : int

    Returns
    -------
    Regions or None
        None where there are too few places, or nothing varies.
    """
    from sklearn.cluster import KMeans  # slow to import: only where regions are fitted

    chosen = np.unique(np.linspace(0, maps.n_images - 1, min(maps.n_images, _MAX_IMAGES)).astype(np.int64))
    rng = np.random.default_rng(0)
    n_places = maps.n_values // n_channels
    samples = []
    for start in range(0, len(chosen), BLOCK_IMAGES):
        values = maps.read(chosen[start : start + BLOCK_IMAGES], slice(0, maps.n_values))
        places = values.reshape(len(values), n_places, n_channels)
        picked = rng.permuted(np.tile(np.arange(n_places), (len(values), 1)), axis=1)[:, :_PLACES_PER_IMAGE]
        samples.append(np.take_along_axis(places, picked[:, :, None], axis=1).reshape(-1, n_channels))
    sample = np.concatenate(samples, dtype=np.float64)
    del samples
    offset = sample.mean(axis=0)
    sample -= offset
    # Not np.cov, which makes three copies of what is the largest array of a collection.
    variances, axes = np.linalg.eigh(sample.T @ sample / max(len(sample) - 1, 1))
    order = np.argsort(variances)[::-1][:_DIMENSIONS]
    order = order[variances[order] > 1e-9 * max(float(variances.max()), 1e-30)]
    if len(sample) < 10 * N_REGIONS or not len(order):
        return None
    # Halfway to whitening: strong directions lead, but do not drown the others.
    projection = axes[:, order] / variances[order] ** 0.25
    points = sample @ projection
    centroids = KMeans(N_REGIONS, n_init=3, random_state=0).fit(points).cluster_centers_
    parts = np.array_split(points, math.ceil(len(points) / _PLACES_AT_A_TIME))
    nearest = np.concatenate([_squared_distances(part, centroids).min(axis=1) for part in parts])
    temperature = max(0.25 * float(np.median(nearest)), 1e-12)
    return Regions(
        layer, offset.astype(np.float32), projection.astype(np.float32), centroids.astype(np.float32), temperature
    )


def _squared_distances(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return ((points[..., None, :] - centroids) ** 2).sum(axis=-1)


def memberships(regions: Regions, places: np.ndarray) -> np.ndarray:
    """Tell to which region places belong: values (..., channel) -> weights (..., region) that sum to one."""
    from scipy.special import softmax

    points = (np.asarray(places, np.float32) - regions.offset) @ regions.projection
    distances = _squared_distances(points, regions.centroids) / regions.temperature
    return softmax(-distances, axis=-1)


def region_means(regions: Regions, keys: MapReader, maps: MapReader, n_channels: int, rows: np.ndarray) -> np.ndarray:
    """Average a layer over the places of each region, image by image.

    Parameters
    ----------
    regions : Regions
    keys : MapReader
        Pooled maps of the regions' layer.
    maps : MapReader
        Pooled maps of the layer to average, over the same places.
    n_channels : int
        Of that layer.
    rows : ndarray of int
        The images to do so for.

    Returns
    -------
    ndarray of shape (row, region, channel), float32
        Drawn toward the image's mean plus the class's usual difference where the region covers little of the image.
    """
    n_key_channels = len(regions.offset)
    n_places = keys.n_values // n_key_channels
    areas = np.empty((len(rows), regions.n_regions, 1), np.float32)
    sums = np.empty((len(rows), regions.n_regions, n_channels), np.float32)
    means = np.empty((len(rows), 1, n_channels), np.float32)
    usual = np.zeros(sums.shape[1:])
    blocks = [slice(start, start + BLOCK_IMAGES) for start in range(0, len(rows), BLOCK_IMAGES)]
    for block in blocks:
        places = keys.read(rows[block], slice(0, keys.n_values)).reshape(-1, n_places, n_key_channels)
        values = maps.read(rows[block], slice(0, maps.n_values)).reshape(-1, n_places, n_channels)
        weights = memberships(regions, places)
        areas[block] = weights.sum(axis=1)[:, :, None]
        sums[block] = np.swapaxes(weights, 1, 2) @ values
        means[block] = values.mean(axis=1)[:, None]
        for difference in sums[block] - areas[block] * means[block]:
            usual += difference
    # None of these images may have any place of a region that was found in others.
    usual /= np.maximum(areas.sum(axis=0, dtype=np.float64), np.finfo(np.float32).tiny)
    prior = _PRIOR_SHARE * n_places
    # In place: in float64 and all at once this would be most of what a collection needs.
    for block in blocks:
        drawn = (sums[block] + prior * (means[block] + usual)) / (areas[block] + prior)
        sums[block] = rounded(drawn.astype(np.float32))
    return sums


def ask_facet_moments(
    layer: str,
    *,
    regions: Regions,
    layout_shape: tuple[int, int],
    means: np.ndarray,
    variance: float,
    directions: np.ndarray | None = None,
) -> PureLoss:
    """Ask a layer for the texture of every kind of place, see `losses.facet_moments`."""
    means = np.asarray(means, np.float32)
    arrays: dict[str, Any] = {
        "offset": np.asarray(regions.offset, np.float32),
        "projection": np.asarray(regions.projection, np.float32),
        "centroids": np.asarray(regions.centroids, np.float32),
        "temperature": np.float32(regions.temperature),
        "means": means if directions is None else means @ directions,
        "variance": np.float32(max(variance, _VARIANCE_FLOOR)),
    }
    if directions is not None:
        arrays["directions"] = directions
    settings = {"layout_shape": tuple(layout_shape)}
    layers = (layer, regions.layer)
    return PureLoss(facet_moments, layers, arrays, settings, is_tied_to_places=True, reads_shared_maps=True)


def facet_moments(
    values: tuple[SharedMap, SharedMap],
    layout_shape: tuple[int, int],
    offset: Tensor,
    projection: Tensor,
    centroids: Tensor,
    temperature: Tensor,
    means: Tensor,
    variance: Tensor,
    directions: Tensor | None = None,
) -> Tensor:
    """Compare textures place by place, ``sum_j area_j |m_j - m*_j|² / variance``, in a layer and the one that tells places apart."""
    from keras import ops

    own, key = values
    own = _places(own.pooled(layout_shape, directions))
    points = _places(key.pooled(layout_shape, projection)) - ops.matmul(offset, projection)
    crossed = ops.matmul(points, ops.transpose(centroids))
    # |point|² is common to all regions and falls out of the softmax.
    distance = ops.sum(centroids**2, axis=-1) - 2.0 * crossed
    # Where a place belongs is the layout's business: here only what is shown there may change.
    membership = ops.stop_gradient(ops.softmax(-distance / temperature, axis=-1))
    area = ops.sum(membership, axis=1)
    mean = ops.matmul(ops.swapaxes(membership, 1, 2), own) / (area[:, :, None] + 1e-3)
    squared = ops.sum((mean - means) ** 2, axis=-1)
    return ops.sum(squared * area / points.shape[1], axis=-1) / variance


def _places(cells: Tensor) -> Tensor:
    """Put cells in a row: (image, height, width, channel) -> (image, place, channel)."""
    from keras import ops

    return ops.reshape(cells, (ops.shape(cells)[0], -1, cells.shape[-1]))


REGIONS = RegionMeans()
