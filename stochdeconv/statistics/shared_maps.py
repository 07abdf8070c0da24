"""A layer's map as several losses read it: what they derive from it alike is computed, and differentiated, once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from stochdeconv.statistics.pooling import pooled_map

Tensor = Any


class SharedMap:
    """A layer's map, read by all losses of one step.

    Parameters
    ----------
    values : tensor of shape (image, ..., channel)
        As the network computed it, in bfloat16 maybe.
    """

    def __init__(self, values: Tensor):
        self._values = values
        # The directions with what was derived along them: as long as they are held here no other tensor has their identity.
        self._derived: dict[Hashable, tuple[Tensor | None, Tensor]] = {}

    def along(self, directions: Tensor | None) -> Tensor:
        """Return the map along channel directions.

        Parameters
        ----------
        directions : tensor of shape (channel, direction) or None
            None for the channels themselves. Losses that hand in the same tensor share the product.

        Returns
        -------
        tensor of shape (image, ..., direction), float32
        """
        return self._once(("along", id(directions)), directions, lambda: self._projected(directions))

    def pooled(self, layout_shape: tuple[int, int], directions: Tensor | None = None) -> Tensor:
        """Return the map along directions averaged into cells, (image, *layout_shape, direction), float32, see `pooling.pooled_map`."""
        # A map of all channels is pooled in the dtype it has: that is less to read.
        return self._once(
            ("pooled", layout_shape, id(directions)),
            directions,
            lambda: pooled_map(self._values if directions is None else self.along(directions), layout_shape),
        )

    def _projected(self, directions: Tensor | None) -> Tensor:
        from keras import ops

        if directions is None:
            return ops.cast(self._values, "float32")
        shape = self._values.shape
        # One product of long rows, in the dtype of the network: with its gradient it is most of what a loss costs.
        product = ops.matmul(ops.reshape(self._values, (-1, shape[-1])), ops.cast(directions, self._values.dtype))
        return ops.cast(ops.reshape(product, (-1, *shape[1:-1], directions.shape[-1])), "float32")

    def _once(self, key: Hashable, directions: Tensor | None, derive: Callable[[], Tensor]) -> Tensor:
        if key not in self._derived:
            self._derived[key] = directions, derive()
        return self._derived[key][1]
