"""Toys of the tests of attributions: a small classifier, with biases, and what maps have in common."""

import keras
import numpy as np

from stochdeconv.networks.image_model import load_model

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


def likeness(a, b):
    """Correlation of two maps' absolute values."""
    return np.corrcoef(np.abs(a).ravel(), np.abs(b).ravel())[0, 1]
