"""Local Gaussians: what patches of the image, and each layer, hold at a place, given what the network shows around it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from stochdeconv.statistics.contexts import (
    LEAST_PLACES,
    blocks_of,
    find_contexts,
    n_kept,
    on_grid,
    places_of,
    random_directions,
    telling_layers,
)
from stochdeconv.statistics.drawing import drawn_by_key
from stochdeconv.statistics.measured import LayerMeasurements
from stochdeconv.statistics.patches import as_pictures, inside, patches, pyramid, starts_about
from stochdeconv.statistics.places import Grid, principal_directions
from stochdeconv.statistics.rounding import float16_with_exponent
from stochdeconv.statistics.shared_maps import SharedMap
from stochdeconv.statistics.statistic import Array, LayerStatistic, PureLoss, Record, Storage, Tensor

#: Images that the Gaussians are fitted to, and that are needed for it.
MAX_IMAGES, LEAST_IMAGES = 512, 16
# Kinds of patches in one context, at most; with fewer places for each there are fewer.
_COMPONENTS = 8
# Principal directions of all patches, and of those of one context.
_PATCH_DIMENSIONS, _AXES = 64, 24
# Patches that the first are learned from.
_FITTED_PATCHES = 60_000
# A component's mean in a layer is drawn to its context's as by this many places more.
_PRIOR_PLACES = 3.0
# Of the mean variance within components: what each direction of a layer has at least, before it is whitened.
_RIDGE = 0.1
_LEAST_VARIANCE = 1e-6
_ROUNDS = 8


@dataclass(frozen=True, eq=False)
class LocalGaussians:
    """Mixtures of Gaussians over patches of the image, one for each context and level of resolution.

    A patch of 8 x 8 pixels, at level l, is ``patch_means[l] + patch_axes[l] z`` and white noise of the variance ``patch_residuals[l]``. In
    context k, z is drawn from one of some components: mean ``means[l, k, j]`` with the weight ``weights[l, k, j]``, and for all of them
    alike ``variances[l, k]`` along ``axes[l, k]`` and ``residuals[l, k]`` along everything else.

    Attributes
    ----------
    grid : ndarray of shape (2,), int64
        Rows and columns of the places.
    patch_means : ndarray of shape (level, value)
    patch_axes : ndarray of shape (level, value, dimension)
    patch_residuals : ndarray of shape (level,)
    means : ndarray of shape (level, context, component, dimension)
    weights : ndarray of shape (level, context, component)
        They sum to one; 0 where a context has fewer components.
    axes : ndarray of shape (level, context, dimension, axis)
    variances : ndarray of shape (level, context, axis)
    residuals : ndarray of shape (level, context)
    """

    grid: np.ndarray
    patch_means: np.ndarray
    patch_axes: np.ndarray
    patch_residuals: np.ndarray
    means: np.ndarray
    weights: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    residuals: np.ndarray

    @property
    def n_contexts(self) -> int:
        """Number of contexts."""
        return self.means.shape[1]

    def grid_in(self, size: tuple[int, int]) -> Grid:
        """Return where the places lie in an image of a size (height, width)."""
        rows, columns = map(int, self.grid)
        return Grid.of((rows, columns), size)


class LocalStatistic(LayerStatistic):
    """Which local vectors go with which context: p(image and layers | what a deep layer shows around the place).

    Contexts are clusters of places, told apart by the 3 x 3 neighbourhood in the first and the last layer on the grid of places, and in the
    last one that has about half as many positions down and across, or more: the textures of a place, and what it is part of.

    Fields of the class: ``local``, the `LocalGaussians`, or None where there are too few images, no layer fine and deep enough, or no
    contexts were asked for; ``contexts`` (row, place), uint16, or None: the context of each place of each row.
    Fields of a layer, None where ``local`` is or the layer has no positions: ``local_means`` (context, component, direction), what the
    layer shows where the image's finest patch is of a component, along ``local_directions`` (channel, direction): random ones, whitened, so
    that what places of one component show varies by one along each of them, and along no two together.
    """

    name = "local"
    class_fields: ClassVar = {
        "local": Record(
            LocalGaussians,
            {
                "grid": Array("<i8"),
                "patch_means": Array("<f4"),
                "patch_axes": Array("<f2", "<f4"),
                "patch_residuals": Array("<f4"),
                "means": Array("<f2", "<f4"),
                "weights": Array("<f4"),
                "axes": Array("<f2", "<f4"),
                "variances": Array("<f4"),
                "residuals": Array("<f4"),
            },
        ),
        "contexts": Array("<u2", per_row=True, is_optional=True),
    }
    layer_fields: ClassVar = {
        "local_means": Array("<f2", "<f4", is_optional=True),
        "local_directions": Array("<f4", is_optional=True),
    }

    def storage(self, layer):
        """Keep what the layer shows at each place, along random directions."""
        if layer.places is None:
            return Storage()
        return Storage(columns={"places": ("<f2", int(np.prod(layer.places))), "places_exponent": ("<i2", 1)})

    def measure(self, maps, layer):
        """Look at the layer's positions nearest to the places, flattened: (image, value)."""
        from keras import ops

        if layer.places is None:
            return {}
        size = layer.image_size
        places, own = Grid.of(layer.places[:2], size), Grid.of(layer.shape[:2], size)
        for axis in (0, 1):
            maps = ops.take(maps, own.nearest(places.centers(axis), axis).astype(np.int32), axis=axis + 1)
        seen = ops.matmul(ops.reshape(maps, (-1, layer.shape[2])), random_directions(layer.shape[2], layer.places[2]))
        return {"places": ops.reshape(seen, (maps.shape[0], -1))}

    def encode(self, measured):
        """Keep 16 bits of each value."""
        if not measured:
            return {}
        values, exponent = float16_with_exponent(measured["places"])
        return {"places": values, "places_exponent": exponent}

    def summarise_together(self, measured):
        """Find the contexts, and fit the Gaussians and the layers' means in each."""
        nothing: dict[str, Any] = {"local_means": None, "local_directions": None}
        of_layers = {part.layer.name: dict(nothing) for part in measured.layers}
        seen = [part for part in measured.layers if part.layer.places is not None]
        if not seen or len(measured.rows) < LEAST_IMAGES:
            return {"local": None, "contexts": None}, of_layers
        grid = max(places_of(part)[:2] for part in seen)
        keys = [measured.spool.keys[row] for row in measured.rows]
        fitted = drawn_by_key(keys, MAX_IMAGES)
        telling = [seen[number] for number in telling_layers([part.layer.shape[:2] for part in seen], grid)]
        contexts = find_contexts(telling, measured, fitted, grid)
        own = contexts[fitted].ravel()
        n_contexts = int(contexts.max()) + 1
        image = measured.layers[0].layer
        pixels = measured.spool.read("pixels", measured.rows[fitted]).reshape(-1, *image.shape)
        places = Grid.of(grid, image.shape[:2])
        fits = []
        for number, level in enumerate(pyramid(pixels)):
            sides = level.shape[1:3]
            about = [inside(starts_about(places.centers(axis), number), sides[axis]) for axis in (0, 1)]
            cut = patches(level, *about).reshape(len(own), -1)
            fits.append(_fit_level(cut, own, n_contexts))
            del cut
        for part in seen:
            means, within = _means(part, measured.rows[fitted], own, fits[0].kinds, n_contexts, grid)
            whitening = _whitening(within)
            of_layers[part.layer.name] = {
                "local_means": _half(means @ whitening),
                "local_directions": random_directions(part.layer.shape[2], n_kept(part)) @ whitening,
            }
        levels = {name: np.stack([fit.values[name] for fit in fits]) for name in fits[0].values}
        return {"local": LocalGaussians(np.array(grid, np.int64), **levels), "contexts": contexts}, of_layers


# ---- Gaussians -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _LevelFit:
    """What was fitted to the patches of one level: fields of `LocalGaussians`, and of which component each patch is."""

    values: dict[str, Any]
    kinds: np.ndarray


def _half(values: np.ndarray) -> np.ndarray:
    """Round to what the file holds, so that statistics are the same before and after."""
    return values.astype(np.float16).astype(np.float32)


def _fit_level(cut: np.ndarray, contexts: np.ndarray, n_contexts: int) -> _LevelFit:
    """Fit a mixture for each context to patches (patch, value), uint8."""
    rng = np.random.default_rng(0)
    drawn = as_pictures(cut[np.sort(rng.permutation(len(cut))[:_FITTED_PATCHES])])
    mean, directions, _ = principal_directions(drawn, min(_PATCH_DIMENSIONS, cut.shape[1]))
    directions = _half(directions)
    drawn -= mean
    left_out = float((drawn**2).sum() - ((drawn @ directions) ** 2).sum()) / len(drawn)
    rest = left_out / max(cut.shape[1] - directions.shape[1], 1)
    n_dimensions = directions.shape[1]
    n_axes = min(_AXES, n_dimensions)
    means = np.zeros((n_contexts, _COMPONENTS, n_dimensions), np.float32)
    weights = np.zeros((n_contexts, _COMPONENTS), np.float32)
    axes = np.zeros((n_contexts, n_dimensions, n_axes), np.float32)
    spread = np.zeros((n_contexts, n_axes), np.float32)
    residuals = np.zeros(n_contexts, np.float32)
    kinds = np.zeros(len(cut), np.uint8)
    order = np.argsort(contexts, kind="stable")
    ends = np.cumsum(np.bincount(contexts, minlength=n_contexts))
    for context, own in enumerate(np.split(order, ends[:-1])):
        values = (as_pictures(cut[own]) - mean) @ directions
        centers, kind = _clusters(values, min(_COMPONENTS, max(1, len(values) // LEAST_PLACES)), rng)
        deviations = values - centers[kind]
        covariance = deviations.T @ deviations / max(len(values) - len(centers), 1)
        along, across = np.linalg.eigh(covariance)
        along, across = np.maximum(along[::-1], _LEAST_VARIANCE), across[:, ::-1]
        means[context, : len(centers)] = centers
        weights[context, : len(centers)] = np.bincount(kind, minlength=len(centers)) / len(values)
        axes[context], spread[context] = across[:, :n_axes], along[:n_axes]
        residuals[context] = along[n_axes:].mean() if n_axes < n_dimensions else _LEAST_VARIANCE
        kinds[own] = kind
    fitted: dict[str, Any] = {
        "patch_means": mean,
        "patch_axes": directions,
        "patch_residuals": np.float32(max(rest, _LEAST_VARIANCE)),
        "means": _half(means),
        "weights": weights,
        "axes": _half(axes),
        "variances": spread,
        "residuals": residuals,
    }
    return _LevelFit(fitted, kinds)


def _clusters(values: np.ndarray, n_clusters: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cluster values (value, dimension): centres, none of them empty, and the number of each value's."""
    from scipy.cluster.vq import kmeans2

    if n_clusters == 1:
        return values.mean(axis=0, keepdims=True), np.zeros(len(values), np.int64)
    start = values[rng.permutation(len(values))[:n_clusters]]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty")  # it is left out below
        _, kind = kmeans2(values, start, iter=_ROUNDS, minit="matrix", missing="warn", check_finite=False)
    _, kind = np.unique(kind, return_inverse=True)
    sums = np.zeros((kind.max() + 1, values.shape[1]), np.float64)
    np.add.at(sums, kind, values)
    return (sums / np.bincount(kind)[:, None]).astype(np.float32), kind


def _means(
    part: LayerMeasurements,
    rows: np.ndarray,
    contexts: np.ndarray,
    kinds: np.ndarray,
    n_contexts: int,
    grid: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Average what a layer shows at the places of each component, (context, component, direction); and its covariance about these means."""
    from scipy import sparse

    number = contexts.astype(np.int64) * _COMPONENTS + kinds
    n_places, n_kinds = grid[0] * grid[1], n_contexts * _COMPONENTS
    sums: Any = 0.0
    products: Any = 0.0
    for block in blocks_of(rows, grid[0] * grid[1]):
        maps = on_grid(part, rows[block], grid)[..., : n_kept(part)]
        values = maps.reshape(-1, maps.shape[-1]).astype(np.float64)
        own = number[block.start * n_places : block.stop * n_places]
        of = sparse.csr_matrix((np.ones(len(own)), (own, np.arange(len(own)))), shape=(n_kinds, len(own)))
        sums, products = sums + of @ values, products + values.T @ values
    counts = np.bincount(number, minlength=n_kinds)
    within = (products - sums.T @ (sums / np.maximum(counts, 1)[:, None])) / len(number)
    sums, counts = sums.reshape(n_contexts, _COMPONENTS, -1), counts.reshape(n_contexts, _COMPONENTS, 1)
    of_context = sums.sum(axis=1, keepdims=True) / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    means = (sums + _PRIOR_PLACES * of_context) / (counts + _PRIOR_PLACES)
    return means.astype(np.float32), within


def _whitening(covariance: np.ndarray) -> np.ndarray:
    """Return what directions are multiplied by so that a covariance becomes one, (direction, direction); no variance is taken for none."""
    variances, axes = np.linalg.eigh(covariance)
    floor = _RIDGE * np.maximum(variances, 0.0).mean() or 1.0
    return (axes / np.sqrt(np.maximum(variances, 0.0) + floor)).astype(np.float32)


# ---- what images are asked -------------------------------------------------------------------------------------------


def ask_local_map(layer: str, *, target: np.ndarray, directions: np.ndarray) -> PureLoss:
    """Ask a layer for what it should show at every position, see `local_map`.

    Parameters
    ----------
    layer : str
    target : ndarray of shape (image, height, width, direction)
    directions : ndarray of shape (channel, direction)

    Returns
    -------
    PureLoss
    """
    arrays = {"target": np.asarray(target, np.float32), "directions": np.asarray(directions, np.float32)}
    return PureLoss(local_map, (layer,), arrays, is_tied_to_places=True, reads_shared_maps=True)


def local_map(values: SharedMap, target: Tensor, directions: Tensor) -> Tensor:
    """Compare a map along directions to its target, the mean of ``(Pa - t)²``: the squared Mahalanobis distance, of each direction."""
    from keras import ops

    return ops.mean((values.along(directions) - target) ** 2, axis=(1, 2, 3))


LOCAL = LocalStatistic()
