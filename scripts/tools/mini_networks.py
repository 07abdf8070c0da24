"""The small networks that ship with the package, as they are trained and as they are used.

`train_mini_vgg16.py` trains them.
"""

import keras
import numpy as np
from keras import layers

SIZE = 112
DROPOUT = 0.3


class Builder:
    """Convolutions with batch normalisation while training, and plain ones with a bias afterwards."""

    def __init__(self, *, training: bool):
        self.training = training

    def convolution(self, x, width: int, name: str, *, size: int = 3, strides: int = 1, relu: bool = True):
        """Add a convolution; the batch normalisation of NAME is NAME_bn."""
        convolution = layers.Conv2D(
            width, size, strides=strides, padding="same", use_bias=not self.training, name=name,
            activation="relu" if relu and not self.training else None, kernel_initializer="he_normal",
        )  # fmt: skip
        x = convolution(x)
        if self.training:
            x = layers.BatchNormalization(name=f"{name}_bn")(x)
            x = layers.ReLU()(x) if relu else x
        return x

    def dropout(self, x):
        """Add dropout, while training."""
        return layers.Dropout(DROPOUT)(x) if self.training else x

    def predictions(self, x, n_classes: int):
        """Add class scores, and the softmax that only the finished network has."""
        activation = None if self.training else "softmax"
        return layers.Dense(n_classes, activation=activation, name="predictions", dtype=self.output_dtype)(x)

    @property
    def output_dtype(self) -> str | None:
        """Scores in float32 while training: the loss needs their last digits."""
        return "float32" if self.training else None


def mini_vgg16(n_classes: int, *, training: bool) -> keras.Model:
    """Build VGG16, narrower."""
    add = Builder(training=training)
    inputs = x = keras.Input((SIZE, SIZE, 3), name="input")
    for block, (width, depth) in enumerate(((24, 2), (48, 2), (96, 3), (160, 3), (192, 3)), start=1):
        for number in range(1, depth + 1):
            x = add.convolution(x, width, f"block{block}_conv{number}")
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc1", "fc2"):
        x = add.dropout(layers.Dense(384, activation="relu", name=name)(x))
    return keras.Model(inputs, add.predictions(x, n_classes), name="mini-vgg16")


def mini_resnet(n_classes: int, *, training: bool) -> keras.Model:
    """Build a narrow ResNet that ends in an average over positions."""
    add = Builder(training=training)
    inputs = keras.Input((SIZE, SIZE, 3), name="input")
    x = add.convolution(inputs, 24, "stem", strides=2)
    for stage, width in enumerate((24, 48, 88, 160), start=1):
        for unit in (1, 2):
            name, strides = f"stage{stage}_unit{unit}", 2 if stage > 1 and unit == 1 else 1
            branch = add.convolution(x, width, f"{name}_conv1", strides=strides)
            branch = add.convolution(branch, width, f"{name}_conv2", relu=False)
            if strides > 1:
                x = add.convolution(x, width, f"{name}_shortcut", size=1, strides=strides, relu=False)
            x = layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([x, branch]))
    x = add.dropout(layers.GlobalAveragePooling2D(name="average")(x))
    return keras.Model(inputs, add.predictions(x, n_classes), name="mini-resnet")


NETWORKS = {"mini-vgg16": mini_vgg16, "mini-resnet": mini_resnet}
ABOUT = {
    "mini-vgg16": "VGG16 (Simonyan & Zisserman 2014), layer by layer, with about a third of its channels",
    "mini-resnet": "A ResNet (He 2015) of eight units and few channels, that ends in an average over positions",
}


def fold(trained: keras.Model, plain: keras.Model) -> None:
    """Give the plain network the weights of the trained one, its batch normalisations folded into the convolutions."""
    for layer in plain.layers:
        if not layer.weights:
            continue
        kernel, *bias = trained.get_layer(layer.name).get_weights()
        if isinstance(layer, layers.Conv2D):
            normalisation = trained.get_layer(f"{layer.name}_bn")
            gamma, beta, mean, variance = normalisation.get_weights()
            factor = gamma / np.sqrt(variance + normalisation.epsilon)
            kernel, bias = kernel * factor, [beta - mean * factor]
        layer.set_weights([kernel, *bias])
