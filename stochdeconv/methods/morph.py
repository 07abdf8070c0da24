"""Morphing: a photograph, or an image of one class, turns into another class, as an animation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import InputError
from stochdeconv.methods.approach import Approach
from stochdeconv.methods.outlier_suppression import APPROACH_WEIGHT, suppression, weigh_outliers
from stochdeconv.parsing import read_list
from stochdeconv.statistics.class_statistics import ClassStatistics

if TYPE_CHECKING:
    from stochdeconv.losses import Loss
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.loop import OptimizationResult, Step

# Weight of the cross-entropy against the score. It vanishes once the class is seen; a larger one has filled Adam's second moment by
# then, and the score hardly moves any more.
_CLASS_TERM = 0.3
#: Frames of an animation, and steps on the way from its first to its last.
N_FRAMES, N_STEPS = 48, 256
# Frames the sheet shows.
_SHEET_FRAMES = 8


def morph(
    model: ImageModel,
    start: str | int | Path | np.ndarray,
    class_name: str | int,
    *,
    n_frames: int | None = None,
    strength: float = 4.0,
    tv: float = Approach.tv,
    jitter: int | None = Approach.jitter,
    scale: float = Approach.scale,
    rotate: float = Approach.rotate,
    suppress_outliers: ClassStatistics | str | Path | Sequence[ClassStatistics | str | Path] | None = None,
    outlier_weight: float | None = None,
    n_images: int = 1,
    n_steps: int | None = None,
    size: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
    callback: Callable[[Step], None] | None = None,
) -> RunResult:
    """Turn a photograph, or an image of one class, into another class.

    The score of the class is raised by small steps from the photograph, and its cross-entropy lowered, until it outdoes what was seen
    before. From a class, an image of it is made first, from noise, in as many steps.

    Parameters
    ----------
    model : ImageModel
    start : path, ndarray of shape (height, width, 3) in [0, 1], or class
        A file that exists, or that is named like one, is a photograph; any other text is the name, wnid or index of a class.
    class_name : str or int
        What it turns into.
    n_frames : int, optional
        Frames of the animation, the start and the end included; dense at the start, where the picture changes fastest. By default 48, or
        as many as so few steps make.
    strength, tv, jitter, scale, rotate
        See `approach.Approach`.
    suppress_outliers : ClassStatistics or path, or several, optional
        Of the class it turns into and, from a class, of that one too (paths in one text with commas between them): what makes layers
        outliers of the class whose score is raised is decreased, see `outlier_suppression`. Held by the second class alone, a morph comes
        out worse than held by none (docs/how-to/outlier_suppression.md).
    outlier_weight : float, optional
        Standard deviations of the class score that an outlier at twice the limit costs, each layer; by default 3.
    n_images : int
        Variants, each in random views of its own and, from a class, from noise of its own.
    n_steps : int, optional
        By default 256, or as many as so many frames need: one from each to the next.
    size : int, optional
        Side of the image in pixels; the network's own by default.
    batch_size : int
        Variants at a time; they do not influence each other.
    seed : int
        Start and views of variant i depend on (seed, i) alone.
    callback : callable, optional
        Called with a `Step` after each step.

    Returns
    -------
    RunResult
        The end of each variant; every frame in `frames`, variants side by side; `tables` holds both classes' probabilities frame by
        frame.

    Raises
    ------
    InputError, MissingInputError, ClassNotFoundError
        A photograph, class, statistics or number that cannot be used.
    ModelError, FileFormatError
        The statistics are another network's, or their file holds none.
    RunInterrupted
        On Ctrl-C, with the frames as far as they came.
    """
    from stochdeconv import losses
    from stochdeconv.images.animations import as_frames, side_by_side
    from stochdeconv.images.files import open_image
    from stochdeconv.images.sheets import contact_sheet
    from stochdeconv.methods.recognition import recognise
    from stochdeconv.methods.runs import Sampled, recorded_run, source_of
    from stochdeconv.optimization.loop import (
        OptimizationInterrupted,
        OptimizationResult,
        in_stage,
        optimize,
        optimize_in_batches,
    )
    from stochdeconv.optimization.parameterizations import fourier

    n_frames, n_steps = plan_frames(n_frames, n_steps)
    how = Approach(strength, tv, jitter, scale, rotate)
    known = list_statistics(suppress_outliers)
    outlier_weight = weigh_outliers(known or None, outlier_weight, default=APPROACH_WEIGHT)
    image_size = model.image_size(size)
    how = how.at(image_size)
    target = model.find_class(class_name)
    is_photo = is_photograph(start)
    if is_photo:
        how.check_variants(n_images)
        picture = open_image(start, image_size, channels=model.n_channels)
        source = model.class_names[int(recognise(model, [picture])[0].argmax())]
    else:
        picture, source = None, model.find_class(start)
        if source == target:
            raise InputError(f"both classes are {target.label}: there is nothing to turn")
    outliers = suppression(model, known, [target] if is_photo else [source, target], weight=outlier_weight)

    def raised(class_index: int) -> Loss:
        return how.loss(model, class_index) + outliers.loss(class_index)

    # The first steps change the most: a square law gives them most of the frames.
    wanted_at = n_steps * np.linspace(0, 1, n_frames) ** 2
    kept_at = np.maximum(wanted_at.round().astype(int), np.arange(n_frames))
    films: list[list[np.ndarray]] = []

    def run_batch(first: int, n: int, on_step: Callable[[Step], None]) -> OptimizationResult:
        history: list[dict[str, object]] = []
        settings: dict[str, object] = {}
        frames: list[np.ndarray] = []
        films.append(frames)

        def stage(name: str, loss: Loss, watched: Callable[[Step], None], **start: object) -> np.ndarray:
            seeds = {"n_images": n, "seed": seed, "first_index": first, "learning_rate": strength / n_steps}
            variables = fourier(image_size, n_channels=model.n_channels, **seeds, **start)
            try:
                result = optimize(
                    model, loss, parameterization=variables, n_steps=n_steps, transforms=how.views(), callback=watched
                )
            except OptimizationInterrupted as interrupt:
                rows = [*history, *_rows(name, interrupt.result)]
                raise OptimizationInterrupted(replace(interrupt.result, history=rows)) from interrupt
            history.extend(_rows(name, result))
            settings[name] = result.settings
            return result.images

        def keep(step: Step) -> None:
            if step.step in kept_at:
                frames.append(step.images())
            watched(step)

        if is_photo:
            begin, watched = np.repeat(picture[None], n, axis=0), on_step
        else:
            begin = stage("start", raised(source.index), in_stage(on_step, 0, 2))
            watched = in_stage(on_step, 1, 2)
        frames.append(begin)
        # Cross-entropy lowers what is seen instead, but no further than it takes; lowered without end, the score of what it was draws
        # a third class (goldfish to church: dogs).
        loss = raised(target.index) + _CLASS_TERM * losses.cross_entropy(target.index)
        return OptimizationResult(stage("morph", loss, keep, initial_images=begin, deviation=0.0), history, settings)

    def finish(result: RunResult) -> RunResult:
        watched_classes = list(dict.fromkeys((source, target)))
        strips = [strip for frames in films if frames for strip in np.stack(frames, axis=1)]
        # What was interrupted on its way to the first frame has none.
        strips += [image[None] for image in result.images[len(strips) :]]
        # One picture's frames fill two rows of the sheet, those of several have a row each.
        n_shown = min(_SHEET_FRAMES if n_images == 1 else _SHEET_FRAMES // 2, n_frames)
        table, shown, captions = [], [], []
        for variant, strip in enumerate(strips):
            sure = recognise(model, strip)[:, [one.index for one in watched_classes]]
            said = [{one.label: float(p) for one, p in zip(watched_classes, of, strict=True)} for of in sure]
            for i, (step, of) in enumerate(zip(kept_at, said, strict=False)):
                table.append({"variant": variant, "frame": i, "step": int(step), **of})
            picked = np.linspace(0, len(strip) - 1, n_shown).round().astype(int)
            for i in np.unique(picked) if n_images == 1 else picked:
                shown.append(strip[i])
                captions.append("\n".join([f"frame {i}", *(f"{name} {p:.0%}" for name, p in said[i].items())]))
        return replace(
            result,
            sheet=contact_sheet(np.stack(shown), columns=min(n_shown, _SHEET_FRAMES // 2), captions=captions),
            frames=side_by_side([[as_frames(images) for images in frames] for frames in films]),
            tables={"probabilities": table},
        )

    return recorded_run(
        "morph",
        lambda: optimize_in_batches(run_batch, n_images, batch_size=batch_size, callback=callback),
        model=model,
        found_class=target,
        settings={
            "start": source_of(start) if is_photo else source.label,
            "from_class": vars(source),
            "n_frames": n_frames,
            **vars(how),
            "suppress_outliers": [source_of(one) for one in known] or None,
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


def plan_frames(n_frames: int | None, n_steps: int | None) -> tuple[int, int]:
    """Fill in the frames and steps that were not given: there is a step for every frame.

    Raises
    ------
    InputError
        There are fewer than two frames, or more than the steps make.
    """
    if n_steps is None:
        n_steps = N_STEPS if n_frames is None else max(N_STEPS, n_frames - 1)
    if n_steps < 1:
        raise InputError(f"n_steps must be at least 1; got {n_steps}")
    if n_frames is None:
        n_frames = min(N_FRAMES, n_steps + 1)
    if n_frames < 2 or n_frames > n_steps + 1:
        raise InputError(
            f"n_frames must be from 2 to n_steps + 1 = {n_steps + 1}; got {n_frames}: give more steps, or leave one of the two out"
        )
    return n_frames, n_steps


def list_statistics(given: object) -> list[ClassStatistics | str | Path]:
    """List what says where outliers begin: nothing, one or several, statistics or files of them."""
    if isinstance(given, str):
        return read_list(given, "file of statistics")
    if isinstance(given, ClassStatistics | Path):
        return [given]
    return [] if given is None else list(given)


def is_photograph(start: str | int | Path | np.ndarray) -> bool:
    """Tell whether a morph starts from a photograph (there or not), or else from a class: folders are often named after one."""
    from stochdeconv.images.folders import IMAGE_SUFFIXES

    if not isinstance(start, str):
        return isinstance(start, np.ndarray | Path)
    return Path(start).is_file() or Path(start).suffix.lower() in IMAGE_SUFFIXES


def _rows(stage: str, result: OptimizationResult) -> list[dict[str, object]]:
    return [{"stage": stage, "step": step + 1, **losses} for step, losses in enumerate(result.history)]
