"""What a score owes to each pixel of one photo: gradients and what has been built from them.

A score is minus a loss term of one layer (`losses.unit`). Gradients are those with respect to the image, float32 RGB in [0, 1].
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from stochdeconv import backend

if TYPE_CHECKING:
    from stochdeconv.losses import Term
    from stochdeconv.networks.image_model import ImageModel

Gradients = Callable[[np.ndarray], np.ndarray]


def score_gradients(model: ImageModel, term: Term, *, gradient_rule: str = "true") -> Gradients:
    """Make the function from images to the gradients of their scores.

    Parameters
    ----------
    model : ImageModel
    term : Term
        Minus the score.
    gradient_rule : {"true", "guided", "deconvnet"}
        Backward rule of every ReLU, see `backward_rules.rectify`.

    Returns
    -------
    callable
        images (image, height, width, 3) -> gradients of that shape, float32. Compiled once for each number of images.

    Raises
    ------
    ModelError
        Another rule than the true one is asked of a network without ReLUs.
    """
    # Two units of a layer are one program with another channel, so a second one is not compiled anew.
    key = ("score_gradients", term, gradient_rule)
    forward = model.forward(term.layers, gradient_rule=gradient_rule)

    def gradient(images, arrays):
        return backend.value_and_gradient(functools.partial(_summed_score, term, forward, arrays))(images)[1]

    compiled = model.program(key, lambda: backend.compile(gradient))
    arrays = {name: ops.convert_to_tensor(array) for name, array in term.arrays.items()}
    return lambda images: ops.convert_to_numpy(compiled(ops.convert_to_tensor(images, dtype="float32"), arrays))


def _summed_score(term: Term, forward: Callable, arrays: Mapping[str, Any], images: Any) -> tuple[Any, tuple]:
    return ops.sum(-term.evaluate(forward(images), arrays)), ()


def _summed_score_of_maps(term: Term, forward: Callable, images: Any, layer: str, maps: Any) -> tuple[Any, tuple]:
    return ops.sum(-term(forward(images, {layer: maps}))), ()


def smoothgrad(
    gradients: Gradients,
    image: np.ndarray,
    *,
    n_samples: int,
    noise: float,
    seed: int,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Average the gradients at noisy copies of an image, in which what only wavers cancels (Smilkov et al. 2017).

    Parameters
    ----------
    gradients : callable
        See `score_gradients`.
    image : ndarray of shape (height, width, 3)
    n_samples : int
    noise : float
        Standard deviation as a fraction of the image's range of values; as in the paper, noisy copies are not clipped.
    seed : int
        Sample i depends on (seed, i) alone.
    batch_size : int
        Copies at a time.
    on_batch : callable, optional
        Told how many copies are done.

    Returns
    -------
    ndarray of shape (height, width, 3), float32
    """
    spread = noise * float(np.ptp(image))
    noisy = (
        image + spread * np.random.default_rng((seed, sample)).standard_normal(image.shape).astype(np.float32)
        for sample in range(n_samples)
    )
    return _mean_gradient(gradients, noisy, batch_size=batch_size, on_batch=on_batch)


def integrated_gradients(
    gradients: Gradients,
    image: np.ndarray,
    baseline: np.ndarray,
    *,
    n_samples: int,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Integrate the gradient along the straight line from a baseline to an image (Sundararajan, Taly & Yan 2017).

    The attributions add up to score(image) - score(baseline), but for what the sum over `n_samples` midpoints misses of the integral.

    Parameters
    ----------
    gradients : callable
        See `score_gradients`.
    image, baseline : ndarray of shape (height, width, 3)
    n_samples : int
        Points on the line.
    batch_size : int
        Points at a time.
    on_batch : callable, optional
        Told how many points are done.

    Returns
    -------
    ndarray of shape (height, width, 3), float32
    """
    along = (baseline + np.float32((point + 0.5) / n_samples) * (image - baseline) for point in range(n_samples))
    return (image - baseline) * _mean_gradient(gradients, along, batch_size=batch_size, on_batch=on_batch)


def grad_cam(model: ImageModel, term: Term, image: np.ndarray, layer: str) -> np.ndarray:
    """Weight the channels of a layer's map by the score's mean gradient there, add them up, keep what is positive (Selvaraju et al. 2017).

    Parameters
    ----------
    model : ImageModel
    term : Term
        Minus the score.
    image : ndarray of shape (height, width, 3)
    layer : str
        One with positions, that the score is computed from.

    Returns
    -------
    ndarray of shape (height, width), float32
        At least 0; interpolated bilinearly from the layer's positions.
    """
    forward = model.forward((layer, *term.layers))

    def weighted_maps(images):
        maps = forward(images)[layer]
        score = functools.partial(_summed_score_of_maps, term, forward, images, layer)
        _, gradient = backend.value_and_gradient(score)(maps)
        weights = ops.mean(gradient, axis=(1, 2), keepdims=True)
        positive = ops.relu(ops.sum(weights * maps, axis=-1, keepdims=True))
        return ops.image.resize(positive, image.shape[:2], interpolation="bilinear", data_format="channels_last")

    images = ops.convert_to_tensor(image[None], dtype="float32")
    return ops.convert_to_numpy(backend.compile(weighted_maps)(images))[0, :, :, 0]


def _mean_gradient(
    gradients: Gradients, images: Iterable[np.ndarray], *, batch_size: int, on_batch: Callable[[int], None] | None
) -> np.ndarray:
    total: Any = 0.0
    n_done = 0
    for batch in _batches(images, batch_size):
        # The last batch is filled up: another number of images would be compiled anew.
        filled = batch + batch[-1:] * (batch_size - len(batch))
        total = total + gradients(np.stack(filled))[: len(batch)].sum(axis=0, dtype=np.float64)
        n_done += len(batch)
        if on_batch is not None:
            on_batch(n_done)
    return (total / n_done).astype(np.float32)


def _batches(images: Iterable[np.ndarray], batch_size: int) -> Iterator[list[np.ndarray]]:
    batch: list[np.ndarray] = []
    for image in images:
        batch.append(image)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch
