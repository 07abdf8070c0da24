"""stochdeconv saliency."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from stochdeconv.cli.flags import command
from stochdeconv.cli.running import Photo, RunFlags, check_pictures
from stochdeconv.methods import saliency as method
from stochdeconv.methods.saliency import SaliencySettings


@command
def saliency(
    photo: Photo,
    class_name: Annotated[
        str | None, Parameter(metavar="CLASS", help="Name, wnid or index; left out: the network's own top class.")
    ] = None,
    /,
    *,
    run: RunFlags,
    settings: SaliencySettings,
) -> None:
    """Show which pixels a class or unit of a network depends on."""
    settings.check_objective(class_name)
    run.check_output()
    check_pictures(photo)
    title = class_name or settings.unit or photo.stem
    run.make(method.saliency, run.load_network(), photo, class_name, settings, title=title, reports="on_progress")
