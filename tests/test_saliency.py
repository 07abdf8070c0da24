"""Saliency: each rule against numbers worked out by hand or plainly, and against what its paper promises."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image
from sklearn.datasets import load_sample_image

from stochdeconv import attributions, backend, map_pictures
from stochdeconv.errors import ClassNotFoundError, InputError, LayerNotFoundError, MissingInputError, ModelError
from stochdeconv.images import load_image
from stochdeconv.methods.saliency import RULES, parse_rules, saliency
from stochdeconv.models import load_model
from stochdeconv.run_folder import RunInterrupted

SIZE = (16, 16)


def make_network(*, seed=1, relu="relu", size=SIZE):
    initializer = keras.initializers.HeNormal(seed=seed)
    # Without biases a ReLU network is as good as linear along a line through its zero.
    biases = keras.initializers.RandomNormal(stddev=0.3, seed=seed)
    return keras.Sequential(
        [
            keras.Input((*size, 3)),
            keras.layers.Conv2D(
                6, 3, activation=relu, kernel_initializer=initializer, bias_initializer=biases, name="conv"
            ),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(
                8, 3, activation=relu, kernel_initializer=initializer, bias_initializer=biases, name="deep"
            ),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax", kernel_initializer=initializer, name="predictions"),
        ]
    )


def loaded(network):
    return load_model(network, preprocessing="tf", class_names=["cat", "dog", "eel"], dtype="float32")


@pytest.fixture(scope="module")
def model():
    return loaded(make_network())


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).uniform(0.1, 0.9, (*SIZE, 3)).astype(np.float32)


def likeness(a, b):
    """Correlation of two maps' absolute values."""
    return np.corrcoef(np.abs(a).ravel(), np.abs(b).ravel())[0, 1]


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
    result = saliency(tiny_network(), photo, unit="logits:0", rule=rule)
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
    found = attributions.integrated_gradients(lambda x: 3 * x**2, image, baseline, n_samples=2, batch_size=1)
    np.testing.assert_allclose(found, 0.8 * 3 * (0.16 + 0.64) / 2, rtol=1e-6)


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
    found = saliency(model, photo, "eel", rule="gradient").arrays["gradient"]
    np.testing.assert_allclose(found, saliency_gradient(model, photo, 2), rtol=1e-4, atol=1e-6)
    assert np.abs(found).max() > 1e-3


def test_smoothgrad_without_noise_is_the_gradient(model, photo):
    maps = saliency(model, photo, "dog", rule="gradient,smoothgrad", n_samples=3, noise=0).arrays
    np.testing.assert_allclose(maps["smoothgrad"], maps["gradient"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batches_change_nothing(model, photo, batch_size):
    settings = {"rule": "smoothgrad,integrated_gradients", "n_samples": 7}
    expected = saliency(model, photo, "dog", batch_size=7, **settings).arrays
    found = saliency(model, photo, "dog", batch_size=batch_size, **settings).arrays
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-6)


def test_grad_cam_by_plain_numpy(model, photo):
    # The logit is W · mean(map) + b, so its gradient at each of the P places of the map is W[:, class] / P.
    result = saliency(model, photo, "cat", rule="grad_cam", layer="deep")
    maps = model.activations(photo[None], ["deep"])["deep"][0]
    kernel, _ = model.keras_model.get_layer("predictions").get_weights()
    cam = np.maximum(maps @ kernel[:, 0] / (maps.shape[0] * maps.shape[1]), 0)
    found = result.arrays["grad_cam"]
    assert 0 < (cam > 0).mean() < 1
    np.testing.assert_allclose(found, bilinear(cam, SIZE), rtol=1e-3, atol=1e-6)


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
    """Sanity check of Adebayo et al. 2018, the finding of docs/saliency.md, here by plain correlation."""
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


# ---- the method ------------------------------------------------------------------------------------------------------


def test_the_networks_own_top_class_is_explained(model, photo, tmp_path):
    result = saliency(model, photo, n_samples=2)
    logits = model.logits(photo[None])[0].astype(float)
    top = int(logits.argmax())
    record = result.record
    assert record["class"]["index"] == top
    assert record["score"] == pytest.approx(logits[top], rel=1e-5)
    assert record["probability"] == pytest.approx(np.exp(logits[top]) / np.exp(logits).sum(), rel=1e-5)
    assert record["settings"]["class_name"] is None and record["settings"]["layer"] == "deep"
    assert record["settings"]["rules"] == [row["rule"] for row in result.history] == list(RULES)
    assert result.images.shape == (7, *SIZE, 3)
    result.save(tmp_path / "out")
    assert json.loads((tmp_path / "out/run.json").read_text()) == record
    with np.load(tmp_path / "out/maps.npz") as maps:
        assert {name: maps[name].shape for name in maps} == {
            rule: SIZE if rule == "grad_cam" else (*SIZE, 3) for rule in RULES
        }
    given = saliency(model, photo, top, n_samples=2)
    for rule in RULES:
        np.testing.assert_array_equal(given.arrays[rule], result.arrays[rule])


def test_captions_say_what_is_explained(model, photo, monkeypatch):
    told = []
    monkeypatch.setattr(
        "stochdeconv.sheets.contact_sheet", lambda images, captions: told.append((len(images), captions)) or images[0]
    )
    saliency(model, photo, rule="grad_cam,integrated_gradients", n_samples=2)
    saliency(model, photo, "dog", rule="gradient")
    saliency(model, photo, unit="deep:1", rule="gradient")
    (n_pictures, own), (_, dog), (_, unit) = told
    assert n_pictures == 3 == len(own)
    assert "own top class" in own[0] and "own" not in dog[0] and "dog\nprobability 0." in dog[0]
    assert "at deep" in own[1] and "adds up to" in own[2] and "Sundararajan" in own[2]
    assert unit[0].startswith("unit deep:1\nscore ")


def test_a_file_is_shown_as_the_network_sees_it(model, tmp_path):
    Image.fromarray(load_sample_image("flower.jpg")).save(tmp_path / "flower.png")
    result = saliency(model, tmp_path / "flower.png", "cat", rule="gradient")
    seen = load_image(tmp_path / "flower.png", SIZE)
    np.testing.assert_array_equal(
        result.arrays["gradient"], saliency(model, seen, "cat", rule="gradient").arrays["gradient"]
    )
    assert saliency(model, tmp_path / "flower.png", "cat", rule="gradient", size=24).images.shape[1:3] == (24, 24)
    factor = 224 // SIZE[0]
    np.testing.assert_allclose(
        result.sheet[4 : 4 + 224, 4 : 4 + 224], seen.repeat(factor, 0).repeat(factor, 1), atol=1e-6
    )


def test_progress_counts_passes(model, photo):
    told = []
    saliency(
        model,
        photo,
        rule="gradient,smoothgrad,grad_cam",
        n_samples=5,
        batch_size=2,
        callback=lambda *step: told.append(step),
    )
    assert told == [
        (0, 7, "gradient"),
        *((n, 7, "smoothgrad") for n in (1, 3, 5, 6)),
        (6, 7, "grad_cam"),
    ]


def test_interrupted_keeps_the_rules_that_were_done(model, photo):
    def stop(done, total, rule):
        if (rule, done) == ("smoothgrad", 3):
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted) as caught:
        saliency(model, photo, rule="gradient,smoothgrad", n_samples=9, batch_size=2, callback=stop)
    result = caught.value.result
    assert list(result.arrays) == ["gradient"] and len(result.images) == 1
    assert result.record["complete"] is False


def test_same_seed_same_map(model, photo):
    first, again, other = (
        saliency(model, photo, rule="smoothgrad", n_samples=3, seed=seed).arrays["smoothgrad"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_classes_that_do_not_fire_are_explained_too(photo):
    inputs = keras.Input((*SIZE, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", kernel_initializer=keras.initializers.HeNormal(seed=0))(inputs)
    x = keras.layers.Conv2D(3, 1, kernel_initializer="ones", bias_initializer=keras.initializers.Constant(-50.0))(x)
    x = keras.layers.Activation("relu", name="fired")(x)
    x = keras.layers.Softmax()(keras.layers.GlobalAveragePooling2D()(x))
    model = loaded(keras.Model(inputs, x))
    assert model.logits(photo[None])[0, 1] == 0
    result = saliency(model, photo, "dog", rule="gradient")
    assert result.record["score"] < -10 and np.abs(result.arrays["gradient"]).max() > 0
    with pytest.warns(UserWarning, match="gradient: zero everywhere.*fired:1.*LAYER_linear"):
        saliency(model, photo, unit="fired:1", rule="gradient")


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_networks_without_relu_have_no_backward_rules(photo):
    smooth = loaded(make_network(relu="tanh"))
    for rule in ("guided", "deconvnet"):
        with pytest.raises(ModelError, match="no ReLU"):
            saliency(smooth, photo, rule=rule)
    with pytest.warns(UserWarning, match="deconvnet, guided left out.*no ReLU"):
        result = saliency(smooth, photo, n_samples=2)
    assert list(result.arrays) == [rule for rule in RULES if rule not in {"deconvnet", "guided"}]


def test_grad_cam_needs_a_map_below_the_score(model, photo):
    with pytest.raises(InputError, match="not computed from 'deep'"):
        saliency(model, photo, unit="conv:1", rule="grad_cam", layer="deep")
    with pytest.raises(InputError, match="not computed from 'deep'"):
        saliency(model, photo, unit="deep:1", rule="all", layer="deep")
    with pytest.raises(InputError, match="layer with positions"):
        saliency(model, photo, rule="grad_cam", layer="predictions")
    with pytest.raises(InputError, match="layer with positions"):
        saliency(model, photo, rule="grad_cam", layer="input")
    with pytest.raises(LayerNotFoundError, match="closest: 'deep'"):
        saliency(model, photo, rule="grad_cam", layer="deeep")
    with pytest.raises(InputError, match="means nothing to gradient"):
        saliency(model, photo, rule="gradient", layer="deep")
    with pytest.raises(InputError, match="--layer"):
        saliency(model, photo, unit="conv:1", rule="grad_cam")
    with pytest.warns(UserWarning, match="grad_cam left out"):
        assert "grad_cam" not in saliency(model, photo, unit="conv:1", n_samples=2).arrays
    assert saliency(model, photo, unit="deep:1", rule="grad_cam").record["settings"]["layer"] == "conv"


def test_rules_are_read_forgivingly_and_refused_clearly():
    assert parse_rules("all") == tuple(RULES)
    assert parse_rules("grad-cam, guided") == ("grad_cam", "guided")
    with pytest.raises(InputError, match="rule 'grad_cam' twice"):
        parse_rules("grad-cam, guided,grad_cam")
    with pytest.raises(InputError, match=r"'giuded'.*closest: 'guided'.*integrated_gradients.*and all"):
        parse_rules("gradient,giuded")


def test_senseless_calls_are_refused(model, photo, tmp_path):
    with pytest.raises(InputError, match="not both"):
        saliency(model, photo, "dog", unit="deep:0")
    with pytest.raises(ClassNotFoundError, match="dog"):
        saliency(model, photo, "dgo")
    with pytest.raises(MissingInputError, match="no such image"):
        saliency(model, tmp_path / "no.png")
    with pytest.raises(InputError, match=r"values in \[0, 1\]"):
        saliency(model, photo * 255)
    with pytest.raises(InputError, match=r"\(height, width, 3\)"):
        saliency(model, photo[..., 0])
    with pytest.raises(InputError, match="at least 1; got 0"):
        saliency(model, photo, size=0)
    for wrong in ({"n_samples": 0}, {"noise": -1.0}, {"batch_size": 0}):
        with pytest.raises(InputError, match="at least"):
            saliency(model, photo, **wrong)
    headless = load_model(
        keras.Sequential([keras.Input((*SIZE, 3)), *make_network().layers[:3]]), preprocessing="tf", dtype="float32"
    )
    with pytest.raises(ModelError, match="no class scores; say which --unit"):
        saliency(headless, photo)
    assert saliency(headless, photo, unit="deep:1", rule="gradient").record["probability"] is None


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_pictures_show_direction_and_strength():
    values = np.zeros((20, 20, 3), np.float32)
    values[3, 4] = [1, 0, -1]
    values[8:11] = [0.5, 0.5, 0.5]
    color = map_pictures.color_gradient(values)
    np.testing.assert_allclose(color[0, 0], 0.5)
    np.testing.assert_allclose(color[3, 4], [1, 0.5, 0])
    signed = map_pictures.signed_heat(np.concatenate([values, -values], axis=1))
    np.testing.assert_allclose(signed[0, 0], 1, atol=1e-6)
    assert signed[9, 5, 0] > signed[9, 5, 2] and signed[9, 25, 2] > signed[9, 25, 0]
    strong = map_pictures.heat(values)
    assert strong[0, 0].max() < 0.02 < 0.5 < strong[9, 5].max()
    assert strong[3, 4].max() > 0.9
    np.testing.assert_allclose(strong, map_pictures.heat(-values))


def test_an_empty_map_is_a_calm_picture():
    nothing = np.zeros((4, 4, 3), np.float32)
    np.testing.assert_allclose(map_pictures.color_gradient(nothing), 0.5)
    np.testing.assert_allclose(map_pictures.signed_heat(nothing), 1.0)
    assert np.isfinite(map_pictures.overlay(nothing[..., 0], nothing)).all()


def test_few_strong_pixels_are_still_seen():
    lone = np.zeros((40, 40, 3), np.float32)
    lone[5, 5] = 1e-3
    np.testing.assert_allclose(map_pictures.color_gradient(lone)[5, 5], 1.0)
