"""Patches of pictures, at several resolutions."""

from __future__ import annotations

import numpy as np

#: Pixels of a patch's side, at every level.
PATCH = 8
#: Levels at most, each half the resolution of the one before.
N_LEVELS = 4
# The coarsest level is at least this many pixels high and wide.
_COARSEST = 24


def level_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the sizes (height, width) of a picture's levels, the finest first."""
    sizes = [size]
    while len(sizes) < N_LEVELS and min(size) // 2 ** len(sizes) >= _COARSEST:
        sizes.append((size[0] // 2 ** len(sizes), size[1] // 2 ** len(sizes)))
    return sizes


def pyramid(pixels: np.ndarray) -> list[np.ndarray]:
    """Shrink pictures (picture, height, width, channel), uint8, by twos, the finest first."""
    levels = [pixels]
    for size in level_sizes(pixels.shape[1:3])[1:]:
        levels.append(_halved(levels[-1], size))
    return levels


def _halved(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Average blocks of two by two pixels; a last odd row or column is left out."""
    rows, columns = size
    blocks = pixels[:, : 2 * rows, : 2 * columns].reshape(len(pixels), rows, 2, columns, 2, -1)
    return ((blocks.sum(axis=(2, 4), dtype=np.uint16) + 2) // 4).astype(np.uint8)


def as_pictures(pixels: np.ndarray) -> np.ndarray:
    """Turn eight bits into float32 in [0, 1]."""
    return pixels.astype(np.float32) / np.float32(255.0) if pixels.dtype == np.uint8 else pixels


def patch_starts(n_pixels: int, stride: int, first: int = 0) -> np.ndarray:
    """Return the first row, or column, of patches that lie a stride apart from `first` on, and of those at the two borders."""
    last = n_pixels - PATCH
    return np.unique(np.concatenate([[0], np.arange(first, last + 1, stride), [last]]))


def starts_about(pixels: np.ndarray, level: int) -> np.ndarray:
    """Return the first row, or column, of a level's patches about pixels of the picture, which may reach over its border."""
    middles = (pixels + 0.5) / 2.0**level - 0.5
    return np.ceil(middles - PATCH / 2).astype(np.int64)


def inside(starts: np.ndarray, n_pixels: int) -> np.ndarray:
    """Move patches that reach over the border inside."""
    return np.clip(starts, 0, n_pixels - PATCH)


def middles_of(starts: np.ndarray, level: int) -> np.ndarray:
    """Return the pixels of the picture that patches of a level lie about, by their first rows, or columns."""
    return (starts + PATCH / 2) * 2.0**level - 0.5


def patches(pictures: np.ndarray, top: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Cut patches out of pictures (..., height, width, channel), from each of some rows and columns on: (..., row, column, value)."""
    windows = np.lib.stride_tricks.sliding_window_view(pictures, (PATCH, PATCH), axis=(-3, -2))
    # One look-up: of rows first, then columns, all columns of all those rows would be copied on the way.
    cut = windows[..., np.asarray(top)[:, None], left, :, :, :]
    return np.moveaxis(cut, -3, -1).reshape(*cut.shape[:-3], -1)
