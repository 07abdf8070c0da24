"""Places and patches: where positions look, what lies around them, pictures cut and put together."""

import tracemalloc

import numpy as np
import pytest

from stochdeconv.sampling.overlaps import Overlaps
from stochdeconv.statistics.patches import PATCH, inside, level_sizes, patch_starts, patches, pyramid, starts_about
from stochdeconv.statistics.places import Grid, PlaceEncoder


@pytest.mark.parametrize(
    ("n_positions", "n_pixels", "step", "first"),
    [
        (27, 224, 8, 7.5),
        (109, 224, 2, 3.5),
        (13, 224, 16, 15.5),
        (28, 224, 8, 3.5),
        (16, 224, 14, 6.5),
        (12, 48, 4, 1.5),
        (17, 100, 6, 1.5),
        (31, 96, 3, 2.5),
        (30, 240, 8, 3.5),
        (7, 240, 32, 23.5),
    ],
)
def test_positions_lie_about_the_middle_a_stride_apart(n_positions, n_pixels, step, first):
    grid = Grid.of((n_positions, n_positions), (n_pixels, n_pixels))
    assert grid.step == (step, step) and grid.first == (first, first)
    centers = grid.centers(0)
    np.testing.assert_allclose(centers + centers[::-1], n_pixels - 1)
    np.testing.assert_array_equal(grid.nearest(centers + 0.4 * step, 1), np.arange(n_positions))
    assert grid.nearest(np.array([-100.0, 10_000.0]), 0).tolist() == [0, n_positions - 1]


def test_points_a_step_apart_get_positions_that_follow_each_other():
    grid = Grid.of((12, 12), (48, 48))
    np.testing.assert_array_equal(grid.nearest(grid.centers(0)[:-1] + grid.step[0] / 2, 0), np.arange(1, 12))


def test_between_positions_all_count_as_much_as_they_are_near():
    grid = Grid.of((6, 13), (48, 224))
    pixels, values = np.linspace(-9, 240, 77), np.random.default_rng(0).normal(size=13)
    expected = np.interp(pixels, grid.centers(1), values)
    np.testing.assert_allclose(grid.shares(pixels, 1) @ values, expected, atol=1e-12)


def test_places_are_numbered_row_by_row():
    grid = Grid.of((6, 12), (48, 48))
    np.testing.assert_array_equal(grid.places(grid.centers(0), grid.centers(1)), np.arange(72).reshape(6, 12))


def test_keys_tell_what_is_around_a_place():
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(6, 5, 7, 4)), rng.normal(size=(6, 5, 7, 3))]
    maps = [values.astype(np.float32) for values in maps]
    encode = PlaceEncoder.fit(maps)
    keys = encode(maps)
    assert keys.shape == (6, 35, 63)
    changed = [values.copy() for values in maps]
    changed[1][2, 1, 3] += 1.0
    differs = np.abs(encode(changed) - keys).max(axis=-1).reshape(6, 5, 7) > 1e-4
    expected = np.zeros((6, 5, 7), bool)
    expected[2, 0:3, 2:5] = True
    np.testing.assert_array_equal(differs, expected)
    # Halfway to whitened: each direction has the root of its own deviation as deviation.
    spread = np.var(keys.reshape(-1, 63), axis=0)
    assert np.all(spread[:-1] > 0.8 * spread[1:])
    assert np.var(keys[..., 0]) / np.var(keys[..., -1]) > 1.5


def test_pictures_shrink_by_averages():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 50, 3)).astype(np.uint8)
    fine, coarse = pyramid(pixels)
    assert fine is pixels
    assert coarse.shape == (2, 48, 25, 3)
    mean = pixels.reshape(2, 48, 2, 25, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(coarse, mean, atol=0.51)


def test_pyramid_an_odd_size_keep_their_places():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 101, 99, 3)).astype(np.uint8)
    coarse = pyramid(pixels)[-1]
    assert coarse.shape == (1, 25, 24, 3)


def test_levels_have_the_sizes_that_are_told():
    for size in ((224, 224), (112, 112), (101, 99), (30, 90), (8, 8)):
        assert level_sizes(size) == [level.shape[1:3] for level in pyramid(np.zeros((1, *size, 1), np.uint8))]


def test_patches_cover_the_image():
    for n_pixels in (24, 47, 48, 224):
        starts = patch_starts(n_pixels, 2)
        assert starts[0] == 0 and starts[-1] == n_pixels - PATCH
        assert np.diff(starts).max() <= PATCH // 2


def test_patches_are_cut_where_it_is_said():
    pictures = np.random.default_rng(0).random((2, 20, 30, 3))
    cut = patches(pictures, np.array([0, 5]), np.array([3, 9, 22]))
    assert cut.shape == (2, 2, 3, 192)
    np.testing.assert_array_equal(cut[1, 1, 2].reshape(8, 8, 3), pictures[1, 5:13, 22:30])
    starts = starts_about(np.array([3.5, 0.0, 11.4, 19.0]), 0)
    np.testing.assert_array_equal(starts, [0, -4, 8, 15])
    np.testing.assert_array_equal(inside(starts, 20), [0, 0, 8, 12])


def test_cutting_patches_copies_no_more_than_them():
    pictures = np.zeros((16, 224, 224, 3), np.uint8)
    starts = np.arange(0, 217, 8)
    tracemalloc.start()
    cut = patches(pictures, starts, starts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * cut.nbytes


def test_overlapping_patches_of_a_picture_are_the_picture():
    picture = np.random.default_rng(0).random((23, 40, 3)).astype(np.float32)
    for stride in (1, 2, 5):
        overlaps = Overlaps((23, 40), patch_starts(23, stride), patch_starts(40, stride, min(stride - 1, 1)))
        np.testing.assert_allclose(overlaps.averaged(overlaps.cut(picture)), picture, atol=1e-6)
