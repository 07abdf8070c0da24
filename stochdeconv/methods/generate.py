"""The main job: sample what a class's images activate, and make images that do."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from stochdeconv.methods.class_images import ClassImages, GenerateSettings
from stochdeconv.methods.settings import with_batch_size
from stochdeconv.sampling.samplers import EXEMPLARS, LOCAL, OF_SCENES
from stochdeconv.settings import read_settings, takes

if TYPE_CHECKING:
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.results import OptimizationResult, Step
    from stochdeconv.sampling.targets import Targets
    from stochdeconv.statistics.class_statistics import ClassStatistics


#: Who makes the batches of a run: (statistics, settings, targets, numbers) -> results, in order.
MakeBatches: TypeAlias = (
    "Callable[[ClassStatistics, GenerateSettings, Targets, Sequence[int]], Iterable[OptimizationResult]]"
)


@takes(GenerateSettings)
def generate(
    model: ImageModel,
    statistics: ClassStatistics,
    settings: GenerateSettings | None = None,
    *,
    callback: Callable[[Step], None] | None = None,
    make_batches: MakeBatches | None = None,
    **keywords: Any,
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
    settings : GenerateSettings, optional
    callback : callable, optional
        Called with a `Step` after each step.
    make_batches : callable, optional
        Who makes the batches, if not this process: (statistics, settings, targets of all images, numbers of the batches) -> their results,
        in this order, each as `class_images.ClassImages.batch` makes it; such as `cluster.Cluster.batches`.
        It is not for a series, nor for an animation of the steps.
    **keywords
        Fields of `GenerateSettings`, in its place.

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
    from stochdeconv.methods.runs import hand_over, record_run
    from stochdeconv.optimization.results import OptimizationResult, gather

    settings = read_settings(GenerateSettings, settings, keywords, model=model, statistics=statistics)
    settings = with_batch_size(settings, is_shared=make_batches is not None)
    started = time.monotonic()
    if make_batches is not None:
        settings.check_shareable()
    film = Film(settings.n_steps, callback) if settings.gif else None
    maker = ClassImages.of(model, statistics, settings, callback if film is None else film)
    if make_batches is not None:
        numbers = range(len(maker.parts))
        made = make_batches(statistics, settings, maker.targets, numbers)
        result = OptimizationResult.joined(gather(_told(made, len(numbers), settings.n_steps, callback)))
    else:
        result = maker.series() if settings.is_series else maker.samples()
    run = record_run(
        "generate",
        result,
        model=model,
        settings=settings.record(
            "n_images",
            sampler=maker.sampler,
            scenes=settings.scenes or OF_SCENES if maker.sampler == LOCAL else None,
            size=list(maker.size),
            init=str(settings.init),
            recipe=asdict(maker.recipe),
        ),
        seed=settings.seed,
        seconds=time.monotonic() - started,
        shown_class=None if statistics.class_index is None else model.find_class(statistics.class_index),
        statistics_hash=statistics.hash(),
        targets=maker.targets.to_arrays(),
    )
    if settings.component is not None:
        run = _with_deviations(run, model, statistics, settings.component, settings.deviations())
    if maker.sampler == EXEMPLARS:
        run = _with_copying(run, statistics, maker.targets)
    if maker.sampler == LOCAL:
        run = _with_rows(run, maker.targets)
    frames = as_frames(run.images) if settings.walk is not None else film.frames() if film is not None else None
    return hand_over(replace(run, frames=frames))


def _told(
    results: Iterable[OptimizationResult], n_batches: int, n_steps: int, callback: Callable[[Step], None] | None
) -> Iterator[OptimizationResult]:
    """Tell of batches as they come, as of their last steps."""
    from stochdeconv.optimization.results import Step

    for number, result in enumerate(results):
        if callback is not None:
            losses = {name: value for name, value in result.history[-1].items() if name not in ("batch", "step")}
            images = functools.partial(np.copy, result.images)
            callback(Step((number + 1) * n_steps, n_batches * n_steps, losses, images, number, n_steps))
        yield result


def _with_copying(run: RunResult, statistics: ClassStatistics, targets: Targets) -> RunResult:
    """Say in the record that the images hold pieces of photographs, and how much of them is from a single one."""
    from stochdeconv.sampling.exemplars import copying

    owed = copying(targets.sources[: len(run.images)])
    pieces = {"exemplars": len(statistics.exemplars)} | {
        name: [round(float(share), 4) for share in shares] for name, shares in owed.items()
    }
    return replace(run, record={**run.record, "pieces_of_photographs": pieces})


def _with_rows(run: RunResult, targets: Targets) -> RunResult:
    """Say in the record how much of each image's arrangement is a single photograph's."""
    from stochdeconv.sampling.scenes import largest_parts

    parts = [round(float(part), 4) for part in largest_parts(targets.scenes[: len(run.images)])]
    return replace(run, record={**run.record, "rows_of_scenes": {"largest_part": parts}})


def _with_deviations(
    run: RunResult, model: ImageModel, statistics: ClassStatistics, component: str, deviations: np.ndarray
) -> RunResult:
    """Say below each image how far along the component it was to go, and how far it came."""
    from stochdeconv.images.sheets import contact_sheet
    from stochdeconv.sampling.traversals import component_deviations

    aims = deviations.tolist()
    reached = component_deviations(model, statistics, component, run.images).tolist()
    table, captions = [], []
    # An interrupted run has fewer images than there are targets.
    for image, (aim, deviation) in enumerate(zip(aims, reached, strict=False)):
        table.append({"image": image, "asked": round(aim, 4), "reached": round(deviation, 4)})
        name = f"{aim:+.3g} sd" if abs(aim) > 1e-9 else "mean"
        captions.append(f"{name}\nreached {deviation:+.2f}")
    return replace(run, tables={"deviations": table}, sheet=contact_sheet(run.images, captions=captions))
