"""What a classifier sees in pictures: its probabilities, in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel

# Pictures at a time, at most.
_BATCH = 32


def recognise(model: ImageModel, pictures: Iterable[np.ndarray]) -> np.ndarray:
    """Ask a network what it sees.

    Parameters
    ----------
    model : ImageModel
    pictures : iterable of ndarray of shape (height, width, channel) in [0, 1]
        Of any size: the shorter side is resized to the network's, then the centre is cropped.

    Returns
    -------
    ndarray of shape (picture, class)
        The probabilities that the network itself gives.

    Raises
    ------
    ModelError
        The network has no class scores.
    """
    from stochdeconv.images.colors import with_channels
    from stochdeconv.images.files import resize

    resized = np.stack([with_channels(resize(picture, model.input_size), model.n_channels) for picture in pictures])
    return model.probabilities(resized, batch_size=min(len(resized), _BATCH))


def top_classes(model: ImageModel, probabilities: np.ndarray, *, k: int = 5) -> list[tuple[str, float]]:
    """Name the likeliest classes of one picture, with their probabilities, the likeliest first.

    Parameters
    ----------
    model : ImageModel
    probabilities : ndarray of shape (class,)
    k : int
        How many.

    Returns
    -------
    list of (str, float)
    """
    order = np.argsort(-probabilities, kind="stable")[:k]
    return [(model.class_names[i].label, float(probabilities[i])) for i in order]
