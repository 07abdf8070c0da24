"""The graph of a Keras model: its layers in order, with ReLUs split from the layers they are fused into."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from stochdeconv.errors import ModelError, first_reason
from stochdeconv.networks.activations import activation_of, relu_bound
from stochdeconv.networks.axes import has_channels_first, order_of_axes
from stochdeconv.networks.operations import type_name

#: What goes in has these names, which no layer can have: its own is `name#2` then.
RESERVED_NAMES = ("input", "network_input")


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

    def arguments(self, replacement: Callable[[Any], Any]) -> tuple[tuple, dict[str, Any]]:
        """Return the arguments of the call, positional and by name, with something else in the place of each symbol."""
        return keras.tree.map_structure(
            lambda leaf: replacement(leaf) if is_symbol(leaf) else leaf, (self.args, dict(self.kwargs))
        )

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
        In an order in which they can be computed, those added later at the end.
    model_steps : tuple of Step
        Those of the model itself.
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
        values = held or {}
        inputs = [
            self.input if number == input_number else self._hold(symbol, values[number])
            for number, symbol in enumerate(model.inputs)
        ]
        self.output = keras.tree.flatten(self._trace(model, inputs, prefix=""))[output_number]
        self._producers = {id(symbol): step for step in self.steps for symbol in step.outputs}
        self.model_steps = tuple(self.steps)
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
        max_value = relu_bound(operation)
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
        order = order_of_axes(step.operation, len(step.inputs[0].shape)) if step.inputs else None
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
        for step in self.model_steps:
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
            renamed = {other if layer == name else layer: symbol for layer, symbol in symbols.items()}
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
        args, kwargs = step.arguments(lambda symbol: replaced[id(symbol)])
        symbol = keras.KerasTensor(step.outputs[0].shape, dtype=step.outputs[0].dtype)
        self._add(Step(step.name, step.kind, step.operation, args, kwargs, (symbol,)))
        return symbol

    def compute(self, function: Callable[[Any], Any], symbol: Any, shape: tuple[int | None, ...]) -> Any:
        """Add what a function makes of a value.

        Parameters
        ----------
        function : callable
            tensor -> tensor of that shape.
        symbol : keras.KerasTensor
            The value.
        shape : tuple of int or None
            Of the result, None for the batch axis.

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
        needed, values = [], {id(symbol) for symbol in symbols}
        # The steps added for linear values come last but depend on graph steps alone: backwards is a valid order.
        for step in reversed(self.steps):
            if any(id(symbol) in values for symbol in step.outputs):
                needed.append(step)
                values.update(id(symbol) for symbol in step.inputs)
        return needed[::-1]


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
    inputs = args[0] if args else kwargs["inputs"]
    if isinstance(inputs, Mapping) and not isinstance(getattr(model, "_inputs_struct", None), Mapping):
        return [inputs[symbol.name] for symbol in model.inputs]
    return keras.tree.flatten(inputs)
