import numpy as np
import pytest
from keras import ops

from stochdeconv.statistics.pooling import pooled_map, pooling_matrix


def test_pooling_keeps_the_mean_and_shares_what_lies_on_an_edge():
    np.testing.assert_allclose(pooling_matrix(5, 2), np.array([[2, 2, 1, 0, 0], [0, 0, 1, 2, 2]]) / 5, rtol=1e-6)
    np.testing.assert_allclose(pooling_matrix(55, 14).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(pooling_matrix(55, 14).sum(axis=0), 14 / 55, rtol=1e-5)


@pytest.mark.parametrize("cells", [(2, 3), (4, 6), (3, 6), (4, 4)])
def test_a_cell_is_the_mean_of_its_places_by_their_share(cells):
    maps = np.random.default_rng(0).normal(size=(2, 4, 6, 5)).astype(np.float32)
    expected = np.einsum("ph,qw,nhwc->npqc", pooling_matrix(4, cells[0]), pooling_matrix(6, cells[1]), maps)
    np.testing.assert_allclose(ops.convert_to_numpy(pooled_map(maps, cells)), expected, rtol=1e-4, atol=1e-6)


def test_a_vector_is_a_map_of_one_place():
    assert pooled_map(np.ones((3, 7), np.float32), (1, 1)).shape == (3, 1, 1, 7)
