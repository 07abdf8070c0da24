"""Which axis of an image or a map has the channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from stochdeconv.networks.operations import type_name

#: Numbers of channels that an input may have to be an image: grey, colour, colour and opacity.
IMAGE_CHANNELS = (1, 3, 4)


def is_image_shape(shape: tuple[int | None, ...]) -> bool:
    """Tell whether an input, without the batch axis, is an image: three axes, the last or first of one, three or four channels."""
    return len(shape) == 3 and (shape[-1] in IMAGE_CHANNELS or shape[0] in IMAGE_CHANNELS)


def has_channels_first(shape: tuple[int | None, ...]) -> bool:
    """Tell an image (channel, height, width) from one (height, width, channel)."""
    return shape[-1] not in IMAGE_CHANNELS and shape[0] in IMAGE_CHANNELS


def order_of_axes(operation: Any, n_axes: int) -> tuple[int, ...] | None:
    """Return which axis of a value comes where, the batch axis included; None of operations that leave them in order."""
    name = type_name(operation)
    if name == "Permute":
        return (0, *operation.dims)
    if name == "Transpose":
        return tuple(range(n_axes))[::-1] if operation.axes is None else tuple(operation.axes)
    axes = np.empty(range(n_axes))  # of lengths that tell the axes apart
    if name == "Moveaxis":
        return np.moveaxis(axes, operation.source, operation.destination).shape
    if name == "Swapaxes":
        return np.swapaxes(axes, operation.axis1, operation.axis2).shape
    return None
