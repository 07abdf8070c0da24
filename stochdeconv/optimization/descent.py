"""How a gradient becomes steps: Adam, normalised steps, L-BFGS; for large images, tile by tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from stochdeconv.errors import InputError
from stochdeconv.networks.backward_rules import GRADIENT_RULES

Tensor = Any

OPTIMIZERS = ("adam", "normalized", "mean_normalized", "lbfgs")
# Evaluations an iteration of L-BFGS may cost on average; it needs hardly more than one where the function is smooth.
_MAX_EVALUATIONS = 20


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A loss and its gradient at some variables.

    Attributes
    ----------
    value : float
        The weighted sum, over terms and images.
    losses : mapping of str to float
        Unweighted loss of each term, averaged over the images; ``"cosine"`` is that of the gradient rule with the true gradient.
    gradient : tensor of the variables' shape
    is_finite : bool
        Whether all of it is.
    """

    value: float
    losses: dict[str, float]
    gradient: Tensor
    is_finite: bool


@dataclass(frozen=True)
class Descent:
    """How a gradient becomes a step.

    Attributes
    ----------
    optimizer : {"adam", "normalized", "mean_normalized", "lbfgs"}
        Adam (Kingma & Ba 2015); plain steps along the gradient divided by its root mean square, or by its mean absolute value as in
        DeepDream (Mordvintsev, Olah & Tyka 2015), image by image; or SciPy's L-BFGS-B, which chooses the length of its steps itself, for
        one image at a time, in float32.
    gradient_rule : {"true", "guided", "deconvnet", "mix"}
        See `gradient.loss_gradient`. Every rule but ``"true"`` gives the gradient of no function and costs further backward passes.
    decay : bool
        Let the learning rate fall to zero along a half cosine.
    tile_size : int or None
        Side, in pixels, of the tiles an image larger than that is taken through the network by, so that memory does not grow with the
        image. The tiles lie elsewhere at every step. A loss is then the mean over tiles.
    tile_batch_size : int
        Tiles of an image that go through the network at a time. Of several images, those of one place do.

    Raises
    ------
    InputError
        An unknown name, or two that do not go together.
    """

    optimizer: str = "adam"
    gradient_rule: str = "true"
    decay: bool = False
    tile_size: int | None = None
    tile_batch_size: int = 1

    def __post_init__(self):
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"optimizer '{self.optimizer}' is unknown; there are {', '.join(OPTIMIZERS)}")
        if self.gradient_rule not in GRADIENT_RULES:
            raise InputError(f"gradient rule '{self.gradient_rule}' is unknown; there are {', '.join(GRADIENT_RULES)}")
        if self.tile_size is not None and self.tile_size < 1:
            raise InputError(f"tile_size is the side of a tile in pixels, at least 1; got {self.tile_size}")
        if self.tile_batch_size < 1:
            raise InputError(f"a batch is of at least 1 tile at a time; got {self.tile_batch_size}")
        if self.searches_lines:
            if self.gradient_rule != "true":
                raise InputError(
                    f"L-BFGS searches along lines for where a function falls, and the gradient rule '{self.gradient_rule}' is the "
                    "gradient of no function: use the optimizer 'adam' with it, or the gradient rule 'true'"
                )
            if self.decay or self.tile_size is not None:
                raise InputError(
                    "L-BFGS chooses its own steps, on the whole image: decay and tile_size do not go with it"
                )

    @property
    def searches_lines(self) -> bool:
        """Whether steps are found by evaluating one unchanging function several times."""
        return self.optimizer == "lbfgs"

    def learning_rates(self, rate: float, n_steps: int) -> np.ndarray:
        """Return the learning rate of every step, (step,), float32."""
        if not self.decay:
            return np.full(n_steps, rate, np.float32)
        return np.array([rate * 0.5 * (1 + math.cos(math.pi * step / n_steps)) for step in range(n_steps)], np.float32)

    def initial_state(self, shape: tuple[int, ...]) -> list[Any]:
        """Return what the optimizer remembers before the first step, for variables of this shape."""
        from keras import ops

        return [ops.zeros(()), ops.zeros(shape), ops.zeros(shape)] if self.optimizer == "adam" else []

    def direction(self, gradient: Tensor, state: list[Any]) -> tuple[Tensor, list[Any]]:
        """Return the direction of a step of length one learning rate, and the new state; traceable."""
        rules = {"adam": _adam, "normalized": _normalized, "mean_normalized": _mean_normalized}
        return rules[self.optimizer](gradient, state)


# Written out, since keras.optimizers cannot be called as functions of their state on TensorFlow (stateless_apply refuses).
def _adam(gradient: Tensor, state: list[Any]) -> tuple[Tensor, list[Any]]:
    """Direction of Adam (Kingma & Ba 2015, beta 0.9 and 0.999); the state is the steps done and both moments."""
    from keras import ops

    done, first, second = state
    done = done + 1.0
    first = 0.9 * first + 0.1 * gradient
    second = 0.999 * second + 0.001 * gradient**2
    unbiased = ops.sqrt(second / (1.0 - 0.999**done))
    return first / (1.0 - 0.9**done) / (unbiased + 1e-8), [done, first, second]


def _normalized(gradient: Tensor, state: list[Any]) -> tuple[Tensor, list[Any]]:
    """Gradient divided by its root mean square, image by image."""
    from keras import ops

    axes = tuple(range(1, len(gradient.shape)))
    return gradient / (ops.sqrt(ops.mean(gradient**2, axis=axes, keepdims=True)) + 1e-12), state


def _mean_normalized(gradient: Tensor, state: list[Any]) -> tuple[Tensor, list[Any]]:
    """Gradient divided by its mean absolute value, image by image: where few pixels matter, these move further."""
    from keras import ops

    axes = tuple(range(1, len(gradient.shape)))
    return gradient / (ops.mean(ops.abs(gradient), axis=axes, keepdims=True) + 1e-12), state


def tiles(size: tuple[int, int], tile_size: int, offset: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """Cover an image with tiles of one size.

    Parameters
    ----------
    size : (height, width)
        Of the image.
    tile_size : int
        Side of a tile; an axis that is shorter is covered whole.
    offset : (row, column)
        How far the grid is moved up and to the left; tiles that would reach over the border are moved inside and overlap.

    Yields
    ------
    rows, columns : slice
    """
    starts = []
    for length, shift in zip(size, offset, strict=True):
        side = min(tile_size, length)
        begins = range(-(shift % side), length, side)
        starts.append([(start, start + side) for start in sorted({min(max(b, 0), length - side) for b in begins})])
    for rows in starts[0]:
        for columns in starts[1]:
            yield slice(*rows), slice(*columns)


def search_lines(
    evaluate: Callable[[np.ndarray], Evaluation],
    start: Tensor,
    n_steps: int,
    on_step: Callable[[Evaluation, Tensor], None],
) -> None:
    """Minimise a function by SciPy's L-BFGS-B.

    Parameters
    ----------
    evaluate : callable
        Variables -> `Evaluation`.
    start : tensor
    n_steps : int
        Iterations at most; each evaluates the function once or a few times. It ends before where no step improves the value any more.
    on_step : callable
        Called after each iteration, with the evaluation of its variables and the variables.
    """
    from keras import ops
    from scipy.optimize import minimize

    shape = tuple(start.shape)
    latest: tuple[bytes, Evaluation] | None = None

    def found_at(x: np.ndarray) -> Evaluation:
        nonlocal latest
        variable = x.reshape(shape).astype(np.float32)
        # What the search accepts it has just evaluated.
        if latest is None or latest[0] != variable.tobytes():
            latest = variable.tobytes(), evaluate(variable)
        return latest[1]

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        found = found_at(x)
        return found.value, np.asarray(ops.convert_to_numpy(found.gradient), np.float64).ravel()

    minimize(
        value_and_gradient,
        np.asarray(ops.convert_to_numpy(start), np.float64).ravel(),
        jac=True,
        method="L-BFGS-B",
        callback=lambda x: on_step(found_at(x), ops.convert_to_tensor(x.reshape(shape).astype(np.float32))),
        options={"maxiter": n_steps, "maxfun": _MAX_EVALUATIONS * n_steps, "ftol": 0.0, "gtol": 0.0},
    )
