"""What the settings of all methods have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

from stochdeconv.settings import Settings, check_count

Kind = TypeVar("Kind", bound="RunSettings")


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
    batch_size: int = 8
    seed: int = 0

    def _settle(self) -> None:
        super()._settle()
        check_count("seed", self.seed, at_least=0)


def with_batch_size(settings: Kind) -> Kind:
    """Fill in how many images are made at a time, where that was left to the device."""
    from stochdeconv import backend

    return replace(settings, batch_size=settings.batch_size or backend.usual_batch_size())
