import numpy as np
import pytest
from keras import ops

from stochdeconv import parameterizations
from stochdeconv.errors import InputError
from stochdeconv.images.colors import COLOR_ROOT


def images_of(variables, start=None):
    return ops.convert_to_numpy(variables.images(ops.convert_to_tensor(variables.start() if start is None else start)))


@pytest.mark.parametrize("size", [(16, 16), (15, 22), (17, 9)])
def test_fourier_images_are_numpys_inverse_transform(size):
    variables = parameterizations.fourier(size, n_images=2, seed=1, deviation=0.5)
    start = variables.start()
    height, width = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    scale = np.sqrt(height * width) / (4 * np.maximum(frequency, 1 / max(size)))
    values = np.fft.irfft2((start[:, 0] + 1j * start[:, 1]) * scale, s=size).transpose(0, 2, 3, 1)
    colors = values @ (COLOR_ROOT / np.linalg.norm(COLOR_ROOT, axis=0).max()).T
    np.testing.assert_allclose(images_of(variables), 1 / (1 + np.exp(-colors)), atol=2e-6)


def test_fourier_images_start_near_grey_and_stay_inside():
    variables = parameterizations.fourier((32, 32), n_images=3)
    start = images_of(variables)
    assert 0.001 < start.std() < 0.1 and abs(start.mean() - 0.5) < 0.05
    wild = images_of(variables, 1e3 * variables.start())
    assert wild.min() >= 0 and wild.max() <= 1


@pytest.mark.parametrize("size", [(24, 32), (23, 31)])
def test_fourier_starts_from_given_images(size):
    images = np.random.default_rng(0).uniform(0.05, 0.95, size=(2, *size, 3)).astype(np.float32)
    variables = parameterizations.fourier(size, deviation=0.0, initial_images=images, n_images=2)
    np.testing.assert_allclose(images_of(variables), images, atol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda **settings: parameterizations.fourier((12, 14), **settings),
        lambda **settings: parameterizations.pixels(np.full((12, 14, 3), 0.5), **settings),
    ],
)
def test_a_start_depends_on_seed_and_index_alone(make):
    whole = make(n_images=5, seed=2).start()
    np.testing.assert_array_equal(make(n_images=2, seed=2, first_index=3).start(), whole[3:])
    assert not np.array_equal(whole, make(n_images=5, seed=3).start())
    assert not np.array_equal(whole[0], whole[1])


def test_constraints_act_when_they_are_due():
    image = np.zeros((8, 8, 3), np.float32)
    image[4, 4] = 2.0
    constraints = [parameterizations.GaussianBlur(1.0, every=4), parameterizations.Clip(0.1, 0.9)]
    variables = parameterizations.pixels(image, noise=0.0, constraints=constraints)
    start = ops.convert_to_tensor(variables.start())
    clipped, blurred = (ops.convert_to_numpy(variables.constrained(start, step, start)) for step in (1, 4))
    assert clipped.min() == np.float32(0.1) and clipped.max() == np.float32(0.9)
    assert clipped[0, 4, 5, 0] == np.float32(0.1) and blurred[0, 4, 5, 0] > 0.15


class Shifted(parameterizations.Constraint):
    """Images become those that it holds; of some of the images, theirs."""

    every = 3

    def __init__(self, images):
        self.images = images

    def apply(self, images, gradient):
        assert ops.shape(images) == self.images.shape
        return ops.convert_to_tensor(self.images)

    def take(self, images):
        return Shifted(self.images[images])


def test_constraints_of_fourier_images_act_on_the_images():
    held = np.random.default_rng(0).uniform(0, 1, (3, 12, 14, 3)).astype(np.float32)
    held[0, 0, 0] = 0, 1, 0.5
    variables = parameterizations.fourier((12, 14), constraints=[Shifted(held)], n_images=3)
    start = ops.convert_to_tensor(variables.start())
    np.testing.assert_array_equal(ops.convert_to_numpy(variables.constrained(start, 2, start)), variables.start())
    after = variables.images(variables.constrained(start, 3, start))
    np.testing.assert_allclose(ops.convert_to_numpy(after), held, atol=2.1e-3)
    some = variables.take(slice(1, 3))
    some_start = ops.convert_to_tensor(some.start())
    after = some.images(some.constrained(some_start, 6, some_start))
    np.testing.assert_allclose(ops.convert_to_numpy(after), held[1:], atol=2.1e-3)


@pytest.mark.parametrize(
    "make", [parameterizations.fourier, lambda size, **more: parameterizations.pixels(np.zeros((*size, 3)), **more)]
)
def test_what_is_no_constraint_is_refused(make):
    with pytest.raises(InputError, match=r"a constraint is a parameterizations\.Constraint.*got 3"):
        make((8, 8), constraints=[3])


def test_small_contributions_are_those_of_pixels():
    with pytest.raises(InputError, match="use pixels"):
        parameterizations.fourier((8, 8), constraints=[parameterizations.ClipSmallContributions(50.0, np.zeros(3))])


def test_blur_keeps_a_flat_image_flat_up_to_the_border():
    flat = np.full((1, 9, 10, 3), 0.7, np.float32)
    blurred = ops.convert_to_numpy(parameterizations.GaussianBlur(1.5).apply(ops.convert_to_tensor(flat), None))
    np.testing.assert_allclose(blurred, 0.7, rtol=1e-5)


def test_pixels_take_any_shape():
    voxels = parameterizations.pixels(np.zeros((4, 5, 6, 2))[None], noise=0.1, n_images=3)
    assert voxels.start().shape == (3, 4, 5, 6, 2)


def test_senseless_sizes_are_refused():
    with pytest.raises(InputError, match="2x2"):
        parameterizations.fourier((1, 8))
    with pytest.raises(InputError, match="shape"):
        parameterizations.fourier((8, 8), initial_images=np.zeros((1, 9, 8, 3)))
    with pytest.raises(InputError, match="seed"):
        parameterizations.fourier((8, 8), seed=-1)


def test_pixels_that_matter_little_are_reset():
    """Contributions of 0.6, 0.2, 0.4 and 0: by the sum over channels, of the distance from the origin times the gradient."""
    origin = np.array([0.5, 0.5, 0.5], np.float32)
    images = np.array([[[[0.8, 0.5, 0.2], [0.6, 0.5, 0.5]], [[0.5, 0.9, 0.5], [0.9, 0.1, 0.5]]]], np.float32)
    gradient = np.array([[[[1.0, 9.0, -1.0], [-2.0, 1.0, 1.0]], [[7.0, -1.0, 3.0], [1.0, 1.0, 1.0]]]], np.float32)
    half = parameterizations.ClipSmallContributions(50, origin)
    kept = ops.convert_to_numpy(half.apply(ops.convert_to_tensor(images), ops.convert_to_tensor(gradient)))
    np.testing.assert_array_equal(kept[0, :, 0], images[0, :, 0])
    np.testing.assert_array_equal(kept[0, :, 1], np.broadcast_to(origin, (2, 3)))
    none = parameterizations.ClipSmallContributions(0, origin)
    np.testing.assert_array_equal(none.apply(ops.convert_to_tensor(images), ops.convert_to_tensor(gradient)), images)
