"""Places of photographs: what a network shows around each of them, and where in other photographs it shows the like."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import InputError

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.statistics.class_statistics import ClassStatistics

# Principal directions of each layer's channels, and of the neighbourhoods of a place.
_CHANNEL_DIMENSIONS, _DIMENSIONS = 48, 96
# Exemplars and neighbourhoods that these directions are learned from.
_FITTED_EXEMPLARS, _FITTED_PLACES = 128, 20_000
# Directions are divided by this power of their variance: halfway to whitened, where noise counts as much as what there is to see.
_WHITENING = 0.25
# Places a photograph may have among the candidates of one place.
_PER_PHOTOGRAPH = 2
# Photographs that go through the network at once, and places whose distances to all others are held at once.
_BATCH, _PLACES_AT_ONCE = 32, 27
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
        """Work out the grid of a layer from its shape and the image's: positions lie about the middle of the image."""
        axes = [_axis(n_positions, n_pixels) for n_positions, n_pixels in zip(shape, size, strict=True)]
        (down, top), (across, left) = axes
        return cls(shape, (down, across), (top, left))

    def centers(self, axis: int) -> np.ndarray:
        """Return the pixels that rows (axis 0) or columns (axis 1) look at."""
        return self.first[axis] + self.step[axis] * np.arange(self.shape[axis])

    def nearest(self, pixels: np.ndarray, axis: int) -> np.ndarray:
        """Return the row or column that looks nearest to pixels."""
        positions = np.rint((pixels - self.first[axis]) / self.step[axis])
        return np.clip(positions, 0, self.shape[axis] - 1).astype(np.int64)


def _axis(n_positions: int, n_pixels: int) -> tuple[float, float]:
    # Convolutions without padding see less of the border: 27 positions of 224 pixels are 8 apart, not 8.3. Strides are powers of two,
    # but for networks that part the image into patches.
    ratio = n_pixels / n_positions
    step = ratio if ratio.is_integer() else 2.0 ** round(np.log2(ratio))
    return step, (n_pixels - 1 - step * (n_positions - 1)) / 2


@dataclass(frozen=True, eq=False)
class Candidates:
    """Places of photographs that look like each place of an image, the likest first.

    Attributes
    ----------
    photographs, places : ndarray of shape (place, candidate), int64
        Which exemplar, and which of its places.
    distances : ndarray of shape (place, candidate), float32
        Squared.
    """

    photographs: np.ndarray
    places: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True, eq=False)
class Contexts:
    """What a network shows around each place of the exemplars, as a few numbers that can be compared.

    Attributes
    ----------
    grid : Grid
        The places: positions of the layers they are told apart by.
    keys : ndarray of shape (exemplar, place, dimension), float32
        Of each place: principal components of the 3 x 3 neighbourhood in these layers, halfway whitened.
    """

    grid: Grid
    keys: np.ndarray

    @classmethod
    def of(cls, model: ImageModel, statistics: ClassStatistics) -> Contexts:
        """Look at all exemplars.

        Parameters
        ----------
        model : ImageModel
            The network the statistics were collected with.
        statistics : ClassStatistics
            With exemplars.

        Returns
        -------
        Contexts

        Raises
        ------
        InputError
            The statistics have no layer that is fine and deep enough to tell places apart.
        """
        layers = context_layers(statistics)
        pixels = statistics.exemplars.pixels
        fitted = np.unique(np.linspace(0, len(pixels) - 1, _FITTED_EXEMPLARS).astype(int))
        encode = _fit(model, layers, pixels[fitted])
        keys = np.concatenate([encode(pixels[i : i + _BATCH]) for i in range(0, len(pixels), _BATCH)])
        shape = statistics[layers[0]].shape[:2]
        return cls(Grid.of(shape, statistics.input_size), keys)

    def candidates(self, keys: np.ndarray, n_candidates: int, *, left_out: Collection[int] = ()) -> Candidates:
        """Find the places of the exemplars that are most like given ones.

        Parameters
        ----------
        keys : ndarray of shape (place, dimension)
        n_candidates : int
            At most; no more than two places of one photograph are.
        left_out : collection of int
            Exemplars none of whose places may be drawn.

        Returns
        -------
        Candidates
        """
        photographs = np.setdiff1d(np.arange(len(self.keys)), list(left_out))
        n_photographs, n_places = len(photographs), self.keys.shape[1]
        flat = self.keys[photographs].reshape(-1, self.keys.shape[-1])
        squares = np.einsum("pd,pd->p", flat, flat)
        per_photograph = min(_PER_PHOTOGRAPH, n_places)
        n_candidates = min(n_candidates, n_photographs * per_photograph)
        parts = []
        for start in range(0, len(keys), _PLACES_AT_ONCE):
            own = keys[start : start + _PLACES_AT_ONCE]
            distances = (squares - 2.0 * (own @ flat.T)).reshape(len(own), n_photographs, n_places)
            places = np.argpartition(distances, per_photograph - 1, axis=2)[:, :, :per_photograph]
            best = np.take_along_axis(distances, places, axis=2).reshape(len(own), -1)
            chosen = np.argsort(best, axis=1, kind="stable")[:, :n_candidates]
            parts.append(
                (
                    photographs[chosen // per_photograph],
                    np.take_along_axis(places.reshape(len(own), -1), chosen, axis=1),
                    np.take_along_axis(best, chosen, axis=1) + np.einsum("pd,pd->p", own, own)[:, None],
                )
            )
        which, where, distances = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Candidates(which, where, np.maximum(distances, 0.0))


def context_layers(statistics: ClassStatistics) -> list[str]:
    """Choose the layers that tell places apart: the first and the last on the grid of the regions' own.

    Parameters
    ----------
    statistics : ClassStatistics

    Returns
    -------
    list of str

    Raises
    ------
    InputError
        There is none.
    """
    if statistics.facets is None:
        raise InputError(
            "places of photographs are told apart by a deep layer with at least one position for 8 pixels of the image, and the statistics "
            f"hold none ({', '.join(statistics)}): collect with such a layer, or choose another sampler"
        )
    grid = statistics[statistics.facets.layer].shape[:2]
    there = [name for name in statistics.map_layers if statistics[name].shape[:2] == grid]
    return list(dict.fromkeys([there[0], there[-1]]))


def as_pictures(pixels: np.ndarray) -> np.ndarray:
    """Turn eight bits into float32 in [0, 1]."""
    return pixels.astype(np.float32) / np.float32(255.0) if pixels.dtype == np.uint8 else pixels


def _fit(model: ImageModel, layers: Sequence[str], pixels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Learn the principal directions of neighbourhoods; a function from pictures to keys."""

    def activations(pictures: np.ndarray) -> list[np.ndarray]:
        held = model.activations(as_pictures(pictures), layers, batch_size=_BATCH)
        return [held[layer] for layer in layers]

    maps = activations(pixels)
    projections = []
    for values in maps:
        places = values.reshape(-1, values.shape[-1])
        mean, directions, variances = _principal_directions(places, _CHANNEL_DIMENSIONS)
        # Layers count alike: each has a summed variance of one.
        projections.append((mean, directions / np.float32(np.sqrt(variances.sum() + _FLOOR))))
    around = _neighbourhoods(maps, projections).reshape(-1, 9 * sum(part.shape[1] for _, part in projections))
    drawn = np.random.default_rng(0).permutation(len(around))[:_FITTED_PLACES]
    center, axes, variances = _principal_directions(around[drawn], _DIMENSIONS)
    axes = (axes * (variances + _FLOOR) ** -_WHITENING).astype(np.float32)

    def encode(pictures: np.ndarray) -> np.ndarray:
        around = _neighbourhoods(activations(pictures), projections)
        return ((around - center) @ axes).reshape(len(pictures), -1, axes.shape[1])

    return encode


def _principal_directions(values: np.ndarray, n_directions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean (value,), directions (value, direction) and their variances, of samples (sample, value); float32."""
    mean = values.mean(axis=0, dtype=np.float64)
    centered = (values - mean).astype(np.float64)
    variances, directions = np.linalg.eigh(centered.T @ centered / max(len(values) - 1, 1))
    kept = slice(None, -n_directions - 1, -1)
    return (
        mean.astype(np.float32),
        directions[:, kept].astype(np.float32),
        np.maximum(variances[kept], 0.0).astype(np.float32),
    )


def _neighbourhoods(maps: Sequence[np.ndarray], projections: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return what is around each place, (image, row, column, value), the border repeated."""
    values = np.concatenate(
        [(part - mean) @ directions for part, (mean, directions) in zip(maps, projections, strict=True)], axis=-1
    )
    rows, columns = values.shape[1:3]
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    return np.concatenate([padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)], axis=-1)
