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
from stochdeconv.gradients import GRADIENT_RULES, loss_gradient
from stochdeconv.losses import Loss, Term
from stochdeconv.networks import Network
from stochdeconv.parameterizations import Parameterization
from stochdeconv.transforms import Transform, draw_views, view

# A mix of gradient rules is the true gradient alone from this fraction of the steps on.
_MIX_ENDS_AT = 0.75


@dataclass(frozen=True)
class Descent:
    """How a gradient becomes a step.

    Attributes
    ----------
    optimizer : {"adam", "normalized"}
        Adam (Kingma & Ba 2015), or plain steps along the gradient divided by its root mean square, image by image.
    gradient_rule : {"true", "guided", "deconvnet", "mix"}
        See `gradients.loss_gradient`. Every rule but ``"true"`` gives the gradient of no function and costs further backward passes.
    decay : bool
        Let the learning rate fall to zero along a half cosine.
    """

    optimizer: str = "adam"
    gradient_rule: str = "true"
    decay: bool = False

    def __post_init__(self):
        if self.optimizer not in ("adam", "normalized"):
            raise InputError(f"optimizer '{self.optimizer}' is unknown; there are 'adam' and 'normalized'")
        if self.gradient_rule not in GRADIENT_RULES:
            raise InputError(f"gradient rule '{self.gradient_rule}' is unknown; there are {', '.join(GRADIENT_RULES)}")


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
        Per step, the loss of each term averaged over the images.
    settings : dict
        What the run depended on.
    """

    images: np.ndarray
    history: list[dict[str, float]]
    settings: dict[str, Any] = field(default_factory=dict)


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
        Nothing to optimise, nothing to start from, views of what is no image, or not enough memory on the device.
    OptimizationInterrupted
        On Ctrl-C, with the images as they are.
    """
    loss = Loss.of(loss)
    descent = descent or Descent()
    parameterization = parameterization or model.default_parameterization()
    if n_steps < 1:
        raise InputError(f"n_steps must be at least 1; got {n_steps}")
    if not loss.terms:
        raise InputError("there is nothing to optimise: the loss has no terms")
    if transforms and len(model.input_shape) != 3:
        raise InputError(
            f"transforms are views of images (height, width, channel); model '{model.name}' takes {model.input_shape}: "
            "leave transforms out"
        )

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
    rates = _learning_rates(parameterization.learning_rate, n_steps, descent)
    shares = np.clip(1 - np.arange(n_steps) / max(_MIX_ENDS_AT * n_steps, 1), 0, 1).astype(np.float32)

    settings = {
        "n_steps": n_steps,
        "parameterization": parameterization.key(),
        "learning_rate": parameterization.learning_rate,
        "transforms": [vars(transform) for transform in transforms],
        "descent": vars(descent),
        "dtype": model.dtype,
        "loss": {
            name: {"weight": w.weight, "joins_at": w.joins_at} for name, w in zip(loss.names, loss.terms, strict=True)
        },
    }
    variable = ops.convert_to_tensor(parameterization.start())
    program = _program(model, loss, parameterization, views_kind, descent, tuple(variable.shape))
    state = program.initial_state
    history: list[dict[str, float]] = []
    try:
        for step in range(n_steps):
            numbers = [ops.convert_to_tensor(part) for part in (views[step], weights[step], rates[step], shares[step])]
            before = variable, state
            variable, state, per_term, cosine, finite = program.step(variable, state, arrays, *numbers)
            means = np.mean(ops.convert_to_numpy(per_term), axis=1, dtype=np.float64)
            losses = dict(zip(loss.names, means.tolist(), strict=True))
            if not (all(map(math.isfinite, losses.values())) and bool(ops.convert_to_numpy(finite))):
                raise _divergence(program, losses, before, arrays, numbers, step + 1, n_steps)
            if descent.gradient_rule != "true":
                losses["cosine"] = float(np.mean(ops.convert_to_numpy(cosine)))
            variable = parameterization.constrained(variable, step + 1)
            history.append(losses)
            if callback is not None:
                current = variable
                callback(Step(step + 1, n_steps, losses, lambda current=current: program.images(current)))
    except KeyboardInterrupt as interrupt:
        raise OptimizationInterrupted(OptimizationResult(program.images(variable), history, settings)) from interrupt
    except Exception as error:
        if backend.is_out_of_memory(error):
            raise InputError(
                f"the device has not enough memory for {parameterization.n_images} images at a time; use a smaller --batch-size"
            ) from error
        raise
    return OptimizationResult(program.images(variable), history, settings)


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

        def counted(step: Step, batch: int = batch) -> None:
            if callback is not None:
                all_steps = n_batches * step.n_steps
                callback(Step(batch * step.n_steps + step.step, all_steps, step.losses, step.images))

        try:
            done.append(run(first, min(size, n_images - first), counted))
        except KeyboardInterrupt as interrupt:
            if isinstance(interrupt, OptimizationInterrupted):
                done.append(interrupt.result)
            elif not done:
                raise
            raise OptimizationInterrupted(joined()) from interrupt
    return joined()


def _learning_rates(rate: float, n_steps: int, descent: Descent) -> np.ndarray:
    if not descent.decay:
        return np.full(n_steps, rate, np.float32)
    return np.array([rate * 0.5 * (1 + math.cos(math.pi * step / n_steps)) for step in range(n_steps)], np.float32)


def _as_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: ops.convert_to_tensor(array) for name, array in arrays.items()}


def _divergence(
    program: _Program, losses: Mapping[str, float], before: tuple, arrays: list, numbers: list, step: int, n_steps: int
) -> DivergenceError:
    """Name the term whose value, or whose gradient, is not finite."""
    bad = [f"the loss '{name}' became {value}" for name, value in losses.items() if not math.isfinite(value)]
    if not bad:
        views, weights, *rest = numbers
        for i, name in enumerate(losses):
            alone = ops.convert_to_tensor(np.eye(len(losses), dtype=np.float32)[i]) * weights
            if not bool(ops.convert_to_numpy(program.step(*before, arrays, views, alone, *rest)[-1])):
                bad.append(f"the gradient of the loss '{name}' became NaN or infinite")
    what = bad[0] if bad else "the sum of the gradients became infinite"
    return DivergenceError(
        f"{what} at step {step} of {n_steps}; a smaller learning rate or weight, or --dtype float32, may help"
    )


# Programs a network keeps; more would hold more memory than compiling anew is worth.
_MAX_PROGRAMS = 16


@dataclass(frozen=True)
class _Program:
    """The compiled step of one kind of run: variables, optimizer state and numbers in, the same out."""

    step: Callable[..., tuple]
    decode: Callable[[Any], Any]
    initial_state: list[Any]

    def images(self, variable: Any) -> np.ndarray:
        """Return the images the variables stand for, as NumPy."""
        return np.asarray(ops.convert_to_numpy(self.decode(variable)), np.float32)


def _program(
    model: Network,
    loss: Loss,
    parameterization: Parameterization,
    views: str,
    descent: Descent,
    shape: tuple[int, ...],
) -> _Program:
    terms = [weighted.term for weighted in loss.terms]
    # Arrays are handed in at every step: a program that kept those it was compiled with would keep whole statistics alive.
    programs = [replace(term, arrays={}) if term.is_described_by_fields else term for term in terms]
    names = tuple(term if term.is_described_by_fields else id(term) for term in programs)
    key = (names, parameterization.key(), views, descent.optimizer, descent.gradient_rule, shape)
    known = model.programs
    if key not in known:
        if len(known) >= _MAX_PROGRAMS:
            del known[next(iter(known))]
        known[key] = _compiled(model, programs, loss.layers, parameterization, views, descent, shape)
    return known[key]


def _compiled(
    model: Network,
    terms: Sequence[Term],
    layers: Sequence[str],
    parameterization: Parameterization,
    views: str,
    descent: Descent,
    shape: tuple[int, ...],
) -> _Program:
    rule = descent.gradient_rule
    rules = ("true",) if rule == "true" else ("true", "guided" if rule == "mix" else rule)
    forwards = {name: model.forward(layers, gradient_rule=name, dtype=model.dtype) for name in rules}
    to_images = parameterization.images
    moved = _adam if descent.optimizer == "adam" else _normalized

    def step(variable, state, arrays, matrices, weights, rate, guided_share):
        def seen_by(forward):
            def activations(x):
                images = to_images(x)
                seen = images if views == "none" else view(images, matrices, shifts_only=views == "shift")
                return {**forward(seen), "input": images}

            return activations

        def loss(activations):
            rows = [term.evaluate(activations, array) for term, array in zip(terms, arrays, strict=True)]
            per_term = ops.stack(rows)
            return ops.sum(per_term * weights[:, None]), per_term

        activations = {name: seen_by(forward) for name, forward in forwards.items()}
        per_term, gradient, cosine = loss_gradient(variable, activations, loss, rule, guided_share)
        move, state = moved(gradient, state)
        return variable - rate * move, state, per_term, cosine, ops.all(ops.isfinite(gradient))

    initial_state = [ops.zeros(()), ops.zeros(shape), ops.zeros(shape)] if moved is _adam else []
    return _Program(backend.compile(step), backend.compile(to_images), initial_state)


# Written out, since keras.optimizers cannot be called as functions of their state on TensorFlow (stateless_apply refuses).
def _adam(gradient: Any, state: list[Any]) -> tuple[Any, list[Any]]:
    """Direction of Adam (Kingma & Ba 2015, beta 0.9 and 0.999); the state is the steps done and both moments."""
    done, first, second = state
    done = done + 1.0
    first = 0.9 * first + 0.1 * gradient
    second = 0.999 * second + 0.001 * gradient**2
    unbiased = ops.sqrt(second / (1.0 - 0.999**done))
    return first / (1.0 - 0.9**done) / (unbiased + 1e-8), [done, first, second]


def _normalized(gradient: Any, state: list[Any]) -> tuple[Any, list[Any]]:
    """Gradient divided by its root mean square, image by image."""
    axes = tuple(range(1, len(gradient.shape)))
    return gradient / (ops.sqrt(ops.mean(gradient**2, axis=axes, keepdims=True)) + 1e-12), state
