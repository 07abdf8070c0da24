"""Grey and colour: how light a colour is, how natural colours vary, pictures of one channel and of three."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Weights of red, green and blue in luminance (ITU-R BT.601 luma).
LUMINANCE = (0.299, 0.587, 0.114)
#: Square root of the covariance of ImageNet's RGB values in [0, 1] (Olah, Mordvintsev & Schubert 2017, "Feature Visualization", and
#: their code, Lucid).
COLOR_ROOT = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32)


def color_root(channels: int) -> np.ndarray:
    """Return a square root of the covariance of natural images' colours, (channel, channel): `COLOR_ROOT`, or that of luminance alone."""
    if channels == 3:
        return COLOR_ROOT
    return np.array([[np.linalg.norm(np.array(LUMINANCE, np.float32) @ COLOR_ROOT)]], np.float32)


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Make a picture grey, or of three channels.

    Parameters
    ----------
    image : ndarray of shape (..., channel), float32 in [0, 1]
        Grey (1), RGB (3), or RGB and opacity (4), which is laid on white.
    channels : {1, 3}

    Returns
    -------
    ndarray of shape (..., channels)
        float32 in [0, 1]; the picture itself where it is like that already.
    """
    if image.shape[-1] == 4:
        opacity = image[..., 3:]
        image = image[..., :3] * opacity + (1 - opacity)
    if image.shape[-1] == channels:
        return image
    # The weights of luminance add up to 1, but not in every rounding.
    return np.repeat(image, 3, axis=-1) if channels == 3 else np.minimum(luminance(image)[..., np.newaxis], 1.0)


def luminance(image: Any) -> Any:
    """Tell how light a picture is: its only channel, or the weighted sum of red, green and blue.

    Parameters
    ----------
    image : ndarray or tensor of shape (..., channel)
        1 or 3 channels.

    Returns
    -------
    ndarray or tensor of shape (...)
        Of the same range and, where that is a floating-point one, the same dtype; otherwise float32.
    """
    if image.shape[-1] == 1:
        return image[..., 0]
    if not isinstance(image, np.ndarray):
        return sum(weight * image[..., channel] for channel, weight in enumerate(LUMINANCE))
    dtype = image.dtype if image.dtype.kind == "f" else np.dtype(np.float32)
    return image.astype(dtype, copy=False) @ np.array(LUMINANCE, dtype)
