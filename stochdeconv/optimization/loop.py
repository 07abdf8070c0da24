"""The loop: every method, from activation maximization to sampled targets, is a loss handed to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from keras import ops

from stochdeconv import backend
from stochdeconv.errors import DivergenceError, InputError
from stochdeconv.losses import Loss, Term
from stochdeconv.networks.network import Network
from stochdeconv.optimization.descent import Descent, search_lines
from stochdeconv.optimization.parameterizations import Parameterization, fourier
from stochdeconv.optimization.programs import Evaluation, program_of
from stochdeconv.optimization.transforms import Transform, draw_views

# A mix of gradient rules is the true gradient alone from this fraction of the steps on.
_MIX_ENDS_AT = 0.75


@dataclass(frozen=True)
class Step:
    """What a callback sees after each step.

    Attributes
    ----------
    step, n_steps : int
        Steps done, steps in all.
    losses : mapping of str to float
        Unweighted loss of each term, averaged over the images; ``"cosine"`` is that of the gradient rule with the true gradient.
    images : callable
        () -> the images as they are now, ndarray (image, ...).
    """

    step: int
    n_steps: int
    losses: Mapping[str, float]
    images: Callable[[], np.ndarray]

    def __str__(self) -> str:
        return "  ".join(f"{name} {value:.4g}" for name, value in self.losses.items())


@dataclass(frozen=True, eq=False)
class OptimizationResult:
    """Images and how they came about.

    Attributes
    ----------
    images : ndarray of shape (image, ...), float32
        Images (image, height, width, channel), or the inputs of a network that takes something else.
        As the parameterization gives them; only bounded ones stay in [0, 1].
    history : list of dict
        Per step, the loss of each term averaged over the images: as it was before the step was made, where the gradient was taken; of
        L-BFGS, after it.
    settings : dict
        What the run depended on.
    """

    images: np.ndarray
    history: list[dict[str, float]]
    settings: dict[str, Any] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """Show the losses at the end in a notebook, and the images where they are pictures."""
        # Here alone: the loop itself knows no pictures.
        from stochdeconv.images import markup
        from stochdeconv.images.sheets import contact_sheet

        shown = markup.final_losses(self.history)
        if self.images.ndim == 4 and self.images.shape[-1] == 3:
            shown = markup.picture(contact_sheet(self.images), alt="the images") + shown
        return str(shown)


class OptimizationInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run; `result` is an OptimizationResult of what was done until then."""

    def __init__(self, result: OptimizationResult):
        super().__init__("interrupted")
        self.result = result


def optimize(
    model: Network,
    loss: Loss | Term,
    *,
    parameterization: Parameterization | None = None,
    n_steps: int = 256,
    transforms: Sequence[Transform] = (),
    descent: Descent | None = None,
    callback: Callable[[Step], None] | None = None,
) -> OptimizationResult:
    """Change images, or whatever the network takes, until a loss on its activations is small.

    Losses are summed over images and every image has its own variables, so images do not influence each other; the start and the
    random views of image i depend on (seed, i) alone.

    Parameters
    ----------
    model : Network
        An `ImageModel`, or a network of any other input.
    loss : Loss or Term
    parameterization : Parameterization, optional
        Owns the variables, their number and seed; for an `ImageModel` one Fourier image of its size by default.
    n_steps : int
    transforms : sequence of Transform
        The network sees the image through a new random view at every step; the key ``"input"`` stays the image itself.
        For inputs (height, width, channel) alone.
    descent : Descent, optional
        Adam on the true gradient by default.
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
    OptimizationInterrupted
        On Ctrl-C, with the images as they are.
    """
    loss = Loss.of(loss)
    descent = descent or Descent()
    transforms = [transform for transform in transforms if transform.moves]
    parameterization = parameterization or _one_image(model)
    if n_steps < 1:
        raise InputError(f"n_steps must be at least 1; got {n_steps}")
    if not loss.terms:
        raise InputError("there is nothing to optimise: the loss has no terms")
    for weighted in loss.terms:
        weighted.term.check(model.layer_shape)
    if transforms and len(model.input_shape) != 3:
        raise InputError(
            f"transforms are views of images (height, width, channel); model '{model.name}' takes {model.input_shape}: "
            "leave transforms out"
        )

    if descent.searches_lines:
        _check_line_search(loss, parameterization, transforms)

    views = draw_views(
        transforms,
        n_steps,
        parameterization.n_images,
        seed=parameterization.seed,
        first_index=parameterization.first_index,
    )
    shifts_only = all(transform.shifts_only for transform in transforms)
    views_kind = "none" if not transforms else "shift" if shifts_only else "affine"
    arrays = [_as_tensors(weighted.term.arrays) for weighted in loss.terms]
    weights = loss.weights(n_steps)
    rates = descent.learning_rates(parameterization.learning_rate, n_steps)
    shares = np.clip(1 - np.arange(n_steps) / max(_MIX_ENDS_AT * n_steps, 1), 0, 1).astype(np.float32)
    dtype = "float32" if descent.searches_lines else model.dtype

    settings = {
        "n_steps": n_steps,
        "parameterization": parameterization.key(),
        "learning_rate": parameterization.learning_rate,
        "transforms": [vars(transform) for transform in transforms],
        "descent": descent.settings,
        "dtype": dtype,
        "loss": {
            name: {"weight": w.weight, "joins_at": w.joins_at} for name, w in zip(loss.names, loss.terms, strict=True)
        },
    }
    variable = ops.convert_to_tensor(parameterization.start())
    if descent.tile_size is not None and max(variable.shape[1:3]) > descent.tile_size:
        tied = [name for name, weighted in zip(loss.names, loss.terms, strict=True) if weighted.term.is_tied_to_places]
        if tied:
            raise InputError(
                f"{', '.join(tied)} mean places of the whole image and cannot be asked of a tile: leave tile_size out"
            )
    program = program_of(model, loss, parameterization, views=views_kind, descent=descent, dtype=dtype)
    history: list[dict[str, float]] = []

    def evaluate(variable: Any, step: int) -> Evaluation:
        def weighted_by(row: np.ndarray) -> Evaluation:
            numbers = [ops.convert_to_tensor(part) for part in (views[step], row, shares[step])]
            return program.evaluate(
                variable, arrays, numbers, grid=(parameterization.seed, parameterization.first_index, step)
            )

        found = weighted_by(weights[step])
        if not found.is_finite:
            raise _divergence(weighted_by, found, weights[step], len(history) + 1, n_steps)
        return found

    def done(found: Evaluation, changed: Any) -> None:
        nonlocal variable
        variable = changed
        history.append(found.losses)
        if callback is not None:
            callback(Step(len(history), n_steps, found.losses, lambda: program.images(changed)))

    try:
        if descent.searches_lines:
            search_lines(lambda x: evaluate(ops.convert_to_tensor(x), 0), variable, n_steps, done)
        else:
            state = program.initial_state(tuple(variable.shape))
            for step in range(n_steps):
                found = evaluate(variable, step)
                moved, state = program.moved(variable, state, found.gradient, ops.convert_to_tensor(rates[step]))
                done(found, parameterization.constrained(moved, step + 1, found.gradient))
    except KeyboardInterrupt as interrupt:
        raise OptimizationInterrupted(OptimizationResult(program.images(variable), history, settings)) from interrupt
    except Exception as error:
        if backend.is_out_of_memory(error):
            raise InputError(
                f"the device has not enough memory for {parameterization.n_images} images at a time; make fewer at a time (--batch-size), "
                "smaller ones (--size), or, in a dream, smaller tiles (--tile-size)"
            ) from error
        raise
    return OptimizationResult(program.images(variable), history, settings)


def in_stage(callback: Callable[[Step], None] | None, stage: int, n_stages: int) -> Callable[[Step], None]:
    """Count the steps of one of several runs of equal length through all of them, for a callback that watches the whole."""

    def counted(step: Step) -> None:
        if callback is not None:
            callback(replace(step, step=stage * step.n_steps + step.step, n_steps=n_stages * step.n_steps))

    return counted


def optimize_in_batches(
    run: Callable[[int, int, Callable[[Step], None]], OptimizationResult],
    n_images: int,
    *,
    batch_size: int,
    callback: Callable[[Step], None] | None = None,
) -> OptimizationResult:
    """Run `optimize` for as many images as wanted, in batches of nearly equal size.

    Parameters
    ----------
    run : callable
        (first index, number of images, callback) -> OptimizationResult.
    n_images, batch_size : int
    callback : callable, optional
        Sees steps counted through all batches.

    Returns
    -------
    OptimizationResult
        All images; each row of the history carries its ``batch`` and ``step``.

    Raises
    ------
    OptimizationInterrupted
        On Ctrl-C, with the images as far as they came.
    """
    if n_images < 1 or batch_size < 1:
        raise InputError(f"n_images and batch_size must be at least 1; got {n_images} and {batch_size}")
    n_batches = math.ceil(n_images / batch_size)
    size = math.ceil(n_images / n_batches)
    done: list[OptimizationResult] = []

    def joined() -> OptimizationResult:
        history = [
            {"batch": batch, "step": step + 1, **losses}
            for batch, result in enumerate(done)
            for step, losses in enumerate(result.history)
        ]
        return OptimizationResult(np.concatenate([result.images for result in done]), history, done[0].settings)

    for batch, first in enumerate(range(0, n_images, size)):
        try:
            done.append(run(first, min(size, n_images - first), in_stage(callback, batch, n_batches)))
        except KeyboardInterrupt as interrupt:
            if isinstance(interrupt, OptimizationInterrupted):
                done.append(interrupt.result)
            elif not done:
                raise
            raise OptimizationInterrupted(joined()) from interrupt
    return joined()


def _one_image(model: Network) -> Parameterization:
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
    found = [name for name, present in changing.items() if present]
    if found:
        raise InputError(
            f"L-BFGS searches along lines of a function that stays the same; {' and '.join(found)} change it: "
            "leave them out, or use the optimizer 'adam'"
        )
    if parameterization.n_images > 1:
        raise InputError(
            f"L-BFGS chooses the length of its steps for one image; got {parameterization.n_images}: use a batch size of 1"
        )


def _as_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: ops.convert_to_tensor(array) for name, array in arrays.items()}


def _divergence(
    evaluate: Callable[[np.ndarray], Evaluation],
    found: Evaluation,
    weights: np.ndarray,
    step: int,
    n_steps: int,
) -> DivergenceError:
    """Name the term whose value, or whose gradient, is not finite."""
    bad = [f"the loss '{name}' became {value}" for name, value in found.losses.items() if not math.isfinite(value)]
    if not bad:
        alone = zip(found.losses, np.diag(weights), strict=True)
        names = [f"'{name}'" for name, weight in alone if not evaluate(weight).is_finite]
        # Some backends let a term of weight 0 spoil the gradient of the others: then it is one or more of these.
        if names:
            bad.append(f"the gradient of the loss {' or '.join(names)} became NaN or infinite")
    what = bad[0] if bad else "the sum of the gradients became infinite"
    return DivergenceError(
        f"{what} at step {step} of {n_steps}; a smaller learning rate or weight, or --dtype float32, may help"
    )
