"""stochdeconv dream."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from stochdeconv.cli.flags import command
from stochdeconv.cli.running import LAYER_HELP, LoopFlags, check_pictures
from stochdeconv.methods import dream as method
from stochdeconv.methods.dream import DreamSettings
from stochdeconv.parsing import read_list


@command
def dream(
    photo: Annotated[str, Parameter(help="A photograph of any size, or the word noise.")],
    /,
    *,
    layer: Annotated[
        str,
        Parameter(
            metavar="LAYER[:CHANNEL][=WEIGHT],…",
            help=f"Layers or channels to amplify, and how much of each. {LAYER_HELP}",
        ),
    ],
    run: LoopFlags,
    settings: DreamSettings,
) -> None:
    """Amplify what a layer sees in a photograph or in noise: DeepDream."""
    read_list(layer, "layer")
    check_pictures(photo, settings.guide)
    run.check_output()
    run.make(method.dream, run.load_network(), photo, layer, settings, title=layer)
