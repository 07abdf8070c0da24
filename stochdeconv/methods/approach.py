"""How a picture is drawn to a class in small steps: what refining and morphing share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import SettingsError
from stochdeconv.methods.outlier_suppression import APPROACH_WEIGHT, Outliers, list_statistics, weigh_outliers
from stochdeconv.methods.settings import RunSettings
from stochdeconv.settings import check_count, check_number
from stochdeconv.statistics.class_statistics import ClassStatistics

if TYPE_CHECKING:
    from stochdeconv.losses import Loss
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.parameterizations import Fourier
    from stochdeconv.optimization.transforms import Transform

#: Pixels, of pictures that are not small.
JITTER = 8


@dataclass(frozen=True, kw_only=True)
class Approach(RunSettings):
    """The way a picture is changed toward a class.

    Attributes
    ----------
    strength : float
        How far the Fourier coefficients may go in all: the learning rate times the number of steps, so that more steps are finer ones.
    tv : float
        Weight of the total variation: smoothness.
    jitter : int, optional
        Largest random shift of the view, pixels; by default 8, in proportion less of pictures below 112 pixels.
    scale : float
        Largest random change of the view's size, as a fraction.
    rotate : float
        Largest random turn of the view, in degrees.
    outlier_weight : float, optional
        Standard deviations of the class score that an outlier at twice the limit costs, each layer; by default 3.
    n_images : int
        Variants, each in random views of its own.
    batch_size : int
        Variants at a time; they do not influence each other.
    seed : int
        Start and views of variant i depend on (seed, i) alone.
    """

    strength: float
    tv: float = 20.0
    jitter: int | None = None
    scale: float = 0.05
    rotate: float = 3.0
    suppress_outliers: Outliers = None
    outlier_weight: float | None = None
    n_images: int = 1

    if TYPE_CHECKING:
        # A field of both methods, each with a default of its own.
        n_steps: int

    def _settle(self) -> None:
        super()._settle()
        check_number("strength", self.strength, above=0)
        check_number("tv", self.tv, at_least=0)
        check_count("jitter", self.jitter, at_least=0)
        check_number("scale", self.scale, at_least=0, below=1)
        check_number("rotate", self.rotate, at_least=0)
        weight = weigh_outliers(self.statistics or None, self.outlier_weight, default=APPROACH_WEIGHT)
        self._fill(outlier_weight=weight)

    @property
    def statistics(self) -> list[ClassStatistics | str | Path]:
        """What says where outliers begin."""
        return list_statistics(self.suppress_outliers)

    def check_variants(self) -> None:
        """Raise SettingsError where several pictures from one start would all be the same."""
        if self.n_images > 1 and self.jitter == 0 == self.scale == self.rotate:
            raise SettingsError(
                "variants of a photograph differ by their random views, and jitter=, scale= and rotate= are all 0: make 1 (n_images=); "
                f"got {self.n_images}"
            )

    def jitter_at(self, size: tuple[int, int]) -> int:
        """Settle the jitter for pictures of (height, width), where it was left open, see `transforms.jitter_within`."""
        from stochdeconv.optimization.transforms import jitter_within

        return jitter_within(JITTER, size) if self.jitter is None else self.jitter

    def loss(self, model: ImageModel, class_index: int) -> Loss:
        """Raise the class score, smoothly."""
        from stochdeconv import losses
        from stochdeconv.losses import regularizers

        return losses.unit(model.score_layer, class_index) + self.tv * regularizers.total_variation()

    def variables(
        self, model: ImageModel, size: tuple[int, int], images: np.ndarray | None = None, **start: Any
    ) -> Fourier:
        """Return the coefficients of all variants, from images (image, height, width, channel) or from noise."""
        from stochdeconv.optimization.parameterizations import fourier

        return fourier(
            size,
            n_channels=model.n_channels,
            initial_images=images,
            n_images=self.n_images,
            seed=self.seed,
            learning_rate=self.strength / self.n_steps,
            **start,
        )

    def views(self, size: tuple[int, int]) -> Sequence[Transform]:
        """Return the random views that pictures of (height, width) have to hold in."""
        from stochdeconv.optimization.transforms import Transform

        return [Transform(self.jitter_at(size), self.scale, self.rotate)]
