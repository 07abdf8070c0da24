import numpy as np
import pytest
from keras import ops

from stochdeconv import backend, transforms
from stochdeconv.errors import InputError


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(size=(2, 9, 12, 3)).astype(np.float32)


def look(images, matrices, *, interpolation="bilinear"):
    seen = transforms.view(ops.convert_to_tensor(images), ops.convert_to_tensor(matrices), interpolation=interpolation)
    return ops.convert_to_numpy(seen)


def test_jitter_is_a_crop_of_the_reflected_image(images):
    matrices = transforms.draw_views([transforms.jitter(4)], 3, 2, seed=0)[2]
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    for interpolation in ("nearest", "bilinear"):
        seen = look(images, matrices, interpolation=interpolation)
        for i, (dy, dx) in enumerate(matrices[:, :, 2].astype(int)):
            np.testing.assert_allclose(seen[i], padded[i, 4 + dy : 13 + dy, 4 + dx : 16 + dx], atol=1e-6)
    assert np.any(matrices[:, :, 2] != 0)


def test_a_quarter_turn_turns_the_image():
    image = np.random.default_rng(1).uniform(size=(1, 7, 7, 3)).astype(np.float32)
    turn = np.array([[[0, -1, 0], [1, 0, 0]]], np.float32)
    np.testing.assert_allclose(look(image, turn)[0], np.rot90(image[0], -1), atol=1e-5)


def test_scaling_looks_at_less_or_more(images):
    ramp = np.broadcast_to(np.arange(11, dtype=np.float32)[None, None, :, None], (1, 5, 11, 1)).copy()
    half = np.array([[[0.5, 0, 0], [0, 0.5, 0]]], np.float32)
    np.testing.assert_allclose(look(ramp, half)[0, 2, :, 0], 5 + 0.5 * (np.arange(11) - 5), atol=1e-5)


def test_views_depend_on_seed_and_index_alone():
    parts = [transforms.jitter(8), transforms.Transform(scale=0.1, rotate=5)]
    whole = transforms.draw_views(parts, 6, 5, seed=3)
    np.testing.assert_array_equal(transforms.draw_views(parts, 6, 2, seed=3, first_index=2), whole[:, 2:4])
    assert not np.array_equal(whole, transforms.draw_views(parts, 6, 5, seed=4))
    assert not np.array_equal(whole[:, 0], whole[:, 1])


def test_composition_applies_transforms_in_order():
    y, x = np.mgrid[:40, :40] / 6.0
    smooth = np.stack([np.sin(x + y), np.cos(x), np.sin(y)], axis=-1)[None].astype(np.float32)
    first, second = transforms.rotate(60), transforms.jitter(8)
    both = transforms.draw_views([first, second], 1, 1, seed=1)[0]
    rng = np.random.default_rng([1, 0, 1])
    inner, outer = first.draw(rng, 1), second.draw(rng, 1)
    inside = (slice(None), slice(15, 25), slice(15, 25))  # away from the border, which is reflected twice
    seen = look(smooth, both)[inside]
    np.testing.assert_allclose(seen, look(look(smooth, inner), outer)[inside], atol=0.03)
    assert np.abs(seen - look(look(smooth, outer), inner)[inside]).max() > 0.2


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_the_gradient_of_a_view_is_its_adjoint(images, interpolation):
    views = [transforms.Transform(jitter=4, scale=0.2, rotate=20)]
    matrices = transforms.draw_views(views, 1, 2, seed=1)[0]
    weights = np.random.default_rng(2).normal(size=images.shape).astype(np.float32)

    def score(x):
        seen = transforms.view(x, ops.convert_to_tensor(matrices), interpolation=interpolation)
        return ops.sum(ops.multiply(seen, weights)), ()

    gradient = ops.convert_to_numpy(backend.value_and_gradient(score)(ops.convert_to_tensor(images))[1])
    # <A x, w> = <x, A' w> for the linear map A of the view.
    np.testing.assert_allclose(
        np.sum(look(images, matrices, interpolation=interpolation) * weights), np.sum(images * gradient), rtol=1e-3
    )


def test_the_nearest_pixel_is_looked_up_so_that_nothing_is_smoothed(images):
    matrices = transforms.draw_views([transforms.Transform(scale=0.2, rotate=20)], 1, 2, seed=1)[0]
    seen = look(images, matrices, interpolation="nearest")
    for of_view, of_image in zip(seen, images, strict=True):
        pixels = {tuple(pixel) for pixel in of_image.reshape(-1, 3)}
        assert {tuple(pixel) for pixel in of_view.reshape(-1, 3)} <= pixels
    smoothed = look(images, matrices, interpolation="bilinear")
    assert np.diff(smoothed, axis=2).std() < 0.9 * np.diff(seen, axis=2).std()


@pytest.mark.parametrize("bad", [{"jitter": -1}, {"scale": 1.0}, {"rotate": -3}])
def test_senseless_settings_are_refused(bad):
    with pytest.raises(InputError, match="at least 0"):
        transforms.Transform(**bad)


def test_pictures_of_more_pixels_than_float32_can_count():
    """Their last pixel has a number that float32 rounds up, to one that is not there."""
    image = np.zeros((1, 4100, 4100, 1), np.float32)
    image[0, -1, -2] = 1.0
    identity = np.array([[[1, 0, 0], [0, 1, 0]]], np.float32)
    seen = ops.convert_to_numpy(transforms.view(ops.convert_to_tensor(image), identity, interpolation="nearest"))
    assert seen[0, -1, -2] == 1 and seen.sum() == 1
