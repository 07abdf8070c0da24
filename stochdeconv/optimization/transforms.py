"""Random views: the small shifts, scales and rotations under which an optimised image has to hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from stochdeconv.errors import InputError
from stochdeconv.settings import check_count, check_number

Tensor = Any

INTERPOLATIONS = ("bilinear", "nearest")

# Half of the usual side. Of digits of 28 pixels the class was not reached through shifts by 16, and was through shifts by 4.
_FULL_JITTER_SIDE = 112


@dataclass(frozen=True)
class Transform:
    """A random map from the pixel grid of the view to that of the image, one draw per image and step.

    Attributes
    ----------
    jitter : int
        Largest shift, in whole pixels, in each direction and axis.
    scale : float
        Largest relative change of size: 0.1 draws from 0.9 to 1.1.
    rotate : float
        Largest rotation, in degrees, either way.
    interpolation : {"bilinear", "nearest"}
        What is seen between pixels, see `view`; of whole-pixel shifts both are the same.
    """

    jitter: int = 0
    scale: float = 0.0
    rotate: float = 0.0
    interpolation: str = "bilinear"

    def __post_init__(self):
        check_count("jitter", self.jitter, at_least=0)
        check_number("scale", self.scale, at_least=0, below=1)
        check_number("rotate", self.rotate, at_least=0)
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(f"interpolation is one of {', '.join(INTERPOLATIONS)}; got '{self.interpolation}'")

    @property
    def moves(self) -> bool:
        """Whether it changes anything at all."""
        return bool(self.jitter or self.scale or self.rotate)

    @property
    def interpolates(self) -> bool:
        """Whether it sees anything but pixels of the image."""
        return self.interpolation != "nearest" and bool(self.scale or self.rotate)

    def draw(self, rng: np.random.Generator, n_steps: int) -> np.ndarray:
        """Draw the matrices of one image, (step, 2, 3): view offset from the centre (y, x, 1) -> image offset, in pixels."""
        shift = rng.integers(-self.jitter, self.jitter + 1, size=(n_steps, 2))
        factor = 1.0 / (1.0 + self.scale * rng.uniform(-1, 1, n_steps))
        angle = np.deg2rad(self.rotate) * rng.uniform(-1, 1, n_steps)
        cosine, sine = factor * np.cos(angle), factor * np.sin(angle)
        matrices = np.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], axis=-1)
        return matrices.reshape(n_steps, 2, 3).astype(np.float32)


def jitter_within(pixels: int, size: tuple[int, int]) -> int:
    """Bring a default jitter to small pictures, where a shift of so many pixels would move away what is on them.

    Parameters
    ----------
    pixels : int
        Largest shift that suits pictures of 112 pixels and more.
    size : (height, width)

    Returns
    -------
    int
        Of smaller ones in proportion: a quarter at 28 pixels.
    """
    return min(pixels, round(pixels * min(size) / _FULL_JITTER_SIDE))


def jitter(pixels: int) -> Transform:
    """Shift by up to `pixels` whole pixels, reflecting at the border."""
    return Transform(jitter=pixels)


def scale(change: float) -> Transform:
    """Change the size by up to the fraction `change`, about the centre."""
    return Transform(scale=change)


def rotate(degrees: float) -> Transform:
    """Rotate by up to `degrees`, about the centre."""
    return Transform(rotate=degrees)


def draw_views(
    transforms: Sequence[Transform], n_steps: int, n_images: int, *, seed: int, first_index: int = 0
) -> np.ndarray:
    """Draw the composed view matrices of a run.

    Parameters
    ----------
    transforms : sequence of Transform
        Applied to the image in this order.
    n_steps, n_images : int
    seed, first_index : int
        The draws of image ``first_index + i`` depend on the seed and that number alone.

    Returns
    -------
    ndarray of shape (step, image, 2, 3), float32
    """
    views = np.tile(np.array([[1, 0, 0], [0, 1, 0]], np.float32), (n_steps, n_images, 1, 1))
    for i in range(n_images):
        rng = np.random.default_rng([seed, first_index + i, 1])
        for transform in transforms:
            # A place in the view goes through the last transform first: view -> last -> ... -> first -> image.
            views[:, i] = _compose(views[:, i], transform.draw(rng, n_steps))
    return views


def _compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    linear = outer[..., :2] @ inner[..., :2]
    offset = outer[..., :2] @ inner[..., 2:] + outer[..., 2:]
    return np.concatenate([linear, offset], axis=-1)


def view(images: Tensor, matrices: Tensor, *, interpolation: str) -> Tensor:
    """Look at images through affine maps, reflecting at the border; differentiable with respect to the images.

    Parameters
    ----------
    images : tensor of shape (image, height, width, channel)
    matrices : tensor of shape (image, 2, 3)
        From `draw_views`, one step.
    interpolation : {"nearest", "bilinear"}
        The nearest pixel, or the four around a place, by distance. A mean of four is smoother than the image, so that what is asked of
        it has to be there more strongly, and less comes through of its finest patterns; the nearest costs a third.

    Returns
    -------
    tensor of the images' shape
    """
    _, height, width, _ = images.shape
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    y, x = np.mgrid[:height, :width].astype(np.float32)
    grid = np.stack([y.ravel() - centre_y, x.ravel() - centre_x, np.ones(height * width, np.float32)])
    places = ops.matmul(matrices, grid)  # (image, 2, position)
    y, x = places[:, 0] + centre_y, places[:, 1] + centre_x
    if interpolation == "nearest":
        return ops.reshape(_rows(images, ops.round(y), ops.round(x)), ops.shape(images))
    top, left = ops.floor(y), ops.floor(x)
    below, right = (y - top)[..., None], (x - left)[..., None]
    weighted = (
        (1 - below) * (1 - right) * _rows(images, top, left)
        + (1 - below) * right * _rows(images, top, left + 1)
        + below * (1 - right) * _rows(images, top + 1, left)
        + below * right * _rows(images, top + 1, left + 1)
    )
    return ops.reshape(weighted, ops.shape(images))


def _rows(images: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Pixels (image, position, channel) at whole-numbered places, reflected into the image (edge pixel not repeated)."""
    _, height, width, channels = images.shape
    n_images = ops.shape(images)[0]
    # Whole numbers before they are multiplied: float32 counts no further than 2^24 pixels.
    index = ops.cast(_reflect(y, height), "int32") * width + ops.cast(_reflect(x, width), "int32")
    index = index + ops.expand_dims(ops.arange(n_images, dtype="int32"), 1) * (height * width)
    pixels = ops.take(ops.reshape(images, (-1, channels)), ops.reshape(index, (-1,)), axis=0)
    return ops.reshape(pixels, (n_images, height * width, channels))


def _reflect(position: Tensor, size: int) -> Tensor:
    if size == 1:
        return position * 0
    period = 2 * (size - 1)
    # Several times as fast as `ops.mod`; rounding at a multiple of the period gives the period in place of 0, which is the same place.
    folded = position - period * ops.floor(position * (1.0 / period))
    return ops.minimum(folded, period - folded)
