"""Losses toward a target: sampled layouts and textures, or given activations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np
from keras import ops

from stochdeconv.errors import InputError
from stochdeconv.losses.functions import Definition, FunctionTerm, loss
from stochdeconv.losses.terms import Loss, Tensor, Term, WeightedTerm
from stochdeconv.statistics.layout import ask_layout_scores
from stochdeconv.statistics.local_gaussians import ask_local_map
from stochdeconv.statistics.moments import ask_channel_moments
from stochdeconv.statistics.regions import Regions, ask_facet_moments
from stochdeconv.statistics.statistic import PureLoss

# Keeps a quotient finite where a target is zero.
_ENERGY_FLOOR = 1e-8


def term_of(pure: PureLoss) -> Term:
    """Make a term of what a statistic asks of an image."""
    definition = _definition(pure.function, pure.is_tied_to_places, pure.reads_shared_maps)
    return FunctionTerm(pure.layers[0], pure.layers[1:], definition, tuple(pure.settings.items()), arrays=pure.arrays)


# Terms of one function are of one program: definitions are compared by identity.
@functools.cache
def _definition(function: Callable[..., Tensor], is_tied_to_places: bool, reads_shared_maps: bool) -> Definition:
    return Definition(function, is_tied_to_places=is_tied_to_places, reads_shared_maps=reads_shared_maps)


def channel_moments(
    layer: str, *, mean: np.ndarray, std: np.ndarray, covariance: np.ndarray, directions: np.ndarray | None = None
) -> Term:
    """Ask a layer for the texture of one image: its channels' means, spreads and correlations.

    The relative Frobenius form: strong channels decide, silent ones do not.

    Parameters
    ----------
    layer : str
    mean, std : ndarray of shape (image, channel)
        Sampled spatial mean and standard deviation of each image.
    covariance : ndarray of shape (channel, channel)
        Within-image covariance of the class, W; its correlation is scaled by the sampled `std`.
    directions : ndarray of shape (channel, direction), optional
        Orthonormal directions of the channels, to compare along these alone: `directions.leading_directions` cost a tenth. Losses that are
        handed the same array share the product with it.

    Returns
    -------
    Term
    """
    return term_of(ask_channel_moments(layer, mean=mean, std=std, covariance=covariance, directions=directions))


def layout_scores(
    layer: str,
    *,
    scores: np.ndarray,
    components: np.ndarray,
    explained_variance: np.ndarray,
    layout_mean: np.ndarray,
    directions: np.ndarray | None = None,
) -> Term:
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
    directions : ndarray of shape (channel, direction), optional
        Orthonormal directions of the channels, to compare along these alone: `directions.leading_directions` cost a tenth. Losses that are
        handed the same array share the product with it.

    Returns
    -------
    Term
    """
    return term_of(
        ask_layout_scores(
            layer,
            scores=scores,
            components=components,
            explained_variance=explained_variance,
            layout_mean=layout_mean,
            directions=directions,
        )
    )


def facet_moments(
    layer: str,
    *,
    facets: Regions,
    layout_shape: tuple[int, int],
    means: np.ndarray,
    variance: float,
    directions: np.ndarray | None = None,
) -> Term:
    """Ask a layer for the texture of every kind of place: fur on the dog, blades in the grass.

    Class-wide channel moments say which textures an image holds, not where; layout scores say where the large parts are. Regions tie the
    two together: places are told apart by a deep layer of the image itself, and a shallower layer's means over each kind of place are
    drawn to the sampled ones, ``sum_j area_j |m_j - m*_j|² / variance``.

    Parameters
    ----------
    layer : str
        A layer below that of the regions, or ``"input"``.
    facets : Regions
        ``ClassStatistics.facets``.
    layout_shape : (height, width)
        Cells the maps are pooled to; a place is a cell.
    means : ndarray of shape (image, region, channel)
        Sampled means.
    variance : float
        Variance of the means over images and regions, summed over channels.
    directions : ndarray of shape (channel, direction), optional
        Orthonormal directions of the channels, to compare along these alone: `directions.leading_directions` cost a tenth. Losses that are
        handed the same array share the product with it.

    Returns
    -------
    Term
    """
    return term_of(
        ask_facet_moments(
            layer,
            regions=facets,
            layout_shape=layout_shape,
            means=means,
            variance=variance,
            directions=directions,
        )
    )


@loss(name="match", is_tied_to_places=True)
def _relative_distance(values: Tensor, target: np.ndarray) -> Tensor:
    if tuple(values.shape[1:]) != tuple(target.shape[1:]):
        sizes = ["×".join(map(str, array.shape[1:])) for array in (target, values)]
        raise InputError(
            f"match: the target is {sizes[0]} where the images have {sizes[1]}: take its activations from a picture of their size"
        )
    axes = tuple(range(1, len(values.shape)))
    return ops.sum((values - target) ** 2, axis=axes) / (ops.sum(target**2, axis=axes) + _ENERGY_FLOOR)


def match(target: Mapping[str, np.ndarray]) -> Loss:
    """Ask layers for given activations: ``|a - a*|^2 / |a*|^2``, summed over layers (Mahendran & Vedaldi 2015).

    Parameters
    ----------
    target : mapping of str to ndarray of shape (image, ...)
        Layer name -> activations, as ``model.activations`` gives them.

    Returns
    -------
    Loss

    Raises
    ------
    InputError
        There is no layer.
    """
    if not target:
        raise InputError("match needs the activations of at least one layer; got an empty mapping")
    terms = (_relative_distance(layer, np.asarray(values, np.float32)) for layer, values in target.items())
    return Loss(tuple(map(WeightedTerm, terms)))


def local_maps(targets: Mapping[str, np.ndarray], directions: Mapping[str, np.ndarray]) -> Loss:
    """Ask layers for what they should show at every position: the mean of ``(Pa - t)²``, summed over layers.

    Parameters
    ----------
    targets : mapping of str to ndarray of shape (image, height, width, direction)
        See `local.local_targets`.
    directions : mapping of str to ndarray of shape (channel, direction)
        Of each of these layers: the P above.

    Returns
    -------
    Loss
    """
    terms = (
        term_of(ask_local_map(name, target=target, directions=directions[name])) for name, target in targets.items()
    )
    return Loss(tuple(map(WeightedTerm, terms)))
