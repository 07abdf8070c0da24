"""Every network of the zoo goes through everything, and says of itself what it says without us."""

import contextlib
import re

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image
from zoo import ENDINGS, ZOO, made

import stochdeconv as sd
from stochdeconv.errors import ModelError

# In bfloat16 or whole numbers a layer rounds what it computes, elsewhere in other places.
ROUNDED = {"half_precision_policy": 2e-2, "quantised_to_whole_numbers": 2e-2, "whole_numbers_as_input": 2e-3}


@pytest.fixture(scope="module")
def loaded():
    """Load each network once, by name."""
    networks = {}

    def load(name):
        if name not in networks:
            model, doubts = made(name), ZOO[name].doubts
            watched = pytest.warns(UserWarning, match=doubts) if doubts else contextlib.nullcontext()
            with watched:
                networks[name] = model, sd.load_model(model, preprocessing="none", dtype="float32", **ZOO[name].options)
        return networks[name]

    return load


def images_for(network, n=3):
    height, width = network.input_size
    rng = np.random.default_rng(2)
    coarse = rng.random((n, 4, 4, network.n_channels))
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    return (0.7 * coarse[:, rows][:, :, columns] + 0.3 * rng.random((n, height, width, network.n_channels))).astype(
        np.float32
    )


def own_output(name, model, images):
    if model.inputs[0].shape[0] == 1:  # it can do no more at a time
        return np.concatenate([np.asarray(model(image[None] * 255, training=False)) for image in images])
    taken = ZOO[name].takes(images * 255)
    # Left to itself a layer that flips at random does so even here.
    return keras.tree.map_structure(lambda values: ops.convert_to_numpy(values), model(taken, training=False))


with_classes = pytest.mark.parametrize("name", [name for name, entry in ZOO.items() if entry.n_classes])


@with_classes
def test_probabilities_are_the_networks_own(loaded, name):
    model, network = loaded(name)
    images = images_for(network)
    expected = ZOO[name].probabilities(own_output(name, model, images))
    probabilities = network.probabilities(images)
    assert len(network.class_names) == ZOO[name].n_classes == probabilities.shape[1]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-3, atol=ROUNDED.get(name, 1e-5))
    # The images are told apart: a constant would pass everything.
    assert np.ptp(network.logits(images), axis=0).max() > 1e-3


@with_classes
def test_the_gradient_is_that_of_the_score(loaded, name):
    from stochdeconv.methods import attributions

    if name in ROUNDED:
        pytest.skip("steps too small for its rounding: differences of the score say nothing")
    _, network = loaded(name)
    (image,) = images_for(network, 1)
    index = network.class_names[-1].index
    gradient = attributions.score_gradients(network, sd.losses.unit(network.score_layer, index))(image[None])[0]
    assert np.abs(gradient).max() > 1e-5, "a score behind a saturated non-linearity has no gradient"
    direction = gradient / np.linalg.norm(gradient)
    step = 1e-3 / np.abs(direction).max()
    sides = np.stack([image + step * direction, image - step * direction])

    def scores(images):
        values = network.activations(images, [network.score_layer])[network.score_layer][..., index]
        return values.reshape(len(values), -1).mean(axis=1, dtype=np.float64)

    above, below = scores(sides)
    np.testing.assert_allclose((above - below) / (2 * step), np.linalg.norm(gradient), rtol=0.05)


@with_classes
def test_the_class_term_falls_where_the_probability_rises(loaded, name):
    _, network = loaded(name)
    images = images_for(network)
    index = network.class_names[-1].index
    term = sd.losses.cross_entropy(index)
    losses = np.asarray(term(network.activations(images, term.layers)))
    assert np.isfinite(losses).all() and losses.shape == (3,)
    exact = ZOO[name].doubts is None and not name.startswith(("segmentation", "average", "hard", "sparse"))
    if exact or name.startswith("several_outputs"):
        np.testing.assert_allclose(losses, -np.log(network.probabilities(images)[:, index]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ZOO)
def test_layers_are_called_and_give_what_the_owner_expects(loaded, name):
    model, network = loaded(name)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.name not in ("input", "network_input"):
            assert layer.name in network.layer_names
            values = network.activations(images_for(network), [layer.name])[layer.name]
            assert values.shape[-1] == layer.filters, "channels come last whatever the model has"
            if name not in ROUNDED and len(model.inputs) == 1:
                expected = keras.Model(model.inputs[0], layer.output)
                own = own_output(name, expected, images_for(network))
                own = np.moveaxis(own, 1, -1) if getattr(layer, "data_format", "") == "channels_first" else own
                np.testing.assert_allclose(values, own, rtol=1e-3, atol=1e-4)
    assert network.default_layers, "there is always something to collect"


@pytest.mark.parametrize("name", ZOO)
def test_pictures_are_made(loaded, name, tmp_path):
    _, network = loaded(name)
    (image,) = images_for(network, 1)
    channel = f"{network.default_layers[-1]}_linear:0"
    of = {"class_name": network.class_names[-1].index} if network.class_names else {"unit": channel}
    explained = sd.saliency(network, image, rule="gradient", **of)
    assert explained.arrays["gradient"].shape == image.shape
    result = sd.maximize(network, **of, n_steps=4, n_images=2, preset="simonyan", seed=1)
    assert result.images.shape == (2, *network.input_size, network.n_channels)
    assert result.images.std() > 0 and np.isfinite(result.images).all()
    scores = result.history
    (term,) = [key for key in scores[0] if key.startswith("unit:")]
    assert scores[-1][term] < scores[0][term], "four steps raise a score that has a gradient"
    result.save(tmp_path / "out")
    with Image.open(tmp_path / "out" / "image_001.png") as picture:
        assert picture.mode == ("L" if network.n_channels == 1 else "RGB")
        assert picture.size == network.input_size[::-1]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    rng = np.random.default_rng(0)
    for i in range(6):
        coarse = rng.integers(0, 256, (5, 6, 3) if i else (5, 6)).astype(np.uint8)  # one of them is grey
        Image.fromarray(coarse).resize((40, 32), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


# What generate asks of how a network ends is its class term, which every one is asked for above.
GENERATED = ("softmax_fused", "one_sigmoid_that_is_sure", "several_sigmoids", "one_value_without_class_names", "tanh")


@pytest.mark.parametrize("name", [*GENERATED, *(name for name in ZOO if name not in ENDINGS)])
def test_a_class_is_collected_and_generated(loaded, name, photographs):
    _, network = loaded(name)
    if not any(len(network.layer_shape(layer)) == 3 for layer in network.default_layers):
        pytest.skip("a network without maps has nothing to lay out")
    of = {"class_name": network.class_names[-1].index} if network.class_names else {}
    statistics = sd.collect(network, photographs, n_components=4, batch_size=3, **of)
    assert statistics.n_images == 6 and not statistics.skipped
    assert statistics["input"].shape == network.input_shape
    images = sd.generate(network, statistics, n_images=2, n_steps=3, sampler="chain").images
    assert images.shape == (2, *network.input_size, network.n_channels)
    assert np.isfinite(images).all() and np.abs(images[0] - images[1]).max() > 0


# Of single ones


def test_a_pair_is_two_sides_of_one_value(loaded):
    _, network = loaded("one_sigmoid_that_is_sure")
    scores = network.logits(images_for(network))
    np.testing.assert_array_equal(scores[:, 0], -scores[:, 1])
    assert [name.label for name in network.class_names] == ["cat", "dog"]


def test_a_layer_called_logits_that_is_no_score_keeps_its_values(loaded):
    model, network = loaded("another_head_is_called_logits")
    images = images_for(network)
    scores = network.activations(images, ["logits", "logits#2"])
    assert scores["logits"].shape == (3, 2)
    np.testing.assert_allclose(
        scores["logits#2"], own_output("another_head_is_called_logits", model, images)[0], rtol=1e-3, atol=1e-5
    )


def test_maps_within_have_their_channels_last(loaded):
    _, network = loaded("channels_first_inside")
    assert network.layer_shape("conv") == network.layer_shape("last") == (14, 14, 6)


def test_statistics_remember_what_an_index_means(photographs):
    model = made("one_logit_with_two_class_names")
    named = sd.load_model(model, preprocessing="none", class_names=["cat", "dog"])
    with pytest.warns(UserWarning, match="ends in a single value"):
        plain = sd.load_model(model, preprocessing="none")
    statistics = sd.collect(named, photographs, class_name="cat", n_components=2)
    with pytest.raises(ModelError, match=r"input convention .*'classes': 2"):
        sd.generate(plain, statistics, n_images=1, n_steps=1)


class Forgetful(keras.layers.Layer):
    def get_config(self):
        return super().get_config()  # of its own kind, so Keras does not add what __init__ was given


class Times(Forgetful):
    def __init__(self, factor=1.0, **settings):
        super().__init__(**settings)
        self.factor = factor

    def call(self, x):
        return ops.cast(self.factor, x.dtype) * x


class Bent(Forgetful):
    def __init__(self, activation="relu", **settings):
        super().__init__(**settings)
        self.dense = keras.layers.Dense(3, activation=activation)

    def call(self, x):
        return self.dense(x)


class Mixed(Forgetful):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.mixture = np.random.default_rng().normal(size=(3, 3)).astype("float32")

    def call(self, x):
        return ops.matmul(x, ops.cast(self.mixture, x.dtype))


class Told(Times):
    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Bare(keras.layers.Layer):
    def __init__(self):
        super().__init__()

    def call(self, x):
        return x + 1


def small_network(layer, **keywords):
    inputs = keras.Input((16, 16, 3), **keywords)
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(layer(inputs))))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layer", [Times(5.0), Times(np.array([5.0, 1.0, 2.0])), Times([0.5]), Bent("tanh"), Mixed()])
def test_a_setting_that_a_config_leaves_out_is_told(layer, dtype):
    network = sd.load_model(small_network(layer), preprocessing="none")
    with pytest.raises(ModelError, match=r"computes other values than its copy: its get_config leaves out"):
        network.forward([network.layer_names[0]], dtype=dtype)


@pytest.mark.parametrize("layer", [Times(), Told(5.0), Bent(), keras.layers.Dense(2, activation=lambda z: z**2)])
def test_a_config_that_says_all_is_enough_and_the_owners_layer_stays_as_it_is(layer):
    model = small_network(layer)
    before = [np.array(weight) for weight in model.weights]
    network = sd.load_model(model, preprocessing="none")
    images = images_for(network)
    np.testing.assert_allclose(network.logits(images), model(images * 255), rtol=1e-4)
    for weight, was in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, was)


def test_a_layer_that_takes_no_config_is_told_what_it_lacks():
    network = sd.load_model(small_network(Bare()), preprocessing="none")
    with pytest.raises(
        ModelError,
        match=r"\(Bare\) cannot be copied.*unexpected keyword.*; a layer of your own needs get_config, an __init__",
    ):
        network.logits(images_for(network))


def test_quantised_layers_inside_others_are_refused_with_a_way_out():
    def attended(x):
        x = keras.layers.Reshape((256, 3))(x)
        return keras.layers.Reshape((16, 16, 3))(keras.layers.MultiHeadAttention(2, 4)(x, x))

    model = small_network(attended)
    for part in model._flatten_layers():
        if isinstance(part, keras.layers.EinsumDense):
            part.quantize("int8")
    network = sd.load_model(model, preprocessing="none")
    with pytest.raises(ModelError, match="holds quantised layers or LoRA adapters: take the network as it was before"):
        network.logits(images_for(network))


def test_what_cannot_be_computed_in_a_dtype_is_told():
    network = sd.load_model(
        small_network(
            keras.layers.Lambda(lambda x: ops.matmul(x, np.ones((4, 4), np.float32)), output_shape=(16, 16, 3))
        ),
        preprocessing="none",
    )
    for dtype, advice in (("bfloat16", "; the network may do it in float32 (dtype)"), ("float32", "")):
        with pytest.raises(
            ModelError,
            match=rf"'lambda\S*' \(Lambda\) cannot be computed in {dtype} for 3 inputs at a time: .*{re.escape(advice)}$",
        ):
            network.forward(["logits"], dtype=dtype)(images_for(network))


@pytest.mark.parametrize(
    ("change", "keywords"),
    [
        (lambda x: x / ops.max(x), {"batch_size": 1}),
        (lambda x: x / ops.max(x), {}),
        (lambda x: x - ops.mean(x, axis=0, keepdims=True), {}),
        (lambda x: ops.expand_dims(ops.squeeze(x, 0), 0), {"batch_size": 1}),
    ],
)
def test_what_mixes_images_is_refused(change, keywords):
    with pytest.raises(ModelError, match=r"mixes the inputs that are computed together|for any number of inputs"):
        sd.load_model(small_network(change, **keywords), preprocessing="none")


def test_rows_that_are_no_images_are_refused():
    inputs = keras.Input((16, 16, 3), batch_size=1)
    x = keras.layers.Dense(4, activation="softmax")(keras.layers.GlobalAveragePooling2D()(inputs))
    with pytest.warns(UserWarning, match="not understood|a single value"):
        network = sd.load_model(keras.Model(inputs, ops.reshape(x, (-1,))), preprocessing="none")
    with pytest.raises(ModelError, match="gives 12 rows for 3 inputs"):
        network.activations(images_for(network), ["logits"], batch_size=3)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="an operation of TensorFlow's")
def test_rows_whose_number_is_not_known_while_tracing_are_taken():
    import tensorflow as tf

    def all_of_them(x):
        return tf.boolean_mask(x, tf.ones([tf.shape(x)[0]], tf.bool))

    model = small_network(keras.layers.Lambda(all_of_them, output_shape=(16, 16, 3)))
    network = sd.load_model(model, preprocessing="none")
    images = images_for(network)
    np.testing.assert_allclose(network.logits(images), model(images * 255), rtol=1e-4)


def test_a_batch_of_eight_is_only_how_it_was_built():
    inputs = keras.Input((16, 16, 3), batch_size=8)
    x = keras.layers.GlobalAveragePooling2D()(ops.reshape(ops.reshape(inputs, (8, -1, 3)), (8, 8, 32, 3)))
    model = keras.Model(inputs, keras.layers.Dense(4)(x))
    network = sd.load_model(model, preprocessing="none")
    images = images_for(network, 3)
    own = model(np.concatenate([images * 255, np.zeros((5, 16, 16, 3), np.float32)]))[:3]
    np.testing.assert_allclose(network.logits(images), own, rtol=1e-4)


def test_a_layer_as_activation_is_not_run():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Dense(8, activation=keras.layers.PReLU(name="own"))(keras.layers.GlobalAveragePooling2D()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(4, activation=keras.layers.Softmax())(x))
    n_before = len(model.weights)
    network = sd.load_model(model, preprocessing="none")
    images = images_for(network)
    with pytest.raises(ModelError, match="activation 'own' gets its weights when the network is first run"):
        network.logits(images)
    assert len(model.weights) == n_before
    model(images)
    slopes = model.weights[2]
    slopes.assign(np.linspace(0.2, 0.9, 8))
    network = sd.load_model(model, preprocessing="none")
    np.testing.assert_allclose(network.probabilities(images), model(images * 255), rtol=1e-4)
    assert np.abs(network.logits(images)).max() > 1, "scores stand before the softmax"


def test_a_direction_of_an_embedding_is_raised(loaded):
    _, network = loaded("embedding_of_length_one")
    vector = np.eye(8)[2] - np.eye(8)[5]
    result = sd.maximize(network, direction=("embedding", vector), preset="simonyan", n_steps=6, n_images=1)
    values = [row["direction:embedding"] for row in result.history]
    assert values[-1] < values[0]


def test_a_unit_at_a_place_of_a_segmentation_is_raised(loaded):
    _, network = loaded("segmentation_by_softmax")
    result = sd.maximize(network, unit="head_linear:1:3:4", preset="simonyan", n_steps=6, n_images=1)
    values = [row["unit:head_linear:1:3:4"] for row in result.history]
    assert values[-1] < values[0]


def test_opacity_is_not_looked_at_but_there(loaded):
    _, network = loaded("colour_and_opacity")
    assert network.input_shape == (16, 16, 3)
    assert set(network.forward(["conv"])(images_for(network))) == {"input", "network_input", "conv"}


def test_grey_and_colour_files_fit_either_kind_of_network(loaded, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("grey_of_28_pixels", "softmax_fused"):
        _, network = loaded(name)
        grey = rng.integers(0, 256, network.input_size).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / "grey.png")
        Image.fromarray(np.repeat(grey[..., None], 3, axis=-1)).save(tmp_path / "colour.png")
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
        photos = (tmp_path / "grey.png", tmp_path / "colour.png", tmp_path / "deep.png", grey, grey[..., None] / 255.0)
        gradients = [sd.saliency(network, photo, 0, rule="gradient").arrays["gradient"] for photo in photos]
        for other in gradients[1:]:
            np.testing.assert_allclose(other, gradients[0], rtol=1e-3, atol=1e-6)


def test_the_held_value_matters_and_is_recorded(loaded):
    model, network = loaded("second_input_held")
    images = images_for(network)
    older = sd.load_model(model, preprocessing="none", inputs={"age": [60.0]})
    assert np.abs(older.probabilities(images) - network.probabilities(images)).max() > 1e-4
    assert network.preprocessing["inputs"] == {"age": 30} != older.preprocessing["inputs"]
    np.testing.assert_allclose(
        older.probabilities(images), model([np.full((3, 1), 60.0, np.float32), images * 255]), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("second_input_held", {}, r"'age' \(1\).*say what the others are held at with inputs=\{\"age\": …\}"),
        ("second_input_held", {"inputs": {"agee": 3}}, "has no input 'agee'; closest: 'age'"),
        ("second_input_held", {"inputs": {"age": [1, 2]}}, r"'age' of model .* takes 1 of float32; got \[1, 2\]"),
        ("second_input_held", {"inputs": {"age": "old"}}, "expected a number or lists of numbers"),
        ("second_input_held", {"input": "picture"}, "has no input 'picture'; there are 'age'"),
        ("second_input_held", {"input": "age", "inputs": {"age": 1}}, "expected images"),
        ("two_images_through_shared_layers", {}, "has 2 inputs, 'left' .* and 2 of them are images: name the one"),
        ("several_outputs_one_chosen", {"output": "kid"}, "no output 'kid'; closest: 'kind'; there are 'colour'"),
        ("several_outputs_one_chosen", {"output": 2}, "has outputs 0 to 1"),
        ("one_sigmoid", {"class_names": list("abc")}, "two classes, the two sides of its one value, but 3 class names"),
        ("one_sigmoid", {"class_names": ["dog"]}, "but 1 class names were given"),
        ("no_top", {"class_names": ["cat", "dog"]}, "6 class scores, but 2 class names"),
        ("grey_of_28_pixels", {"preprocessing": "caffe"}, r'one channel.*"mean": \[128\]'),
        ("grey_of_28_pixels", {"preprocessing": "torch"}, r'"mean": \[0\], "std": \[1\]'),
        ("softmax_fused", {"preprocessing": "torch", "std": [1]}, "mean and std go together"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(name, options, message):
    with pytest.raises(ModelError, match=message) as caught:
        sd.load_model(made(name), **{"preprocessing": "none"} | options)
    assert "\n" not in str(caught.value)


def test_a_class_of_what_is_no_classifier_is_told(loaded):
    for name in ("no_top", "autoencoder"):
        _, network = loaded(name)
        with pytest.raises(ModelError, match=r"has no class scores: it ends in shape .* name them with class_names"):
            sd.maximize(network, "church", n_steps=1)


def test_colour_for_a_grey_network_is_told(loaded):
    _, network = loaded("grey_of_28_pixels")
    start = sd.parameterizations.fourier(network.input_size)
    with pytest.raises(
        ModelError, match="for images of 3 channels; it takes 1: a parameterization for it has n_channels=1"
    ):
        sd.optimize(network, sd.losses.unit("logits", 0), parameterization=start, n_steps=1)
