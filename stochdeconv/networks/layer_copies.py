"""Running a part of a network's graph on copies of its layers, with ReLUs that follow a backward rule."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from stochdeconv import backend
from stochdeconv.errors import ModelError, StochDeconvError, first_reason
from stochdeconv.networks.activations import LAYERS_WITH_FUSED_ACTIVATION
from stochdeconv.networks.backward_rules import rectify
from stochdeconv.networks.blockwise import BlockwiseConvolution, gains_from_blocks
from stochdeconv.networks.graph import Step
from stochdeconv.networks.operations import calls_as, is_keras_own, type_name

Tensor = Any

# How far a copy's values may be from a layer's own, as a part of the largest: rounding, and no other settings.
_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1}
# Rows of a matrix product are computed some at a time, and those left over in another order of additions. Eigen takes six on AVX2 (found
# by products of equal rows with TensorFlow 2.21); a multiple of it, and of the 4, 8, 12 and 24 that other kernels take.
_ROWS_AT_A_TIME = 24


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
        self._blockwise: dict[tuple[int, str], BlockwiseConvolution] = {}

    def prepare(self, steps: Iterable[Step], *, blockwise: bool) -> None:
        """Copy what these steps need. Variables are made here, so call it outside a compiled function."""
        for step in steps:
            if step.kind != "relu" and isinstance(step.operation, keras.layers.Layer):
                layer, _ = self._of(step)
                if blockwise and gains_from_blocks(layer):
                    self._blockwise.setdefault((id(step.operation), step.kind), BlockwiseConvolution(layer))

    def run(
        self,
        steps: Iterable[Step],
        values: dict[int, Tensor],
        *,
        gradient_rule: str,
        blockwise: bool = False,
        rows_alike: bool = False,
    ) -> None:
        """Compute the steps, in inference mode.

        Parameters
        ----------
        steps : iterable of Step
            In order of computation.
        values : dict of int to tensor
            By ``id`` of the symbol: the network's input, and what is not to be computed but taken as given; receives all values computed.
        gradient_rule : str
            Backward rule of the ReLUs, see `backward_rules.rectify`.
        blockwise : bool
            Compute convolutions over blocks where that is faster to differentiate, see `blockwise`; the last bit may differ.
        rows_alike : bool
            Compute dense layers so that the last bit does not depend on an input's place among the others.

        Raises
        ------
        ModelError
            A layer cannot be computed in this dtype, or of so many inputs at a time.
        """
        n_inputs = next(iter(values.values())).shape[0]
        for step in steps:
            if all(id(symbol) in values for symbol in step.outputs):
                continue
            args, kwargs = step.arguments(lambda symbol: values[id(symbol)])
            try:
                result = self._result_of(step, args, kwargs, n_inputs, gradient_rule, blockwise, rows_alike)
            except StochDeconvError:
                raise
            except Exception as error:
                if backend.is_out_of_memory(error):
                    raise
                raise ModelError(
                    f"layer '{step.name}' ({type_name(step.operation)}) cannot be computed in {self.dtype} for {n_inputs} inputs at "
                    f"a time: {first_reason(error)}"
                    + ("; the network may do it in float32 (dtype)" if self.dtype != "float32" else "")
                ) from error
            for symbol, value in zip(step.outputs, keras.tree.flatten(result), strict=True):
                values[id(symbol)] = value

    def _result_of(
        self,
        step: Step,
        args: tuple,
        kwargs: dict[str, Any],
        n_inputs: int,
        gradient_rule: str,
        blockwise: bool,
        rows_alike: bool,
    ) -> Any:
        if step.kind == "held":
            (symbol,) = step.outputs
            value = ops.convert_to_tensor(step.operation, dtype=self._dtype_of(symbol))
            return ops.broadcast_to(value, (n_inputs, *step.operation.shape))
        if step.kind == "relu":
            return rectify(args[0] if args else next(iter(kwargs.values())), gradient_rule, step.max_value)
        if not isinstance(step.operation, keras.layers.Layer):
            return step.operation(*args, **kwargs)
        if blockwise and (over_blocks := self._blockwise.get((id(step.operation), step.kind))) is not None:
            return over_blocks(*args, **kwargs)
        layer, takes_training = self._of(step)
        kwargs = kwargs | {"training": False} if takes_training else kwargs
        if rows_alike and calls_as(layer, keras.layers.Dense) and len(args) == 1:
            return _with_rows_alike(layer, args[0], kwargs)
        return layer(*args, **kwargs)

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


def _with_rows_alike(layer: Any, values: Tensor, kwargs: dict[str, Any]) -> Tensor:
    """Apply a dense layer to (input, ..., channel) so that what becomes of a row does not depend on its place among the others."""
    if None in values.shape:  # not known while it is traced
        return layer(values, **kwargs)
    rows = ops.reshape(values, (-1, values.shape[-1]))
    n_rows = rows.shape[0]
    rows = layer(ops.pad(rows, ((0, -n_rows % _ROWS_AT_A_TIME), (0, 0))), **kwargs)[:n_rows]
    return ops.reshape(rows, (*values.shape[:-1], rows.shape[-1]))


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
            config["activation"] = "linear" if step.kind == "linear" else _copy_activation(layer.activation, step)
        if is_keras_own(layer):
            # The weights are overwritten below; drawing 100 million random ones first takes seconds.
            config.update({key: "zeros" for key in config if key.endswith("_initializer")})
        copy = type(layer).from_config(config)
        if changes_dtype and "dtype" not in config:
            copy.dtype_policy = keras.DTypePolicy(dtype)
        args, kwargs = step.arguments(_placeholder)
        copy(*args, **kwargs)
        copy.set_weights(layer.get_weights())
        if hasattr(copy, "finalize_state"):
            copy.finalize_state()
        copy.trainable = False
    except Exception as error:
        raise ModelError(
            f"layer '{step.name}' ({type(layer).__name__}) cannot be copied in {dtype}: {first_reason(error)}{_way_out(layer, dtype)}"
        ) from error
    if not is_keras_own(layer) and not _computes_the_same(layer, copy, step):
        raise ModelError(
            f"layer '{step.name}' ({type(layer).__name__}) computes other values than its copy: its get_config leaves out something that "
            "its __init__ takes, or it draws values of its own there that are no weights"
        )
    return copy


def _copy_activation(activation: Any, step: Step) -> Any:
    """Copy an activation that is a layer itself, maybe with weights, which the layer's own then set; others are functions."""
    if not isinstance(activation, keras.layers.Layer):
        return activation
    copy = type(activation).from_config(activation.get_config())
    copy.build(step.outputs[0].shape)
    if len(copy.weights) != len(activation.weights):
        raise ValueError(
            f"its activation '{activation.name}' gets its weights when the network is first run; run it once before"
        )
    return copy


def _way_out(layer: Any, dtype: str) -> str:
    if not is_keras_own(layer):
        other = (
            "" if dtype == "float32" else ", and a call that computes in other dtypes than float32; or ask for float32"
        )
        return f"; a layer of your own needs get_config, an __init__ that takes all it gives (**kwargs for name and dtype){other}"
    parts = layer._flatten_layers(include_self=False)
    if any(getattr(part, "quantization_mode", None) or getattr(part, "lora_enabled", False) for part in parts):
        return "; it holds quantised layers or LoRA adapters: take the network as it was before, or with the adapters merged"
    return ""


def _computes_the_same(layer: Any, copy: Any, step: Step) -> bool:
    """Compare a layer of somebody's own with its copy on random values; its state, and that of the copy, stay as they are."""
    if len(layer.variables) != len(layer.weights):  # it has random numbers of its own
        return True
    rng = np.random.default_rng(0)

    def drawn(symbol: Any) -> Any:
        values = rng.normal(size=[2 if side is None else side for side in symbol.shape])
        is_float = keras.backend.is_float_dtype(symbol.dtype)
        return ops.convert_to_tensor(values if is_float else values > 0, dtype=symbol.dtype)

    args, kwargs = step.arguments(drawn)
    if "training" in inspect.signature(layer.call).parameters:
        kwargs["training"] = False

    def computed(by: Any) -> list[np.ndarray]:
        values, _ = by.stateless_call(by.trainable_variables, by.non_trainable_variables, *args, **kwargs)
        return [ops.convert_to_numpy(ops.cast(value, "float32")) for value in keras.tree.flatten(values)]

    try:
        own = computed(layer)
    except Exception:  # it may not take random values
        return True
    copied = computed(copy)
    if step.kind == "linear":
        copied = [ops.convert_to_numpy(layer.activation(ops.convert_to_tensor(values))) for values in copied]
    tolerance = _TOLERANCES[copy.dtype_policy.compute_dtype]
    return all(
        np.abs(values - other).max(initial=0) <= tolerance * max(np.abs(values).max(initial=0), 1e-30)
        for values, other in zip(own, copied, strict=True)
        if np.isfinite(values).all()
    )


def _with_safe_names(config: Any, name: str) -> Any:
    """Rename a layer, and the layers that it holds, in its configuration."""
    if isinstance(config, list | tuple):
        return type(config)(_with_safe_names(part, f"{name}_{number}") for number, part in enumerate(config))
    if not isinstance(config, Mapping):
        return config
    parts = {key: _with_safe_names(part, f"{name}_{key}") for key, part in config.items()}
    # Of what Keras writes down, layers alone have both.
    return {**parts, "name": name} if {"name", "trainable"} <= config.keys() else parts


def _placeholder(symbol: Any) -> Any:
    return keras.KerasTensor(symbol.shape, dtype=symbol.dtype)
