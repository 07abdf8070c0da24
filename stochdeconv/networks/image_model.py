"""A network as everything else sees it: images in [0, 1] go in, activations by layer name and class logits come out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from stochdeconv.errors import InputError, ModelError
from stochdeconv.networks.axes import IMAGE_CHANNELS, has_channels_first, is_image_shape
from stochdeconv.networks.classes import ClassName, default_label, find_class
from stochdeconv.networks.conventions import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from stochdeconv.networks.default_layers import default_layers
from stochdeconv.networks.heads import Head, find_head
from stochdeconv.networks.network import Network
from stochdeconv.networks.ports import WHERE_TO_SAY, choose_input, output_names
from stochdeconv.networks.pretrained import Pretrained, find_pretrained

Tensor = Any

# Side of the images for a network that takes any size; that of most ImageNet classifiers.
_DEFAULT_SIZE = 224


def load_model(
    model: str | Path | keras.Model,
    *,
    weights: str | Path | None = None,
    preprocessing: str | None = None,
    mean: Any = None,
    std: Any = None,
    class_names: Any = None,
    input: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    output: str | int | None = None,
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
        How the network wants its input, see `conventions.input_convention`; needed for a model in memory, else it
        replaces the sidecar's.
    mean, std : sequence of float, optional
        For ``"caffe"`` (mean) and ``"torch"`` (both), see there.
    class_names : path or sequence, optional
        See `classes.load_class_names`. Two make a network of one value a classifier of two classes, and as many as a map has
        channels make a segmentation of it.
    input : str, optional
        Which of several inputs is the image; by default the only one that is one.
    inputs : mapping of str to number or array, optional
        What all other inputs are held at, for one image: ``{"age": 30}``.
    output : str or int, optional
        Which of several outputs has the classes, by name or number; by default the first.
    dtype : {"auto", "float32", "bfloat16"}
        Of the network in the image loop; ``"auto"`` is the fastest the device has.

    Returns
    -------
    ImageModel

    Raises
    ------
    ModelError
        The network cannot be loaded, or not be looked into; an input or output is not there, or not clear; the number of class names is
        not that of the classes.
    MissingInputError
        A file is not there.

    Warns
    -----
    UserWarning
        How the network ends is not understood: its output is taken as it is.
    """
    pretrained = find_pretrained(
        model,
        weights=weights,
        preprocessing=preprocessing,
        class_names=class_names,
        mean=mean,
        std=std,
        input=input,
        inputs=inputs,
        output=output,
    )
    return ImageModel(pretrained, dtype=dtype)


class ImageModel(Network):
    """A network with its input convention: float32 images in [0, 1], (image, height, width, channel), go in.

    They are RGB, or of one channel where the network takes grey ones. A network that takes an opacity too is shown opaque images; one whose
    channels come first is shown them in that order. To what a `network.Network` of any input has it adds the convention and the classes:
    the layer ``"input"`` are the images, ``"network_input"`` the images as the network wants them (channels last, without opacity).

    Attributes
    ----------
    name : str
        ``"vgg16"``, or the stem of the file.
    source : str
        The word that loads it again: name, absolute path; the model's name for a model in memory.
    input_size : tuple of int
        (height, width).
    n_channels : int
        Of an image: 3, or 1 for grey.
    preprocessing : dict
        In the sidecar's form.
    recipe : str
        What `generate` does otherwise for this network, see `recipe.parse_recipe`.
    class_names : tuple of ClassName
        Empty where the network has no class scores; ``class 0``, ``class 1`` where it has, but no names.
    default_layers : tuple of str
        Layers worth collecting, see `default_layers.default_layers`.
    """

    takes_images = True

    def __init__(self, pretrained: Pretrained, *, dtype: str = "auto"):
        model, convention = pretrained.keras_model, pretrained.preprocessing
        shape = _image_shape(model, convention.get("input"))
        self._n_named = None if pretrained.class_names is None else len(pretrained.class_names)
        self._has_channel_axis = len(shape) == 3
        whole = shape if self._has_channel_axis else (*shape, 1)
        self._has_channels_first = has_channels_first(whole)
        height, width, self._n_network_channels = (*whole[1:], whole[0]) if self._has_channels_first else whole
        self.input_size = (height, width)
        self.n_channels = 1 if self._n_network_channels == 1 else 3
        self.preprocessing = _checked_convention(pretrained, self.n_channels)
        super().__init__(
            model,
            dtype=dtype,
            input_shape=shape,
            **{name: convention.get(name) for name in ("input", "inputs", "output")},
        )
        self.input_shape = (*self.input_size, self.n_channels)
        self.name = pretrained.name
        self.source = pretrained.source
        self.recipe = pretrained.recipe
        self.default_layers = default_layers(self.graph, has_classes=self.head is not None)
        self.class_names = self._checked_class_names(pretrained.class_names)
        if self.head is not None and (self.head.is_pair or self.head.is_named):
            # What a class's index means hangs on it: statistics remember it.
            self.preprocessing = {**self.preprocessing, "classes": self.head.n_classes}
        for doubt in self._doubts():
            warnings.warn(doubt, stacklevel=3)

    def __repr__(self) -> str:
        return f"ImageModel('{self.name}', {len(self.layer_names)} layers, {len(self.class_names)} classes)"

    def _repr_html_(self) -> str:
        """Show in a notebook what goes in and what comes out."""
        from stochdeconv.images import markup

        names = [name.label for name in self.class_names]
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
        """Find a class by name, wnid or index; see `classes.find_class`."""
        self._require_head()
        return find_class(word, self.class_names)

    def class_index(self, word: str | int) -> int:
        """Find the index of a class by name, wnid or index."""
        return self.find_class(word).index

    # Layers

    @property
    def score_layer(self) -> str:
        """Layer whose mean over positions is a class's score before any ReLU; see `heads.Head`."""
        return self._require_head().score_layer

    # Computing

    def preprocess(self, images: Tensor) -> Tensor:
        """Turn images into what the network takes.

        Parameters
        ----------
        images : tensor of shape (image, height, width, channel)
            RGB in [0, 1].

        Returns
        -------
        tensor of shape (image, height, width, channel)
            In the network's convention.
        """
        mode = self.preprocessing["preprocessing"]
        if mode == "caffe":
            return ops.flip(images, axis=-1) * 255.0 - ops.convert_to_tensor(
                self.preprocessing["mean"], dtype="float32"
            )
        if mode == "tf":
            return images * 2.0 - 1.0
        if mode == "torch":
            mean = self.preprocessing.get("mean", IMAGENET_MEAN_RGB)
            std = self.preprocessing.get("std", IMAGENET_STD_RGB)
            return (images - ops.convert_to_tensor(mean, dtype="float32")) / ops.convert_to_tensor(std, dtype="float32")
        return images * 255.0

    def _arranged(self, inputs: Tensor) -> Tensor:
        if not self._has_channel_axis:
            return inputs[..., 0]
        if self._n_network_channels == 4:
            opaque = 255.0 if self.preprocessing["preprocessing"] in {"caffe", "none"} else 1.0
            inputs = ops.concatenate([inputs, opaque * ops.ones_like(inputs[..., :1])], axis=-1)
        return ops.moveaxis(inputs, -1, 1) if self._has_channels_first else inputs

    def _find_head(self) -> Head | None:
        return find_head(self.graph, name=self.name, n_named=self._n_named, n_image_channels=self._n_network_channels)

    def _doubts(self) -> Iterator[str]:
        """Say what was decided for a network that could mean something else."""
        if self.head is not None and self.head.doubt:
            yield self.head.doubt
        if self._n_network_channels == 4:
            yield f"model '{self.name}' takes images of four channels: the last one is held at its largest value, as opacity"
        names = output_names(self.keras_model)
        if len(names) > 1 and "output" not in self.preprocessing:
            yield f"model '{self.name}' has the outputs {', '.join(names)}; the first one is taken: 'output' names another, {WHERE_TO_SAY}"

    def image_size(self, size: int | None = None) -> tuple[int, int]:
        """Choose the size of images in the network's proportions.

        Parameters
        ----------
        size : int, optional
            Their shorter side, pixels; by default the network's own.

        Returns
        -------
        tuple of int
            (height, width).

        Raises
        ------
        InputError
            The size is below 1.
        """
        if size is not None and size < 1:
            raise InputError(f"size is the side of the images in pixels, at least 1; got {size}")
        if size is None:
            return self.input_size
        height, width = self.input_size
        shorter = min(height, width)
        return round(height * size / shorter), round(width * size / shorter)

    def can_compute(self, layers: Iterable[str], size: tuple[int, int]) -> bool:
        """Tell whether layers have values for images of (height, width) `size`: some need their own size, all a least one."""
        # By shapes alone: where a map would have no places, some backends compute one all the same.
        forward = keras.layers.Lambda(self.forward(layers))
        try:
            forward(keras.KerasTensor((1, *size, self.n_channels)))
        except NotImplementedError:  # which is what Keras says of every error there
            return False
        return True

    # Checks

    def _misfit(self, shape: tuple[int, ...]) -> str | None:
        size, own = shape[:2], self.input_size
        if shape[2:] != (self.n_channels,):
            return f"images of {shape[-1]} channels; it takes {self.n_channels}: a parameterization for it has n_channels={self.n_channels}"
        return None if size == own else f"images of {size[0]}x{size[1]}; its own size is {own[0]}x{own[1]}"

    def _checked_inputs(self, inputs: np.ndarray) -> np.ndarray:
        images = np.asarray(inputs)
        if images.ndim != 4 or images.shape[-1] != self.n_channels or not len(images):
            raise InputError(
                f"images have shape {images.shape}; expected (image, height, width, {self.n_channels}), at least one image"
            )
        return np.ascontiguousarray(images, dtype=np.float32)

    def _all_layers(self) -> str:
        return f"stochdeconv layers {self.source}"

    def _checked_class_names(self, names: tuple[ClassName, ...] | None) -> tuple[ClassName, ...]:
        if self.head is None:
            if names is not None:
                shape = tuple(self.graph.channels_last(self.graph.output).shape[1:])
                raise ModelError(
                    f"model '{self.name}' ends in shape {shape}, which are no scores of {len(names)} classes: leave class_names out"
                )
            return ()
        n_classes = self.head.n_classes
        if names is None:
            return tuple(ClassName(index, None, default_label(index)) for index in range(n_classes))
        if len(names) != n_classes:
            what = "two classes, the two sides of its one value" if self.head.is_pair else f"{n_classes} class scores"
            outputs = output_names(self.keras_model)
            others = (
                f"; of its outputs {', '.join(outputs)} another may be meant: 'output' names it, {WHERE_TO_SAY}"
                if len(outputs) > 1
                else ""
            )
            doubt = f"; {self.head.doubt}" if self.head.doubt else ""
            raise ModelError(f"model '{self.name}' has {what}, but {len(names)} class names were given{others}{doubt}")
        return names


def _image_shape(model: keras.Model, name: str | None) -> tuple[int, ...]:
    """Find the shape of the images a model takes, in its own order; where it takes any size, of the usual one.

    Grey images may have no axis of channels, as in many a first network: (28, 28).
    """
    number = choose_input(model, name)
    shape = tuple(model.inputs[number].shape[1:])
    if not is_image_shape(shape) and not (len(shape) == 2 and all(shape)):
        raise ModelError(
            f"model '{model.name}' takes an input of shape {shape}; expected images, (height, width), (height, width, channel) or "
            f"(channel, height, width), of {', '.join(map(str, IMAGE_CHANNELS))} channels; sd.Network takes inputs of any kind"
        )
    return tuple(side or _DEFAULT_SIZE for side in shape)


def _checked_convention(pretrained: Pretrained, n_channels: int) -> dict[str, Any]:
    convention = pretrained.preprocessing
    mode, mean = convention["preprocessing"], convention.get("mean")
    n_numbers = len(mean) if mean is not None else 3 if mode in {"caffe", "torch"} else n_channels
    if n_numbers != n_channels and not (mode == "torch" and n_numbers == 1):
        example = '"mean": [128]' if mode == "caffe" else '"mean": [0], "std": [1]'
        raise ModelError(
            f"model '{pretrained.name}' takes images of {'one channel' if n_channels == 1 else '3 channels'}, and the mean of its "
            f"convention '{mode}' has {n_numbers}: say it as {example if n_channels == 1 else 'three numbers'}"
        )
    return convention
