"""Outliers: who is blamed, how far an image of a class may be out, and what maximize makes of it."""

import keras
import numpy as np
import pytest
from keras import ops

from stochdeconv import backend, losses
from stochdeconv.errors import InputError, ModelError
from stochdeconv.images.files import save_png
from stochdeconv.methods.maximize import maximize
from stochdeconv.methods.morph import morph
from stochdeconv.methods.outlier_suppression import outlier_loss, suppression
from stochdeconv.methods.refine import refine
from stochdeconv.networks.image_model import load_model
from stochdeconv.sampling.gaussians import N_FOLDS, ShrunkGaussian
from stochdeconv.statistics.collection import collect

PRECISION = np.array([[2.0, -1.0, 0.0], [-1.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
MEAN = np.array([1.0, 1.0, 1.0])


def value_and_gradient(term, rows):
    """Loss per image and its gradient, by the image's channels; each row is spread over two positions that average to it."""
    apart = np.array([0.5, -0.5])[None, :, None, None]
    maps = ops.convert_to_tensor((np.asarray(rows)[:, None, None] + apart).astype(np.float32))

    def total(x):
        values = term({"x": x})
        return ops.sum(values), values

    (_, values), gradient = backend.value_and_gradient(total)(maps)
    gradient = ops.convert_to_numpy(gradient)
    np.testing.assert_allclose(gradient[:, 0], gradient[:, 1])
    return ops.convert_to_numpy(values), gradient.sum(axis=(1, 2))


def test_only_the_channels_to_blame_are_decreased():
    term = losses.outliers("x", mean=MEAN, precision=PRECISION, limit=4.0)
    # Deviations 3, 1, -3: pull 2·3 - 1 = 5, -3 + 2 = -1 and -3; contributions 15, -1 and 9, D² = 23, an excess of 19 over the limit.
    # The third is below its mean and the second draws nearer: the first alone is blamed, for 15 / 4.
    values, gradient = value_and_gradient(term, [[4.0, 2.0, -2.0]])
    np.testing.assert_allclose(values, [15 / 4], rtol=1e-5)
    np.testing.assert_allclose(gradient, [[5 / 4, 0, 0]], rtol=1e-5)


def test_no_more_are_blamed_than_make_up_the_excess():
    rows = [[3.0, 1.0, 4.0]]  # deviations 2, 0, 3: contributions 2·4 = 8, 0 and 9, D² = 17
    for limit, blamed in ((10.0, [0, 0, 3]), (7.5, [4, 0, 3])):
        values, gradient = value_and_gradient(losses.outliers("x", mean=MEAN, precision=PRECISION, limit=limit), rows)
        np.testing.assert_allclose(gradient, np.array([blamed]) / limit, rtol=1e-5)
        np.testing.assert_allclose(values, [(9 + 8 * bool(blamed[0])) / limit], rtol=1e-5)


def test_within_the_limit_nothing_is_asked():
    term = losses.outliers("x", mean=MEAN, precision=PRECISION, limit=17.1)
    values, gradient = value_and_gradient(term, [[3.0, 1.0, 4.0], [-2.0, 1.0, 4.0]])
    np.testing.assert_array_equal(values[:1], 0)
    np.testing.assert_array_equal(gradient[0], 0)
    # Beside it one that is out (deviations -3, 0, 3; D² = 18 + 9) through a channel above its mean.
    np.testing.assert_allclose(gradient[1], [0, 0, 3 / 17.1], rtol=1e-5)


def test_images_of_one_class_only_below_their_means_are_left_alone():
    values, gradient = value_and_gradient(
        losses.outliers("x", mean=MEAN, precision=np.eye(3), limit=1.0), [[-3.0, 1.0, 0.0]]
    )
    np.testing.assert_array_equal(values, 0)
    np.testing.assert_array_equal(gradient, 0)


def test_bad_gaussians_are_refused():
    with pytest.raises(InputError, match=r"\(3,\) and \(2, 2\)"):
        losses.outliers("x", mean=MEAN, precision=np.eye(2), limit=1.0)
    for limit in (0.0, -1.0, np.nan):
        with pytest.raises(InputError, match="above 0"):
            losses.outliers("x", mean=MEAN, precision=PRECISION, limit=limit)


def test_about_one_in_twenty_new_rows_is_beyond_the_limit():
    """With fewer rows than columns the rows that were fitted are no measure: by theirs nearly every new one would be out."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(300, 300)) * np.geomspace(1, 0.05, 300)
    draw = lambda n: rng.normal(size=(n, 300)) @ root.T + 5.0  # noqa: E731
    rows, new = draw(200), draw(2000)
    fitted = ShrunkGaussian.fit(rows)
    beyond = np.mean(fitted.distances(new) > fitted.limit)
    assert 0.02 < beyond < 0.09
    assert np.mean(fitted.distances(new) > np.quantile(fitted.distances(rows), 0.95)) > 0.9


def test_too_few_rows_are_refused():
    rng = np.random.default_rng(0)
    for rows in (rng.normal(size=(N_FOLDS, 3)), np.ones((50, 3))):
        with pytest.raises(InputError, match="rows that differ"):
            ShrunkGaussian.fit(rows)


def make_network(seed):
    keras.utils.set_random_seed(seed)
    network = keras.Sequential(
        [
            keras.Input((24, 24, 3)),
            keras.layers.Conv2D(8, 3, activation="relu", name="conv"),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="deep"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax", name="predictions"),
        ]
    )
    return load_model(network, preprocessing="tf", class_names=["cat", "dog", "eel"], dtype="float32")


@pytest.fixture(scope="module")
def model():
    return make_network(1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(40):
        coarse = rng.uniform(0.2, 0.8, size=(4, 4, 3)).astype(np.float32)
        save_png(folder / f"{number:02d}.png", np.kron(coarse, np.ones((6, 6, 1), np.float32)))
    return folder


@pytest.fixture(scope="module")
def statistics(model, photos):
    return collect(model, photos, class_name="dog", n_components=4)


def blame(model, statistics, images):
    """What the suppressed loss says of each image."""
    return ops.convert_to_numpy(outlier_loss(statistics)(model.activations(images, ["conv", "deep"])))


@pytest.mark.parametrize("preset", ["simonyan", "regularised", "fourier"])
def test_suppression_brings_images_nearer_to_the_class(model, statistics, preset):
    fitted = ShrunkGaussian.fit(statistics["conv"].means)
    keywords = {"preset": preset, "n_images": 2, "n_steps": 60, **({} if preset == "fourier" else {"l2": 0.0})}
    free = maximize(model, "dog", **keywords)
    held = maximize(model, "dog", suppress_outliers=statistics, **keywords)
    seen = [model.activations(result.images, ["conv"])["conv"] for result in (free, held)]
    distances = [fitted.distances(activations.mean(axis=(1, 2))) for activations in seen]
    assert np.all(distances[0] > fitted.limit)
    before, after = (blame(model, statistics, result.images) for result in (free, held))
    assert np.all(before > 0.3) and np.all(after < 0.2 * before)
    # A sigmoid over a whole range of greys comes to have channels below their means as well, which are not to blame.
    if preset != "fourier":
        assert np.all(distances[1] < 0.7 * distances[0])
    assert held.record["statistics_hash"] == statistics.hash() and held.record["settings"]["outlier_weight"] == 10
    assert free.record["statistics_hash"] is None and free.record["settings"]["outlier_weight"] is None


def test_another_networks_images_are_outliers(model, statistics):
    # What is held within the class is so to this network, not to one with other weights.
    other = make_network(2)
    keywords = {"preset": "simonyan", "l2": 0.0, "n_images": 2, "n_steps": 60}
    held, theirs = maximize(model, "dog", suppress_outliers=statistics, **keywords), maximize(other, "dog", **keywords)
    ours, blamed = (blame(model, statistics, actual.images) for actual in (held, theirs))
    assert np.all(ours < 0.5 * blamed)


def test_a_photograph_is_refined_within_its_class(model, statistics, photos):
    keywords = {"checkpoints": (30,), "strength": 20.0, "tv": 0.0, "jitter": 2}
    free = refine(model, photos / "00.png", "dog", **keywords)
    held = refine(model, photos / "00.png", "dog", suppress_outliers=statistics, **keywords)
    assert blame(model, statistics, free.images) > 0.3
    assert blame(model, statistics, held.images) < 0.5 * blame(model, statistics, free.images)
    assert held.record["statistics_hash"] == statistics.hash() and held.record["settings"]["outlier_weight"] == 3
    assert free.record["statistics_hash"] is None and free.record["settings"]["outlier_weight"] is None


def test_a_morph_is_held_within_the_classes_whose_statistics_are_given(model, statistics, photos):
    cats = collect(model, photos, class_name="cat", n_components=4)
    keywords = {"n_frames": 2, "n_steps": 60, "strength": 20.0, "tv": 0.0, "jitter": 2}
    free = morph(model, "cat", "dog", **keywords)
    ends, starts, both = (
        morph(model, "cat", "dog", suppress_outliers=passed, **keywords)
        for passed in (statistics, cats, [cats, statistics])
    )
    first, last = (blame(model, statistics, free.frames[i][None] / 255) for i in (0, -1))
    assert first > 0.3 and last > 0.3
    for result, held in ((ends, {"morph"}), (starts, {"start"}), (both, {"start", "morph"})):
        terms = {row["stage"] for row in result.history if any(name.startswith("outliers:") for name in row)}
        assert terms == held
        for stage, i, before in (("start", 0, first), ("morph", -1, last)):
            assert stage not in held or blame(model, statistics, result.frames[i][None] / 255) < 0.5 * before
    np.testing.assert_array_equal(ends.frames[0], free.frames[0])
    assert both.record["statistics_hash"] == f"{cats.hash()},{statistics.hash()}"
    assert both.record["settings"]["suppress_outliers"] == ["in memory", "in memory"]
    with pytest.raises(InputError, match="what is raised is eel or cat"):
        morph(model, "eel", "cat", suppress_outliers=statistics)
    with pytest.raises(InputError, match="what is raised is cat"):
        morph(model, photos / "00.png", "cat", suppress_outliers=statistics)
    with pytest.raises(InputError, match="two statistics of 'dog'"):
        morph(model, "cat", "dog", suppress_outliers=[statistics, statistics])


def test_every_map_is_watched(statistics):
    assert outlier_loss(statistics).layers == ("conv", "deep")
    assert outlier_loss(statistics, layers=["deep"]).layers == ("deep",)


def test_the_weight_counts_in_deviations_of_the_score(model, statistics):
    dog = model.find_class("dog")
    loss = suppression(model, [statistics], [dog], weight=3.0).loss(dog.index)
    assert loss.terms[0].weight == pytest.approx(3.0 * statistics.logits.std())


def test_statistics_that_do_not_fit_are_refused(model, statistics):
    shuffled = make_network(2)
    with pytest.raises(ModelError, match="weights"):
        maximize(shuffled, "dog", suppress_outliers=statistics, n_images=1, n_steps=1)
    for what, message in (
        ({"class_name": "cat"}, "statistics are of 'dog', what is raised is cat"),
        ({"class_name": "dog,cat"}, "while one class is maximised; what is maximised is dog, cat"),
        ({"unit": "deep:1"}, "what is maximised is deep:1"),
    ):
        with pytest.raises(InputError, match=message):
            maximize(model, **what, suppress_outliers=statistics, n_images=1, n_steps=1)
    with pytest.raises(InputError, match="statistics are of 'dog'"):
        refine(model, np.zeros((24, 24, 3)), "cat", suppress_outliers=statistics)
    with pytest.raises(InputError, match="outlier_weight"):
        maximize(model, "dog", suppress_outliers=statistics, outlier_weight=-1.0, n_images=1, n_steps=1)
