"""Toys of the tests: three small networks, a picture none of them was shown, and what maps have in common.

`network` is a classifier whose classes are within reach of any picture; one of a seed is built once a process, and what it has compiled
serves all tests: who changes its weights makes `fresh_network`. `explained_network` has biases, for attributions. `make_network` writes a
classifier and its sidecar to a file, for the command line.
"""

import functools
import json

import keras
import numpy as np

from stochdeconv.networks.image_model import load_model

CLASS_NAMES = ["church", "barn", "crane", "crane"]

SIZE = (32, 32)


def fresh_network(seed):
    """A classifier of three classes, each of them within reach of any picture."""
    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input((*SIZE, 3)),
        keras.layers.Conv2D(8, 5, strides=2, activation="relu", name="conv"),
        keras.layers.Conv2D(8, 3, activation="relu", name="deep"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="softmax", name="predictions"),
    ]
    model = keras.Sequential(layers)
    kernel, bias = model.layers[0].get_weights()
    model.layers[0].set_weights([kernel, bias + 0.1])  # as in a trained network, something fires in a flat picture
    features = keras.Model(model.inputs, model.layers[-2].output)
    greys = features.predict(2 * np.random.default_rng(0).uniform(size=(64, *SIZE, 3)) - 1, verbose=0)
    # What speaks for one class speaks against the others, and noise for none of them.
    kernel, _ = model.layers[-1].get_weights()
    kernel = 20 * (kernel - kernel.mean(axis=1, keepdims=True)) / greys.std(axis=0)[:, None] / SIZE[0]
    model.layers[-1].set_weights([kernel, -greys.mean(axis=0) @ kernel])
    return load_model(model, preprocessing="tf", class_names=["cat", "dog", "eel"], dtype="float32")


def draw_weights(model, seed):
    """Give a Keras model Glorot's uniform weights that are the same on every backend: Keras's own draws are not."""
    rng = np.random.default_rng(seed)

    def drawn(shape):
        if len(shape) == 1:
            return np.zeros(shape)
        field = np.prod(shape[:-2])
        limit = np.sqrt(6 / (field * (shape[-2] + shape[-1])))
        return rng.uniform(-limit, limit, shape)

    model.set_weights([drawn(weight.shape) for weight in model.weights])
    return model


@functools.cache
def network(seed):
    """The same, shared."""
    return fresh_network(seed)


def picture():
    """Blue above green, a bright disc, grain; (48, 64, 3)."""
    y, x = np.mgrid[:48, :64] / 48
    image = np.where((y < 0.5)[..., None], [0.3, 0.5, 0.8], [0.3, 0.6, 0.3])
    image[(x - 0.6) ** 2 + (y - 0.4) ** 2 < 0.02] = [0.9, 0.8, 0.4]
    return np.clip(image + 0.05 * np.random.default_rng(0).normal(size=(48, 64, 3)), 0, 1).astype(np.float32)


EXPLAINED_SIZE = (16, 16)


def explained_network(*, seed=1, relu="relu", size=EXPLAINED_SIZE):
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


def likeness(a, b):
    """Correlation of two maps' absolute values."""
    return np.corrcoef(np.abs(a).ravel(), np.abs(b).ravel())[0, 1]


def make_network(path, *, seed):
    """A small classifier of 32 x 32 images with its sidecar."""
    initializer = keras.initializers.HeNormal(seed=seed)
    inputs = x = keras.Input((32, 32, 3))
    for number, n_channels in enumerate((6, 8), start=1):
        x = keras.layers.Conv2D(
            n_channels, 3, padding="same", activation="relu", kernel_initializer=initializer, name=f"conv{number}"
        )(x)
        x = keras.layers.MaxPooling2D(name=f"pool{number}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    x = keras.layers.Dense(4, activation="softmax", kernel_initializer=initializer, name="predictions")(x)
    keras.Model(inputs, x).save(path)
    path.with_suffix(".json").write_text(json.dumps({"preprocessing": "tf", "class_names": CLASS_NAMES}))
