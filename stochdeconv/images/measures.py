"""What is measured of a picture without a network: how sharp its edges are, how much of each frequency it holds."""

from __future__ import annotations

import numpy as np

from stochdeconv.images.colors import luminance

#: One grey level of 256: below it, differences are quantisation noise.
LOG_GRADIENT_EPSILON = 1.0 / 255.0


def log_gradient_magnitude(image: np.ndarray) -> np.ndarray:
    """Measure the sharpness of edges: ``log(sqrt(dx² + dy²) + LOG_GRADIENT_EPSILON)`` of the luminance.

    dx and dy are forward differences to the right and lower neighbour, where both exist.

    Parameters
    ----------
    image : ndarray of shape (height, width, channel)
        RGB or grey, in [0, 1].

    Returns
    -------
    ndarray of shape (height - 1, width - 1)
        float32.
    """
    light = luminance(image)
    dx = light[:-1, 1:] - light[:-1, :-1]
    dy = light[1:, :-1] - light[:-1, :-1]
    return np.log(np.sqrt(dx * dx + dy * dy) + np.float32(LOG_GRADIENT_EPSILON))


def amplitude_spectrum(image: np.ndarray) -> np.ndarray:
    """Measure how much of each spatial frequency an image holds.

    Parameters
    ----------
    image : ndarray of shape (height, width, channel)

    Returns
    -------
    ndarray of shape (height, width // 2 + 1, channel)
        float32 ``|numpy.fft.rfft2|`` per colour, unnormalised.
    """
    planes = np.moveaxis(image, -1, 0).astype(np.float64)
    return np.moveaxis(np.abs(np.fft.rfft2(planes)), 0, -1).astype(np.float32)
