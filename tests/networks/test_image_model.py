"""The network as the rest of the program sees it, against what Keras itself computes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from stochdeconv import backend
from stochdeconv.errors import ClassNotFoundError, InputError, LayerNotFoundError, ModelError
from stochdeconv.networks import layer_copies
from stochdeconv.networks.image_model import load_model

# Keras 3.15 reads its own variables in a way NumPy 2.4 warns about, when it saves a model.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RELU_LAYERS = ("conv1", "conv2", "branch_a", "branch_b_relu", "depthwise", "separable", "bounded")


def randomise(model, seed=0):
    """Give every weight, batch normalisation included, a value that matters."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        values = rng.normal(0, 1 / np.sqrt(max(1, np.prod(weight.shape[:-1]))), weight.shape)
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.path or "gamma" in weight.path else values)
    return model


def small_network(head="dense_softmax"):
    image = keras.Input((24, 24, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv1")(image)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    a = layers.Conv2D(6, 1, activation="relu", name="branch_a")(x)
    b = layers.Conv2D(6, 3, padding="same", name="branch_b")(x)
    b = layers.Activation("relu", name="branch_b_relu")(b)
    x = layers.Concatenate(name="join")([a, b])
    x = layers.DepthwiseConv2D(3, activation="relu6", name="depthwise")(x)
    x = layers.SeparableConv2D(16, 3, activation="relu", name="separable")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(max_value=0.2, name="bounded")(x)
    x = layers.GlobalAveragePooling2D(name="gap")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    if head == "dense_softmax":
        x = layers.Dense(5, activation="softmax", name="predictions")(x)
    elif head == "activation":
        x = layers.Activation("softmax", name="predictions")(layers.Dense(5, name="scores")(x))
    elif head == "softmax_layer":
        x = layers.Softmax(name="predictions")(layers.Dense(5, name="scores")(x))
    elif head == "operation":
        x = ops.softmax(layers.Dense(5, name="scores")(x))
    else:
        x = layers.Dense(5, name="scores")(x)
    return randomise(keras.Model(image, x, name="small"))


def images(n=3, size=(24, 24), seed=1):
    return np.random.default_rng(seed).random((n, *size, 3), dtype=np.float32)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def own_outputs(model, names, batch):
    outputs = keras.Model(model.inputs[0], [model.get_layer(name).output for name in names])(batch, training=False)
    return {name: ops.convert_to_numpy(value) for name, value in zip(names, outputs, strict=True)}


@pytest.fixture(scope="module")
def network():
    return load_model(small_network(), preprocessing="tf", dtype="float32")


# What it computes


def test_every_layer_is_what_the_owners_model_computes(network):
    batch = images()
    names = network.layer_names
    assert names[:3] == ("conv1", "conv2", "pool")
    assert names[-1] == "predictions"
    assert "image" not in names
    ours = network.activations(batch, names, batch_size=3)
    for name, expected in own_outputs(network.keras_model, names, batch * 2 - 1).items():
        np.testing.assert_allclose(ours[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)
        assert ours[name].dtype == np.float32
        assert network.layer_shape(name) == expected.shape[1:]


@pytest.mark.parametrize("layer", RELU_LAYERS)
def test_linear_values_become_the_layers_own_in_the_relu(network, layer):
    values = network.activations(images(), [layer, f"{layer}_linear"], batch_size=3)
    bound = {"depthwise": 6.0, "bounded": 0.2}.get(layer, np.inf)
    linear = values[f"{layer}_linear"]
    assert (linear < 0).any()
    assert (linear > 0).any()
    np.testing.assert_allclose(np.clip(linear, 0, bound), values[layer], rtol=1e-6, atol=1e-7)
    assert network.layer_shape(f"{layer}_linear") == network.layer_shape(layer)


def test_bounds_of_relus_are_reached(network):
    assert network.activations(images(), ["bounded"], batch_size=3)["bounded"].max() == np.float32(0.2)


def test_a_concatenation_of_relus_has_linear_values(network):
    values = network.activations(images(), ["join", "join_linear", "branch_a_linear", "branch_b"], batch_size=3)
    np.testing.assert_array_equal(
        values["join_linear"], np.concatenate([values["branch_a_linear"], values["branch_b"]], -1)
    )
    np.testing.assert_array_equal(np.maximum(values["join_linear"], 0), values["join"])


def test_a_convolution_before_a_relu_layer_is_linear_itself(network):
    values = network.activations(images(), ["branch_b", "branch_b_linear", "branch_b_relu_linear"], batch_size=3)
    np.testing.assert_array_equal(values["branch_b"], values["branch_b_linear"])
    np.testing.assert_array_equal(values["branch_b"], values["branch_b_relu_linear"])


@pytest.mark.parametrize("layer", ["pool", "gap"])
def test_a_layer_without_activation_has_no_linear_values(network, layer):
    with pytest.raises(LayerNotFoundError, match=f"layer '{layer}' of model 'small' has no activation"):
        network.layer_shape(f"{layer}_linear")


def test_every_activation_has_values_before_it(network):
    values = network.activations(images(), ["predictions_linear", "logits", "predictions"], batch_size=3)
    np.testing.assert_array_equal(values["predictions_linear"], values["logits"])
    assert np.ptp(values["logits"]) > 0 and not np.allclose(values["logits"], values["predictions"])


@pytest.mark.parametrize("head", ["dense_softmax", "activation", "softmax_layer", "operation"])
def test_logits_stand_before_the_softmax(head):
    model = small_network(head)
    network = load_model(model, preprocessing="tf")
    batch = images()
    logits = network.logits(batch, batch_size=3)
    expected = ops.convert_to_numpy(model(batch * 2 - 1, training=False))
    np.testing.assert_allclose(softmax(logits), expected, rtol=1e-5)
    assert abs(logits.sum(-1) - 1).min() > 0.01
    assert network.layer_shape("logits") == (5,)


def test_logits_of_a_network_without_softmax_are_its_output():
    model = small_network("none")
    batch = images()
    expected = ops.convert_to_numpy(model(batch * 2 - 1, training=False))
    np.testing.assert_allclose(load_model(model, preprocessing="tf").logits(batch), expected, rtol=1e-5, atol=1e-6)


def test_the_owners_model_stays_as_it_is():
    model = small_network()
    before = model.get_config(), [weight.numpy().copy() for weight in model.weights]
    network = load_model(model, preprocessing="caffe")
    network.activations(images(), [*network.layer_names, "conv1_linear", "logits"], batch_size=3)
    network.forward(["conv2", "logits"], gradient_rule="guided", dtype="bfloat16")(images())
    assert network.keras_model is model
    assert model.get_config() == before[0]
    for weight, value in zip(model.weights, before[1], strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    # A layer that had been called a second time would have no single output any more.
    assert all(layer.output is not None and layer.trainable for layer in model.layers)


def test_it_is_always_in_inference_mode():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x, training=True)
    x = layers.Dropout(0.9, name="dropout")(x, training=True)
    network = load_model(randomise(keras.Model(image, x)), preprocessing="none")
    values = network.activations(images(size=(8, 8)), ["conv", "norm", "dropout"], batch_size=3)
    np.testing.assert_array_equal(values["norm"], values["dropout"])
    norm = network.keras_model.get_layer("norm")
    gamma, beta, mean, variance = (weight.numpy() for weight in norm.weights)
    expected = (values["conv"] - mean) / np.sqrt(variance + norm.epsilon) * gamma + beta
    np.testing.assert_allclose(values["norm"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 4, 5])
def test_batches_do_not_matter(network, n):
    batch = images(5)
    whole = network.activations(batch, ["separable", "logits"], batch_size=5)
    parts = network.activations(batch[:n], ["separable", "logits"], batch_size=2)
    for layer in ("separable", "logits"):
        assert len(parts[layer]) == n
        np.testing.assert_allclose(parts[layer], whole[layer][:n], rtol=1e-5, atol=1e-6)


def test_bfloat16_is_near_float32_and_comes_out_as_float32(network):
    layers_asked = ("conv2", "separable_linear", "logits")
    batch = images()
    exact = network.forward(layers_asked)(batch)
    rough = network.forward(layers_asked, dtype="bfloat16")(batch)
    for layer in layers_asked:
        a, b = ops.convert_to_numpy(exact[layer]), ops.convert_to_numpy(rough[layer])
        assert b.dtype == np.float32
        assert 0 < np.abs(a - b).mean() / np.abs(a).mean() < 0.03
    raw = network.forward(layers_asked, dtype="bfloat16", as_computed=True)(batch)
    assert {keras.backend.standardize_dtype(raw[layer].dtype) for layer in layers_asked} == {"bfloat16"}
    copies = network._copies["bfloat16"]._copies
    assert all(weight.dtype == "bfloat16" for layer, _ in copies.values() for weight in layer.weights)


def test_forward_gives_the_image_and_the_networks_input(network):
    batch = images()
    values = network.forward(["conv1"])(batch)
    assert set(values) == {"input", "network_input", "conv1"}
    np.testing.assert_array_equal(ops.convert_to_numpy(values["input"]), batch)
    np.testing.assert_allclose(ops.convert_to_numpy(values["network_input"]), batch * 2 - 1)
    assert set(network.forward(["input"])(batch)) == {"input", "network_input"}
    assert network.layer_shape("input") == network.layer_shape("network_input") == (24, 24, 3)


def test_forward_can_be_compiled_and_is_made_once(network):
    forward = network.forward(["conv2", "logits"])
    assert network.forward(["conv2", "logits"]) is forward
    assert network.forward(["conv2", "logits"], dtype="bfloat16") is not forward
    compiled, eager = backend.compile(forward)(ops.convert_to_tensor(images())), forward(images())
    for layer in eager:
        np.testing.assert_allclose(
            ops.convert_to_numpy(compiled[layer]), ops.convert_to_numpy(eager[layer]), rtol=1e-5, atol=1e-6
        )


def test_nothing_deeper_than_needed_is_copied_or_computed(monkeypatch):
    network = load_model(small_network(), preprocessing="tf")
    copied = []
    copy_layer = layer_copies._copy_layer
    monkeypatch.setattr(
        layer_copies, "_copy_layer", lambda step, dtype, name: copied.append(step.name) or copy_layer(step, dtype, name)
    )
    network.forward(["branch_a_linear"])(images())
    assert copied == ["conv1", "conv2", "pool", "branch_a"]
    network.forward(["join_linear"])(images())
    assert copied[4:] == ["branch_b", "join"]


# Other sizes


def test_a_fully_convolutional_network_takes_other_sizes(network):
    values = network.activations(images(2, (40, 32)), ["conv2", "join", "logits"], batch_size=2)
    assert values["conv2"].shape == (2, 40, 32, 8)
    assert values["join"].shape == (2, 20, 16, 12)
    assert values["logits"].shape == (2, 5)


def test_layers_below_a_flatten_take_other_sizes():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    x = layers.Dense(5, name="scores")(layers.Flatten(name="flat")(x))
    network = load_model(randomise(keras.Model(image, x, name="fixed")), preprocessing="none")
    assert network.activations(images(2, (12, 9)), ["conv"])["conv"].shape == (2, 10, 7, 4)
    with pytest.raises(ModelError, match="'fixed' cannot compute logits for images of 12x9; its own size is 8x8"):
        network.logits(images(2, (12, 9)))


def test_a_network_of_any_size_gets_the_usual_one():
    network = load_model(keras.applications.MobileNet(weights=None, include_top=False, alpha=0.25), preprocessing="tf")
    assert network.input_size == (224, 224)
    assert network.layer_shape("conv1_relu") == (112, 112, 8)


# Backward rules


def test_a_gradient_rule_changes_the_gradient_alone(network):
    batch = ops.convert_to_tensor(images())

    def gradient(rule):
        forward = network.forward(["separable"], gradient_rule=rule)
        return backend.value_and_gradient(lambda x: (ops.sum(forward(x)["separable"]), ()))(batch)

    (true_value, _), true = gradient("true")
    (guided_value, _), guided = gradient("guided")
    assert float(true_value) == pytest.approx(float(guided_value), rel=1e-6)
    true, guided = ops.convert_to_numpy(true), ops.convert_to_numpy(guided)
    assert np.abs(true).max() > 0
    assert np.abs(guided).max() > 0
    assert np.abs(true - guided).max() > 0.1 * np.abs(true).max()


def test_a_rule_needs_a_relu_and_a_name():
    image = keras.Input((8, 8, 3))
    network = load_model(
        keras.Model(image, layers.Conv2D(4, 3, activation="gelu", name="conv")(image), name="smooth"),
        preprocessing="none",
    )
    with pytest.raises(ModelError, match="'smooth' has no ReLU whose gradient could be guided"):
        network.forward(["conv"], gradient_rule="guided")
    for rule in ("gided", "mix"):
        with pytest.raises(InputError, match=f"'{rule}'.*true, guided, deconvnet"):
            network.forward(["conv"], gradient_rule=rule)


# Which layers to collect


def test_default_layers_of_vgg16():
    vgg16 = ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3")
    whole = keras.applications.VGG16(weights=None, input_shape=(32, 32, 3), classes=3)
    assert load_model(whole, preprocessing="caffe").default_layers == vgg16
    headless = keras.applications.VGG16(weights=None, input_shape=(32, 32, 3), include_top=False)
    assert load_model(headless, preprocessing="caffe").default_layers == vgg16


def test_default_layers_of_squeezenet(shared):
    network = load_model(shared / "models/squeezenet_v1.0_imagenet.keras")
    assert network.default_layers == (
        "conv1_relu",
        "fire3_concat",
        "fire4_concat",
        "fire5_concat",
        "fire7_concat",
        "fire8_concat",
        "fire9_concat",
    )


def test_default_layers_of_residual_networks():
    resnet = load_model(keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3)), preprocessing="caffe")
    assert resnet.default_layers == (
        "conv1_relu",
        "conv2_block3_out",
        "conv3_block4_out",
        "conv4_block6_out",
        "conv5_block3_out",
    )
    mobilenet = load_model(keras.applications.MobileNetV2(weights=None, alpha=0.35), preprocessing="tf")
    # Inside a residual block no map is passed by every path; at its end, the sum is not rectified.
    assert "block_2_expand_relu" not in mobilenet.default_layers
    assert not any(layer.endswith(("add", "project_BN")) for layer in mobilenet.default_layers)
    assert mobilenet.default_layers[-1] == "out_relu"
    assert "block_6_expand_relu" in mobilenet.default_layers


def test_default_layers_skip_bottlenecks_branches_and_class_maps(network):
    # branch_a and branch_b_relu are passed by half of the paths each.
    assert network.default_layers == ("conv2", "join", "depthwise", "bounded")


def test_noise_for_training_leaves_a_join_of_rectified_maps_rectified():
    image = keras.Input((16, 16, 3))
    branches = [layers.Conv2D(4, 3, activation="relu")(image) for _ in range(2)]
    x = layers.Add(name="join")([layers.AlphaDropout(0.1)(layers.GaussianNoise(0.1)(branch)) for branch in branches])
    x = layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu", name="after")(x)))
    assert load_model(keras.Model(image, x), preprocessing="none").default_layers == ("join", "after")


def test_a_network_without_relu_has_default_layers():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, activation="gelu", name="a")(image)
    x = layers.ZeroPadding2D(name="pad")(x)
    x = layers.Conv2D(6, 3, activation="gelu", name="b")(x)
    x = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    assert load_model(keras.Model(image, x), preprocessing="none").default_layers == ("a", "b")


# Other kinds of model


def test_nested_and_sequential_models_are_opened():
    inner_image = keras.Input((12, 12, 3))
    inner = keras.Model(inner_image, layers.Conv2D(4, 3, activation="relu", name="conv")(inner_image), name="inner")
    tail = keras.Sequential([layers.GlobalAveragePooling2D(name="gap"), layers.Dense(3, name="scores")], name="tail")
    model = randomise(
        keras.Sequential([keras.Input((12, 12, 3)), layers.Rescaling(2.0, name="scale"), inner, tail], name="outer")
    )
    network = load_model(model, preprocessing="none")
    assert network.layer_names == ("scale", "inner/conv", "inner", "tail/gap", "tail/scores", "tail")
    batch = images(size=(12, 12))
    np.testing.assert_allclose(network.logits(batch), ops.convert_to_numpy(model(batch * 255)), rtol=1e-5, atol=1e-4)
    values = network.activations(batch, ["inner/conv", "inner", "inner/conv_linear"])
    np.testing.assert_array_equal(values["inner/conv"], values["inner"])
    np.testing.assert_array_equal(np.maximum(values["inner/conv_linear"], 0), values["inner"])


def test_shared_layers_bare_operations_and_python_functions():
    image = keras.Input((8, 8, 3))
    shared_layer = layers.Conv2D(3, 3, padding="same", activation="relu", name="twice")
    x = shared_layer(shared_layer(image)) + image
    x = ops.relu(x - 100.0)
    x = layers.Lambda(lambda values: values * 0.5, name="half")(x)
    x = layers.Conv2D(4, 3, activation=lambda values: ops.tanh(values), name="own")(x)
    model = randomise(keras.Model(image, ops.mean(x, axis=(1, 2)), name="odd"))
    with pytest.warns(UserWarning, match=r"not understood \(tanh of 'own'\)"):
        network = load_model(model, preprocessing="none")
    batch = images(size=(8, 8))
    assert {"twice", "twice#2", "half", "own"} <= set(network.layer_names)
    np.testing.assert_allclose(network.logits(batch), ops.convert_to_numpy(model(batch * 255)), rtol=1e-5, atol=1e-5)
    twice = network.activations(batch, ["twice", "twice#2", "twice#2_linear"])
    assert np.abs(twice["twice"] - twice["twice#2"]).max() > 1
    np.testing.assert_array_equal(np.maximum(twice["twice#2_linear"], 0), twice["twice#2"])


def test_real_networks_logits_agree_with_their_softmax(shared):
    for name in ("squeezenet_v1.0_imagenet", "mobilenet_v1_0.75_imagenet"):
        network = load_model(shared / f"models/{name}.keras", dtype="float32")
        batch = images(2, network.input_size)
        logits = network.logits(batch, batch_size=2)
        own = network.keras_model(network.preprocess(ops.convert_to_tensor(batch)), training=False)
        np.testing.assert_allclose(softmax(logits), ops.convert_to_numpy(own), rtol=1e-3, atol=1e-6)
        assert network.name == name
        assert network.source == str((shared / f"models/{name}.keras").resolve())
        assert network.class_index("church") == 497


# The hash


def test_the_hash_is_over_the_weights(tmp_path):
    model = small_network()
    expected = load_model(model, preprocessing="tf").weights_hash
    assert len(expected) == 64
    model.save(tmp_path / "small.keras")
    assert load_model(tmp_path / "small.keras", preprocessing="caffe").weights_hash == expected
    model.save_weights(tmp_path / "small.weights.h5")
    other = small_network()
    randomise(other, seed=5)
    assert load_model(other, preprocessing="tf").weights_hash != expected
    other.load_weights(tmp_path / "small.weights.h5")
    assert load_model(other, preprocessing="tf").weights_hash == expected


@pytest.mark.parametrize("which", range(0, 20, 3))
def test_any_change_of_a_weight_changes_the_hash(which):
    model = small_network()
    expected = load_model(model, preprocessing="tf").weights_hash
    values = model.weights[which].numpy().copy()
    values.flat[-1] = np.nextafter(values.flat[-1], np.float32(9))
    model.weights[which].assign(values)
    assert load_model(model, preprocessing="tf").weights_hash != expected


def test_swapped_weights_change_the_hash():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(3, 3), layers.Conv2D(3, 3)])
    randomise(model)
    expected = load_model(model, preprocessing="tf").weights_hash
    first, second = (layer.get_weights() for layer in model.layers)
    model.layers[0].set_weights(second)
    model.layers[1].set_weights(first)
    assert load_model(model, preprocessing="tf").weights_hash != expected


# The input convention


@pytest.mark.parametrize(
    ("mode", "module"),
    [("caffe", "vgg16"), ("tf", "mobilenet"), ("torch", "densenet"), ("none", "efficientnet")],
)
def test_preprocessing_is_keras_own(mode, module):
    batch = images()
    network = load_model(small_network(), preprocessing=mode)
    expected = getattr(keras.applications, module).preprocess_input(batch * 255.0)
    values = ops.convert_to_numpy(network.preprocess(ops.convert_to_tensor(batch)))
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-4)
    assert network.preprocessing["preprocessing"] == mode


def test_the_mean_of_caffe_networks_is_blue_green_red():
    network = load_model(small_network(), preprocessing="caffe", mean=(104, 117, 123))
    red = np.zeros((1, 24, 24, 3), np.float32)
    red[..., 0] = 1
    values = ops.convert_to_numpy(network.preprocess(ops.convert_to_tensor(red)))
    np.testing.assert_allclose(values[0, 0, 0], [-104, -117, 255 - 123])
    assert network.preprocessing == {"preprocessing": "caffe", "mean": [104.0, 117.0, 123.0]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "pass preprocessing='caffe', 'tf', 'torch' or 'none'"),
        ({"preprocessing": "rgb"}, "preprocessing is 'rgb'"),
        ({"preprocessing": "tf", "mean": (1, 2, 3)}, 'only goes with preprocessing "caffe" or "torch"'),
        ({"preprocessing": "caffe", "mean": (1, 2)}, "three numbers"),
        ({"preprocessing": "caffe", "mean": "bgr"}, "three numbers"),
        ({"preprocessing": "caffe", "mean": (1, 2, float("nan"))}, "three numbers"),
        ({"preprocessing": "tf", "class_names": ["a", "b"]}, "5 class scores, but 2 class names"),
        ({"preprocessing": "tf", "weights": "w.h5"}, "has weights already"),
    ],
)
def test_wrong_arguments_are_told(arguments, message):
    with pytest.raises(ModelError, match=message):
        load_model(small_network(), **arguments)


def test_an_unknown_dtype_is_told():
    with pytest.raises(InputError, match="dtype is 'float16'"):
        load_model(small_network(), preprocessing="tf", dtype="float16")


# Names and errors


def test_an_unknown_layer_names_the_closest():
    vgg16 = load_model(keras.applications.VGG16(weights=None, include_top=False), preprocessing="caffe")
    with pytest.raises(LayerNotFoundError) as caught:
        vgg16.activations(images(), ["block5_conv4"])
    assert str(caught.value).startswith(
        "model 'vgg16' has no layer 'block5_conv4'; closest: 'block5_conv3', 'block5_conv2'"
    )
    assert str(caught.value).endswith("all of them: stochdeconv layers vgg16")


def test_a_network_without_class_scores_says_so():
    headless = load_model(keras.applications.VGG16(weights=None, include_top=False), preprocessing="caffe")
    assert headless.class_names == ()
    for ask in (lambda: headless.logits(images()), lambda: headless.find_class("church")):
        with pytest.raises(ModelError, match=r"'vgg16' has no class scores: it ends in shape \(7, 7, 512\)"):
            ask()


def test_classes_have_names_or_numbers(network):
    named = load_model(small_network(), preprocessing="tf", class_names=["ant", "bee", "cat", "dog", "eel"])
    assert named.class_index("cat") == 2
    assert named.find_class(3).label == "dog"
    assert network.class_index("4") == network.class_index("class 4") == 4
    with pytest.raises(ClassNotFoundError, match="closest: 'cat'"):
        named.class_index("caat")


@pytest.mark.parametrize("shape", [(24, 24, 3), (2, 24, 24, 1), (0, 24, 24, 3)])
def test_images_of_another_shape_are_told(network, shape):
    with pytest.raises(InputError, match=r"expected \(image, height, width, 3\)"):
        network.activations(np.zeros(shape, np.float32), ["conv1"])


def test_a_batch_size_below_one_is_told(network):
    with pytest.raises(InputError, match="batch_size is 0"):
        network.activations(images(), ["conv1"], batch_size=0)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="closed")
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


class FunctionalWithOwnCall(keras.Model):
    def call(self, x):
        return super().call(x) * 2


def test_models_that_cannot_be_looked_into_are_told():
    image, second = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    dense = layers.Dense(2)(image)
    pairs = keras.Input((8, 8, 2))
    rows = keras.Input((8,))
    for model, message in [
        (Subclassed(), "'closed' .* has no graph"),
        (FunctionalWithOwnCall(image, dense), "has no graph"),
        (keras.Sequential([layers.Dense(3)]), "has no graph"),
        (
            keras.Model([image, second], layers.Add()([image, second])),
            "has 2 inputs.* and 2 of them are images: name the one",
        ),
        (keras.Model(rows, layers.Dense(2)(rows)), r"shape \(8,\); expected images"),
        (keras.Model(pairs, layers.Dense(2)(pairs)), "of 1, 3, 4 channels"),
    ]:
        with pytest.raises(ModelError, match=message):
            load_model(model, preprocessing="none")
    with pytest.raises(ModelError, match="not int"):
        load_model(3)


class Uncopyable(layers.Layer):
    def __init__(self, factor):
        super().__init__(name="own")
        self.factor = factor

    def call(self, x):
        return x * self.factor


def test_a_layer_that_cannot_be_copied_is_told():
    image = keras.Input((8, 8, 3))
    network = load_model(keras.Model(image, Uncopyable(2)(image)), preprocessing="none")
    with pytest.raises(ModelError, match=r"layer 'own' \(Uncopyable\) cannot be copied.*get_config"):
        network.forward(["own"])
