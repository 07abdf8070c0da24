"""The marks, on figures just above and just below them."""

import pytest

from stochdeconv.evaluation.figures import FIGURE_KEYS
from stochdeconv.evaluation.marks import judge_marks


def figures(**values):
    return {key: {"value": values.get(key), "low": None, "high": None} for key in FIGURE_KEYS}


REAL = figures(
    judge_top1=0.5, judge_top5=0.9, coverage=0.2, pairwise_distance=10.0, vendi=4.0, nearest_train_distance=10.0,
    cam_peaks=2.0, spectrum_slope=-1.2, gradient_kurtosis=10.0, color_distance=0.3,
)  # fmt: skip
BASELINES = [
    figures(kid=3.0, spectrum_slope=-2.0, gradient_kurtosis=0.0, color_distance=0.7),
    figures(kid=30.0, spectrum_slope=-0.2, gradient_kurtosis=90.0, color_distance=0.5),
]


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("judge_top1", 0.4, 0.39),
        ("judge_top5", 0.73, 0.71),
        ("kid", 0.12, 0.121),
        ("coverage", 0.061, 0.059),
        ("pairwise_distance", 11.0, 11.1),
        ("pairwise_distance", 8.0, 7.9),
        ("vendi", 4.39, 4.41),
        ("nearest_train_distance", 9.0, 8.9),
        ("cam_peaks", 2.6, 2.7),
        ("cam_peaks", 1.5, 1.3),
        ("spectrum_slope", -0.5, -2.1),  # the best baseline misses by 0.8
        ("gradient_kurtosis", 19.0, 21.0),
        ("color_distance", 0.49, 0.51),
        ("largest_share", 0.12, 0.13),
        ("largest_piece", 0.03, 0.031),
    ],
)
def test_mark(key, good, bad):
    for value, met in ((good, True), (bad, False)):
        assert judge_marks(figures(**{key: value}), real=REAL, baselines=BASELINES)[key].met is met


def test_a_tie_at_zero_coverage_is_a_miss():
    real = figures(coverage=0.0)
    assert judge_marks(figures(coverage=0.0), real=real, baselines=[])["coverage"].met is False
    assert judge_marks(figures(coverage=0.0), real=figures(), baselines=[])["coverage"].met is False


def test_unknown_figures_leave_the_mark_open():
    marks = judge_marks(figures(), real=figures(), baselines=[])
    assert {mark.met for mark in marks.values()} == {None}
    assert judge_marks(figures(kid=1.0), real=REAL, baselines=[])["kid"].met is None
