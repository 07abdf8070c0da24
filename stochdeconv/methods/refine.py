"""Refining: a photograph is made more like its class, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import InputError

if TYPE_CHECKING:
    from stochdeconv.models import ImageModel
    from stochdeconv.optimize import OptimizationResult, Step
    from stochdeconv.run_folder import RunResult


def refine(
    model: ImageModel,
    photo: str | Path | np.ndarray,
    class_name: str | int,
    *,
    checkpoints: Sequence[int] = (100, 500, 1000, 5000),
    strength: float = 5.0,
    tv: float = 20.0,
    jitter: int = 8,
    scale: float = 0.05,
    rotate: float = 3.0,
    n_steps: int | None = None,
    size: int | None = None,
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
    checkpoints : sequence of int
        Numbers of steps after which the picture is kept.
    strength : float
        How far the Fourier coefficients may go in all, in units of the noise-free start's scale: the learning rate times the number of
        steps.
    tv : float
        Weight of the total variation.
    jitter : int
        Largest random shift of the view, pixels.
    scale, rotate : float
        Largest random change of the view's size (fraction) and rotation (degrees).
    n_steps : int, optional
        The last checkpoint by default.
    size : int, optional
        Side of the picture in pixels; the network's own by default.
    seed : int
    callback : callable, optional
        Called with a `Step` after each step.

    Returns
    -------
    RunResult
        The pictures at the checkpoints; the sheet is a strip of them, after the photograph.

    Raises
    ------
    InputError, MissingInputError, ClassNotFoundError
        A photograph, class or number that cannot be used.
    RunInterrupted
        On Ctrl-C, with the pictures as far as they came.
    """
    from stochdeconv import losses, regularizers
    from stochdeconv.images import contact_sheet, open_image
    from stochdeconv.methods.recognition import recognise
    from stochdeconv.optimize import OptimizationInterrupted, optimize
    from stochdeconv.parameterizations import fourier
    from stochdeconv.run_folder import recorded_run, source_of
    from stochdeconv.transforms import Transform

    checkpoints = sorted(set(checkpoints))
    if not checkpoints or checkpoints[0] < 1:
        raise InputError(f"checkpoints are numbers of steps, each at least 1; got {checkpoints or 'none'}")
    n_steps = checkpoints[-1] if n_steps is None else n_steps
    if n_steps < checkpoints[-1]:
        raise InputError(f"the last checkpoint, {checkpoints[-1]}, comes after the last step, {n_steps}")
    if strength <= 0 or tv < 0:
        raise InputError(f"strength must be above 0 and tv at least 0; got {strength} and {tv}")
    if size is not None and size < 1:
        raise InputError(f"size is the side of the picture in pixels, at least 1; got {size}")
    image_size = model.input_size if size is None else (size, size)
    picture, found = open_image(photo, image_size), model.find_class(class_name)
    loss = losses.unit(model.score_layer, found.index) + tv * regularizers.total_variation()
    kept: dict[int, np.ndarray] = {}

    def on_step(step: Step) -> None:
        if step.step in checkpoints:
            kept[step.step] = step.images()[0]
        if callback is not None:
            callback(step)

    def run() -> OptimizationResult:
        variables = fourier(
            image_size, initial_images=picture[None], deviation=0.0, seed=seed, learning_rate=strength / n_steps
        )
        views = [Transform(jitter, scale, rotate)] if jitter or scale or rotate else []
        try:
            result = optimize(
                model, loss, parameterization=variables, n_steps=n_steps, transforms=views, callback=on_step
            )
        except OptimizationInterrupted as interrupt:
            raise OptimizationInterrupted(with_checkpoints(interrupt.result)) from interrupt
        return with_checkpoints(result)

    def with_checkpoints(result: OptimizationResult) -> OptimizationResult:
        if result.history:
            kept[len(result.history)] = result.images[0]
        rows = [{"step": step + 1, **losses} for step, losses in enumerate(result.history)]
        return replace(result, images=np.stack(list(kept.values()) or [picture]), history=rows)

    def finish(result: RunResult) -> RunResult:
        shown = np.stack([picture, *result.images])
        sure = recognise(model, shown)[:, found.index]
        names = ["photograph", *(f"step {step}" for step in kept)]
        captions = [f"{name}\n{found.label} {part:.0%}" for name, part in zip(names, sure, strict=False)]
        table = [{"step": step, "probability": float(part)} for step, part in zip([0, *kept], sure, strict=False)]
        return replace(
            result, sheet=contact_sheet(shown, columns=len(shown), captions=captions), tables={"probabilities": table}
        )

    return recorded_run(
        "refine",
        run,
        model=model,
        found_class=found,
        settings={
            "photo": source_of(photo),
            "checkpoints": checkpoints,
            "strength": strength,
            "tv": tv,
            "jitter": jitter,
            "scale": scale,
            "rotate": rotate,
            "n_steps": n_steps,
            "size": list(image_size),
        },
        seed=seed,
        finish=finish,
    )
