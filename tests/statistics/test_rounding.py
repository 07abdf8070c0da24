import numpy as np

from stochdeconv.statistics.rounding import float16_with_exponent, rounded


def test_rounding_keeps_eleven_bits_whatever_the_size():
    values = np.array([1.0, -3.14159, 1e6 / 3, 1e-7 / 3, 0.0], np.float32)
    actual = rounded(values)
    np.testing.assert_allclose(actual, values, rtol=2.0**-11)
    np.testing.assert_array_equal(actual[:2], values[:2].astype(np.float16))
    assert not np.any(actual.view(np.uint32) & 0x1FFF)


def test_sixteen_bit_maps_keep_eleven_bits_at_any_scale():
    rng = np.random.default_rng(0)
    maps = (rng.random((4, 50)) * np.array([[1e-12], [1.0], [1e9], [0.0]])).astype(np.float32)
    values, exponents = float16_with_exponent(maps)
    assert values.dtype == np.float16
    actual = values.astype(np.float32) * np.exp2(exponents.astype(np.float32))
    assert np.isfinite(actual).all()
    np.testing.assert_allclose(actual, maps, rtol=2.0**-11)
