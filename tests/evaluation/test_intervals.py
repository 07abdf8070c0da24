"""Intervals: known widths, no copies among halves, classes as clusters, and nothing where nothing can be said."""

import numpy as np
import pytest

from stochdeconv.evaluation.intervals import (
    N_REPLICATES,
    Estimate,
    average,
    bootstrap,
    draw_halves,
    draw_with_replacement,
    interval,
    mean_of,
    median_of,
    subsample,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_bootstrap_of_a_mean_has_the_width_statistics_expects():
    values = rng().normal(3.0, 2.0, size=100)
    figure = interval(bootstrap(mean_of(values), 100, seed=(1,)))
    assert figure["value"] == pytest.approx(values.mean())
    expected = 2 * 1.96 * values.std() / np.sqrt(100)
    assert figure["high"] - figure["low"] == pytest.approx(expected, rel=0.12)
    assert figure["low"] < figure["value"] < figure["high"]


def test_same_seed_same_interval():
    values = rng().normal(size=20)
    first, again, other = (interval(bootstrap(mean_of(values), 20, seed=(seed,))) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_draws_hold_every_image_once_or_leave_half_out():
    counts = draw_with_replacement(9, rng=rng())
    assert (counts.sum(axis=1) == 9).all()
    assert counts.max() > 1
    halves = draw_halves(9, rng=rng())
    assert (halves.sum(axis=1) == 4).all()
    assert halves.max() == 1
    # Every image is in about 4/9 of the halves: none is favoured.
    np.testing.assert_allclose(halves.mean(axis=0), 4 / 9, atol=0.06)


def test_subsampling_of_a_mean_gives_the_bootstrap_width():
    # The scaling from half to full size is right exactly where both methods apply: for a mean.
    values = 10 + rng(1).normal(size=60)
    by_halves = interval(subsample(mean_of(values), 60, seed=(1,)))
    by_draws = interval(bootstrap(mean_of(values), 60, seed=(1,)))
    assert by_halves["high"] - by_halves["low"] == pytest.approx(by_draws["high"] - by_draws["low"], rel=0.15)


def test_subsampling_centres_a_figure_that_grows_with_the_number_of_images():
    def n_different(counts):
        return (counts > 0).sum(axis=1).astype(float)

    figure = interval(subsample(n_different, 10, seed=(1,)))
    assert figure == {"value": 10.0, "low": 10.0, "high": 10.0}  # bootstrap would say 5 to 8


def test_subsampled_interval_stays_in_the_figures_range():
    values = np.array([1.0, 1.0, 1.0, 0.0])
    figure = interval(subsample(mean_of(values), 4, seed=(1,), highest=0.8))
    assert figure["high"] <= 0.8
    zero = interval(subsample(mean_of(np.zeros(8)), 8, seed=(1,)))
    assert zero == {"value": 0.0, "low": 0.0, "high": 0.0}


@pytest.mark.parametrize("estimate", [bootstrap, subsample])
def test_one_image_has_a_value_and_no_interval_none_has_nothing(estimate):
    assert interval(estimate(mean_of(np.array([2.0])), 1, seed=(1,))) == {"value": 2.0, "low": None, "high": None}
    assert interval(estimate(mean_of(np.array([])), 0, seed=(1,))) == {"value": None, "low": None, "high": None}


def test_average_over_classes_is_clustered():
    # Two classes, each without any spread inside: all uncertainty lies between the classes.
    low, high = (Estimate(value, np.full(N_REPLICATES, value)) for value in (0.0, 1.0))
    figure = interval(average([low, high], seed=(1,)))
    assert figure == {"value": 0.5, "low": 0.0, "high": 1.0}


def test_average_leaves_classes_without_the_figure_out():
    defined = Estimate(2.0, np.full(N_REPLICATES, 2.0))
    undefined = Estimate(np.nan, np.full(N_REPLICATES, np.nan))
    assert interval(average([defined, undefined], seed=(1,)))["value"] == 2.0
    assert interval(average([undefined], seed=(1,)))["value"] is None


def test_draws_without_a_figure_are_left_out():
    replicates = np.linspace(0, 1, N_REPLICATES)
    replicates[: N_REPLICATES // 4] = np.nan
    assert interval(Estimate(0.5, replicates))["low"] > 0.25
    replicates[: 3 * N_REPLICATES // 4] = np.nan
    assert interval(Estimate(0.5, replicates)) == {"value": 0.5, "low": None, "high": None}


def test_mean_and_median_agree_with_repeating_the_images():
    values = np.array([3.0, np.nan, 1.0, 10.0, 4.0])
    counts = draw_with_replacement(5, rng=rng(2))[:50]
    for figure, oracle in ((mean_of(values), np.nanmean), (median_of(values), np.nanmedian)):
        expected = [oracle(np.repeat(values, row)) if row[[0, 2, 3, 4]].any() else np.nan for row in counts]
        np.testing.assert_allclose(figure(counts), expected)


def test_all_unknown_is_unknown():
    for figure in (mean_of, median_of):
        assert np.isnan(figure(np.array([np.nan, np.nan]))(np.ones((1, 2)))).all()
