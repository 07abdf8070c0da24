"""The main job: sample what a class's images activate, and make images that do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import InputError, ModelError, closest

if TYPE_CHECKING:
    from stochdeconv.losses import Loss
    from stochdeconv.models import ImageModel
    from stochdeconv.optimize import Step
    from stochdeconv.parameterizations import Parameterization
    from stochdeconv.run_folder import RunResult
    from stochdeconv.samplers import Targets
    from stochdeconv.statistics import ClassStatistics


@dataclass(frozen=True)
class Recipe:
    """What is asked of a generated image, and how strongly; a weight of 0 leaves a term out.

    Attributes
    ----------
    layout : float
        Whitened distance to the sampled layout scores, each of the `n_layout_layers` deepest layers: where things are.
    n_layout_layers : int
    shallow_layout : float
        The same, each of the other layers.
    color_layout : float
        The same for the image itself: where its colours are.
    moments : float
        Channel means, spreads and correlations of every layer but the deepest: the texture.
    facets : float
        Means of the shallower layers over each kind of place, to the sampled ones: which texture is where.
    class_term : float
        Cross-entropy of the class.
    class_score : float
        The raw class score, as activation maximization has it. Most networks answer with its tiling; one that was trained to withstand
        small changes answers with the object.
    total_variation : float
        Smoothness.
    color : float
        Colour mean and covariance of the image, to the sampled ones.
    sharpness : float
        Mean and standard deviation of the log gradient magnitude, to the sampled ones: edges as sharp as a photograph's.
    spectrum : float
        Amplitude spectrum, to the class's.
    order : {"together", "deepest-first"}
        All layers from the first step on, or the deepest first and the shallower ones joining one by one over the first half.
    parameterization : {"fourier", "pixels"}
    learning_rate : float
        In units of the parameterization's variables.
    decay : bool
        Let the learning rate fall to zero.
    jitter : int
        Largest random shift of the view, pixels.
    scale, rotate : float
        Largest random change of the view's size (fraction) and rotation (degrees).
    """

    layout: float = 2.0
    n_layout_layers: int = 3
    shallow_layout: float = 1.0
    color_layout: float = 4.0
    moments: float = 1.0
    facets: float = 4.0
    class_term: float = 0.2
    class_score: float = 0.0
    total_variation: float = 100.0
    color: float = 0.0
    sharpness: float = 0.0
    spectrum: float = 0.0
    order: str = "together"
    parameterization: str = "fourier"
    learning_rate: float = 0.05
    decay: bool = False
    jitter: int = 3
    scale: float = 0.05
    rotate: float = 3.0

    def __post_init__(self):
        for name, values in (("order", ("together", "deepest-first")), ("parameterization", ("fourier", "pixels"))):
            if getattr(self, name) not in values:
                raise InputError(f"recipe: {name} must be one of {', '.join(values)}; got '{getattr(self, name)}'")
        for name, value in asdict(self).items():
            if isinstance(value, int | float) and value < 0:
                raise InputError(f"recipe: {name} must be at least 0; got {value}")


def parse_recipe(text: str, base: Recipe | None = None) -> Recipe:
    """Read ``NAME=VALUE,NAME=VALUE``; what is not named stays as in `base`, by default `Recipe`'s own values.

    Raises
    ------
    InputError
        An unknown name, or a value of the wrong kind.
    """
    base = base or Recipe()
    defaults = asdict(base)
    changes: dict[str, object] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name not in defaults:
            near = closest(name, defaults)
            raise InputError(
                f"recipe: '{part}' is not NAME=VALUE of a part of the recipe{f'; closest: {near}' if near else ''}; "
                f"there are {', '.join(defaults)}"
            )
        kind = type(defaults[name])
        readings = {"true": True, "false": False} if kind is bool else None
        try:
            changes[name] = readings[value.lower()] if readings else kind(value)
        except (KeyError, ValueError):
            wanted = "true or false" if kind is bool else f"a value like {defaults[name]}"
            raise InputError(f"recipe: {name} is {wanted}; got '{value}'") from None
    return replace(base, **changes)


def own_recipe(model: ImageModel) -> Recipe:
    """Read the recipe of a network: the default, with what its sidecar says.

    Raises
    ------
    ModelError
        The sidecar's recipe is none.
    """
    try:
        return parse_recipe(model.recipe)
    except InputError as error:
        raise ModelError(f"the sidecar of '{model.name}' has a bad recipe: {error}") from error


# Shallower layers have all joined after this fraction of the steps, in the order "deepest-first".
_JOINED_AT = 0.5


def generate(
    model: ImageModel,
    statistics: ClassStatistics,
    *,
    n_images: int = 8,
    sampler: str = "bootstrap",
    temperature: float = 1.0,
    row_weight: float = 0.9,
    gradient_rule: str = "true",
    init: str | Path = "noise",
    n_steps: int = 256,
    size: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
    recipe: Recipe | str | None = None,
    callback: Callable[[Step], None] | None = None,
) -> RunResult:
    """Make varied images of a class from the statistics of its activations: a new sample, a new image.

    Parameters
    ----------
    model : ImageModel
        The network the statistics were collected with.
    statistics : ClassStatistics
    n_images : int
    sampler : {"chain", "joint", "bootstrap", "independent"}
        See `samplers.sample_targets`.
    temperature : float
        Multiplies the deviations of the samples from the class's mean.
    row_weight : float
        How much of real images' deviations a chain or bootstrap sample is made of, 0 (Gaussian throughout) to 1.
    gradient_rule : {"true", "guided", "deconvnet", "mix"}
        See `gradients.loss_gradient`.
    init : "noise" or path
        Start from noise or from a photograph.
    n_steps : int
    size : int, optional
        Side of the images in pixels; by default that of the statistics.
    batch_size : int
        Images optimised at a time. They do not influence each other.
    seed : int
        Target, start and random views of image i depend on (seed, i) alone.
    recipe : Recipe or str, optional
        The objective: whole, or as a text of what changes in the network's own (``"facets=0,class_term=1"``, see `parse_recipe`). A
        network's own is the default of `Recipe`, with what its sidecar file says under ``"recipe"``.
    callback : callable, optional
        Called with a `Step` after each step.

    Returns
    -------
    RunResult

    Raises
    ------
    ModelError
        The statistics are another network's.
    RunInterrupted
        On Ctrl-C, with the images as far as they came.
    """
    from stochdeconv.descent import Descent
    from stochdeconv.images import load_image
    from stochdeconv.optimize import optimize, optimize_in_batches
    from stochdeconv.run_folder import Sampled, recorded_run
    from stochdeconv.samplers import sample_targets
    from stochdeconv.transforms import Transform

    check_model(model, statistics)
    if not isinstance(recipe, Recipe):
        recipe = parse_recipe(recipe or "", own_recipe(model))
    if n_images < 1:
        raise InputError(f"n_images must be at least 1; got {n_images}")
    if size is not None and size < 1:
        raise InputError(f"size is the side of the images in pixels, at least 1; got {size}")
    image_size = tuple(statistics.input_size) if size is None else (size, size)
    if recipe.spectrum and image_size != tuple(statistics.input_size):
        height, width = statistics.input_size
        raise InputError(
            f"recipe: the spectrum was measured at {height}x{width} and can only be asked of images of that size"
        )
    photo = None if str(init) == "noise" else load_image(init, image_size)
    targets = sample_targets(
        statistics, sampler=sampler, n_images=n_images, temperature=temperature, seed=seed, row_weight=row_weight
    )
    score_layer = model.score_layer if recipe.class_score else None
    moves = recipe.jitter or recipe.scale or recipe.rotate
    views = [Transform(recipe.jitter, recipe.scale, recipe.rotate)] if moves else []
    descent = Descent(gradient_rule=gradient_rule, decay=recipe.decay)

    def run(first: int, n: int, on_step: Callable[[Step], None]):
        return optimize(
            model,
            target_loss(statistics, targets.take(slice(first, first + n)), recipe, score_layer=score_layer),
            parameterization=_variables(recipe, image_size, photo, n_images=n, seed=seed, first_index=first),
            n_steps=n_steps,
            transforms=views,
            descent=descent,
            callback=on_step,
        )

    settings = {
        "sampler": sampler,
        "temperature": temperature,
        "row_weight": row_weight,
        "size": list(image_size),
        "gradient_rule": gradient_rule,
        "init": str(init),
        "n_steps": n_steps,
        "batch_size": batch_size,
        "recipe": asdict(recipe),
    }
    return recorded_run(
        "generate",
        lambda: optimize_in_batches(run, n_images, batch_size=batch_size, callback=callback),
        model=model,
        found_class=None if statistics.class_index is None else model.find_class(statistics.class_index),
        settings=settings,
        seed=seed,
        sampled=Sampled(statistics.hash(), targets.to_arrays()),
    )


def _variables(recipe: Recipe, size: tuple[int, int], photo: np.ndarray | None, **seeds: int) -> Parameterization:
    from stochdeconv.parameterizations import Clip, fourier, pixels

    seeds["learning_rate"] = recipe.learning_rate
    if recipe.parameterization == "fourier":
        return fourier(size, initial_images=None if photo is None else photo[None], **seeds)
    start = np.full((*size, 3), 0.5, np.float32) if photo is None else photo
    return pixels(start, constraints=[Clip(0.0, 1.0)], **seeds)


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


def target_loss(
    statistics: ClassStatistics, targets: Targets, recipe: Recipe, *, score_layer: str | None = None
) -> Loss:
    """Put the objective together: sampled layouts of the deep layers, sampled textures of the others, realism.

    Parameters
    ----------
    statistics : ClassStatistics
    targets : Targets
        What the images of one batch should activate.
    recipe : Recipe
    score_layer : str, optional
        Where class scores are before any ReLU (`ImageModel.score_layer`), for `class_score`.

    Returns
    -------
    Loss
    """
    from stochdeconv import losses, regularizers
    from stochdeconv.statistics import INPUT

    maps = [name for name, layer in statistics.items() if name != INPUT and layer.shape[0] * layer.shape[1] > 1]
    if not maps:
        raise InputError(
            f"the statistics hold no convolutional layer ({', '.join(statistics)}); collect with --layers naming some, or without it"
        )
    layout_weights = dict.fromkeys(maps, recipe.shallow_layout) | {INPUT: recipe.color_layout}
    layout_weights |= (
        dict.fromkeys(maps[len(maps) - recipe.n_layout_layers :], recipe.layout) if recipe.n_layout_layers else {}
    )
    textured = maps[:-1] or maps

    loss = losses.Loss()
    from_the_deepest = [*reversed(maps), INPUT]
    for i, name in enumerate(from_the_deepest):
        layer, sampled, terms = statistics[name], targets.layers[name], losses.Loss()
        # A layer that is the same in every image has no components.
        if layout_weights[name] and layer.n_components:
            terms = terms + layout_weights[name] * losses.layout_scores(
                name,
                scores=sampled.scores,
                components=layer.components,
                explained_variance=layer.explained_variance,
                layout_mean=layer.layout_mean,
            )
        texture_weight = recipe.moments if name in textured else recipe.color if name == INPUT else 0.0
        if texture_weight:
            terms = terms + texture_weight * losses.channel_moments(
                name, mean=sampled.mean, std=sampled.std, covariance=layer.within_covariance
            )
        if recipe.facets and layer.facet_means is not None:
            terms = terms + recipe.facets * losses.facet_moments(
                name,
                facets=statistics.facets,
                layout_shape=layer.layout_shape[:2],
                means=sampled.facet_means,
                variance=float(layer.facet_means.reshape(-1, layer.shape[-1]).var(axis=0).sum()),
            )
        if recipe.order == "deepest-first" and i:
            terms = terms.joining_at(_JOINED_AT * i / len(from_the_deepest))
        loss = loss + terms
    if recipe.class_term and statistics.class_index is not None:
        loss = loss + recipe.class_term * losses.cross_entropy(statistics.class_index)
    if recipe.class_score and statistics.class_index is not None:
        loss = loss + recipe.class_score * losses.unit(score_layer or "logits", statistics.class_index)
    if recipe.total_variation:
        loss = loss + recipe.total_variation * regularizers.total_variation()
    if recipe.sharpness:
        loss = loss + recipe.sharpness * regularizers.edge_sharpness(
            targets.log_gradient_mean, targets.log_gradient_std
        )
    if recipe.spectrum:
        loss = loss + recipe.spectrum * regularizers.amplitude_spectrum(
            statistics.amplitude_mean, statistics.input_size
        )
    return loss
