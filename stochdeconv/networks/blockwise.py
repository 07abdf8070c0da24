"""Convolutions with strides that see few channels, computed block by block: the same sums, several times as fast to differentiate."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from stochdeconv.networks.operations import calls_as

Tensor = Any

# What a block of pixels has to offer, the convolution has not by itself: channels enough to fill a vector register.
_MAX_CHANNELS = 4


def gains_from_blocks(layer: Any) -> bool:
    """Tell whether a layer is a convolution that is faster over blocks: most networks that begin with one begin with such a one."""
    return (
        calls_as(layer, keras.layers.Conv2D)
        and layer.strides[0] == layer.strides[1] > 1
        and max(layer.dilation_rate) == 1
        and layer.groups == 1
        and layer.data_format == "channels_last"
        and layer.padding in ("valid", "same")
        and layer.kernel.shape[2] <= _MAX_CHANNELS
    )


class BlockwiseConvolution:
    """A convolution of stride s as one of stride 1 over blocks of s × s pixels, whose pixels become channels ("space to depth").

    The gradient with respect to an image of three channels is otherwise what a step of SqueezeNet spends a third of its time on. The sums
    are the same but for the order they are added up in.

    Parameters
    ----------
    convolution : keras.layers.Conv2D
        Built, see `gains_from_blocks`.
    """

    def __init__(self, convolution: keras.layers.Conv2D):
        self._convolution = convolution
        kernel = ops.convert_to_numpy(ops.cast(convolution.kernel, "float32"))
        self._size, self._stride = kernel.shape[:2], convolution.strides[0]
        rows, columns = (math.ceil(side / self._stride) for side in self._size)
        filled = np.zeros((rows * self._stride, columns * self._stride, *kernel.shape[2:]), np.float32)
        filled[: kernel.shape[0], : kernel.shape[1]] = kernel
        blocks = filled.reshape(rows, self._stride, columns, self._stride, *kernel.shape[2:])
        blocks = blocks.transpose(0, 2, 1, 3, 4, 5).reshape(rows, columns, -1, kernel.shape[-1])
        self._kernel = ops.convert_to_tensor(blocks, dtype=convolution.compute_dtype)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Convolve (image, height, width, channel), as the convolution itself does."""
        (top, bottom), (left, right) = (
            self._margins(inputs.shape[1 + axis], self._size[axis], self._kernel.shape[axis]) for axis in range(2)
        )
        values = inputs[:, : inputs.shape[1] + min(bottom, 0), : inputs.shape[2] + min(right, 0)]
        values = ops.pad(values, ((0, 0), (top, max(bottom, 0)), (left, max(right, 0)), (0, 0)))
        _, height, width, n_channels = values.shape
        stride = self._stride
        # Pixels of a row lie beside each other already: one transposition of long pieces.
        blocks = ops.reshape(values, (-1, height // stride, stride, width // stride, stride * n_channels))
        blocks = ops.reshape(
            ops.transpose(blocks, (0, 1, 3, 2, 4)), (-1, height // stride, width // stride, stride**2 * n_channels)
        )
        convolution = self._convolution
        result = ops.conv(blocks, self._kernel, strides=1, padding="valid", data_format="channels_last")
        if convolution.use_bias:
            result = result + ops.cast(convolution.bias, result.dtype)
        return result if convolution.activation is None else convolution.activation(result)

    def _margins(self, length: int, size: int, n_blocks: int) -> tuple[int, int]:
        """Pixels to add before an axis and after it, or to leave out there, so that blocks end where the last kernel does."""
        if self._convolution.padding == "same":
            n_places = math.ceil(length / self._stride)
            before = max((n_places - 1) * self._stride + size - length, 0) // 2
        else:
            n_places, before = (length - size) // self._stride + 1, 0
        return before, self._stride * (n_places + n_blocks - 1) - length - before
