"""Grey and colour: how light a colour is, how natural colours vary, pictures of one channel and of three."""

from __future__ import annotations

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


def luminance(image: np.ndarray) -> np.ndarray:
    """Tell how light a picture is: its only channel, or the weighted sum of red, green and blue.

    Parameters
    ----------
    image : ndarray of shape (..., channel)
        1 or 3 channels.

    Returns
    -------
    ndarray of shape (...)
        float32, of the same range.
    """
    image = image.astype(np.float32, copy=False)
    return image[..., 0] if image.shape[-1] == 1 else image @ np.array(LUMINANCE, np.float32)
