"""Each rule of saliency against numbers worked out by hand or plainly, and against what its paper promises."""

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image
from sklearn.datasets import load_sample_image
from toys import EXPLAINED_SIZE as SIZE
from toys import explained_network, likeness, loaded

from stochdeconv import backend
from stochdeconv.methods import attributions
from stochdeconv.methods.saliency import RULES, saliency
from stochdeconv.networks.image_model import load_model


@pytest.fixture(scope="module")
def model():
    return loaded(explained_network())


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).uniform(0.1, 0.9, (*SIZE, 3)).astype(np.float32)


# ---- known answers ---------------------------------------------------------------------------------------------------


def tiny_network():
    """One pixel, two hidden units, one score: relu(W x) · v, on RGB in 0..255."""
    network = keras.Sequential(
        [
            keras.Input((1, 1, 3)),
            keras.layers.Conv2D(3, 1, activation="relu", name="hidden"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1, name="score"),
        ]
    )
    # x = 255 · (0.4, 0.2, 0.6) = (102, 51, 153). Hidden before the ReLU: 2·102 + 51 = 255; 153 - 102 = 51; 51 - 153 = -102.
    kernel = np.array([[2, -1, 0], [1, 0, 1], [0, 1, -1]], np.float32)[None, None]
    network.get_layer("hidden").set_weights([kernel, np.zeros(3)])
    network.get_layer("score").set_weights([np.array([[3.0], [-4.0], [5.0]]), np.array([7.0])])
    return load_model(network, preprocessing="none", dtype="float32")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # Arriving at the hidden units: (3, -4, 5); the first two fire.
        ("gradient", 3 * np.array([2, 1, 0]) - 4 * np.array([-1, 0, 1])),
        ("deconvnet", 3 * np.array([2, 1, 0]) + 5 * np.array([0, 1, -1])),
        ("guided", 3 * np.array([2, 1, 0]) + 0 * np.array([-1, 0, 1])),
    ],
)
def test_backward_rules_by_hand(rule, expected):
    photo = np.array([[[0.4, 0.2, 0.6]]], np.float32)
    with pytest.warns(UserWarning, match="ends in a single value"):
        network = tiny_network()
    result = saliency(network, photo, unit="logits:0", rule=rule)
    np.testing.assert_allclose(result.arrays[rule], 255.0 * expected[None, None], rtol=1e-5)
    assert result.record["score"] == pytest.approx(3 * 255 - 4 * 51 + 7, rel=1e-5)


def test_gradient_x_input_is_exact_where_the_network_is_linear(photo):
    kernels = keras.initializers.HeNormal(seed=0)
    linear = keras.Sequential(
        [
            keras.Input((*SIZE, 3)),
            keras.layers.Conv2D(4, 3, kernel_initializer=kernels, name="conv"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    network = load_model(linear, preprocessing="tf", dtype="float32")
    result = saliency(network, photo, unit="logits:2", rule="gradient_x_input,integrated_gradients", n_samples=3)
    rise = network.logits(photo[None])[0, 2] - network.logits(np.full((1, *SIZE, 3), 0.5))[0, 2]
    assert abs(rise) > 0.01
    for values in result.arrays.values():
        assert values.sum() == pytest.approx(rise, rel=1e-3)
    np.testing.assert_allclose(*result.arrays.values(), atol=1e-6)


def test_integrated_gradients_add_up_to_the_score_above_the_baseline(model, photo):
    result = saliency(model, photo, "dog", rule="gradient_x_input,integrated_gradients", n_samples=200)
    rise = model.logits(photo[None])[0, 1] - model.logits(np.full((1, *SIZE, 3), 0.5))[0, 1]
    maps, rows = result.arrays, {row["rule"]: row for row in result.history}
    assert maps["integrated_gradients"].sum() == pytest.approx(rise, rel=0.01)
    assert abs(maps["gradient_x_input"].sum() - rise) > 0.05 * abs(rise), "a network as good as linear shows nothing"
    assert rows["integrated_gradients"]["score_above_baseline"] == pytest.approx(rise, rel=1e-4)
    assert rows["integrated_gradients"]["map_sum"] == pytest.approx(rise, rel=0.01)


def test_integrated_gradients_take_the_middles_of_equal_parts():
    # The gradient of the sum of x³ is 3 x². From 0.2 to 1 in two parts: middles 0.4 and 0.8.
    image, baseline = np.ones((1, 1, 3), np.float32), np.full((1, 1, 3), 0.2, np.float32)
    actual = attributions.integrated_gradients(lambda x: 3 * x**2, image, baseline, n_samples=2, batch_size=1)
    np.testing.assert_allclose(actual, 0.8 * 3 * (0.16 + 0.64) / 2, rtol=1e-6)


def test_smoothgrad_is_the_mean_of_gradients_at_noisy_copies(model, photo):
    result = saliency(model, photo, "dog", rule="smoothgrad", n_samples=5, noise=0.3, batch_size=2, seed=4)
    gradients = []
    for sample in range(5):
        noise = np.random.default_rng((4, sample)).standard_normal(photo.shape).astype(np.float32)
        noisy = photo + 0.3 * (photo.max() - photo.min()) * noise
        gradients.append(saliency_gradient(model, noisy, 1))
    np.testing.assert_allclose(result.arrays["smoothgrad"], np.mean(gradients, axis=0), rtol=1e-4, atol=1e-6)
    assert likeness(result.arrays["smoothgrad"], gradients[0]) < 0.98


def saliency_gradient(model, image, channel):
    """The gradient of a logit through the owner's own network, into which images in [-1, 1] go."""
    inner = keras.Model(model.keras_model.inputs, model.keras_model.layers[-2].output)
    kernel, bias = model.keras_model.layers[-1].get_weights()

    def logit(x):
        return ops.sum((ops.matmul(inner(x * 2.0 - 1.0), kernel) + bias)[:, channel]), ()

    return ops.convert_to_numpy(backend.value_and_gradient(logit)(ops.convert_to_tensor(image[None]))[1])[0]


def test_gradient_is_that_of_the_owners_network(model, photo):
    actual = saliency(model, photo, "eel", rule="gradient").arrays["gradient"]
    np.testing.assert_allclose(actual, saliency_gradient(model, photo, 2), rtol=1e-4, atol=1e-6)
    assert np.abs(actual).max() > 1e-3


def test_smoothgrad_without_noise_is_the_gradient(model, photo):
    maps = saliency(model, photo, "dog", rule="gradient,smoothgrad", n_samples=3, noise=0).arrays
    np.testing.assert_allclose(maps["smoothgrad"], maps["gradient"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batches_change_nothing(model, photo, batch_size):
    settings = {"rule": "smoothgrad,integrated_gradients", "n_samples": 7}
    expected = saliency(model, photo, "dog", batch_size=7, **settings).arrays
    actual = saliency(model, photo, "dog", batch_size=batch_size, **settings).arrays
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-4, atol=1e-6)


def test_grad_cam_by_plain_numpy(model, photo):
    # The logit is W · mean(map) + b, so its gradient at each of the P places of the map is W[:, class] / P.
    result = saliency(model, photo, "cat", rule="grad_cam", layer="deep")
    maps = model.activations(photo[None], ["deep"])["deep"][0]
    kernel, _ = model.keras_model.get_layer("predictions").get_weights()
    cam = np.maximum(maps @ kernel[:, 0] / (maps.shape[0] * maps.shape[1]), 0)
    actual = result.arrays["grad_cam"]
    assert 0 < (cam > 0).mean() < 1
    np.testing.assert_allclose(actual, bilinear(cam, SIZE), rtol=1e-3, atol=1e-6)


def bilinear(values, size):
    """Bilinear interpolation between the middles of pixels, edges continued."""
    for axis in (0, 1):
        n = values.shape[axis]
        middles = np.clip((np.arange(size[axis]) + 0.5) * n / size[axis] - 0.5, 0, n - 1)
        values = np.apply_along_axis(lambda row, at=middles, n=n: np.interp(at, np.arange(n), row), axis, values)
    return values


def test_grad_cam_weights_by_the_gradient_at_the_layer_not_below_it(model, photo):
    """At a layer with a pooling and another layer above it, against finite differences of the layers above."""
    result = saliency(model, photo, "dog", rule="grad_cam", layer="conv")
    maps = model.activations(photo[None], ["conv"])["conv"]
    above = keras.Model(model.keras_model.layers[1].input, model.keras_model.layers[3].output)
    kernel, _ = model.keras_model.get_layer("predictions").get_weights()
    step = 1e-3
    weights = []
    for channel in range(maps.shape[-1]):
        change = np.zeros_like(maps)
        change[..., channel] = step
        up, down = (ops.convert_to_numpy(above(maps + sign * change))[0] @ kernel[:, 1] for sign in (1, -1))
        # Raising a whole channel adds up its gradients; the weight is their mean.
        weights.append((up - down) / (2 * step) / (maps.shape[1] * maps.shape[2]))
    cam = np.maximum(maps[0] @ np.array(weights), 0)
    assert 0 < (cam > 0).mean() < 1
    np.testing.assert_allclose(result.arrays["grad_cam"], bilinear(cam, SIZE), rtol=0.02, atol=2e-5)


# ---- what maps must depend on ----------------------------------------------------------------------------------------


def test_maps_depend_on_the_class_and_on_the_weights(model, photo):
    other = keras.models.clone_model(model.keras_model)
    rng = np.random.default_rng(3)
    other.set_weights([rng.permutation(w.ravel()).reshape(w.shape) for w in model.keras_model.get_weights()])
    cat, dog = (saliency(model, photo, name, n_samples=4).arrays for name in ("cat", "dog"))
    shuffled = saliency(loaded(other), photo, "cat", n_samples=4).arrays
    assert list(cat) == list(dog) == list(shuffled) == list(RULES)
    for rule in RULES:
        assert np.abs(cat[rule]).max() > 0
        assert likeness(cat[rule], dog[rule]) < 0.95, rule
        assert likeness(cat[rule], shuffled[rule]) < 0.7, rule


def test_a_single_unit_looks_at_its_own_field(model, photo):
    # Unit (1, 2) of the 2nd convolution sees the pooled rows 1 to 3 and columns 2 to 4: pixels 2 to 9 and 4 to 11.
    maps = saliency(model, photo, unit="deep_linear:3:1:2", n_samples=2).arrays
    for rule in set(RULES) - {"grad_cam"}:
        inside = maps[rule][2:10, 4:12]
        assert np.abs(inside).max() > 0
        assert np.abs(maps[rule]).sum() == pytest.approx(np.abs(inside).sum()), rule


def test_guided_backprop_survives_random_upper_layers_and_the_gradient_does_not():
    """Sanity check of Adebayo et al. 2018, the finding of docs/how-to/saliency.md, here by plain correlation."""
    model = load_model("mini-vgg16")
    pixels = np.asarray(Image.fromarray(load_sample_image("china.jpg")).resize((168, 112)), np.float32)[:, 28:140] / 255
    index = model.class_index("church")
    random = keras.models.clone_model(model.keras_model)
    random.set_weights(model.keras_model.get_weights())
    rng = np.random.default_rng(0)
    for name in UPPER:
        kernel, bias = random.get_layer(name).get_weights()
        he = np.sqrt(2 / np.prod(kernel.shape[:-1]))
        random.get_layer(name).set_weights([rng.normal(0, he, kernel.shape), np.zeros_like(bias)])
    random = load_model(random, preprocessing="caffe", mean=model.preprocessing["mean"], dtype="float32")
    rules = "gradient,guided"
    trained, untrained = (saliency(network, pixels, index, rule=rules).arrays for network in (model, random))
    kept = {rule: likeness(np.abs(trained[rule]).sum(-1), np.abs(untrained[rule]).sum(-1)) for rule in trained}
    assert kept["guided"] > 0.95 and kept["gradient"] < 0.6, kept


UPPER = ("predictions", "fc2", "fc1")
