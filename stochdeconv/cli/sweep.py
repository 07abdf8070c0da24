"""stochdeconv sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stochdeconv.cli import terminal
from stochdeconv.cli.flags import command
from stochdeconv.cli.running import LAYER_HELP, LoopFlags, check_pictures
from stochdeconv.errors import MissingInputError
from stochdeconv.images import FACES
from stochdeconv.methods import sweep as method
from stochdeconv.methods.recognisers import check_judge
from stochdeconv.methods.sweep import SweepSettings
from stochdeconv.parsing import read_list


@command
def sweep(
    photos: Annotated[str, Parameter(metavar="PHOTO|FOLDER", help="A photograph, or a folder of them.")],
    /,
    *,
    layers: Annotated[str, Parameter(metavar="LAYER,LAYER,…", help=f"Layers, a row of the grid each. {LAYER_HELP}")],
    judge: Annotated[
        str | None,
        Parameter(
            metavar=f"MODEL|{FACES}", help=f"A second network that is asked what it sees; {FACES}: a face detector."
        ),
    ] = None,
    run: LoopFlags,
    settings: SweepSettings,
) -> None:
    """Dream at many layers for many steps, and ask what is recognised before and after."""
    read_list(layers, "layer")
    if judge == FACES:
        check_judge(judge)
    if not Path(photos).exists():
        raise MissingInputError(f"no such photograph or folder: '{photos}'")
    if not Path(photos).is_dir():
        check_pictures(photos)
    run.check_output()
    if judge is not None:
        terminal.check_judge_word(judge)
    network = run.load_network()
    second = None if judge is None else terminal.load_judge(judge, dtype=run.dtype)
    run.make(method.sweep, network, photos, layers, settings, judge=second, title=layers)
