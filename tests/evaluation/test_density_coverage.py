"""Density and coverage against Naeem's formulas, written out."""

import numpy as np
import pytest

from stochdeconv.evaluation.density_coverage import coverage, density, inside_radii, neighbour_radii


@pytest.fixture
def real():
    return np.random.default_rng(0).normal(size=(30, 3))


def by_loops(images, real, k=5):
    radii = [
        sorted(np.linalg.norm(real - photograph, axis=1))[k] for photograph in real
    ]  # rank 0 is the photograph itself
    inside = np.array([[np.linalg.norm(x - y) <= r for y, r in zip(real, radii, strict=True)] for x in images])
    return inside.sum() / (k * len(images)), inside.any(axis=0).mean()


def figures(images, real, same=None, counts=None):
    within = inside_radii(images, real, same=np.full(len(images), -1) if same is None else same)
    counts = np.ones((1, len(images))) if counts is None else counts
    return density(within)(counts)[0], coverage(within)(counts)[0]


def test_follow_the_definition(real):
    images = np.random.default_rng(1).normal(0.3, 1.1, size=(8, 3))
    assert figures(images, real) == pytest.approx(by_loops(images, real))


def test_draws_count_copies_in_density_and_not_in_coverage(real):
    images = np.random.default_rng(1).normal(size=(4, 3))
    counts = np.array([[3, 1, 0, 0]])
    assert figures(images, real, counts=counts) == pytest.approx(by_loops(images[[0, 0, 0, 1]], real))


def test_radius_leaves_the_photograph_itself_out():
    line = np.arange(7.0)[:, None]
    assert neighbour_radii(line).tolist() == [5, 4, 3, 3, 3, 4, 5]


def test_far_away_is_nothing(real):
    assert figures(real[:3] + 1000, real) == (0, 0)


def test_photographs_do_not_cover_themselves(real):
    chosen = np.array([4, 9])
    _, own = figures(real[chosen], real, same=chosen)
    _, naive = figures(real[chosen], real)
    near = np.linalg.norm(real[4] - real[9]) <= neighbour_radii(real)[chosen]
    assert naive - own == pytest.approx((2 - near.sum()) / len(real))


def test_real_draws_have_density_one():
    rng = np.random.default_rng(2)
    values = [figures(rng.normal(size=(20, 2)), rng.normal(size=(200, 2)))[0] for _ in range(40)]
    assert np.mean(values) == pytest.approx(1, abs=0.08)
