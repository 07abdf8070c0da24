"""Patches that overlap: cut out of an image, and averaged into one again."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from stochdeconv.statistics.patches import PATCH

#: Pixels from one patch to the next where images are drawn, level by level, the finest first.
STRIDES = (2, 2, 2, 1)
# What lies in the middle of a patch counts most.
_PROFILE = np.hanning(PATCH + 2)[1:-1].astype(np.float32)
_WINDOW = np.outer(_PROFILE, _PROFILE).ravel()


class Overlaps:
    """The patches of an image (height, width) `size` that begin in some `rows` and `columns`; together they cover it."""

    def __init__(self, size: tuple[int, int], rows: np.ndarray, columns: np.ndarray):
        self._size = size
        down, across = (starts[:, None] + np.arange(PATCH) for starts in (rows, columns))
        # Which pixel each value of each patch is, (patch, position).
        self._pixels = (down[:, None, :, None] * size[1] + across[:, None]).reshape(-1, PATCH * PATCH)
        window = np.tile(_WINDOW, len(self._pixels))
        weight = np.bincount(self._pixels.ravel(), window)
        shares = (window / weight[self._pixels.ravel()]).astype(np.float32)
        self._average = csr_array(
            (shares, (self._pixels.ravel(), np.arange(self._pixels.size))), (np.prod(size), self._pixels.size)
        )

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Cut the patches out of an image (height, width, channel): (patch, value)."""
        return image.reshape(-1, image.shape[-1]).take(self._pixels, axis=0).reshape(len(self._pixels), -1)

    def averaged(self, cut: np.ndarray) -> np.ndarray:
        """Put patches (patch, value) together, the middle of each counting most: (height, width, channel), float32."""
        total = self._average @ cut.reshape(self._pixels.size, -1)
        return total.reshape(*self._size, -1)
