"""Targets along a path: what one component of a class means, and what lies between two of its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import InputError
from stochdeconv.parsing import read_layer_word
from stochdeconv.sampling.samplers import check_temperature, sample_deviations
from stochdeconv.sampling.targets import Rows, Targets
from stochdeconv.statistics.class_statistics import INPUT, ClassStatistics
from stochdeconv.statistics.layout import LAYOUT
from stochdeconv.statistics.pooling import pooled_map

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel

# Standard deviations from the mean to either end of a component.
_REACH = 2.0


def find_component(statistics: ClassStatistics, component: str) -> tuple[str, int]:
    """Read ``LAYER:J``, the J-th layout component of a layer, counted from 0; the first explains the most variance.

    Parameters
    ----------
    statistics : ClassStatistics
    component : str

    Returns
    -------
    name : str
        The layer.
    index : int
        J.

    Raises
    ------
    InputError
        The text is malformed, the layer has fewer components, or the rows do not vary along this one.
    LayerNotFoundError
        The statistics hold no such layer.
    """
    form = f"LAYER:J, a layer and the number of a component, such as '{INPUT}:0'"
    read = read_layer_word(component, form, what="component", n_numbers=(1,))
    name, (index,) = read.layer, read.numbers
    layer = statistics[name]
    if index >= layer.n_components:
        have = (
            f"{layer.n_components} components, 0 to {layer.n_components - 1}" if layer.n_components else "no components"
        )
        raise InputError(f"component '{component}': layer '{name}' has {have}; got {index}")
    if not np.ptp(layer.scores[:, index]) > 0:
        raise InputError(f"component '{component}': it is the same in all {statistics.n_rows} rows of the statistics")
    return name, index


def spaced_deviations(temperature: float, *, n_values: int = 5) -> np.ndarray:
    """Space deviations equally from -2 to 2 times the temperature.

    Parameters
    ----------
    temperature : float
    n_values : int
        At least 2.

    Returns
    -------
    ndarray of shape (value,)

    Raises
    ------
    InputError
        Fewer than two values, or a temperature that is none.
    """
    check_temperature(temperature)
    if n_values < 2:
        raise InputError(f"a component is shown by at least 2 images, one at either end; got {n_values}")
    return temperature * np.linspace(-_REACH, _REACH, n_values)


def component_targets(statistics: ClassStatistics, component: str, deviations: np.ndarray) -> Targets:
    """Move the mean of the class along one component, everything else moving with it as it does in the class.

    One score alone changed would contradict all others. Each number of the target is therefore its linear regression on that score
    over the rows, ``center + z cov(rows, score) / sd(score)``: the mean of the joint Gaussian given the score, so of all targets
    with that score the most typical one.

    Parameters
    ----------
    statistics : ClassStatistics
        Of at least two images.
    component : str
        ``LAYER:J``, see `find_component`.
    deviations : ndarray of shape (image,)
        The score of each image: z, in standard deviations of the rows from their mean.

    Returns
    -------
    Targets

    Raises
    ------
    InputError, LayerNotFoundError
        As `find_component`, or fewer than two images.
    """
    rows = Rows.of(statistics)
    name, index = find_component(statistics, component)
    (columns,) = rows.layers[name][LAYOUT.name]
    scores = rows.weighted[:, columns.start + index]
    per_deviation = rows.weighted.T @ scores / (len(scores) - 1) / scores.std(ddof=1)
    return rows.targets(np.outer(deviations, per_deviation), np.full(len(deviations), -1))


def component_deviations(
    model: ImageModel, statistics: ClassStatistics, component: str, images: np.ndarray
) -> np.ndarray:
    """Measure how far images are along a component, in standard deviations of the rows from their mean.

    Parameters
    ----------
    model : ImageModel
        The network of the statistics.
    statistics : ClassStatistics
    component : str
        ``LAYER:J``.
    images : ndarray of shape (image, height, width, channel)
        RGB in [0, 1].

    Returns
    -------
    ndarray of shape (image,)
    """
    name, index = find_component(statistics, component)
    layer = statistics[name]
    maps = images if name == INPUT else model.activations(images, [name])[name]
    pooled = np.asarray(pooled_map(maps, layer.layout_shape[:2]), np.float64).reshape(len(images), -1)
    scores = (pooled - layer.layout_mean.ravel()) @ layer.components[index]
    rows = layer.scores[:, index].astype(np.float64)
    return (scores - rows.mean()) / rows.std(ddof=1)


def walk_targets(
    statistics: ClassStatistics, *, n_frames: int, sampler: str, temperature: float, seed: int, row_weight: float
) -> Targets:
    """Lead from the first sample to the second in equal steps of an arc about the mean of the class.

    The deviations from the mean are added with the weights cosine and sine. The two samples are independent draws, so whatever lies
    between them has the covariance of the class too; on the straight line it would have half of it in the middle, where every walk
    would pass close by the mean.

    Parameters
    ----------
    statistics : ClassStatistics
        Of at least two images.
    n_frames : int
        At least 2; the first is image 0 of `samplers.sample_targets`, the last image 1, exactly.
    sampler, temperature, seed, row_weight
        As in `samplers.sample_targets`.

    Returns
    -------
    Targets
        `source_rows` is -1 between the ends.

    Raises
    ------
    InputError
        Fewer than two frames, or as in `samplers.sample_targets`.
    """
    if n_frames < 2:
        raise InputError(f"a walk has at least 2 frames, its ends; got {n_frames}")
    rows, ends, source_rows = sample_deviations(
        statistics,
        sampler=sampler,
        n_images=2,
        temperature=temperature,
        seed=seed,
        first_index=0,
        row_weight=row_weight,
    )
    # sin(0) is exactly 0, which cos(pi / 2) is not: the ends are the samples to the last bit.
    leaving = np.sin(np.linspace(np.pi / 2, 0.0, n_frames))
    sources = np.full(n_frames, -1)
    sources[[0, -1]] = source_rows
    return rows.targets(np.stack([leaving, leaving[::-1]], axis=1) @ ends, sources)
