"""Networks of inputs that are no pictures, against what Keras itself computes."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import stochdeconv as sd
from stochdeconv.errors import InputError, LayerNotFoundError, ModelError
from stochdeconv.losses import unit
from stochdeconv.networks.image_model import ImageModel
from stochdeconv.optimization.parameterizations import pixels

SHAPES = {"vector": (7,), "series": (12, 2), "picture": (8, 9, 1), "voxels": (6, 7, 8, 2)}
CONVOLUTIONS = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}


def randomised(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    return model


def keras_model(shape):
    """Two layers, the second linear, and three scores, of an input of any shape."""
    inputs = keras.Input(shape)
    n_axes = len(shape) - 1
    if n_axes:
        x = CONVOLUTIONS[n_axes](4, 3, activation="relu", name="first")(inputs)
        x = CONVOLUTIONS[n_axes](5, 3, name="second")(x)
        x = ops.mean(x, axis=tuple(range(1, n_axes + 1)))
    else:
        x = layers.Dense(4, activation="relu", name="first")(inputs)
        x = layers.Dense(5, name="second")(x)
    return randomised(keras.Model(inputs, layers.Dense(3, activation="softmax", name="classes")(x), name="small"))


def inputs_of(shape, n=3):
    return np.random.default_rng(1).normal(size=(n, *shape)).astype(np.float32)


@pytest.fixture(params=SHAPES)
def shape(request):
    return SHAPES[request.param]


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="every fourth row of PyTorch's products is computed alike"
)
@pytest.mark.parametrize("places", [(), (3,), (2, 2)])
@pytest.mark.parametrize("n_inputs", [2, 7, 8, 32])
def test_what_is_kept_does_not_depend_on_the_place_in_a_batch(n_inputs, places):
    # Statistics of shards, and of one pass, have the same bytes for it. On a processor with AVX2 alone the last two rows of eight differ.
    inputs = keras.Input((*places, 512))
    network = sd.Network(randomised(keras.Model(inputs, layers.Dense(9, activation="relu", name="dense")(inputs))))
    repeated = np.repeat(inputs_of((*places, 512), 1), n_inputs, axis=0)
    values = network.activations(repeated, ["dense"], batch_size=n_inputs)["dense"]
    assert values.shape == (n_inputs, *places, 9)
    np.testing.assert_array_equal(values, np.repeat(values[:1], n_inputs, axis=0))


def test_every_layer_is_what_keras_computes(shape):
    model = keras_model(shape)
    network = sd.Network(model)
    inputs = inputs_of(shape)
    names = ("first", "second", "classes")
    values = network.activations(inputs, (*names, "first_linear", "logits"), batch_size=2)
    own = keras.Model(model.inputs[0], [model.get_layer(name).output for name in names])(inputs)
    for name, expected in zip(names, own, strict=True):
        np.testing.assert_allclose(values[name], ops.convert_to_numpy(expected), rtol=1e-4, atol=1e-5)
        assert network.layer_shape(name) == values[name].shape[1:]
    assert (values["first_linear"] < 0).any()
    np.testing.assert_array_equal(np.maximum(values["first_linear"], 0), values["first"])
    np.testing.assert_array_equal(network.logits(inputs, batch_size=2), values["logits"])
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.softmax(values["logits"])), values["classes"], rtol=1e-4, atol=1e-6
    )
    assert network.input_shape == network.layer_shape("input") == shape
    assert (network.name, network.dtype) == ("small", "float32")


def test_layers_are_found_by_name_or_by_number():
    network = sd.Network(keras_model((7,)))
    assert network.layer_names == ("first", "second", "classes")
    assert [network.find_layer(number) for number in range(4)] == ["input", "first", "second", "classes"]
    assert network.find_layer("2") == network.find_layer("02") == network.find_layer("second") == "second"
    for word in ("first_linear", "logits", "network_input"):
        assert network.find_layer(word) == word
    for word in (4, "4", "-1"):
        with pytest.raises(LayerNotFoundError, match=f"from 0, the input, to 3, 'classes'; got {word}"):
            network.find_layer(word)
    for word in ("secnod", "1.0", ""):
        with pytest.raises(LayerNotFoundError, match=f"no layer '{word}'"):
            network.find_layer(word)


def test_a_layer_whose_very_name_is_the_number_comes_first():
    named = [layers.Dense(4, name=name) for name in ("3", "1", "last")]
    network = sd.Network(keras.Sequential([keras.Input((7,)), *named]))
    assert [network.find_layer(word) for word in ("1", "2", "3", 3)] == ["1", "1", "3", "3"]


def test_the_networks_input_is_the_input(shape):
    inputs = inputs_of(shape)
    values = sd.Network(keras_model(shape)).forward(["first"])(inputs)
    assert set(values) == {"input", "network_input", "first"}
    for key in ("input", "network_input"):
        np.testing.assert_array_equal(ops.convert_to_numpy(values[key]), inputs)


def test_a_unit_of_any_network_is_maximised(shape):
    network = sd.Network(keras_model(shape))
    start = pixels(np.zeros(shape), input_shape=shape, noise=0.1, n_images=2, learning_rate=0.05)
    result = sd.optimize(network, unit("logits", 1), parameterization=start, n_steps=30)
    assert result.images.shape == (2, *shape)
    before, after = (network.logits(inputs)[:, 1] for inputs in (start.start(), result.images))
    assert (after > before + 0.03).all()
    assert result.history[0]["unit:logits:1"] == pytest.approx(-before.mean(), rel=1e-4)


def test_a_unit_has_a_position_on_every_axis(shape):
    network = sd.Network(keras_model(shape))
    position = tuple(range(len(shape) - 1))
    start = pixels(np.zeros(shape), input_shape=shape, noise=0.1, learning_rate=0.05)
    result = sd.optimize(network, unit("first_linear", 2, position), parameterization=start, n_steps=10)
    before, after = (network.activations(x, ["first_linear"])["first_linear"] for x in (start.start(), result.images))
    at = (0, *position, 2)
    assert after[at] > before[at] + 0.1
    assert result.history[0][":".join(map(str, ("unit:first_linear", 2, *position)))] == pytest.approx(
        -before[at], rel=1e-4
    )
    # The window of three that this unit sees, and nothing else of the input.
    seen = tuple(slice(start, start + 3) for start in position) if position else slice(None)
    changed = np.zeros(shape, bool)
    changed[seen] = True
    np.testing.assert_array_equal(result.images[0] != start.start()[0], changed)


def test_the_hash_is_over_the_weights_whatever_the_input():
    model = keras_model((7,))
    expected = sd.Network(model).weights_hash
    assert expected == sd.Network(keras_model((7,)), dtype="bfloat16").weights_hash
    model.weights[0].assign(model.weights[0] * 2)
    assert sd.Network(model).weights_hash != expected


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
@pytest.mark.parametrize("layer", [layers.Conv3DTranspose, layers.Conv1DTranspose, layers.SeparableConv1D])
def test_fused_relus_of_other_convolutions_are_split(layer, rule):
    shape = SHAPES["voxels"] if layer is layers.Conv3DTranspose else SHAPES["series"]
    inputs = keras.Input(shape)
    network = sd.Network(randomised(keras.Model(inputs, layer(4, 3, activation="relu", name="layer")(inputs))))
    values = network.forward(["layer", "layer_linear"], gradient_rule=rule)(inputs_of(shape))
    linear = ops.convert_to_numpy(values["layer_linear"])
    assert (linear < 0).any()
    np.testing.assert_array_equal(np.maximum(linear, 0), ops.convert_to_numpy(values["layer"]))


def test_recurrent_networks_are_networks():
    inputs = keras.Input((12, 2))
    model = randomised(keras.Model(inputs, layers.Dense(2, name="score")(layers.GRU(4)(inputs))))
    network = sd.Network(model)
    series = inputs_of((12, 2))
    own = ops.convert_to_numpy(model(series))
    np.testing.assert_allclose(network.activations(series, ["score"])["score"], own, rtol=1e-4, atol=1e-5)
    result = sd.optimize(network, unit("score", 0), parameterization=pixels(series[0]), n_steps=10)
    assert result.history[-1]["unit:score:0"] < result.history[0]["unit:score:0"]


def test_an_image_model_is_a_network_with_a_convention():
    inputs = keras.Input((8, 9, 3))
    model = randomised(keras.Model(inputs, layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)))
    images = np.abs(inputs_of((8, 9, 3)))
    with_convention, without = sd.load_model(model, preprocessing="none", dtype="float32"), sd.Network(model)
    assert isinstance(with_convention, ImageModel) and isinstance(with_convention, sd.Network)
    assert with_convention.input_shape == (*with_convention.input_size, 3) == without.input_shape
    assert with_convention.weights_hash == without.weights_hash
    np.testing.assert_array_equal(
        with_convention.activations(images, ["conv"])["conv"], without.activations(images * 255, ["conv"])["conv"]
    )


def test_an_open_axis_is_given():
    inputs = keras.Input((None, 2))
    model = keras.Model(inputs, layers.Conv1D(3, 3, name="conv")(inputs), name="open")
    network = sd.Network(model, input_shape=(10, 2))
    assert network.layer_shape("conv") == (8, 3)
    assert network.activations(inputs_of((14, 2)), ["conv"])["conv"].shape == (3, 12, 3)
    with pytest.raises(InputError, match=r"'open' takes inputs of shape \(None, 2\), and input_shape is None"):
        sd.Network(model)
    for wrong in [(10, 3), (10,), (0, 2), (1.5, 2)]:
        with pytest.raises(InputError, match="expected a whole number for every axis"):
            sd.Network(model, input_shape=wrong)


class Subclassed(keras.Model):
    def call(self, x):
        return x


def test_models_that_are_no_networks_are_told():
    first, second = keras.Input((3,)), keras.Input((3,))
    for model, message in [
        (Subclassed(name="closed"), "'closed' .* has no graph to look into"),
        (
            keras.Model([first, second], layers.Add()([first, second])),
            r"has 2 inputs, .* and none of them are images: name the one",
        ),
        ("vgg16", "expected a keras.Model, not str"),
    ]:
        with pytest.raises(ModelError, match=message):
            sd.Network(model)
    with pytest.raises(InputError, match="dtype is 'float16'"):
        sd.Network(keras_model((7,)), dtype="float16")


def test_wrong_inputs_and_layers_are_told():
    network = sd.Network(keras_model((6, 7, 8, 2)))
    for wrong in [(6, 7, 8, 2), (0, 6, 7, 8, 2), (1, 1, 6, 7, 8, 2)]:
        with pytest.raises(InputError, match=r"expected one axis before those of model 'small', \(6, 7, 8, 2\)"):
            network.activations(np.zeros(wrong), ["first"])
    with pytest.raises(ModelError, match=r"inputs of shape \(6, 7, 8, 5\); its own shape is \(6, 7, 8, 2\)"):
        network.activations(np.zeros((1, 6, 7, 8, 5)), ["first"])
    with pytest.raises(LayerNotFoundError, match=r"no layer 'frist'; closest: 'first'; all of them: first, second"):
        network.layer_shape("frist")
    headless = keras.Input((6, 2))
    with pytest.raises(ModelError, match=r"no class scores: it ends in shape \(4, 3\)"):
        sd.Network(keras.Model(headless, layers.Conv1D(3, 3)(headless))).logits(inputs_of((6, 2)))


def test_what_is_for_images_alone_is_told():
    network = sd.Network(keras_model((6, 7, 8, 2)))
    with pytest.raises(InputError, match=r"pass parameterization=parameterizations.pixels\(start\)"):
        sd.optimize(network, unit("logits", 0))
    start = pixels(np.zeros((6, 7, 8, 2)))
    with pytest.raises(InputError, match=r"transforms are views of images .* takes \(6, 7, 8, 2\)"):
        sd.optimize(network, unit("logits", 0), parameterization=start, transforms=[sd.transforms.jitter(1)])
    with pytest.raises(InputError, match=r"position \(1, 1\) has 2 numbers; expected one for each of the 3 axes"):
        sd.optimize(network, unit("first", 0, (1, 1)), parameterization=start, n_steps=1)


def test_programs_that_are_used_are_kept_longest():
    network = sd.Network(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    made = []
    for key in [*range(16), 0, 16, 0, 1]:
        network.program((key,), lambda key=key: made.append(key))
    assert made == [*range(16), 16, 1]
