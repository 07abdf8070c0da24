"""Refining: a photograph is made more like its class, step by step."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import SettingsError
from stochdeconv.methods.approach import Approach
from stochdeconv.methods.outlier_suppression import suppression
from stochdeconv.parsing import read_list, whole_number
from stochdeconv.settings import OPEN, read_settings, source_of, takes
from stochdeconv.statistics.class_statistics import ClassStatistics

if TYPE_CHECKING:
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.classes import ClassName
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.results import Step

#: Steps after which the picture is kept; of another number of steps, the same parts.
CHECKPOINTS = (100, 500, 1000, 5000)


@dataclass(frozen=True, kw_only=True)
class RefineSettings(Approach):
    """How a photograph is made more like its class.

    Attributes
    ----------
    checkpoints : sequence of int, ``N,N,…``, optional
        Numbers of steps after which the picture is kept: by default 100, 500, 1000 and 5000 or, of another `n_steps`, the same parts of
        it, which come as far.
    suppress_outliers : ClassStatistics or path, ``FILE.h5``, optional
        Statistics of the class: what makes layers outliers of it is decreased, see `outlier_suppression`.
    n_steps : int, optional
        Optimisation steps; the last checkpoint by default.
    """

    strength: float = 5.0
    checkpoints: str | Sequence[int] | None = None
    suppress_outliers: str | Path | ClassStatistics | None = None
    n_steps: int = OPEN

    def _settle(self) -> None:
        super()._settle()
        self.check_variants()
        checkpoints, n_steps = _plan_steps(self.checkpoints, self.n_steps)
        self._fill(checkpoints=checkpoints, n_steps=n_steps)

    @property
    def checkpoint_steps(self) -> list[int]:
        """Numbers of steps after which the picture is kept, in order."""
        return read_list(self.checkpoints, "checkpoint", whole_number)


@takes(RefineSettings)
def refine(
    model: ImageModel,
    photo: str | Path | np.ndarray,
    class_name: str | int,
    settings: RefineSettings | None = None,
    *,
    callback: Callable[[Step], None] | None = None,
    **keywords: Any,
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
    settings : RefineSettings, optional
    callback : callable, optional
        Called with a `Step` after each step.
    **keywords
        Fields of `RefineSettings`, in its place.

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
    from stochdeconv.methods.runs import hand_over, record_run
    from stochdeconv.optimization.loop import optimize

    settings = read_settings(RefineSettings, settings, keywords, model=model)
    started = time.monotonic()
    size = model.image_size(settings.size)
    picture, target = open_image(photo, size, channels=model.n_channels), model.find_class(class_name)
    outliers = suppression(model, settings.statistics, [target], weight=settings.outlier_weight)
    checkpoints = _Checkpoints(settings.checkpoint_steps, callback)
    result = optimize(
        model,
        settings.loss(model, target.index) + outliers.loss(target.index),
        parameterization=settings.variables(model, size, picture[None], deviation=0.0),
        n_steps=settings.n_steps,
        transforms=settings.views(size),
        batch_size=settings.batch_size,
        callback=checkpoints.keep,
    )
    kept = checkpoints.strips(result.images)
    run = record_run(
        "refine",
        replace(result, images=np.stack([image for strip in kept for _, image in strip])),
        model=model,
        settings=settings.record(photo=source_of(photo), jitter=settings.jitter_at(size), size=list(size)),
        seed=settings.seed,
        seconds=time.monotonic() - started,
        shown_class=target,
        statistics_hash=outliers.statistics_hash,
    )
    return hand_over(_with_strips(run, model, picture, kept, target))


class _Checkpoints:
    """What the pictures look like on the way.

    Attributes
    ----------
    steps : set of int
        Those after which they are kept.
    batches : dict of int to dict of int to ndarray of shape (image, height, width, channel)
        By batch and step.
    """

    def __init__(self, steps: Sequence[int], callback: Callable[[Step], None] | None):
        self.steps, self.callback = set(steps), callback
        self.batches: dict[int, dict[int, np.ndarray]] = {}
        self.n_made: dict[int, int] = {}

    def keep(self, step: Step) -> None:
        """Look at a step."""
        self.n_made[step.batch] = step.batch_step
        batch = self.batches.setdefault(step.batch, {})
        if step.batch_step in self.steps:
            batch[step.batch_step] = step.images()
        if self.callback is not None:
            self.callback(step)

    def strips(self, images: np.ndarray) -> list[list[tuple[int, np.ndarray]]]:
        """List (step, picture) of every variant, the last one as it was left, in an interrupted run between two checkpoints."""
        strips: list[list[tuple[int, np.ndarray]]] = []
        numbers = sorted(self.batches) or [0]
        for number in numbers:
            kept = self.batches.get(number, {})
            is_last = number == numbers[-1]
            n_images = len(images) - len(strips) if is_last else len(next(iter(kept.values())))
            own = images[len(strips) : len(strips) + n_images]
            steps = {**kept, self.n_made.get(number, 0): own}
            strips += [[(step, pictures[i]) for step, pictures in steps.items()] for i in range(n_images)]
        return strips


def _with_strips(
    run: RunResult,
    model: ImageModel,
    picture: np.ndarray,
    strips: list[list[tuple[int, np.ndarray]]],
    target: ClassName,
) -> RunResult:
    """Show each variant's pictures in a row after the photograph, with how sure the network is of the class."""
    from stochdeconv.images.sheets import contact_sheet
    from stochdeconv.methods.recognition import recognise

    probability, *others = recognise(model, [picture, *run.images])[:, target.index].tolist()
    probabilities, images, numbers = iter(others), iter(run.images), itertools.count()
    # The strips of an interrupted batch are shorter.
    columns = 1 + max(map(len, strips))
    table, tiles, captions = [], [], []
    for variant, strip in enumerate(strips):
        table.append({"image": None, "variant": variant, "step": 0, "probability": probability})
        tiles.append(picture)
        captions.append(f"photograph\n{target.label} {probability:.0%}")
        for step, _ in strip:
            own = next(probabilities)
            table.append({"image": next(numbers), "variant": variant, "step": step, "probability": own})
            tiles.append(next(images))
            captions.append(f"step {step}\n{target.label} {own:.0%}")
        n_missing = columns - 1 - len(strip)
        tiles += n_missing * [np.ones_like(picture)]
        captions += n_missing * [""]
    sheet = contact_sheet(np.stack(tiles), columns=columns, captions=captions)
    return replace(run, sheet=sheet, tables={"probabilities": table})


def _plan_steps(checkpoints: str | Sequence[int] | None, n_steps: int | None) -> tuple[list[int], int]:
    """Put the checkpoints in order: the last of them is the last step where no other is given, and where none is given they follow it.

    Raises
    ------
    InputError
        There is no step, no checkpoint, one of them twice, or one that no step comes to.
    """
    if checkpoints is None:
        n_steps = CHECKPOINTS[-1] if n_steps is None else n_steps
        return sorted({math.ceil(step * n_steps / CHECKPOINTS[-1]) for step in CHECKPOINTS}), n_steps
    checkpoints = sorted(read_list(checkpoints, "checkpoint", whole_number))
    if checkpoints[0] < 1:
        raise SettingsError(f"checkpoints= are numbers of steps, each at least 1; got {checkpoints}")
    if n_steps is not None and n_steps < checkpoints[-1]:
        raise SettingsError(
            f"the last checkpoint, {checkpoints[-1]}, comes after the last step, {n_steps}: give more steps, or leave one of the two out"
        )
    return checkpoints, checkpoints[-1] if n_steps is None else n_steps
