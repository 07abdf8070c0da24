"""Activation maximization: the baseline that the sampled images are compared with, and a look at any unit."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import InputError, SettingsError
from stochdeconv.methods.constraint_ablation import VALUES_OF, ablation_rows, all_constraints, with_sheet
from stochdeconv.methods.objectives import Objective, find_objective, read_direction, read_unit
from stochdeconv.methods.outlier_suppression import MAXIMIZE_WEIGHT, list_statistics, suppression, weigh_outliers
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
from stochdeconv.methods.settings import RunSettings, with_batch_size
from stochdeconv.parsing import read_list
from stochdeconv.settings import OPEN, check_number, read_settings, source_of, takes
from stochdeconv.statistics.class_statistics import ClassStatistics

if TYPE_CHECKING:
    from stochdeconv.losses import Loss
    from stochdeconv.methods.outlier_suppression import Suppression
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.parameterizations import Parameterization
    from stochdeconv.optimization.results import OptimizationResult, Step

__all__ = ["PRESETS", "MaximizeSettings", "Preset", "maximize"]

#: How many images.
N_IMAGES = 8
# Settings of a preset that can be overridden.
_OVERRIDES = ("l2", "blur", "blur_every", "jitter", "clip", "contribution")


@dataclass(frozen=True, kw_only=True)
class MaximizeSettings(RunSettings):
    """How a class neuron, a unit or a direction is maximised.

    Attributes
    ----------
    n_images : int, optional
        How many images, with `ablate_constraints` a row: by default 8; with `diversity` no more than are to be at a time.
    preset : {"simonyan", "regularised", "fourier"}, optional
        Way to maximise, see `presets.PRESETS`. By default "fourier"; "regularised" where something needs pixels: `blur`, `blur_every`,
        `clip`, `contribution` or `ablate_constraints`.
    l2 : float, optional
        Weight of the squared, mean-centred input; any preset. By default as the preset finds it for the network.
    blur : float, optional
        Gaussian blur between steps, in pixels (simonyan, regularised); the preset's by default.
    blur_every : int, optional
        Steps from one blur to the next (simonyan, regularised); the preset's by default.
    jitter : int, optional
        Largest random shift, in pixels; any preset. By default the preset's, in proportion less below 112 pixels.
    clip : float, optional
        Largest distance of a pixel from mid-grey (simonyan, regularised); the preset's by default.
    contribution : float, optional
        Percentile of the pixels, those that contribute least, that are reset to the mean colour (simonyan, regularised); the preset's by
        default.
    ablate_constraints : bool
        Make `n_images` with none of the constraints (L2 decay, blur, jitter, pixel clipping, clipping of small contributions), with each
        alone and with all together, on one sheet. What is left open is as in the preset "regularised".
    unit : str or sequence of str, ``LAYER:CHANNEL[:ROW:COLUMN]``, optional
        A unit instead of a class (without a position: the mean over them); several, with commas: their sum. LAYER is a name, or a number
        of the list of layers (0 is the input).
    direction : str or (layer, vector), ``LAYER:FILE.npy``, optional
        A direction instead of a class: one number for each channel of the layer. The mean projection of the layer's values on it is
        maximised.
    diversity : float
        Weight, in units of the score, of the mean likeness of each image to the others (see `losses.diversity`): several different images
        of the same unit. A tenth of the score that is reached without it parts them, a half makes them as different as they get (preset
        "fourier", SqueezeNet). The images are then of one batch.
    diversity_layer : str, ``LAYER``, optional
        Where likeness is measured, by name or number; the middle one of the network's default layers by default.
    suppress_outliers : ClassStatistics or path, ``FILE.h5``, optional
        Statistics of the class: channels that make a layer an outlier of it are decreased, see `outlier_suppression`.
    outlier_weight : float, optional
        Standard deviations of the class score that an outlier at twice the limit costs, each layer; by default 10.
    n_steps : int
        Optimisation steps.
    batch_size : int, optional
        Images at a time: by default 8, on a GPU 64, or half as many until they fit its memory; with `diversity` all of them.
    """

    n_images: int = OPEN
    preset: str = OPEN
    l2: float | None = None
    blur: float | None = None
    blur_every: int | None = None
    jitter: int | None = None
    clip: float | None = None
    contribution: float | None = None
    ablate_constraints: bool = False
    unit: str | Sequence[str] | None = None
    direction: str | tuple[str, Any] | None = None
    diversity: float = 0.0
    diversity_layer: str | None = None
    suppress_outliers: str | Path | ClassStatistics | None = None
    outlier_weight: float | None = None
    n_steps: int = 256
    batch_size: int = OPEN

    def _settle(self) -> None:
        super()._settle()
        if self.unit is not None and self.direction is not None:
            raise SettingsError("unit= and direction= are two different things to maximise; give one of the two")
        n_images, batch_size = _plan_batch(self.diversity, self.diversity_layer, self.n_images, self.batch_size)
        weight = weigh_outliers(self.suppress_outliers, self.outlier_weight, default=MAXIMIZE_WEIGHT)
        preset = self.preset
        if preset is None:
            needs_pixels = self.ablate_constraints or any(getattr(self, name) for name in OF_PIXELS)
            preset = VALUES_OF if needs_pixels else DEFAULT_PRESET
        self._fill(n_images=n_images, batch_size=batch_size, outlier_weight=weight, preset=preset)
        self.way()
        if self.unit is not None:
            read_list(self.unit, "unit", read_unit)
        if self.direction is not None:
            read_direction(self.direction)

    @property
    def overrides(self) -> dict[str, float | None]:
        """Settings of the preset that are to be others."""
        return {name: getattr(self, name) for name in _OVERRIDES}

    def way(self) -> Preset:
        """Return the preset with what overrides it.

        Returns
        -------
        Preset

        Raises
        ------
        InputError
            As `presets.find_preset`, or constraints on pixels are to be ablated of a preset that has none.
        """
        preset = find_preset(self.preset, self.overrides)
        if self.ablate_constraints and preset.parameterization != "pixels":
            raise SettingsError(
                f"ablate_constraints=True acts on pixels; the preset '{self.preset}' has none: use '{VALUES_OF}'"
            )
        if self.blur_every is not None and not preset.blur and not self.ablate_constraints:
            raise SettingsError(
                f"blur_every= says how often the blur comes, and '{self.preset}' has none: give blur= too"
            )
        return all_constraints(preset, self.overrides) if self.ablate_constraints else preset

    def check_objective(self, class_name: object) -> None:
        """Raise SettingsError unless a class, a unit or a direction is to be maximised, one of the three."""
        if sum(part is not None for part in (class_name, self.unit, self.direction)) != 1:
            raise SettingsError(
                "give either a class, unit=LAYER:CHANNEL[:ROW:COLUMN] or direction=LAYER:FILE.npy, one of the three"
            )


@takes(MaximizeSettings)
def maximize(
    model: ImageModel,
    class_name: str | int | Sequence[str | int] | None = None,
    settings: MaximizeSettings | None = None,
    *,
    callback: Callable[[Step], None] | None = None,
    **keywords: Any,
) -> RunResult:
    """Find images that raise a class neuron, any unit or direction, or several at once, as far as it goes.

    Parameters
    ----------
    model : ImageModel
    class_name : str, int or sequence of these, optional
        Name, wnid or index; its score, before the last non-linearity, is maximised. Several, in a sequence or parted by
        commas: the sum of their logits. Left out where a unit or direction is maximised.
    settings : MaximizeSettings, optional
    callback : callable, optional
        Called with a `Step` after each step.
    **keywords
        Fields of `MaximizeSettings`, in its place.

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
    from stochdeconv.methods.runs import hand_over, record_run
    from stochdeconv.optimization.results import OptimizationResult, gather

    settings = with_batch_size(read_settings(MaximizeSettings, settings, keywords, model=model))
    settings.check_objective(class_name)
    started = time.monotonic()
    size = model.image_size(settings.size)
    objective = find_objective(model, class_name, settings.unit, settings.direction)
    outliers = _outliers_of(model, objective, settings)
    likeness_layer = _likeness_layer(model, settings.diversity_layer) if settings.diversity else None
    loss = _loss_of(objective, outliers, settings, likeness_layer)
    way = settings.way() if settings.jitter is not None else settings.way().at(size)
    way = with_decay(way, model, objective.loss, size)
    rows = ablation_rows(way) if settings.ablate_constraints else {"all": way}
    run = record_run(
        "maximize",
        OptimizationResult.joined(gather(_maximized(model, loss, rows, settings, size, callback))),
        model=model,
        settings=settings.record(
            "n_images",
            size=list(size),
            classes=[vars(entry) for entry in objective.classes],
            unit=",".join(objective.titles) if settings.unit is not None else None,
            direction=objective.direction,
            **vars(way),
            diversity_layer=likeness_layer,
            suppress_outliers=source_of(settings.suppress_outliers),
            ablate_constraints={name: vars(row) for name, row in rows.items()} if settings.ablate_constraints else None,
        ),
        seed=settings.seed,
        seconds=time.monotonic() - started,
        shown_class=objective.only_class,
        statistics_hash=outliers.statistics_hash,
    )
    if settings.ablate_constraints:
        run = with_sheet(run, rows, settings.n_images)
    elif objective.only_class is None:
        run = _titled(run, objective)
    run = hand_over(run)
    _warn_of_silence(objective, run)
    return run


def _outliers_of(model: ImageModel, objective: Objective, settings: MaximizeSettings) -> Suppression:
    """Weigh the outliers of the class, where statistics say what they are."""
    sources, raised = list_statistics(settings.suppress_outliers), objective.only_class
    if sources and raised is None:
        raise InputError(
            f"outliers are suppressed while one class is maximised; what is maximised is {', '.join(objective.titles)}: "
            "maximise the class of the statistics, or leave suppress_outliers= out"
        )
    return suppression(model, sources, [raised] if raised else [], weight=settings.outlier_weight)


def _loss_of(
    objective: Objective, outliers: Suppression, settings: MaximizeSettings, likeness_layer: str | None
) -> Loss:
    """Put together what is raised, what parts the images and what outliers cost."""
    from stochdeconv import losses

    loss = objective.loss
    if likeness_layer is not None:
        loss = loss + settings.diversity * losses.diversity(likeness_layer)
    return loss if objective.only_class is None else loss + outliers.loss(objective.only_class.index)


def _maximized(
    model: ImageModel,
    loss: Loss,
    ways: Mapping[str, Preset],
    settings: MaximizeSettings,
    size: tuple[int, int],
    callback: Callable[[Step], None] | None,
) -> Iterator[OptimizationResult]:
    """Make the images in one way after another; a row of the history says by ``constraints`` whose it is where there are several."""
    from stochdeconv.losses import regularizers
    from stochdeconv.optimization.descent import Descent
    from stochdeconv.optimization.loop import optimize
    from stochdeconv.optimization.results import in_stage
    from stochdeconv.optimization.transforms import Transform

    mean_color, grey_levels = input_origin(model)
    origin = np.asarray(model.preprocess(mean_color[None, None, None]), np.float32)[0, 0, 0]
    for number, (name, way) in enumerate(ways.items()):
        result = optimize(
            model,
            loss + way.l2 * regularizers.l2(grey_levels, origin) if way.l2 else loss,
            parameterization=_variables(model, way, size, settings, mean_color),
            n_steps=settings.n_steps,
            transforms=[Transform(way.jitter, way.scale, way.rotate)],
            descent=Descent(way.optimizer),
            batch_size=settings.batch_size,
            callback=in_stage(callback, number, len(ways)),
        )
        label = {"constraints": name} if len(ways) > 1 else {}
        history = [{"batch": row["batch"], "step": row["step"], **label, **row} for row in result.history]
        yield replace(result, history=history)


def _variables(
    model: ImageModel, way: Preset, size: tuple[int, int], settings: MaximizeSettings, mean_color: np.ndarray
) -> Parameterization:
    from stochdeconv.optimization.parameterizations import fourier, pixels

    numbers: dict[str, Any] = {"n_images": settings.n_images, "seed": settings.seed, "learning_rate": way.learning_rate}
    if way.parameterization == "fourier":
        return fourier(size, n_channels=model.n_channels, **numbers)
    start = np.broadcast_to(mean_color, (*size, model.n_channels))
    return pixels(start, noise=START_NOISE, constraints=constraints_of(way, mean_color), **numbers)


def _plan_batch(
    diversity: float, layer: str | None, n_images: int | None, batch_size: int | None
) -> tuple[int, int | None]:
    """Fill in the numbers of images, in all and at a time, that were left open; the latter only where images are to differ.

    Raises
    ------
    InputError
        Images are to differ that do not see each other.
    """
    if n_images is None:
        n_images = N_IMAGES if batch_size is None or not diversity else min(N_IMAGES, batch_size)
    if batch_size is None and diversity:
        batch_size = n_images
    check_number("diversity", diversity, at_least=0)
    if layer is not None and not diversity:
        raise SettingsError(
            f"diversity_layer= '{layer}' is where the images are to differ, but diversity= has no weight: give one"
        )
    if diversity and not 2 <= n_images <= (batch_size or 0):
        raise SettingsError(
            f"diversity= is between the images of one batch: it takes at least 2 images (n_images=) and a batch_size= of as many; "
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
