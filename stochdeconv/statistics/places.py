"""Places: what a network shows around each of a grid of points of the image, as a few numbers that can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Principal directions of each layer's channels, and of the neighbourhoods of a place.
_CHANNEL_DIMENSIONS, _DIMENSIONS = 48, 96
# Neighbourhoods that these directions are learned from.
_FITTED_PLACES = 20_000
# Directions are divided by this power of their variance: halfway to whitened, where noise counts as much as what there is to see.
_WHITENING = 0.25
_FLOOR = 1e-12


@dataclass(frozen=True)
class Grid:
    """Where the positions of a layer look in the image.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns.
    step, first : tuple of float
        Pixels from one position to the next, and of the first one, down and across.
    """

    shape: tuple[int, int]
    step: tuple[float, float]
    first: tuple[float, float]

    @classmethod
    def of(cls, shape: tuple[int, int], size: tuple[int, int]) -> Grid:
        """Estimate the grid of a layer from its shape and the image's: positions are taken to lie about the middle of the image.

        Padding that is not the same on both sides moves them by up to half a step from there.
        """
        axes = [_axis(n_positions, n_pixels) for n_positions, n_pixels in zip(shape, size, strict=True)]
        (down, top), (across, left) = axes
        return cls(shape, (down, across), (top, left))

    def centers(self, axis: int) -> np.ndarray:
        """Return the pixels that rows (axis 0) or columns (axis 1) look at."""
        return self.first[axis] + self.step[axis] * np.arange(self.shape[axis])

    def nearest(self, pixels: np.ndarray, axis: int) -> np.ndarray:
        """Return the row or column that looks nearest to pixels; halfway between two, the later one."""
        # Not rint, which goes up here and down there: of points a step apart it would skip every other position.
        positions = np.floor((pixels - self.first[axis]) / self.step[axis] + 0.5)
        return np.clip(positions, 0, self.shape[axis] - 1).astype(np.int64)

    def shares(self, pixels: np.ndarray, axis: int) -> np.ndarray:
        """Return how much each row or column counts where it is interpolated linearly at pixels, (pixel, row or column)."""
        positions = np.clip((pixels - self.first[axis]) / self.step[axis], 0, self.shape[axis] - 1)
        return np.maximum(1 - np.abs(positions[:, None] - np.arange(self.shape[axis])), 0)

    def places(self, down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Return the number of the position that looks nearest to each of some points (row, column), row by row."""
        return self.nearest(down, 0)[:, None] * self.shape[1] + self.nearest(across, 1)


def _axis(n_positions: int, n_pixels: int) -> tuple[float, float]:
    # Convolutions without padding see less of the border: 27 positions of 224 pixels are 8 apart, not 8.3. Strides are powers of two
    # in nearly all networks, but for those that part the image into patches.
    ratio = n_pixels / n_positions
    steps = (2.0 ** round(np.log2(max(ratio, 1.0))), ratio if ratio.is_integer() else 0.0, float(round(ratio)), ratio)
    step = next(step for step in steps if step > 0 and step * (n_positions - 1) < n_pixels)
    return step, (n_pixels - 1 - step * (n_positions - 1)) / 2


@dataclass(frozen=True, eq=False)
class PlaceEncoder:
    """From maps on one grid to keys of its places: what lies around each, along the principal directions of a class.

    Attributes
    ----------
    projections : sequence of (ndarray, ndarray)
        Of each map: mean (channel,) and directions (channel, direction) of what a position shows, scaled to a summed variance of one.
    center, axes : ndarray of shape (value,) and (value, dimension)
        Mean and directions of 3 x 3 neighbourhoods, halfway to whitened.
    """

    projections: Sequence[tuple[np.ndarray, np.ndarray]]
    center: np.ndarray
    axes: np.ndarray

    @classmethod
    def fit(cls, maps: Sequence[np.ndarray]) -> PlaceEncoder:
        """Learn the directions from maps (image, row, column, channel) of several layers on one grid."""
        projections = []
        for values in maps:
            mean, directions, variances = principal_directions(
                values.reshape(-1, values.shape[-1]), _CHANNEL_DIMENSIONS
            )
            projections.append((mean, directions / np.float32(np.sqrt(variances.sum() + _FLOOR))))
        n_images, rows, columns = maps[0].shape[:3]
        # Some places of every image, before their neighbourhoods take nine times the room.
        per_image = max(1, min(rows * columns, -(-_FITTED_PLACES // n_images)))
        rng = np.random.default_rng(0)
        drawn = np.concatenate(
            [
                _neighbourhoods([part[i : i + 1] for part in maps], projections)[0][
                    rng.permutation(rows * columns)[:per_image]
                ]
                for i in range(n_images)
            ]
        )
        center, axes, variances = principal_directions(drawn, _DIMENSIONS)
        return cls(projections, center, (axes * (variances + _FLOOR) ** -_WHITENING).astype(np.float32))

    def __call__(self, maps: Sequence[np.ndarray]) -> np.ndarray:
        """Return the keys, (image, place, dimension), float32."""
        return (_neighbourhoods(maps, self.projections) - self.center) @ self.axes


def principal_directions(values: np.ndarray, n_directions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean (value,), directions (value, direction) and their variances, of samples (sample, value); float32."""
    mean = values.mean(axis=0, dtype=np.float64)
    centered = values - mean  # float64
    variances, directions = np.linalg.eigh(centered.T @ centered / max(len(values) - 1, 1))
    kept = slice(None, -n_directions - 1, -1)
    return (
        mean.astype(np.float32),
        directions[:, kept].astype(np.float32),
        np.maximum(variances[kept], 0.0).astype(np.float32),
    )


def _neighbourhoods(maps: Sequence[np.ndarray], projections: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return what is around each place, (image, place, value), the border repeated."""
    values = np.concatenate(
        [(part - mean) @ directions for part, (mean, directions) in zip(maps, projections, strict=True)], axis=-1
    )
    n_images, rows, columns = values.shape[:3]
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    around = [padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
    return np.concatenate(around, axis=-1).reshape(n_images, rows * columns, -1)
