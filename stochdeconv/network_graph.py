"""The graph of a Keras model: its layers in order, with ReLUs split from the layers they are fused into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

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
    kind : {"layer", "linear", "relu", "softmax"}
        ``"linear"`` is a layer without its fused activation, ``"relu"`` and ``"softmax"`` are activations, fused or
        not.
    operation : keras.Operation
        The owner's layer or operation; it is never called, except an operation without state.
    args, kwargs : tuple, dict
        Of the call; a ``keras.KerasTensor`` stands for a value.
    outputs : tuple of keras.KerasTensor
        What the call returns, flattened.
    max_value : float or None
        Upper bound of a ReLU.
    """

    name: str
    kind: str
    operation: Any
    args: tuple
    kwargs: Mapping[str, Any]
    outputs: tuple
    max_value: float | None = None

    @property
    def inputs(self) -> list:
        """Values the step needs, once per use."""
        return [leaf for leaf in keras.tree.flatten((self.args, dict(self.kwargs))) if is_symbol(leaf)]

    @property
    def type_name(self) -> str:
        """Class of the operation: layers and bare operations (``x + y``) of the same name do the same."""
        return type(self.operation).__name__


class NetworkGraph:
    """What a functional or sequential model computes, as a list of steps.

    Nested models are opened. The model is read, not changed and not called.

    Parameters
    ----------
    model : keras.Model
        With one input.
    input_shape : tuple of int
        Of one input, without the batch axis: what the shapes are worked out for.

    Attributes
    ----------
    steps : list of Step
    symbols : dict of str to keras.KerasTensor
        Layer name to its value.
    linear_symbols : dict of str to keras.KerasTensor
        Layer name to the value before its ReLU.
    input, output : keras.KerasTensor
    logits : keras.KerasTensor or None
        Class scores before the softmax, if there is one; None where the model does not end in a vector.
    """

    def __init__(self, model: keras.Model, input_shape: tuple[int, ...]):
        self.steps: list[Step] = []
        self.symbols: dict[str, Any] = {}
        self.linear_symbols: dict[str, Any] = {}
        self.input = keras.KerasTensor((None, *input_shape), dtype="float32")
        self.output = keras.tree.flatten(self._trace(model, (self.input,), prefix=""))[0]
        self._producers = {id(symbol): step for step in self.steps for symbol in step.outputs}
        self._n_graph_steps = len(self.steps)
        self._add_linear_symbols()
        self.logits = self._find_logits()

    # Reading the model

    def _trace(self, model: keras.Model, inputs: Iterable[Any], *, prefix: str) -> Any:
        def record(operation: Any, *args: Any, **kwargs: Any) -> Any:
            name = self._unused_name(prefix + operation.name)
            if isinstance(operation, keras.Model) and has_graph(operation):
                outputs = self._trace(operation, keras.tree.flatten(args), prefix=f"{name}/")
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
        while candidate in self.symbols:
            count += 1
            candidate = f"{name}#{count}"
        return candidate

    def _record(self, name: str, operation: Any, args: tuple, kwargs: dict) -> Any:
        structure = operation.compute_output_spec(*args, **kwargs)
        # Fresh symbols: an operation may hand back the one it was given.
        structure = keras.tree.map_structure(lambda spec: keras.KerasTensor(spec.shape, dtype=spec.dtype), structure)
        outputs = tuple(keras.tree.flatten(structure))
        kind, is_fused, max_value = _activation(operation)
        if is_fused:
            before = keras.KerasTensor(outputs[0].shape, dtype=outputs[0].dtype)
            self.steps.append(Step(name, "linear", operation, args, kwargs, (before,)))
            args, kwargs = (before,), {}
        step = Step(name, kind, operation, args, kwargs, outputs, max_value)
        self.steps.append(step)
        self._name(name, outputs)
        return structure

    def _name(self, name: str, outputs: Iterable[Any]) -> None:
        outputs = list(outputs)
        if len(outputs) == 1:
            self.symbols[name] = outputs[0]

    def _add_linear_symbols(self) -> None:
        before_relu = {}
        for step in self.steps[: self._n_graph_steps]:
            if step.kind == "relu":
                (before_relu[id(step.outputs[0])],) = step.inputs
                self.linear_symbols[step.name] = step.inputs[0]
                producer = self._producers.get(id(step.inputs[0]))
                if producer is not None and producer.kind == "layer":
                    # A convolution with a ReLU layer after it: its own values are those before the ReLU.
                    self.linear_symbols.setdefault(producer.name, step.inputs[0])
            elif step.type_name == "Concatenate" and all(id(symbol) in before_relu for symbol in step.inputs):
                args, kwargs = keras.tree.map_structure(
                    lambda leaf: before_relu[id(leaf)] if is_symbol(leaf) else leaf, (step.args, dict(step.kwargs))
                )
                symbol = keras.KerasTensor(step.outputs[0].shape, dtype=step.outputs[0].dtype)
                self.steps.append(Step(step.name, "layer", step.operation, args, kwargs, (symbol,)))
                self.linear_symbols[step.name] = symbol
                before_relu[id(step.outputs[0])] = symbol

    def _find_logits(self) -> Any:
        symbol = self.output
        step = self._producers.get(id(symbol))
        while (
            step is not None
            and step.type_name == "Activation"
            and step.operation.activation is keras.activations.linear
        ):
            symbol = step.inputs[0]
            step = self._producers.get(id(symbol))
        if step is not None and step.kind == "softmax":
            symbol = step.inputs[0]
        return symbol if len(symbol.shape) == 2 else None

    # Questions about the graph

    @property
    def score_layer(self) -> str:
        """Layer whose mean over positions is a class's score before any ReLU: ``"logits"``, or the map that is rectified and averaged.

        A network that ends in a ReLU and an average (SqueezeNet) has no gradient where the class does not fire at all yet.
        """
        step = self._producers.get(id(self.logits))
        if step is not None and step.type_name == "GlobalAveragePooling2D":
            below = self._producers.get(id(step.inputs[0]))
            if below is not None and below.kind == "relu":
                return f"{below.name}_linear"
        return "logits"

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

    def default_layers(self) -> tuple[str, ...]:
        """Choose the layers whose statistics describe an image at every scale.

        These are maps that every path from the input to the output passes, after their ReLU (a concatenation or sum of
        rectified maps included), no bottleneck (fewer channels than the map before), with weights still to come (the
        maps of class scores are none of them; a network without class scores has no such maps). Of every run of equal
        shape it is the last. A network without such maps gives those after other activations and sums, failing that all
        maps that every path passes.
        """
        chokes = [name for name in self.symbols if self._is_choke(name)]
        for fitting in (self._rectified(), self._activated()):
            chosen = self._last_of_runs([name for name in chokes if id(self.symbols[name]) in fitting])
            if chosen:
                return chosen
        return self._last_of_runs(chokes)

    def _is_choke(self, name: str) -> bool:
        symbol = self.symbols[name]
        if len(symbol.shape) != 4:
            return False
        to, onward, total = self._path_counts()
        passes_all = to[id(symbol)] * onward[id(symbol)] == total
        return passes_all and (self.logits is None or id(symbol) in self._before_weights())

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
            activation = getattr(step.operation, "activation", keras.activations.linear)
            if step.type_name in _JOINS | _NONLINEAR or activation is not keras.activations.linear:
                activated.update(id(output) for output in step.outputs)
        return activated

    def _last_of_runs(self, names: list[str]) -> tuple[str, ...]:
        chosen: dict[tuple, str] = {}
        runs: list[str] = []
        before = None
        for name in names:
            shape = self.symbols[name].shape[1:]
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


def _activation(operation: Any) -> tuple[str, bool, float | None]:
    """Tell what an operation ends in: the kind of step, whether it is fused into a layer, the bound of a ReLU."""
    if isinstance(operation, keras.layers.ReLU):
        if operation.negative_slope or operation.threshold:
            return "layer", False, None
        return "relu", False, None if operation.max_value is None else float(operation.max_value)
    if isinstance(operation, keras.layers.Softmax):
        return "softmax", False, None
    if isinstance(operation, keras.layers.Layer):
        is_fused = isinstance(operation, LAYERS_WITH_FUSED_ACTIVATION)
        if not is_fused and not isinstance(operation, keras.layers.Activation):
            return "layer", False, None
        known: dict[Callable, tuple[str, float | None]] = {
            keras.activations.relu: ("relu", None),
            keras.activations.relu6: ("relu", 6.0),
            keras.activations.softmax: ("softmax", None),
        }
        kind, max_value = known.get(operation.activation, ("layer", None))
        return kind, is_fused and kind != "layer", max_value
    # ops.relu(x) and its like in a functional model are bare operations.
    bare = {"Relu": ("relu", None), "Relu6": ("relu", 6.0), "Softmax": ("softmax", None)}
    kind, max_value = bare.get(type(operation).__name__, ("layer", None))
    return kind, False, max_value
