"""Sums that no order of the terms changes, so that shards add up to the bytes of one pass."""

from __future__ import annotations

import numpy as np


class ExactSum:
    """A sum of arrays whose rounded value depends neither on the order of the terms nor on how they were split up.

    Every entry is kept as an unevaluated pair high + low of float64 (Knuth's TwoSum: 106 bits), so the rounding of a
    million additions stays far below the last bit of the float64 result.

    Attributes
    ----------
    high, low : ndarray
        The sum is ``high + low``.
    """

    # Small enough for the processor's cache: seven passes over memory become one.
    _CACHED = 8192

    def __init__(self, shape: tuple[int, ...]):
        self.high = np.zeros(shape, np.float64)
        self.low = np.zeros(shape, np.float64)
        self._scratch = np.empty((3, self._CACHED), np.float64)

    def add(self, term: np.ndarray) -> None:
        """Add one array of the sum's shape."""
        if term.shape != self.high.shape:
            raise ValueError(f"a term of shape {self.high.shape} was expected; got {term.shape}")
        high, low, term = self.high.reshape(-1), self.low.reshape(-1), np.ascontiguousarray(term).reshape(-1)
        for start in range(0, high.size, self._CACHED):
            part = slice(start, min(start + self._CACHED, high.size))
            self._add(high[part], low[part], term[part])

    def _add(self, high: np.ndarray, low: np.ndarray, term: np.ndarray) -> None:
        value, total, error = self._scratch[:, : high.size]
        value[:] = term
        np.add(high, value, out=total)
        np.subtract(total, high, out=error)  # the part of the term that arrived
        value -= error  # what of the term was lost
        low += value
        np.subtract(total, error, out=error)
        np.subtract(high, error, out=error)  # what of the sum was lost
        low += error
        high[:] = total

    def merge(self, high: np.ndarray, low: np.ndarray) -> None:
        """Add another sum's two parts."""
        self.add(high)
        self.low += low

    @property
    def value(self) -> np.ndarray:
        """The sum in float64."""
        return self.high + self.low
