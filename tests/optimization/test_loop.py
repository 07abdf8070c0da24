import gc
import weakref

import keras
import numpy as np
import pytest
from keras import ops

from stochdeconv import backend, losses, parameterizations, regularizers, transforms
from stochdeconv.errors import DivergenceError, InputError
from stochdeconv.networks.image_model import load_model
from stochdeconv.networks.layer_copies import LayerCopies
from stochdeconv.optimization.descent import Descent
from stochdeconv.optimization.loop import optimize
from stochdeconv.optimization.results import part_images

SIZE = (16, 16)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((*SIZE, 3)),
            keras.layers.Conv2D(8, 3, activation="relu", name="conv"),
            keras.layers.Conv2D(8, 3, activation="relu", name="deep"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4, activation="softmax", name="predictions"),
        ]
    )
    return load_model(network, preprocessing="tf", dtype="float32")


def fourier(**settings):
    return parameterizations.fourier(SIZE, **{"n_images": 2, **settings})


def test_it_reaches_a_target_that_can_be_reached(model):
    photo = np.random.default_rng(0).uniform(0.2, 0.8, size=(2, *SIZE, 3)).astype(np.float32)
    target = model.activations(photo, ["conv"])
    result = optimize(model, losses.match(target), parameterization=fourier(), n_steps=300)
    loss = [row["match:conv"] for row in result.history]
    assert loss[-1] < 0.02 < 0.2 < loss[0]
    assert len(loss) == 300 and result.images.shape == (2, *SIZE, 3)


def test_images_do_not_influence_each_other_and_depend_on_seed_and_index(model):
    loss = losses.cross_entropy(1) + regularizers.total_variation()
    views = [transforms.Transform(jitter=2, scale=0.1, rotate=10)]
    run = {"n_steps": 12, "transforms": views}
    four = optimize(model, loss, parameterization=fourier(n_images=4, seed=5), **run).images
    two = optimize(model, loss, parameterization=fourier(seed=5, first_index=2), **run).images
    np.testing.assert_allclose(two, four[2:], atol=2e-4)
    assert np.abs(four[0] - four[1]).max() > 0.01


def test_the_same_run_gives_the_same_bytes(model):
    runs = [
        optimize(
            model, losses.cross_entropy(1), parameterization=fourier(), n_steps=8, transforms=[transforms.jitter(2)]
        )
        for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0].images, runs[1].images)


def test_adam_and_normalized_take_the_steps_their_formulas_say(model):
    start = np.full((*SIZE, 3), 0.5, np.float32)
    # d / dx of mean |2x - 1|^2 has the sign of x - 1/2: Adam's first step is the learning rate against it.
    variables = parameterizations.pixels(start + 0.25, noise=0.0, learning_rate=0.125)
    result = optimize(model, regularizers.alpha_norm(2.0), parameterization=variables, n_steps=1)
    np.testing.assert_allclose(result.images, 0.625, rtol=1e-4)
    ramp = start + np.linspace(0.1, 0.3, 3, dtype=np.float32)
    variables = parameterizations.pixels(ramp, noise=0.0, learning_rate=0.01)
    step = ramp - 0.5
    for optimizer, size in (("normalized", np.sqrt(np.mean(step**2))), ("mean_normalized", np.mean(np.abs(step)))):
        descent = Descent(optimizer)
        result = optimize(model, regularizers.alpha_norm(2.0), parameterization=variables, n_steps=1, descent=descent)
        np.testing.assert_allclose(result.images[0], ramp - 0.01 * step / size, rtol=1e-4)


def test_adam_is_that_of_keras(model):
    target = np.random.default_rng(3).uniform(size=(1, *SIZE, 3)).astype(np.float32)
    variables = parameterizations.pixels(np.full((*SIZE, 3), 0.5), noise=0.0, learning_rate=0.05)
    result = optimize(model, 100.0 * losses.match({"input": target}), parameterization=variables, n_steps=20)
    values = keras.Variable(np.full((1, *SIZE, 3), 0.5, np.float32))
    adam = keras.optimizers.Adam(0.05, epsilon=1e-8)
    for _ in range(20):
        adam.apply([200 * (values.value - ops.convert_to_tensor(target)) / np.sum(target**2)], [values])
    np.testing.assert_allclose(result.images, values.numpy(), atol=1e-4)


def test_a_term_that_joins_late_has_no_say_before(model):
    late = (5.0 * losses.cross_entropy(2)).joining_at(0.5)
    plain = losses.cross_entropy(1)
    short = optimize(model, plain, parameterization=fourier(), n_steps=5).images
    seen = {}

    def callback(step):
        seen[step.step] = step.images()

    optimize(model, plain + late, parameterization=fourier(), n_steps=10, callback=callback)
    np.testing.assert_allclose(seen[5], short, atol=1e-5)
    longer = optimize(model, plain, parameterization=fourier(), n_steps=10).images
    assert np.abs(seen[10] - longer).max() > 1e-3


@pytest.mark.parametrize("rule", ["guided", "deconvnet", "mix"])
def test_other_rules_are_logged_with_their_cosine(model, rule):
    descent = Descent(gradient_rule=rule)
    result = optimize(model, losses.unit("deep", 3), parameterization=fourier(), n_steps=8, descent=descent)
    true = optimize(model, losses.unit("deep", 3), parameterization=fourier(), n_steps=8)
    assert 0 < result.history[0]["cosine"] < 1 and "cosine" not in true.history[0]
    assert result.history[-1]["unit:deep:3"] < result.history[0]["unit:deep:3"]
    assert np.abs(result.images - true.images).max() > 1e-4


def test_a_diverging_run_names_the_step_and_the_term(model):
    class Fragile(losses.Term):
        def of_values(self, values, arrays):
            return ops.log(0.5005 - ops.mean(values, axis=(1, 2, 3)))

    variables = parameterizations.pixels(np.full((*SIZE, 3), 0.5), noise=0.0, learning_rate=0.0002)
    with pytest.raises(DivergenceError, match=r"'fragile:input' became nan at step [2-9] of 20"):
        optimize(model, Fragile("input"), parameterization=variables, n_steps=20)


def test_a_gradient_that_is_not_finite_is_laid_to_its_term(model):
    class Kinked(losses.Term):
        def of_values(self, values, arrays):
            return ops.sum(ops.sqrt(ops.abs(values - 0.5)), axis=(1, 2, 3))  # infinitely steep at its minimum

    variables = parameterizations.pixels(np.full((*SIZE, 3), 0.5), noise=0.0)
    # JAX keeps what is not a number even where its weight is 0.
    blamed = "'kinked:input'" if backend.name() == "tensorflow" else "'cross_entropy:logits' or 'kinked:input'"
    with pytest.raises(DivergenceError, match=f"gradient of the loss {blamed} became NaN or infinite at step 1"):
        optimize(model, losses.cross_entropy(0) + Kinked("input"), parameterization=variables, n_steps=3)


def test_rules_follow_a_bfloat16_network_as_they_do_in_float32(model):
    loss = losses.unit("deep", 3) + regularizers.total_variation()
    results = [
        optimize(network, loss, parameterization=fourier(), n_steps=8, descent=Descent(gradient_rule="guided"))
        for network in (model, load_model(model.keras_model, preprocessing="tf", dtype="bfloat16"))
    ]
    exact, rough = (result.history[-1] for result in results)
    assert rough["unit:deep:3"] == pytest.approx(exact["unit:deep:3"], rel=0.1)
    assert results[0].history[0]["unit:deep:3"] > 1.02 * exact["unit:deep:3"]
    assert rough["cosine"] == pytest.approx(exact["cosine"], abs=0.1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_activations_come_in_the_networks_dtype_to_terms_that_read_it(model, dtype):
    read = {}

    class Reader(losses.Term):
        def of_values(self, values, arrays):
            read[type(self).__name__] = keras.backend.standardize_dtype(values.dtype)
            return ops.mean(ops.cast(values, "float32"), axis=(1, 2, 3))

    class ReaderAsComputed(Reader):
        reads_network_dtype = True

    loss = losses.Loss() + Reader("deep") + ReaderAsComputed("deep")
    of_dtype = load_model(model.keras_model, preprocessing="none", dtype=dtype)
    optimize(of_dtype, loss, parameterization=fourier(), n_steps=1)
    assert read == {"Reader": "float32", "ReaderAsComputed": dtype}


def test_terms_of_ones_own_keep_their_own_constants(model):
    class Level(losses.Term):
        def __init__(self, level):
            super().__init__("input")
            object.__setattr__(self, "level", level)

        def of_values(self, values, arrays):
            return ops.mean((values - self.level) ** 2, axis=(1, 2, 3))

    for level in (0.1, 0.9):
        variables = parameterizations.pixels(np.full((*SIZE, 3), 0.5), noise=0.0, learning_rate=0.05)
        result = optimize(model, Level(level), parameterization=variables, n_steps=60)
        np.testing.assert_allclose(result.images, level, atol=0.1)


def test_programs_die_with_their_network_and_hold_no_targets():
    network = keras.Sequential([keras.Input((*SIZE, 3)), keras.layers.Conv2D(4, 3, activation="relu", name="conv")])
    model = load_model(network, preprocessing="tf", dtype="float32")
    target = np.ones((2, 14, 14, 4), np.float32)
    loss = losses.match({"conv": target})
    watched = weakref.ref(loss.terms[0].term)
    optimize(model, loss, parameterization=fourier(), n_steps=1)
    photo = parameterizations.pixels(np.zeros((2, *SIZE, 3), np.float32), n_images=2)
    of_photo = weakref.ref(photo)
    optimize(model, loss, parameterization=photo, n_steps=1)
    del loss, photo
    gc.collect()
    assert watched() is None and of_photo() is None
    watched = weakref.ref(model)
    del model
    gc.collect()
    assert watched() is None


class SmallDevice:
    """A device with memory for so many images, as backends tell of it; what it was asked for."""

    class ResourceExhaustedError(Exception):
        pass

    def __init__(self, n_images):
        self.n_images, self.asked = n_images, []

    def __call__(self, step):
        images = step.images()
        self.asked.append(len(images))
        if len(images) > self.n_images:
            raise self.ResourceExhaustedError


def test_out_of_memory_makes_fewer_at_a_time_and_the_same_images(model):
    targets = np.random.default_rng(0).uniform(size=(5, *SIZE, 3)).astype(np.float32)

    def loss(images):
        return losses.match({"input": targets[images]})

    run = {"parameterization": fourier(n_images=5), "n_steps": 3}
    device = SmallDevice(2)
    with pytest.warns(UserWarning, match="not enough memory") as warned:
        result = optimize(model, loss, batch_size=5, callback=device, **run)
    told = [str(warning.message) for warning in warned if "memory" in str(warning.message)]
    assert [text.split("going on with ")[1] for text in told] == ["3 (batch_size=3)", "2 (batch_size=2)"]
    assert device.asked == [5, 3, 2, 2, 2, 1, 1, 1, 2, 2, 2] and result.complete
    np.testing.assert_allclose(result.images, optimize(model, loss, **run).images, atol=1e-4)
    assert [(row["batch"], row["step"]) for row in result.history] == [(b, s) for b in range(3) for s in (1, 2, 3)]


@pytest.mark.parametrize("size", [SIZE, (SIZE[0] + 8, SIZE[1])])
def test_out_of_memory_within_the_network_is_told_at_any_size(model, monkeypatch, size):
    """As on PyTorch, where the network's layers raise it while they are called."""
    actual = LayerCopies.run

    def run(self, steps, values, **options):
        if next(iter(values.values())).shape[0] > 2:
            raise SmallDevice.ResourceExhaustedError
        actual(self, steps, values, **options)

    monkeypatch.setattr(LayerCopies, "run", run)
    run = {"parameterization": parameterizations.fourier(size, n_images=4), "n_steps": 2, "batch_size": 4}
    with pytest.warns(UserWarning, match="going on with 2"):
        result = optimize(model, lambda _: losses.unit("deep", 1), **run)
    assert result.images.shape == (4, *size, 3)


def test_out_of_memory_for_what_cannot_be_parted_says_what_to_do(model):
    for run in ({"parameterization": fourier(n_images=1)}, {"parameterization": fourier(n_images=3)}):
        with pytest.raises(InputError, match=r"not enough memory for [13] images? .* smaller ones \(size=\)"):
            optimize(model, losses.cross_entropy(0), n_steps=2, callback=SmallDevice(0), **run)


def test_a_step_is_traced_once_whatever_its_numbers(model):
    """However many steps, batches, targets, seeds, rates and weights: Python runs through the loss only to compile it."""
    traces = []

    @losses.loss
    def counted(values, target):
        traces.append(values.shape)
        return ops.mean((values - target) ** 2, axis=(1, 2, 3))

    def run(level, *, n_steps=4, seed=0, rate=0.05, weight=1.0):
        target = np.full((2, 1, 1, 1), level, np.float32)
        variables = parameterizations.fourier(SIZE, n_images=4, seed=seed, learning_rate=rate)
        views = [transforms.Transform(jitter=2, scale=0.1, rotate=5)]
        optimize(
            model,
            lambda images: weight * counted("deep", target) + regularizers.total_variation(),
            parameterization=variables,
            transforms=views,
            n_steps=n_steps,
            batch_size=2,
            descent=Descent(decay=True),
        )

    run(0.5)
    n_traces = len(traces)
    run(0.1, n_steps=9, seed=3, rate=0.01, weight=0.3)
    compiles = backend.name() != "torch"
    assert (len(traces) == n_traces <= 2) if compiles else (len(traces) == 2 * (4 + 9))


def test_ctrl_c_between_batches_keeps_the_finished_ones(model):
    def loss(images):
        if images.start:
            raise KeyboardInterrupt
        return losses.Loss.of(losses.cross_entropy(0))

    result = optimize(model, loss, parameterization=fourier(n_images=4), n_steps=2, batch_size=2)
    assert len(result.images) == 2 and len(result.history) == 2 and not result.complete


def test_ctrl_c_before_anything_is_made_is_ctrl_c(model):
    def loss(images):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimize(model, loss, parameterization=fourier(n_images=4), n_steps=2, batch_size=2)


class StoppedInTheSecondBatch(parameterizations.Fourier):
    def constrained(self, variable, step, gradient):
        if self.first_index:
            raise KeyboardInterrupt
        return super().constrained(variable, step, gradient)


def test_ctrl_c_in_the_first_step_of_a_batch_leaves_its_noise_out(model):
    variables = StoppedInTheSecondBatch(**vars(fourier(n_images=4)))
    result = optimize(model, losses.cross_entropy(0), parameterization=variables, n_steps=2, batch_size=2)
    assert len(result.images) == 2 and len(result.history) == 2 and not result.complete


@pytest.mark.parametrize(("last", "n_images"), [(15, 4), (10, 4)])
def test_ctrl_c_hands_over_what_was_done(model, last, n_images):
    def callback(step):
        if step.step == last:
            raise KeyboardInterrupt

    variables = fourier(n_images=6)
    result = optimize(
        model, losses.cross_entropy(0), parameterization=variables, n_steps=10, batch_size=2, callback=callback
    )
    n_batches = -(-last // 10)
    assert len(result.images) == 2 * n_batches and not result.complete
    places = [(batch, step) for batch in range(n_batches) for step in range(1, 11)]
    assert [(row["batch"], row["step"]) for row in result.history] == places[:last]


def test_batches_change_nothing_but_the_rounding(model):
    steps = []
    # Adam would make steps of what is nothing but rounding where a gradient is zero.
    run = {"parameterization": fourier(n_images=5), "n_steps": 6, "descent": Descent("normalized")}
    whole = optimize(model, losses.cross_entropy(0), batch_size=8, **run).images
    parts = optimize(model, losses.cross_entropy(0), batch_size=2, callback=steps.append, **run).images
    assert np.abs(whole - optimize(model, losses.cross_entropy(0), **{**run, "n_steps": 1}).images).max() > 0.05
    np.testing.assert_allclose(whole, parts, atol=2e-5)
    assert (steps[-1].step, steps[-1].n_steps) == (18, 18) and len(steps) == 18
    assert [(step.batch, step.batch_step) for step in steps] == [(b, s) for b in range(3) for s in range(1, 7)]


def test_batches_have_the_losses_of_their_images(model):
    target = model.activations(np.random.default_rng(0).uniform(size=(5, *SIZE, 3)), ["conv"])["conv"]
    run = {"parameterization": fourier(n_images=5), "n_steps": 4}
    whole = optimize(model, losses.match({"conv": target}), **run).images
    parts = optimize(model, lambda images: losses.match({"conv": target[images]}), batch_size=2, **run).images
    np.testing.assert_allclose(whole, parts, atol=2e-3)


def test_images_are_parted_into_batches_of_nearly_equal_size():
    assert [(part.start, part.stop) for part in part_images(10, 4)] == [(0, 4), (4, 8), (8, 10)]
    assert [(part.start, part.stop) for part in part_images(9, 8)] == [(0, 5), (5, 9)]
    assert [(part.start, part.stop) for part in part_images(7, None)] == [(0, 7)]


def test_new_targets_do_not_compile_anew(model):
    n_programs = lambda: len(model._programs)  # noqa: E731
    activations = model.activations(np.random.default_rng(0).uniform(size=(2, *SIZE, 3)), ["conv"])
    optimize(model, losses.match(activations), parameterization=fourier(), n_steps=2)
    before = n_programs()
    again = {"conv": activations["conv"] * 2}
    optimize(model, losses.match(again), parameterization=fourier(seed=9), n_steps=3)
    assert n_programs() == before


def test_senseless_calls_are_refused(model):
    with pytest.raises(InputError, match="n_steps"):
        optimize(model, losses.cross_entropy(0), n_steps=0)
    with pytest.raises(InputError, match=r"expected a loss, such as .* got 'church'"):
        optimize(model, "church")
    with pytest.raises(InputError, match="it returned slice"):
        optimize(model, lambda values: values)
    with pytest.raises(InputError, match="no terms"):
        optimize(model, losses.Loss())
    with pytest.raises(InputError, match="guided, deconvnet"):
        Descent(gradient_rule="giuded")
    with pytest.raises(InputError, match="adam, normalized"):
        Descent("sdg")
    with pytest.raises(InputError, match="at least 1"):
        optimize(model, losses.cross_entropy(0), batch_size=0)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (losses.cross_entropy(-1), "class_index is -1; the network's classes are 0 to 3"),
        (losses.cross_entropy(4), "class_index is 4; the network's classes are 0 to 3"),
        (losses.unit("logits", -1), "channel is -1; channels of 'logits' are 0 to 3"),
        (losses.unit("conv", 8), "channel is 8; channels of 'conv' are 0 to 7"),
        (losses.activation_norm("conv", 8), "channel is 8; channels of 'conv' are 0 to 7"),
        (losses.direction("conv", np.ones(7)), "direction has 7 numbers; 'conv' has 8 channels"),
        (losses.unit("conv", 0, (99, 0)), r"position is \(99, 0\); a layer with \(14, 14\) of them"),
        (losses.unit("conv", 0, (-1, -1)), r"position is \(-1, -1\)"),
        (losses.direction("conv", np.ones(8), (0, 14)), r"position is \(0, 14\)"),
        (losses.guide("conv", np.ones((2, 2, 5))), "guide has 5 numbers; 'conv' has 8 channels"),
        (losses.unit("conv", 0) + 0.1 * losses.unit("deep", 99), "channel is 99; channels of 'deep' are 0 to 7"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)
def test_what_the_network_does_not_have_is_refused(model, loss, message):
    with pytest.raises(InputError, match=message):
        optimize(model, loss, parameterization=fourier(), n_steps=1)
