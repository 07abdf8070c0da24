"""stochdeconv measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stochdeconv.cli import terminal
from stochdeconv.cli.flags import command
from stochdeconv.cli.running import NetworkFlags, OutputFlags
from stochdeconv.errors import ExistingOutputError, SettingsError
from stochdeconv.evaluation.measure import MeasureSettings, measure_photographs
from stochdeconv.evaluation.photographs import SUFFIX


@command
def measure(
    images: Annotated[
        Path,
        Parameter(
            metavar="FOLDER", help="Photographs no statistics have seen: of one class, or a tree of class folders."
        ),
    ],
    /,
    *,
    judge: Annotated[str, Parameter(metavar="MODEL", help="The classifier that compare will ask, too.")],
    output: Annotated[Path, Parameter(metavar="FILE.npz", help="For compare --real.")],
    settings: MeasureSettings,
    source: NetworkFlags,
    flags: OutputFlags,
) -> None:
    """Measure photographs once, for comparisons where the pictures themselves cannot be given."""
    if output.suffix != SUFFIX:
        raise SettingsError(f"'{output}' does not end in {SUFFIX}, by which compare --real knows such a file")
    settings.photographs(images)  # what is wrong is said before Keras is loaded
    if output.exists() and not flags.overwrite:
        raise ExistingOutputError(f"'{output}' already exists; choose another file or pass overwrite=True")
    terminal.require_writable(output)
    network = source.load(judge)
    with terminal.ProgressBar("measuring", quiet=flags.quiet) as bar:
        measured = measure_photographs(images, network, settings, progress=bar.on_progress)
    measured.save(output)
    for key, measurements in measured.classes.items():
        print(f"{key.title}: {len(measurements)} photographs")
    print(output)
