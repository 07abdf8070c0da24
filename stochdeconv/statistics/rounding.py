"""Numbers in fewer bits: float32 that compress to half their size, maps in float16 at their own scale."""

from __future__ import annotations

import numpy as np


def rounded(values: np.ndarray) -> np.ndarray:
    """Round float32 to the 11 significant bits of float16, without its narrow range: the zeros compress, and no mean is known better."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)


def float16_with_exponent(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Store maps in 16 bits at their own scale: each row divided by a power of two, so that none overflows or vanishes.

    Parameters
    ----------
    maps : ndarray of shape (image, value)
        float32, finite.

    Returns
    -------
    values : ndarray of shape (image, value)
        float16, largest magnitude of each row in [2**14, 2**15).
    exponents : ndarray of shape (image, 1)
        int16; the maps are ``values * 2.0**exponents``.
    """
    _, exponents = np.frexp(np.abs(maps).max(axis=1, initial=0.0))
    # A silent map has exponent 0; the range keeps both powers of two normal float32 numbers.
    exponents = np.clip(exponents.astype(np.int16) - np.int16(15), -100, 100)
    return (maps * np.exp2(-exponents.astype(np.float32))[:, np.newaxis]).astype(np.float16), exponents[:, np.newaxis]
