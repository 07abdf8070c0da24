import math

import numpy as np
import pytest

from stochdeconv.statistics.exact_sums import ExactSum


def _wild(rng, shape):
    """Numbers over thirty orders of magnitude that nearly cancel."""
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-15, 15, shape)
    return np.concatenate([values, -values * (1 + 1e-9)])


def _sum(terms) -> ExactSum:
    total = ExactSum(terms.shape[1:])
    for term in terms:
        total.add(term)
    return total


def test_exact_sums_do_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    terms = _wild(rng, (300, 50))
    expected = [math.fsum(column) for column in terms.T]
    assert not np.array_equal(terms.sum(axis=0), terms[::-1].sum(axis=0))
    for _ in range(5):
        np.testing.assert_array_equal(_sum(rng.permutation(terms)).value, expected)


def test_exact_sums_do_not_depend_on_the_split():
    rng = np.random.default_rng(1)
    terms = rng.permutation(_wild(rng, (100, 40)))
    expected = [math.fsum(column) for column in terms.T]
    for n_parts in (2, 3, 7):
        joined = ExactSum((40,))
        for part in range(n_parts):
            partial = _sum(terms[part::n_parts])
            joined.merge(partial.high, partial.low)
        np.testing.assert_array_equal(joined.value, expected)


def test_exact_sums_of_any_shape():
    rng = np.random.default_rng(2)
    terms = rng.standard_normal((3, 90, 100)).astype(np.float32)
    np.testing.assert_allclose(_sum(terms).value, terms.sum(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(_sum(terms[:, :, ::2]).value, terms[:, :, ::2].sum(axis=0, dtype=np.float64), rtol=1e-12)
    with pytest.raises(ValueError, match="shape"):
        ExactSum((90, 100)).add(terms[0, 0])
