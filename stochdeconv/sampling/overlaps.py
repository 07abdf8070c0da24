"""Patches that overlap: cut out of an image, and averaged into one again."""

from __future__ import annotations

import numpy as np

from stochdeconv.statistics.patches import PATCH, patch_starts, patches

# What lies in the middle of a patch counts most.
_PROFILE = np.hanning(PATCH + 2)[1:-1].astype(np.float32)
_WINDOW = (_PROFILE[:, None] * _PROFILE)[..., None]


class Overlaps:
    """The patches of an image (height, width) `size`, `stride` pixels apart.

    Attributes
    ----------
    rows, columns : ndarray of int
        First row, and column, of the patches.
    """

    def __init__(self, size: tuple[int, int], stride: int):
        self._size = size
        self.rows, self.columns = (patch_starts(side, stride) for side in size)
        self._weight = np.zeros((*size, 1), np.float32)
        for i, j, down, across in self._offsets():
            self._weight[down, across] += _WINDOW[i, j]

    def _offsets(self):
        # No two patches have the same pixel of theirs at the same place of the image.
        for i in range(PATCH):
            for j in range(PATCH):
                yield i, j, self.rows[:, None] + i, self.columns + j

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Cut the patches out of an image (height, width, channel): (patch, value)."""
        return patches(image, self.rows, self.columns).reshape(len(self.rows) * len(self.columns), -1)

    def averaged(self, cut: np.ndarray) -> np.ndarray:
        """Put patches (patch, value) together, the middle of each counting most: (height, width, channel), float32."""
        weighted = cut.reshape(len(self.rows), len(self.columns), PATCH, PATCH, -1) * _WINDOW
        total = np.zeros((*self._size, weighted.shape[-1]), np.float32)
        for i, j, down, across in self._offsets():
            total[down, across] += weighted[:, :, i, j]
        return total / self._weight
