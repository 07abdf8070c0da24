import numpy as np
import pytest
from keras import ops

from stochdeconv import regularizers
from stochdeconv.images import measures


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(size=(2, 12, 17, 3)).astype(np.float32)


def value(term, values):
    return ops.convert_to_numpy(term({term.layer: ops.convert_to_tensor(values)}))


def test_total_variation_is_the_mean_squared_difference_of_neighbours(images):
    expected = (np.diff(images, axis=1) ** 2).mean(axis=(1, 2, 3)) + (np.diff(images, axis=2) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(value(regularizers.total_variation(), images), expected, rtol=1e-5)


def test_total_variation_of_another_power(images):
    dx, dy = np.diff(images, axis=2)[:, :-1], np.diff(images, axis=1)[:, :, :-1]
    expected = ((dx**2 + dy**2) ** 0.75).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(value(regularizers.total_variation(1.5), images), expected, rtol=1e-4)


def test_l2_counts_grey_levels(images):
    np.testing.assert_allclose(
        value(regularizers.l2(127.5), images), 127.5**2 * (images**2).sum(axis=(1, 2, 3)), rtol=1e-5
    )


def test_alpha_norm_is_one_at_the_ends_and_zero_in_the_middle():
    ends = np.array([0.0, 1.0, 0.5], np.float32)[:, None, None, None] * np.ones((3, 2, 2, 3), np.float32)
    np.testing.assert_allclose(value(regularizers.alpha_norm(), ends), [1, 1, 0], atol=1e-6)


def test_edge_sharpness_measures_what_the_collector_measured(images):
    logs = [measures.log_gradient_magnitude(image) for image in images]
    mean, std = np.array([part.mean() for part in logs]), np.array([part.std() for part in logs])
    np.testing.assert_allclose(value(regularizers.edge_sharpness(mean, std), images), 0, atol=1e-4)
    np.testing.assert_allclose(value(regularizers.edge_sharpness(mean + 2 * std, std), images), 4, rtol=1e-2)


@pytest.mark.parametrize("size", [(16, 18), (15, 17)])
def test_amplitude_spectrum_is_met_by_the_image_it_was_measured_on(size):
    images = np.random.default_rng(1).uniform(size=(2, *size, 3)).astype(np.float32)
    term = regularizers.amplitude_spectrum(measures.amplitude_spectrum(images[0]), size)
    own, other = value(term, images)
    assert own < 1e-9 < 1e-4 < other
    # Half the contrast is half the amplitude in every band.
    halved = value(term, 0.5 + (images[:1] - 0.5) / 2)
    np.testing.assert_allclose(halved, np.log(2) ** 2, rtol=1e-3)
