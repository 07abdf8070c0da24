"""Peaks of class activation maps that were drawn by hand."""

import numpy as np
import pytest

from stochdeconv.evaluation.objects import class_activation_maps, count_peaks, peak_threshold


def blobs(*centres, side=20, width=1.5, height=1.0):
    y, x = np.mgrid[:side, :side]
    return sum(height * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2)) for cy, cx in centres)


def test_one_object_one_peak_and_three_objects_three():
    maps = np.stack([blobs((10, 10)), blobs((3, 3), (3, 16), (16, 10)), np.zeros((20, 20))])
    assert count_peaks(maps, threshold=0.5).tolist() == [1, 3, 0]


def test_peaks_nearer_than_a_fifth_of_the_side_are_one_object():
    apart = [count_peaks(blobs((10, 5), (10, 5 + gap), width=0.5)[None], threshold=0.5)[0] for gap in (3, 4)]
    assert apart == [1, 2]  # a fifth of 20


def test_weak_peaks_do_not_count():
    assert count_peaks((blobs((4, 4)) + blobs((15, 15), height=0.45))[None], threshold=0.5)[0] == 1


def test_a_plateau_and_the_border_count_once():
    flat = np.zeros((1, 6, 6))
    flat[0, 0, :2] = 1.0
    assert count_peaks(flat, threshold=0.5)[0] == 1


def test_threshold_is_half_the_median_maximum():
    maps = np.stack([blobs((5, 5), height=height) for height in (1.0, 2.0, 10.0)])
    assert peak_threshold(maps) == pytest.approx(1.0)
    assert np.isnan(peak_threshold(-maps))
    assert np.isnan(count_peaks(maps, threshold=np.nan)).all()


def test_class_activation_map_is_the_weighted_sum_of_channels():
    feature_maps = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    weights = np.arange(5.0)
    expected = sum(weights[c] * feature_maps[..., c] for c in range(5))
    np.testing.assert_allclose(class_activation_maps(feature_maps, weights), expected)
