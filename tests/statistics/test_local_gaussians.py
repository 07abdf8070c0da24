"""Local Gaussians: the moments of the patches and maps of each context, however the images were split."""

import dataclasses

import numpy as np
import pytest

from stochdeconv.errors import SettingsError
from stochdeconv.statistics import local_gaussians
from stochdeconv.statistics.collection import CollectSettings, collect, merge
from stochdeconv.statistics.compaction import compact
from stochdeconv.statistics.contexts import looked_at, random_directions
from stochdeconv.statistics.drawing import drawn_by_key
from stochdeconv.statistics.file import load_statistics, save_statistics
from stochdeconv.statistics.patches import patches, pyramid
from stochdeconv.statistics.places import Grid

SETTINGS = {"n_components": 16, "n_contexts": 24, "exemplars": 50}


@pytest.fixture(scope="module")
def statistics(landscape_statistics):
    return landscape_statistics


def cut_at_places(statistics, level):
    """The patches about all places of all rows, (row, place, value), float64."""
    pixels = pyramid(statistics.exemplars.pixels)[level]
    # Six places eight pixels apart: each its own patch; at half the resolution four pixels apart, and within the picture.
    starts = np.array([[0, 8, 16, 24, 32, 40], [0, 2, 6, 10, 14, 16]][level])
    return patches(pixels, starts, starts).reshape(len(pixels), -1, 192) / 255.0


def test_places_are_positions_of_the_deepest_fine_layer(statistics):
    assert tuple(statistics.local.grid) == (6, 6)  # 8 pixels apart: no finer than a patch
    assert statistics.contexts.shape == (50, 36) and statistics.contexts.dtype == np.uint16
    n_contexts = statistics.local.n_contexts
    assert 2 <= n_contexts <= 24
    assert np.bincount(statistics.contexts.ravel(), minlength=n_contexts).min() >= 40


@pytest.mark.parametrize("level", [0, 1])
def test_mixtures_have_the_moments_of_their_contexts_patches(statistics, level):
    local = statistics.local
    assert len(local.means) == 2  # 48 and 24 pixels a side
    cut, contexts = cut_at_places(statistics, level).reshape(-1, 192), statistics.contexts.ravel()
    z = (cut - local.patch_means[level]) @ local.patch_axes[level]
    np.testing.assert_allclose(local.patch_means[level], cut.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(local.weights.sum(axis=-1), 1, atol=1e-5)
    left_out = ((cut - local.patch_means[level]) ** 2).sum(axis=1).mean() - (z**2).sum(axis=1).mean()
    np.testing.assert_allclose(local.patch_residuals[level] * 128, left_out, rtol=0.05)
    for context in range(local.n_contexts):
        own = z[contexts == context]
        mean = local.weights[level, context] @ local.means[level, context]
        np.testing.assert_allclose(mean, own.mean(axis=0), atol=2e-3)
        # Between the components and within them, all there is.
        between = (local.weights[level, context][:, None] * (local.means[level, context] - mean) ** 2).sum()
        n_components = (local.weights[level, context] > 0).sum()
        within = local.variances[level, context].sum() + 40 * local.residuals[level, context]
        within *= (len(own) - n_components) / len(own)
        np.testing.assert_allclose(between + within, ((own - own.mean(axis=0)) ** 2).sum(axis=1).mean(), rtol=0.02)
        axes = local.axes[level, context]
        np.testing.assert_allclose(axes.T @ axes, np.eye(24), atol=2e-3)
        assert np.all(np.diff(local.variances[level, context]) <= 1e-9)


def test_layers_have_the_mean_of_what_they_show_in_each_context(statistics, landscape_model):
    pictures = statistics.exemplars.pixels / np.float32(255)
    places = Grid.of(tuple(statistics.local.grid), (48, 48))
    weights = statistics.local.weights[0]
    counts = np.bincount(statistics.contexts.ravel(), minlength=len(weights))
    for name, maps in landscape_model.activations(pictures, ["low", "middle", "fine"]).items():
        layer = statistics[name]
        own = Grid.of(layer.shape[:2], (48, 48))
        rows, columns = (own.nearest(places.centers(axis), axis) for axis in (0, 1))
        shown = (maps[:, rows][:, :, columns] @ layer.local_directions).reshape(-1, layer.local_directions.shape[1])
        of_places = shown.reshape(50, 36, -1)
        for context in range(len(weights)):
            expected = of_places[statistics.contexts == context].mean(axis=0)
            there = weights[context] > 0
            n = weights[context][there] * counts[context]
            # Each component's mean is drawn to the context's own: take that back, and the weighted mean is the context's.
            means = (layer.local_means[context][there] * (n + 3)[:, None] - 3 * expected) / n[:, None]
            np.testing.assert_allclose(weights[context][there] @ means, expected, atol=5e-3 * np.abs(shown).max())


def test_directions_are_in_units_of_what_varies_within_a_component(statistics, landscape_model):
    pictures = statistics.exemplars.pixels / np.float32(255)
    places = Grid.of(tuple(statistics.local.grid), (48, 48))
    for name, maps in landscape_model.activations(pictures, ["low", "middle", "fine"]).items():
        layer, own = statistics[name], Grid.of(statistics[name].shape[:2], (48, 48))
        rows, columns = (own.nearest(places.centers(axis), axis) for axis in (0, 1))
        shown = (maps[:, rows][:, :, columns] @ layer.local_directions).reshape(50, 36, -1)
        means, weights = layer.local_means[statistics.contexts], statistics.local.weights[0][statistics.contexts]
        # Of its nearest component a place is no farther than of its own; of its context's mean it is farther.
        distances = ((shown[:, :, None] - means) ** 2).mean(axis=-1)
        nearest = np.where(weights > 0, distances, np.inf).min(axis=-1).mean()
        of_context = ((shown - (weights[..., None] * means).sum(axis=2)) ** 2).mean()
        assert 0.3 < nearest < 1.0 and nearest < 0.9 * of_context


def test_whitened_covariances_are_one_but_for_directions_without_variance():
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    variances = np.array([4.0, 3.0, 2.0, 1.0, 0.5, 0.0])
    whitening = local_gaussians._whitening(axes * variances @ axes.T)
    after = np.linalg.eigvalsh(whitening.T @ (axes * variances @ axes.T) @ whitening)
    np.testing.assert_allclose(after[::-1], variances / (variances + 0.1 * variances.mean()), atol=1e-6)
    assert np.isfinite(local_gaussians._whitening(np.zeros((3, 3)))).all()
    # Whatever the unit of a layer.
    tiny = local_gaussians._whitening(1e-12 * axes * variances @ axes.T)
    np.testing.assert_allclose(np.abs(tiny), 1e6 * np.abs(whitening), rtol=1e-3, atol=1e-2)


def test_they_are_the_same_in_shards_and_in_the_file(statistics, landscape_model, landscape_folder, tmp_path):
    files = []
    for number in (1, 2):
        spool = collect(landscape_model, landscape_folder, shard=(number, 2), spool=tmp_path / f"s{number}", **SETTINGS)
        save_statistics(spool, tmp_path / f"{number}.h5")
        spool.close()
        files.append(tmp_path / f"{number}.h5")
    merged = merge(files)
    assert merged.hash() == statistics.hash()
    save_statistics(merged, tmp_path / "all.h5")
    loaded = load_statistics(tmp_path / "all.h5")
    for name, value in vars(statistics.local).items():
        np.testing.assert_array_equal(getattr(loaded.local, name), value)
    np.testing.assert_array_equal(loaded.contexts, statistics.contexts)
    np.testing.assert_array_equal(loaded["fine"].local_means, statistics["fine"].local_means)


def test_rows_take_their_contexts_with_them(statistics):
    small = compact(statistics, 10)
    kept = [statistics.image_names.index(name) for name in small.image_names]
    np.testing.assert_array_equal(small.contexts, statistics.contexts[kept])
    assert small.local is statistics.local and small.exemplars is None and small.settings["exemplars"] == 0


def test_there_are_none_where_they_were_not_asked_for_or_cannot_be(landscape_model, landscape_folder):
    without = collect(landscape_model, landscape_folder, n_components=4, n_contexts=0)
    assert without.local is None and without.contexts is None and without["fine"].local_means is None
    few = sorted(landscape_folder.iterdir())[:15]
    assert collect(landscape_model, few, n_components=4).local is None
    dense = collect(landscape_model, landscape_folder, n_components=4, layers=["predictions"])
    assert dense.local is None


def test_one_network_collects_with_contexts_and_without(landscape_model, landscape_folder):
    """The compiled program is kept with the network: that of other places is another."""
    some = sorted(landscape_folder.iterdir())[:20]
    for n_contexts in (0, 4, 0):
        held = collect(landscape_model, some, n_components=3, n_contexts=n_contexts, layers=["middle"])
        assert (held.local is None) == (n_contexts == 0)


def test_fits_do_not_depend_on_more_images_than_are_fitted(landscape_model, landscape_folder, monkeypatch):
    drawn = []

    def watched(keys, n):
        drawn[:] = drawn_by_key(keys, n).tolist()
        return np.array(drawn)

    monkeypatch.setattr(local_gaussians, "MAX_IMAGES", 20)
    monkeypatch.setattr(local_gaussians, "drawn_by_key", watched)
    fitted = collect(landscape_model, landscape_folder, n_components=4, n_contexts=8)
    assert fitted.contexts.shape == (50, 36)
    paths = [landscape_folder / fitted.image_names[row] for row in drawn]
    assert len(paths) == 20
    alone = collect(landscape_model, paths, class_name="sunset", n_components=4, n_contexts=8)
    for field in dataclasses.fields(alone.local):
        whole, part = (getattr(local, field.name) for local in (fitted.local, alone.local))
        np.testing.assert_allclose(whole, part, rtol=1e-4, atol=1e-5, err_msg=field.name)
    of_rows = dict(zip(fitted.image_names, fitted.contexts, strict=True))
    np.testing.assert_array_equal(alone.contexts, [of_rows[name] for name in alone.image_names])


@pytest.mark.parametrize(
    ("shapes", "size", "expected"),
    [
        # SqueezeNet: the first layer is finer, the last one half as fine; fire5, fire8 and fire9 tell places apart.
        (
            [(109, 109, 96), (27, 27, 256), (27, 27, 384), (27, 27, 512), (13, 13, 512), (1, 1, 1000)],
            (224, 224),
            [(27, 27, 64), (27, 27, 256), (27, 27, 64), (27, 27, 256), (13, 13, 256), None],
        ),
        ([(112, 112, 32), (14, 14, 40)], (224, 224), [(28, 28, 32), (14, 14, 40)]),
        ([(14, 14, 512)], (224, 224), [None]),
        # Inception: convolutions without padding leave 35 positions of 299 pixels; and a layer that is fine in one direction alone.
        ([(35, 35, 40)], (299, 299), [(35, 35, 40)]),
        ([(28, 14, 8)], (224, 224), [None]),
        ([(1, 1, 10)], (224, 224), [None]),
        ([(5, 5, 4)], (5, 5), [None]),
    ],
)
def test_layers_are_looked_at_where_places_are(shapes, size, expected):
    assert looked_at(shapes, size) == expected


def test_more_contexts_than_a_table_holds_are_refused():
    assert CollectSettings(n_contexts=4096).n_contexts == 4096
    with pytest.raises(SettingsError, match=r"n_contexts= is at most 4096.*got 4097"):
        CollectSettings(n_contexts=4097)


def test_random_directions_keep_distances_and_fewer_are_the_first_of_more():
    # All channels of a telling layer, and the few along which its means are kept.
    np.testing.assert_allclose(random_directions(256, 64), random_directions(256, 256)[:, :64], atol=1e-6)
    many = random_directions(512, 256)
    np.testing.assert_allclose(many.T @ many, np.eye(256), atol=1e-5)
    np.testing.assert_allclose(random_directions(512, 64), many[:, :64], atol=1e-6)
    few = random_directions(32, 64)
    assert few.shape == (32, 32)
    np.testing.assert_allclose(few.T @ few, np.eye(32), atol=1e-6)
    points = np.random.default_rng(0).normal(size=(200, 512))
    ratios = ((points @ many) ** 2).sum(axis=1) / (points**2).sum(axis=1)
    np.testing.assert_allclose(ratios, 0.5, atol=0.15)
