"""How a loss is descended: by which optimizer, along which gradient; for large images, tile by tile."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import InputError, SettingsError
from stochdeconv.networks.backward_rules import GRADIENT_RULES

if TYPE_CHECKING:
    import keras

Tensor = Any

OPTIMIZERS = ("adam", "normalized", "mean_normalized", "lbfgs")
# Evaluations an iteration of L-BFGS may cost on average; it needs hardly more than one where the function is smooth.
_MAX_EVALUATIONS = 20


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A loss and its gradient at some variables, on the device still: whoever reads a number waits for it.

    Attributes
    ----------
    gradient : tensor of the variables' shape
    names : tuple of str
        Of the terms.
    weights : tensor of shape (term,)
    per_term : sequence of tensors of shape (term, image)
        Unweighted losses, of the whole image or of each tile.
    finite : sequence of bool tensors
        Whether the gradient is, of each of these.
    cosines : sequence of tensors of shape (image,), or None
        Of the gradient rule's gradient with the true one; None where that is no other.
    """

    gradient: Tensor
    names: tuple[str, ...]
    weights: Tensor
    per_term: Sequence[Tensor]
    finite: Sequence[Tensor]
    cosines: Sequence[Tensor] | None

    @functools.cached_property
    def _mean(self) -> np.ndarray:
        """Losses of each term and image, the mean over tiles, float64."""
        return np.stack([_numbers(part) for part in self.per_term]).mean(axis=0, dtype=np.float64)

    @property
    def value(self) -> float:
        """The weighted sum, over terms and images."""
        return float(self._mean.sum(axis=1) @ _numbers(self.weights))

    @functools.cached_property
    def losses(self) -> dict[str, float]:
        """Unweighted loss of each term, averaged over the images; ``"cosine"`` is that of the gradient rule with the true gradient."""
        losses = dict(zip(self.names, self._mean.mean(axis=1).tolist(), strict=True))
        if self.cosines is not None:
            losses["cosine"] = float(np.mean([_numbers(part) for part in self.cosines]))
        return losses

    @property
    def is_finite(self) -> bool:
        """Whether losses and gradient are."""
        return bool(np.isfinite(self._mean.mean(axis=1)).all()) and all(bool(_numbers(part)) for part in self.finite)


def _numbers(tensor: Tensor) -> np.ndarray:
    """Return a tensor as NumPy."""
    from keras import ops

    return ops.convert_to_numpy(tensor)


@dataclass(frozen=True)
class Descent:
    """How a gradient becomes a step.

    Attributes
    ----------
    optimizer : {"adam", "normalized", "mean_normalized", "lbfgs"}, or any Keras optimizer: its name, config or an instance
        Adam (Kingma & Ba 2015, with their epsilon, see `steps.ADAM_EPSILON`); plain steps along the gradient divided by its root mean
        square, or by its mean absolute value as in DeepDream (Mordvintsev, Olah & Tyka 2015), image by image; or SciPy's L-BFGS-B, which
        chooses the length of its steps itself, for one image at a time, in float32.
        A Keras optimizer moves every image as a variable of its own. It is copied, and keeps nothing of a run. **Its learning rate is not
        used**: the parameterization knows the size of its variables, and `decay` is the schedule.
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
        An unknown name, or two that do not go together; a Keras optimizer with a schedule of its own, or that scales losses or
        clips all images' gradients together.
    """

    optimizer: str | Mapping[str, Any] | keras.optimizers.Optimizer = "adam"
    gradient_rule: str = "true"
    decay: bool = False
    tile_size: int | None = None
    tile_batch_size: int = 1

    def __post_init__(self):
        if not isinstance(self.optimizer, str) or self.optimizer not in OPTIMIZERS:
            object.__setattr__(self, "optimizer", _keras_optimizer(self.optimizer))
        if self.gradient_rule not in GRADIENT_RULES:
            raise InputError(f"gradient rule '{self.gradient_rule}' is unknown; there are {', '.join(GRADIENT_RULES)}")
        if self.tile_size is not None and self.tile_size < 1:
            raise InputError(f"tile_size is the side of a tile in pixels, at least 1; got {self.tile_size}")
        if self.tile_batch_size < 1:
            raise InputError(f"a batch is of at least 1 tile at a time; got {self.tile_batch_size}")
        if self.searches_lines:
            if self.gradient_rule != "true":
                raise SettingsError(
                    f"L-BFGS searches along lines for where a function falls, and gradient_rule={self.gradient_rule} is the gradient of no "
                    "function: use optimizer=adam with it, or gradient_rule=true"
                )
            if self.decay or self.tile_size is not None:
                raise InputError(
                    "L-BFGS chooses its own steps, on the whole image: decay and tile_size do not go with it"
                )

    @property
    def settings(self) -> dict[str, Any]:
        """All of it as JSON can hold it, a Keras optimizer by its config."""
        return {**vars(self), "optimizer": _config(self.optimizer)}

    @property
    def key(self) -> tuple:
        """Identify the traced program: descents of equal key differ in their schedule only."""
        optimizer = json.dumps(_config(self.optimizer), sort_keys=True, default=repr)
        return type(self.optimizer), optimizer, self.gradient_rule, self.tile_size, self.tile_batch_size

    @property
    def searches_lines(self) -> bool:
        """Whether steps are found by evaluating one unchanging function several times."""
        return self.optimizer == "lbfgs"

    def learning_rates(self, rate: float, n_steps: int) -> np.ndarray:
        """Return the learning rate of every step, (step,), float32."""
        if not self.decay:
            return np.full(n_steps, rate, np.float32)
        return np.array([rate * 0.5 * (1 + math.cos(math.pi * step / n_steps)) for step in range(n_steps)], np.float32)


def _keras_optimizer(identifier: Any) -> keras.optimizers.Optimizer:
    """Return Keras's optimizer of a name or config; refuse what does not go with a loop over independent images."""
    import keras

    try:
        optimizer = keras.optimizers.get(identifier)
    except (ValueError, TypeError, KeyError):
        optimizer = None
    if optimizer is None:
        named = f"'{identifier}'" if isinstance(identifier, str) else f"of type {type(identifier).__name__}"
        raise InputError(
            f'optimizer {named} is unknown; there are {", ".join(OPTIMIZERS)}, and Keras\'s: a name ("sgd"), a config or an instance'
        )
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or optimizer.loss_scale_factor is not None:
        raise InputError(
            f"the optimizer {optimizer.name} scales losses, for gradients in float16; here they are float32: leave the scale out"
        )
    if optimizer.global_clipnorm is not None:
        raise InputError(
            f"the optimizer {optimizer.name} has global_clipnorm={optimizer.global_clipnorm}, which would clip the gradients of all images "
            "together; use clipnorm: it clips each image's"
        )
    if not any(optimizer.learning_rate is variable for variable in optimizer.variables):
        raise InputError(
            f"the optimizer {optimizer.name} has a schedule of learning rates; they are the parameterization's here: "
            "pass learning_rate to it, and Descent(decay=True) for a half cosine"
        )
    return optimizer


def _config(optimizer: str | keras.optimizers.Optimizer) -> str | dict[str, Any]:
    """Describe an optimizer as JSON can hold it, without its name and the learning rate, which do nothing."""
    if isinstance(optimizer, str):
        return optimizer
    config = {name: value for name, value in optimizer.get_config().items() if name not in ("name", "learning_rate")}
    return {"class_name": f"{type(optimizer).__module__}.{type(optimizer).__qualname__}", "config": config}


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
    from scipy.optimize import minimize

    search = _LineSearch(evaluate, start, on_step)
    minimize(
        search.value_and_gradient,
        search.flat(start),
        jac=True,
        method="L-BFGS-B",
        callback=search.report,
        options={"maxiter": n_steps, "maxfun": _MAX_EVALUATIONS * n_steps, "ftol": 0.0, "gtol": 0.0},
    )


class _LineSearch:
    """The function as SciPy sees it: of flat float64 variables, its last evaluation remembered."""

    def __init__(self, evaluate: Callable, start: Tensor, on_step: Callable):
        self.evaluate, self.shape, self.on_step = evaluate, tuple(start.shape), on_step
        self.latest: tuple[bytes, Evaluation] | None = None

    @staticmethod
    def flat(tensor: Tensor) -> np.ndarray:
        """Return a tensor as SciPy wants it."""
        from keras import ops

        return np.asarray(ops.convert_to_numpy(tensor), np.float64).ravel()

    def variable(self, x: np.ndarray) -> np.ndarray:
        """Return what SciPy has as the variables."""
        return x.reshape(self.shape).astype(np.float32)

    def evaluated(self, x: np.ndarray) -> Evaluation:
        """Evaluate, unless it has just been done."""
        variable = self.variable(x)
        # What the search accepts it has just evaluated.
        if self.latest is None or self.latest[0] != variable.tobytes():
            self.latest = variable.tobytes(), self.evaluate(variable)
        return self.latest[1]

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return what SciPy asks for."""
        evaluation = self.evaluated(x)
        return evaluation.value, self.flat(evaluation.gradient)

    def report(self, x: np.ndarray) -> None:
        """Tell of an iteration."""
        from keras import ops

        self.on_step(self.evaluated(x), ops.convert_to_tensor(self.variable(x)))
