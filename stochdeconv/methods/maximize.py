"""Activation maximization: the baseline that the sampled images are compared with, and a look at any unit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import InputError
from stochdeconv.methods.constraint_ablation import VALUES_OF, ablation_rows, all_constraints, run_rows, with_sheet
from stochdeconv.methods.objectives import Objective, find_objective
from stochdeconv.methods.outlier_suppression import MAXIMIZE_WEIGHT, suppression, weigh_outliers
from stochdeconv.methods.presets import (
    DEFAULT_PRESET,
    OF_PIXELS,
    PRESETS,
    START_NOISE,
    Preset,
    constraints_of,
    find_preset,
    input_origin,
    with_decay,
)

if TYPE_CHECKING:
    from stochdeconv.losses import Loss
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.loop import OptimizationResult, Step
    from stochdeconv.statistics.class_statistics import ClassStatistics

__all__ = ["PRESETS", "Preset", "maximize"]

#: How many images, and how many at a time.
N_IMAGES, BATCH_SIZE = 8, 8


def maximize(
    model: ImageModel,
    class_name: str | int | Sequence[str | int] | None = None,
    *,
    unit: str | Sequence[str] | None = None,
    direction: str | tuple[str, Any] | None = None,
    preset: str | None = None,
    l2: float | None = None,
    blur: float | None = None,
    blur_every: int | None = None,
    jitter: int | None = None,
    clip: float | None = None,
    contribution: float | None = None,
    ablate_constraints: bool = False,
    diversity: float = 0.0,
    diversity_layer: str | None = None,
    suppress_outliers: ClassStatistics | str | Path | None = None,
    outlier_weight: float | None = None,
    n_images: int | None = None,
    n_steps: int = 256,
    size: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    callback: Callable[[Step], None] | None = None,
) -> RunResult:
    """Find images that raise a class neuron, any unit or direction, or several at once, as far as it goes.

    Parameters
    ----------
    model : ImageModel
    class_name : str, int or sequence of these, optional
        Name, wnid or index; its score, before the last non-linearity, is maximised. Several, in a sequence or parted by
        commas: the sum of their logits.
    unit : str or sequence of str, optional
        ``LAYER:CHANNEL`` (mean over positions) or ``LAYER:CHANNEL:ROW:COLUMN``, LAYER a name or a number (`Network.find_layer`),
        instead of a class; several as above.
    direction : str or (layer, vector), optional
        ``LAYER:FILE.npy``, or the layer and one number for each of its channels, instead of a class: the mean projection of the layer's
        values on that direction is maximised.
    preset : {"simonyan", "regularised", "fourier"}, optional
        See `presets.PRESETS`. By default ``"fourier"``; ``"regularised"`` where what is given needs pixels: `blur`, `blur_every`, `clip`,
        `contribution` or `ablate_constraints`.
    l2, blur, blur_every, jitter, clip, contribution : optional
        Override the preset's; see `presets.Preset` for units.
    ablate_constraints : bool
        Make `n_images` with none of the constraints (L2 decay, blur, jitter, pixel clipping, clipping of small contributions), with each
        alone and with all together. What is not given is as in the preset ``"regularised"``.
    diversity : float
        Weight, in units of the score, of the mean likeness of each image to the others (see `losses.diversity`): several different images
        of the same unit. A tenth of the score that is reached without it parts them, a half makes them as different as they get (preset
        ``"fourier"``, SqueezeNet). The images are then of one batch.
    diversity_layer : str, optional
        Where likeness is measured, by name or number; the middle one of the network's default layers by default.
    suppress_outliers : ClassStatistics or path, optional
        Of the class that is maximised: channels that make a layer an outlier of it are decreased, see `outlier_suppression`.
    outlier_weight : float, optional
        Standard deviations of the class score that an outlier at twice the limit costs, each layer; by default 10.
    n_images, batch_size : int, optional
        By default 8 images, 8 at a time; with `diversity` as many at a time as there are, and no more than are to be at a time.
    n_steps, seed : int
    size : int, optional
        Side of the images in pixels; the network's own by default, others where the network is convolutional throughout.
    callback : callable, optional
        Called with a `Step` after each step.

    Returns
    -------
    RunResult
        With `ablate_constraints`, the images row by row and a sheet of them with what each row is.

    Raises
    ------
    InputError
        None or several of class, unit and direction were given, a setting is out of range or does not go with another.
    LayerNotFoundError, ClassNotFoundError
        The unit, layer or class does not exist.
    ModelError
        The statistics are another network's.
    MissingInputError, FileFormatError
        Their file is not there, or is none.
    RunInterrupted
        On Ctrl-C, with the images as far as they came.
    """
    from stochdeconv import losses
    from stochdeconv.losses import regularizers
    from stochdeconv.methods.runs import Sampled, recorded_run, source_of
    from stochdeconv.optimization.loop import optimize_in_batches

    overrides = {
        "l2": l2,
        "blur": blur,
        "blur_every": blur_every,
        "jitter": jitter,
        "clip": clip,
        "contribution": contribution,
    }
    preset, how = choose_preset(preset, overrides, ablate_constraints=ablate_constraints)
    n_images, batch_size = plan_batch(diversity, diversity_layer, n_images=n_images, batch_size=batch_size)
    outlier_weight = weigh_outliers(suppress_outliers, outlier_weight, default=MAXIMIZE_WEIGHT)
    image_size = model.image_size(size)

    objective = find_objective(model, class_name, unit, direction)
    extra, likeness_layer = losses.Loss(), None
    if diversity:
        likeness_layer = _likeness_layer(model, diversity_layer)
        extra = extra + diversity * losses.diversity(likeness_layer)
    shown = objective.classes if len(objective.classes) == 1 else []
    known = [] if suppress_outliers is None else [suppress_outliers]
    if known and not shown:
        raise InputError(
            f"outliers are suppressed while one class is maximised; what is maximised is {', '.join(objective.titles)}: "
            "maximise the class of the statistics, or leave --suppress-outliers out"
        )
    outliers = suppression(model, known, shown, weight=outlier_weight)
    for found in shown:
        extra = extra + outliers.loss(found.index)
    mean_color, grey_levels = input_origin(model)
    origin = np.asarray(model.preprocess(mean_color[None, None, None]), np.float32)[0, 0, 0]
    how = all_constraints(how, overrides) if ablate_constraints else how
    how = with_decay(how if jitter is not None else how.at(image_size), model, objective.loss, image_size)
    rows = ablation_rows(how) if ablate_constraints else {"all": how}

    def run_of(how: Preset) -> Callable[..., OptimizationResult]:
        loss = objective.loss + extra
        if how.l2:
            loss = loss + how.l2 * regularizers.l2(grey_levels, origin)
        return _run_of(model, loss, how, image_size, n_steps=n_steps, seed=seed)

    runs = {name: run_of(row) for name, row in rows.items()}
    batches = {"batch_size": batch_size, "callback": callback}
    if ablate_constraints:
        run, finish = lambda: run_rows(runs, n_images, **batches), lambda result: with_sheet(result, rows, n_images)
    else:
        run = lambda: optimize_in_batches(runs["all"], n_images, **batches)  # noqa: E731
        finish = None if len(objective.classes) == 1 else lambda result: _titled(result, objective)
    result = recorded_run(
        "maximize",
        run,
        model=model,
        found_class=shown[0] if shown else None,
        settings={
            "preset": preset,
            "classes": [vars(found) for found in objective.classes],
            "unit": ",".join(objective.titles) if unit is not None else None,
            "direction": objective.direction,
            **vars(how),
            "diversity": diversity,
            "diversity_layer": likeness_layer,
            "suppress_outliers": source_of(suppress_outliers),
            "outlier_weight": outlier_weight,
            "ablate_constraints": {name: vars(row) for name, row in rows.items()} if ablate_constraints else None,
            "n_steps": n_steps,
            "batch_size": batch_size,
        },
        seed=seed,
        sampled=Sampled(outliers.statistics_hash),
        finish=finish,
    )
    _warn_of_silence(objective, result)
    return result


def choose_preset(
    preset: str | None, overrides: Mapping[str, float | None], *, ablate_constraints: bool
) -> tuple[str, Preset]:
    """Find the preset that is asked for, or the default one, with what overrides it.

    Raises
    ------
    InputError
        As `presets.find_preset`, or constraints on pixels are to be ablated of a preset that has none.
    """
    if preset is None:
        preset = VALUES_OF if ablate_constraints or any(overrides[name] for name in OF_PIXELS) else DEFAULT_PRESET
    how = find_preset(preset, overrides)
    if ablate_constraints and how.parameterization != "pixels":
        raise InputError(f"--ablate-constraints acts on pixels; the preset '{preset}' has none: use '{VALUES_OF}'")
    if overrides["blur_every"] is not None and not how.blur and not ablate_constraints:
        raise InputError(f"--blur-every says how often the blur comes, and '{preset}' has none: give --blur too")
    return preset, how


def plan_batch(diversity: float, layer: str | None, *, n_images: int | None, batch_size: int | None) -> tuple[int, int]:
    """Fill in the numbers of images, in all and at a time, that were not given.

    Raises
    ------
    InputError
        Images are to differ that do not see each other.
    """
    if n_images is None:
        n_images = N_IMAGES if batch_size is None or not diversity else min(N_IMAGES, batch_size)
    if batch_size is None:
        batch_size = n_images if diversity else BATCH_SIZE
    if not diversity >= 0:
        raise InputError(f"diversity is a weight of at least 0; got {diversity}")
    if layer is not None and not diversity:
        raise InputError(f"layer '{layer}' is where the images are to differ, but diversity has no weight: give one")
    if diversity and not 2 <= n_images <= batch_size:
        raise InputError(
            f"diversity is between the images of one batch: it takes at least 2 images and a --batch-size of as many; "
            f"got {n_images} images in batches of {batch_size}"
        )
    return n_images, batch_size


def _likeness_layer(model: ImageModel, layer: str | None) -> str:
    """Find where the likeness of images is measured."""
    layer = model.default_layers[len(model.default_layers) // 2] if layer is None else model.find_layer(layer)
    if len(model.layer_shape(layer)) != 3:
        raise InputError(
            f"the likeness of images is measured on a map; layer '{layer}' has shape {model.layer_shape(layer)}"
        )
    return layer


def _run_of(
    model: ImageModel, loss: Loss, how: Preset, size: tuple[int, int], *, n_steps: int, seed: int
) -> Callable[[int, int, Callable[[Step], None]], OptimizationResult]:
    """Make the run of a batch: (first index, number of images, callback) -> OptimizationResult."""
    from stochdeconv.optimization import parameterizations, transforms
    from stochdeconv.optimization.descent import Descent
    from stochdeconv.optimization.loop import optimize

    mean_color, _ = input_origin(model)
    views = [transforms.Transform(how.jitter, how.scale, how.rotate)]

    def run(first: int, n: int, on_step: Callable[[Step], None]) -> OptimizationResult:
        seeds = {"n_images": n, "seed": seed, "first_index": first, "learning_rate": how.learning_rate}
        if how.parameterization == "fourier":
            variables = parameterizations.fourier(size, n_channels=model.n_channels, **seeds)
        else:
            start = np.broadcast_to(mean_color, (*size, model.n_channels))
            constraints = constraints_of(how, mean_color)
            variables = parameterizations.pixels(start, noise=START_NOISE, constraints=constraints, **seeds)
        return optimize(
            model,
            loss,
            parameterization=variables,
            n_steps=n_steps,
            transforms=views,
            descent=Descent(how.optimizer),
            callback=on_step,
        )

    return run


def _titled(result: RunResult, objective: Objective) -> RunResult:
    """Say on the sheet what is shown, where no one class gives the run its name."""
    from stochdeconv.images.sheets import contact_sheet

    captions = [" + ".join(objective.titles)] * len(result.images)
    return replace(result, sheet=contact_sheet(result.images, captions=captions))


def _warn_of_silence(objective: Objective, result: RunResult) -> None:
    for name, title in zip(objective.loss.names, objective.titles, strict=True):
        if all(row[name] == 0 for row in result.history):
            warnings.warn(
                f"{title} did not fire in any step, so there was no gradient to follow; "
                "a layer's values before its ReLU have one: LAYER_linear:CHANNEL",
                stacklevel=3,
            )
