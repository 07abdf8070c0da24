"""Contexts: at which places a network is looked at, and which of them show the like around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np

from stochdeconv.statistics.measured import LayerMeasurements, Measurements
from stochdeconv.statistics.patches import PATCH
from stochdeconv.statistics.places import Grid, PlaceEncoder
from stochdeconv.statistics.regions import is_fine

# Random directions that a layer's channels are seen along: enough for distances between means, and for places to be told apart by.
_DIRECTIONS, _TELLING_DIRECTIONS = 64, 256
# Images that what places show is learned from, and places that the contexts are.
_FITTED_IMAGES, _FITTED_PLACES = 128, 120_000
#: Contexts that can be asked for: a number of 16 bits holds each, and what goes with what is a table of their square.
MAX_CONTEXTS = 4096
#: Places that a context has at least.
LEAST_PLACES = 40
# Places whose surroundings, nine times the room of what they show, are held at once, and those whose distances to all contexts are.
_PLACES_HELD, _PLACES_AT_ONCE = 50_000, 16_384


def places_of(part: LayerMeasurements) -> tuple[int, int, int]:
    """Return the places of a layer that has any."""
    return cast(tuple[int, int, int], part.layer.places)


def n_kept(part: LayerMeasurements) -> int:
    """Return along how many directions the means of a layer are kept."""
    return min(part.layer.shape[2], _DIRECTIONS)


def looked_at(shapes: Sequence[tuple[int, int, int]], size: tuple[int, int]) -> list[tuple[int, int, int] | None]:
    """Choose the places of the local Gaussians, and along how many directions each layer is looked at there.

    The places are the positions of the deepest layer that is fine enough, but no finer than patches; they are told apart by
    the layers that `telling_layers` says. Layers with fewer are looked at where they have any.

    Parameters
    ----------
    shapes : sequence of (height, width, channel)
        Of the layers, the shallowest first.
    size : tuple of int
        (height, width) of the image.

    Returns
    -------
    list of (row, column, direction) or None, for each layer
        None for a layer without positions; for all where no layer is fine enough.
    """
    fine = [shape for shape in shapes if min(shape[:2]) > 1 and is_fine(shape, size)]
    if not fine or min(size) < PATCH:
        return [None] * len(shapes)
    grid = tuple(min(positions, side // PATCH) for positions, side in zip(fine[-1][:2], size, strict=True))
    telling = telling_layers([shape[:2] for shape in shapes], grid)
    return [
        None
        if shape[:2] == (1, 1)
        else (
            min(grid[0], shape[0]),
            min(grid[1], shape[1]),
            min(shape[2], _TELLING_DIRECTIONS if number in telling else _DIRECTIONS),
        )
        for number, shape in enumerate(shapes)
    ]


def telling_layers(shapes: Sequence[tuple[int, ...]], grid: tuple[int, ...]) -> list[int]:
    """Say which layers tell places apart: the first and the last on their grid, else the last that is finer; and one that looks wider."""
    there = [number for number, shape in enumerate(shapes) if shape == grid]
    finer = [number for number, (rows, columns) in enumerate(shapes) if rows >= grid[0] and columns >= grid[1]]
    # Of an odd number of positions, pooling leaves less than half. A layer without positions tells no places apart.
    wider = [
        number
        for number, shape in enumerate(shapes)
        if min(shape) > 1 and all(2 * n + 1 >= m for n, m in zip(shape, grid, strict=True))
    ]
    return sorted({*(there or finer[-1:])[:1], *(there or finer)[-1:], wider[-1]})


def random_directions(n_channels: int, n_directions: int) -> np.ndarray:
    """Return orthonormal directions (channel, direction), float32: the same for every layer of so many channels, fewer the first of more.

    Distances along random directions are those of the whole, but for a factor and some per cent (Johnson and Lindenstrauss 1984).
    """
    drawn = np.random.default_rng(n_channels).standard_normal((min(n_directions, n_channels), n_channels))
    return np.linalg.qr(drawn.T)[0].astype(np.float32)


def blocks_of(rows: np.ndarray, n_places: int) -> Iterator[slice]:
    """Part rows into blocks whose places are held at once."""
    n = max(1, _PLACES_HELD // n_places)
    for start in range(0, len(rows), n):
        yield slice(start, min(start + n, len(rows)))


def _place_maps(part: LayerMeasurements, rows: np.ndarray) -> np.ndarray:
    """Read what a layer shows at the places of some images, (image, row, column, direction)."""
    reader = part.maps("places", "places_exponent")
    return reader.read(rows, slice(0, reader.n_values)).reshape(len(rows), *places_of(part))


def on_grid(part: LayerMeasurements, rows: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Read what a layer shows about each place of a grid, (image, row, column, direction); of fewer positions, each at several places."""
    maps = _place_maps(part, rows)
    coarse, fine = (Grid.of(shape, part.layer.image_size) for shape in (places_of(part)[:2], (grid[0], grid[1])))
    down, across = (coarse.nearest(fine.centers(axis), axis) for axis in (0, 1))
    return maps[:, down][:, :, across]


def find_contexts(
    layers: Sequence[LayerMeasurements], measured: Measurements, fitted: np.ndarray, grid: tuple[int, ...]
) -> np.ndarray:
    """Cluster the places of some of the rows, and tell the context of each place of all, (row, place), uint16."""
    from sklearn.cluster import MiniBatchKMeans  # slow to import: only where statistics are made

    learned = fitted[np.unique(np.linspace(0, len(fitted) - 1, _FITTED_IMAGES).astype(int))]
    encode = PlaceEncoder.fit([on_grid(part, measured.rows[learned], grid) for part in layers])

    def keys(rows: np.ndarray) -> np.ndarray:
        return encode([on_grid(part, measured.rows[rows], grid) for part in layers])

    n_places = grid[0] * grid[1]
    n_contexts = min(measured.settings["n_contexts"], max(1, len(fitted) * n_places // (2 * LEAST_PLACES)))
    rng = np.random.default_rng(0)
    per_image = min(n_places, -(-_FITTED_PLACES // len(fitted)))
    sample = []
    for block in blocks_of(fitted, n_places):
        for of_image in keys(fitted[block]):
            sample.append(of_image[rng.permutation(n_places)[:per_image]])
    points = np.concatenate(sample)
    clusters = MiniBatchKMeans(
        min(n_contexts, len(points)), batch_size=8192, n_init=1, max_iter=20, reassignment_ratio=0, random_state=0
    )
    centroids = clusters.fit(points).cluster_centers_.astype(np.float32)
    # Contexts that hardly any place is of say nothing.
    own = np.concatenate([_nearest(keys(fitted[block]), centroids) for block in blocks_of(fitted, n_places)])
    centroids = centroids[np.bincount(own.ravel(), minlength=len(centroids)) >= min(LEAST_PLACES, own.size)]
    rows = np.arange(len(measured.rows))
    return np.concatenate([_nearest(keys(rows[block]), centroids) for block in blocks_of(rows, n_places)])


def _nearest(keys: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    flat, squares = keys.reshape(-1, keys.shape[-1]), (centroids**2).sum(axis=1)
    parts = [
        (squares - 2.0 * flat[start : start + _PLACES_AT_ONCE] @ centroids.T).argmin(axis=1)
        for start in range(0, len(flat), _PLACES_AT_ONCE)
    ]
    return np.concatenate(parts).astype(np.uint16).reshape(keys.shape[:2])
