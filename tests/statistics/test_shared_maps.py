import numpy as np
import pytest
from keras import backend, ops

from stochdeconv.statistics.pooling import pooled_map
from stochdeconv.statistics.shared_maps import SharedMap


@pytest.fixture
def maps():
    return np.random.default_rng(0).normal(size=(2, 6, 5, 4)).astype(np.float32)


@pytest.fixture
def directions():
    return np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0][:, :2].astype(np.float32)


def test_a_map_along_directions(maps, directions):
    shared = SharedMap(ops.convert_to_tensor(maps))
    along = ops.convert_to_numpy(shared.along(ops.convert_to_tensor(directions)))
    np.testing.assert_allclose(along, maps @ directions, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(ops.convert_to_numpy(shared.along(None)), maps)


def test_pooling_and_directions_go_together(maps, directions):
    shared = SharedMap(ops.convert_to_tensor(maps))
    pooled = ops.convert_to_numpy(shared.pooled((3, 5), ops.convert_to_tensor(directions)))
    np.testing.assert_allclose(pooled, ops.convert_to_numpy(pooled_map(maps @ directions, (3, 5))), atol=1e-6)
    np.testing.assert_allclose(
        ops.convert_to_numpy(shared.pooled((3, 5))), ops.convert_to_numpy(pooled_map(maps, (3, 5))), atol=1e-6
    )


def test_what_is_asked_again_is_the_same_tensor_and_only_then(maps, directions):
    shared = SharedMap(ops.convert_to_tensor(maps))
    one, other = ops.convert_to_tensor(directions), ops.convert_to_tensor(-directions)
    assert shared.along(one) is shared.along(one) is not shared.along(other)
    assert shared.pooled((2, 2), one) is shared.pooled((2, 2), one) is not shared.pooled((2, 2))
    np.testing.assert_allclose(ops.convert_to_numpy(shared.along(one)), -ops.convert_to_numpy(shared.along(other)))


def test_rough_maps_become_float32(maps, directions):
    shared = SharedMap(ops.cast(ops.convert_to_tensor(maps), "bfloat16"))
    for values in (shared.along(None), shared.along(ops.convert_to_tensor(directions)), shared.pooled((2, 2))):
        assert backend.standardize_dtype(values.dtype) == "float32"


def test_a_layer_without_places(directions):
    rows = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
    shared = SharedMap(ops.convert_to_tensor(rows))
    pooled = ops.convert_to_numpy(shared.pooled((1, 1), ops.convert_to_tensor(directions)))
    np.testing.assert_allclose(pooled[:, 0, 0], rows @ directions, rtol=1e-4, atol=1e-6)
