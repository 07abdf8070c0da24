"""Maps of numbers made visible: signed gradients, attributions, and where a map is strong in a photo."""

from __future__ import annotations

import numpy as np

# matplotlib's "inferno" (van der Walt & Smith 2015, CC0) at nine equal steps: even in lightness, readable without colour.
_HEAT = np.array(
    [
        (0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85),
        (227, 89, 51), (249, 140, 10), (249, 201, 50), (252, 255, 164),
    ],
    np.float32,
) / 255  # fmt: skip
# ColorBrewer's "RdBu" (Brewer 2003), its ends, quarters and white.
_SIGNED = np.array([(5, 48, 97), (67, 147, 195), (255, 255, 255), (214, 96, 77), (103, 0, 31)], np.float32) / 255
# Share of values that are drawn to scale; the rest, a few pixels that would leave all others grey, are cut off (Smilkov et al. 2017).
_PERCENTILE = 99.0


def color_gradient(gradient: np.ndarray) -> np.ndarray:
    """Draw a gradient as a picture about mid-grey: a pixel is brighter in the colours that raise the score.

    Parameters
    ----------
    gradient : ndarray of shape (height, width, channel)

    Returns
    -------
    ndarray of shape (height, width, 3)
        float32 in [0, 1]; 0.5 is zero.
    """
    picture = 0.5 + 0.5 * _scaled(gradient)
    return picture.repeat(3, axis=-1) if picture.shape[-1] == 1 else picture


def signed_heat(attributions: np.ndarray) -> np.ndarray:
    """Draw what raises the score in red, what lowers it in blue, on white.

    Parameters
    ----------
    attributions : ndarray of shape (height, width, channel)
        Added up over colours.

    Returns
    -------
    ndarray of shape (height, width, 3)
        float32 in [0, 1].
    """
    return _colored(0.5 + 0.5 * _scaled(attributions.sum(axis=-1)), _SIGNED)


def heat(gradient: np.ndarray) -> np.ndarray:
    """Draw how strongly each pixel matters, whatever the direction: black to yellow.

    Parameters
    ----------
    gradient : ndarray of shape (height, width, channel)
        Absolute values are added up over colours.

    Returns
    -------
    ndarray of shape (height, width, 3)
        float32 in [0, 1].
    """
    return _colored(_scaled(np.abs(gradient).sum(axis=-1)), _HEAT)


def overlay(strength: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """Lay a map over the photo: the photo in grey shows through, the map gives the colour.

    Parameters
    ----------
    strength : ndarray of shape (height, width)
        At least 0.
    photo : ndarray of shape (height, width, channel)
        RGB or grey, in [0, 1].

    Returns
    -------
    ndarray of shape (height, width, 3)
        float32 in [0, 1].
    """
    grey = photo.mean(axis=-1, keepdims=True)
    top = float(strength.max()) or 1.0
    return (0.45 * grey + 0.55 * _colored(strength / top, _HEAT)).astype(np.float32)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Divide by a high percentile of the absolute values and cut off at -1 and 1; zeros stay zeros."""
    sizes = np.abs(values)
    top = float(np.percentile(sizes, _PERCENTILE)) or float(sizes.max()) or 1.0
    return np.clip(values / top, -1.0, 1.0).astype(np.float32)


def _colored(values: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Look up values in [0, 1] in a scale of equally spaced colours."""
    stops = np.linspace(0.0, 1.0, len(colors))
    return np.stack([np.interp(values, stops, colors[:, channel]) for channel in range(3)], axis=-1).astype(np.float32)
