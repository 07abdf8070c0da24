"""Exemplars: photographs themselves, kept where they were asked for, so that places of images can be drawn from theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stochdeconv.statistics.drawing import drawn_by_key
from stochdeconv.statistics.statistic import Array, PhotographStatistic, Record, Storage


@dataclass(frozen=True, eq=False)
class Exemplars:
    """Photographs of a class, as the network saw them.

    Attributes
    ----------
    pixels : ndarray of shape (exemplar, height, width, channel), uint8
        Resized and cropped to the network's size, RGB or of one channel.
    rows : ndarray of shape (exemplar,), int64
        Row of the statistics that each is the image of.
    """

    pixels: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self.pixels)


class ExemplarPhotographs(PhotographStatistic):
    """The photographs that are kept: a file that has them holds pieces of photographs, and says so.

    Field of the class: ``exemplars``, the `Exemplars`, or None where none were asked for. Nothing of them is sampled as a column or asked
    as a loss: the sampler `exemplars` draws places from them.
    """

    name = "exemplars"
    class_fields: ClassVar = {
        "exemplars": Record(
            Exemplars, {"pixels": Array("|u1", one_a_chunk=True), "rows": Array("<i8")}, is_dropped_when_compacted=True
        )
    }

    def storage(self, shape, settings):
        """Keep the pixels of each photograph, until it is known which are drawn; the local Gaussians read them, too."""
        is_needed = settings["exemplars"] or settings["n_contexts"]
        return Storage(columns={"pixels": ("|u1", int(np.prod(shape)))} if is_needed else {})

    def measure(self, photograph):
        """Round to the eight bits that photographs have."""
        return {"pixels": np.rint(photograph * 255.0).astype(np.uint8)}

    def summarise(self, measured):
        """Draw which are kept: the same ones however the photographs were split."""
        n_exemplars = measured.settings["exemplars"]
        if not n_exemplars:
            return {"exemplars": None}
        keys = measured.spool.keys
        rows = drawn_by_key([keys[row] for row in measured.rows], n_exemplars)
        pixels = measured.spool.read("pixels", measured.rows[rows])
        return {"exemplars": Exemplars(pixels.reshape(-1, *measured.layers[0].layer.shape), rows)}


EXEMPLARS = ExemplarPhotographs()
