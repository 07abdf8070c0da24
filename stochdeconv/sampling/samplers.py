"""Sample what an image of the class should activate: a complete target for every layer, down to the colours of the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stochdeconv.errors import InputError, SettingsError, closest
from stochdeconv.sampling.gaussians import Link, PrincipalGaussian
from stochdeconv.sampling.targets import Rows, Targets
from stochdeconv.settings import check_count, check_number
from stochdeconv.statistics.class_statistics import ClassStatistics
from stochdeconv.threads import one_blas_thread

# Keeps these streams apart from others that are seeded with the same (seed, index).
_STREAM = 0x5A3D

# Index of an image -> its weighted deviation from the mean of the class, (column,), and the row it follows, -1 for none.
Deviation = Callable[[int], tuple[np.ndarray, int]]


@dataclass(frozen=True)
class Sampler:
    """A way to draw what an image of the class should activate.

    Attributes
    ----------
    summary : str
        What it draws, in half a line; the atlas shows it.
    prepare : callable
        (rows, seed, row_weight) -> `Deviation`. Image i depends on ``(seed, i)`` alone.
    """

    summary: str
    prepare: Callable[[Rows, int, float], Deviation]


@one_blas_thread()
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

    Every layer is described by its channel means, log deviations, layout scores and the means over its regions; each of the four
    is centred and divided by the root of its summed variance, the scores weighted by 3, the regions by 2. The number of principal
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
    rows, deviations, source_rows = sample_deviations(
        statistics,
        sampler=sampler,
        n_images=n_images,
        temperature=temperature,
        seed=seed,
        first_index=first_index,
        row_weight=row_weight,
    )
    return rows.targets(deviations, source_rows)


def sample_deviations(
    statistics: ClassStatistics,
    *,
    sampler: str,
    n_images: int,
    temperature: float,
    seed: int,
    first_index: int,
    row_weight: float,
) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Sample how far targets lie from the mean of the class, before they are targets: what can be added up.

    Parameters
    ----------
    statistics, sampler, n_images, temperature, seed, first_index, row_weight
        As in `sample_targets`.

    Returns
    -------
    rows : Rows
        What the deviations are deviations of; ``rows.targets`` makes them targets.
    deviations : ndarray of shape (image, column)
        Weighted, times the temperature.
    source_rows : ndarray of shape (image,), int64
        As in `Targets`.

    Raises
    ------
    InputError
        As in `sample_targets`.
    """
    check_sampling(sampler, temperature=temperature, row_weight=row_weight)
    check_count("n_images", n_images)
    check_count("seed", seed, at_least=0)
    check_count("first_index", first_index, at_least=0)
    rows = Rows.of(statistics)
    deviation = SAMPLERS[sampler].prepare(rows, seed, row_weight)
    drawn = [deviation(index) for index in range(first_index, first_index + n_images)]
    sources = np.array([source for _, source in drawn], dtype=np.int64)
    return rows, temperature * np.stack([values for values, _ in drawn]), sources


def _stream(seed: int, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, index, _STREAM])


def _joint(rows: Rows, seed: int, _: float) -> Deviation:
    return _bootstrap(rows, seed, 0.0)


def _bootstrap(rows: Rows, seed: int, row_weight: float) -> Deviation:
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


def _chain(rows: Rows, seed: int, row_weight: float) -> Deviation:
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


def _independent(rows: Rows, seed: int, _: float) -> Deviation:
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


#: Samplers that go on place by place: scenes of several rows, completed from local Gaussians, see `scenes.sample_scenes` and
#: `local.draw_places`; and what `bootstrap` samples, completed from photographs that the statistics keep, see `exemplars.sample_places`.
LOCAL, EXEMPLARS = PLACE_BY_PLACE = ("local", "exemplars")
#: What lays those scenes out.
OF_SCENES = "chain"
#: Samplers of descriptors, by name.
SAMPLERS = {
    "chain": Sampler("from the class neuron down, each layer given the one above it", _chain),
    "joint": Sampler("all layers at once, from one Gaussian", _joint),
    "bootstrap": Sampler("a real image's activations, moved in directions the class varies in", _bootstrap),
    "independent": Sampler("each layer alone, for comparison: its layers contradict each other", _independent),
}


def check_temperature(temperature: float) -> None:
    """Raise InputError unless deviations can be multiplied by it."""
    check_number("temperature", temperature, at_least=0)  # 1 is the class's own spread


def check_sampling(sampler: str, *, temperature: float, row_weight: float, also: Sequence[str] = ()) -> None:
    """Raise InputError for an unknown sampler or a number out of its range; see `sample_targets`."""
    names = [*SAMPLERS, *also]
    if sampler not in names:
        near = closest(str(sampler), names)
        if sampler in PLACE_BY_PLACE:
            raise InputError(
                f"the sampler '{sampler}' draws images, not descriptors: generate has it; here there are {', '.join(names)}"
            )
        raise InputError(f"no sampler '{sampler}'{f'; closest: {near}' if near else ''}; there are {', '.join(names)}")
    check_temperature(temperature)
    if not 0 <= row_weight <= 1:
        raise SettingsError(f"row_weight= is a number from 0 (a joint draw) to 1 (a real row); got {row_weight}")
