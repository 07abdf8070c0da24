"""Activation maximization: the baseline that the sampled images are compared with, and a look at any unit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import InputError, LayerNotFoundError

if TYPE_CHECKING:
    from stochdeconv.models import ImageModel
    from stochdeconv.optimize import Step
    from stochdeconv.run_folder import RunResult


@dataclass(frozen=True)
class Preset:
    """Settings of one way to maximise; `l2`, `blur`, `jitter` and `clip` can be overridden one by one.

    Networks differ a hundredfold in how steeply their scores rise, so no one weight of L2 decay suits them all (Simonyan et al. leave it
    open): a preset says instead how far pixels may go before the decay holds them.

    Attributes
    ----------
    parameterization : {"pixels", "fourier"}
    optimizer : {"adam", "normalized"}
    learning_rate : float
        In units of the variables; pixels are in [0, 1].
    amplitude : float
        Distance from the training mean, in 8-bit pixel values, at which L2 decay is as strong as what the layer's scores ask for at the
        start, see `balanced_decay`; 0 for no decay.
    l2 : float or None
        Weight of the summed squared network input, counted in 8-bit pixel values about the training mean; None: from `amplitude`.
    blur : float
        Standard deviation, in pixels, of a Gaussian blur applied every four steps; 0 for none.
    jitter : int
        Largest random shift, in pixels.
    clip : float
        Keep pixels within this distance of mid-grey, in [0, 1] units (0.5: valid images); 0 for no clipping.
    scale, rotate : float
        Largest random change of size (fraction) and rotation (degrees).
    """

    parameterization: str
    optimizer: str
    learning_rate: float
    amplitude: float = 0.0
    l2: float | None = None
    blur: float = 0.0
    jitter: int = 0
    clip: float = 0.0
    scale: float = 0.0
    rotate: float = 0.0


#: simonyan: Simonyan, Vedaldi & Zisserman 2014. regularised: Yosinski et al. 2015. fourier: Olah, Mordvintsev & Schubert 2017.
#: The amplitudes give SqueezeNet the weights of 3e-6 and 1e-6 that were chosen for it, see docs/results.
PRESETS = {
    "simonyan": Preset("pixels", "normalized", learning_rate=0.01, amplitude=40),
    "regularised": Preset("pixels", "normalized", learning_rate=0.03, amplitude=120, blur=1.0, jitter=8, clip=0.5),
    "fourier": Preset("fourier", "adam", learning_rate=0.05, jitter=16, scale=0.1, rotate=5.0),
}

# Standard deviation of the starting noise of pixels, in [0, 1] units: enough that seeds part, too little to see.
_START_NOISE = 0.01
# Images that tell how steeply a network's scores rise.
_N_PROBES = 8


def maximize(
    model: ImageModel,
    class_name: str | int | None = None,
    *,
    unit: str | None = None,
    preset: str = "fourier",
    l2: float | None = None,
    blur: float | None = None,
    jitter: int | None = None,
    clip: float | None = None,
    n_images: int = 8,
    n_steps: int = 256,
    size: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
    callback: Callable[[Step], None] | None = None,
) -> RunResult:
    """Find images that raise a class neuron, or any unit, as far as it goes.

    Parameters
    ----------
    model : ImageModel
    class_name : str or int, optional
        Name, wnid or index; its logit, before the softmax (and before a last ReLU), is maximised.
    unit : str, optional
        ``LAYER:CHANNEL`` (mean over positions) or ``LAYER:CHANNEL:ROW:COLUMN``, instead of a class.
    preset : {"simonyan", "regularised", "fourier"}
        See `PRESETS`.
    l2, blur, jitter, clip : optional
        Override the preset's; see `Preset` for units.
    n_images, n_steps, batch_size, seed : int
    size : int, optional
        Side of the images in pixels; the network's own by default, others where the network is convolutional throughout.
    callback : callable, optional
        Called with a `Step` after each step.

    Returns
    -------
    RunResult

    Raises
    ------
    InputError
        Neither or both of class and unit were given, or the preset is unknown.
    LayerNotFoundError, ClassNotFoundError
        The unit or class does not exist.
    RunInterrupted
        On Ctrl-C, with the images as far as they came.
    """
    from stochdeconv import losses, parameterizations, regularizers, transforms
    from stochdeconv.descent import Descent
    from stochdeconv.optimize import optimize, optimize_in_batches
    from stochdeconv.run_folder import recorded_run

    if preset not in PRESETS:
        raise InputError(f"preset '{preset}' is unknown; there are {', '.join(PRESETS)}")
    if (class_name is None) == (unit is None):
        raise InputError("give either a class or --unit LAYER:CHANNEL[:ROW:COLUMN], one of the two")
    overrides = {"l2": l2, "blur": blur, "jitter": jitter, "clip": clip}
    given = {name: value for name, value in overrides.items() if value is not None}
    if any(value < 0 for value in given.values()):
        raise InputError(f"l2, blur, jitter and clip must be at least 0; got {given}")
    how = replace(PRESETS[preset], **given)
    if l2 is not None:
        how = replace(how, amplitude=0.0)
    if how.parameterization == "fourier" and (how.blur or how.clip):
        raise InputError(
            "--blur and --clip act on pixels; the preset 'fourier' is bounded by its sigmoid: use 'regularised'"
        )

    if size is not None and size < 1:
        raise InputError(f"size is the side of the images in pixels, at least 1; got {size}")
    image_size = model.input_size if size is None else (size, size)
    found = None
    if unit is None:
        found = model.find_class(class_name)
        loss = losses.unit(model.score_layer, found.index) * 1.0
    else:
        loss = losses.unit(*parse_unit(model, unit)) * 1.0
    mean_color, grey_levels = _input_origin(model)
    if how.l2 is None:
        how = replace(how, l2=0.0)
        if how.amplitude:
            term = loss.terms[0].term
            how = replace(
                how, l2=balanced_decay(model, term.layer, term.position, amplitude=how.amplitude, size=image_size)
            )
    if how.l2:
        origin = np.asarray(model.preprocess(mean_color[None, None, None]), np.float32)[0, 0, 0]
        loss = loss + how.l2 * regularizers.l2(grey_levels, origin)
    views = [transforms.Transform(how.jitter, how.scale, how.rotate)] if how.jitter or how.scale or how.rotate else []
    constraints = []
    if how.blur:
        constraints.append(parameterizations.GaussianBlur(how.blur))
    if how.clip:
        constraints.append(parameterizations.Clip(0.5 - how.clip, 0.5 + how.clip))

    def run(first: int, n: int, on_step: Callable[[Step], None]):
        seeds = {"n_images": n, "seed": seed, "first_index": first, "learning_rate": how.learning_rate}
        if how.parameterization == "fourier":
            variables = parameterizations.fourier(image_size, **seeds)
        else:
            start = np.broadcast_to(mean_color, (*image_size, 3))
            variables = parameterizations.pixels(start, noise=_START_NOISE, constraints=constraints, **seeds)
        descent = Descent(how.optimizer)
        return optimize(
            model,
            loss,
            parameterization=variables,
            n_steps=n_steps,
            transforms=views,
            descent=descent,
            callback=on_step,
        )

    settings = {"preset": preset, "unit": unit, **vars(how), "n_steps": n_steps, "batch_size": batch_size}
    result = recorded_run(
        "maximize",
        lambda: optimize_in_batches(run, n_images, batch_size=batch_size, callback=callback),
        model=model,
        found_class=found,
        settings=settings,
        seed=seed,
    )
    name = loss.names[0]
    if all(row[name] == 0 for row in result.history):
        warnings.warn(
            f"{unit or found.label} did not fire in any step, so there was no gradient to follow; "
            "a layer's values before its ReLU have one: LAYER_linear:CHANNEL",
            stacklevel=2,
        )
    return result


def balanced_decay(
    model: ImageModel, layer: str, position: tuple[int, int] | None, *, amplitude: float, size: tuple[int, int]
) -> float:
    """Find the weight of L2 decay that lets pixels move about `amplitude` 8-bit values from the training mean.

    Decay pulls a pixel at distance x back with 2 · weight · x; the scores pull with their gradient g. Both are equal at the amplitude
    for weight = g / (2 · amplitude), where g is the root mean square over some starting images, the layer's channels and the pixels that
    move them.

    Parameters
    ----------
    model : ImageModel
    layer : str
        Where the score is.
    position : (row, column), optional
        Scores are the channels' values there; by default their means over positions.
    amplitude : float
        8-bit pixel values.
    size : (height, width)
        Of the images.

    Returns
    -------
    float
        0 where nothing moves the scores.
    """
    from keras import ops

    from stochdeconv import backend

    forward = model.forward([layer], dtype="auto")
    rng = np.random.default_rng(0)
    color, _ = _input_origin(model)
    n_channels = model.layer_shape(layer)[-1]

    def signed_sum(x, signs):
        values = forward(x)[layer]
        if position is not None:
            values = values[:, position[0], position[1]]
        return ops.sum(ops.mean(ops.reshape(values, (-1, n_channels)), axis=0) * signs), ops.zeros(())

    squares, n_moving = 0.0, 0
    for _ in range(_N_PROBES):
        image = color + _START_NOISE * rng.standard_normal((1, *size, 3))
        # The squared gradient of a sum with random signs is, on average, the sum of the squared gradients.
        signs = ops.convert_to_tensor(rng.choice([-1.0, 1.0], n_channels).astype(np.float32))
        start = ops.convert_to_tensor(image.astype(np.float32))
        _, gradient = backend.value_and_gradient(lambda x, signs=signs: signed_sum(x, signs))(start)
        per_grey_level = ops.convert_to_numpy(gradient).astype(np.float64) / 255
        squares += float((per_grey_level**2).sum())
        n_moving += int(np.count_nonzero(per_grey_level))
    return float(np.sqrt(squares / max(n_moving, 1) / n_channels)) / (2 * amplitude)


def _input_origin(model: ImageModel) -> tuple[np.ndarray, float]:
    """Find the colour (3,) in [0, 1] that the network's input convention maps to zero, and the grey levels of 256 in one unit of input.

    Zero input is the mean of the training images; mid-grey for a network that takes plain 0..255 and centres inside.
    """
    probes = np.concatenate([np.zeros((1, 3)), np.eye(3)]).astype(np.float32)[:, None, None]
    black, *primaries = np.asarray(model.preprocess(probes), np.float64)[:, 0, 0]
    slopes = np.stack([primary - black for primary in primaries], axis=1)
    color = np.linalg.solve(slopes, -black)
    if not np.all((color > 0.05) & (color < 0.95)):
        color = np.full(3, 0.5)
    return color.astype(np.float32), float(255.0 / np.abs(slopes).sum(axis=0).mean())


def parse_unit(model: ImageModel, unit: str) -> tuple[str, int, tuple[int, int] | None]:
    """Read ``LAYER:CHANNEL[:ROW:COLUMN]`` and check it against the network.

    Returns
    -------
    layer : str
    channel : int
    position : (row, column) or None

    Raises
    ------
    InputError, LayerNotFoundError
    """
    layer, *numbers = unit.split(":")
    if len(numbers) not in (1, 3) or not all(number.strip().isdigit() for number in numbers):
        raise InputError(f"unit '{unit}' is not of the form LAYER:CHANNEL or LAYER:CHANNEL:ROW:COLUMN")
    channel, *position = (int(number) for number in numbers)
    shape = model.layer_shape(layer)
    if channel >= shape[-1]:
        raise LayerNotFoundError(f"layer '{layer}' has channels 0 to {shape[-1] - 1}; got {channel}")
    if not position:
        return layer, channel, None
    if len(shape) != 3:
        raise InputError(f"layer '{layer}' has no positions (shape {shape}); use '{layer}:{channel}'")
    row, column = position
    if row >= shape[0] or column >= shape[1]:
        raise LayerNotFoundError(
            f"layer '{layer}' has rows 0 to {shape[0] - 1} and columns 0 to {shape[1] - 1}; got {row}, {column}"
        )
    return layer, channel, (row, column)
