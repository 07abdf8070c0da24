"""What images should activate, and the rows of a class that such targets are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stochdeconv.errors import InputError
from stochdeconv.statistics.class_statistics import ClassStatistics, WithFields
from stochdeconv.statistics.registry import LAYER_STATISTICS, PHOTOGRAPH_STATISTICS
from stochdeconv.statistics.statistic import Block


@dataclass(frozen=True, eq=False)
class LayerTarget(WithFields):
    """What images should activate in one layer.

    Attributes
    ----------
    fields : mapping of str to ndarray of shape (image, ...), float32
        The targets of each statistic, readable as attributes: ``mean`` and ``std`` (see `moments.Moments`), ``scores`` (`layout.Layout`)
        and, where the layer has them, ``facet_means`` (`regions.RegionMeans`).
    """

    def take(self, images: slice | np.ndarray) -> LayerTarget:
        """Target of some of the images."""
        return LayerTarget(fields={name: values[images] for name, values in self.fields.items()})


@dataclass(frozen=True, eq=False)
class Targets(WithFields):
    """Complete targets of several images.

    Attributes
    ----------
    layers : mapping of str to LayerTarget
        From the image (``"input"``: its colours and their layout) to the deepest layer.
    logit : ndarray of shape (image,), float32, or None
        Class logit; None where the statistics carry no class.
    source_rows : ndarray of shape (image,), int64
        Row of the statistics a bootstrap sample started from, -1 where there is no single one.
    fields : mapping of str to ndarray of shape (image, ...)
        Targets of no single layer, readable as attributes: ``log_gradient_mean`` and ``log_gradient_std`` (float32, see `edges.Edges`);
        where places are drawn, ``pixels`` (uint8), and ``scenes`` (int32) or ``sources`` (int16).
    """

    layers: Mapping[str, LayerTarget]
    logit: np.ndarray | None
    source_rows: np.ndarray

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.source_rows)

    def take(self, images: slice | np.ndarray) -> Targets:
        """Targets of some of the images, for a batch: a slice or an array of positions."""
        return Targets(
            {name: layer.take(images) for name, layer in self.layers.items()},
            None if self.logit is None else self.logit[images],
            self.source_rows[images],
            fields={name: values[images] for name, values in self.fields.items()},
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for ``numpy.savez``: ``LAYER/mean``, ``/std``, ``/scores``, … and the fields beside them."""
        arrays = {
            f"{name}/{kind}": values for name, layer in self.layers.items() for kind, values in layer.fields.items()
        }
        if self.logit is not None:
            arrays["logit"] = self.logit
        return {**arrays, **self.fields, "source_rows": self.source_rows}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Targets:
        """Targets again from what ``to_arrays`` gave, an opened ``targets.npz`` included."""
        layers: dict[str, dict[str, np.ndarray]] = {}
        beside: dict[str, np.ndarray] = {}
        for key in arrays:
            # A layer's name may hold slashes of its own, so the last one parts it from the kind.
            name, slash, kind = key.rpartition("/")
            (layers.setdefault(name, {}) if slash else beside)[kind] = arrays[key]
        return cls(
            {name: LayerTarget(fields=fields) for name, fields in layers.items()},
            beside.pop("logit", None),
            beside.pop("source_rows"),
            fields=beside,
        )


@dataclass(frozen=True, eq=False)
class Rows:
    """The aligned rows of all layers as one matrix, centred and weighted.

    Attributes
    ----------
    statistics : ClassStatistics
        What they are rows of.
    weighted : ndarray of shape (row, column)
        Deviations from `center`, in units of `scale`.
    center, scale : ndarray of shape (column,)
        Mean of the rows; what one weighted unit is.
    layers : mapping of str to mapping of str to list of slice
        Columns of each block of each statistic of each layer.
    photographs : mapping of str to list of slice
        Columns of each block of each statistic of the photographs.
    logit : slice or None
        Column of the class logit.
    """

    statistics: ClassStatistics
    weighted: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    layers: Mapping[str, Mapping[str, list[slice]]]
    photographs: Mapping[str, list[slice]]
    logit: slice | None

    @classmethod
    def of(cls, statistics: ClassStatistics) -> Rows:
        """Read the rows of statistics; InputError where they hold fewer than two images."""
        if statistics.n_rows < 2:
            raise InputError(
                f"the statistics hold {statistics.n_rows} image{'s' * (statistics.n_rows != 1)}; sampling needs the spread "
                "between at least 2, and a varied class some hundreds: collect more images"
            )
        columns = _Columns()
        layers = {
            name: {statistic.name: columns.add(statistic.blocks(layer)) for statistic in LAYER_STATISTICS}
            for name, layer in statistics.items()
        }
        photographs = {statistic.name: columns.add(statistic.blocks(statistics)) for statistic in PHOTOGRAPH_STATISTICS}
        logit = None
        if statistics.logits is not None:
            (logit,) = columns.add([Block(np.asarray(statistics.logits)[:, None])])
        values, scale = np.concatenate(columns.values, axis=1), np.concatenate(columns.scales)
        center = values.mean(axis=0)
        return cls(statistics, (values - center) / scale, center, scale, layers, photographs, logit)

    @property
    def parts(self) -> list[slice]:
        """Columns of what is sampled together, along the chain: the deepest layer first, the image and the photographs' own last."""
        sampled = [*reversed(list(self.layers.values())), self.photographs]
        blocks = [[block for statistic in part.values() for block in statistic] for part in sampled]
        return [slice(part[0].start, part[-1].stop) for part in blocks if part]

    def targets(self, deviations: np.ndarray, source_rows: np.ndarray) -> Targets:
        """Make targets of weighted deviations from the mean of the class, of shape (image, column)."""
        values = (self.center + deviations * self.scale).astype(np.float32)
        layers = {}
        for name, sampled in self.layers.items():
            fields: dict[str, np.ndarray] = {}
            for statistic in LAYER_STATISTICS:
                blocks = [values[:, block] for block in sampled[statistic.name]]
                fields |= statistic.targets(blocks, self.statistics[name]) if blocks else {}
            layers[name] = LayerTarget(fields=fields)
        beside: dict[str, np.ndarray] = {}
        for of_photographs in PHOTOGRAPH_STATISTICS:
            blocks = [values[:, block] for block in self.photographs[of_photographs.name]]
            beside |= of_photographs.targets(blocks) if blocks else {}
        logit = None if self.logit is None else values[:, self.logit.start]
        return Targets(layers, logit, source_rows, fields=beside)

    def draw_logit(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a logit of the class's own distribution, skewed as it is and never outside of it; empty without a class."""
        if self.logit is None:
            return np.zeros(0)
        return np.quantile(self.weighted[:, self.logit], rng.random(), axis=0)


class _Columns:
    """Blocks laid side by side."""

    def __init__(self):
        self.values: list[np.ndarray] = []
        self.scales: list[np.ndarray] = []
        self._n_columns = 0

    def add(self, blocks: Sequence[Block]) -> list[slice]:
        """Append blocks, each scaled to a summed variance of the square of its weight, and tell where they are."""
        places = []
        for block in blocks:
            values = np.asarray(block.rows, dtype=np.float64)
            spread = np.sqrt(np.var(values, axis=0, ddof=1).sum())
            self.values.append(values)
            self.scales.append(np.full(values.shape[1], spread / block.weight if spread > 0 else 1.0))
            places.append(slice(self._n_columns, self._n_columns + values.shape[1]))
            self._n_columns += values.shape[1]
        return places
