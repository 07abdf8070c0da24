"""Maps as pictures."""

import numpy as np

from stochdeconv.images import colormaps, colors

WHITE = np.float32(247 / 255)  # the middle of ColorBrewer's RdBu


def test_pictures_show_direction_and_strength():
    values = np.zeros((20, 20, 3), np.float32)
    values[3, 4] = [1, 0, -1]
    values[8:11] = [0.5, 0.5, 0.5]
    color = colormaps.color_gradient(values)
    np.testing.assert_allclose(color[0, 0], 0.5)
    np.testing.assert_allclose(color[3, 4], [1, 0.5, 0])
    signed = colormaps.signed_heat(np.concatenate([values, -values], axis=1))
    np.testing.assert_allclose(signed[0, 0], WHITE, atol=0.005)
    assert signed[9, 5, 0] > signed[9, 5, 2] and signed[9, 25, 2] > signed[9, 25, 0]
    strong = colormaps.heat(values)
    assert strong[0, 0].max() < 0.02 < 0.5 < strong[9, 5].max()
    assert strong[3, 4].max() > 0.9
    np.testing.assert_allclose(strong, colormaps.heat(-values))


def test_an_empty_map_is_a_calm_picture():
    nothing = np.zeros((4, 4, 3), np.float32)
    np.testing.assert_allclose(colormaps.color_gradient(nothing), 0.5)
    np.testing.assert_allclose(colormaps.signed_heat(nothing), np.broadcast_to(WHITE, (4, 4, 3)), atol=0.005)
    assert np.isfinite(colormaps.overlay(nothing[..., 0], nothing)).all()


def test_few_strong_pixels_are_still_seen():
    lone = np.zeros((40, 40, 3), np.float32)
    lone[5, 5] = 1e-3
    np.testing.assert_allclose(colormaps.color_gradient(lone)[5, 5], 1.0)


def test_an_overlay_shows_the_photo_in_its_own_lightness():
    photo = np.zeros((2, 3, 3), np.float32)
    photo[0], photo[1] = [0, 1, 0], [0, 0, 1]
    green, blue = colormaps.overlay(np.zeros((2, 3)), photo)[:, 0]
    np.testing.assert_allclose(green - blue, 0.45 * (colors.LUMINANCE[1] - colors.LUMINANCE[2]), rtol=1e-4)
