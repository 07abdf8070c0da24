"""What all commands that make images do around the work: refuse early, save what comes, say where it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stochdeconv.cli import terminal

if TYPE_CHECKING:
    from stochdeconv.methods.runs import RunResult

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the images, their history and run.json.")
]


def check_output(folder: Path, *, overwrite: bool) -> None:
    """Refuse before the work what saving would refuse after it."""
    from stochdeconv.methods.runs import refuse_existing

    refuse_existing(folder, overwrite=overwrite)
    terminal.require_writable(folder)


def check_picture(*pictures: str | Path | None) -> None:
    """Refuse a picture that cannot be read before the network is loaded."""
    from stochdeconv.images.files import load_image

    for picture in pictures:
        if picture is not None and str(picture) != "noise":
            load_image(picture)


def check_statistics(*files: str | Path | None) -> None:
    """Refuse statistics that cannot be read before the network is loaded."""
    from stochdeconv.statistics.file import load_statistics

    for file in files:
        if file is not None:
            load_statistics(file)


def save_what_comes(run: Callable[[], RunResult], folder: Path, *, overwrite: bool) -> bool:
    """Run and save, after Ctrl-C too; tell whether the run came to its end."""
    from stochdeconv.methods.runs import RunInterrupted

    try:
        result, complete = run(), True
    except RunInterrupted as interrupt:
        result, complete = interrupt.result, False
    result.save(folder, overwrite=overwrite)
    return complete


def report(folder: Path, *, complete: bool) -> None:
    """Print where the images are."""
    # Once the progress bar is gone, which would wipe the line away.
    if not complete:
        terminal.fail(f"interrupted; the images as far as they came are in {folder}", code=terminal.EXIT_INTERRUPTED)
    typer.echo(folder / "contact_sheet.png")
