"""Morphing: a photograph, or an image of one class, turns into another class, as an animation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from stochdeconv.errors import InputError, SettingsError
from stochdeconv.methods.approach import Approach
from stochdeconv.methods.outlier_suppression import suppression
from stochdeconv.settings import OPEN, read_settings, source_of, takes
from stochdeconv.statistics.class_statistics import ClassStatistics

if TYPE_CHECKING:
    from stochdeconv.methods.outlier_suppression import Suppression
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.classes import ClassName
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.results import OptimizationResult, Step

# Weight of the cross-entropy against the score. It vanishes once the class is seen; a larger one has filled Adam's second moment by
# then, and the score hardly moves any more.
_CLASS_TERM = 0.3
#: Frames of an animation, and steps on the way from its first to its last.
N_FRAMES, N_STEPS = 48, 256
# Frames the sheet shows.
_SHEET_FRAMES = 8


@dataclass(frozen=True, kw_only=True)
class MorphSettings(Approach):
    """How a picture turns into another class.

    Attributes
    ----------
    n_frames : int, optional
        Frames of the animation, the start and the end included; dense at the start, where the picture changes fastest. By default 48, or
        as many as so few steps make.
    suppress_outliers : ClassStatistics or path, or several, ``FILE.h5,…``, optional
        Statistics of the class it turns into and, from a class, of that one too: what makes layers outliers of the class whose score is
        raised is decreased, see `outlier_suppression`. Held by the second class alone, a morph comes out worse than held by none.
    n_images : int
        Variants, each in random views of its own and, from a class, from noise of its own.
    n_steps : int, optional
        Optimisation steps; by default 256, or as many as so many frames need: one from each to the next.
    """

    strength: float = 4.0
    n_frames: int = OPEN
    suppress_outliers: str | Path | ClassStatistics | Sequence[ClassStatistics | str | Path] | None = None
    n_steps: int = OPEN

    def _settle(self) -> None:
        super()._settle()
        n_frames, n_steps = _plan_frames(self.n_frames, self.n_steps)
        self._fill(n_frames=n_frames, n_steps=n_steps)

    def frame_steps(self) -> list[int]:
        """Return the steps after which there is a frame: dense at the start, where steps change the most, by a square law."""
        steps = (self.n_steps * np.linspace(0, 1, self.n_frames) ** 2).round().astype(int)
        return np.maximum(steps, np.arange(self.n_frames)).tolist()


@takes(MorphSettings)
def morph(
    model: ImageModel,
    start: str | int | Path | np.ndarray,
    class_name: str | int,
    settings: MorphSettings | None = None,
    *,
    callback: Callable[[Step], None] | None = None,
    **keywords: Any,
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
    settings : MorphSettings, optional
    callback : callable, optional
        Called with a `Step` after each step.
    **keywords
        Fields of `MorphSettings`, in its place.

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
    from stochdeconv.images.files import open_image
    from stochdeconv.methods.recognition import recognise
    from stochdeconv.methods.runs import hand_over, record_run
    from stochdeconv.optimization.results import OptimizationResult, gather, in_stage, part_images

    settings = read_settings(MorphSettings, settings, keywords, model=model)
    started = time.monotonic()
    size = model.image_size(settings.size)
    target = model.find_class(class_name)
    picture = None
    if isinstance(start, Path | np.ndarray) or is_photograph(start):
        settings.check_variants()
        picture = open_image(start, size, channels=model.n_channels)
        source = model.class_names[int(recognise(model, [picture])[0].argmax())]
    else:
        source = model.find_class(start)
        if source == target:
            raise InputError(f"both classes are {target.label}: there is nothing to turn")
    is_photo = picture is not None
    raised = [target] if is_photo else [source, target]
    outliers = suppression(model, settings.statistics, raised, weight=settings.outlier_weight)
    frames = _Frames(settings.frame_steps())
    parts = part_images(settings.n_images, settings.batch_size)
    variants = (
        OptimizationResult.chained(
            gather(
                _stages(
                    model,
                    settings,
                    size,
                    images,
                    picture,
                    raised,
                    outliers,
                    frames,
                    in_stage(callback, number, len(parts)),
                )
            )
        ).labelled(batch=number)
        for number, images in enumerate(parts)
    )
    run = record_run(
        "morph",
        OptimizationResult.joined(gather(variants)),
        model=model,
        settings=settings.record(
            start=source_of(start) if is_photo else source.label,
            from_class=vars(source),
            jitter=settings.jitter_at(size),
            suppress_outliers=settings.statistics or None,
            size=list(size),
        ),
        seed=settings.seed,
        seconds=time.monotonic() - started,
        shown_class=target,
        statistics_hash=outliers.statistics_hash,
    )
    return hand_over(_with_frames(run, model, frames, list(dict.fromkeys((source, target))), settings))


def _stages(
    model: ImageModel,
    settings: MorphSettings,
    size: tuple[int, int],
    images: slice,
    picture: np.ndarray | None,
    raised: Sequence[ClassName],
    outliers: Suppression,
    frames: _Frames,
    callback: Callable[[Step], None] | None,
) -> Iterator[OptimizationResult]:
    """Make the start of some of the variants, where it is of a class, and what it turns into; the history says which is which."""
    from stochdeconv import losses
    from stochdeconv.optimization.loop import optimize
    from stochdeconv.optimization.results import in_stage

    options: dict[str, Any] = {"n_steps": settings.n_steps, "transforms": settings.views(size)}
    variables = settings.variables(model, size).take(images)
    if picture is None:
        source = raised[0].index
        loss = settings.loss(model, source) + outliers.loss(source)
        on_step = in_stage(callback, 0, len(raised))
        start = optimize(model, loss, parameterization=variables, callback=on_step, **options)
        yield _named(start, "start")
        begin = start.images
    else:
        begin = np.repeat(picture[None], variables.n_images, axis=0)
    target = raised[-1].index
    # Cross-entropy lowers what is seen instead, but no further than it takes; lowered without end, the score of what it was draws
    # a third class (goldfish to church: dogs).
    loss = settings.loss(model, target) + outliers.loss(target) + _CLASS_TERM * losses.cross_entropy(target)
    frames.begin(begin, in_stage(callback, len(raised) - 1, len(raised)))
    from_begin = replace(variables, initial_images=begin, deviation=0.0)
    yield _named(optimize(model, loss, parameterization=from_begin, callback=frames.keep, **options), "morph")


def _named(stage: OptimizationResult, name: str) -> OptimizationResult:
    history = [{"step": step + 1, "stage": name, **row} for step, row in enumerate(stage.history)]
    return replace(stage, history=history, settings={name: stage.settings})


class _Frames:
    """What the pictures look like on the way, frame by frame.

    Attributes
    ----------
    steps : list of int
        Those after which there is a frame, 0 for the start.
    batches : list of list of ndarray of shape (image, height, width, channel)
    """

    def __init__(self, steps: Sequence[int]):
        self.steps = list(steps)
        self.batches: list[list[np.ndarray]] = []
        self.callback: Callable[[Step], None] | None = None

    def begin(self, images: np.ndarray, callback: Callable[[Step], None] | None) -> None:
        """Take the first frame of a batch, and watch it on its way; `callback` watches too."""
        self.batches.append([images])
        self.callback = callback

    def keep(self, step: Step) -> None:
        """Look at a step."""
        if step.batch_step in self.steps:
            self.batches[-1].append(step.images())
        if self.callback is not None:
            self.callback(step)

    def strips(self, images: np.ndarray) -> list[np.ndarray]:
        """Return the frames (frame, height, width, channel) of every variant; of one without, the picture as it was left."""
        strips = [strip for batch in self.batches for strip in np.stack(batch, axis=1)]
        return strips + [image[None] for image in images[len(strips) :]]


def _with_frames(
    run: RunResult, model: ImageModel, frames: _Frames, classes: Sequence[ClassName], settings: MorphSettings
) -> RunResult:
    """Show some frames with how sure the network is of the classes, and all of them as an animation."""
    from stochdeconv.images.animations import as_frames, side_by_side
    from stochdeconv.images.sheets import contact_sheet
    from stochdeconv.methods.recognition import recognise

    is_single = settings.n_images == 1
    # One picture's frames fill two rows of the sheet, those of several have a row each.
    n_tiles = min(_SHEET_FRAMES if is_single else _SHEET_FRAMES // 2, settings.n_frames)
    table, tiles, captions = [], [], []
    for variant, strip in enumerate(frames.strips(run.images)):
        probabilities = recognise(model, strip)[:, [class_name.index for class_name in classes]]
        labelled = [{c.label: float(p) for c, p in zip(classes, row, strict=True)} for row in probabilities]
        for i, (step, row) in enumerate(zip(frames.steps, labelled, strict=False)):
            table.append({"variant": variant, "frame": i, "step": step, **row})
        picked = np.linspace(0, len(strip) - 1, n_tiles).round().astype(int)
        for i in np.unique(picked) if is_single else picked:
            tiles.append(strip[i])
            captions.append("\n".join([f"frame {i}", *(f"{name} {p:.0%}" for name, p in labelled[i].items())]))
    return replace(
        run,
        sheet=contact_sheet(np.stack(tiles), columns=min(n_tiles, _SHEET_FRAMES // 2), captions=captions),
        frames=side_by_side([[as_frames(images) for images in batch] for batch in frames.batches]),
        tables={"probabilities": table},
    )


def _plan_frames(n_frames: int | None, n_steps: int | None) -> tuple[int, int]:
    """Fill in the frames and steps that were not given: there is a step for every frame.

    Raises
    ------
    InputError
        There are fewer than two frames, or more than the steps make.
    """
    if n_steps is None:
        n_steps = N_STEPS if n_frames is None else max(N_STEPS, n_frames - 1)
    if n_frames is None:
        n_frames = min(N_FRAMES, n_steps + 1)
    if n_frames < 2:
        raise SettingsError(f"n_frames= is at least 2, the start and the end; got {n_frames}")
    if n_frames > n_steps + 1:
        raise SettingsError(
            f"n_frames= is at most one more than the {n_steps} steps; got {n_frames}: give more steps (n_steps=), or leave one "
            "of the two out"
        )
    return n_frames, n_steps


def is_photograph(start: str | int | Path | np.ndarray) -> TypeGuard[str | Path | np.ndarray]:
    """Tell whether a morph starts from a photograph (there or not), or else from a class: folders are often named after one."""
    from stochdeconv.images.folders import IMAGE_SUFFIXES

    if not isinstance(start, str):
        return isinstance(start, np.ndarray | Path)
    return Path(start).is_file() or Path(start).suffix.lower() in IMAGE_SUFFIXES
