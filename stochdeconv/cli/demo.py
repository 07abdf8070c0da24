"""stochdeconv demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stochdeconv.cli import terminal
from stochdeconv.cli.compare import print_comparison
from stochdeconv.cli.flags import command, default, described
from stochdeconv.cli.running import OutputFlags
from stochdeconv.cli.terminal import ProgressBar
from stochdeconv.demo import CLASSES, NETWORK, PHOTOGRAPHS, refuse_existing
from stochdeconv.demo import demo as run_demo


@command
def demo(
    *,
    output: Annotated[Path, Parameter(metavar="DIR", help=described(run_demo, "output"))] = Path("out/demo"),
    quick: Annotated[bool, Parameter(help=described(run_demo, "quick"))] = default(run_demo, "quick"),
    seed: Annotated[int, Parameter(help=described(run_demo, "seed"))] = default(run_demo, "seed"),
    flags: OutputFlags,
) -> None:
    """Do the main job on what ships with the package; ends with report.html."""
    refuse_existing(output, overwrite=flags.overwrite)
    terminal.require_writable(output)
    terminal.import_keras()
    try:
        with terminal.stopping_once(), ProgressBar("demo", quiet=flags.quiet) as bar:
            metrics = run_demo(output, quick=quick, seed=seed, overwrite=flags.overwrite, progress=bar.on_progress)
    except KeyboardInterrupt:
        terminal.fail(
            f"interrupted; {output} holds what was made until now; begin anew with --overwrite",
            code=terminal.EXIT_INTERRUPTED,
        )
    print(f"{output / 'crops.h5'}  statistics collected here, on crops of scikit-learn's {' and '.join(PHOTOGRAPHS)}")
    print(f"{output}/SAMPLER/CLASS  images made from statistics that ship: {', '.join(CLASSES)} as {NETWORK} sees them")
    print(
        f"{output}/PRESET/CLASS  the same classes by activation maximization, as many images and steps: clear too, as {NETWORK} "
        "learned to withstand attacks, but nearly the same picture each time"
    )
    print_comparison(metrics, output)
