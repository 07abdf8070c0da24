"""Pooling of maps into the cells of a layout: one definition, for the collector and for the losses."""

from __future__ import annotations

from typing import Any

import numpy as np

Tensor = Any


def pooling_matrix(size: int, pooled_size: int) -> np.ndarray:
    """Matrix (pooled, position) that averages `size` positions into `pooled_size` cells of equal width, shared edges by share."""
    edges = np.linspace(0, size, pooled_size + 1)
    start, stop = np.arange(size), np.arange(1, size + 1)
    overlap = np.minimum(stop, edges[1:, None]) - np.maximum(start, edges[:-1, None])
    return (np.maximum(overlap, 0) * pooled_size / size).astype(np.float32)


def pooled_map(values: Tensor, layout_shape: tuple[int, int]) -> Tensor:
    """Average a map (image, height, width, channel) into cells, (image, *layout_shape, channel), float32; rank 2 counts as 1 x 1."""
    from keras import backend, ops

    if len(values.shape) == 2:
        return ops.cast(ops.reshape(values, (-1, 1, 1, values.shape[-1])), "float32")
    _, height, width, channels = values.shape
    rows, columns = layout_shape
    # Products over one axis at a time, without a transpose: up to 20 times as fast as an einsum with its gradient. The first, which
    # is nearly all of the work, is in the dtype of the map.
    if rows != height:
        weights = ops.cast(pooling_matrix(height, rows), backend.standardize_dtype(values.dtype))
        values = ops.matmul(weights, ops.reshape(values, (-1, height, width * channels)))
    values = ops.cast(values, "float32")
    if columns != width:
        values = ops.matmul(pooling_matrix(width, columns), ops.reshape(values, (-1, width, channels)))
    return ops.reshape(values, (-1, rows, columns, channels))
