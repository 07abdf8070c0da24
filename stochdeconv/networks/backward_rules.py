"""Backward rules: what a gradient does on its way back through the ReLUs."""

from __future__ import annotations

from typing import Any

#: The rules a loss can be followed with: the true gradient, guided backpropagation (Springenberg et al. 2015),
#: deconvnet (Zeiler & Fergus 2014), and guided annealed to the true gradient.
GRADIENT_RULES = ("true", "guided", "deconvnet", "mix")

Tensor = Any


def rectify(x: Tensor, rule: str, max_value: float | None = None) -> Tensor:
    """Rectify: min(max(x, 0), max_value), with a backward pass that follows a rule.

    With u the gradient arriving from above, the gradient passed on is ``u * (0 < x < max_value)`` (true),
    ``max(u, 0) * (0 < x < max_value)`` (guided) or ``max(u, 0)`` (deconvnet). u must be the gradient of a *score*, of something to
    be increased: for a loss the rules keep the wrong half.

    Parameters
    ----------
    x : tensor of any shape
    rule : {"true", "guided", "deconvnet"}
    max_value : float or None
        Upper bound (6 for ReLU6).

    Returns
    -------
    tensor of the shape of x
    """
    from keras import ops

    def clipped(values):
        values = ops.relu(values)
        return values if max_value is None else ops.minimum(values, max_value)

    if rule == "true":
        return clipped(x)

    @ops.custom_gradient
    def rectified(values):
        passed = ops.cast(values > 0, values.dtype)
        if max_value is not None:
            passed = passed * ops.cast(values < max_value, values.dtype)

        def gradient(*arguments, upstream=None):
            # TensorFlow and JAX hand the upstream gradient by position, PyTorch by keyword.
            upstream = arguments[0] if upstream is None else upstream
            positive = ops.relu(upstream)
            return positive if rule == "deconvnet" else positive * passed

        return clipped(values), gradient

    return rectified(x)
