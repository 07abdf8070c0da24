"""Running a part of a network's graph on copies of its layers, with ReLUs that follow a backward rule."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import keras
from keras import ops

from stochdeconv.errors import ModelError
from stochdeconv.gradients import rectify
from stochdeconv.network_graph import LAYERS_WITH_FUSED_ACTIVATION, Step, is_symbol

Tensor = Any


class LayerCopies:
    """Copies of a model's layers in one dtype, made when first needed; the model's own layers are never called.

    Parameters
    ----------
    dtype : {"float32", "bfloat16"}
        Of weights and computation.
    """

    def __init__(self, dtype: str):
        self.dtype = dtype
        self._copies: dict[tuple[int, str], Any] = {}

    def prepare(self, steps: Iterable[Step]) -> None:
        """Copy what these steps need. Variables are made here, so call it outside a compiled function."""
        for step in steps:
            if step.kind in {"layer", "linear"} and isinstance(step.operation, keras.layers.Layer):
                self._of(step)

    def run(self, steps: Iterable[Step], values: dict[int, Tensor], *, gradient_rule: str) -> None:
        """Compute the steps, in inference mode.

        Parameters
        ----------
        steps : iterable of Step
            In order of computation.
        values : dict of int to tensor
            By ``id`` of the symbol: the network's input, and what is not to be computed but taken as given; receives all values computed.
        gradient_rule : str
            Backward rule of the ReLUs, see `gradients.rectify`.
        """
        n_inputs = next(iter(values.values())).shape[0]
        for step in steps:
            if all(id(symbol) in values for symbol in step.outputs):
                continue
            args, kwargs = keras.tree.map_structure(
                lambda leaf: values[id(leaf)] if is_symbol(leaf) else leaf, (step.args, dict(step.kwargs))
            )
            if step.kind == "held":
                (symbol,) = step.outputs
                result = ops.broadcast_to(
                    ops.convert_to_tensor(step.operation, dtype=self._dtype_of(symbol)),
                    (n_inputs, *step.operation.shape),
                )
            elif step.kind == "relu":
                result = rectify(args[0] if args else next(iter(kwargs.values())), gradient_rule, step.max_value)
            elif isinstance(step.operation, keras.layers.Layer):
                layer, takes_training = self._of(step)
                if takes_training:
                    kwargs["training"] = False
                result = layer(*args, **kwargs)
            else:
                result = step.operation(*args, **kwargs)
            for symbol, value in zip(step.outputs, keras.tree.flatten(result), strict=True):
                values[id(symbol)] = value

    def _dtype_of(self, symbol: Any) -> str:
        """Whole numbers stay what they are."""
        return self.dtype if keras.backend.is_float_dtype(symbol.dtype) else symbol.dtype

    def _of(self, step: Step) -> tuple[Any, bool]:
        key = (id(step.operation), step.kind)
        if key not in self._copies:
            # A name of our own: what the owner's may hold ("block 1", "größe") is no name to every backend.
            layer = _copy_layer(step, self.dtype, f"copy_{len(self._copies)}")
            self._copies[key] = (layer, "training" in inspect.signature(layer.call).parameters)
        return self._copies[key]


def _copy_layer(step: Step, dtype: str, name: str) -> Any:
    layer = step.operation
    if type(layer) is keras.layers.Activation:
        return keras.layers.Activation(layer.activation, name=name, dtype=dtype)
    if type(layer) is keras.layers.Lambda:
        # Keras refuses to make Python code from a config, even of a function that is at hand.
        return keras.layers.Lambda(layer.function, arguments=layer.arguments, name=name, dtype=dtype)
    try:
        with warnings.catch_warnings():
            # That a lambda makes a bad file does not matter here.
            warnings.filterwarnings("ignore", message="The object being serialized includes a `lambda`")
            config = _with_safe_names(layer.get_config(), name)
        # A quantised layer has arrays of its own kind, and computes in whole numbers whatever is around it.
        changes_dtype = layer.dtype_policy.name != dtype and getattr(layer, "quantization_mode", None) is None
        if changes_dtype and "dtype" in config:
            config["dtype"] = dtype
        if isinstance(layer, LAYERS_WITH_FUSED_ACTIVATION):
            # The function itself: one written by the user has no name Keras could find it by.
            config["activation"] = "linear" if step.kind == "linear" else layer.activation
        if _is_keras_own(layer):
            # The weights are overwritten below; drawing 100 million random ones first takes seconds.
            config.update({key: "zeros" for key in config if key.endswith("_initializer")})
        copy = type(layer).from_config(config)
        if changes_dtype and "dtype" not in config:
            copy.dtype_policy = keras.DTypePolicy(dtype)
        copy(
            *keras.tree.map_structure(_placeholder, step.args),
            **keras.tree.map_structure(_placeholder, dict(step.kwargs)),
        )
        copy.set_weights(layer.get_weights())
        if hasattr(copy, "finalize_state"):
            copy.finalize_state()
        copy.trainable = False
        forgotten = _forgotten(layer, copy)
        if forgotten:
            raise ValueError(f"its get_config leaves out {forgotten}")
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        own = "" if _is_keras_own(layer) else "; a layer of your own needs get_config"
        raise ModelError(
            f"layer '{step.name}' ({type(layer).__name__}) cannot be copied in {dtype}: {reason}{own}"
        ) from error
    return copy


def _is_keras_own(layer: Any) -> bool:
    return type(layer).__module__.startswith("keras.")


def _forgotten(layer: Any, copy: Any) -> str:
    """Name a setting of a layer of somebody's own that its copy has another value of."""
    if _is_keras_own(layer):
        return ""
    own = {name: value for name, value in vars(layer).items() if isinstance(value, int | float | str | tuple)}
    for name, value in own.items():
        if not name.startswith("_") and name != "name" and vars(copy).get(name, value) != value:
            return f"'{name}', which is {value!r} and in a copy {vars(copy)[name]!r}"
    return ""


def _with_safe_names(config: Any, name: str) -> Any:
    """Rename a layer, and the layers that it holds, in its configuration."""
    if isinstance(config, list | tuple):
        return type(config)(_with_safe_names(part, f"{name}_{number}") for number, part in enumerate(config))
    if not isinstance(config, Mapping):
        return config
    parts = {key: _with_safe_names(part, f"{name}_{key}") for key, part in config.items()}
    # Of what Keras writes down, layers alone have both.
    return {**parts, "name": name} if {"name", "trainable"} <= config.keys() else parts


def _placeholder(leaf: Any) -> Any:
    return keras.KerasTensor(leaf.shape, dtype=leaf.dtype) if is_symbol(leaf) else leaf
