"""Refining: a photograph is made more like its class, step by step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import InputError
from stochdeconv.methods.approach import Approach
from stochdeconv.methods.outlier_suppression import APPROACH_WEIGHT, suppression, weigh_outliers
from stochdeconv.parsing import read_list, whole_number

if TYPE_CHECKING:
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.loop import OptimizationResult, Step
    from stochdeconv.statistics.class_statistics import ClassStatistics

#: Steps after which the picture is kept; of another number of steps, the same parts.
CHECKPOINTS = (100, 500, 1000, 5000)


def refine(
    model: ImageModel,
    photo: str | Path | np.ndarray,
    class_name: str | int,
    *,
    checkpoints: Sequence[int] | None = None,
    strength: float = 5.0,
    tv: float = Approach.tv,
    jitter: int | None = Approach.jitter,
    scale: float = Approach.scale,
    rotate: float = Approach.rotate,
    suppress_outliers: ClassStatistics | str | Path | None = None,
    outlier_weight: float | None = None,
    n_images: int = 1,
    n_steps: int | None = None,
    size: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
    callback: Callable[[Step], None] | None = None,
) -> RunResult:
    """Change a photograph so that the network sees more of a class in it, and keep what it looks like on the way.

    The class score is raised by small steps from the photograph, in views that are shifted, turned and scaled a little, under total
    variation. The steps are the smaller the more there are, so that a longer run is a finer one and not one that goes further.

    Parameters
    ----------
    model : ImageModel
    photo : path or ndarray of shape (height, width, 3) in [0, 1]
    class_name : str or int
        Name, wnid or index; what the photograph shows, or anything else.
    checkpoints : sequence of int, optional
        Numbers of steps after which the picture is kept: by default 100, 500, 1000 and 5000 or, of another `n_steps`, the same parts of
        it, which come as far.
    strength, tv, jitter, scale, rotate
        See `approach.Approach`.
    suppress_outliers : ClassStatistics or path, optional
        Of the class: what makes layers outliers of it is decreased, see `outlier_suppression`.
    outlier_weight : float, optional
        Standard deviations of the class score that an outlier at twice the limit costs, each layer; by default 3.
    n_images : int
        Variants, each in random views of its own.
    n_steps : int, optional
        The last checkpoint by default.
    size : int, optional
        Side of the picture in pixels; the network's own by default.
    batch_size : int
        Variants at a time; they do not influence each other.
    seed : int
        The views of variant i depend on (seed, i) alone.
    callback : callable, optional
        Called with a `Step` after each step.

    Returns
    -------
    RunResult
        The pictures at the checkpoints, variant by variant; the sheet is a strip of them for each, after the photograph.

    Raises
    ------
    InputError, MissingInputError, ClassNotFoundError
        A photograph, class, statistics or number that cannot be used.
    ModelError, FileFormatError
        The statistics are another network's, or their file holds none.
    RunInterrupted
        On Ctrl-C, with the pictures as far as they came.
    """
    from stochdeconv.images.files import open_image
    from stochdeconv.images.sheets import contact_sheet
    from stochdeconv.methods.recognition import recognise
    from stochdeconv.methods.runs import Sampled, recorded_run, source_of
    from stochdeconv.optimization.loop import OptimizationInterrupted, optimize, optimize_in_batches
    from stochdeconv.optimization.parameterizations import fourier

    checkpoints, n_steps = plan_steps(checkpoints, n_steps)
    how = Approach(strength, tv, jitter, scale, rotate)
    how.check_variants(n_images)
    outlier_weight = weigh_outliers(suppress_outliers, outlier_weight, default=APPROACH_WEIGHT)
    image_size = model.image_size(size)
    how = how.at(image_size)
    picture, found = open_image(photo, image_size, channels=model.n_channels), model.find_class(class_name)
    known = [] if suppress_outliers is None else [suppress_outliers]
    outliers = suppression(model, known, [found], weight=outlier_weight)
    loss = how.loss(model, found.index) + outliers.loss(found.index)
    kept_at: list[tuple[int, int]] = []

    def run_batch(first: int, n: int, on_step: Callable[[Step], None]) -> OptimizationResult:
        seeds = {"n_images": n, "seed": seed, "first_index": first, "learning_rate": strength / n_steps}
        variables = fourier(
            image_size, n_channels=model.n_channels, initial_images=picture[None], deviation=0.0, **seeds
        )
        kept: dict[int, np.ndarray] = {}

        def keep(step: Step) -> None:
            if step.step in checkpoints:
                kept[step.step] = step.images()
            on_step(step)

        def with_checkpoints(result: OptimizationResult) -> OptimizationResult:
            kept[len(result.history)] = result.images
            kept_at.extend((first + i, step) for i in range(n) for step in kept)
            return replace(result, images=np.concatenate(np.stack(list(kept.values()), axis=1)))

        try:
            return with_checkpoints(
                optimize(
                    model, loss, parameterization=variables, n_steps=n_steps, transforms=how.views(), callback=keep
                )
            )
        except OptimizationInterrupted as interrupt:
            raise OptimizationInterrupted(with_checkpoints(interrupt.result)) from interrupt

    def finish(result: RunResult) -> RunResult:
        sure = recognise(model, [picture, *result.images])[:, found.index].tolist()
        strips: dict[int, list[tuple[int, np.ndarray, float]]] = {}
        for (variant, step), image, part in zip(kept_at, result.images, sure[1:], strict=True):
            strips.setdefault(variant, [(0, picture, sure[0])]).append((step, image, part))
        columns = max(map(len, strips.values()))
        table, shown, captions = [], [], []
        numbers = itertools.count()
        for variant, strip in strips.items():
            for i, (step, _, part) in enumerate(strip):
                number = next(numbers) if i else None  # the first is the photograph
                table.append({"image": number, "variant": variant, "step": step, "probability": part})
            # The strips of an interrupted batch are shorter.
            n_missing = columns - len(strip)
            shown += [*(image for _, image, _ in strip), *n_missing * [np.ones_like(picture)]]
            names = ["photograph", *(f"step {step}" for step, _, _ in strip[1:])]
            said = [f"{name}\n{found.label} {part:.0%}" for name, (_, _, part) in zip(names, strip, strict=True)]
            captions += [*said, *n_missing * [""]]
        sheet = contact_sheet(np.stack(shown), columns=columns, captions=captions)
        return replace(result, sheet=sheet, tables={"probabilities": table})

    return recorded_run(
        "refine",
        lambda: optimize_in_batches(run_batch, n_images, batch_size=batch_size, callback=callback),
        model=model,
        found_class=found,
        settings={
            "photo": source_of(photo),
            "checkpoints": checkpoints,
            **vars(how),
            "suppress_outliers": source_of(suppress_outliers),
            "outlier_weight": outlier_weight,
            "n_images": n_images,
            "n_steps": n_steps,
            "size": list(image_size),
            "batch_size": batch_size,
        },
        seed=seed,
        sampled=Sampled(outliers.statistics_hash),
        finish=finish,
    )


def plan_steps(checkpoints: Sequence[int] | None, n_steps: int | None) -> tuple[list[int], int]:
    """Put the checkpoints in order: the last of them is the last step where no other is given, and where none is given they follow it.

    Raises
    ------
    InputError
        There is no step, no checkpoint, one of them twice, or one that no step comes to.
    """
    if n_steps is not None and n_steps < 1:
        raise InputError(f"n_steps must be at least 1; got {n_steps}")
    if checkpoints is None:
        n_steps = CHECKPOINTS[-1] if n_steps is None else n_steps
        return sorted({math.ceil(step * n_steps / CHECKPOINTS[-1]) for step in CHECKPOINTS}), n_steps
    checkpoints = sorted(read_list(checkpoints, "checkpoint", whole_number))
    if checkpoints[0] < 1:
        raise InputError(f"checkpoints are numbers of steps, each at least 1; got {checkpoints}")
    if n_steps is not None and n_steps < checkpoints[-1]:
        raise InputError(
            f"the last checkpoint, {checkpoints[-1]}, comes after the last step, {n_steps}: give more steps, or leave one of the two out"
        )
    return checkpoints, checkpoints[-1] if n_steps is None else n_steps
