"""How a picture is drawn to a class in small steps: what refining and morphing share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stochdeconv.errors import InputError

if TYPE_CHECKING:
    from stochdeconv.losses import Loss
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.transforms import Transform

#: Pixels, of pictures that are not small.
JITTER = 8


@dataclass(frozen=True)
class Approach:
    """The way a picture is changed toward a class.

    Attributes
    ----------
    strength : float
        How far the Fourier coefficients may go in all: the learning rate times the number of steps, so that more steps are finer ones.
    tv : float
        Weight of the total variation.
    jitter : int, optional
        Largest random shift of the view, pixels; by default 8, of small pictures less, see `at`.
    scale, rotate : float
        Largest random change of the view's size (fraction) and rotation (degrees).
    """

    strength: float
    tv: float = 20.0
    jitter: int | None = None
    scale: float = 0.05
    rotate: float = 3.0

    def __post_init__(self):
        if not (0 < self.strength < math.inf and 0 <= self.tv < math.inf):
            raise InputError(
                f"strength must be above 0 and tv at least 0, both finite; got {self.strength} and {self.tv}"
            )

    def check_variants(self, n_images: int) -> None:
        """Raise InputError where several pictures from one start would all be the same."""
        if n_images > 1 and self.jitter == 0 == self.scale == self.rotate:
            raise InputError(
                f"variants of a photograph differ by their random views, and jitter, scale and rotate are all 0: make 1; got {n_images}"
            )

    def at(self, size: tuple[int, int]) -> Approach:
        """Settle the jitter for pictures of (height, width), where it was left open, see `transforms.jitter_within`."""
        from stochdeconv.optimization.transforms import jitter_within

        return self if self.jitter is not None else replace(self, jitter=jitter_within(JITTER, size))

    def loss(self, model: ImageModel, class_index: int) -> Loss:
        """Raise the class score, smoothly."""
        from stochdeconv import losses
        from stochdeconv.losses import regularizers

        return losses.unit(model.score_layer, class_index) + self.tv * regularizers.total_variation()

    def views(self) -> list[Transform]:
        """Return the random views the picture has to hold in."""
        from stochdeconv.optimization.transforms import Transform

        return [Transform(self.jitter, self.scale, self.rotate)]
