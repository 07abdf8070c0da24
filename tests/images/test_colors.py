"""How light a colour is: the same for whoever asks, in arrays or tensors."""

import numpy as np
import pytest
from keras import ops

from stochdeconv.images import colors

PRIMARIES = np.eye(3)[None, :2]  # red and green


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_luminance_is_that_of_bt_601(dtype):
    light = colors.luminance(PRIMARIES.astype(dtype))
    np.testing.assert_allclose(light, [[0.299, 0.587]], rtol=1e-6)
    assert light.dtype == (np.float64 if dtype == np.float64 else np.float32)


def test_luminance_of_tensors_is_that_of_arrays():
    images = np.random.default_rng(0).uniform(size=(2, 4, 5, 3)).astype(np.float32)
    light = ops.convert_to_numpy(colors.luminance(ops.convert_to_tensor(images)))
    np.testing.assert_allclose(light, colors.luminance(images), rtol=1e-6)


def test_grey_is_its_own_luminance():
    grey = np.array([[[0.25], [0.5]]], np.float32)
    np.testing.assert_array_equal(colors.luminance(grey), [[0.25, 0.5]])
