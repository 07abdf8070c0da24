import numpy as np
import pytest
from toys import picture

from stochdeconv.images.colors import COLOR_ROOT
from stochdeconv.methods.zooming import Colors, moved


def test_colours_are_given_to_another_picture():
    target = Colors.of(picture())
    loud = np.random.default_rng(0).uniform(0, 1, (64, 64, 3)).astype(np.float32)
    actual = Colors.of(target.given_to(loud))
    np.testing.assert_allclose(actual.mean, target.mean, atol=0.01)
    np.testing.assert_allclose(actual.covariance, target.covariance, atol=0.004)
    # What has them already stays as it is.
    np.testing.assert_allclose(target.given_to(picture()), picture(), atol=1e-5)


def test_contrast_is_never_raised():
    dull = (0.5 + 0.1 * (picture() - picture().mean())).astype(np.float32)
    actual = Colors.of(Colors.of(picture()).given_to(dull))
    assert np.trace(actual.covariance) == pytest.approx(np.trace(Colors.of(dull).covariance), rel=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_flat_pictures_have_no_colours_to_keep(value):
    flat = np.full((8, 8, 3), value, np.float32)
    kept = Colors.to_keep_of(flat)
    np.testing.assert_allclose(kept.covariance, COLOR_ROOT @ COLOR_ROOT.T)
    np.testing.assert_allclose(kept.given_to(flat), flat, atol=1e-6)
    np.testing.assert_array_equal(Colors.to_keep_of(picture()).covariance, Colors.of(picture()).covariance)


def test_a_grey_photograph_gives_grey():
    grey = picture().mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    passed = Colors.of(grey).given_to(picture())
    assert (passed.max(axis=-1) - passed.min(axis=-1)).max() < 0.02


@pytest.mark.parametrize(("rotate", "where"), [(0, "right"), (90, "above"), (-90, "below")])
def test_frames_turn_counterclockwise_and_grow(rotate, where):
    """A mark right of the middle; rows count downwards."""
    picture = np.zeros((41, 41, 3), np.float32)
    picture[19:22, 28:31] = 1
    seen = moved(picture, zoom=0.2, rotate=rotate)[..., 0]
    y, x = (float((seen * axis).sum() / seen.sum()) - 20 for axis in np.mgrid[:41, :41])
    expected = {"right": (0, 9 / 0.8), "above": (-9 / 0.8, 0), "below": (9 / 0.8, 0)}[where]
    assert (y, x) == pytest.approx(expected, abs=0.6)
