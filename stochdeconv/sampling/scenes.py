"""Scenes: what is where in an image, put together from several rows of the statistics so that neighbours go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from stochdeconv.errors import InputError
from stochdeconv.sampling.samplers import bootstrap_rows
from stochdeconv.sampling.targets import LayerTarget, Rows, Targets
from stochdeconv.settings import check_count
from stochdeconv.statistics.layout import layout_maps
from stochdeconv.statistics.local_gaussians import LEAST_IMAGES
from stochdeconv.statistics.patches import PATCH
from stochdeconv.statistics.places import Grid
from stochdeconv.statistics.regions import COARSEST_PLACES
from stochdeconv.threads import one_blas_thread, side_by_side

if TYPE_CHECKING:
    from stochdeconv.statistics.class_statistics import ClassStatistics, LayerStatistics

# Rows that a scene is put together from: one, and some drawn among those that are most like it.
_N_ROWS, _N_ALIKE = 4, 24
# Widths of the parts that a row likes to have, of the side; how much that counts, and how much more the first row likes to be anywhere.
_PART, _LIKING, _FIRST = 0.2, 2.0, 1.0
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
def sample_scenes(statistics: ClassStatistics, *, n_images: int = 8, seed: int = 0, first_index: int = 0) -> Targets:
    """Sample targets of images whose places are those of several rows.

    A scene begins as one row's, that of the sampler ``bootstrap``, and goes over into rows that are like it, at borders where the contexts
    on both sides go together: a Markov random field whose pair potentials are how often contexts lie so far from each other, annealed
    (Geman & Geman 1984). What is asked of whole layers goes along: layouts are those of the scene, the rest is the rows' mean by their
    parts.

    Parameters
    ----------
    statistics : ClassStatistics
        With local Gaussians.
    n_images : int
    seed, first_index : int
        Scene i depends on (seed, first_index + i) alone.

    Returns
    -------
    Targets
        With one more field: ``scenes`` (image, place), int32: the row that each place is from.

    Raises
    ------
    InputError
        There are no local Gaussians, or fewer than two rows.
    """
    check_local(statistics)
    check_count("n_images", n_images)
    check_count("seed", seed, at_least=0)
    check_count("first_index", first_index, at_least=0)
    rows = Rows.of(statistics)
    first_rows = bootstrap_rows(statistics.n_rows, seed, first_index + np.arange(n_images))
    neighbours = Neighbours.of(statistics)

    def draw(number: int) -> np.ndarray:
        rng = np.random.default_rng([seed, first_index + number, _STREAM])
        return neighbours.scene(int(first_rows[number]), rng)

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


def scene_contexts(statistics: ClassStatistics, targets: Targets) -> np.ndarray:
    """Return the context of each place of scenes, (image, place)."""
    return statistics.contexts[targets.scenes, np.arange(targets.scenes.shape[1])]


def largest_parts(scenes: np.ndarray) -> np.ndarray:
    """Return the part of the places of scenes (image, place) that are of one row, the most frequent: (image,)."""
    return np.array([np.bincount(scene).max() / len(scene) for scene in scenes])


def scene_map(statistics: ClassStatistics, layer: LayerStatistics, scene: np.ndarray) -> np.ndarray:
    """Put the pooled map of a layer together as a scene (place,) is: (height, width, channel), float32."""
    size, shape = statistics.input_size, layer.layout_shape[:2]
    places = statistics.local.grid_in(size)
    # Cells part the image among them, whatever lies between the positions they are means of. One that is larger than a place is looked at
    # in parts, each from its own place; in twice as many as there are places, or all of one place's would lie halfway to the next.
    steps = size[0] / shape[0], size[1] / shape[1]
    cells = Grid(shape, steps, (steps[0] / 2 - 0.5, steps[1] / 2 - 0.5))
    n_parts = [2 * -(-n // n_cells) for n, n_cells in zip(places.shape, shape, strict=True)]
    parts = [((np.arange(n) + 0.5) / n - 0.5) * step for n, step in zip(n_parts, steps, strict=True)]
    here = places.places(*((cells.centers(axis)[:, None] + parts[axis]).ravel() for axis in (0, 1)))
    own, which = np.unique(scene[here], return_inverse=True)
    down, across = (np.repeat(np.arange(n_cells), n) for n_cells, n in zip(shape, n_parts, strict=True))
    values = layout_maps(layer, layer.scores[own])[which.reshape(here.shape), down[:, None], across]
    return values.reshape(shape[0], n_parts[0], shape[1], n_parts[1], -1).mean(axis=(1, 3))


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Which contexts go with which, and rows that are like others.

    Attributes
    ----------
    contexts : ndarray of shape (row, down, across), int
    affinities : sequence of tuple (axis, apart, affinity)
        ``affinity[a, b]``: pointwise mutual information, log of how often context b lies so many places below (axis 0), or beside (1),
        context a over what chance would give.
    rarity : ndarray of shape (context,)
        Self-information, how much it tells that two places have this context: its negative log frequency.
    """

    contexts: np.ndarray
    affinities: Sequence[tuple[int, int, np.ndarray]]
    rarity: np.ndarray

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
        return cls(contexts, affinities, -np.log(np.maximum(frequency, 1.0 / contexts.size)).astype(np.float32))

    def scene(self, row: int, rng: np.random.Generator) -> np.ndarray:
        """Draw a scene that begins as a row's: (place,), int32, see `sample_scenes`."""
        rows = np.append(row, self._alike(row, rng))
        return rows[self._put_together(self.contexts[rows], rng)].ravel().astype(np.int32)

    def _alike(self, row: int, rng: np.random.Generator) -> np.ndarray:
        """Draw some of the rows that have most contexts where a row has them, rare ones counting most."""
        own = self.contexts[row]
        likeness = (self.contexts == own).reshape(len(self.contexts), -1) @ self.rarity[own].ravel()
        likeness[row] = -np.inf
        # Rows that are equally alike, in an order of their own.
        nearest = np.lexsort((rng.random(len(likeness)), -likeness))[: min(_N_ALIKE, len(likeness) - 1)]
        return rng.choice(nearest, min(_N_ROWS - 1, len(nearest)), replace=False)

    def _put_together(self, contexts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Choose for each place one of some rows (row, down, across): (down, across)."""
        shape = contexts.shape[1:]
        liking = np.stack([gaussian_filter(rng.standard_normal(shape), _PART * min(shape)) for _ in contexts])
        liking *= _LIKING / (liking.std() or 1.0)
        liking[0] += _FIRST * _LIKING
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
