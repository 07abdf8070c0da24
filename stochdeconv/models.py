"""A network as everything else sees it: images in [0, 1] go in, activations by layer name and class logits come out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from stochdeconv.class_names import ClassName, find_class, load_class_names
from stochdeconv.errors import InputError, ModelError
from stochdeconv.networks import Network, only_input
from stochdeconv.parameterizations import Parameterization, fourier
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


class ImageModel(Network):
    """A network with its input convention: float32 RGB images in [0, 1], (image, height, width, channel), go in.

    To what a `networks.Network` of any input has it adds the convention and the classes: the layer ``"input"`` are the
    images, ``"network_input"`` the images as the network wants them.

    Attributes
    ----------
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
    default_layers : tuple of str
        Layers worth collecting, see `network_graph.NetworkGraph.default_layers`.
    """

    def __init__(self, pretrained: Pretrained, *, dtype: str = "auto"):
        self.input_size = _input_size(pretrained.keras_model)
        super().__init__(pretrained.keras_model, dtype=dtype, input_shape=(*self.input_size, 3))
        self.name = pretrained.name
        self.source = pretrained.source
        self.preprocessing = pretrained.preprocessing
        self.recipe = pretrained.recipe
        self.default_layers = self._graph.default_layers()
        self.class_names = self._checked_class_names(pretrained.class_names)

    def __repr__(self) -> str:
        return f"ImageModel('{self.name}', {len(self.layer_names)} layers, {len(self.class_names)} classes)"

    def _repr_html_(self) -> str:
        """Show in a notebook what goes in and what comes out."""
        from stochdeconv import markup

        names = [known.label for known in self.class_names]
        facts = {
            "network": self.name,
            "loaded by": self.source,
            "images": "×".join(map(str, self.input_size)),
            "classes": f"{len(names)}: {', '.join(names[:10])}{', …' if names[10:] else ''}" if names else "none",
            "default layers": ", ".join(self.default_layers),
        }
        return str(markup.facts_table(facts))

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

    @property
    def score_layer(self) -> str:
        """Layer whose mean over positions is a class's score before any ReLU; see `network_graph.NetworkGraph.score_layer`."""
        if self._graph.logits is None:
            raise ModelError(self._no_logits())
        return self._graph.score_layer

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

    def image_size(self, size: int | None = None) -> tuple[int, int]:
        """Return (height, width) of images with sides of `size` pixels; by default the network's own.

        Raises
        ------
        InputError
            The size is below 1.
        """
        if size is not None and size < 1:
            raise InputError(f"size is the side of the images in pixels, at least 1; got {size}")
        return self.input_size if size is None else (size, size)

    def default_parameterization(self) -> Parameterization:
        """Return one Fourier image of the network's size."""
        return fourier(self.input_size)

    # Checks

    def _misfit(self, shape: tuple[int, ...]) -> str | None:
        size = shape[:2]
        if size == self.input_size:
            return None
        own = self.input_size
        return f"images of {size[0]}x{size[1]}; its own size is {own[0]}x{own[1]}"

    def _checked_inputs(self, inputs: np.ndarray) -> np.ndarray:
        images = np.asarray(inputs)
        if images.ndim != 4 or images.shape[-1] != 3 or not len(images):
            raise InputError(
                f"images have shape {images.shape}; expected (image, height, width, 3), at least one image"
            )
        return np.ascontiguousarray(images, dtype=np.float32)

    def _all_layers(self) -> str:
        return f"stochdeconv layers {self.source}"

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
    shape = tuple(only_input(model, called="image").shape)
    if len(shape) != 4 or shape[-1] != 3:
        raise ModelError(
            f"model '{model.name}' takes an input of shape {shape}; expected colour images, channels last: "
            "(image, height, width, 3)"
        )
    return tuple(side or _DEFAULT_SIZE for side in shape[1:3])
