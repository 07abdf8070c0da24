"""The loop: every method, from activation maximization to sampled targets, is a loss handed to it."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from keras import ops

from stochdeconv import backend
from stochdeconv.errors import DivergenceError, InputError
from stochdeconv.losses import Loss, Term
from stochdeconv.networks.network import Network
from stochdeconv.optimization.descent import Descent, search_lines
from stochdeconv.optimization.parameterizations import Parameterization, fourier
from stochdeconv.optimization.programs import CompiledSteps, Evaluation, program_of
from stochdeconv.optimization.results import OptimizationResult, Step, gather, in_stage, part_images, parts_of
from stochdeconv.optimization.transforms import Transform, draw_views

# A mix of gradient rules is the true gradient alone from this fraction of the steps on.
_MIX_ENDS_AT = 0.75


def optimize(
    model: Network,
    loss: Loss | Term | Callable[[slice], Loss],
    *,
    parameterization: Parameterization | None = None,
    n_steps: int = 256,
    transforms: Sequence[Transform] = (),
    descent: Descent | None = None,
    batch_size: int | None = None,
    callback: Callable[[Step], None] | None = None,
) -> OptimizationResult:
    """Change images, or whatever the network takes, until a loss on its activations is small.

    Losses are summed over images and every image has its own variables, so images do not influence each other; the start and the
    random views of image i depend on (seed, i) alone. Ctrl-C ends the run: what there is by then is returned.

    Parameters
    ----------
    model : Network
        An `ImageModel`, or a network of any other input.
    loss : Loss, Term or callable
        What is asked of every image alike, or in one batch. Where images have targets of their own and come in batches, a callable
        gives the loss of some of the images, a slice of all: ``lambda images: match(targets[images])``.
    parameterization : Parameterization, optional
        Owns the variables, their number and seed; for an `ImageModel` one Fourier image of its size by default.
    n_steps : int
    transforms : sequence of Transform
        The network sees the image through a new random view at every step; the key ``"input"`` stays the image itself.
        For inputs (height, width, channel) alone.
    descent : Descent, optional
        Adam on the true gradient by default.
    batch_size : int, optional
        Images at a time, in batches of nearly equal size; all of them by default. Where the device has not enough memory for so many,
        there are half as many, and a warning.
    callback : callable, optional
        Called with a `Step` after each step.

    Returns
    -------
    OptimizationResult

    Raises
    ------
    DivergenceError
        A loss or its gradient became NaN or infinite; the message names the step and the term.
    InputError
        Nothing to optimise, a channel or class that is not there, nothing to start from, views of what is no image, or not enough memory
        on the device.
    KeyboardInterrupt
        On Ctrl-C before the first batch has begun.
    """
    parameterization = parameterization or _start_of(model)
    descent = descent or Descent()
    transforms = [transform for transform in transforms if transform.moves]
    if n_steps < 1:
        raise InputError(f"n_steps must be at least 1; got {n_steps}")
    if transforms and len(model.input_shape) != 3:
        raise InputError(
            f"transforms are views of images (height, width, channel); model '{model.name}' takes {model.input_shape}: "
            "leave transforms out"
        )
    batches = part_images(parameterization.n_images, batch_size)
    if len(batches) > 1 and not hasattr(parameterization, "take"):
        raise InputError(
            f"'{type(parameterization).__name__}' has no method take(images), which gives the variables of some of the images: "
            f"write one, or make all {parameterization.n_images} at a time"
        )

    def make(images: slice, number: int, n_batches: int) -> OptimizationResult:
        result = _Batch(
            model,
            _loss_of(loss, images),
            parameterization if n_batches == 1 else parameterization.take(images),
            n_steps,
            transforms,
            descent,
            number,
            in_stage(callback, number, n_batches),
        ).run()
        if number and not result.complete and not result.history:
            raise KeyboardInterrupt  # nothing came of this batch
        return _numbered(result, number) if batch_size is not None or n_batches > 1 else result

    # A loss that came whole, for one batch, may hold targets of every image.
    can_part = hasattr(parameterization, "take") and (batch_size is not None or not isinstance(loss, Loss | Term))
    return OptimizationResult.joined(gather(_in_fitting_batches(make, batches, can_part=can_part)))


def _in_fitting_batches(
    make: Callable[[slice, int, int], OptimizationResult], batches: list[slice], *, can_part: bool
) -> Iterator[OptimizationResult]:
    """Make batch after batch; one that the device has no memory for is made in halves, and those that follow are as small."""
    n_made = 0
    while batches:
        images, *others = batches
        n_images = images.stop - images.start
        try:
            result = make(images, n_made, n_made + len(batches))
        except Exception as error:
            if not backend.is_out_of_memory(error):
                raise
            if n_images == 1 or not can_part:
                raise InputError(
                    f"the device has not enough memory for {n_images} image{'s' * (n_images > 1)} at a time; make smaller "
                    "ones (size=), or, in a dream, smaller tiles (tile_size=)"
                ) from error
            at_most = math.ceil(n_images / 2)
            warnings.warn(
                f"the device has not enough memory for {n_images} images at a time: going on with {at_most} (batch_size={at_most})",
                stacklevel=4,
            )
            batches = [part for whole in batches for part in parts_of(whole, at_most)]
        else:
            yield result
            n_made, batches = n_made + 1, others


def _loss_of(loss: Loss | Term | Callable[[slice], Loss], images: slice) -> Loss:
    """Return the loss of some of the images."""
    if isinstance(loss, Loss | Term):
        return Loss.of(loss)
    if not callable(loss):
        raise InputError(f"expected a loss, such as losses.unit(layer, channel); got {loss!r}")
    part = loss(images)
    if not isinstance(part, Loss | Term):
        raise InputError(
            "a function in place of a loss takes a slice of the images and returns their loss; it returned "
            f"{type(part).__name__}. A function of activations becomes a loss by the decorator losses.loss"
        )
    return Loss.of(part)


def _numbered(result: OptimizationResult, batch: int) -> OptimizationResult:
    history = [{"batch": batch, "step": step + 1, **losses} for step, losses in enumerate(result.history)]
    return replace(result, history=history)


class _Batch:
    """Images that are changed together, on their way.

    Attributes
    ----------
    variable : tensor of shape (image, ...)
        As it is now.
    history : list of dict
        Of the steps made.
    """

    def __init__(
        self,
        model: Network,
        loss: Loss,
        parameterization: Parameterization,
        n_steps: int,
        transforms: Sequence[Transform],
        descent: Descent,
        number: int,
        callback: Callable[[Step], None] | None,
    ):
        if not loss.terms:
            raise InputError("there is nothing to optimise: the loss has no terms")
        for weighted in loss.terms:
            weighted.term.check(model.layer_shape)
        if descent.searches_lines:
            _check_line_search(loss, parameterization, transforms)
        self.parameterization, self.n_steps, self.descent = parameterization, n_steps, descent
        self.number, self.callback = number, callback
        self.variable = ops.convert_to_tensor(parameterization.start())
        _check_tiles(descent, loss, self.variable.shape)
        dtype = "float32" if descent.searches_lines else model.dtype
        self.settings = {
            "n_steps": n_steps,
            "parameterization": parameterization.key(),
            "learning_rate": parameterization.learning_rate,
            "transforms": [vars(transform) for transform in transforms],
            "descent": descent.settings,
            "dtype": dtype,
            "loss": {
                name: {"weight": w.weight, "joins_at": w.joins_at}
                for name, w in zip(loss.names, loss.terms, strict=True)
            },
        }
        seeds = {"seed": parameterization.seed, "first_index": parameterization.first_index}
        self._views = draw_views(transforms, n_steps, parameterization.n_images, **seeds)
        self._arrays = [ops.convert_to_tensor(array) for array in loss.arrays]
        self._weights = loss.weights(n_steps)
        self._shares = np.clip(1 - np.arange(n_steps) / max(_MIX_ENDS_AT * n_steps, 1), 0, 1).astype(np.float32)
        self._program = program_of(
            model, loss, parameterization, views=_views_kind(transforms), descent=descent, dtype=dtype
        )
        self.history: list[dict[str, float]] = []

    def run(self) -> OptimizationResult:
        """Make all steps, or those until Ctrl-C."""
        complete = True
        try:
            if self._program.steps is None:
                search_lines(self._evaluate_still, self.variable, self.n_steps, self._advance)
            else:
                self._descend(self._program.steps)
        except KeyboardInterrupt:
            complete = False
        return OptimizationResult(self._program.images(self.variable), self.history, self.settings, complete)

    def _descend(self, steps: CompiledSteps) -> None:
        """Make all steps; the numbers of one are read while the device computes the next."""
        rates = self.descent.learning_rates(self.parameterization.learning_rate, self.n_steps)
        state = steps.initial_state(tuple(self.variable.shape))
        variable = self.variable
        made: tuple[int, Any, Evaluation, Any] | None = None
        for step in range(self.n_steps):
            evaluation = self._weighted(variable, step, self._weights[step])
            moved, state = steps.moved(variable, state, evaluation.gradient, ops.convert_to_tensor(rates[step]))
            after = self.parameterization.constrained(moved, step + 1, evaluation.gradient)
            if made is not None:
                self._finish(*made)
            variable, made = after, (step, variable, evaluation, after)
        if made is not None:
            self._finish(*made)

    def _finish(self, step: int, before: Any, evaluation: Evaluation, after: Any) -> None:
        """Count a step that was made, if it went well."""
        self._check_finite(before, step, evaluation)
        self._advance(evaluation, after)

    def _evaluate_still(self, variable: np.ndarray) -> Evaluation:
        """Evaluate the one function that is searched along lines."""
        evaluation = self._weighted(ops.convert_to_tensor(variable), 0, self._weights[0])
        self._check_finite(variable, 0, evaluation)
        return evaluation

    def _check_finite(self, variable: Any, step: int, evaluation: Evaluation) -> None:
        if not evaluation.is_finite:
            raise self._divergence(variable, step, evaluation)

    def _weighted(self, variable: Any, step: int, weights: np.ndarray) -> Evaluation:
        numbers = [ops.convert_to_tensor(part) for part in (self._views[step], weights, self._shares[step])]
        grid = (self.parameterization.seed, self.parameterization.first_index, step)
        return self._program.evaluate(variable, self._arrays, numbers, grid=grid)

    def _advance(self, evaluation: Evaluation, variable: Any) -> None:
        self.variable = variable
        self.history.append(evaluation.losses)
        if self.callback is not None:
            n_made = len(self.history)
            images = functools.partial(self._program.images, variable)
            self.callback(Step(n_made, self.n_steps, evaluation.losses, images, self.number, n_made))

    def _divergence(self, variable: Any, step: int, evaluation: Evaluation) -> DivergenceError:
        """Name the term whose value, or whose gradient, is not finite."""
        losses = evaluation.losses
        bad = [f"the loss '{name}' became {value}" for name, value in losses.items() if not math.isfinite(value)]
        if not bad:
            alone = zip(losses, np.diag(self._weights[step]), strict=True)
            names = [f"'{name}'" for name, weight in alone if not self._weighted(variable, step, weight).is_finite]
            # Some backends let a term of weight 0 spoil the gradient of the others: then it is one or more of these.
            if names:
                bad.append(f"the gradient of the loss {' or '.join(names)} became NaN or infinite")
        what = bad[0] if bad else "the sum of the gradients became infinite"
        return DivergenceError(
            f"{what} at step {len(self.history) + 1} of {self.n_steps}; a smaller learning rate or weight, or dtype=float32, may help"
        )


def _views_kind(transforms: Sequence[Transform]) -> str:
    if not transforms:
        return "none"
    return "bilinear" if any(transform.interpolates for transform in transforms) else "nearest"


def _check_tiles(descent: Descent, loss: Loss, shape: Sequence[int]) -> None:
    """Refuse to ask a tile for what means places of the whole image."""
    if descent.tile_size is None or max(shape[1:3]) <= descent.tile_size:
        return
    tied = [name for name, weighted in zip(loss.names, loss.terms, strict=True) if weighted.term.is_tied_to_places]
    if tied:
        raise InputError(
            f"{', '.join(tied)} mean places of the whole image and cannot be asked of a tile: leave tile_size out"
        )


def _start_of(model: Network) -> Parameterization:
    """Start from one Fourier image of a network's size, where it takes images."""
    if not model.takes_images:
        raise InputError(
            f"what an input of model '{model.name}' starts from is not known: "
            f"pass parameterization=parameterizations.pixels(start), start of shape {model.input_shape}"
        )
    height, width, n_channels = model.input_shape
    return fourier((height, width), n_channels=n_channels)


def _check_line_search(loss: Loss, parameterization: Parameterization, transforms: Sequence[Transform]) -> None:
    """Refuse with L-BFGS what makes the function another one from one evaluation to the next."""
    changing = {
        "random views (jitter, scale, rotate)": bool(transforms),
        "losses that join later": any(weighted.joins_at for weighted in loss.terms),
        "constraints between steps (blur, clip)": bool(getattr(parameterization, "constraints", ())),
    }
    present = [name for name, is_there in changing.items() if is_there]
    if present:
        raise InputError(
            f"L-BFGS searches along lines of a function that stays the same; {' and '.join(present)} change it: "
            "leave them out, or use the optimizer 'adam'"
        )
    if parameterization.n_images > 1:
        raise InputError(
            f"L-BFGS chooses the length of its steps for one image; got {parameterization.n_images}: use a batch size of 1"
        )
