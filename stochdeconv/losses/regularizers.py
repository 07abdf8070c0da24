"""What keeps an image an image: losses on the pixels themselves, readable under the key ``"input"``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from keras import ops

from stochdeconv.losses.targets import StatisticTerm
from stochdeconv.losses.terms import Term
from stochdeconv.statistics.class_statistics import INPUT
from stochdeconv.statistics.edges import ask_edge_sharpness
from stochdeconv.statistics.spectrum import ask_amplitude_spectrum

# Keeps a square root differentiable at zero; (0.0002)^2, far below one grey level.
_SQUARE_FLOOR = 4e-8


@dataclass(frozen=True)
class TotalVariation(Term):
    """Mean squared (or beta-th power) difference of neighbours. See `total_variation`."""

    beta: float = 2.0

    def of_values(self, values, arrays):
        """Return the loss per image."""
        everywhere, within = tuple(range(1, len(values.shape))), range(1, len(values.shape) - 1)
        if self.beta == 2.0:
            return sum(ops.mean(ops.diff(values, axis=axis) ** 2, axis=everywhere) for axis in within)
        squared = sum((ops.roll(values, -1, axis=axis) - values) ** 2 for axis in within)
        # The last place of an axis has no next one.
        squared = squared[(slice(None), *(slice(-1) for _ in within))] + _SQUARE_FLOOR
        return ops.mean(squared ** (self.beta / 2), axis=everywhere)


def total_variation(beta: float = 2.0) -> TotalVariation:
    """Ask for smoothness: mean over pixels and colours of ``(dx² + dy²)^(beta / 2)`` (Mahendran & Vedaldi 2015).

    The sum is over all axes between images and channels: of voxels it is ``dx² + dy² + dz²``.

    Parameters
    ----------
    beta : float
        2 for squared differences; below 2 keeps edges sharper.

    Returns
    -------
    TotalVariation
    """
    return TotalVariation(INPUT, beta)


@dataclass(frozen=True)
class L2(Term):
    """Summed square of the network's input. See `l2`."""

    unit: float = 1.0

    def of_values(self, values, arrays):
        """Return the loss per image."""
        return self.unit**2 * ops.sum((values - arrays["origin"]) ** 2, axis=tuple(range(1, len(values.shape))))


def l2(unit: float = 1.0, origin: np.ndarray | float = 0.0) -> L2:
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
    L2
    """
    return L2("network_input", unit, arrays={"origin": np.asarray(origin, np.float32)})


@dataclass(frozen=True)
class AlphaNorm(Term):
    """Mean alpha-th power of the centred image. See `alpha_norm`."""

    alpha: float = 6.0

    def of_values(self, values, arrays):
        """Return the loss per image."""
        return ops.mean(ops.abs(2.0 * values - 1.0) ** self.alpha, axis=tuple(range(1, len(values.shape))))


def alpha_norm(alpha: float = 6.0) -> AlphaNorm:
    """Ask pixels to stay in range: mean of ``|2 x - 1|^alpha`` (Mahendran & Vedaldi 2015).

    About mid-grey, where the range has its middle. About the training mean, as in the paper, it costs the brighter side more, and
    inversions come out a little darker and further from the photograph (one photograph, SqueezeNet's fire6 and fire9).
    """
    return AlphaNorm(INPUT, alpha)


def edge_sharpness(mean: np.ndarray, std: np.ndarray) -> StatisticTerm:
    """Ask for edges as sharp as a photograph's.

    Parameters
    ----------
    mean, std : ndarray of shape (image,)
        Sampled mean and standard deviation of `measures.log_gradient_magnitude`.

    Returns
    -------
    StatisticTerm
        Squared distances of both, in units of the sampled variance.
    """
    return StatisticTerm.of(ask_edge_sharpness(mean, std))


def amplitude_spectrum(amplitude: np.ndarray, size: tuple[int, int], *, n_bands: int = 24) -> StatisticTerm:
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
    StatisticTerm
    """
    return StatisticTerm.of(ask_amplitude_spectrum(amplitude, size, n_bands=n_bands))
