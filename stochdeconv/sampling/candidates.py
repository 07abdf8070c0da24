"""Places of photographs: what a network shows around each of them, and where in other photographs it shows the like."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import InputError
from stochdeconv.statistics.patches import as_pictures
from stochdeconv.statistics.places import Grid, PlaceEncoder

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.statistics.class_statistics import ClassStatistics

# Exemplars that the directions of places are learned from.
_FITTED_EXEMPLARS = 128
# Places a photograph may have among the candidates of one place.
_PER_PHOTOGRAPH = 2
# Photographs that go through the network at once, and distances that are held at once.
_BATCH, _DISTANCES_AT_ONCE = 32, 2**23


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

        def maps(some: np.ndarray) -> list[np.ndarray]:
            held = model.activations(as_pictures(some), layers, batch_size=_BATCH)
            return [held[layer] for layer in layers]

        fitted = np.unique(np.linspace(0, len(pixels) - 1, _FITTED_EXEMPLARS).astype(int))
        encode = PlaceEncoder.fit(maps(pixels[fitted]))
        keys = np.concatenate([encode(maps(pixels[i : i + _BATCH])) for i in range(0, len(pixels), _BATCH)])
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
        n_photographs, n_places = self.keys.shape[:2]
        flat = self.keys.reshape(-1, self.keys.shape[-1])
        squares = np.einsum("pd,pd->p", flat, flat)
        squares.reshape(n_photographs, n_places)[list(left_out)] = np.inf
        per_photograph = min(_PER_PHOTOGRAPH, n_places)
        n_candidates = min(n_candidates, (n_photographs - len(set(left_out))) * per_photograph)
        parts = []
        at_once = max(1, _DISTANCES_AT_ONCE // (n_photographs * n_places))
        for start in range(0, len(keys), at_once):
            own = keys[start : start + at_once]
            distances = (squares - 2.0 * (own @ flat.T)).reshape(len(own), n_photographs, n_places)
            places = np.argpartition(distances, per_photograph - 1, axis=2)[:, :, :per_photograph]
            best = np.take_along_axis(distances, places, axis=2).reshape(len(own), -1)
            chosen = np.argsort(best, axis=1, kind="stable")[:, :n_candidates]
            parts.append(
                (
                    chosen // per_photograph,
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
            "places of photographs are told apart by a deep layer with a position for every 9 pixels of the image, and the statistics "
            f"hold none ({', '.join(statistics)}): collect with such a layer, or choose another sampler"
        )
    grid = statistics[statistics.facets.layer].shape[:2]
    there = [name for name in statistics.map_layers if statistics[name].shape[:2] == grid]
    return list(dict.fromkeys([there[0], there[-1]]))
