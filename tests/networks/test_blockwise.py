import keras
import numpy as np
import pytest
from keras import layers, ops

from stochdeconv import backend
from stochdeconv.networks.blockwise import BlockwiseConvolution, gains_from_blocks
from stochdeconv.networks.image_model import load_model


def built(n_channels=3, **settings):
    layer = layers.Conv2D(**{"filters": 5, "kernel_size": 3, "strides": 2, **settings})
    places = (None, None)
    layer.build((None, n_channels, *places) if layer.data_format == "channels_first" else (None, *places, n_channels))
    layer.set_weights([np.random.default_rng(i).normal(size=w.shape) for i, w in enumerate(layer.get_weights())])
    return layer


def value_and_gradient(function, values):
    def total(x):
        result = function(x)
        return ops.sum(result * ops.cos(ops.cast(ops.arange(result.shape[-1]), result.dtype))), result

    # Compiled, as in the image loop: run at once, TensorFlow computes the kernel's gradient too, and on AVX2 oneDNN writes past
    # its memory there where a kernel is smaller than its stride.
    (_, result), gradient = backend.compile(backend.value_and_gradient(total))(ops.convert_to_tensor(values))
    return ops.convert_to_numpy(result), ops.convert_to_numpy(gradient)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (3, 2), (2, 2), (1, 2), (11, 4), (4, 3), ((3, 5), 2)])
def test_blocks_give_what_the_convolution_gives(padding, kernel, stride):
    layer = built(kernel_size=kernel, strides=stride, padding=padding, activation="relu")
    over_blocks = BlockwiseConvolution(layer)
    for height, width in ((12, 16), (13, 17), (19, 16)):
        values = np.random.default_rng(3).normal(size=(2, height, width, 3)).astype(np.float32)
        (own, own_gradient), (ours, gradient) = (value_and_gradient(f, values) for f in (layer, over_blocks))
        np.testing.assert_allclose(ours, own, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(gradient, own_gradient, rtol=1e-4, atol=1e-4)


def test_a_convolution_of_one_channel_without_bias_or_activation():
    layer = built(n_channels=1, use_bias=False)
    values = np.random.default_rng(3).normal(size=(1, 9, 9, 1)).astype(np.float32)
    (ours, _), (own, _) = (value_and_gradient(f, values) for f in (BlockwiseConvolution(layer), layer))
    np.testing.assert_allclose(ours, own, rtol=1e-4, atol=1e-5)


def test_only_convolutions_that_gain_are_computed_over_blocks():
    assert gains_from_blocks(built())
    others = [
        built(strides=1),
        built(strides=(2, 1)),
        built(n_channels=16),
        built(n_channels=4, groups=2, filters=4),
        built(data_format="channels_first"),
    ]
    assert not any(map(gains_from_blocks, others))
    assert not gains_from_blocks(layers.MaxPooling2D())

    class Own(layers.Conv2D):
        def call(self, inputs):
            return 2 * super().call(inputs)

    own = Own(4, 3, strides=2)
    own.build((None, None, None, 3))
    assert not gains_from_blocks(own)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_network_computes_over_blocks_for_the_image_loop_alone(dtype):
    inputs = keras.Input((15, 15, 3))
    deep = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="first")(inputs)
    outputs = layers.Conv2D(4, 3, name="second")(deep)
    model = load_model(keras.Model(inputs, outputs), preprocessing="tf", dtype=dtype)
    images = np.random.default_rng(0).uniform(size=(2, 15, 15, 3)).astype(np.float32)
    exact = model.activations(images, ["first", "first_linear", "second"])
    in_loop = model.forward(["first", "first_linear", "second"], dtype=dtype, as_computed=True)(images)
    for layer, values in exact.items():
        ours = ops.convert_to_numpy(ops.cast(in_loop[layer], "float32"))
        np.testing.assert_allclose(ours, values, atol=1e-5 if dtype == "float32" else 0.05)
    # What is collected stays the layer's own, to the bit.
    own = keras.Model(inputs, deep)(2 * images - 1)
    np.testing.assert_allclose(exact["first"], ops.convert_to_numpy(own), rtol=1e-6, atol=1e-6)
