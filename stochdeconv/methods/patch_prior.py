"""Local Gaussians as a prior of the loop: between steps, patches of images become what they most likely are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from stochdeconv.optimization.parameterizations import Constraint, Tensor

# Times that patches are looked at, evenly over the steps.
_N_TIMES = 4


@dataclass(frozen=True, eq=False)
class PatchPrior(Constraint):
    """Constraint: replace every patch by its posterior mean under the Gaussians of its place, the image taken for a noisy one.

    The network's gradient says what should be seen, and draws it in strokes of its own; the prior knows how such places look in
    photographs. Taking turns, both are met: half-quadratic splitting with a mixture of Gaussians as prior (Zoran & Weiss 2011).

    Attributes
    ----------
    likely : callable
        (rows, images) -> images, see `local.likely_images`.
    rows : ndarray of shape (image,), int
        Whose contexts the images' places have.
    n_steps : int
        Steps in all. Of a run that is not interrupted, this is the last that is done to the images.
    """

    likely: Callable[[np.ndarray, np.ndarray], np.ndarray]
    rows: np.ndarray
    n_steps: int

    def is_due(self, step: int) -> bool:
        """Say whether it is time: at the end of every quarter of the steps."""
        return step * _N_TIMES // self.n_steps > (step - 1) * _N_TIMES // self.n_steps

    def apply(self, images: Tensor, gradient: Tensor) -> Tensor:
        """Replace the patches of images (image, height, width, channel)."""
        from keras import ops

        shown = np.clip(ops.convert_to_numpy(images), 0.0, 1.0)
        return ops.convert_to_tensor(self.likely(self.rows, shown))

    def take(self, images: slice) -> PatchPrior:
        """Return the prior of some of the images."""
        return replace(self, rows=self.rows[images])
