"""Landscapes at sunset, and a network of four layers that they are a class of."""

import keras
import numpy as np
from toys import draw_weights

from stochdeconv.images.files import save_png
from stochdeconv.networks.image_model import load_model

#: Pixels of a side.
SIZE = 48


def network(seed):
    layers = [
        keras.Input((SIZE, SIZE, 3)),
        keras.layers.Conv2D(8, 5, activation="relu", name="low"),
        keras.layers.Conv2D(12, 3, strides=2, activation="relu", name="middle"),
        keras.layers.Conv2D(16, 3, strides=2, activation="relu", name="fine"),
        keras.layers.Conv2D(16, 3, strides=2, activation="relu", name="deep"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="softmax", name="predictions"),
    ]
    model = draw_weights(keras.Sequential(layers), seed)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([4 * kernel, bias])  # so that classes are within reach
    return load_model(model, preprocessing="tf", class_names=["sunset", "dog", "eel"], dtype="float32")


def make_landscapes(folder, n):
    """Fill a new folder with landscapes: blue above, green below, a disc of light somewhere."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    for i in range(n):
        horizon, cx, cy = rng.uniform(0.4, 0.7), rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.4)
        image = np.where((y < horizon)[..., None], [0.3, 0.5, 0.9], [0.2, 0.6, 0.2])
        image[(x - cx) ** 2 + (y - cy) ** 2 < 0.01] = [1.0, 0.9, 0.3]
        save_png(folder / f"{i:02d}.png", np.clip(image + 0.05 * rng.normal(size=image.shape), 0, 1))
    return folder
