"""How a gradient becomes a step: along it, or by an optimizer of Keras, as a function of what the optimizer remembers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from stochdeconv import backend

Tensor = Any

#: Kingma & Ba's 1e-8 in Keras's Adam, which adds it before the bias of the second moment is corrected ("epsilon hat"): at the 40th step
#: they are the same. Gradients of fine Fourier coefficients are small: at Keras's own 1e-7 these hardly move, and at much less than this
#: rounding moves them.
ADAM_EPSILON = 1e-8 * (1 - 0.999**40) ** 0.5


class Steps(Protocol):
    """What makes steps of gradients; what it remembers of a run is handed in and out, so that runs may share it, one step at a time."""

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

    Parameters
    ----------
    optimizer : keras.optimizers.Optimizer
        Copied: it stays as it is. Its learning rate is not used.
    is_elementwise : bool
        Whether it looks at every number alone. Otherwise every image is a variable of its own, so that images stay independent whatever
        the optimizer sums over.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, *, is_elementwise: bool = False):
        self._is_elementwise = is_elementwise
        self._class, self._config = type(optimizer), optimizer.get_config()
        self._built: dict[tuple[int, ...], tuple[keras.optimizers.Optimizer, list[keras.Variable]]] = {}
        self._initial: dict[tuple[int, ...], list[np.ndarray]] = {}
        self._building = threading.Lock()

    def initial_state(self, shape: tuple[int, ...]) -> list[Tensor]:
        """Return what the optimizer remembers before the first step; its number of steps and learning rate are among that."""
        # Here, since variables cannot be made in what is compiled; once, for all threads that share this.
        with self._building:
            if shape not in self._built:
                optimizer = self._class.from_config(self._config)
                shapes = [shape] if self._is_elementwise else shape[0] * [shape[1:]]
                variables = [keras.Variable(np.zeros(own, np.float32)) for own in shapes]
                optimizer.build(variables)
                self._initial[shape] = [np.array(ops.convert_to_numpy(part)) for part in optimizer.variables]
                self._built[shape] = optimizer, variables
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
        if self._is_elementwise:
            (moved,), state = backend.optimizer_step(optimizer, variables, state, [gradient], [variable])
            return moved, state
        gradients, values = ops.unstack(gradient, len(variables)), ops.unstack(variable, len(variables))
        values, state = backend.optimizer_step(optimizer, variables, state, gradients, values)
        return ops.stack(values), state


def steps_of(optimizer: str | keras.optimizers.Optimizer) -> Steps:
    """Return the steps of an optimizer, by one of the names that are ours or of Keras."""
    if optimizer == "normalized":
        return PlainSteps(root_mean_square)
    if optimizer == "mean_normalized":
        return PlainSteps(mean_absolute)
    if optimizer == "adam":
        return KerasSteps(keras.optimizers.Adam(epsilon=ADAM_EPSILON), is_elementwise=True)
    return KerasSteps(optimizer)
