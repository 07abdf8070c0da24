"""What no image of a class activates together: the channels that make a layer an outlier of the class, decreased."""

from __future__ import annotations

import numpy as np
from keras import ops

from stochdeconv.errors import InputError
from stochdeconv.losses.functions import loss
from stochdeconv.losses.terms import Tensor, Term


def outliers(layer: str, *, mean: np.ndarray, precision: np.ndarray, limit: float) -> Term:
    """Decrease the channels that make a layer's means an outlier of their class, and leave the others alone.

    With a the means over positions, every channel has its contribution to ``D² = Σ_c (a - μ)_c [Σ⁻¹ (a - μ)]_c``. An image is an outlier
    where D² is above the limit. Of the channels above their mean, the largest contributors are blamed: the fewest whose contributions
    make up the excess ``D² - limit``. The loss is the sum of their contributions, divided by the limit; its gradient decreases them alone.

    Parameters
    ----------
    layer : str
    mean : ndarray of shape (channel,)
        μ of the class.
    precision : ndarray of shape (channel, channel)
        Σ⁻¹, symmetric.
    limit : float
        D² that an image of the class may have, above 0.

    Returns
    -------
    Term
        0 for an image within the limit.

    Raises
    ------
    InputError
        The shapes do not fit, or the limit is not above 0.
    """
    mean, precision = np.asarray(mean, np.float32), np.asarray(precision, np.float32)
    if mean.ndim != 1 or precision.shape != (len(mean), len(mean)):
        raise InputError(
            f"outliers of '{layer}' need a mean (channel,) and a precision (channel, channel); got {mean.shape} and {precision.shape}"
        )
    if not limit > 0:
        raise InputError(f"outliers of '{layer}' need a limit above 0; got {limit}")
    return _excess(layer, mean, precision, np.float32(limit))


@loss(name="outliers")
def _excess(values: Tensor, mean: np.ndarray, precision: np.ndarray, limit: np.float32) -> Tensor:
    axes = tuple(range(1, len(values.shape) - 1))
    deviation = (ops.mean(values, axis=axes) if axes else values) - mean
    # Neither the choice nor the pull of the other channels is differentiated: only the chosen are to give way.
    pull = ops.stop_gradient(ops.matmul(deviation, precision))
    contributions = ops.stop_gradient(deviation) * pull
    excess = ops.sum(contributions, axis=-1, keepdims=True) - limit
    blamed = ops.where(ops.stop_gradient(deviation) > 0, ops.relu(contributions), 0.0)
    largest_first = ops.flip(ops.sort(blamed, axis=-1), axis=-1)
    made_up_before = ops.cumsum(largest_first, axis=-1) - largest_first
    smallest = ops.min(ops.where(made_up_before < excess, largest_first, np.inf), axis=-1, keepdims=True)
    chosen = ops.logical_and(blamed > 0, blamed >= smallest)
    return ops.sum(ops.where(chosen, deviation * pull, 0.0), axis=-1) / limit
