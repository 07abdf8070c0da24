"""Variety on sets whose variety is known."""

import tracemalloc

import numpy as np
import pytest

from stochdeconv.evaluation.intervals import draw_halves
from stochdeconv.evaluation.variety import median_distance, nearest_photographs, pairwise_distance, vendi


def test_pairwise_distance_counts_pairs_of_different_images():
    corners = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    figure = pairwise_distance(corners)
    values = figure(np.array([[1, 1, 1], [2, 1, 0], [3, 0, 0]]))
    assert values[:2] == pytest.approx([4.0, 3.0])  # (3 + 4 + 5) / 3; copies of the first image are no pair
    assert np.isnan(values[2])


def test_vendi_of_copies_of_strangers_and_of_two_groups():
    def score(features, length_scale=1.0):
        return vendi(features, length_scale=length_scale)(np.ones((1, len(features))))[0]

    strangers = 1000 * np.eye(6)
    assert score(np.zeros((6, 4))) == pytest.approx(1)
    assert score(strangers) == pytest.approx(6)
    assert score(np.repeat(strangers[:2], 3, axis=0)) == pytest.approx(2)


def test_vendi_follows_the_entropy_of_two_images():
    # Two images with similarity s: eigenvalues (1 ± s) / 2.
    similarity = np.exp(-(3.0**2) / (2 * 2.0**2))
    p = np.array([1 + similarity, 1 - similarity]) / 2
    value = vendi(np.array([[0.0], [3.0]]), length_scale=2.0)(np.ones((1, 2)))[0]
    assert value == pytest.approx(np.exp(-(p * np.log(p)).sum()))


def test_vendi_of_a_half_is_that_of_its_images():
    features = np.random.default_rng(0).normal(size=(8, 3))
    halves = draw_halves(8, rng=np.random.default_rng(1))[:20]
    values = vendi(features, length_scale=1.5)(halves)
    alone = [vendi(features[row > 0], length_scale=1.5)(np.ones((1, 4)))[0] for row in halves]
    np.testing.assert_allclose(values, alone)


def test_vendi_of_many_halves_needs_the_memory_of_one():
    features = np.random.default_rng(0).normal(size=(64, 3))
    figure = vendi(features, length_scale=1.0)
    halves = draw_halves(64, rng=np.random.default_rng(1))
    tracemalloc.start()
    figure(halves)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.1 * len(halves) * 32 * 32 * 8


@pytest.mark.parametrize(("n_images", "length_scale"), [(1, 1.0), (4, 0.0), (4, np.nan)])
def test_vendi_without_variety_or_scale_is_undefined(n_images, length_scale):
    assert np.isnan(vendi(np.ones((n_images, 2)), length_scale=length_scale)(np.ones((1, n_images)))).all()


def test_median_distance():
    assert median_distance(np.array([[0.0], [1.0], [3.0]])) == 2
    assert np.isnan(median_distance(np.zeros((1, 3))))


def test_nearest_photograph():
    train = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    distances, rows = nearest_photographs(np.array([[9.0, 0.0], [0.0, 0.0]]), train)
    assert rows.tolist() == [1, 0]
    assert distances == pytest.approx([1, 0])
