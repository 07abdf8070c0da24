import math

import numpy as np
import pytest
import reference
from sklearn.decomposition import PCA

from stochdeconv.statistics import summary
from stochdeconv.statistics.summary import (
    HISTOGRAM_EDGES,
    LOG_GRADIENT_EDGES,
    N_POSITIONS,
    ExactSum,
    MapReader,
    amplitude_spectrum,
    count_histogram,
    count_log_gradients,
    log_gradient_magnitude,
    principal_components,
    seeded_positions,
)


def _wild(rng, shape):
    """Numbers over thirty orders of magnitude that nearly cancel."""
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-15, 15, shape)
    return np.concatenate([values, -values * (1 + 1e-9)])


def _sum(terms) -> ExactSum:
    total = ExactSum(terms.shape[1:])
    for term in terms:
        total.add(term)
    return total


def test_exact_sums_do_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    terms = _wild(rng, (300, 50))
    expected = [math.fsum(column) for column in terms.T]
    assert not np.array_equal(terms.sum(axis=0), terms[::-1].sum(axis=0))
    for _ in range(5):
        np.testing.assert_array_equal(_sum(rng.permutation(terms)).value, expected)


def test_exact_sums_do_not_depend_on_the_split():
    rng = np.random.default_rng(1)
    terms = rng.permutation(_wild(rng, (100, 40)))
    expected = [math.fsum(column) for column in terms.T]
    for n_parts in (2, 3, 7):
        joined = ExactSum((40,))
        for part in range(n_parts):
            partial = _sum(terms[part::n_parts])
            joined.merge(partial.high, partial.low)
        np.testing.assert_array_equal(joined.value, expected)


def test_exact_sums_of_any_shape():
    rng = np.random.default_rng(2)
    terms = rng.standard_normal((3, 90, 100)).astype(np.float32)
    np.testing.assert_allclose(_sum(terms).value, terms.sum(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(_sum(terms[:, :, ::2]).value, terms[:, :, ::2].sum(axis=0, dtype=np.float64), rtol=1e-12)
    with pytest.raises(ValueError, match="shape"):
        ExactSum((90, 100)).add(terms[0, 0])


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


def test_log_gradient_equals_the_pixel_by_pixel_one():
    image = np.random.default_rng(4).random((6, 9, 3)).astype(np.float32)
    np.testing.assert_allclose(log_gradient_magnitude(image), reference.log_gradients(image), rtol=1e-4, atol=1e-5)


def test_log_gradient_counts_keep_every_pixel():
    extreme = np.zeros((8, 8, 3), np.float32)
    extreme[::2, ::2] = 1.0
    for image in (extreme, np.zeros_like(extreme)):
        values = log_gradient_magnitude(image)
        assert count_log_gradients(values).sum() == 49
    assert count_log_gradients(values)[0] == 49
    assert LOG_GRADIENT_EDGES[0] == np.float32(np.log(1 / 255))


def test_amplitude_spectrum_of_a_wave():
    x = np.arange(16)
    image = np.zeros((16, 16, 3))
    image[..., 1] = np.cos(2 * np.pi * 3 * x / 16)
    amplitude = amplitude_spectrum(image)
    assert amplitude.shape == (16, 9, 3)
    assert amplitude[0, 3, 1] == pytest.approx(128)
    assert np.sum(amplitude > 1e-4) == 1


# ---- principal components ------------------------------------------------------------------------------------------


def _reader(maps: np.ndarray) -> MapReader:
    return MapReader(*maps.shape, lambda rows, part: maps[rows, part].astype(np.float32))


def _maps(n_images, n_values, *, decay=0.7, seed=0):
    rng = np.random.default_rng(seed)
    spread = np.arange(1, min(n_images, n_values) + 1) ** -decay
    axes = np.linalg.qr(rng.standard_normal((n_values, len(spread))))[0]
    maps = (rng.standard_normal((n_images, len(spread))) * spread * 10) @ axes.T
    return (maps + rng.standard_normal(n_values) * 5).astype(np.float32)


def _assert_equals_full_pca(found, maps, n_components, *, rtol, overlap):
    full = PCA(n_components, svd_solver="full").fit(maps.astype(np.float64))
    np.testing.assert_allclose(found.explained_variance, full.explained_variance_, rtol=rtol)
    np.testing.assert_allclose(found.mean, full.mean_, atol=1e-5)
    assert found.total_variance == pytest.approx(maps.var(axis=0, ddof=1, dtype=np.float64).sum(), rel=1e-5)
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(n_components), atol=2e-3)
    # The same subspace, whatever the rotation among nearly equal variances.
    cosines = np.linalg.svd(found.components @ full.components_.T, compute_uv=False)
    assert cosines.min() > overlap


@pytest.mark.parametrize(("n_images", "n_values"), [(90, 300), (300, 60), (17, 1000)])
def test_components_of_few_maps_are_those_of_a_full_fit(n_images, n_values):
    maps = _maps(n_images, n_values)
    found = principal_components(_reader(maps), 12)
    _assert_equals_full_pca(found, maps, 12, rtol=2e-3, overlap=0.998)
    assert found.n_passes == 0
    full = PCA(12, svd_solver="full").fit(maps.astype(np.float64))
    leading = np.abs(np.sum(found.components[:3] * full.components_[:3], axis=1))
    np.testing.assert_allclose(leading, 1.0, atol=1e-3)


def test_components_of_many_maps_converge_to_those_of_a_full_fit(monkeypatch):
    monkeypatch.setattr(summary, "MAX_GRAM_IMAGES", 60)
    maps = _maps(700, 200)
    found = principal_components(_reader(maps), 12)
    assert found.converged
    assert found.n_passes > 1
    _assert_equals_full_pca(found, maps, 12, rtol=2e-3, overlap=0.99)


def test_a_selection_alone_would_not_do(monkeypatch):
    monkeypatch.setattr(summary, "MAX_GRAM_IMAGES", 60)
    monkeypatch.setattr(summary, "_MAX_PASSES", 0)
    maps = _maps(700, 200)
    found = principal_components(_reader(maps), 12)
    full = PCA(12, svd_solver="full").fit(maps.astype(np.float64))
    assert found.explained_variance.sum() < 0.97 * full.explained_variance_.sum()
    assert not found.converged


def test_scores_are_projections_on_the_stored_components():
    maps = _maps(50, 80)
    found = principal_components(_reader(maps), 5)
    np.testing.assert_array_equal(found.components, found.components.astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(found.scores, (maps - found.mean) @ found.components.T, atol=1e-4)
    np.testing.assert_allclose(found.scores.var(axis=0, ddof=1), found.explained_variance, rtol=1e-5)
    largest = found.components[np.arange(5), np.abs(found.components).argmax(axis=1)]
    assert (largest > 0).all()


def test_what_is_left_over_is_not_underestimated():
    maps = _maps(400, 50)
    found = principal_components(_reader(maps), 10)
    residual = (found.total_variance - found.explained_variance.sum()) / (50 - 10)
    rest = maps - found.mean - found.scores @ found.components
    assert residual == pytest.approx(rest.var(axis=0, ddof=1).sum() / 40, rel=1e-3)


def test_only_directions_that_vary_become_components():
    constant = np.full((20, 30), 3.0, np.float32)
    found = principal_components(_reader(constant), 4)
    assert found.components.shape == (0, 30)
    assert found.scores.shape == (20, 0)
    assert found.total_variance == pytest.approx(0.0, abs=1e-9)
    line = constant + np.arange(20)[:, None] * np.linspace(0, 1, 30, dtype=np.float32)
    assert len(principal_components(_reader(line), 4).components) == 1
    assert principal_components(_reader(line[:1]), 4).components.shape == (0, 30)
    assert len(principal_components(_reader(_maps(3, 30)), 4).components) == 2
    assert len(principal_components(_reader(_maps(40, 3)), 9).components) == 3


def test_blocks_and_panels_cover_everything_once(monkeypatch):
    maps = _maps(130, 70)
    once = principal_components(_reader(maps), 5)
    monkeypatch.setattr(summary, "_BLOCK_VALUES", 1000)
    monkeypatch.setattr(summary, "_BLOCK_IMAGES", 7)
    again = principal_components(_reader(maps), 5)
    np.testing.assert_allclose(again.explained_variance, once.explained_variance, rtol=1e-4)
    np.testing.assert_allclose(again.mean, once.mean, atol=1e-5)
    np.testing.assert_allclose(again.scores, once.scores, atol=0.02)


def test_rounding_keeps_eleven_bits_whatever_the_size():
    values = np.array([1.0, -3.14159, 1e6 / 3, 1e-7 / 3, 0.0], np.float32)
    found = summary.rounded(values)
    np.testing.assert_allclose(found, values, rtol=2.0**-11)
    np.testing.assert_array_equal(found[:2], values[:2].astype(np.float16))
    assert not np.any(found.view(np.uint32) & 0x1FFF)


def test_images_are_drawn_by_their_names_alone():
    keys = [f"{number}.png" for number in range(30)]
    drawn = {keys[row] for row in summary.drawn_by_key(keys, 7)}
    assert len(drawn) == 7
    backwards = keys[::-1]
    rows = summary.drawn_by_key(backwards, 7)
    assert {backwards[row] for row in rows} == drawn
    assert list(rows) == sorted(rows)
    assert list(summary.drawn_by_key(keys, 30)) == list(range(30))
