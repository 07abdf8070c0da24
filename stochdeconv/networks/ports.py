"""Which of a model's inputs is looked into, what the others are held at, and which output is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from stochdeconv.errors import ModelError, closest
from stochdeconv.networks.axes import is_image_shape
from stochdeconv.networks.graph import has_graph

#: For messages: where a network's ports are named.
WHERE_TO_SAY = "in load_model or in the .json beside its file"


def require_graph(model: Any) -> None:
    """Raise ModelError unless it is a Keras model whose layers can be looked into."""
    if not isinstance(model, keras.Model):
        raise ModelError(f"expected a keras.Model, not {type(model).__name__}")
    if not has_graph(model):
        raise ModelError(
            f"model '{model.name}' ({type(model).__name__}) has no graph to look into: "
            "build it as a functional or sequential model with an Input"
        )


def choose_input(model: keras.Model, name: str | None = None) -> int:
    """Find the input that is looked into.

    Parameters
    ----------
    model : keras.Model
    name : str, optional
        By default the only input, or of several the only one that is an image.

    Returns
    -------
    int
        Its number among the model's inputs.

    Raises
    ------
    ModelError
        There is no such input, or it is not clear which one is meant.
    """
    require_graph(model)
    names = _input_names(model)
    if name is not None:
        return _find(name, names, f"model '{model.name}' has no input '{name}'", _described(model.inputs, names))
    if len(names) == 1:
        return 0
    images = [number for number, symbol in enumerate(model.inputs) if is_image_shape(tuple(symbol.shape[1:]))]
    if len(images) == 1:
        return images[0]
    raise ModelError(
        f"model '{model.name}' has {len(names)} inputs, {_described(model.inputs, names)}, and {len(images) or 'none'} of them "
        f"are images: name the one to look into with input=, and give the values of the others with inputs=, {WHERE_TO_SAY}"
    )


def held_values(model: keras.Model, number: int, values: Mapping[str, Any] | None) -> dict[int, np.ndarray]:
    """Find what all other inputs are held at.

    Parameters
    ----------
    model : keras.Model
    number : int
        Of the input that is looked into.
    values : mapping of str to number or array, optional
        By name, for one sample; a number, or whatever broadcasts to the input's shape.

    Returns
    -------
    dict of int to ndarray
        By the input's number; of the input's dtype, without a batch axis.

    Raises
    ------
    ModelError
        A value is missing, is that of no input or of the one looked into, or has another shape.
    """
    names, values = _input_names(model), dict(values or {})
    held: dict[int, np.ndarray] = {}
    for name, value in values.items():
        which = _find(
            name, names, f"inputs: model '{model.name}' has no input '{name}'", _described(model.inputs, names)
        )
        if which == number:
            raise ModelError(f"inputs: '{name}' is the input of model '{model.name}' that is looked into; leave it out")
        symbol = model.inputs[which]
        shape = tuple(symbol.shape[1:])
        try:
            array = np.asarray(value, dtype=keras.backend.standardize_dtype(symbol.dtype))
            if not np.allclose(np.asarray(value, np.float64), array.astype(np.float64)):
                raise ValueError(f"{symbol.dtype} cannot hold it")
            held[which] = np.broadcast_to(array, _filled(shape, array.shape))
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelError(
                f"inputs: '{name}' of model '{model.name}' takes {_shape_text(shape)} of {symbol.dtype}; got {value!r}"[
                    :300
                ]
            ) from error
    missing = [i for i in range(len(names)) if i != number and i not in held]
    if missing:
        example = ", ".join(f'"{names[i]}": …' for i in missing)
        raise ModelError(
            f"model '{model.name}' has the inputs {_described(model.inputs, names)}; '{names[number]}' is looked into: "
            f"say what the others are held at with inputs={{{example}}}, {WHERE_TO_SAY}"
        )
    return held


def choose_output(model: keras.Model, name: str | int | None = None) -> int:
    """Find the output that is meant.

    Parameters
    ----------
    model : keras.Model
    name : str or int, optional
        The name of the output, or of the layer it comes from, or its number; by default the first.

    Returns
    -------
    int
        Its number among the model's outputs.

    Raises
    ------
    ModelError
        There is no such output.
    """
    require_graph(model)
    names = output_names(model)
    described = _described(model.outputs, names)
    if isinstance(name, int) and not isinstance(name, bool):
        if not 0 <= name < len(names):
            raise ModelError(f"model '{model.name}' has outputs 0 to {len(names) - 1}, {described}; got {name}")
        return name
    return 0 if name is None else _find(str(name), names, f"model '{model.name}' has no output '{name}'", described)


def output_names(model: keras.Model) -> list[str]:
    """Name a model's outputs: the keys of a dict, else the layers they come from."""
    structure = getattr(model, "_outputs_struct", None)
    if isinstance(structure, Mapping):
        # Keras orders the outputs of a dict by their keys, those of an OrderedDict as they are.
        keys = {id(symbol): str(key) for key, symbol in structure.items()}
        if all(id(symbol) in keys for symbol in model.outputs):
            return _unique([keys[id(symbol)] for symbol in model.outputs])
    return _unique([_layer_name(symbol) for symbol in model.outputs])


def _input_names(model: keras.Model) -> list[str]:
    return _unique([_layer_name(symbol) for symbol in model.inputs])


def _layer_name(symbol: Any) -> str:
    history = getattr(symbol, "_keras_history", None)
    return symbol.name if history is None else history.operation.name


def _unique(names: Sequence[str]) -> list[str]:
    unique: list[str] = []
    for name in names:
        n_before = sum(other == name or other.startswith(f"{name}#") for other in unique)
        unique.append(f"{name}#{n_before + 1}" if n_before else name)
    return unique


def _find(name: str, names: Sequence[str], problem: str, described: str) -> int:
    if name in names:
        return names.index(name)
    near = closest(name, names)
    raise ModelError(f"{problem}{f'; closest: {near}' if near else ''}; there are {described}")


def _described(symbols: Sequence[Any], names: Sequence[str]) -> str:
    return ", ".join(
        f"'{name}' ({_shape_text(tuple(symbol.shape[1:]))})" for name, symbol in zip(names, symbols, strict=True)
    )


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return "×".join("any" if side is None else str(side) for side in shape) or "a number"


def _filled(shape: tuple[int | None, ...], value_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Take the length of an open axis from the value."""
    padded = (1,) * (len(shape) - len(value_shape)) + tuple(value_shape)
    return tuple(own if side is None else side for side, own in zip(shape, padded, strict=True))
