"""Small networks of the kinds that people bring, each with one property, which is its name."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import layers, ops

SIDE = 16
SHAPE = (SIDE, SIDE, 3)
PETS = ("cat", "dog")


@dataclass(frozen=True)
class Specimen:
    """A network and what is known of it.

    Attributes
    ----------
    make : callable
        () -> keras.Model.
    n_classes : int or None
        None where the output is no scores of classes.
    options : dict
        Of `load_model`, beside the preprocessing "none".
    probabilities : callable or None
        What the network gives out -> probabilities (image, class); None for the output itself.
    takes : callable
        Images (image, height, width, channel) in 0..255 -> what the network is called with.
    doubts : str or None
        What `load_model` warns of.
    """

    make: Callable[[], keras.Model]
    n_classes: int | None = 4
    options: dict[str, Any] = field(default_factory=dict)
    probabilities: Callable[[np.ndarray], np.ndarray] = lambda output: output
    takes: Callable[[np.ndarray], Any] = lambda images: images
    doubts: str | None = None


ZOO: dict[str, Specimen] = {}


def specimen(n_classes=4, *, name=None, **known):
    def register(make):
        title = name or make.__name__
        ZOO[title] = Specimen(make, n_classes, **known)
        return make

    return register


def softmax(z):
    return np.asarray(ops.softmax(z))


def sigmoid(z):
    return np.asarray(ops.sigmoid(z))


def pair(p):
    return np.concatenate([1 - p, p], axis=-1)


def mean_over_places(p):
    return p.mean(axis=tuple(range(1, p.ndim - 1)))


def stem(shape=SHAPE, *, name="conv", activation="relu", **keywords):
    """Return an input and a map of 6 channels, about as large as a trained network's."""
    inputs = keras.Input(shape, **keywords)
    x = layers.Rescaling(1 / 255.0)(inputs)
    x = layers.Conv2D(8, 3, padding="same", activation=activation, name=name)(x)
    x = layers.MaxPooling2D()(x)
    return inputs, layers.Conv2D(6, 3, padding="same", activation=activation, name="deep")(x)


def features(*arguments, **keywords):
    inputs, x = stem(*arguments, **keywords)
    return inputs, layers.GlobalAveragePooling2D()(x)


def ending(activation, units=4, **keywords):
    inputs, x = features()
    return keras.Model(inputs, layers.Dense(units, activation=activation, name="head", **keywords)(x))


# How it ends


@specimen()
def softmax_fused():
    return ending("softmax")


@specimen()
def softmax_layer():
    inputs, x = features()
    return keras.Model(inputs, layers.Softmax()(layers.Dense(4)(x)))


@specimen()
def softmax_operation():
    inputs, x = features()
    return keras.Model(inputs, ops.softmax(layers.Dense(4)(x)))


@specimen()
def softmax_activation_layer_in_float32():
    inputs, x = features()
    return keras.Model(inputs, layers.Activation("softmax", dtype="float32")(layers.Dense(4)(x)))


@specimen()
def softmax_then_cast():
    inputs, x = features()
    return keras.Model(inputs, ops.cast(layers.Dense(4, activation="softmax")(x), "float32"))


@specimen()
def softmax_of_a_map_of_one_place_then_flatten():
    inputs, x = stem()
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    return keras.Model(inputs, layers.Flatten()(layers.Activation("softmax")(layers.Conv2D(4, 1)(x))))


@specimen()
def softmax_then_linear_activation_and_reshape():
    inputs, x = features()
    x = layers.Activation("linear")(layers.Dense(4, activation="softmax")(x))
    return keras.Model(inputs, layers.Reshape((4,))(x))


@specimen()
def softmax_by_an_operation_as_activation():
    return ending(ops.softmax)


@specimen()
def softmax_by_a_function_of_its_own_as_activation():
    return ending(lambda z: ops.exp(z - ops.max(z, axis=-1, keepdims=True)) / ops.sum(
        ops.exp(z - ops.max(z, axis=-1, keepdims=True)), axis=-1, keepdims=True
    ))  # fmt: skip


@specimen(probabilities=np.exp)
def log_softmax():
    return ending("log_softmax")


@specimen()
def sparsemax():
    return ending("sparsemax")


@specimen(2, probabilities=pair)
def one_sigmoid():
    return ending("sigmoid", 1)


@specimen(2, probabilities=pair, options={"class_names": PETS})
def one_sigmoid_that_is_sure():
    return ending("sigmoid", 1, bias_initializer=keras.initializers.Constant(9.0))


@specimen(2, probabilities=pair)
def one_sigmoid_that_is_sure_of_the_other_class():
    return ending("sigmoid", 1, bias_initializer=keras.initializers.Constant(-9.0))


@specimen(2, probabilities=lambda p: pair(p.reshape(-1, 1)))
def one_sigmoid_layer_then_reshape():
    inputs, x = features()
    return keras.Model(inputs, layers.Reshape((1,))(layers.Activation("sigmoid")(layers.Dense(1)(x))))


@specimen(2, probabilities=lambda z: pair(sigmoid(z)), options={"class_names": PETS})
def one_logit_with_two_class_names():
    return ending(None, 1)


@specimen(1, doubts="ends in a single value")
def one_value_without_class_names():
    return ending(None, 1)


@specimen(5)
def several_sigmoids():
    return ending("sigmoid", 5, bias_initializer=keras.initializers.Constant([9.0, -9.0, 3.0, -9.0, 0.0]))


@specimen()
def several_sigmoids_by_an_operation():
    inputs, x = features()
    return keras.Model(inputs, ops.sigmoid(layers.Dense(4)(x)))


@specimen()
def hard_sigmoid():
    return ending("hard_sigmoid")


@specimen(2, probabilities=lambda p: pair(np.exp(p)))
def one_log_sigmoid():
    inputs, x = features()
    return keras.Model(inputs, ops.log_sigmoid(layers.Dense(1)(x)))


@specimen()
def sigmoids_of_several_heads_joined():
    inputs, x = features()
    parts = [layers.Dense(2, activation="sigmoid", name=name)(x) for name in ("first", "second")]
    return keras.Model(inputs, layers.Concatenate()(parts))


@specimen()
def average_of_two_softmaxes():
    inputs, x = features()
    parts = [layers.Dense(4, activation="softmax", name=name)(x) for name in ("first", "second")]
    return keras.Model(inputs, layers.Average()(parts))


@specimen(probabilities=softmax)
def logits():
    return ending(None)


@specimen(probabilities=softmax)
def logits_at_a_temperature():
    inputs, x = features()
    return keras.Model(inputs, layers.Dense(4)(x) / 2.5)


@specimen(probabilities=softmax)
def rectified_class_maps_averaged():
    inputs, x = stem()
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1, activation="relu", name="maps")(x)))


@specimen(doubts=r"not understood \(the activation of 'head'\)")
def an_activation_of_its_own():
    return ending(lambda z: z + ops.tanh(z) ** 3)


@specimen(doubts=r"not understood \(TrueDivide '")
def sigmoids_written_out():
    inputs, x = features()
    return keras.Model(inputs, 1 / (1 + ops.exp(-layers.Dense(4, name="head")(x))))


@specimen(doubts=r"not understood \(tanh of 'head'\)")
def tanh_between_zero_and_one():
    inputs, x = features()
    return keras.Model(inputs, (layers.Dense(4, activation="tanh", name="head")(x) + 1) / 2)


@specimen(doubts=r"not understood \(softplus of 'head'\)")
def evidence():
    inputs, x = features()
    return keras.Model(inputs, layers.Dense(4, activation="softplus", name="head")(x) + 1)


class Conv(layers.Layer):
    """A layer of somebody's own with the name of one of Keras's operations, which does something else."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 4), name="kernel")

    def call(self, x):
        return ops.sigmoid(ops.matmul(x, self.kernel))


@specimen(doubts=r"not understood \(\S*zoo.Conv 'conv\S*'\)")
def a_layer_called_as_one_of_keras():
    inputs, x = features(name="first")
    return keras.Model(inputs, Conv()(x))


@specimen(doubts=r"not understood \(sigmoid of 'first'\)")
def product_with_a_sum_of_sigmoids():
    inputs, x = features()
    parts = [layers.Dense(4, activation="sigmoid", name=name)(x) for name in ("first", "second")]
    return keras.Model(inputs, layers.Add()(parts))


@specimen(doubts="ends in tanh, which makes no probabilities")
def tanh():
    return ending("tanh")


@specimen(doubts=r"not understood \(sigmoid of 'first'\)")
def values_and_a_sigmoid_joined():
    inputs, x = features()
    return keras.Model(
        inputs, layers.Concatenate()([layers.Dense(3)(x), layers.Dense(1, activation="sigmoid", name="first")(x)])
    )


@specimen(doubts=r"not understood \(softmax of 'first'\)")
def normalised_after_its_softmax():
    inputs, x = features()
    return keras.Model(inputs, layers.BatchNormalization()(layers.Dense(4, activation="softmax", name="first")(x)))


@specimen(None)
def softmax_in_rows():
    inputs, x = features()
    return keras.Model(inputs, layers.Reshape((4, 5))(layers.Dense(20, activation="softmax", name="first")(x)))


@specimen(2, probabilities=lambda p: pair(p.reshape(-1, 1)), options={"class_names": PETS})
def one_sigmoid_squeezed():
    inputs, x = features()
    return keras.Model(inputs, ops.squeeze(layers.Dense(1, activation="sigmoid")(x), axis=-1))


@specimen()
def rectified_maps_beside_a_layer_of_their_linear_name():
    inputs, x = stem()
    x = layers.Conv2D(4, 3, padding="same", name="maps_linear")(x)
    x = layers.Conv2D(4, 1, activation="relu", name="maps")(x)
    return keras.Model(inputs, layers.Softmax()(layers.GlobalAveragePooling2D()(x)))


# Up to here they differ in how they end alone.
ENDINGS = tuple(ZOO)


# What its parts are called


@specimen()
def layers_named_with_signs():
    inputs, x = stem(name="_conv")
    for name in ("-x", "block 1", "a:b", "größe", "conv,1", "conv.1", "layer(2)"):
        x = layers.Conv2D(6, 1, activation="relu", name=name)(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


@specimen()
def model_and_input_named_with_signs():
    inputs, x = features(name="größe 1")
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="_out")(x), name="mein Netz: größe 1")


@specimen()
def layers_named_like_our_words():
    inputs, x = stem(name="input")
    x = layers.GlobalAveragePooling2D(name="network_input")(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="probabilities")(x))


# What goes in


def _mnist(shape=(28, 28, 1)):
    inputs, x = stem(shape)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(layers.Flatten()(x)))


@specimen()
def grey_of_28_pixels():
    return _mnist()


@specimen(
    takes=lambda images: np.concatenate([images, np.full_like(images[..., :1], 255)], axis=-1),
    doubts="four channels: the last one is held at its largest value, as opacity",
)
def colour_and_opacity():
    return _mnist((SIDE, SIDE, 4))


def channels_first_network(channels):
    first = {"data_format": "channels_first"}
    inputs = keras.Input((channels, SIDE, SIDE + 4))
    x = layers.Rescaling(1 / 255.0)(inputs)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv", **first)(x)
    x = layers.BatchNormalization(axis=1)(x)
    a = layers.Conv2D(3, 1, activation="relu", **first)(layers.MaxPooling2D(**first)(x))
    b = layers.Conv2D(3, 3, padding="same", activation="relu", **first)(layers.AveragePooling2D(2, **first)(x))
    x = layers.Concatenate(axis=1, name="deep")([a, b])
    x = layers.GlobalAveragePooling2D(**first)(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


@specimen(takes=lambda images: np.moveaxis(images, -1, 1))
def channels_first():
    return channels_first_network(3)


@specimen(takes=lambda images: images[..., 0])
def grey_without_an_axis_of_channels():
    inputs = keras.Input((28, 28))
    x = layers.Rescaling(1 / 255.0)(layers.Reshape((28, 28, 1))(inputs))
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(layers.Flatten()(x)))


@specimen(takes=lambda images: np.moveaxis(images, -1, 1))
def channels_first_and_grey():
    return channels_first_network(1)


@specimen()
def wider_than_high():
    inputs, x = features((12, 20, 3))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


@specimen()
def any_size():
    inputs, x = features((None, None, 3))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


@specimen()
def built_for_one_image_at_a_time():
    image, x = stem(batch_size=1)
    x = ops.reshape(x, (1, -1, 6))
    x = ops.reshape(ops.max(x, axis=1), (1, 2, 3))
    x = layers.Flatten()(ops.transpose(x, (0, 2, 1)))
    return keras.Model(image, ops.reshape(layers.Dense(4, activation="softmax")(x), (1, 4)))


@specimen()
def built_for_one_image_with_positions_among_images():
    image, x = stem(batch_size=1)
    x = layers.Dense(5, activation="relu")(ops.reshape(x, (-1, 6)))
    x = layers.GlobalAveragePooling2D()(ops.reshape(x, (1, 8, 8, 5)))
    return keras.Model(image, layers.Dense(4, activation="softmax")(x))


@specimen()
def whole_numbers_as_input():
    inputs, x = features(dtype="uint8")
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


def _with_age():
    inputs, x = features(name="conv")
    age = keras.Input((1,), name="age")
    x = layers.Concatenate()([x, layers.Dense(2, activation="tanh")(layers.Rescaling(0.02)(age))])
    return keras.Model([age, inputs], layers.Dense(4, activation="softmax")(x))


@specimen(options={"inputs": {"age": 30}}, takes=lambda images: [np.full((len(images), 1), 30.0, np.float32), images])
def second_input_held():
    return _with_age()


@specimen(
    options={"input": "left", "inputs": {"right": np.full(SHAPE, 40.0)}},
    takes=lambda images: {"left": images, "right": np.full_like(images, 40)},
)
def two_images_through_shared_layers():
    left, right = keras.Input(SHAPE, name="left"), keras.Input(SHAPE, name="right")
    conv = layers.Conv2D(6, 3, activation="relu", name="conv")
    x = [layers.GlobalAveragePooling2D()(conv(layers.Rescaling(1 / 255.0)(side))) for side in (left, right)]
    x = layers.Concatenate()(x)
    return keras.Model([left, right], layers.Dense(4, activation="softmax")(x))


# What comes out


@specimen(3, options={"output": "kind"}, probabilities=lambda outputs: outputs[1])
def several_outputs_one_chosen():
    inputs, x = features()
    colour = layers.Dense(4, activation="softmax", name="colour")(x)
    return keras.Model(inputs, [colour, layers.Dense(3, activation="softmax", name="kind")(x)])


@specimen(3, options={"output": "zebra"}, probabilities=lambda outputs: outputs["zebra"])
def outputs_by_name_one_chosen():
    inputs, x = features()
    outputs = {"zebra": layers.Dense(3, activation="softmax")(x), "ape": layers.Dense(4, activation="softmax")(x)}
    return keras.Model(inputs, outputs)


@specimen(3, options={"output": "zebra"}, probabilities=lambda outputs: outputs["zebra"])
def ordered_outputs_one_chosen():
    inputs, x = features()
    heads = [("zebra", layers.Dense(3, activation="softmax")(x)), ("ape", layers.Dense(3, activation="softmax")(x))]
    return keras.Model(inputs, OrderedDict(heads))


@specimen(2, options={"output": "kind"}, probabilities=lambda outputs: outputs[1])
def another_head_is_called_logits():
    inputs, x = features()
    return keras.Model(
        inputs, [layers.Dense(4, name="logits")(x), layers.Dense(2, activation="softmax", name="kind")(x)]
    )


@specimen(probabilities=lambda outputs: outputs[0], doubts="has the outputs colour, kind; the first one is taken")
def several_outputs_none_chosen():
    inputs, x = features()
    colour = layers.Dense(4, activation="softmax", name="colour")(x)
    return keras.Model(inputs, [colour, layers.Dense(3, activation="softmax", name="kind")(x)])


def segmentation(channels, activation):
    inputs, x = stem()
    x = layers.UpSampling2D()(x)
    return keras.Model(inputs, layers.Conv2D(channels, 1, activation=activation, name="head")(x))


@specimen(3, probabilities=mean_over_places)
def segmentation_by_softmax():
    return segmentation(3, "softmax")


@specimen(3, probabilities=mean_over_places)
def segmentation_enlarged_after_its_softmax():
    inputs, x = stem()
    x = layers.Conv2D(3, 1, activation="softmax", name="head")(x)
    return keras.Model(inputs, layers.UpSampling2D(interpolation="bilinear")(x))


@specimen(2, probabilities=lambda p: pair(mean_over_places(p)))
def segmentation_by_one_sigmoid():
    return segmentation(1, "sigmoid")


@specimen(5, options={"class_names": list("abcde")}, probabilities=lambda z: mean_over_places(softmax(z)))
def segmentation_of_named_logits():
    return segmentation(5, None)


@specimen(None)
def no_top():
    inputs, x = stem()
    return keras.Model(inputs, x)


@specimen(None)
def autoencoder():
    return segmentation(3, "sigmoid")


@specimen(8, doubts=r"not understood \(UnitNormalization")
def embedding_of_length_one():
    inputs, x = features()
    return keras.Model(inputs, layers.UnitNormalization(name="embedding")(layers.Dense(8)(x)))


# What it is made of


@specimen()
def nested_backbone_with_augmentation_and_dropout():
    inputs, x = stem()
    backbone = keras.Model(inputs, x, name="backbone")
    image = keras.Input(SHAPE)
    x = backbone(layers.RandomFlip()(image), training=False)
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(4, activation="softmax")(x))


@specimen()
def nested_and_called_by_keyword_and_by_names():
    inputs, x = features()
    body = keras.Model(inputs, x, name="body")
    left, right = keras.Input((6,), name="zz"), keras.Input((6,), name="aa")
    difference = keras.Model([left, right], left - 2 * right, name="difference")
    image = keras.Input(SHAPE)
    x = body(inputs=image)
    x = difference({"aa": 0.1 * x, "zz": x})
    return keras.Model(image, layers.Dense(4, activation="softmax")(x))


@specimen()
def sequential():
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Rescaling(1 / 255.0),
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="softmax"),
        ]
    )


@specimen()
def residual_with_batch_normalisation():
    inputs, x = stem(activation=None)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same", use_bias=False)(x))
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Add()([x, y])))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


@specimen()
def smooth_activations_alone():
    inputs, x = features(activation="silu")
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


@specimen()
def separable_convolutions_and_leaky_relu():
    inputs, x = stem(activation=None)
    x = layers.LeakyReLU(negative_slope=0.1)(layers.SeparableConv2D(6, 3, padding="same")(x))
    x = layers.GlobalMaxPooling2D()(layers.DepthwiseConv2D(3, activation="relu6")(x))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


@specimen()
def attention_over_patches():
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(8, 4, strides=4, name="conv")(layers.Rescaling(1 / 255.0)(inputs))
    x = layers.Reshape((SIDE, 8))(x)
    x = x + layers.MultiHeadAttention(2, 4)(layers.LayerNormalization()(x), x)
    x = x + layers.Dense(8, activation="gelu")(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling1D()(x)))


class ShiftedReLU(layers.ReLU):
    """A subclass of a layer of Keras that does something else."""

    def call(self, x):
        return 5 * super().call(x) - 1


@specimen()
def a_relu_with_a_call_of_its_own():
    inputs, x = features()
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(ShiftedReLU()(layers.Dense(6)(x))))


@specimen()
def functions_of_its_own_as_layers():
    inputs, x = stem(activation=None)
    x = layers.Activation(lambda z: ops.minimum(ops.relu(z), 0.2))(x)
    x = layers.Activation(lambda z: ops.sin(z))(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


@specimen()
def channels_first_inside():
    inputs = keras.Input(SHAPE)
    x = ops.moveaxis(layers.Rescaling(1 / 255.0)(inputs), -1, 1)
    x = layers.Conv2D(6, 3, activation="relu", data_format="channels_first", name="conv")(x)
    x = layers.ReLU(name="last")(ops.moveaxis(x, 1, -1))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


@specimen()
def half_precision_policy():
    with_policy = {"dtype": "mixed_bfloat16"}
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(6, 3, activation="relu", name="conv", **with_policy)(layers.Rescaling(1 / 255.0)(inputs))
    x = layers.Dense(4, **with_policy)(layers.GlobalAveragePooling2D(**with_policy)(x))
    return keras.Model(inputs, layers.Activation("softmax", dtype="float32")(x))


@specimen()
def quantised_to_whole_numbers():
    inputs, x = features()
    x = layers.Dense(12, activation="relu", name="hidden")(x)
    model = keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x))
    for name in ("hidden", "head"):
        model.get_layer(name).quantize("int8")
    return model


@specimen()
def low_rank_adapters():
    inputs, x = features()
    model = keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x))
    for name in ("deep", "head"):
        model.get_layer(name).enable_lora(2)
    return model


@keras.saving.register_keras_serializable(package="zoo")
class Scale(layers.Layer):
    """A layer of somebody's own, with a weight."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x):
        return x * self.factor


@specimen()
def a_layer_of_its_own():
    inputs, x = features()
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(Scale()(x)))


def made(name):
    """Make a network of the zoo, its weights random and lively, the same each time."""
    keras.utils.set_random_seed(7)
    model = ZOO[name].make()
    rng = np.random.default_rng(7)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.Conv2D | layers.Dense) and layer.name != "head":
            for weight in layer.weights:
                if "kernel" in weight.name or "lora" in weight.name:
                    scale = 1.5 / np.sqrt(np.prod(weight.shape[:-1]))
                    if str(weight.dtype) in ("float32", "bfloat16"):
                        weight.assign(rng.normal(0, scale, weight.shape))
    return model
