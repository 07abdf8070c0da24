"""Refining: a photograph is made more like its class, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import InputError
from stochdeconv.lists import read_list, whole_number
from stochdeconv.methods.approach import Approach

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
    tv: float = Approach.tv,
    jitter: int = Approach.jitter,
    scale: float = Approach.scale,
    rotate: float = Approach.rotate,
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
    strength, tv, jitter, scale, rotate
        See `approach.Approach`.
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
    from stochdeconv.images import open_image
    from stochdeconv.methods.recognition import recognise
    from stochdeconv.optimize import OptimizationInterrupted, optimize
    from stochdeconv.parameterizations import fourier
    from stochdeconv.run_folder import recorded_run, source_of
    from stochdeconv.sheets import contact_sheet

    checkpoints, n_steps = plan_steps(checkpoints, n_steps)
    how = Approach(strength, tv, jitter, scale, rotate)
    image_size = model.image_size(size)
    picture, found = open_image(photo, image_size), model.find_class(class_name)
    loss = how.loss(model, found.index)
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
        try:
            result = optimize(
                model, loss, parameterization=variables, n_steps=n_steps, transforms=how.views(), callback=on_step
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
            **vars(how),
            "n_steps": n_steps,
            "size": list(image_size),
        },
        seed=seed,
        finish=finish,
    )


def plan_steps(checkpoints: Sequence[int], n_steps: int | None) -> tuple[list[int], int]:
    """Put the checkpoints in order, and let the last of them be the last step where no other is given.

    Raises
    ------
    InputError
        There is no checkpoint, one of them twice, or one that no step comes to.
    """
    checkpoints = sorted(read_list(checkpoints, "checkpoint", whole_number))
    if checkpoints[0] < 1:
        raise InputError(f"checkpoints are numbers of steps, each at least 1; got {checkpoints}")
    if n_steps is not None and n_steps < checkpoints[-1]:
        raise InputError(f"the last checkpoint, {checkpoints[-1]}, comes after the last step, {n_steps}")
    return checkpoints, checkpoints[-1] if n_steps is None else n_steps
