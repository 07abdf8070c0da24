"""What Keras's layers and bare operations do to values, by their names: which pass them on, join, average, weigh or bend them."""

from __future__ import annotations

from typing import Any

#: What hands each value on unchanged when the network is used: noise, dropout and penalties are for training.
PASSES_ON = frozenset(
    {
        *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
        *("Identity", "ActivityRegularization"),
    }
)
#: What lays the same values out over other axes.
LAYS_OUT = frozenset({"Reshape", "Flatten", "Squeeze", "ExpandDims"})
#: What may stand after the last non-linearity without changing a value; a cast to whole numbers does.
KEEPS_VALUES = PASSES_ON | LAYS_OUT | {"Cast"}
#: What brings the values of several branches together.
JOINS = frozenset({"Add", "Concatenate"})
#: What leaves values without a negative one that way, however many it takes in.
KEEPS_NONNEGATIVE = PASSES_ON | JOINS | {"AveragePooling2D", "MaxPooling2D", "ZeroPadding2D"}
#: What averages values: of probabilities it makes probabilities, and of scores scores.
AVERAGES = frozenset(
    {
        *("GlobalAveragePooling1D", "GlobalAveragePooling2D", "AveragePooling2D", "UpSampling2D", "Resizing", "Resize"),
        *("Cropping2D", "Average", "Mean"),
    }
)
#: What weighs the values of all channels: scores come out of it, whatever goes in.
WEIGHS = frozenset(
    {
        *("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose"),
        *("Conv3DTranspose", "SeparableConv1D", "SeparableConv2D"),
    }
)
#: What is linear but weighs no channel against another: scores come out where scores go in.
LINEAR = frozenset(
    {
        *("DepthwiseConv1D", "DepthwiseConv2D", "BatchNormalization", "Rescaling", "Add", "Subtract", "Concatenate"),
        *("ZeroPadding2D", "Permute", "Transpose", "Moveaxis", "Swapaxes", "Sum", "Negative", "MaxPooling2D"),
        *("GlobalMaxPooling2D", "GlobalAveragePooling3D", "GlobalMaxPooling3D", "Matmul", "Einsum", "Conv"),
    }
)
#: Linear where the divisor is a constant.
QUOTIENTS = frozenset({"Divide", "TrueDivide"})
#: Activations that are layers or operations of their own.
NONLINEAR = frozenset(
    {"ELU", "Gelu", "HardSilu", "LeakyReLU", "LeakyRelu", "PReLU", "ReLU", "Relu", "Relu6", "Silu"},
)


def is_keras_own(operation: Any) -> bool:
    """Tell whether a layer or operation is of one of Keras's own kinds."""
    return type(operation).__module__.startswith("keras.")


def type_name(operation: Any) -> str:
    """Name the class of an operation; Keras's layers and bare operations (``x + y``) of the same name do the same.

    A class of somebody else's has its module before its name: a ``Conv`` of their own may do anything.
    """
    kind = type(operation)
    return kind.__name__ if is_keras_own(operation) else f"{kind.__module__}.{kind.__qualname__}"


def calls_as(operation: Any, *kinds: Any) -> bool:
    """Tell whether an operation is of one of these kinds of layer, and does the same: a subclass may have a call of its own."""
    own_kind: Any = type(operation)
    return any(isinstance(operation, kind) and own_kind.call is kind.call for kind in kinds)
