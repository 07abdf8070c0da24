"""The graph of a Keras model: its layers in order, with ReLUs split from the layers they are fused into."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from stochdeconv.errors import ModelError, first_reason

#: Numbers of channels that an input may have to be an image: grey, colour, colour and opacity.
IMAGE_CHANNELS = (1, 3, 4)
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
#: What goes in has these names, which no layer can have: its own is `name#2` then.
RESERVED_NAMES = ("input", "network_input")
# Activations that are bare operations too, with no setting of their own but an axis, by Keras's names for those.
_BARE = {
    "".join(word.capitalize() for word in name.split("_")): name
    for name in itertools.takewhile(lambda name: name != "elu", ACTIVATIONS)
} | {"Exp": "exponential"}
# Values by which an activation of another name is recognised: both signs, small and large.
# Three axes tell a softmax over the last of them from one over another.
_PROBE = np.random.default_rng(0).normal(size=(4, 3, 5)) * np.array([0.1, 3.0, 300.0, 1e6])[:, None, None]

# Layers that end in ``self.activation(...)``, so that replacing it by the identity gives what stands before it.
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
# What leaves values without a negative one that way, however many it takes in.
_KEEPS_NONNEGATIVE = {
    "Add",
    "AveragePooling2D",
    "Concatenate",
    "Dropout",
    "Identity",
    "MaxPooling2D",
    "SpatialDropout2D",
    "ZeroPadding2D",
}
_JOINS = {"Add", "Concatenate"}
_NONLINEAR = {"ELU", "Gelu", "HardSilu", "LeakyReLU", "LeakyRelu", "PReLU", "ReLU", "Relu", "Relu6", "Silu"}


@dataclass(frozen=True, eq=False)
class Step:
    """One operation of the graph, in the order of computation.

    Attributes
    ----------
    name : str
        The layer as its owner calls it; ``outer/inner`` inside a nested model.
    kind : {"layer", "linear", "relu", "activation", "held"}
        ``"linear"`` is a layer without its fused activation, ``"relu"`` is a ReLU, fused or not, ``"activation"`` another fused
        activation, ``"held"`` an input that always has the same value.
    operation : keras.Operation or callable
        The owner's layer or operation; it is never called, except an operation without state. Of ``"activation"`` the function, of
        ``"held"`` the value.
    args, kwargs : tuple, dict
        Of the call; a ``keras.KerasTensor`` stands for a value.
    outputs : tuple of keras.KerasTensor
        What the call returns, flattened.
    activation : callable or None
        The function that the outputs come out of, where it is one of Keras's activations; its input is what the step takes.
    max_value : float or None
        Upper bound of a ReLU.
    """

    name: str
    kind: str
    operation: Any
    args: tuple
    kwargs: Mapping[str, Any]
    outputs: tuple
    activation: Callable | None = None
    max_value: float | None = None

    @property
    def inputs(self) -> list:
        """Values the step needs, once per use."""
        return [leaf for leaf in keras.tree.flatten((self.args, dict(self.kwargs))) if is_symbol(leaf)]

    @property
    def type_name(self) -> str:
        """Class of the operation, see `type_name`."""
        return type_name(self.operation)


class NetworkGraph:
    """What a functional or sequential model computes of one of its inputs, as a list of steps.

    Nested models are opened. The model is read, not changed and not called.

    Parameters
    ----------
    model : keras.Model
    input_shape : tuple of int
        Of one input, without the batch axis: what the shapes are worked out for.
    input_number : int
        Which of the model's inputs is looked into.
    held : mapping of int to ndarray
        The values of all others by their number, for one sample.
    output_number : int
        Which of the model's outputs is meant.

    Attributes
    ----------
    steps : list of Step
    symbols : dict of str to keras.KerasTensor
        Layer name to its value.
    linear_symbols : dict of str to keras.KerasTensor
        Layer name to the value before its activation.
    input, output : keras.KerasTensor
    """

    def __init__(
        self,
        model: keras.Model,
        input_shape: tuple[int, ...],
        *,
        input_number: int = 0,
        held: Mapping[int, np.ndarray] | None = None,
        output_number: int = 0,
    ):
        self.steps: list[Step] = []
        self.symbols: dict[str, Any] = {}
        self.linear_symbols: dict[str, Any] = {}
        self._channels_first: set[int] = set()
        self._views: dict[int, Any] = {}
        self.input = keras.KerasTensor((None, *input_shape), dtype="float32")
        if len(input_shape) == 3 and has_channels_first(input_shape):
            self._channels_first.add(id(self.input))
        # How many inputs at a time the model is built for; converted ones often are for one.
        self._n_built_for = model.inputs[input_number].shape[0] or 1
        inputs = [
            self.input if number == input_number else self._hold(symbol, held[number])
            for number, symbol in enumerate(model.inputs)
        ]
        self.output = keras.tree.flatten(self._trace(model, inputs, prefix=""))[output_number]
        self._producers = {id(symbol): step for step in self.steps for symbol in step.outputs}
        self._n_graph_steps = len(self.steps)
        self._add_linear_symbols()

    # Reading the model

    def _hold(self, symbol: Any, value: np.ndarray) -> Any:
        constant = keras.KerasTensor((None, *value.shape), dtype=symbol.dtype)
        self.steps.append(Step(symbol.name, "held", value, (), {}, (constant,)))
        return constant

    def _trace(self, model: keras.Model, inputs: Iterable[Any], *, prefix: str) -> Any:
        def record(operation: Any, *args: Any, **kwargs: Any) -> Any:
            name = self._unused_name(prefix + operation.name)
            operation = _for_any_number(operation, args, self._n_built_for)
            if isinstance(operation, keras.Model) and has_graph(operation):
                outputs = self._trace(operation, _inputs_of_nested(operation, args, kwargs), prefix=f"{name}/")
                self._name(name, keras.tree.flatten(outputs))
                return outputs
            return self._record(name, operation, args, kwargs)

        if isinstance(model, keras.Sequential):
            (value,) = inputs
            for layer in model.layers:
                value = record(layer, value)
            return value
        # Keras's own way to run a graph with other operations in it; clone_model, its public face, would build and
        # initialise a copy of every layer, those nobody asks for included.
        return model._run_through_graph(list(inputs), operation_fn=lambda operation: operation, call_fn=record)

    def _unused_name(self, name: str) -> str:
        # A layer that is called twice has two outputs: the second is `name#2`.
        candidate, count = name, 1
        while candidate in self.symbols or candidate in RESERVED_NAMES:
            count += 1
            candidate = f"{name}#{count}"
        return candidate

    def _record(self, name: str, operation: Any, args: tuple, kwargs: dict) -> Any:
        structure = self._spec(name, operation, args, kwargs)
        # Fresh symbols: an operation may hand back the one it was given.
        structure = keras.tree.map_structure(lambda spec: keras.KerasTensor(spec.shape, dtype=spec.dtype), structure)
        outputs = tuple(keras.tree.flatten(structure))
        activation, is_fused = activation_of(operation)
        if is_fused:
            before = keras.KerasTensor(outputs[0].shape, dtype=outputs[0].dtype)
            self._add(Step(name, "linear", operation, args, kwargs, (before,)))
            args, kwargs = (before,), {}
        max_value = _relu_bound(operation)
        if max_value is not None:
            step = Step(
                name, "relu", operation, args, kwargs, outputs, activation, max_value if max_value < math.inf else None
            )
        elif is_fused:
            # The owner's function, which may do elsewhere what it does not where it was looked at.
            step = Step(name, "activation", operation.activation, args, kwargs, outputs, activation)
        else:
            step = Step(name, "layer", operation, args, kwargs, outputs, activation)
        self._add(step)
        self._name(name, outputs)
        return structure

    def _spec(self, name: str, operation: Any, args: tuple, kwargs: dict) -> Any:
        """Work out what an operation gives of any number of inputs; they may not be mixed with each other."""
        takes_values = any(is_symbol(leaf) for leaf in keras.tree.flatten((args, kwargs)))
        try:
            structure = operation.compute_output_spec(*args, **kwargs)
        except Exception as error:
            raise ModelError(
                f"layer '{name}' ({type_name(operation)}) cannot be computed for any number of inputs: {first_reason(error)}"
            ) from error
        for spec in keras.tree.flatten(structure):
            if takes_values and (not spec.shape or spec.shape[0] is not None):
                raise ModelError(
                    f"layer '{name}' ({type_name(operation)}) mixes the inputs that are computed together: it gives values of shape "
                    f"{spec.shape}, without an axis for inputs; several images are looked at at once here, and each must stay by itself"
                )
        return structure

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        if self._is_channels_first(step):
            self._channels_first.update(id(symbol) for symbol in step.outputs if len(symbol.shape) == 4)

    def _is_channels_first(self, step: Step) -> bool:
        """Tell whether a step's maps have their channels before the rows."""
        order = _order_of_axes(step.operation, len(step.inputs[0].shape)) if step.inputs else None
        if order is not None and len(order) == 4:
            return order.index(1 if self._takes_channels_first(step) else 3) == 1
        stated = getattr(step.operation, "data_format", None)
        return stated == "channels_first" if stated else self._takes_channels_first(step)

    def _takes_channels_first(self, step: Step) -> bool:
        return any(id(symbol) in self._channels_first for symbol in step.inputs)

    def _name(self, name: str, outputs: Iterable[Any]) -> None:
        outputs = list(outputs)
        if len(outputs) == 1:
            self.symbols[name] = outputs[0]

    def _add_linear_symbols(self) -> None:
        before_relu = {}
        for step in self.steps[: self._n_graph_steps]:
            if step.activation is not None and step.inputs:
                self.linear_symbols[step.name] = step.inputs[0]
            if step.kind == "relu":
                (before_relu[id(step.outputs[0])],) = step.inputs
                producer = self._producers.get(id(step.inputs[0]))
                if producer is not None and producer.kind == "layer":
                    # A convolution with a ReLU layer after it: its own values are those before the ReLU.
                    self.linear_symbols.setdefault(producer.name, step.inputs[0])
            elif step.type_name == "Concatenate" and all(id(symbol) in before_relu for symbol in step.inputs):
                symbol = self.repeat(step, before_relu)
                self.linear_symbols[step.name] = symbol
                before_relu[id(step.outputs[0])] = symbol

    # Adding to the graph

    def rename(self, name: str, other: str) -> None:
        """Call a layer otherwise, in its place."""
        for symbols in (self.symbols, self.linear_symbols):
            renamed = {other if known == name else known: symbol for known, symbol in symbols.items()}
            symbols.clear()
            symbols.update(renamed)

    def repeat(self, step: Step, replaced: Mapping[int, Any]) -> Any:
        """Add a step once more, of other values.

        Parameters
        ----------
        step : Step
            With one output.
        replaced : mapping of int to keras.KerasTensor
            By ``id`` of what the step takes.

        Returns
        -------
        keras.KerasTensor
        """
        args, kwargs = keras.tree.map_structure(
            lambda leaf: replaced[id(leaf)] if is_symbol(leaf) else leaf, (step.args, dict(step.kwargs))
        )
        symbol = keras.KerasTensor(step.outputs[0].shape, dtype=step.outputs[0].dtype)
        self._add(Step(step.name, step.kind, step.operation, args, kwargs, (symbol,)))
        return symbol

    def compute(self, function: Callable[[Any], Any], symbol: Any, shape: tuple[int | None, ...]) -> Any:
        """Add what a function makes of a value; it gets a tensor and returns one of that shape.

        Returns
        -------
        keras.KerasTensor
        """
        result = keras.KerasTensor(shape, dtype=symbol.dtype)
        self.steps.append(Step("", "layer", function, (symbol,), {}, (result,)))
        return result

    def channels_last(self, symbol: Any) -> Any:
        """Return the value with its channels last: itself, or a view of a map that has them first."""
        if id(symbol) not in self._channels_first:
            return symbol
        if id(symbol) not in self._views:
            batch, channels, *places = symbol.shape
            shape = (batch, *places, channels)
            self._views[id(symbol)] = self.compute(lambda values: ops.moveaxis(values, 1, -1), symbol, shape)
        return self._views[id(symbol)]

    def has_channels_first(self, symbol: Any) -> bool:
        """Tell whether a value is a map with its channels before the rows."""
        return id(symbol) in self._channels_first

    # Questions about the graph

    def producer(self, symbol: Any) -> Step | None:
        """Return the step of the model that a value comes from; None of the input."""
        return self._producers.get(id(symbol))

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of all layers in order of computation."""
        return tuple(self.symbols)

    @property
    def has_relu(self) -> bool:
        """Whether there is a ReLU whose backward rule could be changed."""
        return any(step.kind == "relu" for step in self.steps)

    def needed_steps(self, symbols: Iterable[Any]) -> list[Step]:
        """Select the steps these values depend on, in order of computation."""
        needed, wanted = [], {id(symbol) for symbol in symbols}
        # The steps added for linear values come last but depend on graph steps alone: backwards is a valid order.
        for step in reversed(self.steps):
            if any(id(symbol) in wanted for symbol in step.outputs):
                needed.append(step)
                wanted.update(id(symbol) for symbol in step.inputs)
        return needed[::-1]

    def default_layers(self, *, has_classes: bool) -> tuple[str, ...]:
        """Choose the layers whose statistics describe an image at every scale.

        Parameters
        ----------
        has_classes : bool
            Whether the output are scores of classes.

        Returns
        -------
        tuple of str
            These are maps that every path from the input to the output passes, after their ReLU (a concatenation or sum of
            rectified maps included), no bottleneck (fewer channels than the map before), with weights still to come (the maps
            of class scores are none of them; a network without class scores has no such maps). Of every run of equal shape it
            is the last. A network without such maps gives those after other activations and sums, failing that all maps that
            every path passes.
        """
        chokes = [name for name in self.symbols if self._is_choke(name, has_classes)]
        for fitting in (self._rectified(), self._activated()):
            chosen = self._last_of_runs([name for name in chokes if id(self.symbols[name]) in fitting])
            if chosen:
                return chosen
        return self._last_of_runs(chokes)

    def _is_choke(self, name: str, has_classes: bool) -> bool:
        symbol = self.symbols[name]
        if len(symbol.shape) != 4:
            return False
        to, onward, total = self._path_counts()
        passes_all = to[id(symbol)] * onward[id(symbol)] == total
        return passes_all and (not has_classes or id(symbol) in self._before_weights())

    def _path_counts(self) -> tuple[Counter, Counter, int]:
        to, onward = Counter({id(self.input): 1}), Counter({id(self.output): 1})
        steps = self.steps[: self._n_graph_steps]
        for step in steps:
            for output in step.outputs:
                to[id(output)] = sum(to[id(symbol)] for symbol in step.inputs)
        for step in reversed(steps):
            n_onward = sum(onward[id(output)] for output in step.outputs)
            for symbol in step.inputs:
                onward[id(symbol)] += n_onward
        return to, onward, to[id(self.output)]

    def _before_weights(self) -> set[int]:
        """Values that layers with weights still follow."""
        before: set[int] = set()
        for step in reversed(self.steps[: self._n_graph_steps]):
            has_weights = step.kind in {"layer", "linear"} and bool(getattr(step.operation, "weights", ()))
            if has_weights or any(id(output) in before for output in step.outputs):
                before.update(id(symbol) for symbol in step.inputs)
        return before

    def _rectified(self) -> set[int]:
        """Collect the outputs of ReLUs, and of joins of values that come from ReLUs alone."""
        nonnegative, rectified = set(), set()
        for step in self.steps[: self._n_graph_steps]:
            keeps = step.type_name in _KEEPS_NONNEGATIVE and all(id(symbol) in nonnegative for symbol in step.inputs)
            if step.kind == "relu" or keeps:
                nonnegative.update(id(output) for output in step.outputs)
                if step.kind == "relu" or step.type_name in _JOINS:
                    rectified.update(id(output) for output in step.outputs)
        return rectified

    def _activated(self) -> set[int]:
        """Collect the outputs of activation functions of any kind, and of joins."""
        activated = set()
        for step in self.steps[: self._n_graph_steps]:
            function = getattr(step.operation, "activation", keras.activations.linear)
            if step.type_name in _JOINS | _NONLINEAR or step.activation or function is not keras.activations.linear:
                activated.update(id(output) for output in step.outputs)
        return activated

    def _last_of_runs(self, names: list[str]) -> tuple[str, ...]:
        chosen: dict[tuple, str] = {}
        runs: list[str] = []
        before = None
        for name in names:
            shape = self.channels_last(self.symbols[name]).shape[1:]
            is_bottleneck = before is not None and shape[-1] < before
            before = shape[-1]
            if is_bottleneck:
                continue
            if runs and chosen[runs[-1]] == shape:
                runs[-1] = name
            else:
                runs.append(name)
            chosen[name] = shape
        return tuple(runs)


def has_graph(model: keras.Model) -> bool:
    """Tell whether a model is functional or sequential and built: subclassed models keep their graph to themselves."""
    # A functional model with a `call` of its own does something else than its graph says.
    definer = next(kind for kind in type(model).__mro__ if "call" in vars(kind))
    if not definer.__module__.startswith("keras."):
        return False
    if isinstance(model, keras.Sequential):
        return model.built and bool(model.layers)
    return hasattr(model, "_run_through_graph")


def is_symbol(leaf: Any) -> bool:
    """Tell whether an argument of a step stands for a value."""
    return isinstance(leaf, keras.KerasTensor)


def has_channels_first(shape: tuple[int | None, ...]) -> bool:
    """Tell an image (channel, height, width) from one (height, width, channel)."""
    return shape[-1] not in IMAGE_CHANNELS and shape[0] in IMAGE_CHANNELS


def activation_of(operation: Any) -> tuple[Callable | None, bool]:
    """Find Keras's activation function that an operation ends in, and whether it is fused into a layer.

    A function of another name or make counts as the one that it agrees with.

    Returns
    -------
    activation : callable or None
        None where there is none, or one that is not known.
    is_fused : bool
    """
    if _calls_as(operation, keras.layers.Softmax):
        return keras.activations.softmax, False
    if _calls_as(operation, keras.layers.ReLU):
        is_plain = not (operation.negative_slope or operation.threshold)
        return (keras.activations.relu if is_plain else None), False
    if _calls_as(operation, keras.layers.Lambda) and not operation.arguments:
        return recognised_activation(operation.function), False
    if isinstance(operation, keras.layers.Layer):
        is_fused = _calls_as(operation, *LAYERS_WITH_FUSED_ACTIVATION)
        if not is_fused and not _calls_as(operation, keras.layers.Activation):
            return None, False
        activation = recognised_activation(operation.activation)
        return activation, is_fused and activation is not None
    # ops.relu(x) and its like in a functional model are bare operations.
    return ACTIVATIONS.get(_BARE.get(type_name(operation))), False


def recognised_activation(function: Callable) -> Callable | None:
    """Find the one of Keras's activation functions that a function is, by what it is or by what it gives; None for others and linear.

    `keras.ops.softmax`, a backend's own softmax or a lambda of it are Keras's softmax then.
    """
    for known in (keras.activations.linear, *ACTIVATIONS.values()):
        if function is known:
            return None if known is keras.activations.linear else known
    if isinstance(function, keras.layers.Layer):  # it may not be called: that would give it weights
        return activation_of(function)[0]
    probe = ops.convert_to_tensor(_PROBE, dtype="float32")
    try:
        given = np.asarray(ops.convert_to_numpy(function(probe)))
    except Exception:  # a function of somebody's own may want anything
        return None
    for known in ACTIVATIONS.values():
        expected = ops.convert_to_numpy(known(probe))
        if given.shape == expected.shape and np.allclose(given, expected, rtol=1e-4, atol=1e-6):
            return known
    return None


def _for_any_number(operation: Any, args: tuple, n_built_for: int) -> Any:
    """Make of a bare reshape to so many inputs, ``ops.reshape(x, (1, -1))``, one to as many as there are; else the operation itself."""
    if isinstance(operation, keras.layers.Layer) or type_name(operation) != "Reshape":
        return operation
    (values,) = args
    n, *rest = operation.newshape
    if values.shape[0] is not None or n != n_built_for:
        return operation
    if -1 in rest:
        rest = operation.compute_output_spec(keras.KerasTensor((n, *values.shape[1:]))).shape[1:]
    return operation if None in rest else type(operation)((-1, *rest))


def _inputs_of_nested(model: keras.Model, args: tuple, kwargs: Mapping[str, Any]) -> list[Any]:
    """Bring what a nested model is called with into the order of its inputs, as Keras does: those of a dict go by name."""
    given = args[0] if args else kwargs["inputs"]
    if isinstance(given, Mapping) and not isinstance(getattr(model, "_inputs_struct", None), Mapping):
        return [given[symbol.name] for symbol in model.inputs]
    return keras.tree.flatten(given)


def is_keras_own(operation: Any) -> bool:
    """Tell whether a layer or operation is of one of Keras's own kinds."""
    return type(operation).__module__.startswith("keras.")


def type_name(operation: Any) -> str:
    """Name the class of an operation; Keras's layers and bare operations (``x + y``) of the same name do the same.

    A class of somebody else's has its module before its name: a ``Conv`` of their own may do anything.
    """
    kind = type(operation)
    return kind.__name__ if is_keras_own(operation) else f"{kind.__module__}.{kind.__qualname__}"


def _calls_as(operation: Any, *kinds: type) -> bool:
    """Tell whether an operation is of one of these kinds of layer, and does the same: a subclass may have a call of its own."""
    return any(isinstance(operation, kind) and type(operation).call is kind.call for kind in kinds)


def _order_of_axes(operation: Any, n_axes: int) -> tuple[int, ...] | None:
    """Return which axis of a value comes where, the batch axis included; None of operations that leave them in order."""
    name = type_name(operation)
    if name == "Permute":
        return (0, *operation.dims)
    if name == "Transpose":
        return tuple(range(n_axes))[::-1] if operation.axes is None else tuple(operation.axes)
    axes = np.empty(range(n_axes))  # of lengths that tell the axes apart
    if name == "Moveaxis":
        return np.moveaxis(axes, operation.source, operation.destination).shape
    if name == "Swapaxes":
        return np.swapaxes(axes, operation.axis1, operation.axis2).shape
    return None


def _relu_bound(operation: Any) -> float | None:
    """Return the upper bound of a ReLU, infinite where it has none; None of other operations."""
    activation, _ = activation_of(operation)
    if _calls_as(operation, keras.layers.ReLU):
        return None if activation is None else math.inf if operation.max_value is None else float(operation.max_value)
    # What was only found to agree with a ReLU is run as it is.
    is_itself = not isinstance(operation, keras.layers.Layer) or getattr(operation, "activation", None) is activation
    return {keras.activations.relu: math.inf, keras.activations.relu6: 6.0}.get(activation) if is_itself else None
