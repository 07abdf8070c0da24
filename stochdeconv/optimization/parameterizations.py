"""What is optimised: the variables behind an image, their random start and the image they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from keras import ops
from scipy.ndimage import gaussian_filter1d

from stochdeconv import backend
from stochdeconv.errors import InputError
from stochdeconv.images.colors import COLOR_ROOT, color_root

Tensor = Any


def _decorrelated(channels: int) -> np.ndarray:
    # Divided by its largest column norm as in Lucid: decorrelated variables times this are natural colours.
    return (color_root(channels) / np.linalg.norm(COLOR_ROOT, axis=0).max()).T


class Parameterization(Protocol):
    """The variables of n images: how they start, what image they stand for, what is done to them after a step.

    Attributes
    ----------
    n_images, seed, first_index : int
        The start of image ``first_index + i`` depends on ``seed`` and that number alone.
    learning_rate : float
        Step size that suits the variables.
    """

    @property
    def n_images(self) -> int:
        """How many images."""

    @property
    def seed(self) -> int:
        """What the starts depend on."""

    @property
    def first_index(self) -> int:
        """Number of the first image among all."""

    @property
    def learning_rate(self) -> float:
        """Step size that suits the variables."""

    def start(self) -> np.ndarray:
        """Return the starting variables, (image, ...), float32."""

    @property
    def images(self) -> Callable[[Tensor], Tensor]:
        """The function from variables to images (image, height, width, channel); traceable, and free of this run's numbers."""

    def constrained(self, variable: Tensor, step: int, gradient: Tensor) -> Tensor:
        """Return the variables after the constraints that hold between steps, from the number of steps done and the last gradient."""

    def take(self, images: slice) -> Parameterization:
        """Return the variables of some of the images, with the numbers they have among all; needed to make them in batches."""

    def key(self) -> tuple:
        """Identify the traced program: two parameterizations of equal key differ in their numbers only."""


class Constraint:
    """What is done to images between steps.

    Attributes
    ----------
    every : int
        Steps from one time to the next.
    """

    every: int = 1

    def is_due(self, step: int) -> bool:
        """Say whether it is time, after so many steps."""
        return step % self.every == 0

    def apply(self, images: Tensor, gradient: Tensor) -> Tensor:
        """Return what becomes of images (image, ...).

        The gradient is that of the loss in the step just done, by the variables: of the images' shape where these are pixels.
        """
        raise NotImplementedError

    def take(self, images: slice) -> Constraint:
        """Return the constraint of some of the images."""
        return self


@dataclass(frozen=True)
class GaussianBlur(Constraint):
    """Constraint: blur the image every few steps, which damps high frequencies (Yosinski et al. 2015).

    Attributes
    ----------
    sigma : float
        Standard deviation of the kernel, in pixels.
    every : int
        Steps between two blurs.
    """

    sigma: float
    every: int = 4

    def apply(self, images: Tensor, gradient: Tensor) -> Tensor:
        """Blur images (image, height, width, channel); the border is reflected, not darkened."""
        _, height, width, channels = images.shape
        rows, columns = (
            gaussian_filter1d(np.eye(n, dtype=np.float32), self.sigma, axis=0, mode="mirror") for n in (height, width)
        )
        blurred = ops.matmul(rows, ops.reshape(images, (-1, height, width * channels)))
        return ops.reshape(ops.matmul(columns, ops.reshape(blurred, (-1, width, channels))), ops.shape(images))


@dataclass(frozen=True)
class Clip(Constraint):
    """Constraint: clip the values of the input to a range, in its own units.

    Attributes
    ----------
    low, high : float
    every : int
        Steps between two clippings.
    """

    low: float = 0.0
    high: float = 1.0
    every: int = 1

    def apply(self, images: Tensor, gradient: Tensor) -> Tensor:
        """Clip images of any shape."""
        return ops.clip(images, self.low, self.high)


@dataclass(frozen=True, eq=False)
class ClipSmallContributions(Constraint):
    """Constraint: reset pixels that matter little, so that only the main object stays (Yosinski et al. 2015).

    A pixel's contribution is estimated to first order, as the change of the loss were it reset: ``|sum over channels of
    (x - origin) * dL/dx|``.

    Attributes
    ----------
    percentile : float
        Pixels whose contribution is below this percentile of the image's are reset, 0 to 100.
    origin : ndarray, broadcastable to an image
        What they are reset to: the training mean.
    every : int
        Steps between two clippings.
    """

    percentile: float
    origin: np.ndarray
    every: int = 1

    def apply(self, images: Tensor, gradient: Tensor) -> Tensor:
        """Reset pixels of images (image, ..., channel)."""
        contribution = ops.abs(ops.sum(ops.subtract(images, self.origin) * gradient, axis=-1, keepdims=True))
        ordered = ops.sort(ops.reshape(contribution, (images.shape[0], -1)), axis=-1)
        threshold = ordered[:, min(int(self.percentile / 100 * ordered.shape[1]), ordered.shape[1] - 1)]
        threshold = ops.reshape(threshold, (-1, *([1] * (len(images.shape) - 1))))
        return ops.where(contribution < threshold, ops.broadcast_to(self.origin, ops.shape(images)), images)


@dataclass(frozen=True)
class Pixels:
    """The pixels themselves, unbounded: what `images` gives is the variable. See `pixels`."""

    mean: np.ndarray
    noise: float
    n_images: int
    seed: int
    first_index: int
    learning_rate: float
    constraints: tuple[Constraint, ...] = ()

    def start(self) -> np.ndarray:
        """Return the mean image plus seeded Gaussian noise, (image, ...), float32."""
        noise = [
            np.random.default_rng([self.seed, self.first_index + i, 0]).standard_normal(self.mean.shape[1:])
            for i in range(self.n_images)
        ]
        return (self.mean + self.noise * np.stack(noise)).astype(np.float32)

    @property
    def images(self) -> Callable[[Tensor], Tensor]:
        """The identity: pixels are the image."""
        return lambda variable: variable

    def constrained(self, variable: Tensor, step: int, gradient: Tensor) -> Tensor:
        """Apply the constraints that are due after `step` steps."""
        for constraint in self.constraints:
            if constraint.is_due(step):
                variable = constraint.apply(variable, gradient)
        return variable

    def take(self, images: slice) -> Pixels:
        """Return those of some of the images."""
        mean = self.mean if len(self.mean) == 1 else self.mean[images]
        return replace(self, mean=mean, **_of_some(self, images))

    def key(self) -> tuple:
        """Identify the traced program."""
        return ("pixels", self.mean.shape[1:])


def pixels(
    start: np.ndarray,
    *,
    input_shape: Sequence[int] | None = None,
    noise: float = 0.01,
    constraints: Sequence = (),
    n_images: int = 1,
    seed: int = 0,
    first_index: int = 0,
    learning_rate: float = 0.01,
) -> Pixels:
    """Optimise the values of the input directly; any shape, so voxels do as well as images.

    Parameters
    ----------
    start : ndarray of shape (height, width, channel), (image, height, width, channel) or of any other input
        What the noise is added to: one input for all, or one each; images in [0, 1].
    input_shape : sequence of int, optional
        Shape of one input (``model.input_shape``): whether the first axis of `start` counts inputs is then certain. Left
        out, it does from four axes on, if it is 1 or `n_images` long: a voxel grid as deep as there are inputs needs it.
    noise : float
        Standard deviation of the starting noise, in the same units.
    constraints : sequence
        `GaussianBlur`, `Clip`, `ClipSmallContributions` or another `Constraint`, applied in this order after each ``every`` steps; the
        gradient is that of the loss in the step just done.
    n_images, seed, first_index : int
    learning_rate : float

    Returns
    -------
    Pixels

    Raises
    ------
    InputError
        The start has another shape, or a number is out of range.
    """
    _check_numbers(n_images, seed, first_index)
    start = np.asarray(start, np.float32)
    if input_shape is None:
        if start.ndim < 2:
            raise InputError(f"the start of a pixel parameterization needs at least two axes; got shape {start.shape}")
        is_batch = start.ndim >= 4 and len(start) in (1, n_images)
    else:
        shape = tuple(input_shape)
        is_batch = start.shape in {(1, *shape), (n_images, *shape)}
        if not is_batch and start.shape != shape:
            raise InputError(
                f"the start has shape {start.shape}; expected one input of shape {shape}, or {n_images} (n_images) of them"
            )
    _check_constraints(constraints)
    mean = start if is_batch else start[None]
    return Pixels(mean, noise, n_images, seed, first_index, learning_rate, tuple(constraints))


@dataclass(frozen=True)
class Fourier:
    """Half-plane Fourier coefficients of decorrelated colours behind a sigmoid. See `fourier`."""

    size: tuple[int, int]
    n_channels: int
    deviation: float
    n_images: int
    seed: int
    first_index: int
    learning_rate: float
    initial_images: np.ndarray | None = None
    constraints: tuple[Constraint, ...] = ()

    @property
    def _scale(self) -> np.ndarray:
        """Spectrum scale sqrt(H W) / (4 max(f, 1 / size)), (row, column): equal steps in the variables fall off as 1/f."""
        height, width = self.size
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
        return (np.sqrt(height * width) / (4 * np.maximum(frequency, 1 / max(height, width)))).astype(np.float32)

    def start(self) -> np.ndarray:
        """Return the starting coefficients (image, 2, channel, row, column // 2 + 1), float32: real, imaginary."""
        height, width = self.size
        shape = (2, self.n_channels, height, width // 2 + 1)
        noise = np.stack(
            [
                np.random.default_rng([self.seed, self.first_index + i, 0]).standard_normal(shape)
                for i in range(self.n_images)
            ]
        )
        start = (self.deviation * noise).astype(np.float32)
        return start if self.initial_images is None else start + self._variable_of(self.initial_images, margin=0.02)

    def _variable_of(self, images: np.ndarray, *, margin: float) -> np.ndarray:
        # A sigmoid never reaches 0 or 1: the margin keeps pure black and white at finite variables.
        values = np.clip(np.asarray(images, np.float64), margin, 1.0 - margin)
        colors = np.log(values / (1 - values)) @ np.linalg.inv(_decorrelated(self.n_channels))
        spectrum = np.fft.rfft2(colors.transpose(0, 3, 1, 2)) / self._scale
        return np.stack([spectrum.real, spectrum.imag], axis=1).astype(np.float32)

    @property
    def images(self) -> Callable[[Tensor], Tensor]:
        """The function from coefficients (image, 2, channel, row, column // 2 + 1) to images (image, height, width, channel) in (0, 1)."""
        (height, width), scale, colors = self.size, self._scale, _decorrelated(self.n_channels)

        def decoded(variable: Tensor) -> Tensor:
            real, imaginary = ops.unstack(ops.multiply(variable, scale), 2, axis=1)
            values = backend.inverse_real_fft2(real, imaginary, (height, width))
            # The product with the colours before the transpose, in long rows: a product of three columns is slow.
            values = ops.matmul(colors.T, ops.reshape(values, (-1, len(colors), height * width)))
            return ops.reshape(ops.transpose(ops.sigmoid(values), (0, 2, 1)), (-1, height, width, len(colors)))

        return decoded

    def constrained(self, variable: Tensor, step: int, gradient: Tensor) -> Tensor:
        """Apply to the images the constraints that are due after `step` steps; the sigmoid keeps them in (0, 1) without any."""
        due = [constraint for constraint in self.constraints if constraint.is_due(step)]
        if not due:
            return variable
        images = self.images(variable)
        for constraint in due:
            images = constraint.apply(images, gradient)
        # Half a grey level of eight bits is lost of pure black and white.
        return ops.convert_to_tensor(self._variable_of(ops.convert_to_numpy(images), margin=0.002))

    def take(self, images: slice) -> Fourier:
        """Return those of some of the images."""
        start = self.initial_images
        start = start if start is None or len(start) == 1 else start[images]
        return replace(self, initial_images=start, **_of_some(self, images))

    def key(self) -> tuple:
        """Identify the traced program."""
        return ("fourier", self.size, self.n_channels)


def fourier(
    size: tuple[int, int],
    *,
    n_channels: int = 3,
    deviation: float = 0.01,
    initial_images: np.ndarray | None = None,
    constraints: Sequence[Constraint] = (),
    n_images: int = 1,
    seed: int = 0,
    first_index: int = 0,
    learning_rate: float = 0.05,
) -> Fourier:
    """Optimise an image by its Fourier coefficients in decorrelated colours, scaled by 1/f, behind a sigmoid.

    The recipe of Olah, Mordvintsev & Schubert 2017, "Feature Visualization" (Lucid).

    Parameters
    ----------
    size : tuple of int
        (height, width) in pixels.
    n_channels : {3, 1}
        3 for RGB, 1 for grey: then luminance alone.
    deviation : float
        Standard deviation of the starting coefficients, before the 1/f scale.
    initial_images : ndarray of shape (image, height, width, channel) in [0, 1], optional
        Images to start from; the noise is added to their coefficients. Values are drawn in to [0.02, 0.98].
    constraints : sequence of Constraint
        Applied to the images, in this order, after each ``every`` steps; the gradient is that by the coefficients.
    n_images, seed, first_index : int
    learning_rate : float

    Returns
    -------
    Fourier

    Raises
    ------
    InputError
        The size is less than 2 x 2, the images to start from have another shape, or a number is out of range.
    """
    _check_numbers(n_images, seed, first_index)
    height, width = size
    if height < 2 or width < 2:
        raise InputError(f"a Fourier image needs at least 2x2 pixels; got {height}x{width}")
    if n_channels not in (1, 3):
        raise InputError(f"a Fourier image has 3 channels, or 1 for grey; got {n_channels}")
    if initial_images is not None and np.shape(initial_images)[1:] != (height, width, n_channels):
        raise InputError(
            f"initial_images must have shape (image, {height}, {width}, {n_channels}); got {np.shape(initial_images)}"
        )
    _check_constraints(constraints)
    if any(isinstance(constraint, ClipSmallContributions) for constraint in constraints):
        raise InputError(
            "ClipSmallContributions needs the gradient by pixels; a Fourier image has that by its coefficients: use pixels"
        )
    numbers = (n_images, seed, first_index, learning_rate)
    return Fourier((height, width), n_channels, deviation, *numbers, initial_images, tuple(constraints))


def _check_constraints(constraints: Sequence[Constraint]) -> None:
    for constraint in constraints:
        if not isinstance(constraint, Constraint):
            raise InputError(f"a constraint is a parameterizations.Constraint, or derived from it; got {constraint!r}")


def _of_some(whole: Pixels | Fourier, images: slice) -> dict[str, Any]:
    first, last, _ = images.indices(whole.n_images)
    constraints = tuple(constraint.take(images) for constraint in whole.constraints)
    return {"n_images": last - first, "first_index": whole.first_index + first, "constraints": constraints}


def _check_numbers(n_images: int, seed: int, first_index: int) -> None:
    if n_images < 1 or seed < 0 or first_index < 0:
        raise InputError(
            f"n_images is at least 1, seed and first_index at least 0; got {n_images}, {seed} and {first_index}"
        )
