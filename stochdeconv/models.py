"""A network as everything else sees it: images in [0, 1] go in, activations by layer name and class logits come out."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from stochdeconv import backend
from stochdeconv.class_names import ClassName, find_class, load_class_names
from stochdeconv.errors import InputError, LayerNotFoundError, ModelError, closest
from stochdeconv.gradients import GRADIENT_RULES
from stochdeconv.layer_copies import LayerCopies
from stochdeconv.network_graph import NetworkGraph, has_graph
from stochdeconv.pretrained import (
    Pretrained,
    input_convention,
    load_application,
    load_keras_file,
    load_shipped,
)
from stochdeconv.shipped import NETWORKS

Tensor = Any

# Side of the images for a network that takes any size; that of most ImageNet classifiers.
_DEFAULT_SIZE = 224
# keras.applications.imagenet_utils, mode "torch": RGB in 0..1.
_TORCH_MEAN = (0.485, 0.456, 0.406)
_TORCH_STD = (0.229, 0.224, 0.225)

_DTYPES = ("float32", "bfloat16")
_SPECIAL_LAYERS = ("input", "network_input", "logits")


def load_model(
    model: str | Path | keras.Model,
    *,
    weights: str | Path | None = None,
    preprocessing: str | None = None,
    mean: Any = None,
    class_names: Any = None,
    dtype: str = "auto",
) -> ImageModel:
    """Load a network to look into.

    Parameters
    ----------
    model : str, Path or keras.Model
        ``"mini-vgg16"``, which ships with the package; a name of keras.applications (``"vgg16"``); the path of a .keras
        file with its sidecar ``NAME.json``; or a functional or sequential model in memory, which is read and never changed.
    weights : path, optional
        For a name: a local weights file, Keras's legacy HDF5 layout or .weights.h5. A file without the classifier
        (``notop``) gives a network without class scores. Left out: ImageNet weights, which Keras downloads once.
    preprocessing : {"caffe", "tf", "torch", "none"}, optional
        How the network wants its input, see `pretrained.input_convention`; needed for a model in memory, else it
        replaces the sidecar's.
    mean : sequence of three float, optional
        Blue, green, red in 0..255, for ``"caffe"``.
    class_names : path or sequence, optional
        See `class_names.load_class_names`.
    dtype : {"auto", "float32", "bfloat16"}
        Of the network in the image loop; ``"auto"`` is the fastest the device has.

    Returns
    -------
    ImageModel

    Raises
    ------
    ModelError
        The network cannot be loaded, or not be looked into.
    MissingInputError
        A file is not there.
    """
    if isinstance(model, keras.Model):
        _refuse_weights(weights, "a model in memory")
        if preprocessing is None:
            raise ModelError(
                f"model '{model.name}' does not say how it wants its input: "
                "pass preprocessing='caffe', 'tf', 'torch' or 'none'"
            )
        names = None if class_names is None else load_class_names(class_names)
        found = Pretrained(model, model.name, model.name, input_convention(preprocessing, mean), names)
    elif not isinstance(model, (str, Path)):
        raise ModelError(f"expected a network's name, a path or a keras.Model, not {type(model).__name__}")
    elif _is_path(model):
        _refuse_weights(weights, f"the file {model}")
        found = load_keras_file(Path(model), preprocessing=preprocessing, mean=mean, class_names=class_names)
    else:
        if preprocessing is not None or mean is not None:
            raise ModelError(
                f"how '{model}' wants its input is known: preprocessing and mean go with a file or a model in memory"
            )
        if model in NETWORKS:
            _refuse_weights(weights, f"'{model}', which ships with the package,")
            found = load_shipped(model, class_names=class_names)
        else:
            found = load_application(str(model), weights=weights, class_names=class_names)
    return ImageModel(found, dtype=dtype)


def _is_path(model: str | Path) -> bool:
    return isinstance(model, Path) or Path(model).suffix != "" or "/" in model or "\\" in model


def _refuse_weights(weights: str | Path | None, what: str) -> None:
    if weights is not None:
        raise ModelError(f"a weights file goes with the name of a network (vgg16); {what} has weights already")


class ImageModel:
    """A network with its input convention: float32 RGB images in [0, 1], (image, height, width, channel), go in.

    The network's layers are copied when they are first needed, with fused ReLUs split off; the owner's model stays as
    it is. Weights are those it had then.

    Layers are called by the owner's names (``outer/inner`` inside a nested model). Beside them there are ``"input"``,
    the images; ``"network_input"``, the images as the network wants them; ``"logits"``, the class scores before the
    softmax (the output itself of a network without one); and ``NAME_linear``, the values before the ReLU of layer NAME.
    ``NAME`` is always what the owner's model computes there, but for the first three, which keep their meaning if a
    layer has the same name.

    Attributes
    ----------
    keras_model : keras.Model
        As it was given.
    name : str
        ``"vgg16"``, or the stem of the file.
    source : str
        The word that loads it again: name, absolute path; the model's name for a model in memory.
    input_size : tuple of int
        (height, width).
    preprocessing : dict
        In the sidecar's form.
    recipe : str
        What `generate` does otherwise for this network, see `generate.parse_recipe`.
    class_names : tuple of ClassName
        Empty where the network has no class scores; ``class 0``, ``class 1`` where it has, but no names.
    layer_names : tuple of str
        In order of computation, without input layers.
    default_layers : tuple of str
        Layers worth collecting, see `network_graph.NetworkGraph.default_layers`.
    dtype : {"float32", "bfloat16"}
        Of the network in the image loop.
    """

    def __init__(self, pretrained: Pretrained, *, dtype: str = "auto"):
        self.keras_model = pretrained.keras_model
        self.name = pretrained.name
        self.source = pretrained.source
        self.preprocessing = pretrained.preprocessing
        self.recipe = pretrained.recipe
        self.dtype = self._checked_dtype(backend.preferred_dtype() if dtype == "auto" else dtype)
        self.input_size = _input_size(self.keras_model)
        self._graph = NetworkGraph(self.keras_model, (*self.input_size, 3))
        self.layer_names = self._graph.layer_names
        self.default_layers = self._graph.default_layers()
        self.class_names = self._checked_class_names(pretrained.class_names)
        self._copies: dict[str, LayerCopies] = {}
        self._forwards: dict[tuple, Callable] = {}
        self._compiled: dict[tuple, Callable] = {}
        # Kept by `optimize`: they live and die with the network they run.
        self.programs: dict[tuple, Any] = {}

    def __repr__(self) -> str:
        return f"ImageModel('{self.name}', {len(self.layer_names)} layers, {len(self.class_names)} classes)"

    # Class names

    def find_class(self, word: str | int) -> ClassName:
        """Find a class by name, wnid or index; see `class_names.find_class`."""
        if not self.class_names:
            raise ModelError(self._no_logits())
        return find_class(word, self.class_names)

    def class_index(self, word: str | int) -> int:
        """Find the index of a class by name, wnid or index."""
        return self.find_class(word).index

    # Layers

    def layer_shape(self, layer: str) -> tuple[int, ...]:
        """Return (height, width, channel) of a layer's map, or (channel,), for images of the network's own size."""
        return tuple(self._symbol(layer).shape[1:])

    def _symbol(self, layer: str) -> Any:
        graph = self._graph
        if layer in {"input", "network_input"}:
            return graph.input
        if layer == "logits":
            if graph.logits is None:
                raise ModelError(self._no_logits())
            return graph.logits
        if layer in graph.symbols:
            return graph.symbols[layer]
        stem = layer.removesuffix("_linear")
        if stem != layer and stem in graph.linear_symbols:
            return graph.linear_symbols[stem]
        if stem != layer and stem in graph.symbols:
            raise LayerNotFoundError(
                f"layer '{stem}' of model '{self.name}' has no ReLU of its own, so there is no '{layer}'"
            )
        near = closest(layer, (*self.layer_names, *_SPECIAL_LAYERS))
        raise LayerNotFoundError(
            f"model '{self.name}' has no layer '{layer}'"
            + (f"; closest: {near}" if near else "")
            + f"; all of them: stochdeconv layers {self.source}"
        )

    def _no_logits(self) -> str:
        shape = tuple(self._graph.output.shape[1:])
        return f"model '{self.name}' has no class scores: it ends in shape {shape}, not in a vector"

    @property
    def score_layer(self) -> str:
        """Layer whose mean over positions is a class's score before any ReLU; see `network_graph.NetworkGraph.score_layer`."""
        if self._graph.logits is None:
            raise ModelError(self._no_logits())
        return self._graph.score_layer

    @property
    def has_relu(self) -> bool:
        """Whether there is a ReLU whose backward rule could be changed."""
        return self._graph.has_relu

    def is_computed_from(self, layer: str, below: str) -> bool:
        """Tell whether another layer's values are among those that a layer's are computed from."""
        wanted = id(self._symbol(below))
        steps = self._graph.needed_steps([self._symbol(layer)])
        return any(wanted == id(symbol) for step in steps for symbol in step.inputs)

    # Computing

    def preprocess(self, images: Tensor) -> Tensor:
        """Turn images into what the network takes.

        Parameters
        ----------
        images : tensor of shape (image, height, width, channel)
            RGB in [0, 1].
        """
        mode = self.preprocessing["preprocessing"]
        if mode == "caffe":
            return ops.flip(images, axis=-1) * 255.0 - ops.convert_to_tensor(
                self.preprocessing["mean"], dtype="float32"
            )
        if mode == "tf":
            return images * 2.0 - 1.0
        if mode == "torch":
            mean, std = (ops.convert_to_tensor(values, dtype="float32") for values in (_TORCH_MEAN, _TORCH_STD))
            return (images - mean) / std
        return images * 255.0

    def forward(
        self, layers: Iterable[str], *, gradient_rule: str = "true", dtype: str = "float32"
    ) -> Callable[..., dict[str, Tensor]]:
        """Make the function from images to activations, for use inside a compiled function.

        Parameters
        ----------
        layers : iterable of str
            What to compute; nothing else is.
        gradient_rule : {"true", "guided", "deconvnet"}
            Backward rule of every ReLU, see `gradients.rectify`.
        dtype : {"float32", "bfloat16", "auto"}
            Of the network; ``"auto"`` is this model's `dtype`.

        Returns
        -------
        callable
            images (image, height, width, channel), float32 in [0, 1], of any size the layers allow -> dict of float32
            tensors: the layers, ``"input"`` and ``"network_input"``. A mapping of layers to values as a second argument puts these in
            the place of what the images give there, so that a score can be differentiated with respect to them.

        Raises
        ------
        LayerNotFoundError
            A layer is unknown.
        ModelError
            A rule is asked of a network without ReLUs, or logits of one without class scores.
        """
        layers = tuple(dict.fromkeys(layers))
        dtype = self._checked_dtype(self.dtype if dtype == "auto" else dtype)
        key = (layers, gradient_rule, dtype)
        if key not in self._forwards:
            self._forwards[key] = self._make_forward(*key)
        return self._forwards[key]

    def _make_forward(self, layers: tuple[str, ...], gradient_rule: str, dtype: str) -> Callable:
        rules = [rule for rule in GRADIENT_RULES if rule != "mix"]
        if gradient_rule not in rules:
            raise InputError(
                f"there is no gradient rule '{gradient_rule}' of one pass; expected one of {', '.join(rules)}"
            )
        if gradient_rule != "true" and not self._graph.has_relu:
            raise ModelError(
                f"model '{self.name}' has no ReLU whose gradient could be {gradient_rule}; use gradient rule 'true'"
            )
        graph = self._graph
        symbols = {layer: self._symbol(layer) for layer in layers if layer not in {"input", "network_input"}}
        steps = graph.needed_steps(symbols.values())
        copies = self._copies.setdefault(dtype, LayerCopies(dtype))
        copies.prepare(steps)

        def forward(images: Tensor, given: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
            images = ops.convert_to_tensor(images, dtype="float32")
            network_input = self.preprocess(images)
            values = {id(graph.input): ops.cast(network_input, dtype)}
            values.update({id(self._symbol(layer)): ops.cast(value, dtype) for layer, value in (given or {}).items()})
            size = tuple(images.shape[1:3])
            try:
                copies.run(steps, values, gradient_rule=gradient_rule)
            except Exception as error:
                if size == self.input_size:
                    raise
                height, width = self.input_size
                raise ModelError(
                    f"model '{self.name}' cannot compute {', '.join(layers)} for images of {size[0]}x{size[1]}; "
                    f"its own size is {height}x{width}"
                ) from error
            activations = {layer: ops.cast(values[id(symbol)], "float32") for layer, symbol in symbols.items()}
            return {"input": images, "network_input": network_input, **activations}

        return forward

    def activations(self, images: np.ndarray, layers: Iterable[str], *, batch_size: int = 32) -> dict[str, np.ndarray]:
        """Compute activations of many images, in float32.

        Parameters
        ----------
        images : ndarray of shape (image, height, width, channel)
            RGB in [0, 1].
        layers : iterable of str
            What to compute.
        batch_size : int
            Images at a time. The last batch is filled up, so that an image's activations never depend on how many come
            with it.

        Returns
        -------
        dict of str to ndarray of shape (image, ...)
        """
        layers = tuple(dict.fromkeys(layers))
        images = _checked_images(images)
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; expected at least 1")
        if layers not in self._compiled:
            forward = self.forward(layers)
            self._compiled[layers] = backend.compile(lambda batch: {layer: forward(batch)[layer] for layer in layers})
        compute = self._compiled[layers]
        parts: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            n_missing = batch_size - len(batch)
            filled = np.pad(batch, ((0, n_missing), (0, 0), (0, 0), (0, 0))) if n_missing else batch
            for layer, values in compute(ops.convert_to_tensor(filled)).items():
                parts[layer].append(ops.convert_to_numpy(values)[: len(batch)])
        return {layer: np.concatenate(values) for layer, values in parts.items()}

    def logits(self, images: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
        """Compute class scores before the softmax.

        Returns
        -------
        ndarray of shape (image, class)

        Raises
        ------
        ModelError
            The network does not end in a vector.
        """
        return self.activations(images, ("logits",), batch_size=batch_size)["logits"]

    @functools.cached_property
    def weights_hash(self) -> str:
        """SHA-256 over shapes and float32 bytes of all weight arrays, in order: the same for every file format."""
        digest = hashlib.sha256()
        for weight in self.keras_model.weights:
            array = np.ascontiguousarray(ops.convert_to_numpy(weight.value), dtype="<f4")
            digest.update(repr(array.shape).encode())
            digest.update(array.data)
        return digest.hexdigest()

    # Checks

    def _checked_dtype(self, dtype: str) -> str:
        if dtype not in _DTYPES:
            raise InputError(f"dtype is {dtype!r}; expected one of auto, {', '.join(_DTYPES)}")
        return dtype

    def _checked_class_names(self, names: tuple[ClassName, ...] | None) -> tuple[ClassName, ...]:
        if self._graph.logits is None:
            return ()
        n_classes = self._graph.logits.shape[-1]
        if names is None:
            return tuple(ClassName(index, None, f"class {index}") for index in range(n_classes))
        if len(names) != n_classes:
            raise ModelError(
                f"model '{self.name}' has {n_classes} class scores, but {len(names)} class names were given"
            )
        return names


def _input_size(model: keras.Model) -> tuple[int, int]:
    if not has_graph(model):
        raise ModelError(
            f"model '{model.name}' ({type(model).__name__}) has no graph to look into: "
            "build it as a functional or sequential model with an Input"
        )
    if len(model.inputs) != 1:
        raise ModelError(f"model '{model.name}' has {len(model.inputs)} inputs; expected one, an image")
    shape = tuple(model.inputs[0].shape)
    if len(shape) != 4 or shape[-1] != 3:
        raise ModelError(
            f"model '{model.name}' takes an input of shape {shape}; expected colour images, channels last: "
            "(image, height, width, 3)"
        )
    return tuple(side or _DEFAULT_SIZE for side in shape[1:3])


def _checked_images(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3 or not len(images):
        raise InputError(f"images have shape {images.shape}; expected (image, height, width, 3), at least one image")
    return np.ascontiguousarray(images, dtype=np.float32)
