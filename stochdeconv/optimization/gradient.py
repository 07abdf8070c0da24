"""How a loss is pulled through the network, under the true gradient or another backward rule."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

Tensor = Any
Activations = Mapping[str, Tensor]


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

    values = {layer: ops.stop_gradient(part) for layer, part in activations["true"](variable).items()}
    _, residual = value_and_gradient(loss)(values)
    under_rule = activations["guided" if rule == "mix" else rule]
    raise_these = {layer: ops.relu(-values) for layer, values in residual.items()}
    lower_these = {layer: ops.relu(values) for layer, values in residual.items()}
    (_, up), (_, down) = (
        value_and_gradient(functools.partial(_projection, under_rule, half))(variable)
        for half in (raise_these, lower_these)
    )
    ruled = down - up

    axes = tuple(range(1, len(variable.shape)))
    true_norm = ops.sqrt(ops.sum(true**2, axis=axes, keepdims=True) + 1e-30)
    ruled_norm = ops.sqrt(ops.sum(ruled**2, axis=axes, keepdims=True) + 1e-30)
    cosine = ops.sum(true * ruled, axis=axes) / ops.reshape(true_norm * ruled_norm, (-1,))
    if rule == "mix":
        ruled = guided_share * ruled * (true_norm / ruled_norm) + (1.0 - guided_share) * true
    return extra, ruled, cosine


def _projection(
    activations: Callable[[Tensor], Activations], onto: Activations, variable: Tensor
) -> tuple[Tensor, tuple]:
    """Return the sum of products of activations and what is sent down from them."""
    from keras import ops

    values = activations(variable)
    # Layers come in the network's dtype, the image beside them in float32.
    products = (ops.sum(values[layer] * ops.stop_gradient(onto[layer])) for layer in onto)
    return sum(ops.cast(product, "float32") for product in products), ()
