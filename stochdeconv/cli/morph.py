"""stochdeconv morph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stochdeconv.cli.flags import command
from stochdeconv.cli.running import ClassWord, LoopFlags, check_pictures, check_statistics
from stochdeconv.methods import morph as method
from stochdeconv.methods.morph import MorphSettings, is_photograph


@command
def morph(
    start: Annotated[str, Parameter(metavar="PHOTO|CLASS", help="A photograph, or a class to start from.")],
    class_name: ClassWord,
    /,
    *,
    run: LoopFlags,
    settings: MorphSettings,
) -> None:
    """Turn a photograph, or one class, into another class, as an animation."""
    if is_photograph(start):
        settings.check_variants()
        check_pictures(start)
    run.check_output()
    check_statistics(*settings.statistics)
    title = f"{Path(start).stem} to {class_name}"
    run.make(method.morph, run.load_network(), start, class_name, settings, title=title)
