"""Losses that are minus a score: of a class, a unit, a direction, a whole layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from stochdeconv.errors import InputError
from stochdeconv.losses.terms import Term
from stochdeconv.networks.network import LOG_PROBABILITIES

Tensor = Any


@dataclass(frozen=True)
class CrossEntropy(Term):
    """Minus the log probability of a class. See `cross_entropy`."""

    @property
    def name(self):
        """Name in the history: ``cross_entropy:logits``."""
        return "cross_entropy:logits"

    def check(self, layer_shape):
        """Refuse a class that the network does not have."""
        index, n_classes = int(self.arrays["class_index"]), layer_shape(self.layer)[-1]
        if not 0 <= index < n_classes:
            raise InputError(f"class_index is {index}; the network's classes are 0 to {n_classes - 1}")

    def of_values(self, values, arrays):
        """Return the loss per image."""
        return -ops.take(values, arrays["class_index"], axis=-1)


def cross_entropy(class_index: int) -> CrossEntropy:
    """Ask the network to name the class: ``-log p(class)``; satisfied once it does.

    p is the softmax of the class scores, or the sigmoid where each class has a probability of its own (see `heads.Head`).
    """
    return CrossEntropy(LOG_PROBABILITIES, arrays={"class_index": np.int32(class_index)})


def _numbered(name: str, *numbers: int) -> str:
    return ":".join([name, *map(str, numbers)])


def _check_channel(channel: int, layer: str, shape: tuple[int, ...]) -> None:
    if not 0 <= channel < _n_channels(layer, shape):
        raise InputError(f"channel is {channel}; channels of '{layer}' are 0 to {shape[-1] - 1}")


def _check_length(what: str, n_numbers: int, layer: str, shape: tuple[int, ...]) -> None:
    if n_numbers != _n_channels(layer, shape):
        raise InputError(f"the {what} has {n_numbers} numbers; '{layer}' has {shape[-1]} channels")


def _n_channels(layer: str, shape: tuple[int, ...]) -> int:
    if not shape:
        raise InputError(f"'{layer}' is a single number for each input, without channels; name a layer below it")
    return shape[-1]


def _at(position: tuple[int, ...], values: Tensor) -> Tensor:
    """Take the values (image, channel) at one position of a map."""
    if len(position) != len(values.shape) - 2:
        raise InputError(
            f"position {position} has {len(position)} numbers; expected one for each of the {len(values.shape) - 2} axes "
            f"between images and channels of a layer of shape {tuple(values.shape[1:])}"
        )
    sides = tuple(values.shape[1:-1])
    if not all(0 <= at < side for at, side in zip(position, sides, strict=True)):
        raise InputError(f"position is {position}; a layer with {sides} of them counts each axis from 0")
    return values[(slice(None), *position)]


@dataclass(frozen=True)
class Unit(Term):
    """Minus the activation of a channel or unit. See `unit`."""

    position: tuple[int, ...] | None = None

    @property
    def name(self):
        """Name in the history: ``unit:LAYER:CHANNEL[:ROW:COLUMN]``."""
        return _numbered(super().name, int(self.arrays["channel"]), *(self.position or ()))

    @property
    def is_tied_to_places(self):
        """Whether it is about one position."""
        return self.position is not None

    def check(self, layer_shape):
        """Refuse a channel that the layer does not have."""
        _check_channel(int(self.arrays["channel"]), self.layer, layer_shape(self.layer))

    def of_values(self, values, arrays):
        """Return the loss per image."""
        if self.position is not None:
            values = _at(self.position, values)
        values = ops.take(values, arrays["channel"], axis=-1)
        return -values if len(values.shape) == 1 else -ops.mean(values, axis=tuple(range(1, len(values.shape))))


def unit(layer: str, channel: int, position: tuple[int, ...] | None = None) -> Unit:
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
    Unit
    """
    return Unit(layer, position, arrays={"channel": np.int32(channel)})


@dataclass(frozen=True)
class Direction(Term):
    """Minus the projection of a layer's values on a direction. See `direction`."""

    position: tuple[int, ...] | None = None

    @property
    def name(self):
        """Name in the history: ``direction:LAYER[:ROW:COLUMN]``."""
        return _numbered(super().name, *(self.position or ()))

    @property
    def is_tied_to_places(self):
        """Whether it is about one position."""
        return self.position is not None

    def check(self, layer_shape):
        """Refuse a vector of another length than the layer has channels."""
        _check_length("direction", len(self.arrays["direction"]), self.layer, layer_shape(self.layer))

    def of_values(self, values, arrays):
        """Return the loss per image."""
        if self.position is not None:
            values = _at(self.position, values)
        along = ops.sum(values * arrays["direction"], axis=-1)
        return -ops.mean(ops.reshape(along, (along.shape[0], -1)), axis=-1)


def direction(layer: str, vector: np.ndarray, position: tuple[int, ...] | None = None) -> Direction:
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
    Direction
    """
    vector = np.asarray(vector, np.float64)
    norm = np.linalg.norm(vector)
    if vector.ndim != 1 or not np.isfinite(norm) or norm == 0:
        raise InputError(
            f"a direction is one finite number for each channel, not all zero; got an array of shape {vector.shape} and norm {norm:g}"
        )
    return Direction(layer, position, arrays={"direction": (vector / norm).astype(np.float32)})


@dataclass(frozen=True)
class ActivationNorm(Term):
    """Minus the mean square of a layer's values. See `activation_norm`."""

    channel: int | None = None

    @property
    def name(self):
        """Name in the history: ``activation_norm:LAYER[:CHANNEL]``."""
        return super().name if self.channel is None else _numbered(super().name, self.channel)

    def check(self, layer_shape):
        """Refuse a channel that the layer does not have."""
        if self.channel is not None:
            _check_channel(self.channel, self.layer, layer_shape(self.layer))

    def of_values(self, values, arrays):
        """Return the loss per image."""
        if self.channel is not None:
            values = values[..., self.channel]
        return -ops.mean(values**2, axis=tuple(range(1, len(values.shape)))) / arrays["unit"]


def activation_norm(layer: str, channel: int | None = None, *, unit: float | np.ndarray = 1.0) -> ActivationNorm:
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
    ActivationNorm
    """
    return ActivationNorm(layer, channel, arrays={"unit": np.asarray(unit, np.float32)})


@dataclass(frozen=True)
class Guide(Term):
    """Minus the mean over places of the best match among a guide's features. See `guide`."""

    def check(self, layer_shape):
        """Refuse features of another number of channels than the layer has."""
        _check_length("guide", self.arrays["features"].shape[-1], self.layer, layer_shape(self.layer))

    def of_values(self, values, arrays):
        """Return the loss per image."""
        places = ops.reshape(values, (values.shape[0], -1, values.shape[-1]))
        matches = ops.matmul(places, ops.transpose(arrays["features"]))
        return -ops.mean(ops.max(matches, axis=-1), axis=-1) / arrays["unit"]


def guide(layer: str, features: np.ndarray, *, unit: float | np.ndarray = 1.0) -> Guide:
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
    Guide
    """
    features = np.asarray(features, np.float32)
    return Guide(
        layer, arrays={"features": features.reshape(-1, features.shape[-1]), "unit": np.asarray(unit, np.float32)}
    )


@dataclass(frozen=True)
class Diversity(Term):
    """Mean likeness of an image's texture to that of the others beside it. See `diversity`."""

    @property
    def is_tied_to_places(self):
        """Yes: tiles of one image are no images beside each other."""
        return True

    def of_values(self, values, arrays):
        """Return the loss per image."""
        n_images = values.shape[0]
        places = ops.reshape(values, (n_images, -1, values.shape[-1]))
        gram = ops.reshape(ops.matmul(ops.swapaxes(places, 1, 2), places), (n_images, -1))
        gram = gram / (ops.sqrt(ops.sum(gram**2, axis=-1, keepdims=True)) + 1e-12)
        likeness = ops.matmul(gram, ops.transpose(gram)) * (1.0 - np.eye(n_images, dtype=np.float32))
        return ops.sum(likeness, axis=-1) / max(n_images - 1, 1)


def diversity(layer: str) -> Diversity:
    """Ask the images of a batch to differ: mean cosine of an image's Gram matrix with the others' (Olah et al. 2017).

    The one loss by which images influence each other: what image i becomes depends on who is in its batch.

    Parameters
    ----------
    layer : str
        A layer's map; its channels' products, averaged over places, tell what an image shows and not where.

    Returns
    -------
    Diversity
        From 0 to 1 after a ReLU; 0 for a single image.
    """
    return Diversity(layer)
