"""What images should activate, and the rows of a class that such targets are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stochdeconv.errors import InputError
from stochdeconv.statistics.class_statistics import ClassStatistics, LayerStatistics
from stochdeconv.statistics.summary import LOG_STD_EPSILON

# Weight of the layout scores against the channel means and log deviations, each of them scaled to a summed variance of one:
# the layout carries where the object is (the prototype's weight).
SCORE_WEIGHT = 3.0
# Weight of the facets' means, in the same units.
FACET_WEIGHT = 2.0


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


@dataclass(frozen=True, eq=False)
class Rows:
    """The aligned rows of all layers as one matrix, centred and weighted.

    Attributes
    ----------
    weighted : ndarray of shape (row, column)
        Deviations from `center`, in units of `scale`.
    center, scale : ndarray of shape (column,)
        Mean of the rows; what one weighted unit is.
    layers : mapping of str to (slice, slice, slice, slice)
        Columns of each layer's channel means, log deviations, layout scores and facet means.
    edges : slice
        Columns of the mean and standard deviation of the log gradient magnitude.
    logit : slice or None
        Column of the class logit.
    """

    weighted: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    layers: Mapping[str, tuple[slice, slice, slice, slice]]
    edges: slice
    logit: slice | None

    @classmethod
    def of(cls, statistics: ClassStatistics) -> Rows:
        """Read the rows of statistics; InputError where they hold fewer than two images."""
        if statistics.n_rows < 2:
            raise InputError(
                f"the statistics hold {statistics.n_rows} image{'s' * (statistics.n_rows != 1)}; sampling needs the spread "
                "between at least 2, and a varied class some hundreds: collect more images"
            )
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
        """Columns of what is sampled together, along the chain: the deepest layer first, the image and its edges last."""
        whole = [slice(parts[0].start, parts[-1].stop) for parts in self.layers.values()]
        return [*reversed(whole), self.edges]

    def targets(self, deviations: np.ndarray, source_rows: np.ndarray) -> Targets:
        """Make targets of weighted deviations from the mean of the class, of shape (image, column)."""
        values = (self.center + deviations * self.scale).astype(np.float32)
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
