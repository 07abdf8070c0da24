"""Keras's activation functions, recognised in layers, in bare operations and in functions of another make."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from stochdeconv.networks.operations import calls_as, type_name

#: Keras's activation functions of one value or, the first three, of all channels.
ACTIVATIONS = {
    name: getattr(keras.activations, name)
    for name in (
        *("softmax", "log_softmax", "sparsemax"),
        *("sigmoid", "log_sigmoid", "hard_sigmoid", "sparse_sigmoid"),
        *("tanh", "hard_tanh", "softsign", "softplus", "relu", "relu6"),
        *("elu", "selu", "celu", "leaky_relu", "squareplus", "silu", "hard_silu", "gelu", "mish", "exponential"),
    )
}
# Activations that are bare operations too, with no setting of their own but an axis, by Keras's names for those.
_BARE = {
    "".join(word.capitalize() for word in name.split("_")): name
    for name in itertools.takewhile(lambda name: name != "elu", ACTIVATIONS)
} | {"Exp": "exponential"}
# Values by which an activation of another name is recognised: both signs, small and large.
# Three axes tell a softmax over the last of them from one over another.
_PROBE = np.random.default_rng(0).normal(size=(4, 3, 5)) * np.array([0.1, 3.0, 300.0, 1e6])[:, None, None]

#: Layers that end in ``self.activation(...)``, so that replacing it by the identity gives what stands before it.
LAYERS_WITH_FUSED_ACTIVATION = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.Dense,
    keras.layers.EinsumDense,
)


def activation_of(operation: Any) -> tuple[Callable | None, bool]:
    """Find Keras's activation function that an operation ends in, and whether it is fused into a layer.

    A function of another name or make counts as the one that it agrees with.

    Parameters
    ----------
    operation : keras.Operation
        A layer, or a bare operation.

    Returns
    -------
    activation : callable or None
        None where there is none, or none of Keras's.
    is_fused : bool
    """
    if calls_as(operation, keras.layers.Softmax):
        return keras.activations.softmax, False
    if calls_as(operation, keras.layers.ReLU):
        is_plain = not (operation.negative_slope or operation.threshold)
        return (keras.activations.relu if is_plain else None), False
    if calls_as(operation, keras.layers.Lambda) and not operation.arguments:
        return recognised_activation(operation.function), False
    if isinstance(operation, keras.layers.Layer):
        is_fused = calls_as(operation, *LAYERS_WITH_FUSED_ACTIVATION)
        if not is_fused and not calls_as(operation, keras.layers.Activation):
            return None, False
        activation = recognised_activation(operation.activation)
        return activation, is_fused and activation is not None
    # ops.relu(x) and its like in a functional model are bare operations.
    return ACTIVATIONS.get(_BARE.get(type_name(operation), "")), False


def recognised_activation(function: Callable) -> Callable | None:
    """Find the one of Keras's activation functions that a function is, by what it is or by what it gives; None for others and linear.

    `keras.ops.softmax`, a backend's own softmax or a lambda of it are Keras's softmax then.
    """
    if function is keras.activations.linear:
        return None
    for activation in ACTIVATIONS.values():
        if function is activation:
            return activation
    if isinstance(function, keras.layers.Layer):  # it may not be called: that would give it weights
        return activation_of(function)[0]
    probe = ops.convert_to_tensor(_PROBE, dtype="float32")
    try:
        values = np.asarray(ops.convert_to_numpy(function(probe)))
    except Exception:  # a function of somebody's own may want anything
        return None
    for activation in ACTIVATIONS.values():
        expected = ops.convert_to_numpy(activation(probe))
        if values.shape == expected.shape and np.allclose(values, expected, rtol=1e-4, atol=1e-6):
            return activation
    return None


def relu_bound(operation: Any) -> float | None:
    """Return the upper bound of a ReLU, infinite where it has none; None of other operations."""
    activation, _ = activation_of(operation)
    if calls_as(operation, keras.layers.ReLU):
        return None if activation is None else math.inf if operation.max_value is None else float(operation.max_value)
    # What only agrees with a ReLU is run as it is.
    is_itself = not isinstance(operation, keras.layers.Layer) or getattr(operation, "activation", None) is activation
    return {keras.activations.relu: math.inf, keras.activations.relu6: 6.0}.get(activation) if is_itself else None
