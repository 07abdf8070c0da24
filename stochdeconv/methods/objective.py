"""What a generated image is asked: every statistic's loss toward its target, the class, and smoothness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from stochdeconv.errors import InputError, ModelError
from stochdeconv.statistics.class_statistics import INPUT
from stochdeconv.statistics.directions import leading_directions
from stochdeconv.statistics.registry import LAYER_STATISTICS, PHOTOGRAPH_STATISTICS
from stochdeconv.threads import one_blas_thread

if TYPE_CHECKING:
    import numpy as np

    from stochdeconv.losses import Loss
    from stochdeconv.methods.recipe import Recipe
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.sampling.targets import Targets
    from stochdeconv.statistics.class_statistics import ClassStatistics

# Shallower layers have all joined after this fraction of the steps, in the order "deepest-first".
_JOINED_AT = 0.5


def check_model(model: ImageModel, statistics: ClassStatistics) -> None:
    """Raise ModelError unless the statistics were collected with this very network and input convention."""
    if model.weights_hash != statistics.weights_hash:
        raise ModelError(
            f"the statistics were collected with '{statistics.model_name}' (weights {statistics.weights_hash[:12]}…), "
            f"but '{model.name}' has weights {model.weights_hash[:12]}…; pass the network they were made with, or collect anew"
        )
    if dict(model.preprocessing) != dict(statistics.preprocessing):
        raise ModelError(
            f"the statistics were collected with the input convention {dict(statistics.preprocessing)}, but '{model.name}' now has "
            f"{dict(model.preprocessing)}; put its sidecar right, or collect anew"
        )


@one_blas_thread()
def target_loss(
    statistics: ClassStatistics,
    targets: Targets,
    recipe: Recipe,
    *,
    directions: Mapping[str, np.ndarray | None] | None = None,
    score_layer: str | None = None,
) -> Loss:
    """Put the objective together: what every statistic asks for, from the deepest layer to the image, then the class and realism.

    Parameters
    ----------
    statistics : ClassStatistics
    targets : Targets
        What the images of one batch should activate.
    recipe : Recipe
    directions : mapping, optional
        The `channel_directions`, where they are at hand.
    score_layer : str, optional
        Where class scores are before any ReLU (`ImageModel.score_layer`), for `class_score`.

    Returns
    -------
    Loss

    Raises
    ------
    InputError
        The statistics hold no layer with positions.
    """
    from stochdeconv import losses
    from stochdeconv.losses import regularizers
    from stochdeconv.losses.targets import term_of

    maps = statistics.map_layers
    if not maps:
        raise InputError(
            f"the statistics hold no layer with positions, a convolution's ({', '.join(statistics)}), and images are made of those: "
            "collect with layers= naming some, or without it; a network of dense layers alone has none"
        )
    directions = channel_directions(statistics, recipe) if directions is None else directions
    loss = losses.Loss()
    from_the_deepest = [*reversed(maps), INPUT]
    for i, name in enumerate(from_the_deepest):
        terms = losses.Loss()
        for statistic in sorted(LAYER_STATISTICS, key=lambda statistic: statistic.rank):
            weight = statistic.weight(recipe, name, maps)
            pure = statistic.loss(statistics, name, targets.layers[name], directions[name]) if weight else None
            if pure is not None:
                terms = terms + weight * term_of(pure)
        if recipe.order == "deepest-first" and i:
            terms = terms.joining_at(_JOINED_AT * i / len(from_the_deepest))
        loss = loss + terms
    if recipe.class_term and statistics.class_index is not None:
        loss = loss + recipe.class_term * losses.cross_entropy(statistics.class_index)
    if recipe.class_score and statistics.class_index is not None:
        loss = loss + recipe.class_score * losses.unit(score_layer or "logits", statistics.class_index)
    if recipe.total_variation:
        loss = loss + recipe.total_variation * regularizers.total_variation()
    for of_photographs in sorted(PHOTOGRAPH_STATISTICS, key=lambda statistic: statistic.rank):
        weight = of_photographs.weight(recipe)
        pure = of_photographs.loss(statistics, targets) if weight else None
        if pure is not None:
            loss = loss + weight * term_of(pure)
    return loss


def channel_directions(statistics: ClassStatistics, recipe: Recipe) -> dict[str, np.ndarray | None]:
    """Find the channel directions in which each layer is looked at.

    Parameters
    ----------
    statistics : ClassStatistics
    recipe : Recipe
        What is asked of a layer decides along what it is looked at.

    Returns
    -------
    dict of str to ndarray of shape (channel, direction), or None
        See `directions.leading_directions`; None for all channels.
    """
    maps = statistics.map_layers
    with one_blas_thread():
        return {
            name: leading_directions(
                [
                    covariance
                    for statistic in LAYER_STATISTICS
                    if statistic.weight(recipe, name, maps)
                    for covariance in statistic.channel_covariances(statistics[name])
                ]
            )
            for name in (INPUT, *maps)
        }
