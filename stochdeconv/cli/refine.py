"""stochdeconv refine."""

from __future__ import annotations

from stochdeconv.cli.flags import command
from stochdeconv.cli.running import ClassWord, LoopFlags, Photo, check_pictures, check_statistics
from stochdeconv.methods import refine as method
from stochdeconv.methods.refine import RefineSettings


@command
def refine(photo: Photo, class_name: ClassWord, /, *, run: LoopFlags, settings: RefineSettings) -> None:
    """Make a photograph more like its class, and keep it on the way."""
    check_pictures(photo)
    run.check_output()
    check_statistics(*settings.statistics)
    run.make(method.refine, run.load_network(), photo, class_name, settings, title=class_name)
