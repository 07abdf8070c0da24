"""Optimizers of Keras in the loop: their steps, and that nothing of a run stays behind."""

import keras
import numpy as np
import pytest
from keras import ops

from stochdeconv import Descent, Network, backend, losses, optimize, parameterizations
from stochdeconv.errors import InputError
from stochdeconv.optimization.steps import ADAM_EPSILON

SHAPE, N_STEPS, RATE = (6, 5, 3), 5, 0.05
TARGETS = np.random.default_rng(3).uniform(size=(2, *SHAPE)).astype(np.float32)
OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(epsilon=ADAM_EPSILON),
    "sgd": keras.optimizers.SGD,
    "adagrad": keras.optimizers.Adagrad,
    "lamb": keras.optimizers.Lamb,
    "adafactor": lambda: keras.optimizers.Adafactor(relative_step=False),
    "momentum": lambda: keras.optimizers.SGD(momentum=0.9, nesterov=True),
    "clipped": lambda: keras.optimizers.SGD(clipnorm=1.0),
    "decoupled": lambda: keras.optimizers.AdamW(weight_decay=0.1),
    "averaged": lambda: keras.optimizers.RMSprop(use_ema=True, ema_overwrite_frequency=2),
}


@pytest.fixture(scope="module")
def network():
    return Network(keras.Sequential([keras.Input(SHAPE), keras.layers.Conv2D(4, 3, name="conv")]))


@losses.loss(layer="input")
def distance(values, targets):
    return 0.5 * ops.sum((values - targets) ** 2, axis=(1, 2, 3))


def run(network, optimizer, targets=TARGETS, rate=RATE, **settings):
    start = np.full((len(targets), *SHAPE), 0.5)
    variables = parameterizations.pixels(start, noise=0.0, n_images=len(targets), learning_rate=rate)
    descent = Descent(optimizer, **settings)
    return optimize(network, distance(targets), parameterization=variables, n_steps=N_STEPS, descent=descent)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_keras_image_by_image(network, name):
    result = run(network, OPTIMIZERS[name]())
    for image, target in zip(result.images, TARGETS, strict=True):
        values = keras.Variable(np.full(SHAPE, 0.5, np.float32))
        optimizer = OPTIMIZERS[name]()
        optimizer.learning_rate = RATE
        for _ in range(N_STEPS):
            optimizer.apply([values.value - ops.convert_to_tensor(target)], [values])
        np.testing.assert_allclose(image, ops.convert_to_numpy(values.value), atol=1e-5)
    assert np.abs(result.images - 0.5).max() > 0.01


def test_a_name_a_config_and_an_instance_are_the_same(network):
    optimizer = keras.optimizers.SGD()
    expected = run(network, optimizer).images
    np.testing.assert_allclose(expected, TARGETS + (0.5 - TARGETS) * (1 - RATE) ** N_STEPS, rtol=1e-4)
    for same in ("sgd", "SGD", keras.optimizers.serialize(optimizer)):
        np.testing.assert_array_equal(run(network, same).images, expected)
    assert "SGD" in run(network, "sgd").settings["descent"]["optimizer"]["class_name"]


def test_adam_is_that_of_keras_with_the_epsilon_of_its_paper(network):
    result = run(network, "adam")
    np.testing.assert_array_equal(result.images, run(network, OPTIMIZERS["adam"]()).images)
    # Of gradients about as small as epsilon, the first step tells its size: g / (|g| + epsilon). At the 40th it is the paper's 1e-8.
    epsilon = 1e-8 * ((1 - 0.999**40) / (1 - 0.999)) ** 0.5
    start = parameterizations.pixels(np.zeros(SHAPE), noise=0.0, learning_rate=1.0)
    loss = 2e-8 * distance(np.full((1, *SHAPE), 0.5))  # a gradient of -1e-8
    first = optimize(network, loss, parameterization=start, n_steps=1).images
    np.testing.assert_allclose(first, 1e-8 / (1e-8 + epsilon), rtol=1e-3)


@pytest.mark.parametrize("name", ["adam", "lamb", "clipped"])
def test_a_run_leaves_nothing_for_the_next(network, name):
    optimizer = OPTIMIZERS[name]()
    first = run(network, optimizer).images
    run(network, optimizer, 1 - TARGETS)
    np.testing.assert_array_equal(run(network, optimizer).images, first)
    assert not optimizer.built and int(optimizer.iterations) == 0
    np.testing.assert_allclose(run(network, optimizer, TARGETS[1:]).images, first[1:], atol=1e-6)


def test_a_run_within_a_run_does_not_disturb_it(network):
    variables = parameterizations.pixels(np.full(SHAPE, 0.5), noise=0.0, learning_rate=RATE)
    alone = run(network, "adam", TARGETS[:1]).images
    within = optimize(
        network,
        distance(TARGETS[:1]),
        parameterization=variables,
        n_steps=N_STEPS,
        callback=lambda step: run(network, "adam", 1 - TARGETS[:1]),
    )
    np.testing.assert_array_equal(within.images, alone)


def test_the_parameterization_and_the_schedule_have_the_learning_rate(network):
    fixed, decayed = (run(network, keras.optimizers.SGD(123.0), decay=decay).images for decay in (False, True))
    np.testing.assert_array_equal(fixed, run(network, "sgd").images)
    rates = Descent(decay=True).learning_rates(RATE, N_STEPS)
    np.testing.assert_allclose(decayed, TARGETS + (0.5 - TARGETS) * np.prod(1 - rates), rtol=1e-4)


@pytest.mark.skipif(backend.name() == "torch", reason="compiles nothing")
def test_a_program_is_compiled_once(network):
    traced = []

    class Watched(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            traced.append(self.momentum)
            return super().update_step(gradient, variable, learning_rate)

    for rate in (0.1, 0.2):
        run(network, Watched(momentum=0.5), rate=rate)
    assert traced == [0.5] * len(TARGETS)
    run(network, Watched(momentum=0.7))
    assert traced == [0.5] * len(TARGETS) + [0.7] * len(TARGETS)


def test_what_does_not_go_with_the_loop_is_refused():
    with pytest.raises(
        InputError, match="'adm' is unknown; there are adam, normalized, mean_normalized, lbfgs, and Keras's"
    ):
        Descent("adm")
    for other in (0.5, None, {"a": 1}, {"class_name": "Adm", "config": {}}):
        with pytest.raises(InputError, match=f"of type {type(other).__name__} is unknown"):
            Descent(other)
    for scaled in (
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()),
        keras.optimizers.SGD(loss_scale_factor=2.0),
    ):
        with pytest.raises(InputError, match="leave the scale out"):
            Descent(scaled)
    with pytest.raises(InputError, match="use clipnorm"):
        Descent(keras.optimizers.SGD(global_clipnorm=1.0))
    with pytest.raises(InputError, match="schedule of learning rates"):
        Descent(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10)))
