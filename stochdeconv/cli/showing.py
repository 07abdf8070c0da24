"""The command for the first minutes: demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stochdeconv.cli import terminal
from stochdeconv.cli.comparing import print_comparison
from stochdeconv.cli.terminal import ProgressBar, default
from stochdeconv.demo import CLASSES, NETWORK, PHOTOGRAPHS, refuse_existing
from stochdeconv.demo import demo as run_demo


def demo(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder for statistics, images, metrics.json and report.html."
        ),
    ] = Path("out/demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer images and steps: shows that all works, too few for good pictures.")
    ] = default(run_demo, "quick"),
    seed: terminal.Seed = default(run_demo, "seed"),
    overwrite: terminal.Overwrite = False,
    quiet: terminal.Quiet = False,
) -> None:
    """Run ``stochdeconv demo``."""
    refuse_existing(output, overwrite=overwrite)
    terminal.require_writable(output)
    terminal.import_keras()
    try:
        with ProgressBar("demo", quiet=quiet) as bar:
            metrics = run_demo(output, quick=quick, seed=seed, overwrite=overwrite, progress=bar.on_progress)
    except KeyboardInterrupt:
        terminal.fail(
            f"interrupted; {output} holds what was made until now; begin anew with --overwrite",
            code=terminal.EXIT_INTERRUPTED,
        )
    typer.echo(
        f"{output / 'crops.h5'}  statistics collected here, on crops of scikit-learn's {' and '.join(PHOTOGRAPHS)}"
    )
    typer.echo(
        f"{output}/SAMPLER/CLASS  images made from statistics that ship: {', '.join(CLASSES)} as {NETWORK} sees them"
    )
    typer.echo(
        f"{output}/PRESET/CLASS  the same classes by activation maximization, as many images and steps: clear too, as {NETWORK} "
        "learned to withstand attacks, but nearly the same picture each time"
    )
    print_comparison(metrics, output)
