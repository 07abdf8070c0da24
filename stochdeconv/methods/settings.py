"""What the settings of all methods have in common."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from stochdeconv.settings import Settings, check_count

Kind = TypeVar("Kind", bound="RunSettings")

#: Images at a time where nobody says: on a CPU more are no faster; a GPU has more to do, and `optimization.loop` halves what does not fit.
BATCH_SIZE, GPU_BATCH_SIZE = 8, 64


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """What a run depends on beside the network and the pictures it is given.

    Attributes
    ----------
    size : int, optional
        Side of the images in pixels; the network's own by default, others where the network is convolutional throughout.
    batch_size : int
        Images at a time.
    seed : int
        Start and random views of image i depend on (seed, i) alone.
    """

    counts: ClassVar[tuple[str, ...]] = ("n_images", "n_steps", "size", "batch_size")

    size: int | None = None
    batch_size: int = BATCH_SIZE
    seed: int = 0

    def _settle(self) -> None:
        super()._settle()
        check_count("seed", self.seed, at_least=0)


def with_batch_size(settings: Kind, *, is_shared: bool = False) -> Kind:
    """Fill in, of settled settings, how many images are made at a time where that was left to the device.

    Work that is shared goes in small batches, whatever device this process has: there is to be one for each worker.
    """
    from stochdeconv import backend

    filled = copy.copy(settings)
    usual = GPU_BATCH_SIZE if not is_shared and backend.has_gpu() else BATCH_SIZE
    filled._fill(batch_size=settings.batch_size or usual)
    return filled
