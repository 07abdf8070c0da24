"""Losses toward a target: sampled layouts and textures, or given activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from stochdeconv.errors import InputError
from stochdeconv.losses.functions import loss
from stochdeconv.losses.terms import Loss, Term, WeightedTerm
from stochdeconv.statistics.class_statistics import Facets
from stochdeconv.statistics.pooling import pooled_map

Tensor = Any

# Keeps the square root of a variance differentiable where a channel is silent; far below any activation's variance.
_VARIANCE_FLOOR = 1e-8
# Part of the first component's variance that any other counts as at least. Pictures with an empty border (digits) have components that
# hardly vary at all: whitened as they are, these alone decide, and the image is noise. Of photographs it concerns only the colours.
_LEAST_VARIANCE = 0.01


def _as_map(values: Tensor) -> Tensor:
    """Flatten positions: (image, ..., channel) -> (image, position, channel)."""
    return ops.reshape(values, (ops.shape(values)[0], -1, values.shape[-1]))


def _moments(values: Tensor, about: Tensor) -> tuple[Tensor, Tensor]:
    """Deviations of the spatial means from `about`, both (image, channel), and covariances (image, channel, channel).

    They are float32, from products in the dtype of the values, which are most of what a step costs beside the network. Whoever
    differentiates the covariances does so symmetrically.
    """
    values = _as_map(values)
    # Taken about the mean or near it, a product of few digits loses none of them to the mean; far from it, the mean is what is felt.
    near = ops.cast(about, values.dtype)
    values = values - near[:, None]
    n_positions = values.shape[1]

    def product(left: Tensor) -> Tensor:
        return ops.cast(ops.matmul(left, values), "float32") / n_positions

    mean = product(ops.ones((1, 1, n_positions), values.dtype))[:, 0]
    deviation = mean + (ops.cast(near, "float32") - about)
    # Both sides of the product are the same and receive the same gradient: that of one, doubled, costs half.
    squared = product(ops.stop_gradient(ops.swapaxes(values, 1, 2)))
    squared = 2.0 * squared - ops.stop_gradient(squared)
    return deviation, squared - mean[:, :, None] * mean[:, None, :]


@dataclass(frozen=True)
class ChannelMoments(Term):
    """Texture of a layer: ``|m - m*|^2 / tr W + |S - S*|^2_F / |S*|^2_F``. See `channel_moments`."""

    @property
    def reads_network_dtype(self):
        """Yes: its products are."""
        return True

    def of_values(self, values, arrays):
        """Return the loss per image."""
        deviation, covariance = _moments(values, arrays["mean"])
        target = arrays["correlation"] * arrays["std"][:, :, None] * arrays["std"][:, None, :]
        of_mean = ops.sum(deviation**2, axis=-1) / arrays["variance"]
        energy = ops.sum(target**2, axis=(1, 2)) + _VARIANCE_FLOOR
        return of_mean + ops.sum((covariance - target) ** 2, axis=(1, 2)) / energy


def channel_moments(layer: str, *, mean: np.ndarray, std: np.ndarray, covariance: np.ndarray) -> ChannelMoments:
    """Ask a layer for the texture of one image: its channels' means, spreads and correlations.

    The relative Frobenius form: strong channels decide, silent ones do not.

    Parameters
    ----------
    layer : str
    mean, std : ndarray of shape (image, channel)
        Sampled spatial mean and standard deviation of each image.
    covariance : ndarray of shape (channel, channel)
        Within-image covariance of the class, W; its correlation is scaled by the sampled `std`.

    Returns
    -------
    ChannelMoments
    """
    deviation = np.sqrt(np.maximum(np.diag(covariance), _VARIANCE_FLOOR))
    arrays = {
        "mean": np.asarray(mean, np.float32),
        "std": np.asarray(std, np.float32),
        "correlation": (covariance / np.outer(deviation, deviation)).astype(np.float32),
        "variance": np.float32(max(np.trace(covariance), _VARIANCE_FLOOR)),
    }
    return ChannelMoments(layer, arrays=arrays)


@dataclass(frozen=True)
class LayoutScores(Term):
    """Arrangement of a layer: whitened distance of its layout scores to the sampled ones. See `layout_scores`."""

    layout_shape: tuple[int, int]

    @property
    def is_tied_to_places(self):
        """Yes: its targets lie at places of the whole image."""
        return True

    @property
    def reads_network_dtype(self):
        """Yes: maps are pooled in it."""
        return True

    def of_values(self, values, arrays):
        """Return the loss per image."""
        pooled = pooled_map(values, self.layout_shape)
        flat = ops.reshape(pooled, (ops.shape(pooled)[0], -1)) - arrays["layout_mean"]
        scores = ops.matmul(flat, arrays["components"])
        return ops.mean((scores - arrays["scores"]) ** 2 / arrays["explained_variance"], axis=-1)


def layout_scores(
    layer: str,
    *,
    scores: np.ndarray,
    components: np.ndarray,
    explained_variance: np.ndarray,
    layout_mean: np.ndarray,
) -> LayoutScores:
    """Ask a layer for an arrangement: where things are, as scores along the class's layout components.

    The loss is ``mean_j (s_j - z_j)^2 / lambda_j``: the rest of the map stays free for the texture terms, because a map rebuilt from
    the components would lack the energy they leave out. A ``lambda_j`` below a hundredth of the first counts as that.

    Parameters
    ----------
    layer : str
    scores : ndarray of shape (image, component)
        Sampled scores.
    components : ndarray of shape (component, height * width * channel)
    explained_variance : ndarray of shape (component,)
    layout_mean : ndarray of shape (height, width, channel)
        Mean pooled map; its height and width are those the layer is pooled to.

    Returns
    -------
    LayoutScores
    """
    variance = np.asarray(explained_variance, np.float32)
    arrays = {
        "scores": np.asarray(scores, np.float32),
        "components": np.ascontiguousarray(np.asarray(components, np.float32).T),
        "explained_variance": np.maximum(variance, max(_LEAST_VARIANCE * float(variance.max()), 1e-12)),
        "layout_mean": np.asarray(layout_mean, np.float32).ravel(),
    }
    return LayoutScores(layer, tuple(layout_mean.shape[:2]), arrays=arrays)


@dataclass(frozen=True)
class FacetMoments(Term):
    """Which texture is where: channel means over the places of each facet. See `facet_moments`."""

    key_layer: str
    layout_shape: tuple[int, int]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer whose means are compared, and the one that tells places apart."""
        return (self.layer, self.key_layer)

    @property
    def is_tied_to_places(self):
        """Yes: its targets lie at places of the whole image."""
        return True

    @property
    def reads_network_dtype(self):
        """Yes: maps are pooled in it."""
        return True

    def evaluate(self, activations, arrays):
        """Return the loss per image."""
        places = _as_map(pooled_map(activations[self.key_layer], self.layout_shape))
        points = ops.matmul(places - arrays["offset"], arrays["projection"])
        crossed = ops.matmul(points, ops.transpose(arrays["centroids"]))
        # |point|² is common to all facets and falls out of the softmax.
        distance = ops.sum(arrays["centroids"] ** 2, axis=-1) - 2.0 * crossed
        # Where a place belongs is the layout's business: here only what is shown there may change.
        membership = ops.stop_gradient(ops.softmax(-distance / arrays["temperature"], axis=-1))
        area = ops.sum(membership, axis=1)
        values = _as_map(pooled_map(activations[self.layer], self.layout_shape))
        mean = ops.matmul(ops.swapaxes(membership, 1, 2), values) / (area[:, :, None] + 1e-3)
        squared = ops.sum((mean - arrays["means"]) ** 2, axis=-1)
        return ops.sum(squared * area / places.shape[1], axis=-1) / arrays["variance"]


def facet_moments(
    layer: str, *, facets: Facets, layout_shape: tuple[int, int], means: np.ndarray, variance: float
) -> FacetMoments:
    """Ask a layer for the texture of every kind of place: fur on the dog, blades in the grass.

    Class-wide channel moments say which textures an image holds, not where; layout scores say where the large parts are. Facets tie the
    two together: places are told apart by a deep layer of the image itself, and a shallower layer's means over each kind of place are
    drawn to the sampled ones, ``sum_j area_j |m_j - m*_j|² / variance``.

    Parameters
    ----------
    layer : str
        A layer below that of the facets, or ``"input"``.
    facets : Facets
    layout_shape : (height, width)
        Cells the maps are pooled to; a place is a cell.
    means : ndarray of shape (image, facet, channel)
        Sampled means.
    variance : float
        Variance of the means over images and facets, summed over channels.

    Returns
    -------
    FacetMoments
    """
    arrays = {
        "offset": np.asarray(facets.offset, np.float32),
        "projection": np.asarray(facets.projection, np.float32),
        "centroids": np.asarray(facets.centroids, np.float32),
        "temperature": np.float32(facets.temperature),
        "means": np.asarray(means, np.float32),
        "variance": np.float32(max(variance, _VARIANCE_FLOOR)),
    }
    return FacetMoments(layer, facets.layer, tuple(layout_shape), arrays=arrays)


@loss(name="match", is_tied_to_places=True)
def _relative_distance(values: Tensor, target: np.ndarray) -> Tensor:
    axes = tuple(range(1, len(values.shape)))
    return ops.sum((values - target) ** 2, axis=axes) / (ops.sum(target**2, axis=axes) + _VARIANCE_FLOOR)


def match(target: Mapping[str, np.ndarray]) -> Loss:
    """Ask layers for given activations: ``|a - a*|^2 / |a*|^2``, summed over layers (Mahendran & Vedaldi 2015).

    Parameters
    ----------
    target : mapping of str to ndarray of shape (image, ...)
        Layer name -> activations, as ``model.activations`` gives them.

    Returns
    -------
    Loss
    """
    if not target:
        raise InputError("match needs the activations of at least one layer; got an empty mapping")
    terms = (_relative_distance(layer, np.asarray(values, np.float32)) for layer, values in target.items())
    return Loss(tuple(map(WeightedTerm, terms)))
