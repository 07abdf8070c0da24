"""The sampler `local`: images drawn place by place from the local Gaussians of a class, with no photograph at hand."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import InputError
from stochdeconv.images.files import stretch
from stochdeconv.sampling.overlaps import STRIDES, Overlaps
from stochdeconv.sampling.samplers import check_temperature
from stochdeconv.sampling.scenes import check_local, scene_contexts, scene_map
from stochdeconv.sampling.targets import Targets
from stochdeconv.statistics.class_statistics import INPUT
from stochdeconv.statistics.local_gaussians import LocalGaussians
from stochdeconv.statistics.patches import as_pictures, inside, level_sizes, patch_starts, patches, starts_about
from stochdeconv.statistics.places import Grid
from stochdeconv.threads import side_by_side

if TYPE_CHECKING:
    from stochdeconv.statistics.class_statistics import ClassStatistics

# Widths of the noise, level by level from the finest: down to one of a few grey levels, and of the coarsest level there is from one that
# leaves colours and their layout open.
_WIDTHS = ((0.15, 0.01, 12), (0.25, 0.015, 14), (0.4, 0.02, 14), (0.4, 0.03, 16))
_WIDEST = 0.4
# Width of the noise that an image is taken to have when it is told which component a patch is of.
_TOLERANCE = 0.05
# Patches of a layer's positions that are told apart at once.
_PATCHES_AT_ONCE = 4096
# Keeps these draws apart from any other use of (seed, i).
_STREAM = 11


def draw_places(
    statistics: ClassStatistics, targets: Targets, *, temperature: float = 1.0, seed: int = 0, first_index: int = 0
) -> Targets:
    """Complete sampled targets place by place, down to pixels.

    The context of each place and the colours that an image begins with are those of its scene. Under wide noise, patch by patch,
    the image is replaced by its posterior mean given the contexts' Gaussians, overlapping patches are averaged, and less noise is added;
    from coarse to fine. So neighbours come to agree: diffusion with a denoiser that knows no more than patches and their contexts (Zoran
    & Weiss 2011, Kamb & Ganguli 2024).

    Parameters
    ----------
    statistics : ClassStatistics
        With local Gaussians.
    targets : Targets
        Of `scenes.sample_scenes`.
    temperature : float
        Multiplies the noise.
    seed, first_index : int
        The draw for target i depends on (seed, first_index + i) alone.

    Returns
    -------
    Targets
        With one more field: ``pixels`` (image, height, width, channel), uint8, the image that was drawn.

    Raises
    ------
    InputError
        There are no local Gaussians, the targets have no scenes, or the temperature is no number of at least 0.
    """
    check_local(statistics)
    check_temperature(temperature)
    if "scenes" not in targets.fields:
        raise InputError(
            "places are drawn in scenes, and these targets have none: complete those of scenes.sample_scenes"
        )
    contexts = scene_contexts(statistics, targets)
    levels = _levels_of(statistics)

    def draw(number: int) -> np.ndarray:
        rng = np.random.default_rng([seed, first_index + number, _STREAM])
        image = np.clip(scene_map(statistics, statistics[INPUT], targets.scenes[number]), 0.0, 1.0)
        for level in reversed(levels):
            image = level.draw(image, contexts[number], temperature, rng)
        return np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)

    drawn = np.stack(side_by_side(draw, targets.n_images))
    return replace(targets, fields={**targets.fields, "pixels": drawn})


def denoise_images(statistics: ClassStatistics, contexts: np.ndarray, images: np.ndarray, width: float) -> np.ndarray:
    """Replace every patch by its posterior mean, the images taken for noisy ones, and average overlaps.

    Parameters
    ----------
    statistics : ClassStatistics
        With local Gaussians.
    contexts : ndarray of shape (image, place), int
    images : ndarray of shape (image, height, width, channel)
        In [0, 1], of the statistics' size.
    width : float
        Standard deviation of the noise.

    Returns
    -------
    ndarray of shape (image, height, width, channel), float32
    """
    finest = _levels_of(statistics)[0]

    def clear(number: int) -> np.ndarray:
        return finest.denoise(np.asarray(images[number], np.float32), contexts[number], width)

    return np.stack(side_by_side(clear, len(images)))


def local_targets(statistics: ClassStatistics, targets: Targets, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Tell what images should show: at each position the mean of the component that the patch there is most likely of.

    Parameters
    ----------
    statistics : ClassStatistics
    targets : Targets
        Of `draw_places`.
    layers : sequence of str
        Of the statistics, with positions.

    Returns
    -------
    dict of str to ndarray of shape (image, height, width, direction), float32
        Along the layer's ``local_directions``.
    """
    finest = _levels_of(statistics)[0]
    size = statistics.input_size
    pictures = as_pictures(targets.pixels)
    contexts = scene_contexts(statistics, targets)

    @functools.cache
    def components_on(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return context and component of each position of layers of a shape, (image, row, column) each."""
        grid = Grid.of(shape, size)
        centers = [grid.centers(axis) for axis in (0, 1)]
        starts = [inside(starts_about(of_axis, 0), size[axis]) for axis, of_axis in enumerate(centers)]
        own = contexts[:, finest.grid.places(*centers)]
        bands = np.array_split(np.arange(shape[0]), -(-shape[0] * shape[1] // _PATCHES_AT_ONCE))

        def kinds_of(number: int) -> np.ndarray:
            # Some rows of positions at a time: patches of all would take a hundred times the room of the picture.
            cut = (patches(pictures[number], starts[0][rows], starts[1]) for rows in bands)
            kinds = [finest.kinds(of_band, own[number][rows]) for of_band, rows in zip(cut, bands, strict=True)]
            return np.concatenate(kinds)

        return own, np.stack(side_by_side(kinds_of, len(pictures)))

    return {name: statistics[name].local_means[components_on(statistics[name].shape[:2])] for name in layers}


def _levels_of(statistics: ClassStatistics) -> list[_Level]:
    """Return the levels of an image, the finest first."""
    local: LocalGaussians = statistics.local
    grid = local.grid_in(statistics.input_size)
    return [_Level(local, number, grid, size) for number, size in enumerate(level_sizes(statistics.input_size))]


@dataclass(frozen=True, eq=False)
class _Level:
    """The Gaussians of one level."""

    local: LocalGaussians
    number: int
    grid: Grid
    size: tuple[int, int]

    def draw(self, image: np.ndarray, contexts: np.ndarray, temperature: float, rng: np.random.Generator) -> np.ndarray:
        """Draw this level's image about that of the coarser one, (height, width, channel)."""
        widest, narrowest, n_widths = _WIDTHS[self.number]
        if self.number == len(self.local.means) - 1:
            widest = _WIDEST
        widths = np.geomspace(widest, narrowest, n_widths).astype(np.float32)
        image = stretch(image, self.size)
        for width in widths:
            image = image + temperature * width * rng.standard_normal(image.shape, dtype=np.float32)
            image = self.denoise(image, contexts, float(width))
        return image

    def denoise(self, image: np.ndarray, contexts: np.ndarray, width: float) -> np.ndarray:
        """Average the posterior means of an image's patches under noise of a width, (height, width, channel)."""
        overlaps, places = self._drawn
        return overlaps.averaged(self._denoised(overlaps.cut(image), contexts[places], width**2))

    @functools.cached_property
    def _drawn(self) -> tuple[Overlaps, np.ndarray]:
        """Return the patches to draw, and the number of the place that each is nearest to."""
        (rows, down), (columns, across) = (self._along(axis) for axis in (0, 1))
        return Overlaps(self.size, rows, columns), (down[:, None] * self.grid.shape[1] + across).ravel()

    def _along(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Return where patches begin, rows (axis 0) or columns (axis 1), and the place whose Gaussians were fitted nearest to each."""
        fitted = starts_about(self.grid.centers(axis), self.number)
        stride = STRIDES[self.number]
        # Of the patches that can be drawn those that were fitted: others lie aside, all of them halfway between two places perhaps, and
        # images would be moved.
        choices = [patch_starts(self.size[axis], stride, first) for first in range(stride)]
        starts = max(choices, key=lambda choice: np.isin(choice, fitted).sum())
        apart = np.abs(starts[:, None] - fitted)
        earlier, later = apart.argmin(axis=1), len(fitted) - 1 - apart[:, ::-1].argmin(axis=1)
        # Halfway between two places now the one, now the other.
        return starts, np.where(np.cumsum(earlier != later) % 2, earlier, later)

    def _denoised(self, cut: np.ndarray, contexts: np.ndarray, noise: float) -> np.ndarray:
        """Return the posterior mean of patches (patch, value) under noise of a variance."""
        centered = cut - self.local.patch_means[self.number]
        values = centered @ self.local.patch_axes[self.number]
        rest = centered - values @ self.local.patch_axes[self.number].T
        means = _Mixtures(self.local, self.number, contexts, noise).posterior_means(values)
        residual = float(self.local.patch_residuals[self.number])
        return (
            self.local.patch_means[self.number]
            + means @ self.local.patch_axes[self.number].T
            + np.float32(residual / (residual + noise)) * rest
        )

    def kinds(self, cut: np.ndarray, contexts: np.ndarray) -> np.ndarray:
        """Tell of which component of its context (row, column) each patch (row, column, value) is: (row, column), int64."""
        values = (cut - self.local.patch_means[self.number]) @ self.local.patch_axes[self.number]
        mixtures = _Mixtures(self.local, self.number, contexts.ravel(), _TOLERANCE**2)
        return mixtures.log_weights(values.reshape(contexts.size, -1)).argmax(axis=1).reshape(contexts.shape)


class _Mixtures:
    """What patches under noise look like in the contexts of their places.

    Parameters
    ----------
    local : LocalGaussians
    level : int
    contexts : ndarray of shape (patch,), int
    noise : float
        Variance.
    """

    def __init__(self, local: LocalGaussians, level: int, contexts: np.ndarray, noise: float):
        self._order = np.argsort(contexts, kind="stable")
        there, starts, self._counts = np.unique(contexts[self._order], return_index=True, return_counts=True)
        self._parts = [slice(start, start + count) for start, count in zip(starts, self._counts, strict=True)]
        self._means, self._axes = local.means[level, there], local.axes[level, there]
        variances, residuals = local.variances[level, there], local.residuals[level, there]
        # What is left when noise is taken away, along the axes and beside them.
        self._beside = residuals / (residuals + noise)
        self._along = variances / (variances + noise) - self._beside[:, None]
        # Components of a context have one covariance: what is quadratic in a patch is the same for them all.
        precisions = 1.0 / (variances + noise) - 1.0 / (residuals + noise)[:, None]
        self._weighed = self._means @ self._axes * precisions[:, None] @ self._axes.transpose(0, 2, 1)
        self._weighed += self._means / (residuals + noise)[:, None, None]
        with np.errstate(divide="ignore"):
            self._constants = np.log(local.weights[level, there]) - 0.5 * (self._means * self._weighed).sum(axis=-1)

    def log_weights(self, values: np.ndarray) -> np.ndarray:
        """Return how likely patches (patch, dimension) are of each component, but for a constant of the patch: (patch, component)."""
        return self._back(self._log_weights(values[self._order]))

    def posterior_means(self, values: np.ndarray) -> np.ndarray:
        """Return what patches (patch, dimension) are without the noise."""
        values = values[self._order]
        shares = self._log_weights(values)
        shares = np.exp(shares - shares.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        means = self._times(shares, self._means)
        deviations = values - means
        along = self._times(deviations, self._axes) * np.repeat(self._along, self._counts, axis=0)
        deviations *= np.repeat(self._beside, self._counts)[:, None]
        return self._back(means + deviations + self._times(along, self._axes.transpose(0, 2, 1)))

    def _log_weights(self, values: np.ndarray) -> np.ndarray:
        return self._times(values, self._weighed.transpose(0, 2, 1)) + np.repeat(self._constants, self._counts, axis=0)

    def _times(self, values: np.ndarray, matrices: np.ndarray) -> np.ndarray:
        """Multiply patches, in order of their contexts, with their contexts' matrices."""
        product = np.empty((len(values), matrices.shape[2]), np.float32)
        for part, matrix in zip(self._parts, matrices, strict=True):
            np.matmul(values[part], matrix, out=product[part])
        return product

    def _back(self, sorted_values: np.ndarray) -> np.ndarray:
        values = np.empty_like(sorted_values)
        values[self._order] = sorted_values
        return values
