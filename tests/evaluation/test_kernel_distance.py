"""KID against its definition, pair by pair."""

import numpy as np
import pytest

from stochdeconv.evaluation.kernel_distance import cubic_kernel, kernel_distance

NOT_REAL = -1


def kid_by_loops(features, real, rows, same):
    """The unbiased estimate from its definition; ``rows`` may name an image several times."""
    d = features.shape[1]

    def kernel(x, y):
        return (x @ y / d + 1) ** 3

    own = [kernel(features[i], features[j]) for i in rows for j in rows if i != j]
    among = [kernel(real[i], real[j]) for i in range(len(real)) for j in range(len(real)) if i != j]
    across = [np.mean([kernel(features[i], real[j]) for j in range(len(real)) if j != same[i]]) for i in rows]
    return np.mean(own) + np.mean(among) - 2 * np.mean(across)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(0.5, 1.2, size=(5, 7)), rng.normal(size=(11, 7))


def test_kernel_is_cubic():
    x, y = np.array([[1.0, 2.0]]), np.array([[3.0, 1.0]])
    assert cubic_kernel(x, y)[0, 0] == pytest.approx((5 / 2 + 1) ** 3)


def test_value_follows_the_definition(data):
    features, real = data
    same = np.full(5, NOT_REAL)
    value = kernel_distance(features, real, same=same)(np.ones((1, 5)))[0]
    assert value == pytest.approx(kid_by_loops(features, real, range(5), same))


def test_bootstrap_draw_leaves_pairs_of_copies_out(data):
    features, real = data
    same = np.full(5, NOT_REAL)
    value = kernel_distance(features, real, same=same)(np.array([[2, 0, 1, 0, 2]]))[0]
    assert value == pytest.approx(kid_by_loops(features, real, [0, 0, 2, 4, 4], same))


def test_a_real_photograph_is_not_compared_with_itself(data):
    _, real = data
    chosen = np.array([3, 0, 7])
    value = kernel_distance(real[chosen], real, same=chosen)(np.ones((1, 3)))[0]
    assert value == pytest.approx(kid_by_loops(real[chosen], real, range(3), chosen))
    assert value > kernel_distance(real[chosen], real, same=np.full(3, NOT_REAL))(np.ones((1, 3)))[0]


def test_unbiased_for_samples_of_the_real_distribution():
    rng = np.random.default_rng(1)
    values = []
    for _ in range(300):
        real = rng.normal(size=(12, 4))
        same = np.full(4, NOT_REAL)
        values.append(kernel_distance(rng.normal(size=(4, 4)), real, same=same)(np.ones((1, 4)))[0])
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0


def test_without_pairs_there_is_no_figure(data):
    features, real = data
    assert np.isnan(kernel_distance(features[:1], real, same=np.array([-1]))(np.ones((1, 1)))[0])
    assert np.isnan(kernel_distance(features[:2], real, same=np.array([-1, -1]))(np.array([[2, 0]]))[0])
    assert np.isnan(kernel_distance(features, real[:1], same=np.full(5, -1))(np.ones((1, 5)))[0])
