"""Local Gaussians as a prior of the loop: between steps, images are denoised patch by patch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from stochdeconv.optimization.parameterizations import Constraint, Tensor

# Times that images are denoised, evenly over the steps, and the last width of the noise as a part of the first.
_N_TIMES, _LAST = 4, 0.2


def patch_priors(
    denoise: Callable[[np.ndarray, np.ndarray, float], np.ndarray], contexts: np.ndarray, n_steps: int, width: float
) -> list[PatchPrior]:
    """Denoise images at the end of every quarter of the steps, taken for less and less noisy ones.

    Parameters
    ----------
    denoise : callable
        (contexts, images, width) -> images, see `local.denoise_images`.
    contexts : ndarray of shape (image, place), int
        Of the images' places.
    n_steps : int
        Steps in all. Of a run that is not interrupted, the last prior is the last that is done to the images.
    width : float
        Standard deviation of the noise, the first time.

    Returns
    -------
    list of PatchPrior
    """
    # Of fewer steps than times, the narrower width.
    widths = {
        -(-n_steps * (time + 1) // _N_TIMES): width * _LAST ** (time / (_N_TIMES - 1)) for time in range(_N_TIMES)
    }
    return [PatchPrior(denoise, contexts, float(width), step) for step, width in widths.items()]


@dataclass(frozen=True, eq=False)
class PatchPrior(Constraint):
    """Constraint: replace every patch by its posterior mean under the Gaussians of its place, the image taken for a noisy one.

    The network's gradient says what should be seen, and draws it in strokes of its own; the prior knows how such places look in
    photographs. Taking turns, both are met: a plug-and-play prior (Venkatakrishnan, Bouman & Wohlberg 2013), its denoiser a mixture of
    Gaussians of patches (as in Zoran & Weiss 2011), its noise annealed from wide to narrow.

    Attributes
    ----------
    denoise, contexts
        As in `patch_priors`.
    width : float
        Standard deviation of the noise.
    step : int
        The one after which it acts.
    """

    denoise: Callable[[np.ndarray, np.ndarray, float], np.ndarray]
    contexts: np.ndarray
    width: float
    step: int

    def is_due(self, step: int) -> bool:
        """Say whether it is time, after so many steps."""
        return step == self.step

    def apply(self, images: Tensor, gradient: Tensor) -> Tensor:
        """Replace the patches of images (image, height, width, channel)."""
        from keras import ops

        shown = np.clip(ops.convert_to_numpy(images), 0.0, 1.0)
        return ops.convert_to_tensor(self.denoise(self.contexts, shown, self.width))

    def take(self, images: slice) -> PatchPrior:
        """Return the prior of some of the images."""
        return replace(self, contexts=self.contexts[images])
