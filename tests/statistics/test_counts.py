import numpy as np

from stochdeconv.images.measures import log_gradient_magnitude
from stochdeconv.statistics.counts import (
    HISTOGRAM_EDGES,
    LOG_GRADIENT_EDGES,
    N_POSITIONS,
    count_histogram,
    count_log_gradients,
    seeded_positions,
)


def test_histogram_counts_what_the_edges_say():
    rng = np.random.default_rng(3)
    around = [np.nextafter(HISTOGRAM_EDGES, np.float32(side * np.inf)) for side in (-1, 1)]
    spread = rng.standard_normal(5000) * 10.0 ** rng.integers(-4, 4, 5000)
    values = np.concatenate([spread, HISTOGRAM_EDGES, *around, [0.0] * 9])
    values = rng.permutation(values.astype(np.float32))[: len(values) // 3 * 3].reshape(-1, 3)
    counts = count_histogram(values)
    for channel in range(3):
        index = np.clip(np.searchsorted(HISTOGRAM_EDGES, values[:, channel], side="right") - 1, 0, 255)
        np.testing.assert_array_equal(counts[channel], np.bincount(index, minlength=256))


def test_histogram_ends_and_zero():
    counts = count_histogram(np.array([[0.0], [-1e9], [1e9], [1e-6]], np.float32))[0]
    assert (counts[0], counts[128], counts[255], counts.sum()) == (1, 2, 1, 4)
    assert HISTOGRAM_EDGES[128] == 0.0


def test_positions_are_seeded_by_the_name_and_fill_the_map():
    first = seeded_positions("a.jpg", 20, 30)
    np.testing.assert_array_equal(first, seeded_positions("a.jpg", 20, 30))
    assert not np.array_equal(first, seeded_positions("b.jpg", 20, 30))
    # The same places at twice the resolution.
    fine = seeded_positions("a.jpg", 40, 60)
    np.testing.assert_array_equal(np.stack([fine // 60, fine % 60]) // 2, [first // 30, first % 30])
    many = np.concatenate([seeded_positions(str(i), 8, 9) for i in range(400)])
    assert many.dtype == np.int32
    counts = np.bincount(many, minlength=72)
    assert len(counts) == 72
    assert 0.8 < counts.min() / counts.mean() < counts.max() / counts.mean() < 1.2
    np.testing.assert_array_equal(seeded_positions("a", 7, 7), np.arange(N_POSITIONS))


def test_log_gradient_counts_keep_every_pixel():
    extreme = np.zeros((8, 8, 3), np.float32)
    extreme[::2, ::2] = 1.0
    for image in (extreme, np.zeros_like(extreme)):
        values = log_gradient_magnitude(image)
        assert count_log_gradients(values).sum() == 49
    assert count_log_gradients(values)[0] == 49
    assert LOG_GRADIENT_EDGES[0] == np.float32(np.log(1 / 255))
