import numpy as np
import pytest

from stochdeconv.statistics.directions import covariance, leading_directions


def within(variances, seed=0):
    """A covariance of given variances along random orthonormal axes, and the axes."""
    axes = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(variances), len(variances))))[0]
    return axes @ np.diag(variances) @ axes.T, axes


def test_directions_are_the_leading_principal_axes():
    variances = np.where(np.arange(64) < 8, 10.0, 0.01)
    matrix, axes = within(variances)
    directions = leading_directions([matrix])
    assert directions.shape == (64, 8) and directions.dtype == np.float32
    np.testing.assert_allclose(directions.T @ directions, np.eye(8), atol=1e-5)
    # The same subspace: the product of both bases is a rotation.
    np.testing.assert_allclose(np.linalg.svd(axes[:, :8].T @ directions)[1], 1.0, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_every_covariance_is_held_whatever_its_unit(scale):
    one = np.zeros((64, 64))
    one[:8, :8] = np.eye(8)
    other = np.zeros((64, 64))
    other[30:38, 30:38] = scale * np.eye(8)
    directions = leading_directions([one, other])
    assert directions.shape == (64, 16)
    for matrix in (one, other):
        kept = directions.T @ matrix @ directions
        assert np.sum(kept**2) >= 0.95 * np.sum(matrix**2)


def test_no_more_directions_than_are_needed():
    matrix, _ = within(1.0 / np.arange(1, 129) ** 2)
    directions = leading_directions([matrix])
    # 1 + 1/16 + 1/81 + … : the first two hold 0.98 of the squares, and eight are the least.
    assert directions.shape == (128, 8)


@pytest.mark.parametrize("covariances", [[], [np.zeros((64, 64))], [np.eye(8)], [np.eye(64)]])
def test_all_channels_where_directions_save_nothing(covariances):
    assert leading_directions(covariances) is None


def test_covariance_of_rows():
    rows = np.random.default_rng(0).normal(size=(7, 5))
    np.testing.assert_allclose(covariance(rows), np.cov(rows, rowvar=False, ddof=0))
    np.testing.assert_array_equal(covariance(rows[:1]), np.zeros((5, 5)))
