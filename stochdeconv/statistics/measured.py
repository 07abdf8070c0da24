"""What was measured, as statistics read it back: columns, means over the images, maps out of core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stochdeconv.statistics.maps import MapReader
from stochdeconv.statistics.spool import Spool

#: Column of the class's logit, which is read off the network beside all statistics.
LOGIT = "logit"


@dataclass(frozen=True)
class MeasuredLayer:
    """A layer to be measured, and the names its columns and sums have in the spool.

    Attributes
    ----------
    number : int
    name : str
    shape, layout_shape : tuple of int
        (height, width, channel).
    places : tuple of int or None
        (row, column, direction) of the places at which the layer is looked at for the local Gaussians; None where it is not.
    image_size : tuple of int
        (height, width) of the images.
    """

    number: int
    name: str
    shape: tuple[int, int, int]
    layout_shape: tuple[int, int, int]
    places: tuple[int, int, int] | None
    image_size: tuple[int, int]

    def column(self, kind: str) -> str:
        """Name the spool's column or sum of this layer."""
        return f"{kind}_{self.number:03d}"


def layers_of(manifest: Mapping[str, Any]) -> list[MeasuredLayer]:
    """Read the measured layers out of a manifest."""
    size = tuple(manifest["layers"][0][1][:2])
    return [
        MeasuredLayer(number, name, tuple(shape), tuple(pooled), None if places is None else tuple(places), size)
        for number, (name, shape, pooled, places) in enumerate(manifest["layers"])
    ]


@dataclass(frozen=True, eq=False)
class Measurements:
    """Everything that was measured of the images of a class.

    Attributes
    ----------
    spool : Spool
    rows : ndarray of int
        The images that get a row in the statistics.
    remarks : list of str
        What the user should hear of, for a statistic to add to.
    """

    spool: Spool
    rows: np.ndarray
    remarks: list[str] = field(default_factory=list)

    @property
    def n_images(self) -> int:
        """Images measured."""
        return len(self.spool.kept)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Arguments of the collection."""
        return self.spool.manifest["settings"]

    @property
    def layers(self) -> list[LayerMeasurements]:
        """Each layer's, from the image to the deepest."""
        return [
            LayerMeasurements(self.spool, self.rows, self.remarks, layer=layer)
            for layer in layers_of(self.spool.manifest)
        ]

    def _stored(self, name: str) -> str:
        return name

    def column(self, name: str) -> np.ndarray:
        """Read what was kept of the rows, (row, value)."""
        return self.spool.read(self._stored(name), self.rows)

    def mean(self, name: str) -> np.ndarray:
        """Divide what was added up by the number of images, float64."""
        return self.spool.sums[self._stored(name)].value / self.n_images

    def maps(self, values: str, exponents: str) -> MapReader:
        """Read float16 maps of all images back as float32, see `Spool.maps`."""
        return self.spool.maps(self._stored(values), self._stored(exponents))


@dataclass(frozen=True, eq=False)
class LayerMeasurements(Measurements):
    """What was measured of one layer.

    Attributes
    ----------
    layer : MeasuredLayer
    """

    layer: MeasuredLayer = field(kw_only=True)

    def _stored(self, name: str) -> str:
        return self.layer.column(name)
