"""The command that measures photographs once for comparisons: measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stochdeconv.cli import terminal
from stochdeconv.errors import ExistingOutputError
from stochdeconv.evaluation.measure import MeasureSettings, measure_photographs
from stochdeconv.evaluation.photographs import SUFFIX


def measure(
    images: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Photographs no statistics have seen: of one class, or a tree of class folders."
        ),
    ],
    judge: Annotated[str, typer.Option(metavar="MODEL", help="The classifier that compare will ask, too.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.npz", help="For compare --real.")],
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Side of the images they will be compared with, pixels.", show_default="the judge's"),
    ] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="The class.", show_default="the folder's name")
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            metavar="PART",
            help="Only the last part of each class by name, such as 0.2: what statistics of the others have not seen.",
            show_default="all",
        ),
    ] = None,
    weights: terminal.Weights = None,
    overwrite: terminal.Overwrite = False,
    quiet: terminal.Quiet = False,
) -> None:
    """Run ``stochdeconv measure``."""
    if output.suffix != SUFFIX:
        raise typer.BadParameter(
            f"'{output}' does not end in {SUFFIX}, by which compare --real knows such a file", param_hint="-o"
        )
    settings = MeasureSettings(size=size, class_name=class_name, held_out=held_out)
    settings.photographs(images)  # what is wrong is said before Keras is loaded
    if output.exists() and not overwrite:
        raise ExistingOutputError(f"'{output}' already exists; choose another file or pass --overwrite")
    terminal.require_writable(output)
    network = terminal.load_model(judge, weights=weights)
    with terminal.ProgressBar("measuring", quiet=quiet) as bar:
        measured = measure_photographs(images, network, settings, progress=bar.on_progress)
    measured.save(output)
    for key, measurements in measured.classes.items():
        typer.echo(f"{key.title}: {len(measurements)} photographs")
    typer.echo(output)
