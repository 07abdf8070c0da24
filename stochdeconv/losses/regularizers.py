"""What keeps an image an image: losses on the pixels themselves, readable under the key ``"input"``."""

from __future__ import annotations

import math

import numpy as np
from keras import ops

from stochdeconv.losses.functions import loss
from stochdeconv.losses.targets import term_of
from stochdeconv.losses.terms import Tensor, Term
from stochdeconv.statistics.class_statistics import INPUT
from stochdeconv.statistics.edges import SQUARE_FLOOR, ask_edge_sharpness
from stochdeconv.statistics.spectrum import ask_amplitude_spectrum


@loss(layer=INPUT)
def total_variation(images: Tensor, beta: float = 2.0) -> Tensor:
    """Ask for smoothness: mean over pixels and colours of ``(dx² + dy²)^(beta / 2)`` (Mahendran & Vedaldi 2015).

    The sum is over all axes between images and channels: of voxels it is ``dx² + dy² + dz²``.

    Parameters
    ----------
    beta : float
        2 for squared differences; below 2 keeps edges sharper.

    Returns
    -------
    Term
    """
    everywhere, within = tuple(range(1, len(images.shape))), range(1, len(images.shape) - 1)
    if beta == 2.0:
        return sum(ops.mean(_differences(images, axis) ** 2, axis=everywhere) for axis in within)
    squared = sum((ops.roll(images, -1, axis=axis) - images) ** 2 for axis in within)
    # The last place of an axis has no next one.
    squared = squared[(slice(None), *(slice(-1) for _ in within))] + SQUARE_FLOOR
    return ops.mean(squared ** (beta / 2), axis=everywhere)


def _differences(images: Tensor, axis: int) -> Tensor:
    """Differences to the next place along an axis, the places after it in one row: some times as fast as of small rows."""
    shape = images.shape
    rows = ops.reshape(images, (-1, shape[axis] * math.prod(shape[axis + 1 :])))
    width = math.prod(shape[axis + 1 :])
    _, after = ops.split(rows, [width], axis=1)
    before, _ = ops.split(rows, [rows.shape[1] - width], axis=1)
    return ops.reshape(after - before, (-1, *shape[1:axis], shape[axis] - 1, *shape[axis + 1 :]))


@loss(layer="network_input", arrays=("origin",))
def l2(values: Tensor, unit: float = 1.0, origin: np.ndarray | float = 0.0) -> Tensor:
    """Ask for little contrast: the summed square of the preprocessed image (Simonyan et al. 2014).

    It acts on the mean-centred network input, since on [0, 1] it would pull toward black.

    Parameters
    ----------
    unit : float
        Grey levels of 256 in one unit of the network's input, so that a weight means the same on every network.
    origin : float or ndarray of shape (channel,)
        What the input is drawn to: the training mean, which most networks' preprocessing maps to zero.

    Returns
    -------
    Term
    """
    return unit**2 * ops.sum((values - origin) ** 2, axis=tuple(range(1, len(values.shape))))


@loss(layer=INPUT)
def alpha_norm(images: Tensor, alpha: float = 6.0) -> Tensor:
    """Ask pixels to stay in range: mean of ``|2 x - 1|^alpha`` (Mahendran & Vedaldi 2015).

    About mid-grey, where the range has its middle. About the training mean, as in the paper, it costs the brighter side more, and
    inversions come out a little darker and further from the photograph (one photograph, SqueezeNet's fire6 and fire9).

    Parameters
    ----------
    alpha : float

    Returns
    -------
    Term
    """
    return ops.mean(ops.abs(2.0 * images - 1.0) ** alpha, axis=tuple(range(1, len(images.shape))))


def edge_sharpness(mean: np.ndarray, std: np.ndarray) -> Term:
    """Ask for edges as sharp as a photograph's.

    Parameters
    ----------
    mean, std : ndarray of shape (image,)
        Sampled mean and standard deviation of `measures.log_gradient_magnitude`.

    Returns
    -------
    Term
        Squared distances of both, in units of the sampled variance.
    """
    return term_of(ask_edge_sharpness(mean, std))


def amplitude_spectrum(amplitude: np.ndarray, size: tuple[int, int], *, n_bands: int = 24) -> Term:
    """Ask for the class's share of coarse and fine: mean amplitude in bands of spatial frequency, compared by logarithm.

    Parameters
    ----------
    amplitude : ndarray of shape (height, width // 2 + 1, channel)
        Mean amplitude spectrum of the class (``ClassStatistics.amplitude_mean``).
    size : (height, width)
        Of the images it was measured on, and of those it is asked of.
    n_bands : int
        Bands, equally wide in log frequency, from one cycle an image to the highest frequency of both axes.

    Returns
    -------
    Term
    """
    return term_of(ask_amplitude_spectrum(amplitude, size, n_bands=n_bands))
