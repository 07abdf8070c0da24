"""Which class a run and a folder of photographs mean."""

from __future__ import annotations

from dataclasses import dataclass

from stochdeconv.networks.classes import comparable


@dataclass(frozen=True)
class ClassKey:
    """A class as runs and folders name it; both None where a run has no class."""

    wnid: str | None
    label: str | None

    @property
    def key(self) -> str:
        """Word for the class in metrics.json."""
        return self.wnid or self.label or "images"

    @property
    def title(self) -> str:
        """Word for the class on a page."""
        return (self.label or self.wnid or "images").replace("_", " ")

    def matches(self, other: ClassKey) -> bool:
        """Tell whether two runs mean the same class: by wnid where both have one, else by label."""
        if self.wnid and other.wnid:
            return self.wnid == other.wnid
        return comparable(self.label or "") == comparable(other.label or "")
