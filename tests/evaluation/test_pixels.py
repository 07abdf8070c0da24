"""Spectrum, edges and colours of pictures made to have known ones."""

import numpy as np
import pytest

from stochdeconv.evaluation import pixels


def power_law(exponent, *, side=128, seed=0, n_images=4):
    """Grey noise whose amplitude falls as frequency ** exponent."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :]) * side
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(rng.normal(size=(n_images, side, side))) * frequency**exponent
    grey = np.fft.ifft2(spectrum).real
    grey = 0.5 + 0.1 * grey / grey.std()
    return np.repeat(grey[..., None], 3, axis=-1)


@pytest.mark.parametrize("exponent", [0.0, -1.0, -1.8])
def test_slope_recovers_a_power_law(exponent):
    slopes = pixels.spectrum_slopes(pixels.radial_spectra(power_law(exponent)))
    assert slopes.mean() == pytest.approx(exponent, abs=0.1)


def test_slope_reads_only_its_range():
    spectra = np.arange(64, dtype=float)[None].clip(1) ** -1.2
    spectra[:, :3] = 99.0
    spectra[:, 33:] = 99.0
    assert pixels.spectrum_slopes(spectra)[0] == pytest.approx(-1.2)


def test_spectrum_of_a_wave_lies_at_its_frequency():
    x = np.arange(64) / 64
    image = np.broadcast_to(0.5 + 0.4 * np.cos(2 * np.pi * 8 * x), (64, 64))
    spectrum = pixels.radial_spectra(np.repeat(image[None, ..., None], 3, axis=-1))[0]
    assert spectrum.argmax() == 8
    assert len(spectrum) == 32


def test_wide_images_are_measured_on_their_central_square():
    image = power_law(-1.0, n_images=1)
    wide = np.concatenate([np.zeros((1, 128, 40, 3)), image, np.ones((1, 128, 40, 3))], axis=2)
    np.testing.assert_allclose(pixels.radial_spectra(wide), pixels.radial_spectra(image))


def test_blank_and_tiny_images_have_no_slope_and_no_kurtosis():
    blank = np.full((1, 64, 64, 3), 0.4)
    assert np.isnan(pixels.spectrum_slopes(pixels.radial_spectra(blank))).all()
    assert np.isnan(pixels.gradient_kurtosis(blank)).all()
    assert np.isnan(pixels.spectrum_slopes(pixels.radial_spectra(power_law(-1.0, side=16)))).all()


def test_kurtosis_of_noise_is_that_of_its_differences_and_edges_are_peaked():
    rng = np.random.default_rng(0)
    grey = rng.normal(size=(1, 200, 200, 1)).repeat(3, axis=-1)
    assert pixels.gradient_kurtosis(grey)[0] == pytest.approx(0, abs=0.1)
    step = np.zeros((1, 40, 40, 3))
    step[:, :, 20:] = 1.0
    # One difference in n is 1, the others 0: excess kurtosis 1/p - 6 + ... = (1 - 3p + 3p²) / (p (1 - p)) - 3.
    p = 40 / (2 * 40 * 39)
    assert pixels.gradient_kurtosis(step)[0] == pytest.approx((1 - 3 * p + 3 * p**2) / (p * (1 - p)) - 3)


def test_colors_fall_into_their_bins():
    image = np.zeros((1, 2, 2, 3))
    image[0, 0, 0] = [1.0, 0.0, 0.0]
    image[0, 0, 1] = [0.0, 0.5, 1.0]
    histogram = pixels.color_histograms(image)[0]
    assert histogram.shape == (512,)
    assert histogram.sum() == pytest.approx(1)
    assert histogram[7 * 64] == 0.25
    assert histogram[4 * 8 + 7] == 0.25
    assert histogram[0] == 0.5


def test_color_distance_of_same_and_of_other_colors():
    histograms = pixels.color_histograms(np.random.default_rng(0).random((4, 32, 32, 3)) ** 2)
    new = np.full(4, -1)
    ones = np.ones((1, 4))
    assert pixels.color_distance(histograms, histograms, same=new)(ones)[0] == pytest.approx(0, abs=1e-6)
    red, blue = np.zeros((1, 512)), np.zeros((1, 512))
    red[0, 0], blue[0, 511] = 1, 1
    assert pixels.color_distance(red, blue, same=new[:1])(np.ones((1, 1)))[0] == pytest.approx(1)


def test_color_distance_pools_the_drawn_images():
    histograms = np.zeros((2, 512))
    histograms[0, 0] = histograms[1, 1] = 1
    pooled = np.zeros((1, 512))
    pooled[0, :2] = [0.75, 0.25]
    figure = pixels.color_distance(histograms, pooled, same=np.array([-1, -1]))
    assert figure(np.array([[3, 1]]))[0] == pytest.approx(0, abs=1e-6)
    assert figure(np.array([[1, 1]]))[0] > 0.1


def test_photographs_are_left_out_of_their_own_real_pool():
    histograms = np.eye(512)[:3]
    figure = pixels.color_distance(histograms[:1], histograms, same=np.array([0]))
    assert figure(np.ones((1, 1)))[0] == pytest.approx(1)
    assert np.isnan(pixels.color_distance(histograms, histograms, same=np.arange(3))(np.ones((1, 3)))).all()


def test_gradient_histogram_is_a_share():
    histograms = pixels.gradient_histograms(power_law(-1.0, n_images=2))
    np.testing.assert_allclose(histograms.sum(axis=1), 1)
