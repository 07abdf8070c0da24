"""stochdeconv invert."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from stochdeconv.cli.flags import command
from stochdeconv.cli.running import LAYER_HELP, LoopFlags, Photo, check_pictures
from stochdeconv.methods import invert as method
from stochdeconv.methods.invert import InvertSettings
from stochdeconv.parsing import read_list


@command
def invert(
    photo: Photo,
    /,
    *,
    layer: Annotated[
        str, Parameter(metavar="LAYER,…", help=f"Layers whose activations are asked for; a picture each. {LAYER_HELP}")
    ],
    run: LoopFlags,
    settings: InvertSettings,
) -> None:
    """Find the picture a layer's activations stand for: feature inversion."""
    read_list(layer, "layer")
    check_pictures(photo, settings.target)
    run.check_output()
    run.make(method.invert, run.load_network(), photo, layer, settings, title=layer)
