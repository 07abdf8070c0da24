"""Images drawn by their names alone: the same ones on every machine, however a collection was split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def key_number(key: str) -> int:
    """Turn an image's name into a number of 64 bits, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def drawn_by_key(keys: Sequence[str], n: int) -> np.ndarray:
    """Draw n of the images with these keys, in their order: the same ones however the images were split; all where there are no more."""
    if len(keys) <= n:
        return np.arange(len(keys))
    return np.sort(np.argsort([key_number(key) for key in keys], kind="stable")[:n])
