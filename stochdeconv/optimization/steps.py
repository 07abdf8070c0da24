"""How a gradient becomes a step: along it, or by an optimizer of Keras, as a function of what the optimizer remembers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from stochdeconv import backend

Tensor = Any

#: Kingma & Ba's 1e-8 in Keras's Adam, which adds it before the bias of the second moment is corrected ("epsilon hat"): at the first step
#: they are the same. Gradients of fine Fourier coefficients are small; at Keras's own 1e-7 these hardly move.
ADAM_EPSILON = 1e-8 * (1 - 0.999) ** 0.5


class Steps(Protocol):
    """What makes steps of gradients; it holds nothing of a run, so that runs may share it."""

    def initial_state(self, shape: tuple[int, ...]) -> list[Tensor]:
        """Return what is remembered before the first step, for variables of this shape (image, ...)."""

    def moved(
        self, variable: Tensor, state: list[Tensor], gradient: Tensor, rate: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the variables after a step of one learning rate, and what is remembered then; to be compiled."""


class PlainSteps:
    """Steps along the gradient of each image, divided by its size.

    Parameters
    ----------
    size : callable
        (gradient, axes) -> its size, axes kept.
    """

    def __init__(self, size: Callable[[Tensor, tuple[int, ...]], Tensor]):
        self.size = size

    def initial_state(self, shape: tuple[int, ...]) -> list[Tensor]:
        """Return nothing."""
        return []

    def moved(
        self, variable: Tensor, state: list[Tensor], gradient: Tensor, rate: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the variables after a step."""
        size = self.size(gradient, tuple(range(1, len(gradient.shape))))
        return variable - rate * (gradient / (size + 1e-12)), state


def root_mean_square(gradient: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Measure a gradient image by image."""
    return ops.sqrt(ops.mean(gradient**2, axis=axes, keepdims=True))


def mean_absolute(gradient: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Measure a gradient image by image: where few pixels matter, these move further."""
    return ops.mean(ops.abs(gradient), axis=axes, keepdims=True)


class KerasSteps:
    """Steps of a Keras optimizer.

    Every image is a variable of its own, so that images stay independent whatever the optimizer sums over.

    Parameters
    ----------
    optimizer : keras.optimizers.Optimizer
        Copied: it stays as it is. Its learning rate is not used.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer):
        self._class, self._config = type(optimizer), optimizer.get_config()
        self._built: dict[tuple[int, ...], tuple[keras.optimizers.Optimizer, list[keras.Variable]]] = {}
        self._initial: dict[tuple[int, ...], list[np.ndarray]] = {}

    def initial_state(self, shape: tuple[int, ...]) -> list[Tensor]:
        """Return what the optimizer remembers before the first step; its number of steps and learning rate are among that."""
        # Here, since variables cannot be made in what is compiled.
        if shape not in self._built:
            optimizer = self._class.from_config(self._config)
            variables = [keras.Variable(np.zeros(shape[1:], np.float32)) for _ in range(shape[0])]
            optimizer.build(variables)
            self._built[shape] = optimizer, variables
            self._initial[shape] = [np.array(ops.convert_to_numpy(part)) for part in optimizer.variables]
        return [ops.convert_to_tensor(part) for part in self._initial[shape]]

    def moved(
        self, variable: Tensor, state: list[Tensor], gradient: Tensor, rate: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the variables after a step."""
        optimizer, variables = self._built[tuple(variable.shape)]
        state = [
            rate if part is optimizer.learning_rate else value
            for part, value in zip(optimizer.variables, state, strict=True)
        ]
        gradients, values = ops.unstack(gradient, len(variables)), ops.unstack(variable, len(variables))
        values, state = backend.optimizer_step(optimizer, variables, state, gradients, values)
        return ops.stack(values), state


def steps_of(optimizer: str | keras.optimizers.Optimizer) -> Steps:
    """Return the steps of an optimizer, by one of the names that are ours or of Keras."""
    if optimizer == "normalized":
        return PlainSteps(root_mean_square)
    if optimizer == "mean_normalized":
        return PlainSteps(mean_absolute)
    return KerasSteps(keras.optimizers.Adam(epsilon=ADAM_EPSILON) if optimizer == "adam" else optimizer)
