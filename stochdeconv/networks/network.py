"""A network of any input, without a word about images: arrays go in, activations by layer name come out."""

from __future__ import annotations

import functools
import hashlib
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from stochdeconv import backend
from stochdeconv.errors import InputError, LayerNotFoundError, ModelError, closest
from stochdeconv.networks.backward_rules import GRADIENT_RULES
from stochdeconv.networks.graph import NetworkGraph
from stochdeconv.networks.heads import Head, find_head
from stochdeconv.networks.layer_copies import LayerCopies
from stochdeconv.networks.ports import choose_input, choose_output, held_values

Tensor = Any

_DTYPES = ("float32", "bfloat16")
# Programs a network keeps; more would hold more memory than compiling anew is worth.
_MAX_PROGRAMS = 16
_SPECIAL_LAYERS = ("input", "network_input", "logits")
# No layer can be called so: Keras allows no such sign.
PROBABILITIES, LOG_PROBABILITIES = "/probabilities", "/log_probabilities"


class Network:
    """A Keras model to look into and to optimise an input of: pictures, voxels, spectra, vectors.

    The model's layers are copied when they are first needed, with fused activations split off; the owner's model stays as it
    is. Weights are those it had then.

    Layers are called by the owner's names (``outer/inner`` inside a nested model). Beside them there are ``"input"``,
    what goes in; ``"network_input"``, the same as the network wants it (here the very same, an `ImageModel` has a
    convention of its own); ``"logits"``, the score of each class before the last non-linearity, see `heads.Head`; and
    ``NAME_linear``, the values before the activation of layer NAME. ``NAME`` is always what the owner's model computes
    there: a layer that bears one of the first three names is called ``input#2``, and ``logits#2`` where it is something
    else than the scores. Maps of two dimensions have their channels last, also where the model has them first.

    Parameters
    ----------
    keras_model : keras.Model
        Functional or sequential, built; it is read and never changed.
    dtype : {"float32", "bfloat16", "auto"}
        Of the network in the loop of `optimize`; ``"auto"`` is the fastest the device has.
    input_shape : sequence of int, optional
        Shape of one input, without the batch axis; needed where the model leaves an axis open.
    input : str, optional
        Which of several inputs is looked into; by default the only one, or the only image.
    inputs : mapping of str to number or array, optional
        What all other inputs are held at, by name, for one sample.
    output : str or int, optional
        Which of several outputs is meant, by its name or number; by default the first.

    Attributes
    ----------
    keras_model : keras.Model
        As it was given.
    name : str
        The model's.
    input_shape : tuple of int
        Of one input.
    layer_names : tuple of str
        In order of computation, without input layers.
    dtype : {"float32", "bfloat16"}
    head : Head or None
        How the network ends, and what of it is not understood (`heads.Head.doubt`); None where its output is no scores of classes.

    Raises
    ------
    ModelError
        The model has no graph, an input or output that was named is not there, or one that has to be named was not.
    InputError
        The input's shape is open, or not one the model takes; the dtype is unknown.

    Examples
    --------
    >>> network = sd.Network(keras_model)
    >>> start = sd.parameterizations.pixels(voxels, input_shape=network.input_shape)
    >>> sd.optimize(network, sd.losses.unit("score", 0), parameterization=start).images
    """

    #: Whether an input is a picture, of which a start is known.
    takes_images = False

    def __init__(
        self,
        keras_model: keras.Model,
        *,
        dtype: str = "float32",
        input_shape: Iterable[int] | None = None,
        input: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        output: str | int | None = None,
    ):
        number = choose_input(keras_model, input)
        symbol = keras_model.inputs[number]
        self.keras_model = keras_model
        self.name = keras_model.name
        self.dtype = self._checked_dtype(backend.preferred_dtype() if dtype == "auto" else dtype)
        self.input_shape = _checked_shape(keras_model, tuple(symbol.shape[1:]), input_shape)
        self.graph = NetworkGraph(
            keras_model,
            self.input_shape,
            input_number=number,
            held=held_values(keras_model, number, inputs),
            output_number=choose_output(keras_model, output),
        )
        self.head = self._find_head()
        own = self.graph.symbols.get("logits")
        if own is not None and self.head is not None and own is not self.head.scores:
            self.graph.rename("logits", "logits#2")
        self.layer_names = self.graph.layer_names
        self._copies: dict[str, LayerCopies] = {}
        self._forwards: dict[tuple, Callable] = {}
        self._compiled: dict[tuple, Callable] = {}
        # Kept by `optimize`: they live and die with the network they run.
        self._programs: dict[tuple, Any] = {}
        self._programs_lock = threading.RLock()

    def __repr__(self) -> str:
        return f"Network('{self.name}', {len(self.layer_names)} layers, input {self.input_shape})"

    # What a kind of network with a convention of its own does otherwise

    def preprocess(self, inputs: Tensor) -> Tensor:
        """Turn inputs into what the network takes: here they are that."""
        return inputs

    def _arranged(self, inputs: Tensor) -> Tensor:
        """Bring preprocessed inputs into the order of the model's axes."""
        return inputs

    def _find_head(self) -> Head | None:
        return find_head(self.graph, name=self.name)

    def program(self, key: tuple, make: Callable[[], Any]) -> Any:
        """Return what was compiled for this network under a key, or make it; those not used for the longest time are forgotten.

        Programs live and die with the network they run.
        """
        with self._programs_lock:
            if key not in self._programs and len(self._programs) >= _MAX_PROGRAMS:
                del self._programs[next(iter(self._programs))]
            # Put back at the end: the first is then the one not used for the longest time.
            self._programs[key] = self._programs.pop(key) if key in self._programs else make()
            return self._programs[key]

    def _misfit(self, shape: tuple[int, ...]) -> str | None:
        """Say how a shape differs from the network's own, if it does."""
        if shape == self.input_shape:
            return None
        return f"inputs of shape {shape}; its own shape is {self.input_shape}"

    def _checked_inputs(self, inputs: np.ndarray) -> np.ndarray:
        inputs = np.asarray(inputs)
        if inputs.ndim != len(self.input_shape) + 1 or not len(inputs):
            raise InputError(
                f"inputs have shape {inputs.shape}; expected one axis before those of model '{self.name}', "
                f"{self.input_shape}, and at least one input"
            )
        return np.ascontiguousarray(inputs, dtype=np.float32)

    def _all_layers(self) -> str:
        return ", ".join(self.layer_names)

    # Layers

    def find_layer(self, word: str | int) -> str:
        """Return the name of a layer that is called by its name or by its number.

        Parameters
        ----------
        word : str or int
            A name; or a whole number, which counts `layer_names`, 0 being the input and 1 the first layer. A layer whose very name
            is the number comes first.

        Returns
        -------
        str

        Raises
        ------
        LayerNotFoundError
            There is no such name or number.
        """
        name = str(word)
        if name in self.layer_names or not re.fullmatch(r"[+-]?[0-9]+", name):
            self._symbol(name)
            return name
        numbered = ("input", *self.layer_names)
        if not 0 <= int(name) < len(numbered):
            raise LayerNotFoundError(
                f"layers of model '{self.name}' are numbered from 0, the input, to {len(numbered) - 1}, '{numbered[-1]}'; got {name}"
            )
        return numbered[int(name)]

    def layer_shape(self, layer: str) -> tuple[int, ...]:
        """Return the shape of a layer's values for one input of the network's own shape."""
        if layer in {"input", "network_input"}:
            return self.input_shape
        return tuple(self._symbol(layer).shape[1:])

    def _symbol(self, layer: str) -> Any:
        return self.graph.channels_last(self._own_symbol(layer))

    def _own_symbol(self, layer: str) -> Any:
        """Find a layer's value as the model has it, with its channels first maybe."""
        graph = self.graph
        if layer in {"input", "network_input"}:
            return graph.input
        if layer in {"logits", PROBABILITIES, LOG_PROBABILITIES}:
            head = self._require_head()
            return {"logits": head.scores, PROBABILITIES: head.probabilities}.get(layer, head.log_probabilities)
        if layer in graph.symbols:
            return graph.symbols[layer]
        stem = layer.removesuffix("_linear")
        if stem != layer and stem in graph.linear_symbols:
            return graph.linear_symbols[stem]
        if stem != layer and stem in graph.symbols:
            raise LayerNotFoundError(
                f"layer '{stem}' of model '{self.name}' has no activation of its own, so there is no '{layer}'"
            )
        near = closest(layer, (*self.layer_names, *_SPECIAL_LAYERS))
        raise LayerNotFoundError(
            f"model '{self.name}' has no layer '{layer}'"
            + (f"; closest: {near}" if near else "")
            + f"; all of them: {self._all_layers()}"
        )

    def _require_head(self) -> Head:
        if self.head is None:
            shape = tuple(self.graph.channels_last(self.graph.output).shape[1:])
            raise ModelError(
                f"model '{self.name}' has no class scores: it ends in shape {shape}, which is no vector; "
                "if its channels are classes, name them with class_names"
            )
        return self.head

    @property
    def has_relu(self) -> bool:
        """Whether there is a ReLU whose backward rule could be changed."""
        return self.graph.has_relu

    def is_computed_from(self, layer: str, below: str) -> bool:
        """Tell whether another layer's values are among those that a layer's are computed from."""
        value = id(self._own_symbol(below))
        steps = self.graph.needed_steps([self._own_symbol(layer)])
        return any(value == id(symbol) for step in steps for symbol in step.inputs)

    # Computing

    def forward(
        self,
        layers: Iterable[str],
        *,
        gradient_rule: str = "true",
        dtype: str = "float32",
        as_computed: bool = False,
        rows_alike: bool = False,
    ) -> Callable[..., dict[str, Tensor]]:
        """Make the function from inputs to activations, for use inside a compiled function.

        Parameters
        ----------
        layers : iterable of str
            What to compute; nothing else is.
        gradient_rule : {"true", "guided", "deconvnet"}
            Backward rule of every ReLU, see `backward_rules.rectify`.
        dtype : {"float32", "bfloat16", "auto"}
            Of the network; ``"auto"`` is this model's `dtype`.
        as_computed : bool
            For the image loop: leave the layers' activations in that dtype, and compute what is faster to differentiate that way, see
            `blockwise`.
        rows_alike : bool
            For what is kept: an input's activations are the same to the last bit wherever it is among the others, as far as convolutions
            and ``Dense`` layers decide on it (on TensorFlow and JAX; PyTorch's products of matrices do not allow it).

        Returns
        -------
        callable
            inputs (input, ...), float32, of any size the layers allow -> dict of float32 tensors (`as_computed` apart): the
            layers, ``"input"`` and ``"network_input"``. Images (image, height, width, channel) in [0, 1] for an `ImageModel`. A
            mapping of layers to values as a second argument puts these in the place of what the inputs give there, so that a
            score can be differentiated with respect to them.

        Raises
        ------
        LayerNotFoundError
            A layer is unknown.
        ModelError
            A rule is asked of a network without ReLUs, or logits of one without class scores.
        """
        layers = tuple(dict.fromkeys(layers))
        dtype = self._checked_dtype(self.dtype if dtype == "auto" else dtype)
        key = (layers, gradient_rule, dtype, as_computed, rows_alike)
        if key not in self._forwards:
            self._forwards[key] = self._make_forward(*key)
        return self._forwards[key]

    def _make_forward(
        self, layers: tuple[str, ...], gradient_rule: str, dtype: str, as_computed: bool, rows_alike: bool
    ) -> Callable:
        rules = [rule for rule in GRADIENT_RULES if rule != "mix"]
        if gradient_rule not in rules:
            raise InputError(
                f"there is no gradient rule '{gradient_rule}' of one pass; expected one of {', '.join(rules)}"
            )
        if gradient_rule != "true" and not self.graph.has_relu:
            raise ModelError(
                f"model '{self.name}' has no ReLU whose gradient could be {gradient_rule}; use gradient rule 'true'"
            )
        graph = self.graph
        symbols = {layer: self._symbol(layer) for layer in layers if layer not in {"input", "network_input"}}
        steps = graph.needed_steps(symbols.values())
        copies = self._copies.setdefault(dtype, LayerCopies(dtype))
        copies.prepare(steps, blockwise=as_computed)

        def forward(inputs: Tensor, replaced: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
            inputs = ops.convert_to_tensor(inputs, dtype="float32")
            network_input = self.preprocess(inputs)
            values = {id(graph.input): ops.cast(self._arranged(network_input), dtype)}
            for layer, value in (replaced or {}).items():
                own, view, value = self._own_symbol(layer), self._symbol(layer), ops.cast(value, dtype)
                values[id(own)] = value if own is view else ops.moveaxis(value, -1, 1)
                values[id(view)] = value
            try:
                copies.run(steps, values, gradient_rule=gradient_rule, blockwise=as_computed, rows_alike=rows_alike)
            except Exception as error:
                misfit = self._misfit(tuple(inputs.shape[1:]))
                if misfit is None or backend.is_out_of_memory(error):
                    raise
                raise ModelError(f"model '{self.name}' cannot compute {', '.join(layers)} for {misfit}") from error
            output_dtype = dtype if as_computed else "float32"
            activations = {layer: ops.cast(values[id(symbol)], output_dtype) for layer, symbol in symbols.items()}
            n_inputs = inputs.shape[0]
            for layer, activation in activations.items():
                # A backend may not know the number while it traces.
                if activation.shape[0] not in (None, n_inputs):
                    raise ModelError(
                        f"layer '{layer}' of model '{self.name}' gives {activation.shape[0]} rows for {n_inputs} inputs: it counts "
                        "something else with its first axis, or was built for another number of inputs at a time"
                    )
            return {"input": inputs, "network_input": network_input, **activations}

        return forward

    def activations(self, inputs: np.ndarray, layers: Iterable[str], *, batch_size: int = 32) -> dict[str, np.ndarray]:
        """Compute activations of many inputs, in float32.

        Parameters
        ----------
        inputs : ndarray of shape (input, ...)
            For an `ImageModel` images (image, height, width, channel), RGB in [0, 1].
        layers : iterable of str
            What to compute.
        batch_size : int
            Inputs at a time. The last batch is filled up, so that an input's activations never depend on how many come
            with it.

        Returns
        -------
        dict of str to ndarray of shape (input, ...)

        Raises
        ------
        InputError
            The inputs are not of the network's shape, or the batch size is less than 1.
        LayerNotFoundError
            There is no such layer.
        """
        layers = tuple(dict.fromkeys(layers))
        inputs = self._checked_inputs(inputs)
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; expected at least 1")
        if layers not in self._compiled:
            forward = self.forward(layers, rows_alike=True)
            self._compiled[layers] = backend.compile(lambda batch: {layer: forward(batch)[layer] for layer in layers})
        compute = self._compiled[layers]
        parts: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
        for start in range(0, len(inputs), batch_size):
            batch = inputs[start : start + batch_size]
            filled = np.zeros((batch_size, *batch.shape[1:]), np.float32)
            filled[: len(batch)] = batch
            for layer, values in compute(ops.convert_to_tensor(filled)).items():
                parts[layer].append(ops.convert_to_numpy(values)[: len(batch)])
        return {layer: np.concatenate(values) for layer, values in parts.items()}

    def logits(self, inputs: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
        """Compute class scores before the last non-linearity, see `heads.Head`.

        Parameters
        ----------
        inputs : ndarray of shape (input, ...)
            As in `activations`.
        batch_size : int
            Inputs at a time.

        Returns
        -------
        ndarray of shape (input, class)

        Raises
        ------
        ModelError
            The network has no class scores.
        """
        return self._values_of("logits", inputs, batch_size)

    def probabilities(self, inputs: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
        """Compute the probability of each class that the network itself gives, see `heads.Head`.

        Parameters
        ----------
        inputs : ndarray of shape (input, ...)
            As in `activations`.
        batch_size : int
            Inputs at a time.

        Returns
        -------
        ndarray of shape (input, class)

        Raises
        ------
        ModelError
            The network has no class scores.
        """
        return self._values_of(PROBABILITIES, inputs, batch_size)

    def _values_of(self, layer: str, inputs: np.ndarray, batch_size: int) -> np.ndarray:
        return self.activations(inputs, (layer,), batch_size=batch_size)[layer]

    @functools.cached_property
    def weights_hash(self) -> str:
        """SHA-256 over shapes and float32 bytes of all weight arrays, in order: the same for every file format."""
        digest = hashlib.sha256()
        for weight in self.keras_model.weights:
            array = np.ascontiguousarray(ops.convert_to_numpy(weight.value), dtype="<f4")
            digest.update(repr(array.shape).encode())
            digest.update(array.data)
        return digest.hexdigest()

    def _checked_dtype(self, dtype: str) -> str:
        if dtype not in _DTYPES:
            raise InputError(f"dtype is {dtype!r}; expected one of auto, {', '.join(_DTYPES)}")
        return dtype


def _checked_shape(
    model: keras.Model, own: tuple[int | None, ...], input_shape: Iterable[int] | None
) -> tuple[int, ...]:
    shape = own if input_shape is None else tuple(input_shape)
    sides = tuple(int(side) for side in shape if isinstance(side, int | np.integer) and side > 0)
    fits = len(sides) == len(own) and all(own_side in (None, side) for own_side, side in zip(own, sides, strict=True))
    if not own or not fits or len(sides) < len(shape):
        raise InputError(
            f"model '{model.name}' takes inputs of shape {own}, and input_shape is {input_shape}; "
            "expected a whole number for every axis but the batch's"
        )
    return sides
