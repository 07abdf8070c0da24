"""Ways to maximise: presets, the constraints on pixels they are made of, and how strong the decay of a network has to be."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import InputError, SettingsError
from stochdeconv.settings import check_count, check_number

if TYPE_CHECKING:
    from stochdeconv.losses import Loss
    from stochdeconv.networks.image_model import ImageModel


@dataclass(frozen=True)
class Preset:
    """Settings of one way to maximise; `l2`, `blur`, `blur_every`, `jitter`, `clip` and `contribution` can be overridden one by one.

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
        Standard deviation, in pixels, of a Gaussian blur applied every few steps; 0 for none.
    blur_every : int
        Steps from one blur to the next.
    jitter : int
        Largest random shift, in pixels.
    clip : float
        Keep pixels within this distance of mid-grey, in [0, 1] units (0.5: valid images); 0 for no clipping.
    contribution : float
        Percentile of the pixels, those that contribute least to the score, that are reset to the training mean after each step; 0 for none.
    scale, rotate : float
        Largest random change of size (fraction) and rotation (degrees).
    """

    parameterization: str
    optimizer: str
    learning_rate: float
    amplitude: float = 0.0
    l2: float | None = None
    blur: float = 0.0
    blur_every: int = 4
    jitter: int = 0
    clip: float = 0.0
    contribution: float = 0.0
    scale: float = 0.0
    rotate: float = 0.0

    def at(self, size: tuple[int, int]) -> Preset:
        """Return the preset for pictures of (height, width): of small ones with less jitter, see `transforms.jitter_within`."""
        from stochdeconv.optimization.transforms import jitter_within

        return replace(self, jitter=jitter_within(self.jitter, size))


#: simonyan: Simonyan, Vedaldi & Zisserman 2014. regularised: Yosinski et al. 2015. fourier: Olah, Mordvintsev & Schubert 2017.
#: The amplitudes give SqueezeNet the weights of 3e-6 and 1e-6 that were chosen for it, see docs/results.
PRESETS = {
    "simonyan": Preset("pixels", "normalized", learning_rate=0.01, amplitude=40),
    "regularised": Preset("pixels", "normalized", learning_rate=0.03, amplitude=120, blur=1.0, jitter=8, clip=0.5),
    "fourier": Preset("fourier", "adam", learning_rate=0.05, jitter=16, scale=0.1, rotate=5.0),
}

DEFAULT_PRESET = "fourier"
# Standard deviation of the starting noise of pixels, in [0, 1] units: enough that seeds part, too little to see.
START_NOISE = 0.01
#: Settings that have no meaning for Fourier coefficients.
OF_PIXELS = ("blur", "blur_every", "clip", "contribution")
# Images that tell how steeply a network's scores rise, and how many pixels of them go through it at a time: memory.
_N_PROBES = 8
_PROBED_PIXELS = 8 * 256 * 256


def find_preset(name: str, overrides: Mapping[str, float | None]) -> Preset:
    """Find a preset, with those of its settings replaced that are not None.

    Parameters
    ----------
    name : str
    overrides : mapping of str to float or None

    Returns
    -------
    Preset

    Raises
    ------
    InputError
        There is no such preset.
    SettingsError
        A setting is out of range, or the preset has no place for it.
    """
    if name not in PRESETS:
        raise InputError(f"preset '{name}' is unknown; there are {', '.join(PRESETS)}")
    changes: dict[str, Any] = {key: value for key, value in overrides.items() if value is not None}
    for key, value in changes.items():
        if key in ("blur_every", "jitter"):
            check_count(key, value, at_least=0 if key == "jitter" else 1)
        else:
            check_number(key, value, at_least=0, below=100 if key == "contribution" else None)
    if PRESETS[name].parameterization == "fourier" and any(changes.get(key) for key in OF_PIXELS):
        *others, last = (f"{key}=" for key in OF_PIXELS)
        raise SettingsError(
            f"{', '.join(others)} and {last} act on pixels; the preset '{name}' is bounded by its sigmoid: use 'regularised'"
        )
    if "l2" in changes:
        changes["amplitude"] = 0.0
    return replace(PRESETS[name], **changes)


def with_decay(preset: Preset, model: ImageModel, scores: Loss, size: tuple[int, int]) -> Preset:
    """Return the preset with the weight of its L2 decay found from the network, where it is left open.

    Parameters
    ----------
    preset : Preset
    model : ImageModel
    scores : Loss
        Of units and directions. Gradients of several scores are taken to be independent: their squares add up.
    size : (height, width)
        Of the images.

    Returns
    -------
    Preset
    """
    from stochdeconv.losses.functions import FunctionTerm

    if preset.l2 is not None:
        return preset
    terms = [weighted.term for weighted in scores.terms] if preset.amplitude else []
    decays = [
        balanced_decay(model, term.layer, term.arguments["position"], amplitude=preset.amplitude, size=size)
        for term in terms
        if isinstance(term, FunctionTerm)
    ]
    return replace(preset, l2=math.hypot(*decays))


def constraints_of(preset: Preset, origin: np.ndarray) -> list:
    """List the constraints on pixels between steps, in the order in which they act; `origin` (channel,) is the mean colour."""
    from stochdeconv.optimization.parameterizations import Clip, ClipSmallContributions, GaussianBlur

    constraints: list[Any] = []
    if preset.contribution:
        constraints.append(ClipSmallContributions(preset.contribution, origin))
    if preset.blur:
        constraints.append(GaussianBlur(preset.blur, every=preset.blur_every))
    if preset.clip:
        constraints.append(Clip(0.5 - preset.clip, 0.5 + preset.clip))
    return constraints


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
    from stochdeconv.optimization.results import part_images

    forward = model.forward([layer], dtype="auto")
    rng = np.random.default_rng(0)
    color, _ = input_origin(model)
    n_channels = model.layer_shape(layer)[-1]

    shape = (1, *size, model.n_channels)
    draws = [(rng.standard_normal(shape), rng.choice([-1.0, 1.0], n_channels)) for _ in range(_N_PROBES)]
    images = np.concatenate([color + START_NOISE * noise for noise, _ in draws]).astype(np.float32)
    # The squared gradient of a sum with random signs is, on average, the sum of the squared gradients.
    signs = np.stack([of_image for _, of_image in draws]).astype(np.float32)

    def signed_sum(signs, x):
        values = forward(x)[layer]
        if position is not None:
            values = values[:, position[0], position[1]]
        scores = ops.mean(ops.reshape(values, (len(signs), -1, n_channels)), axis=1)
        return ops.sum(scores * ops.convert_to_tensor(signs)), ()

    squares, n_moving = 0.0, 0
    for part in part_images(_N_PROBES, max(1, _PROBED_PIXELS // math.prod(size))):
        # Compiled, if only once: run at once, TensorFlow would compute the gradients of all weights beside.
        gradient_of = backend.compile(backend.value_and_gradient(functools.partial(signed_sum, signs[part])))
        _, gradients = gradient_of(ops.convert_to_tensor(images[part]))
        per_grey_level = ops.convert_to_numpy(gradients).astype(np.float64) / 255
        squares += sum(float((of_image**2).sum()) for of_image in per_grey_level)
        n_moving += int(np.count_nonzero(per_grey_level))
    return float(np.sqrt(squares / max(n_moving, 1) / n_channels)) / (2 * amplitude)


def input_origin(model: ImageModel) -> tuple[np.ndarray, float]:
    """Find the colour that the network's input convention maps to zero, (channel,) in [0, 1], and the grey levels in a unit of input.

    Zero input is the mean of the training images; mid-grey for a network that takes plain 0..255 and centres inside.
    """
    n = model.n_channels
    probes = np.concatenate([np.zeros((1, n)), np.eye(n)]).astype(np.float32)[:, None, None]
    black, *primaries = np.asarray(model.preprocess(probes), np.float64)[:, 0, 0]
    slopes = np.stack([primary - black for primary in primaries], axis=1)
    color = np.linalg.solve(slopes, -black)
    if not np.all((color > 0.05) & (color < 0.95)):
        color = np.full(n, 0.5)
    return color.astype(np.float32), float(255.0 / np.abs(slopes).sum(axis=0).mean())
