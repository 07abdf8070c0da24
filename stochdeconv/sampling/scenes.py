"""Scenes: what is where in an image, put together from several rows of the statistics so that neighbours go together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from stochdeconv.errors import InputError
from stochdeconv.sampling.samplers import OF_SCENES, sample_deviations
from stochdeconv.sampling.targets import LayerTarget, Targets
from stochdeconv.statistics.layout import layout_maps
from stochdeconv.statistics.local_gaussians import LEAST_IMAGES
from stochdeconv.statistics.patches import PATCH
from stochdeconv.statistics.places import Grid
from stochdeconv.statistics.regions import COARSEST_PLACES
from stochdeconv.threads import one_blas_thread, side_by_side

if TYPE_CHECKING:
    from stochdeconv.statistics.class_statistics import ClassStatistics, LayerStatistics

# Rows that a scene is put together from, and how much it counts that their layouts are the sampled one: nats for a squared distance of as
# much as they vary.
_N_ROWS, _LIKENESS = 12, 4.0
# Widths of the parts that a row is drawn to besides, of the side; how much that counts.
_PART, _MOOD = 0.2, 1.0
# Places from one to the other, where what goes with what is looked at: odd, so that every second place can be drawn at once.
_APART = (1, 3, 7)
# Pairs of contexts count as seen so often besides, where chance would have them: one that was seen once says little, and nothing is ruled
# out by never having been. The posterior mean of their ratio under a Gamma prior about one.
_PRIOR_PAIRS = 2.0
# Sweeps over the places, and how hot the first and the last of them are.
_N_SWEEPS, _HOT, _COLD = 40, 2.0, 0.1
# Keeps these draws apart from any other use of (seed, i).
_STREAM = 13


def check_local(statistics: ClassStatistics) -> None:
    """Raise InputError unless the statistics hold local Gaussians."""
    if statistics.local is not None:
        return
    n_images, (height, width) = statistics.n_images, statistics.input_size
    if not statistics.settings.get("n_contexts"):
        cause = "they were collected without contexts (n_contexts=0, or by an older version): collect again with some"
    elif n_images < LEAST_IMAGES:
        cause = f"collect again, at least {LEAST_IMAGES} images, better some hundreds"
    else:
        cause = (
            f"of their layers ({', '.join(statistics.map_layers)}) none has a position for every {COARSEST_PLACES:.0f} pixels of "
            f"{height}x{width}, or there are fewer than {PATCH} pixels: collect again with a shallower layer"
        )
    raise InputError(
        f"the sampler 'local' draws from local Gaussians, and these statistics of {n_images} image{'s' * (n_images != 1)} hold none: "
        f"{cause}; or choose another sampler"
    )


@one_blas_thread()
def sample_scenes(
    statistics: ClassStatistics,
    *,
    sampler: str = OF_SCENES,
    n_images: int = 8,
    temperature: float = 1.0,
    seed: int = 0,
    first_index: int = 0,
    row_weight: float = 0.9,
) -> Targets:
    """Sample targets of images whose places are those of several rows.

    A scene is laid out as a descriptor that is sampled: rows whose layouts are most like it, at every layer, have the places where they
    are most like it, at borders where the contexts on both sides go together: a Markov random field whose pair potentials are how often
    contexts lie so far from each other, annealed (Geman & Geman 1984). The row that a bootstrap starts from is left out. Layouts are then
    those of the scene; everything else that whole layers are asked for is the rows' mean, each counting by its part.

    Parameters
    ----------
    statistics : ClassStatistics
        With local Gaussians.
    sampler, n_images, temperature, seed, first_index, row_weight
        Of the descriptors, see `samplers.sample_targets`. Scene i depends on (seed, first_index + i) alone.

    Returns
    -------
    Targets
        With one more field: ``scenes`` (image, place), int32: the row that each place is from.

    Raises
    ------
    InputError
        There are no local Gaussians, or as in `samplers.sample_targets`.
    """
    check_local(statistics)
    rows, *drawn = sample_deviations(
        statistics,
        sampler=sampler,
        n_images=n_images,
        temperature=temperature,
        seed=seed,
        first_index=first_index,
        row_weight=row_weight,
    )
    sampled = rows.targets(*drawn)
    neighbours = Neighbours.of(statistics)

    def draw(number: int) -> np.ndarray:
        rng = np.random.default_rng([seed, first_index + number, _STREAM])
        alike, likeness = likest_rows(statistics, sampled.take(slice(number, number + 1)))
        return alike[neighbours.put_together(alike, _LIKENESS * likeness, rng)].ravel().astype(np.int32)

    scenes = np.stack(side_by_side(draw, n_images))
    shares = [np.unique(scene, return_counts=True) for scene in scenes]
    mixed = np.stack([counts @ rows.weighted[own] / counts.sum() for own, counts in shares])
    targets = rows.targets(mixed, np.full(n_images, -1))
    layers = {}
    for name, layer in statistics.items():
        deviations = [scene_map(statistics, layer, scene) - layer.layout_mean for scene in scenes]
        scores = np.stack([layer.components @ deviation.ravel() for deviation in deviations])
        layers[name] = LayerTarget(fields={**targets.layers[name].fields, "scores": scores.astype(np.float32)})
    return replace(targets, layers=layers, fields={**targets.fields, "scenes": scenes})


def likest_rows(statistics: ClassStatistics, target: Targets) -> tuple[np.ndarray, np.ndarray]:
    """Find the rows whose layouts are most like a target's, and where they are.

    Parameters
    ----------
    statistics : ClassStatistics
        With local Gaussians.
    target : Targets
        Of one image.

    Returns
    -------
    rows : ndarray of shape (row,), int
        The most alike first.
    likeness : ndarray of shape (row, down, across), float64
        At each place: minus the squared distance of the layouts there, of each layer that varies in units of the rows' variance at a place,
        averaged over these layers.
    """
    variances = {name: np.var(layer.scores, axis=0).sum() for name, layer in statistics.items()}
    varying = {name: variance for name, variance in variances.items() if variance > 0} or dict.fromkeys(variances, 1.0)
    deviations = {name: statistics[name].scores - target.layers[name].scores for name in varying}
    apart = np.mean([(deviations[name] ** 2).sum(axis=1) / variance for name, variance in varying.items()], axis=0)
    (source,) = target.source_rows
    if source >= 0:
        apart[source] = np.inf
    rows = np.argsort(apart, kind="stable")[: min(_N_ROWS, len(apart) - (source >= 0))]
    places = statistics.local.grid_in(statistics.input_size)
    likeness = np.zeros((len(rows), *places.shape))
    for name, variance in varying.items():
        cells = _cells(statistics[name], statistics.input_size)
        maps = (deviations[name][rows] @ statistics[name].components).reshape(len(rows), *cells.shape, -1)
        down, across = (cells.shares(places.centers(axis), axis) for axis in (0, 1))
        likeness -= down @ (maps**2).sum(axis=-1) @ across.T * (math.prod(cells.shape) / variance)
    return rows, likeness / len(varying)


def scene_contexts(statistics: ClassStatistics, targets: Targets) -> np.ndarray:
    """Return the context of each place of scenes, (image, place)."""
    return statistics.contexts[targets.scenes, np.arange(targets.scenes.shape[1])]


def largest_parts(scenes: np.ndarray) -> np.ndarray:
    """Return the part of the places of scenes (image, place) that are of one row, the most frequent: (image,)."""
    return np.array([np.bincount(scene).max() / len(scene) for scene in scenes])


def scene_map(statistics: ClassStatistics, layer: LayerStatistics, scene: np.ndarray) -> np.ndarray:
    """Put the pooled map of a layer together as a scene (place,) is: (height, width, channel), float32."""
    cells, places = _cells(layer, statistics.input_size), statistics.local.grid_in(statistics.input_size)
    shape = cells.shape
    # A cell that is larger than a place is looked at in parts, each from its own place; in twice as many as there are places, or all of one
    # place's would lie halfway to the next.
    n_parts = [2 * -(-n // n_cells) for n, n_cells in zip(places.shape, shape, strict=True)]
    parts = [((np.arange(n) + 0.5) / n - 0.5) * step for n, step in zip(n_parts, cells.step, strict=True)]
    here = places.places(*((cells.centers(axis)[:, None] + parts[axis]).ravel() for axis in (0, 1)))
    own, which = np.unique(scene[here], return_inverse=True)
    down, across = (np.repeat(np.arange(n_cells), n) for n_cells, n in zip(shape, n_parts, strict=True))
    values = layout_maps(layer, layer.scores[own])[which.reshape(here.shape), down[:, None], across]
    return values.reshape(shape[0], n_parts[0], shape[1], n_parts[1], -1).mean(axis=(1, 3))


def _cells(layer: LayerStatistics, size: tuple[int, int]) -> Grid:
    """Return where the cells of a pooled map lie: they part the image among them, whatever lies between the positions they are means of."""
    shape = layer.layout_shape[:2]
    down, across = size[0] / shape[0], size[1] / shape[1]
    return Grid(shape, (down, across), (down / 2 - 0.5, across / 2 - 0.5))


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Which contexts go with which.

    Attributes
    ----------
    contexts : ndarray of shape (row, down, across), int
    affinities : sequence of tuple (axis, apart, affinity)
        ``affinity[a, b]``: pointwise mutual information, log of how often context b lies so many places below (axis 0), or beside (1),
        context a over what chance would give.
    """

    contexts: np.ndarray
    affinities: Sequence[tuple[int, int, np.ndarray]]

    @classmethod
    def of(cls, statistics: ClassStatistics) -> Neighbours:
        """Count what lies beside what in the rows of statistics with local Gaussians."""
        contexts = statistics.contexts.reshape(-1, *statistics.local.grid)
        n = statistics.local.n_contexts
        frequency = np.bincount(contexts.ravel(), minlength=n) / contexts.size
        chance = np.outer(frequency, frequency)
        affinities = []
        for axis in (0, 1):
            for apart in _APART:
                if apart >= contexts.shape[1 + axis]:
                    continue
                first, second = (contexts[(slice(None), *part)] for part in _parts(axis, apart))
                pairs = np.bincount((first.astype(np.intp) * n + second).ravel(), minlength=n * n).reshape(n, n)
                ratio = (pairs + _PRIOR_PAIRS) / (chance * first.size + _PRIOR_PAIRS)
                affinities.append((axis, apart, np.log(ratio).astype(np.float32)))
        return cls(contexts, affinities)

    def put_together(self, rows: np.ndarray, likings: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Choose for each place one of some rows, liked as much as is told (row, down, across): the position of each, (down, across)."""
        contexts, shape = self.contexts[rows], self.contexts.shape[1:]
        moods = np.stack([gaussian_filter(rng.standard_normal(shape), _PART * min(shape)) for _ in contexts])
        liking = likings + moods * (_MOOD / (moods.std() or 1.0))
        pairs = []
        for axis, apart, affinity in self.affinities:
            first, second = _parts(axis, apart)
            fits = affinity[contexts[(slice(None), *first)][:, None], contexts[(slice(None), *second)][None]]
            pairs.append((first, second, fits, np.indices(fits.shape[2:])))
        chosen = liking.argmax(axis=0)
        is_odd = np.indices(shape).sum(axis=0) % 2 == 1
        for heat in np.geomspace(_HOT, _COLD, _N_SWEEPS):
            for drawn in (is_odd, ~is_odd):
                fit = liking.copy()
                for first, second, fits, (down, across) in pairs:
                    fit[(slice(None), *first)] += fits[:, chosen[second], down, across]
                    fit[(slice(None), *second)] += np.moveaxis(fits[chosen[first], :, down, across], -1, 0)
                # The largest of sums with Gumbel noise is a draw by their exponentials.
                chosen = np.where(drawn, (fit / heat + rng.gumbel(size=fit.shape)).argmax(axis=0), chosen)
        return chosen


def _parts(axis: int, apart: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where (down, across) the first, and the second, of all pairs of places so far apart lie."""
    first, second = slice(None, -apart), slice(apart, None)
    rest = slice(None)
    return ((first, rest), (second, rest)) if axis == 0 else ((rest, first), (rest, second))
