"""How often the channels of a layer fire: what the atlas tells silent channels by."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from stochdeconv.statistics.statistic import Array, LayerStatistic, Storage


class Firing(LayerStatistic):
    """Fraction of positions where each channel is above zero; nothing of it is sampled or asked.

    Field of a layer: ``firing_fraction`` (channel,).
    """

    name = "firing"
    layer_fields: ClassVar = {"firing_fraction": Array("<f4")}

    def storage(self, layer):
        """Add up the positions that fire."""
        return Storage(sums={"firing": (layer.shape[-1],)})

    def measure(self, maps, layer):
        """Count positions above zero, (image, channel)."""
        from keras import ops

        n_images, n_positions, n_channels = maps.shape[0], layer.shape[0] * layer.shape[1], layer.shape[2]
        above = ops.cast(ops.reshape(maps, (n_images, n_positions, n_channels)) > 0, "float32")
        return {"firing": ops.matmul(np.ones((1, n_positions), np.float32), above)[:, 0]}

    def summarise(self, measured):
        """Divide by the number of positions."""
        height, width, _ = measured.layer.shape
        return {"firing_fraction": (measured.mean("firing") / (height * width)).astype(np.float32)}


FIRING = Firing()
