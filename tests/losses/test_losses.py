import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import log_softmax

from stochdeconv import backend, losses, regularizers
from stochdeconv.errors import InputError
from stochdeconv.networks.network import LOG_PROBABILITIES
from stochdeconv.statistics.regions import Regions


@pytest.fixture
def maps():
    return np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)


def value(loss, **activations):
    return ops.convert_to_numpy(
        loss({name.replace("__", "-"): ops.convert_to_tensor(a) for name, a in activations.items()})
    )


def test_a_sum_equals_its_parts_and_leaves_them_as_they_were(maps):
    a, b = losses.unit("x", 1), losses.unit("x", 2, (0, 3))
    first = a + 0.1 * b
    second = 2 * first + a
    np.testing.assert_allclose(value(first, x=maps), value(a, x=maps) + 0.1 * value(b, x=maps), rtol=1e-6)
    np.testing.assert_allclose(value(second, x=maps), 3 * value(a, x=maps) + 0.2 * value(b, x=maps), rtol=1e-5)
    assert [weighted.weight for weighted in first.terms] == [1.0, 0.1]
    assert [weighted.weight for weighted in second.terms] == [2.0, 0.2, 1.0]
    assert second.names == ("unit:x:1", "unit:x:2:0:3", "unit:x:1#2")
    assert second.layers == ("x",)


def test_arrays_that_terms_share_are_handed_in_once(maps):
    shared, own = np.ones(3, np.float32), np.ones(3, np.float32)

    @losses.loss
    def compared(values, target, other):
        return ops.mean((values - ops.mean(target) * ops.mean(other)) ** 2, axis=(1, 2, 3))

    loss = compared("x", shared, own) + compared("y", own, shared) + compared("x", shared, shared)
    assert [id(array) for array in loss.arrays] == [id(shared), id(own)]
    assert loss.array_places == (
        (("target", 0), ("other", 1)),
        (("target", 1), ("other", 0)),
        (("target", 0), ("other", 0)),
    )


def test_weights_follow_the_steps_at_which_terms_join():
    loss = losses.unit("x", 0) + (3.0 * losses.unit("y", 0)).joining_at(0.5)
    np.testing.assert_array_equal(loss.weights(4), [[1, 0], [1, 0], [1, 3], [1, 3]])


@pytest.mark.parametrize("weight", ["2", np.nan, np.inf, None])
def test_a_weight_that_is_no_number_is_refused(weight):
    with pytest.raises(InputError, match="finite number"):
        weight * losses.Loss.of(losses.unit("x", 0))


def test_a_sum_with_something_else_is_refused():
    with pytest.raises(InputError, match="made of losses"):
        losses.unit("x", 0) + (lambda activations: 0)


def test_terms_of_equal_settings_are_one_program_whatever_their_arrays(maps):
    a, b = losses.match({"x": maps}).terms[0].term, losses.match({"x": maps + 1}).terms[0].term
    assert a == b and hash(a) == hash(b)
    assert losses.unit("x", 0) == losses.unit("x", 1) != losses.unit("x", 1, (0, 0))
    assert regularizers.total_variation() != regularizers.total_variation(1.5)
    assert losses.total_variation is regularizers.total_variation


def test_channel_moments_against_numpy(maps):
    rng = np.random.default_rng(1)
    root = rng.normal(size=(6, 6))
    covariance, mean, std = root @ root.T, rng.normal(size=(3, 6)), rng.uniform(0.5, 2, size=(3, 6))
    correlation = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    expected = []
    for i in range(3):
        flat = maps[i].reshape(-1, 6)
        own = np.cov(flat, rowvar=False, ddof=0)
        target = correlation * np.outer(std[i], std[i])
        of_mean = np.sum((flat.mean(0) - mean[i]) ** 2) / np.trace(covariance)
        expected.append(of_mean + np.sum((own - target) ** 2) / np.sum(target**2))
    term = losses.channel_moments("x", mean=mean, std=std, covariance=covariance)
    np.testing.assert_allclose(value(term, x=maps), expected, rtol=1e-4)


def test_channel_moments_are_met_by_an_image_that_has_them(maps):
    places = maps[:1].reshape(-1, 6).astype(np.float64)
    covariance = np.cov(places, rowvar=False, ddof=0)
    term = losses.channel_moments("x", mean=places.mean(0)[None], std=places.std(0)[None], covariance=covariance)
    assert value(term, x=maps[:1])[0] < 1e-10 < value(term, x=maps[1:2])[0]


def random_moments(n_images=3):
    rng = np.random.default_rng(1)
    root = rng.normal(size=(6, 6))
    return {
        "mean": rng.normal(size=(n_images, 6)),
        "std": rng.uniform(0.5, 2, size=(n_images, 6)),
        "covariance": root @ root.T,
    }


def gradient(term, values):
    def total(x):
        return ops.sum(term({"x": x})), ()

    return ops.convert_to_numpy(backend.value_and_gradient(total)(ops.convert_to_tensor(values))[1])


def test_the_gradient_of_channel_moments_is_that_of_the_loss(maps):
    term = losses.channel_moments("x", **random_moments())
    direction = np.random.default_rng(3).normal(size=maps.shape).astype(np.float32)
    step = 1e-2
    ahead, behind = (value(term, x=maps + sign * step * direction).sum(dtype=np.float64) for sign in (1, -1))
    assert np.sum(gradient(term, maps) * direction) == pytest.approx((ahead - behind) / (2 * step), rel=1e-3)


@pytest.mark.parametrize("far", [0.0, 10.0])
def test_targets_are_pursued_in_bfloat16_nearly_as_in_float32(maps, far):
    # Half of the positions are silent, as after a ReLU; a channel may lie far from zero and vary little.
    maps = np.maximum(maps, 0) + far * (np.arange(6) == 2)
    rng = np.random.default_rng(4)
    moments = {**random_moments(), "mean": maps.mean(axis=(1, 2)) * rng.uniform(0.9, 1.1, size=(3, 6))}
    directions = np.linalg.qr(rng.normal(size=(6, 4)))[0].astype(np.float32)
    terms = [
        loss("x", directions=basis, **arguments)
        for basis in (None, directions)
        for loss, arguments in ((losses.channel_moments, moments), (losses.layout_scores, layout_of(maps)))
    ]
    for term in terms:
        assert term.reads_shared_maps
        rough = ops.cast(ops.convert_to_tensor(maps), "bfloat16")
        loss = term({"x": rough})
        assert keras.backend.standardize_dtype(loss.dtype) == "float32"
        np.testing.assert_allclose(ops.convert_to_numpy(loss), value(term, x=maps), rtol=0.05)
        exact, coarse = gradient(term, maps).ravel(), gradient(term, rough).astype(np.float32).ravel()
        assert exact @ coarse / np.linalg.norm(exact) / np.linalg.norm(coarse) > 0.995


def layout_of(maps):
    rng = np.random.default_rng(5)
    return {
        "scores": rng.normal(size=(3, 3)),
        "components": np.linalg.qr(rng.normal(size=(24, 3)))[0].T,
        "explained_variance": np.array([3.0, 2.0, 0.5]),
        "layout_mean": maps.mean(axis=(0, 1, 2)) * np.ones((2, 2, 1)),
    }


def facets_of(layer):
    rng = np.random.default_rng(6)
    kinds = Regions(layer, rng.normal(size=6), rng.normal(size=(6, 2)), rng.normal(size=(4, 2)), 0.7)
    return {"facets": kinds, "layout_shape": (2, 5), "means": rng.normal(size=(3, 4, 6)), "variance": 2.0}


def test_along_all_directions_targets_are_what_they_are_without(maps):
    directions = np.linalg.qr(np.random.default_rng(7).normal(size=(6, 6)))[0].astype(np.float32)
    pairs = [
        (losses.channel_moments, random_moments()),
        (losses.layout_scores, layout_of(maps)),
        (losses.facet_moments, facets_of("x")),
    ]
    for loss, arguments in pairs:
        whole, along = (value(loss("x", directions=basis, **arguments), x=maps) for basis in (None, directions))
        np.testing.assert_allclose(along, whole, rtol=1e-3)
        assert (whole > 0.01).all()


def test_along_directions_moments_are_those_of_the_projected_map(maps):
    directions = np.linalg.qr(np.random.default_rng(7).normal(size=(6, 2)))[0].astype(np.float32)
    moments = random_moments()
    scale = np.sqrt(np.diag(moments["covariance"]))
    expected = []
    for i in range(3):
        flat = maps[i].reshape(-1, 6) @ directions
        target = moments["covariance"] * np.outer(moments["std"][i] / scale, moments["std"][i] / scale)
        target = directions.T @ target @ directions
        of_mean = np.sum((flat.mean(0) - moments["mean"][i] @ directions) ** 2) / np.trace(moments["covariance"])
        own = np.cov(flat, rowvar=False, ddof=0)
        expected.append(of_mean + np.sum((own - target) ** 2) / np.sum(target**2))
    term = losses.channel_moments("x", directions=directions, **moments)
    np.testing.assert_allclose(value(term, x=maps), expected, rtol=1e-4)


def test_along_directions_a_map_of_the_sampled_components_is_met(maps):
    directions = np.linalg.qr(np.random.default_rng(7).normal(size=(6, 2)))[0].astype(np.float32)
    layout = layout_of(maps)
    made = layout["layout_mean"] + (layout["scores"] @ layout["components"]).reshape(3, 2, 2, 6)
    term = losses.layout_scores("x", directions=directions, **layout)
    assert value(term, x=made.astype(np.float32)).max() < 1e-9
    assert value(term, x=maps[:, :2, :2]).min() > 0.01


def test_layout_scores_against_numpy(maps):
    rng = np.random.default_rng(2)
    components = np.linalg.qr(rng.normal(size=(24, 3)))[0].T
    mean, variance, scores = rng.normal(size=(2, 2, 6)), np.array([3.0, 2.0, 0.5]), rng.normal(size=(3, 3))
    even = maps[:, :, :4]  # 4 x 4 positions pool to 2 x 2 by plain block means
    pooled = even.reshape(3, 2, 2, 2, 2, 6).mean(axis=(2, 4))
    own = (pooled.reshape(3, -1) - mean.ravel()) @ components.T
    term = losses.layout_scores(
        "x", scores=scores, components=components, explained_variance=variance, layout_mean=mean
    )
    np.testing.assert_allclose(value(term, x=even), np.mean((own - scores) ** 2 / variance, axis=1), rtol=1e-4)


def test_components_that_hardly_vary_do_not_decide(maps):
    rng = np.random.default_rng(2)
    layout = {"scores": np.zeros((3, 3)), "components": np.linalg.qr(rng.normal(size=(24, 3)))[0].T}
    layout["layout_mean"] = rng.normal(size=(2, 2, 6))
    tiny, floored = (
        value(losses.layout_scores("x", explained_variance=np.array([3.0, 2.0, least]), **layout), x=maps)
        for least in (1e-9, 0.03)
    )
    np.testing.assert_allclose(tiny, floored, rtol=1e-6)


def test_match_is_relative(maps):
    np.testing.assert_allclose(value(losses.match({"x": maps}), x=3 * maps), 4.0, rtol=1e-5)
    with pytest.raises(InputError, match="empty"):
        losses.match({})
    with pytest.raises(InputError, match=f"target is 2×2×6 where the images have {'×'.join(map(str, maps.shape[1:]))}"):
        value(losses.match({"x": np.zeros((len(maps), 2, 2, 6))}), x=maps)


def test_cross_entropy_and_unit(maps):
    logits = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(
        losses.cross_entropy(2)({LOG_PROBABILITIES: log_softmax(logits, axis=1)}),
        [-np.log(np.exp(3) / np.exp([1, 2, 3]).sum()), np.log(3)],
        rtol=1e-5,
    )
    np.testing.assert_allclose(value(losses.unit("logits", 1), logits=logits), [-2, 0])
    np.testing.assert_allclose(value(losses.unit("x", 5), x=maps), -maps[..., 5].mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(value(losses.unit("x", 5, (1, 4)), x=maps), -maps[:, 1, 4, 5])
