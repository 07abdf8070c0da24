"""Maps of many images, read out of core a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

# Numbers held at once while reading maps: 32 MB of float32.
_BLOCK_VALUES = 2**23
#: Images held at once.
BLOCK_IMAGES = 64


@dataclass(frozen=True, eq=False)
class MapReader:
    """Maps on disk, one row an image, read a piece at a time.

    Attributes
    ----------
    n_images, n_values : int
        Rows, and numbers in each.
    read : callable
        ``read(images, values) -> float32 (image, value)`` for an array of row numbers and a slice of columns.
    """

    n_images: int
    n_values: int
    read: Callable[[np.ndarray, slice], np.ndarray]

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all rows in order, a fixed number at a time."""
        for start in range(0, self.n_images, BLOCK_IMAGES):
            yield self.read(np.arange(start, min(start + BLOCK_IMAGES, self.n_images)), slice(0, self.n_values))

    def panels(self, images: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield (slice, columns of the given rows) from the first column to the last."""
        width = max(1, min(self.n_values, _BLOCK_VALUES // max(1, len(images))))
        for start in range(0, self.n_values, width):
            part = slice(start, min(start + width, self.n_values))
            yield part, self.read(images, part)
