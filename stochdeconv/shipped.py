"""Where the files lie that ship with the package; imports nothing, so that everything may ask."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

#: Networks that ship: a small VGG16 of ten classes, with their statistics, and the judge of its images.
NETWORKS = ("mini-vgg16", "mini-resnet")
#: What that judge measured of photographs of the ten classes that no statistics have seen: numbers, no pictures.
HELD_OUT = "held_out.npz"


def shipped_file(*parts: str) -> Path:
    """Find a file or folder below the package's ``assets``; whether it is there is not looked at."""
    return Path(str(importlib.resources.files("stochdeconv"))).joinpath("assets", *parts)
