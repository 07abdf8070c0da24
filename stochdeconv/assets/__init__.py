"""Where the files lie that ship with the package; imports nothing, so that everything may ask."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

#: A small VGG16 of ten classes, with their statistics.
NETWORK = "mini-vgg16"
#: The judge of its images.
JUDGE = "mini-resnet"
NETWORKS = (NETWORK, JUDGE)
#: What that judge measured of photographs of the ten classes that no statistics have seen: numbers, no pictures.
HELD_OUT = "held_out.npz"


def shipped_file(*parts: str) -> Path:
    """Find a file or folder below this folder; whether it is there is not looked at."""
    return Path(str(importlib.resources.files(__name__))).joinpath(*parts)
