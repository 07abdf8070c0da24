from dataclasses import replace

import numpy as np
import pytest
from keras import ops

from stochdeconv import losses
from stochdeconv.statistics.maps import MapReader
from stochdeconv.statistics.regions import N_REGIONS, fit_regions, memberships, region_means

N_IMAGES, SIDE, CHANNELS = 40, 6, 5


def reader(maps):
    flat = maps.reshape(len(maps), -1).astype(np.float32)
    return MapReader(*flat.shape, lambda rows, part: flat[rows, part].copy())


@pytest.fixture(scope="module")
def scene():
    """Maps whose places are of N_REGIONS clearly different kinds, and a lower layer that shows the kind's own value."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, N_REGIONS, size=(N_IMAGES, SIDE, SIDE))
    looks = 10 * rng.normal(size=(N_REGIONS, CHANNELS))
    deep = looks[kinds] + 0.1 * rng.normal(size=(N_IMAGES, SIDE, SIDE, CHANNELS))
    textures = rng.normal(size=(N_REGIONS, 3))
    low = textures[kinds] + 0.01 * rng.normal(size=(N_IMAGES, SIDE, SIDE, 3))
    return kinds, deep, textures, low


def test_regions_are_the_kinds_of_places(scene):
    kinds, deep, _, _ = scene
    regions = fit_regions("deep", reader(deep), CHANNELS)
    weights = memberships(regions, deep)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)
    nearest = weights.argmax(axis=-1)
    pairs = set(zip(kinds.ravel().tolist(), nearest.ravel().tolist(), strict=True))
    assert len(pairs) == N_REGIONS and len({region for _, region in pairs}) == N_REGIONS


def test_region_means_are_the_textures_of_their_kinds(scene):
    kinds, deep, textures, low = scene
    regions = fit_regions("deep", reader(deep), CHANNELS)
    means = region_means(regions, reader(deep), reader(low), 3, np.arange(10, 30))
    region_of = {kind: memberships(regions, deep[kinds == kind][:1]).argmax() for kind in range(N_REGIONS)}
    for kind, texture in enumerate(textures):
        # Fewer than one place in a hundred of prior: means stay near the kind's own texture.
        np.testing.assert_allclose(means[:, region_of[kind]], np.tile(texture, (20, 1)), atol=0.6)
        np.testing.assert_allclose(means[:, region_of[kind]].mean(axis=0), texture, atol=0.2)


def test_a_region_that_none_of_the_rows_has_gives_numbers(scene):
    _, deep, _, low = scene
    regions = fit_regions("deep", reader(deep), CHANNELS)
    elsewhere = replace(regions, centroids=regions.centroids + np.eye(N_REGIONS)[0][:, None].astype(np.float32) * 1e6)
    means = region_means(elsewhere, reader(deep), reader(low), 3, np.arange(5))
    assert np.isfinite(means).all()
    np.testing.assert_allclose(means[:, 0], low[:5].mean(axis=(1, 2)), atol=1e-3)


def test_the_loss_sees_which_texture_is_where(scene):
    _, deep, _, low = scene
    regions = fit_regions("deep", reader(deep), CHANNELS)
    target = region_means(regions, reader(deep), reader(low), 3, np.arange(N_IMAGES))[:4]
    term = losses.facet_moments("low", facets=regions, layout_shape=(SIDE, SIDE), means=target, variance=1.0)
    assert set(term.layers) == {"deep", "low"}

    def value(deep, low):
        maps = {"deep": deep, "low": low}
        return ops.convert_to_numpy(term({name: ops.convert_to_tensor(m.astype("f4")) for name, m in maps.items()}))

    own = value(deep[:4], low[:4])
    moved = low[:4, :, ::-1]  # the same textures at the wrong places: no channel moment would see it
    np.testing.assert_allclose(moved.mean(axis=(1, 2)), low[:4].mean(axis=(1, 2)))
    assert np.all(own < 0.1) and np.all(value(deep[:4], moved) > 5 * own)


def test_the_loss_against_numpy(scene):
    _, deep, _, low = scene
    regions = fit_regions("deep", reader(deep), CHANNELS)
    target = np.random.default_rng(1).normal(size=(2, N_REGIONS, 3))
    weights = memberships(regions, deep[:2].reshape(2, -1, CHANNELS))
    area = weights.sum(axis=1)
    mean = np.swapaxes(weights, 1, 2) @ low[:2].reshape(2, -1, 3) / (area[:, :, None] + 1e-3)
    expected = (((mean - target) ** 2).sum(axis=-1) * area / SIDE**2).sum(axis=1) / 2.5
    term = losses.facet_moments("low", facets=regions, layout_shape=(SIDE, SIDE), means=target, variance=2.5)
    actual = term(
        {"deep": ops.convert_to_tensor(deep[:2].astype("f4")), "low": ops.convert_to_tensor(low[:2].astype("f4"))}
    )
    np.testing.assert_allclose(ops.convert_to_numpy(actual), expected, rtol=1e-3)


def test_too_little_to_tell_apart():
    assert fit_regions("flat", reader(np.ones((20, 4, 4, 3))), 3) is None
    assert fit_regions("few", reader(np.random.default_rng(0).normal(size=(3, 2, 2, 3))), 3) is None


def test_region_means_are_what_the_specification_of_the_file_says(scene):
    _, keys, _, maps = scene
    regions = fit_regions("deep", reader(keys), CHANNELS)
    rows = np.array([0, 2, 3])
    actual = region_means(regions, reader(keys), reader(maps), maps.shape[-1], rows)
    n_places = maps.shape[1] * maps.shape[2]
    places = maps[rows].reshape(3, n_places, -1).astype(np.float64)
    weights = memberships(regions, keys[rows].reshape(3, n_places, -1))
    area = weights.sum(axis=1)[..., None]
    total = np.einsum("npr,npc->nrc", weights, places)
    mean = places.mean(axis=1)[:, None]
    usual = (total - area * mean).sum(axis=0) / area.sum(axis=0)
    prior = 0.011 * n_places
    expected = (total + prior * (mean + usual)) / (area + prior)
    np.testing.assert_allclose(actual, expected, rtol=2.0**-11 + 1e-5, atol=1e-6)
