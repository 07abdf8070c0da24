"""Octaves: pictures are dreamt small first, and what was added is carried over to the next size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import ModelError
from stochdeconv.methods.settings import RunSettings
from stochdeconv.settings import check_count, check_number

if TYPE_CHECKING:
    from stochdeconv.losses import Loss
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.results import OptimizationResult, Step

#: Sizes a picture is dreamt at, where its layers have values at all of them.
_OCTAVES = 4


@dataclass(frozen=True, kw_only=True)
class Octaves(RunSettings):
    """How a picture is dreamt through its sizes.

    Attributes
    ----------
    octaves : int, optional
        Sizes it is dreamt at, the last of them the picture's own. By default 4, or fewer where the layers have no values at the smallest.
    octave_scale : float
        Ratio of one size to the next.
    jitter : int
        Largest random shift of the view at each step, in pixels.
    step_size : float
        Mean absolute change of a step, in 8-bit pixel values.
    """

    counts = (*RunSettings.counts, "octaves")

    octaves: int | None = None
    octave_scale: float = 1.4
    jitter: int = 32
    step_size: float = 1.5

    def _settle(self) -> None:
        super()._settle()
        check_number("octave_scale", self.octave_scale, above=1)
        check_number("step_size", self.step_size, above=0)
        check_count("jitter", self.jitter, at_least=0)

    def pyramid(
        self,
        model: ImageModel,
        layers: Sequence[str],
        full: tuple[int, int],
        *,
        n_steps: int,
        tile_size: int = 512,
        tile_batch_size: int = 1,
    ) -> Pyramid:
        """Settle the sizes for pictures of (height, width): the smallest are left out where layers have no values, unless asked for."""
        pyramid = Pyramid(
            _OCTAVES if self.octaves is None else self.octaves,
            self.octave_scale,
            self.jitter,
            self.step_size,
            n_steps,
            tile_size,
            tile_batch_size,
            self.seed,
        )
        return pyramid.fitting(model, layers, full) if self.octaves is None else pyramid


@dataclass(frozen=True)
class Pyramid:
    """One dream: pictures through all their sizes.

    Attributes
    ----------
    octaves, octave_scale, jitter, step_size, n_steps, tile_size, batch_size, seed
        See `DreamSettings`. Octaves, scale, jitter, steps and their size are those of the original program. 4000 x 3000 with SqueezeNet
        takes 3 GB in all in tiles of 512.
    """

    octaves: int
    octave_scale: float
    jitter: int
    step_size: float
    n_steps: int
    tile_size: int
    batch_size: int
    seed: int

    def sizes(self, full: tuple[int, int]) -> list[tuple[int, int]]:
        """Sizes in pixels, the smallest first."""
        scales = [self.octave_scale**-octave for octave in reversed(range(self.octaves))]
        height, width = full
        return [(max(round(height * scale), 1), max(round(width * scale), 1)) for scale in scales]

    def fitting(self, model: ImageModel, layers: Sequence[str], full: tuple[int, int]) -> Pyramid:
        """Leave out the smallest sizes of a picture where layers have no values; its own size stays."""
        smallest = self.sizes(full)[0]
        if self.octaves == 1 or min(smallest) >= min(model.input_size) or model.can_compute(layers, smallest):
            return self
        return replace(self, octaves=self.octaves - 1).fitting(model, layers, full)

    def run(
        self,
        model: ImageModel,
        loss: Loss,
        pictures: np.ndarray,
        *,
        first_index: int,
        callback: Callable[[Step], None] | None,
    ) -> OptimizationResult:
        """Dream pictures (image, height, width, 3), each alone; the result is of their size, whatever octave an interruption came in.

        The views of picture i at octave o, counted from the smallest, depend on the seed and ``first_index + i + o`` alone.
        """
        from stochdeconv.optimization.results import OptimizationResult, gather

        full = pictures.shape[1:3]
        sizes = self.sizes(full)
        made = gather(self._at_all_sizes(model, loss, pictures, sizes, first_index, callback))
        result = OptimizationResult.chained(made)
        if result.complete:
            return result
        detail = result.images - _shrunk(pictures, sizes[len(made) - 1])
        return replace(result, images=np.clip(pictures + _stretched(detail, full), 0, 1))

    def _at_all_sizes(
        self,
        model: ImageModel,
        loss: Loss,
        pictures: np.ndarray,
        sizes: Sequence[tuple[int, int]],
        first_index: int,
        callback: Callable[[Step], None] | None,
    ) -> Iterator[OptimizationResult]:
        from stochdeconv.optimization.results import in_stage

        detail = np.zeros_like(pictures)
        for octave, size in enumerate(sizes):
            base = _shrunk(pictures, size)
            start = np.clip(base + _stretched(detail, size), 0, 1)
            result = self._at_one_size(
                model, loss, start, first_index + octave, in_stage(callback, octave, self.octaves)
            )
            detail = result.images - base
            rows = [{"octave": octave, "step": step + 1, **row} for step, row in enumerate(result.history)]
            yield replace(result, history=rows)

    def _at_one_size(
        self,
        model: ImageModel,
        loss: Loss,
        start: np.ndarray,
        first_index: int,
        callback: Callable[[Step], None] | None,
    ) -> OptimizationResult:
        from stochdeconv.optimization.descent import Descent
        from stochdeconv.optimization.loop import optimize
        from stochdeconv.optimization.parameterizations import Clip, pixels
        from stochdeconv.optimization.transforms import Transform

        variables = pixels(
            start,
            noise=0.0,
            constraints=[Clip()],
            n_images=len(start),
            seed=self.seed,
            first_index=first_index,
            learning_rate=self.step_size / 255,
        )
        try:
            return optimize(
                model,
                loss,
                parameterization=variables,
                n_steps=self.n_steps,
                transforms=[Transform(self.jitter)],
                descent=Descent("mean_normalized", tile_size=self.tile_size, tile_batch_size=self.batch_size),
                callback=callback,
            )
        except ModelError as error:
            raise ModelError(f"{error}; fewer octaves=, another size= or a shallower layer may do") from error


def _shrunk(pictures: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    # The filter overshoots; what is clipped away must not count as dreamt.
    return np.clip(_stretched(pictures, size), 0, 1)


def _stretched(pictures: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from stochdeconv.images.files import stretch

    return np.stack([stretch(picture, size) for picture in pictures])
