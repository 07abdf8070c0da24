"""Backward rules against gradients worked out by hand, all of them nonzero."""

import numpy as np
import pytest
from keras import ops

from stochdeconv import backend
from stochdeconv.networks.backward_rules import rectify
from stochdeconv.optimization.gradient import loss_gradient

X = np.array([[-1.0, 2.0, 3.0, 7.0]], np.float32)
UPSTREAM = np.array([[4.0, -1.0, 2.0, 5.0]], np.float32)


def gradient_of(function, x):
    step = backend.compile(lambda x: backend.value_and_gradient(lambda x: (function(x), ()))(x)[1])
    return ops.convert_to_numpy(step(ops.convert_to_tensor(x)))


@pytest.mark.parametrize(
    ("rule", "max_value", "expected"),
    [
        ("true", None, [0, -1, 2, 5]),
        ("guided", None, [0, 0, 2, 5]),
        ("deconvnet", None, [4, 0, 2, 5]),
        ("true", 6.0, [0, -1, 2, 0]),
        ("guided", 6.0, [0, 0, 2, 0]),
        ("deconvnet", 6.0, [4, 0, 2, 5]),
    ],
)
def test_each_rule_passes_what_its_paper_says(rule, max_value, expected):
    gradient = gradient_of(lambda x: ops.sum(ops.multiply(rectify(x, rule, max_value), UPSTREAM)), X)
    np.testing.assert_array_equal(gradient, [expected])
    np.testing.assert_array_equal(
        ops.convert_to_numpy(rectify(ops.convert_to_tensor(X), rule, max_value)),
        np.clip(X, 0, max_value or np.inf),
    )


def two_layers(rule):
    """y = V relu(W x), with hand-sized weights."""
    w = np.array([[1.0, 1.0], [-1.0, 2.0]], np.float32)
    v = np.array([[1.0, -2.0], [3.0, 1.0]], np.float32)

    def activations(x):
        hidden = rectify(ops.matmul(x, w), rule)
        return {"input": x, "y": ops.matmul(rectify(hidden, rule), v)}

    return activations


def ruled(rule, loss, x, share=0.0):
    pulled = {name: two_layers(name) for name in {"true", "guided" if rule == "mix" else rule}}

    def step(x):
        return loss_gradient(x, pulled, lambda a: (loss(a), ()), rule, ops.convert_to_tensor(np.float32(share)))

    _, gradient, cosine = backend.compile(step)(ops.convert_to_tensor(x))
    return ops.convert_to_numpy(gradient), ops.convert_to_numpy(cosine)


def score_up(activations):
    return -ops.sum(activations["y"][:, 0])


def score_down(activations):
    return ops.sum(activations["y"][:, 0])


def test_guided_keeps_the_positive_gradients_of_the_score_not_of_the_loss():
    # x = (3, 1): W x = (2, 5), both firing. d y0 / d hidden = (1, 3); nothing is negative, so guided equals true here:
    # d y0 / d x = (1 + 3, -1 + 6) = (4, 5), and the loss -y0 has the opposite sign.
    gradient, cosine = ruled("guided", score_up, np.array([[3.0, 1.0]], np.float32))
    np.testing.assert_allclose(gradient, [[-4, -5]])
    np.testing.assert_allclose(cosine, 1, rtol=1e-5)


def test_guided_drops_what_would_lower_the_score():
    # y1 = -2 h0 + h1: the path through h0 is negative and is dropped: d y1 / d x = (1, 2); true is (-2 + 1, 2 + 2) = (-1, 4).
    def loss(activations):
        return -ops.sum(activations["y"][:, 1])

    x = np.array([[3.0, 1.0]], np.float32)
    np.testing.assert_allclose(ruled("guided", loss, x)[0], [[-1, -2]])
    np.testing.assert_allclose(ruled("true", loss, x)[0], [[1, -4]])
    np.testing.assert_allclose(ruled("guided", loss, x)[1], (-1 * 1 + 4 * 2) / np.sqrt(17 * 5), rtol=1e-5)


def test_a_target_from_above_and_from_below_gives_opposite_directions():
    x = np.array([[3.0, 1.0]], np.float32)
    up, down = ruled("guided", score_up, x)[0], ruled("guided", score_down, x)[0]
    assert np.all(up != 0)
    np.testing.assert_allclose(up, -down)


def test_deconvnet_forgets_which_units_fired():
    # x = (1, -3): W x = (4, -5), so h1 is silent; deconvnet sends its upstream 3 through all the same: (1 + 3, -1 + 6).
    x = np.array([[1.0, -3.0]], np.float32)
    np.testing.assert_allclose(ruled("deconvnet", score_up, x)[0], [[-4, -5]])
    np.testing.assert_allclose(ruled("guided", score_up, x)[0], [[-1, 1]])


def test_a_loss_on_the_image_alone_has_the_true_gradient_under_every_rule():
    x = np.array([[3.0, -1.0]], np.float32)
    for rule in ("guided", "deconvnet"):
        np.testing.assert_allclose(ruled(rule, lambda a: ops.sum(a["input"] ** 2), x)[0], 2 * x, rtol=1e-6)


def test_a_mix_has_equal_norms_and_ends_at_the_true_gradient():
    def loss(activations):
        return -ops.sum(activations["y"][:, 1])

    x = np.array([[3.0, 1.0]], np.float32)
    np.testing.assert_allclose(ruled("mix", loss, x, share=0.0)[0], [[1, -4]], rtol=1e-5)
    np.testing.assert_allclose(ruled("mix", loss, x, share=1.0)[0], np.array([[-1, -2]]) * np.sqrt(17 / 5), rtol=1e-5)
