"""Sample what an image of the class should activate: a complete target for every layer, down to the colours of the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from stochdeconv.distributions import LOG_STD_EPSILON
from stochdeconv.errors import InputError, closest
from stochdeconv.gaussians import Link, PrincipalGaussian
from stochdeconv.statistics import ClassStatistics, LayerStatistics

SAMPLERS = ("chain", "joint", "bootstrap", "independent")

# Weight of the layout scores against the channel means and log deviations, each of them scaled to a summed variance of one:
# the layout carries where the object is (the prototype's weight).
SCORE_WEIGHT = 3.0
# Weight of the facets' means, in the same units.
FACET_WEIGHT = 2.0
# Keeps these streams apart from others that are seeded with the same (seed, index).
_STREAM = 0x5A3D

Deviation = Callable[[int], tuple[np.ndarray, int]]


@dataclass(frozen=True, eq=False)
class LayerTarget:
    """What images should activate in one layer.

    Attributes
    ----------
    mean, std : ndarray of shape (image, channel), float32
        Spatial mean and standard deviation of each channel within the image.
    scores : ndarray of shape (image, component), float32
        Layout: scores of the pooled map along the layer's components.
    facet_means : ndarray of shape (image, facet, channel), float32, or None
        Means over each kind of place; None where the layer has none.
    """

    mean: np.ndarray
    std: np.ndarray
    scores: np.ndarray
    facet_means: np.ndarray | None = None

    def take(self, images: slice | np.ndarray) -> LayerTarget:
        """Target of some of the images."""
        return LayerTarget(*(None if part is None else part[images] for part in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Targets:
    """Complete targets of several images.

    Attributes
    ----------
    layers : mapping of str to LayerTarget
        From the image (``"input"``: its colours and their layout) to the deepest layer.
    logit : ndarray of shape (image,), float32, or None
        Class logit; None where the statistics carry no class.
    log_gradient_mean, log_gradient_std : ndarray of shape (image,), float32
        Mean and standard deviation of the log gradient magnitude: the sharpness of edges.
    source_rows : ndarray of shape (image,), int64
        Row of the statistics a bootstrap sample started from, -1 where there is no single one.
    """

    layers: Mapping[str, LayerTarget]
    logit: np.ndarray | None
    log_gradient_mean: np.ndarray
    log_gradient_std: np.ndarray
    source_rows: np.ndarray

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.source_rows)

    def take(self, images: slice | np.ndarray) -> Targets:
        """Targets of some of the images, for a batch: a slice or an array of positions."""
        layers = {name: layer.take(images) for name, layer in self.layers.items()}
        return Targets(
            layers,
            None if self.logit is None else self.logit[images],
            self.log_gradient_mean[images],
            self.log_gradient_std[images],
            self.source_rows[images],
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for ``numpy.savez``: ``LAYER/mean``, ``/std``, ``/scores``, ``/facet_means`` and the fields beside them."""
        arrays = {
            f"{name}/{kind}": getattr(layer, kind)
            for name, layer in self.layers.items()
            for kind in ("mean", "std", "scores", "facet_means")
            if getattr(layer, kind) is not None
        }
        if self.logit is not None:
            arrays["logit"] = self.logit
        for kind in ("log_gradient_mean", "log_gradient_std", "source_rows"):
            arrays[kind] = getattr(self, kind)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Targets:
        """Targets again from what ``to_arrays`` gave, an opened ``targets.npz`` included."""
        # A layer's name may hold slashes of its own, so the last one parts it from the kind.
        names = [key.rpartition("/")[0] for key in arrays if key.endswith("/mean")]
        layers = {
            name: LayerTarget(
                arrays[f"{name}/mean"],
                arrays[f"{name}/std"],
                arrays[f"{name}/scores"],
                arrays.get(f"{name}/facet_means", None),
            )
            for name in names
        }
        return cls(
            layers,
            arrays.get("logit"),
            arrays["log_gradient_mean"],
            arrays["log_gradient_std"],
            arrays["source_rows"],
        )


def sample_targets(
    statistics: ClassStatistics,
    *,
    sampler: str = "bootstrap",
    n_images: int = 8,
    temperature: float = 1.0,
    seed: int = 0,
    first_index: int = 0,
    row_weight: float = 0.9,
) -> Targets:
    """Sample targets of images of the class.

    Every layer is described by its channel means, log deviations, layout scores and the means over its facets; each of the four
    is centred and divided by the root of its summed variance, the scores weighted by 3, the facets by 2. The number of principal
    components comes from the rows: enough for 95 % of the variance, at most one for four rows and at most 120; what they leave out
    is drawn from the residuals of the rows, so the covariance within a layer is that of the rows whichever sampler is used (within
    the whole image for ``joint`` and ``bootstrap``). A draw further out in the components than 95 % of the real rows is pulled back.

    Parameters
    ----------
    statistics : ClassStatistics
        Statistics of at least two images.
    sampler : {"chain", "joint", "bootstrap", "independent"}
        ``chain``: the class logit from its own distribution, the deepest layer given the logit, each layer given the one above
        it, last the image and its edges; what the layer above leaves open is ``row_weight`` times the residual of one of the ten
        real images that look most alike there, drawn anew at every layer, and Gaussian for the rest. ``joint``: one Gaussian over
        everything. ``bootstrap``: the mean of the class plus ``row_weight`` times the deviation of one real image plus
        ``sqrt(1 - row_weight**2)`` times that of a joint draw; no image is used twice before all were. ``independent``: each
        layer alone, for comparison: its targets contradict each other.
    n_images : int
        How many.
    temperature : float
        Multiplies the deviations from the mean of the class, 0 or more.
    seed : int
        0 or more. The target of image i depends on ``(seed, i)`` alone, not on how many are drawn.
    first_index : int
        Index i of the first image, to draw the images of a run piece by piece.
    row_weight : float
        How much of a real image a bootstrap or chain sample keeps, 0 to 1; 0 makes them Gaussian throughout.

    Returns
    -------
    Targets
        For every layer of the statistics.

    Raises
    ------
    InputError
        For an unknown sampler, a value out of its range, or fewer than two images.
    """
    _check(statistics, sampler, n_images, temperature, seed, first_index, row_weight)
    rows = _Rows.of(statistics)
    if sampler == "chain":
        deviation = _chain(rows, seed, row_weight)
    elif sampler == "independent":
        deviation = _independent(rows, seed)
    else:
        deviation = _joint(rows, seed, row_weight if sampler == "bootstrap" else 0.0)
    drawn = [deviation(index) for index in range(first_index, first_index + n_images)]
    values = rows.center + temperature * np.stack([values for values, _ in drawn]) * rows.scale
    return rows.targets(values, np.array([source for _, source in drawn], dtype=np.int64))


@dataclass(frozen=True, eq=False)
class _Rows:
    """The aligned rows of all layers as one matrix, centred and weighted.

    `parts` are the columns of what is sampled together, from the head of the chain to its end: the deepest layer first, the image
    and its edges last. `logit` is the column of the class logit, or None.
    """

    weighted: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    layers: Mapping[str, tuple[slice, slice, slice, slice]]
    edges: slice
    logit: slice | None

    @classmethod
    def of(cls, statistics: ClassStatistics) -> _Rows:
        blocks: list[np.ndarray] = []
        weights: list[float] = []

        def add(block: np.ndarray, weight: float = 1.0) -> slice:
            start = sum(part.shape[1] for part in blocks)
            blocks.append(np.asarray(block, dtype=np.float64))
            weights.append(weight)
            return slice(start, start + block.shape[1])

        layers = {
            name: (
                add(layer.means),
                add(layer.log_stds),
                add(layer.scores, SCORE_WEIGHT),
                add(_flat_facets(layer), FACET_WEIGHT),
            )
            for name, layer in statistics.items()
        }
        edges = add(np.stack([statistics.log_gradient_mean, statistics.log_gradient_std], axis=1))
        logit = None if statistics.logits is None else add(np.asarray(statistics.logits)[:, None])
        scales = []
        for block, weight in zip(blocks, weights, strict=True):
            spread = np.sqrt(np.var(block, axis=0, ddof=1).sum())
            scales.append(np.full(block.shape[1], spread / weight if spread > 0 else 1.0))
        values, scale = np.concatenate(blocks, axis=1), np.concatenate(scales)
        center = values.mean(axis=0)
        return cls((values - center) / scale, center, scale, layers, edges, logit)

    @property
    def parts(self) -> list[slice]:
        whole = [slice(parts[0].start, parts[-1].stop) for parts in self.layers.values()]
        return [*reversed(whole), self.edges]

    def targets(self, values: np.ndarray, source_rows: np.ndarray) -> Targets:
        values = values.astype(np.float32)
        layers = {
            name: LayerTarget(
                values[:, means],
                np.maximum(np.exp(values[:, log_stds]) - LOG_STD_EPSILON, 0.0),
                values[:, scores],
                values[:, facets].reshape(len(values), -1, means.stop - means.start)
                if facets.stop > facets.start
                else None,
            )
            for name, (means, log_stds, scores, facets) in self.layers.items()
        }
        edges = values[:, self.edges]
        logit = None if self.logit is None else values[:, self.logit.start]
        return Targets(layers, logit, edges[:, 0], edges[:, 1], source_rows)

    def draw_logit(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a logit of the class's own distribution, skewed as it is and never outside of it; empty without a class."""
        if self.logit is None:
            return np.zeros(0)
        return np.quantile(self.weighted[:, self.logit], rng.random(), axis=0)


def _flat_facets(layer: LayerStatistics) -> np.ndarray:
    means = layer.facet_means
    return np.zeros((len(layer.means), 0)) if means is None else means.reshape(len(means), -1)


def _stream(seed: int, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, index, _STREAM])


def _joint(rows: _Rows, seed: int, row_weight: float) -> Deviation:
    gaussian = PrincipalGaussian.fit(rows.weighted)
    n_rows = len(rows.weighted)
    order = np.random.default_rng([seed, _STREAM]).permutation(n_rows)

    def deviation(index: int) -> tuple[np.ndarray, int]:
        rng = _stream(seed, index)
        scores, rest, source = gaussian.draw(rng), gaussian.draw_residual(rng), -1
        if row_weight > 0:
            source = int(order[index % n_rows])
            smooth = np.sqrt(1.0 - row_weight**2)
            scores = row_weight * gaussian.project(rows.weighted[source]) + smooth * scores
            rest = row_weight * gaussian.residuals[source] + smooth * rest
        return gaussian.expand(gaussian.clip(scores)) + rest, source

    return deviation


def _chain(rows: _Rows, seed: int, row_weight: float) -> Deviation:
    gaussians = [PrincipalGaussian.fit(rows.weighted[:, part]) for part in rows.parts]
    # Without a class the first part stands under nothing: a link to no columns is its own marginal distribution.
    above = rows.weighted[:, rows.logit] if rows.logit is not None else rows.weighted[:, :0]
    links = []
    for gaussian, part in zip(gaussians, rows.parts, strict=True):
        scores = gaussian.project(rows.weighted[:, part])
        links.append(Link.fit(scores, above))
        above = scores
    smooth = np.sqrt(1.0 - row_weight**2)

    def deviation(index: int) -> tuple[np.ndarray, int]:
        rng = _stream(seed, index)
        values = np.zeros(rows.weighted.shape[1])
        scores = rows.draw_logit(rng)
        if rows.logit is not None:
            values[rows.logit] = scores
        for gaussian, link, part in zip(gaussians, links, rows.parts, strict=True):
            row = link.similar_row(scores, rng)
            scores = gaussian.clip(link.draw(scores, rng, row=row, row_weight=row_weight))
            rest = row_weight * gaussian.residuals[row] + smooth * gaussian.draw_residual(rng)
            values[part] = gaussian.expand(scores) + rest
        return values, -1

    return deviation


def _independent(rows: _Rows, seed: int) -> Deviation:
    gaussians = [PrincipalGaussian.fit(rows.weighted[:, part]) for part in rows.parts]

    def deviation(index: int) -> tuple[np.ndarray, int]:
        rng = _stream(seed, index)
        values = np.zeros(rows.weighted.shape[1])
        if rows.logit is not None:
            values[rows.logit] = rows.draw_logit(rng)
        for gaussian, part in zip(gaussians, rows.parts, strict=True):
            values[part] = gaussian.expand(gaussian.clip(gaussian.draw(rng))) + gaussian.draw_residual(rng)
        return values, -1

    return deviation


def _check(
    statistics: ClassStatistics,
    sampler: str,
    n_images: int,
    temperature: float,
    seed: int,
    first_index: int,
    row_weight: float,
) -> None:
    if sampler not in SAMPLERS:
        near = closest(str(sampler), SAMPLERS)
        raise InputError(
            f"no sampler '{sampler}'{f'; closest: {near}' if near else ''}; there are {', '.join(SAMPLERS)}"
        )
    if statistics.n_rows < 2:
        raise InputError(
            f"the statistics hold {statistics.n_rows} image{'s' * (statistics.n_rows != 1)}; sampling needs the spread "
            "between at least 2, and a varied class some hundreds: collect more images"
        )
    if n_images < 1:
        raise InputError(f"n_images is {n_images}; expected 1 or more")
    if not (np.isfinite(temperature) and temperature >= 0):
        raise InputError(f"temperature is {temperature}; expected a number of 0 or more (1 is the class's own spread)")
    if seed < 0 or first_index < 0:
        raise InputError(f"seed is {seed} and first_index {first_index}; expected whole numbers of 0 or more")
    if not 0 <= row_weight <= 1:
        raise InputError(f"row_weight is {row_weight}; expected a number from 0 (a joint draw) to 1 (a real row)")
