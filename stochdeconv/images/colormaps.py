"""Maps of numbers made visible: signed gradients, attributions, where a map is strong in a photo, and whose each part is."""

from __future__ import annotations

import numpy as np

from stochdeconv.images.colors import luminance

# Even in lightness, readable without colour (van der Walt & Smith 2015).
_HEAT = "inferno"
# ColorBrewer's, blue to red over nearly white (Brewer 2003).
_SIGNED = "RdBu_r"
# Share of values that are drawn to scale; the rest, a few pixels that would leave all others grey, are cut off (Smilkov et al. 2017).
_PERCENTILE = 99.0
# How bright a line between two parts is, of the colour there.
_LINE = 0.35


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
    """Draw what raises the score in red, what lowers it in blue, on nearly white.

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
    grey = luminance(photo)[..., np.newaxis]
    top = float(strength.max()) or 1.0
    return (0.45 * grey + 0.55 * _colored(strength / top, _HEAT)).astype(np.float32)


def colored_parts(owners: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Draw whose each cell is, one colour an owner, with a dark line around each part.

    Parameters
    ----------
    owners, parts : ndarray of shape (row, column), int
        Numbers of at least 0; a part has one owner, an owner any number of parts.

    Returns
    -------
    ndarray of shape (row, column, 3)
        float32 in [0, 1]. Owners whose numbers follow each other have colours far apart.
    """
    from matplotlib.colors import hsv_to_rgb

    numbers = owners.astype(np.float64)
    # Multiples of these irrational numbers fill the circle, and the unit interval, evenly.
    hue, shade = numbers * (np.sqrt(5.0) - 1.0) / 2.0 % 1.0, numbers * np.sqrt(2.0) % 1.0
    picture = hsv_to_rgb(np.stack([hue, 0.35 + 0.4 * shade, 0.95 - 0.25 * shade], axis=-1))
    ends = np.zeros(parts.shape, bool)
    ends[:, 1:] |= parts[:, 1:] != parts[:, :-1]
    ends[1:] |= parts[1:] != parts[:-1]
    picture[ends] *= _LINE
    return picture.astype(np.float32)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Divide by a high percentile of the absolute values and cut off at -1 and 1; zeros stay zeros."""
    sizes = np.abs(values)
    top = float(np.percentile(sizes, _PERCENTILE)) or float(sizes.max()) or 1.0
    return np.clip(values / top, -1.0, 1.0).astype(np.float32)


def _colored(values: np.ndarray, colormap: str) -> np.ndarray:
    """Look up values in [0, 1] in a colormap of matplotlib, by its name."""
    import matplotlib  # takes long to import; the rules that saliency offers are listed without

    return matplotlib.colormaps[colormap](values)[..., :3].astype(np.float32)
