"""Statistics as small pictures: layouts, components and kinds of places, drawn from numbers alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label

from stochdeconv.images.colormaps import heat, signed_heat
from stochdeconv.images.colors import luminance
from stochdeconv.images.files import stretch
from stochdeconv.statistics.regions import Regions, memberships

#: One colour a region, told apart side by side; beyond twelve they repeat (ColorBrewer's "Paired", Brewer 2003, yellow darkened).
REGION_COLORS = (
    "#1f78b4", "#e31a1c", "#33a02c", "#ff7f00", "#6a3d9a", "#b15928",
    "#a6cee3", "#fb9a99", "#b2df8a", "#fdbf6f", "#cab2d6", "#e6d820",
)  # fmt: skip
# Shorter side of a drawn map, pixels at least: cells stay sharp squares when a page enlarges them.
_DRAWN_SIDE = 112
# Part of an overlay that is colour; the rest is the picture in grey.
_OVERLAY = 0.6
# A region's number is written on a picture where a piece of the region covers this share of it.
_LABELLED_SHARE = 0.03


@dataclass(frozen=True, eq=False)
class Pattern:
    """A component of a layer reduced to what can be drawn.

    Attributes
    ----------
    places : ndarray of shape (height, width)
        How strongly the component's leading channel direction goes up or down at each place.
    share : float
        Part of the component's squared length that this one direction holds, 0 to 1.
    channels : tuple of (int, bool)
        The channels with the largest part in the direction, the largest first, at most three; whether each goes up where `places` do.
    """

    places: np.ndarray
    share: float
    channels: tuple[tuple[int, bool], ...]


def leading_pattern(component: np.ndarray) -> Pattern:
    """Find the channel direction that carries most of a component, and where it goes up and down.

    The best approximation of the (place, channel) matrix by one pattern times one direction: its first singular vectors. Their common
    sign is free; the direction's largest channel counts as positive.

    Parameters
    ----------
    component : ndarray of shape (height, width, channel)

    Returns
    -------
    Pattern
    """
    height, width, n_channels = component.shape
    matrix = np.asarray(component, np.float64).reshape(-1, n_channels)
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    direction = right[0]
    channels = np.argsort(-np.abs(direction), kind="stable")[:3]
    sign = 1.0 if direction[channels[0]] >= 0 else -1.0
    energy = float((sizes**2).sum())
    return Pattern(
        (sign * sizes[0] * left[:, 0]).reshape(height, width),
        float(sizes[0] ** 2) / energy if energy else 0.0,
        tuple((int(channel), bool(sign * direction[channel] >= 0)) for channel in channels),
    )


def draw_pattern(pattern: Pattern) -> np.ndarray:
    """Draw where a component goes up (red) and down (blue), (height, width, 3) in [0, 1]."""
    return _enlarged(signed_heat(pattern.places[..., None]))


def draw_strength(layout: np.ndarray) -> np.ndarray:
    """Draw how strong a layout, (height, width, channel), is at each place: its norm over the channels, black to yellow."""
    return _enlarged(heat(np.linalg.norm(np.asarray(layout, np.float64), axis=-1, keepdims=True)))


def draw_colors(layouts: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Draw colour layouts, (image, height, width, 3), as blurred pictures of a size, (image, *size, 3) in [0, 1]."""
    return np.stack([np.clip(stretch(layout, size), 0.0, 1.0) for layout in np.asarray(layouts, np.float32)])


def regions_of(regions: Regions, layouts: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Tell which region each pixel of pictures belongs to.

    Parameters
    ----------
    regions : Regions
    layouts : ndarray of shape (image, height, width, channel)
        Pooled maps of the regions' layer.
    size : tuple of int
        (height, width) of the pictures.

    Returns
    -------
    ndarray of shape (image, *size)
        Number of the region with the largest weight; weights are interpolated between the places.
    """
    weights = memberships(regions, layouts)
    return np.stack([stretch(weight, size).argmax(axis=-1) for weight in weights])


def draw_regions(image: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Lay the colours of regions, (height, width), over a picture in grey, a white line between them."""
    grey = luminance(image)[..., np.newaxis]
    palette = np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in REGION_COLORS], np.float32)
    drawn = (1 - _OVERLAY) * grey + _OVERLAY * palette[regions % len(palette)]
    border = np.zeros(regions.shape, bool)
    border[:-1] |= regions[:-1] != regions[1:]
    border[:, :-1] |= regions[:, :-1] != regions[:, 1:]
    drawn[border] = 1.0
    return drawn.astype(np.float32)


def place_labels(regions: np.ndarray) -> list[tuple[int, float, float]]:
    """Find where to write the numbers of the regions on a picture.

    Parameters
    ----------
    regions : ndarray of shape (height, width)

    Returns
    -------
    list of (region, x, y)
        Of those with a connected piece that is large enough; x and y from 0 to 1, at the pixel of the largest piece that is nearest
        to its centre: within it always.
    """
    labels = []
    for region in np.unique(regions):
        pieces, n_pieces = label(regions == region)
        sizes = np.bincount(pieces.ravel(), minlength=n_pieces + 1)[1:]
        if sizes.max() >= _LABELLED_SHARE * regions.size:
            places = np.argwhere(pieces == sizes.argmax() + 1)
            y, x = places[np.square(places - places.mean(axis=0)).sum(axis=1).argmin()]
            labels.append((int(region), (x + 0.5) / regions.shape[1], (y + 0.5) / regions.shape[0]))
    return labels


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """Repeat pixels until the shorter side is long enough."""
    factor = -(-_DRAWN_SIDE // min(picture.shape[:2]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)
