"""Toys of the tests of methods that change a photograph: a small network with classes of its own, and a picture it was never shown."""

import keras
import numpy as np

from stochdeconv.networks.image_model import load_model

SIZE = (32, 32)


def network(seed):
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


def picture():
    """Blue above green, a bright disc, grain; (48, 64, 3)."""
    y, x = np.mgrid[:48, :64] / 48
    image = np.where((y < 0.5)[..., None], [0.3, 0.5, 0.8], [0.3, 0.6, 0.3])
    image[(x - 0.6) ** 2 + (y - 0.4) ** 2 < 0.02] = [0.9, 0.8, 0.4]
    return np.clip(image + 0.05 * np.random.default_rng(0).normal(size=(48, 64, 3)), 0, 1).astype(np.float32)
