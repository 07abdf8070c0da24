"""Losses that are minus a score: of a class, a unit, a direction, a whole layer."""

from __future__ import annotations

import numpy as np
from keras import ops

from stochdeconv.errors import InputError
from stochdeconv.losses.functions import FunctionTerm, loss
from stochdeconv.losses.terms import LayerShape, Tensor, Term
from stochdeconv.networks.network import LOG_PROBABILITIES


def _check_class(term: FunctionTerm, layer_shape: LayerShape) -> None:
    index, n_classes = int(term.arguments["class_index"]), layer_shape(term.layer)[-1]
    if not 0 <= index < n_classes:
        raise InputError(f"class_index is {index}; the network's classes are 0 to {n_classes - 1}")


def _check_channel(term: FunctionTerm, layer_shape: LayerShape) -> None:
    channel = term.arguments["channel"]
    if channel is None:
        return
    n_channels = _n_channels(term.layer, layer_shape)
    if not 0 <= channel < n_channels:
        raise InputError(f"channel is {channel}; channels of '{term.layer}' are 0 to {n_channels - 1}")


def _check_length(what: str, n_numbers: int, layer: str, layer_shape: LayerShape) -> None:
    n_channels = _n_channels(layer, layer_shape)
    if n_numbers != n_channels:
        raise InputError(f"the {what} has {n_numbers} numbers; '{layer}' has {n_channels} channels")


def _n_channels(layer: str, layer_shape: LayerShape) -> int:
    shape = layer_shape(layer)
    if not shape:
        raise InputError(f"'{layer}' is a single number for each input, without channels; name a layer below it")
    return shape[-1]


def _numbered_name(term: FunctionTerm) -> str:
    """Name a loss by its layer, channel and position: ``NAME:LAYER[:CHANNEL][:ROW:COLUMN]``."""
    channel, position = term.arguments.get("channel"), term.arguments.get("position")
    numbers = [*(() if channel is None else (int(channel),)), *(position or ())]
    return ":".join([term.definition.function.__name__, term.layer, *map(str, numbers)])


def _is_at_a_position(term: FunctionTerm) -> bool:
    return term.arguments["position"] is not None


def _at(position: tuple[int, ...] | None, values: Tensor) -> Tensor:
    """Take the values (image, channel) at one position of a map; all of them without one."""
    if position is None:
        return values
    if len(position) != len(values.shape) - 2:
        raise InputError(
            f"position {position} has {len(position)} numbers; expected one for each of the {len(values.shape) - 2} axes "
            f"between images and channels of a layer of shape {tuple(values.shape[1:])}"
        )
    sides = tuple(values.shape[1:-1])
    if not all(0 <= at < side for at, side in zip(position, sides, strict=True)):
        raise InputError(f"position is {position}; a layer with {sides} of them counts each axis from 0")
    return values[(slice(None), *position)]


def _name_of_cross_entropy(term: FunctionTerm) -> str:
    return "cross_entropy:logits"


@loss(layer=LOG_PROBABILITIES, arrays=("class_index",), name=_name_of_cross_entropy, check=_check_class)
def cross_entropy(log_probabilities: Tensor, class_index: int) -> Tensor:
    """Ask the network to name the class: ``-log p(class)``; satisfied once it does.

    p is the softmax of the class scores, or the sigmoid where each class has a probability of its own (see `heads.Head`).

    Parameters
    ----------
    class_index : int

    Returns
    -------
    Term
    """
    return -ops.take(log_probabilities, class_index, axis=-1)


@loss(arrays=("channel",), name=_numbered_name, check=_check_channel, is_tied_to_places=_is_at_a_position)
def unit(values: Tensor, channel: int, position: tuple[int, ...] | None = None) -> Tensor:
    """Maximise a unit: the value of a channel at a position, or its mean over positions.

    Parameters
    ----------
    layer : str
        ``"logits"`` for a class neuron before the last non-linearity.
    channel : int
    position : tuple of int, optional
        One index for each axis between images and channels: (row, column) in an image's map.

    Returns
    -------
    Term
    """
    values = ops.take(_at(position, values), channel, axis=-1)
    return -values if len(values.shape) == 1 else -ops.mean(values, axis=tuple(range(1, len(values.shape))))


def direction(layer: str, vector: np.ndarray, position: tuple[int, ...] | None = None) -> Term:
    """Maximise a direction of a layer's channels: the projection on it at a position, or the mean over positions.

    Parameters
    ----------
    layer : str
    vector : ndarray of shape (channel,)
        Any length but zero; it is divided by its norm.
    position : tuple of int, optional
        One index for each axis between images and channels: (row, column) in an image's map.

    Returns
    -------
    Term

    Raises
    ------
    InputError
        The vector is none, or has no length.
    """
    vector = np.asarray(vector, np.float64)
    norm = np.linalg.norm(vector)
    if vector.ndim != 1 or not np.isfinite(norm) or norm == 0:
        raise InputError(
            f"a direction is one finite number for each channel, not all zero; got an array of shape {vector.shape} and norm {norm:g}"
        )
    return _projection(layer, vector / norm, position)


def _name_of_projection(term: FunctionTerm) -> str:
    return ":".join(["direction", term.layer, *map(str, term.arguments["position"] or ())])


def _check_direction(term: FunctionTerm, layer_shape: LayerShape) -> None:
    _check_length("direction", len(term.arguments["direction"]), term.layer, layer_shape)


@loss(name=_name_of_projection, check=_check_direction, is_tied_to_places=_is_at_a_position)
def _projection(values: Tensor, direction: np.ndarray, position: tuple[int, ...] | None) -> Tensor:
    along = ops.sum(_at(position, values) * direction, axis=-1)
    return -ops.mean(ops.reshape(along, (along.shape[0], -1)), axis=-1)


@loss(arrays=("unit",), name=_numbered_name, check=_check_channel)
def activation_norm(values: Tensor, channel: int | None = None, *, unit: float | np.ndarray = 1.0) -> Tensor:
    """Amplify whatever a layer sees: its squared L2 norm, as a mean over values (DeepDream: Mordvintsev, Olah & Tyka 2015).

    Parameters
    ----------
    layer : str
    channel : int, optional
        This channel alone.
    unit : float or ndarray of shape (image,)
        What the mean square is divided by, so that layers of different scale can be added.

    Returns
    -------
    Term
    """
    if channel is not None:
        values = values[..., channel]
    return -ops.mean(values**2, axis=tuple(range(1, len(values.shape)))) / unit


def _check_guide(term: FunctionTerm, layer_shape: LayerShape) -> None:
    _check_length("guide", term.arguments["features"].shape[-1], term.layer, layer_shape)


@loss(arrays=("features", "unit"), check=_check_guide)
def guide(values: Tensor, features: np.ndarray, *, unit: float | np.ndarray = 1.0) -> Tensor:
    """Amplify what a guide image shows: at every place the feature of the guide that fits best, by dot product (DeepDream's guide).

    Parameters
    ----------
    layer : str
    features : ndarray of shape (height, width, channel)
        The guide image's activations of this layer.
    unit : float or ndarray of shape (image,)
        What the mean match is divided by.

    Returns
    -------
    Term
    """
    places = ops.reshape(values, (values.shape[0], -1, values.shape[-1]))
    matches = ops.matmul(places, ops.transpose(ops.reshape(features, (-1, features.shape[-1]))))
    return -ops.mean(ops.max(matches, axis=-1), axis=-1) / unit


@loss(is_tied_to_places=True)  # tiles of one image are no images beside each other
def diversity(values: Tensor) -> Tensor:
    """Ask the images of a batch to differ: mean cosine of an image's Gram matrix with the others' (Olah et al. 2017).

    The one loss by which images influence each other: what image i becomes depends on who is in its batch.

    Parameters
    ----------
    layer : str
        A layer's map; its channels' products, averaged over places, tell what an image shows and not where.

    Returns
    -------
    Term
        From 0 to 1 after a ReLU; 0 for a single image.
    """
    n_images = values.shape[0]
    places = ops.reshape(values, (n_images, -1, values.shape[-1]))
    gram = ops.reshape(ops.matmul(ops.swapaxes(places, 1, 2), places), (n_images, -1))
    gram = gram / (ops.sqrt(ops.sum(gram**2, axis=-1, keepdims=True)) + 1e-12)
    likeness = ops.matmul(gram, ops.transpose(gram)) * (1.0 - ops.eye(n_images, dtype="float32"))
    return ops.sum(likeness, axis=-1) / max(n_images - 1, 1)
