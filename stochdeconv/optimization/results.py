"""What a run of the loop gives: each step as it is made, and the images at the end; batches, and how their results go together."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stochdeconv.errors import InputError


@dataclass(frozen=True)
class Step:
    """What a callback sees after each step.

    Attributes
    ----------
    step, n_steps : int
        Steps made and steps in all, through all batches.
    losses : mapping of str to float
        Unweighted loss of each term, averaged over the images of the batch; ``"cosine"`` is that of the gradient rule with the true
        gradient.
    images : callable
        () -> the images of the batch as they are now, ndarray (image, ...).
    batch, batch_step : int
        Number of the batch, from 0, in the one run of `optimize` that makes it, and steps made of it.
    """

    step: int
    n_steps: int
    losses: Mapping[str, float]
    images: Callable[[], np.ndarray]
    batch: int = 0
    batch_step: int = 0

    def __str__(self) -> str:
        return "  ".join(f"{name} {value:.4g}" for name, value in self.losses.items())


@dataclass(frozen=True, eq=False)
class OptimizationResult:
    """Images and how they came about.

    Attributes
    ----------
    images : ndarray of shape (image, ...), float32
        Images (image, height, width, channel), or the inputs of a network that takes something else.
        As the parameterization gives them; only bounded ones stay in [0, 1].
    history : list of dict
        Per step, the loss of each term averaged over the images: as it was before the step was made, where the gradient was taken; of
        L-BFGS, after it. In batches, each row begins with its ``batch`` and ``step``.
    settings : dict
        What the run depended on.
    complete : bool
        False after Ctrl-C: the images are as far as they came, and those of later batches are missing.
    """

    images: np.ndarray
    history: list[dict[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)
    complete: bool = True

    def labelled(self, **labels: object) -> OptimizationResult:
        """Return the same result, its history's rows beginning with labels; one that they have is replaced."""
        return replace(self, history=[{**labels, **row, **labels} for row in self.history])

    @staticmethod
    def joined(parts: Sequence[OptimizationResult]) -> OptimizationResult:
        """Put results of several runs one after the other; the settings are those of the first."""
        return OptimizationResult(
            np.concatenate([part.images for part in parts]),
            [row for part in parts for row in part.history],
            parts[0].settings,
            all(part.complete for part in parts),
        )

    @staticmethod
    def chained(parts: Sequence[OptimizationResult]) -> OptimizationResult:
        """Put results of runs together that went on from each other: the images of the last, the history and the settings of all."""
        return OptimizationResult(
            parts[-1].images,
            [row for part in parts for row in part.history],
            {name: value for part in parts for name, value in part.settings.items()},
            parts[-1].complete,
        )

    def _repr_html_(self) -> str:
        """Show the losses at the end in a notebook, and the images where they are pictures."""
        # Here alone: the loop itself knows no pictures.
        from stochdeconv.images import markup
        from stochdeconv.images.sheets import contact_sheet

        html = markup.final_losses(self.history)
        if self.images.ndim == 4 and self.images.shape[-1] == 3:
            html = markup.picture(contact_sheet(self.images), alt="the images") + html
        return str(html)


def gather(results: Iterable[OptimizationResult]) -> list[OptimizationResult]:
    """Make results one after another as far as they come: to the first that is not complete, or to Ctrl-C between two.

    Parameters
    ----------
    results : iterable of OptimizationResult
        Each is made when it is asked for, as in a generator.

    Returns
    -------
    list of OptimizationResult
        At least one.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C before there is any.
    """
    made: list[OptimizationResult] = []
    try:
        for result in results:
            made.append(result)
            if not result.complete:
                break
    except KeyboardInterrupt:
        if not made:
            raise
        made[-1] = replace(made[-1], complete=False)
    return made


def in_stage(callback: Callable[[Step], None] | None, stage: int, n_stages: int) -> Callable[[Step], None] | None:
    """Count the steps of one of several runs of equal length through all of them, for a callback that watches the whole."""
    return None if callback is None else functools.partial(_count_through, callback, stage, n_stages)


def _count_through(callback: Callable[[Step], None], stage: int, n_stages: int, step: Step) -> None:
    callback(replace(step, step=stage * step.n_steps + step.step, n_steps=n_stages * step.n_steps))


def part_images(n_images: int, batch_size: int | None) -> list[slice]:
    """Part images into batches of nearly equal size; None for one of all."""
    if batch_size is None:
        return [slice(0, n_images)]
    if n_images < 1 or batch_size < 1:
        raise InputError(f"n_images and batch_size must be at least 1; got {n_images} and {batch_size}")
    return parts_of(slice(0, n_images), batch_size)


def parts_of(images: slice, at_most: int) -> list[slice]:
    """Part some of the images into batches of nearly equal size."""
    n_images = images.stop - images.start
    size = math.ceil(n_images / math.ceil(n_images / at_most))
    return [slice(first, min(first + size, images.stop)) for first in range(images.start, images.stop, size)]
