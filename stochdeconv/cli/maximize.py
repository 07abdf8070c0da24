"""stochdeconv maximize."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from stochdeconv.cli.flags import command
from stochdeconv.cli.running import LoopFlags, check_statistics
from stochdeconv.methods import maximize as method
from stochdeconv.methods.maximize import MaximizeSettings


@command
def maximize(
    class_name: Annotated[
        str | None,
        Parameter(
            metavar="CLASS[,CLASS]",
            help="Name, wnid or index; left out with --unit or --direction. Several: the sum of their scores.",
        ),
    ] = None,
    /,
    *,
    run: LoopFlags,
    settings: MaximizeSettings,
) -> None:
    """Maximise a class neuron, or any unit: the baseline."""
    settings.check_objective(class_name)
    run.check_output()
    check_statistics(settings.suppress_outliers)
    title = str(class_name or settings.unit or settings.direction)
    run.make(method.maximize, run.load_network(), class_name, settings, title=title)
