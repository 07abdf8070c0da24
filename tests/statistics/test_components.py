import numpy as np
import pytest
from sklearn.decomposition import PCA

from stochdeconv.statistics import components
from stochdeconv.statistics import maps as reading
from stochdeconv.statistics.components import principal_components
from stochdeconv.statistics.maps import MapReader


def _reader(maps: np.ndarray) -> MapReader:
    return MapReader(*maps.shape, lambda rows, part: maps[rows, part].astype(np.float32))


def _maps(n_images, n_values, *, decay=0.7, seed=0):
    rng = np.random.default_rng(seed)
    spread = np.arange(1, min(n_images, n_values) + 1) ** -decay
    axes = np.linalg.qr(rng.standard_normal((n_values, len(spread))))[0]
    maps = (rng.standard_normal((n_images, len(spread))) * spread * 10) @ axes.T
    return (maps + rng.standard_normal(n_values) * 5).astype(np.float32)


def _assert_equals_full_pca(actual, maps, n_components, *, rtol, overlap):
    full = PCA(n_components, svd_solver="full").fit(maps.astype(np.float64))
    np.testing.assert_allclose(actual.explained_variance, full.explained_variance_, rtol=rtol)
    np.testing.assert_allclose(actual.mean, full.mean_, atol=1e-5)
    assert actual.total_variance == pytest.approx(maps.var(axis=0, ddof=1, dtype=np.float64).sum(), rel=1e-5)
    np.testing.assert_allclose(actual.components @ actual.components.T, np.eye(n_components), atol=2e-3)
    # The same subspace, whatever the rotation among nearly equal variances.
    cosines = np.linalg.svd(actual.components @ full.components_.T, compute_uv=False)
    assert cosines.min() > overlap


@pytest.mark.parametrize(("n_images", "n_values"), [(90, 300), (300, 60), (17, 1000)])
def test_components_of_few_maps_are_those_of_a_full_fit(n_images, n_values):
    maps = _maps(n_images, n_values)
    actual = principal_components(_reader(maps), 12)
    _assert_equals_full_pca(actual, maps, 12, rtol=2e-3, overlap=0.998)
    assert actual.n_passes == 0
    full = PCA(12, svd_solver="full").fit(maps.astype(np.float64))
    leading = np.abs(np.sum(actual.components[:3] * full.components_[:3], axis=1))
    np.testing.assert_allclose(leading, 1.0, atol=1e-3)


def test_components_of_many_maps_converge_to_those_of_a_full_fit(monkeypatch):
    monkeypatch.setattr(components, "MAX_GRAM_IMAGES", 60)
    monkeypatch.setattr(components, "_SELECTED_IMAGES", 60)
    maps = _maps(700, 200)
    actual = principal_components(_reader(maps), 12)
    assert actual.converged
    assert actual.n_passes > 1
    _assert_equals_full_pca(actual, maps, 12, rtol=2e-3, overlap=0.99)


def test_a_selection_alone_would_not_do(monkeypatch):
    monkeypatch.setattr(components, "MAX_GRAM_IMAGES", 60)
    monkeypatch.setattr(components, "_SELECTED_IMAGES", 60)
    monkeypatch.setattr(components, "_MAX_PASSES", 0)
    maps = _maps(700, 200)
    actual = principal_components(_reader(maps), 12)
    full = PCA(12, svd_solver="full").fit(maps.astype(np.float64))
    assert actual.explained_variance.sum() < 0.97 * full.explained_variance_.sum()
    assert not actual.converged


def test_scores_are_projections_on_the_stored_components():
    maps = _maps(50, 80)
    actual = principal_components(_reader(maps), 5)
    np.testing.assert_array_equal(actual.components, actual.components.astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(actual.scores, (maps - actual.mean) @ actual.components.T, atol=1e-4)
    np.testing.assert_allclose(actual.scores.var(axis=0, ddof=1), actual.explained_variance, rtol=1e-5)
    largest = actual.components[np.arange(5), np.abs(actual.components).argmax(axis=1)]
    assert (largest > 0).all()


def test_what_is_left_over_is_not_underestimated():
    maps = _maps(400, 50)
    actual = principal_components(_reader(maps), 10)
    residual = (actual.total_variance - actual.explained_variance.sum()) / (50 - 10)
    rest = maps - actual.mean - actual.scores @ actual.components
    assert residual == pytest.approx(rest.var(axis=0, ddof=1).sum() / 40, rel=1e-3)


def test_only_directions_that_vary_become_components():
    constant = np.full((20, 30), 3.0, np.float32)
    actual = principal_components(_reader(constant), 4)
    assert actual.components.shape == (0, 30)
    assert actual.scores.shape == (20, 0)
    assert actual.total_variance == pytest.approx(0.0, abs=1e-9)
    line = constant + np.arange(20)[:, None] * np.linspace(0, 1, 30, dtype=np.float32)
    assert len(principal_components(_reader(line), 4).components) == 1
    assert principal_components(_reader(line[:1]), 4).components.shape == (0, 30)
    assert len(principal_components(_reader(_maps(3, 30)), 4).components) == 2
    assert len(principal_components(_reader(_maps(40, 3)), 9).components) == 3


def test_blocks_and_panels_cover_everything_once(monkeypatch):
    maps = _maps(130, 70)
    once = principal_components(_reader(maps), 5)
    monkeypatch.setattr(reading, "_BLOCK_VALUES", 1000)
    monkeypatch.setattr(reading, "BLOCK_IMAGES", 7)
    again = principal_components(_reader(maps), 5)
    np.testing.assert_allclose(again.explained_variance, once.explained_variance, rtol=1e-4)
    np.testing.assert_allclose(again.mean, once.mean, atol=1e-5)
    np.testing.assert_allclose(again.scores, once.scores, atol=0.02)
