"""The main job: sample what a class's images activate, and make images that do."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import InputError
from stochdeconv.methods.objective import check_model, target_loss
from stochdeconv.methods.recipe import Recipe, own_recipe, parse_recipe

if TYPE_CHECKING:
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.loop import OptimizationResult, Step
    from stochdeconv.optimization.parameterizations import Parameterization
    from stochdeconv.sampling.targets import Targets
    from stochdeconv.statistics.class_statistics import ClassStatistics


# A walk starts from its middle frame after this part of the steps.
_OPENING = 0.5


def generate(
    model: ImageModel,
    statistics: ClassStatistics,
    *,
    n_images: int | None = None,
    component: str | None = None,
    walk: int | None = None,
    gif: bool = False,
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

    In place of independent samples, the images may be a series: along a component of the class, or from one sample to another. They
    are then optimised one at a time, from the same start and with the same random views, so that they differ by their targets alone.
    The frames of a walk start from the middle one after half of its steps, which lets most of what is in them stay in its place. (To
    go on from the frame before is as smooth, but drags along what it should leave behind; and images along a component that start
    from the middle one stay too close to it.)

    Parameters
    ----------
    model : ImageModel
        The network the statistics were collected with.
    statistics : ClassStatistics
    n_images : int, optional
        By default 8 samples, or 5 images along a component; a walk has its own number.
    component : str, optional
        ``LAYER:J``: the mean of the class moved along the J-th layout component of a layer, from -2 to 2 standard deviations in
        equal steps, see `traversals.component_targets`; nothing is sampled. The sheet says how far each image was to go and how far it
        came.
    walk : int, optional
        So many frames from the first sample to the second, see `traversals.walk_targets`; the animation is made of them.
    gif : bool
        Make an animation of how the images come about, the first 16 of them.
    sampler : {"chain", "joint", "bootstrap", "independent"}
        See `samplers.sample_targets`.
    temperature : float
        Multiplies the deviations of the samples, and of images along a component, from the class's mean.
    row_weight : float
        How much of real images' deviations a chain or bootstrap sample is made of, 0 (Gaussian throughout) to 1.
    gradient_rule : {"true", "guided", "deconvnet", "mix"}
        See `gradient.loss_gradient`.
    init : "noise" or path
        Start from noise or from a photograph.
    n_steps : int
    size : int, optional
        Side of the images in pixels; by default that of the statistics.
    batch_size : int
        Images optimised at a time. They do not influence each other; those of a series go one at a time.
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
    InputError, LayerNotFoundError
        An argument that cannot be used.
    ModelError
        The statistics are another network's.
    RunInterrupted
        On Ctrl-C, with the images as far as they came.
    """
    from stochdeconv.images.animations import Film, as_frames
    from stochdeconv.images.files import load_image
    from stochdeconv.methods.runs import Sampled, recorded_run
    from stochdeconv.optimization.descent import Descent
    from stochdeconv.optimization.loop import OptimizationInterrupted, optimize, optimize_in_batches
    from stochdeconv.optimization.transforms import Transform
    from stochdeconv.sampling.samplers import sample_targets
    from stochdeconv.sampling.traversals import component_targets, spaced_deviations, walk_targets

    check_shown(n_images, component=component, walk=walk, gif=gif)
    check_model(model, statistics)
    image_size = tuple(statistics.input_size) if size is None else model.image_size(size)
    if not isinstance(recipe, Recipe):
        recipe = parse_recipe(recipe or "", _recipe_at(image_size, model, statistics))
    if recipe.spectrum and image_size != tuple(statistics.input_size):
        height, width = statistics.input_size
        raise InputError(
            f"recipe: the spectrum was measured at {height}x{width} and can only be asked of images of that size"
        )
    photo = None if str(init) == "noise" else load_image(init, image_size, channels=model.n_channels)
    sampling = {"sampler": sampler, "temperature": temperature, "seed": seed, "row_weight": row_weight}
    if component is not None:
        deviations = spaced_deviations(temperature, **_given(n_values=n_images))
        targets = component_targets(statistics, component, deviations)
    elif walk is not None:
        targets = walk_targets(statistics, n_frames=walk, **sampling)
    else:
        targets = sample_targets(statistics, **sampling, **_given(n_images=n_images))
    series = component is not None or walk is not None
    film = Film(n_steps) if gif else None
    score_layer = model.score_layer if recipe.class_score else None
    views = [Transform(recipe.jitter, recipe.scale, recipe.rotate)]
    descent = Descent(gradient_rule=gradient_rule, decay=recipe.decay)

    def optimized(shown: Targets, start: np.ndarray | None, *, first_index: int = 0, **how: Any) -> OptimizationResult:
        seeds = {"n_images": shown.n_images, "seed": seed, "first_index": first_index}
        return optimize(
            model,
            target_loss(statistics, shown, recipe, score_layer=score_layer),
            parameterization=_variables(recipe, (*image_size, model.n_channels), start, **seeds),
            transforms=views,
            descent=descent,
            **how,
        )

    n_opening = math.ceil(_OPENING * n_steps) if walk is not None else 0

    def counted(before: int) -> Callable[[Step], None]:
        """Count the opening of a walk in."""
        n_all = n_opening + n_steps * (targets.n_images if series else math.ceil(targets.n_images / batch_size))

        def watched(step: Step) -> None:
            if callback is not None:
                callback(replace(step, step=before + step.step, n_steps=n_all))

        return watched

    def run() -> OptimizationResult:
        start = photo
        if walk is not None:
            middle = targets.take(slice(targets.n_images // 2, targets.n_images // 2 + 1))
            try:
                start = optimized(middle, photo, n_steps=n_opening, callback=counted(0)).images[0]
            except OptimizationInterrupted as interrupt:
                # What there is belongs to no frame.
                raise KeyboardInterrupt from interrupt

        def batch(first: int, n: int, on_step: Callable[[Step], None]) -> OptimizationResult:
            def watched(step: Step) -> None:
                if film is not None:
                    film.expose(step.step, step.images)
                on_step(step)

            shown = targets.take(slice(first, first + n))
            return optimized(shown, start, first_index=0 if series else first, n_steps=n_steps, callback=watched)

        return optimize_in_batches(
            batch, targets.n_images, batch_size=1 if series else batch_size, callback=counted(n_opening)
        )

    def finish(done: RunResult) -> RunResult:
        if component is not None:
            done = _with_deviations(done, model, statistics, component, deviations)
        frames = as_frames(done.images) if walk is not None else film.frames() if film is not None else None
        return replace(done, frames=frames)

    settings = {
        "component": component,
        "walk": walk,
        "gif": gif,
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
        run,
        model=model,
        found_class=None if statistics.class_index is None else model.find_class(statistics.class_index),
        settings=settings,
        seed=seed,
        sampled=Sampled(statistics.hash(), targets.to_arrays()),
        finish=finish,
    )


def _recipe_at(size: tuple[int, int], model: ImageModel, statistics: ClassStatistics) -> Recipe:
    """Take out of the network's own recipe what cannot be asked of images of a size, and say so."""
    recipe = own_recipe(model)
    if size == tuple(statistics.input_size):
        return recipe
    impossible = ["spectrum"]
    if statistics.class_index is not None and not model.can_compute(["logits"], size):
        impossible += ["class_term", "class_score"]
    left_out = [name for name in impossible if getattr(recipe, name)]
    if left_out:
        warnings.warn(
            f"'{model.name}' can be asked for its {' and '.join(left_out)} at its own size alone: left out at {size[0]}x{size[1]}",
            stacklevel=3,
        )
    return replace(recipe, **dict.fromkeys(left_out, 0.0))


def _given(**arguments: int | None) -> dict[str, int]:
    """Those that were given: a default stands where it is used."""
    return {name: value for name, value in arguments.items() if value is not None}


def _with_deviations(
    done: RunResult, model: ImageModel, statistics: ClassStatistics, component: str, asked: np.ndarray
) -> RunResult:
    """Say below each image how far along the component it was to go, and how far it came."""
    from stochdeconv.images.sheets import contact_sheet
    from stochdeconv.sampling.traversals import component_deviations

    reached = component_deviations(model, statistics, component, done.images)
    table, captions = [], []
    # An interrupted run has fewer images than were asked for.
    for image, (to_go, came) in enumerate(zip(asked.tolist(), reached.tolist(), strict=False)):
        table.append({"image": image, "asked": round(to_go, 4), "reached": round(came, 4)})
        captions.append(f"{to_go:+.3g} sd\nreached {came:+.2f}" if abs(to_go) > 1e-9 else f"mean\nreached {came:+.2f}")
    return replace(done, tables={"deviations": table}, sheet=contact_sheet(done.images, captions=captions))


def check_shown(n_images: int | None, *, component: str | None, walk: int | None, gif: bool) -> None:
    """Raise InputError where what is to be shown contradicts itself."""
    if component is not None and walk is not None:
        raise InputError("component and walk are two different series of images; give one of the two")
    if walk is not None and n_images is not None:
        raise InputError(f"a walk has its own number of frames, here {walk}; leave n_images out")
    if component is not None and n_images is not None and n_images < 2:
        raise InputError(f"a component is shown by at least 2 images, one at either end; got {n_images}")
    if walk is not None and gif:
        raise InputError("a walk is an animation already; leave gif out")


def _variables(recipe: Recipe, shape: tuple[int, int, int], photo: np.ndarray | None, **seeds: int) -> Parameterization:
    from stochdeconv.optimization.parameterizations import Clip, fourier, pixels

    seeds["learning_rate"] = recipe.learning_rate
    if recipe.parameterization == "fourier":
        start = None if photo is None else photo[None]
        return fourier(shape[:2], n_channels=shape[2], initial_images=start, **seeds)
    start = np.full(shape, 0.5, np.float32) if photo is None else photo
    return pixels(start, constraints=[Clip(0.0, 1.0)], **seeds)
