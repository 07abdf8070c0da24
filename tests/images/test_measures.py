import numpy as np
import pytest
import reference

from stochdeconv.images.measures import amplitude_spectrum, log_gradient_magnitude


def test_log_gradient_equals_the_pixel_by_pixel_one():
    image = np.random.default_rng(4).random((6, 9, 3)).astype(np.float32)
    np.testing.assert_allclose(log_gradient_magnitude(image), reference.log_gradients(image), rtol=1e-4, atol=1e-5)


def test_amplitude_spectrum_of_a_wave():
    x = np.arange(16)
    image = np.zeros((16, 16, 3))
    image[..., 1] = np.cos(2 * np.pi * 3 * x / 16)
    amplitude = amplitude_spectrum(image)
    assert amplitude.shape == (16, 9, 3)
    assert amplitude[0, 3, 1] == pytest.approx(128)
    assert np.sum(amplitude > 1e-4) == 1
