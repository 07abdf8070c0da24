"""How a network ends: the score of each class before the last non-linearity, and the probability that the network itself gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from stochdeconv.networks.activations import ACTIVATIONS
from stochdeconv.networks.graph import NetworkGraph, Step
from stochdeconv.networks.operations import AVERAGES, KEEPS_VALUES, LINEAR, QUOTIENTS, WEIGHS

Tensor = Any

# Probabilities that add up to one; probabilities of classes that may be there together; logarithms of either.
_SHARED = {ACTIVATIONS[name] for name in ("softmax", "log_softmax", "sparsemax")}
_SINGLE = {ACTIVATIONS[name] for name in ("sigmoid", "log_sigmoid", "hard_sigmoid", "sparse_sigmoid")}
_LOGARITHMS = {ACTIVATIONS["log_softmax"], ACTIVATIONS["log_sigmoid"]}
_RECTIFIES = {ACTIVATIONS["relu"], ACTIVATIONS["relu6"]}


@dataclass(frozen=True, eq=False)
class Head:
    """The classes of a network: three values, (sample, class), as symbols of its graph.

    Attributes
    ----------
    n_classes : int
    scores : keras.KerasTensor
        Before the last non-linearity; of maps the mean over positions. A network of one sigmoid has two classes: its second has the value
        before the sigmoid, its first minus that.
    probabilities : keras.KerasTensor
        What the network gives out; of a network that ends in scores, their softmax (their sigmoid where there is one). Of maps the mean
        over positions.
    log_probabilities : keras.KerasTensor
        Log-softmax of the scores, or log-sigmoid where each class has a probability of its own: it has a gradient where rounded or clipped
        probabilities have none. Of maps the mean over positions.
    score_layer : str
        Layer whose mean over positions is a class's score: ``"logits"``, or the map that is rectified and averaged: a network that ends in
        a ReLU and an average (SqueezeNet) has no gradient where the class does not fire at all yet.
    is_pair : bool
        Whether the two classes are the two sides of one value.
    is_named : bool
        Whether it is one only because its classes have names: a map of plain values, or a single one.
    doubt : str
        What is not understood, for people; empty where all is.
    """

    n_classes: int
    scores: Any
    probabilities: Any
    log_probabilities: Any
    score_layer: str
    is_pair: bool
    is_named: bool
    doubt: str


def find_head(
    graph: NetworkGraph, *, name: str, n_named: int | None = None, n_image_channels: int | None = None
) -> Head | None:
    """Find what a network's output says about classes, and add to its graph how that is computed.

    Parameters
    ----------
    graph : NetworkGraph
    name : str
        The network's, for people.
    n_named : int, optional
        How many classes have names: that tells scores in a map, and the two classes of a single score.
    n_image_channels : int, optional
        Channels of the image that goes in: an output of its very shape is a picture, unless its channels have names.

    Returns
    -------
    Head or None
        None where the output is no scores of classes: a map without an activation, a picture.
    """
    ending = _read_ending(graph, name)
    scores, activation = ending.scores, ending.activation
    n_values, n_axes = scores.shape[-1], len(scores.shape)
    if n_axes < 2 or n_values is None:
        return None
    is_map = n_axes > 2
    if is_map and n_named is None and not _means_classes(graph, ending, n_image_channels):
        return None
    ends_in_scores = activation is None and not ending.doubt
    is_pair = n_values == 1 and (activation in _SINGLE or (ends_in_scores and n_named == 2))
    doubt = ending.doubt or (_doubt_of_a_single_value(name, activation, is_pair) if n_values == 1 else "")

    if ends_in_scores and not doubt:
        activation = ACTIVATIONS["sigmoid" if n_values == 1 else "softmax"]
        probabilities = graph.compute(_in_float32(activation), scores, scores.shape)
    elif activation in _LOGARITHMS:
        probabilities = graph.compute(_in_float32(ops.exp), ending.output, ending.output.shape)
    else:
        probabilities = ending.output
    logarithm = _in_float32(ops.log_sigmoid if activation in _SINGLE else ops.log_softmax)
    log_probabilities = graph.compute(logarithm, scores, scores.shape)
    if is_pair:
        log_probabilities = _both_sides(graph, lambda z: [logarithm(-z), logarithm(z)], scores)
        probabilities = _both_sides(graph, lambda p: [1.0 - p, p], probabilities)
        scores = _both_sides(graph, lambda z: [-z, z], scores)
    return Head(
        n_classes=2 if is_pair else n_values,
        scores=_mean_over_positions(graph, scores),
        probabilities=_mean_over_positions(graph, probabilities),
        log_probabilities=_mean_over_positions(graph, log_probabilities),
        score_layer="logits" if is_pair else _score_layer(graph, scores),
        is_pair=is_pair,
        is_named=n_named is not None and ending.activation is None and (is_map or n_values == 1),
        doubt=doubt,
    )


@dataclass(frozen=True, eq=False)
class _Ending:
    """What a network gives out, and what that was before its last non-linearity, if it has one; channels last."""

    scores: Any
    output: Any
    activation: Callable | None
    doubt: str


def _read_ending(graph: NetworkGraph, name: str) -> _Ending:
    before, activation = _before_activation(graph, graph.output)
    doubt = ""
    if activation is None:
        before = graph.output
        riddle = _what_is_not_understood(graph, graph.output)
        if riddle:
            doubt = (
                f"how model '{name}' ends is not understood ({riddle}): its output is taken as it is, for the scores of classes "
                "and for their probabilities"
            )
    elif activation not in _SHARED | _SINGLE:
        doubt = (
            f"model '{name}' ends in {activation.__name__}, which makes no probabilities: the scores of classes are the values before it, "
            "and what is called probability is its output"
        )
    scores, output = graph.channels_last(before), graph.channels_last(graph.output)
    if len(scores.shape) == 1:
        scores, output = (graph.compute(lambda v: v[:, None], values, (None, 1)) for values in (scores, output))
    return _Ending(scores, output, activation, doubt)


def _means_classes(graph: NetworkGraph, ending: _Ending, n_image_channels: int | None) -> bool:
    """Tell whether a map without named channels has probabilities of classes, and is no picture."""
    if ending.activation not in _SHARED | _SINGLE:
        return False
    sides = tuple(graph.channels_last(graph.input).shape[1:-1])
    is_picture = n_image_channels == ending.scores.shape[-1] and tuple(ending.scores.shape[1:-1]) == sides
    return ending.activation in _SHARED or not is_picture


def _doubt_of_a_single_value(name: str, activation: Callable | None, is_pair: bool) -> str:
    if activation in _SHARED:
        return f"model '{name}' ends in the softmax of a single value, which is always 1"
    if activation is None and not is_pair:
        return (
            f"model '{name}' ends in a single value, which is taken as it is and may be no probability; with class_names of two classes "
            "it is the score of the second"
        )
    return ""


def _both_sides(graph: NetworkGraph, sides: Callable[[Tensor], list[Tensor]], symbol: Any) -> Any:
    """Make the values of two classes of one value."""
    return graph.compute(lambda value: ops.concatenate(sides(value), axis=-1), symbol, (*symbol.shape[:-1], 2))


def _before_activation(graph: NetworkGraph, symbol: Any) -> tuple[Any, Callable | None]:
    """Find what a value would be without its last activation, behind what keeps or averages values; nothing where there is none."""
    step = graph.producer(symbol)
    if step is None:
        return None, None
    if step.activation is not None and len(step.inputs) == 1:
        if step.activation in _SHARED and not _is_over_channels(graph, step):
            return None, None
        return step.inputs[0], step.activation
    keeps, averages = _keeps_values(step), _averages(step)
    if not step.inputs or not (keeps or averages or step.type_name == "Concatenate"):
        return None, None
    branches = [_before_activation(graph, value) for value in step.inputs]
    activations = {activation for _, activation in branches}
    (activation,) = activations if len(activations) == 1 else (None,)
    # An average of rectified scores is a score (SqueezeNet's); parts of several softmaxes do not add up to one.
    if activation is None or (not keeps and activation not in _SHARED | _SINGLE):
        return None, None
    if step.type_name == "Concatenate" and activation not in _SINGLE:
        return None, None
    if keeps and not _keeps_classes(step, activation):
        return None, None
    before = {id(value): symbol for value, (symbol, _) in zip(step.inputs, branches, strict=True)}
    return graph.repeat(step, before), activation


def _is_over_channels(graph: NetworkGraph, step: Step) -> bool:
    axis = getattr(step.operation, "axis", -1)
    rank = len(step.outputs[0].shape)
    channels = 1 if graph.has_channels_first(step.outputs[0]) else rank - 1
    return isinstance(axis, int) and axis % rank == channels


def _keeps_values(step: Step) -> bool:
    if step.type_name == "Activation":
        return step.operation.activation is keras.activations.linear
    if step.type_name == "Cast" and not keras.backend.is_float_dtype(step.outputs[0].dtype):
        return False
    return step.kind == "layer" and step.type_name in KEEPS_VALUES


def _keeps_classes(step: Step, activation: Callable) -> bool:
    """Tell whether the last axis is still that of the classes; single probabilities may also be laid out in a row."""
    before, after = step.inputs[0].shape, step.outputs[0].shape
    if len(after) == 1:
        return before[-1] == 1
    return before[-1] == after[-1] or (activation in _SINGLE and len(after) == 2)


def _averages(step: Step) -> bool:
    """Tell whether a step averages over positions or over values of the same class."""
    if step.type_name != "Mean":
        return step.type_name in AVERAGES
    n_axes, axes = len(step.inputs[0].shape), step.operation.axis
    axes = axes if isinstance(axes, list | tuple) else [axes]
    return all(axis is not None and 0 < axis % n_axes < n_axes - 1 for axis in axes)


def _what_is_not_understood(graph: NetworkGraph, symbol: Any) -> str:
    """Name the operation that scores do not come out of, as far as is known; empty where the output is sums of values."""
    step = graph.producer(symbol)
    if step is None:
        return ""
    if step.activation is not None:
        # Sums of rectified values are scores; what is squeezed between bounds is none.
        return "" if step.activation in _RECTIFIES else f"{step.activation.__name__} of '{step.name}'"
    if step.type_name in WEIGHS:
        own = getattr(step.operation, "activation", keras.activations.linear)
        return "" if own is keras.activations.linear or step.kind == "linear" else f"the activation of '{step.name}'"
    # Products are linear where one side is a constant, quotients where that is the divisor.
    is_scaled = len(step.inputs) == 1 and (
        step.type_name == "Multiply" or (step.type_name in QUOTIENTS and step.inputs[0] is step.args[0])
    )
    if not (_keeps_values(step) or _averages(step) or is_scaled or step.type_name in LINEAR):
        return f"{step.type_name} '{step.name}'"
    return next(filter(None, (_what_is_not_understood(graph, value) for value in step.inputs)), "")


def _mean_over_positions(graph: NetworkGraph, symbol: Any) -> Any:
    if len(symbol.shape) == 2:
        return symbol
    axes = tuple(range(1, len(symbol.shape) - 1))
    return graph.compute(lambda values: ops.mean(values, axis=axes), symbol, (symbol.shape[0], symbol.shape[-1]))


def _score_layer(graph: NetworkGraph, scores: Any) -> str:
    step = graph.producer(scores)
    if step is not None and step.type_name == "GlobalAveragePooling2D":
        below = graph.producer(step.inputs[0])
        if below is not None and below.kind == "relu" and f"{below.name}_linear" not in graph.symbols:
            return f"{below.name}_linear"
    return "logits"


def _in_float32(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    # In bfloat16 a probability near 1 is 1, and its logarithm has no gradient.
    return lambda values: function(ops.cast(values, "float32"))
