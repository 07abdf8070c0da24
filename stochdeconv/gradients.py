"""Backward rules: what a gradient does on its way back through the ReLUs, and how a loss is pulled through them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: The rules a loss can be followed with: the true gradient, guided backpropagation (Springenberg et al. 2015),
#: deconvnet (Zeiler & Fergus 2014), and guided annealed to the true gradient.
GRADIENT_RULES = ("true", "guided", "deconvnet", "mix")

Tensor = Any
Activations = Mapping[str, Tensor]


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


def loss_gradient(
    variable: Tensor,
    activations: Mapping[str, Callable[[Tensor], Activations]],
    loss: Callable[[Activations], tuple[Tensor, Any]],
    rule: str,
    guided_share: Tensor,
) -> tuple[Any, Tensor, Tensor]:
    """Differentiate a loss with respect to the image variable, following a backward rule.

    The rules keep positive gradients of a score, while a target needs both directions: at each layer the loss looks at, its gradient is
    split by sign, both halves are sent down under the rule, and subtracted. Under the true rule that is the true gradient. Under the
    others it is the gradient of no function.

    Parameters
    ----------
    variable : tensor of shape (image, ...)
    activations : mapping of rule to callable
        variable -> activations, under ``"true"`` and, for another `rule`, under that rule (``"guided"`` for ``"mix"``).
    loss : callable
        activations -> (scalar, extra).
    rule : {"true", "guided", "deconvnet", "mix"}
    guided_share : scalar tensor in [0, 1]
        Share of the guided gradient in a mix; both parts have the true gradient's norm, image by image.

    Returns
    -------
    extra : any
        What the loss returned beside its value.
    gradient : tensor of the variable's shape
    cosine : tensor of shape (image,)
        Cosine between the rule's gradient and the true one (1 under the true rule).
    """
    from keras import ops

    from stochdeconv.backend import value_and_gradient

    (_, extra), true = value_and_gradient(lambda x: loss(activations["true"](x)))(variable)
    if rule == "true":
        return extra, true, ops.ones(ops.shape(variable)[:1])

    seen = {layer: ops.stop_gradient(values) for layer, values in activations["true"](variable).items()}
    _, residual = value_and_gradient(loss)(seen)
    ruled_activations = activations["guided" if rule == "mix" else rule]

    def pulled_down(half):
        def score(x):
            values = ruled_activations(x)
            # Layers come in the network's dtype, the image beside them in float32.
            products = (ops.sum(values[layer] * ops.stop_gradient(half[layer])) for layer in half)
            return sum(ops.cast(product, "float32") for product in products), ()

        return value_and_gradient(score)(variable)[1]

    raise_these = pulled_down({layer: ops.relu(-values) for layer, values in residual.items()})
    lower_these = pulled_down({layer: ops.relu(values) for layer, values in residual.items()})
    ruled = lower_these - raise_these

    axes = tuple(range(1, len(variable.shape)))
    true_norm = ops.sqrt(ops.sum(true**2, axis=axes, keepdims=True) + 1e-30)
    ruled_norm = ops.sqrt(ops.sum(ruled**2, axis=axes, keepdims=True) + 1e-30)
    cosine = ops.sum(true * ruled, axis=axes) / ops.reshape(true_norm * ruled_norm, (-1,))
    if rule == "mix":
        ruled = guided_share * ruled * (true_norm / ruled_norm) + (1.0 - guided_share) * true
    return extra, ruled, cosine
