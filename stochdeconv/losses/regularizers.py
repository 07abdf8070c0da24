"""What keeps an image an image: losses on the pixels themselves, readable under the key ``"input"``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from keras import ops

from stochdeconv.images.colors import LUMINANCE
from stochdeconv.images.measures import LOG_GRADIENT_EPSILON
from stochdeconv.losses.terms import Term
from stochdeconv.statistics.class_statistics import INPUT

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


@dataclass(frozen=True)
class EdgeSharpness(Term):
    """Distance of mean and spread of the log gradient magnitude to given ones. See `edge_sharpness`."""

    def of_values(self, values, arrays):
        """Return the loss per image."""
        is_grey = values.shape[-1] == 1
        light = values[..., 0] if is_grey else ops.matmul(values, np.array(LUMINANCE, np.float32)[:, None])[..., 0]
        dx = light[:, :-1, 1:] - light[:, :-1, :-1]
        dy = light[:, 1:, :-1] - light[:, :-1, :-1]
        logs = ops.log(ops.sqrt(dx**2 + dy**2 + _SQUARE_FLOOR) + LOG_GRADIENT_EPSILON)
        mean, std = ops.mean(logs, axis=(1, 2)), ops.std(logs, axis=(1, 2))
        return ((mean - arrays["mean"]) ** 2 + (std - arrays["std"]) ** 2) / arrays["std"] ** 2


def edge_sharpness(mean: np.ndarray, std: np.ndarray) -> EdgeSharpness:
    """Ask for edges as sharp as a photograph's.

    Parameters
    ----------
    mean, std : ndarray of shape (image,)
        Sampled mean and standard deviation of `summary.log_gradient_magnitude`.

    Returns
    -------
    EdgeSharpness
        Squared distances of both, in units of the sampled variance.
    """
    arrays = {"mean": np.asarray(mean, np.float32), "std": np.maximum(np.asarray(std, np.float32), np.float32(0.05))}
    return EdgeSharpness(INPUT, arrays=arrays)


@dataclass(frozen=True)
class AmplitudeSpectrum(Term):
    """Distance of the log amplitude per band of frequencies to the class's. See `amplitude_spectrum`."""

    @property
    def is_tied_to_places(self):
        """Yes: its targets lie at places of the whole image."""
        return True

    def of_values(self, values, arrays):
        """Return the loss per image."""
        planes = ops.transpose(values, (0, 3, 1, 2))
        real, imaginary = ops.fft2((planes, ops.zeros_like(planes)))
        amplitude = ops.sqrt(real**2 + imaginary**2 + 1e-6)
        amplitude = ops.reshape(amplitude, (-1, planes.shape[1], planes.shape[2] * planes.shape[3]))
        bands = ops.log(ops.matmul(amplitude, arrays["bands"]))
        return ops.mean((bands - arrays["log_amplitude"]) ** 2, axis=(1, 2))


def amplitude_spectrum(amplitude: np.ndarray, size: tuple[int, int], *, n_bands: int = 24) -> AmplitudeSpectrum:
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
    AmplitudeSpectrum
    """
    height, width = size
    # rfft2 keeps half of the plane; the other half mirrors it, and one set of bands then serves the full transform.
    row, column = np.mgrid[:height, :width]
    mirrored = column > width // 2
    full = amplitude[np.where(mirrored, -row % height, row), np.where(mirrored, width - column, column)]
    full = full.transpose(2, 0, 1).reshape(full.shape[-1], -1)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]).ravel()
    edges = np.geomspace(1.0 / max(size), 0.5, n_bands + 1)
    edges[0] *= 0.99
    members = (frequency[:, None] >= edges[:-1]) & (frequency[:, None] < edges[1:])
    members = members[:, members.any(axis=0)]
    bands = (members / members.sum(axis=0)).astype(np.float32)
    return AmplitudeSpectrum(
        INPUT, arrays={"bands": bands, "log_amplitude": np.log(full @ bands + 1e-6).astype(np.float32)}
    )
