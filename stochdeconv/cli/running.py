"""What commands that leave a run folder share: what they refuse, what they save, what they say in the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stochdeconv.cli import terminal

if TYPE_CHECKING:
    from stochdeconv.run_folder import RunResult


def check_output(folder: Path, *, overwrite: bool) -> None:
    """Refuse before the work what saving would refuse after it."""
    terminal.import_keras()
    from stochdeconv.run_folder import refuse_existing

    refuse_existing(folder, overwrite=overwrite)
    terminal.require_writable(folder)


def save_what_comes(run: Callable[[], RunResult], folder: Path, *, overwrite: bool) -> bool:
    """Run and save, after Ctrl-C too; say whether the run came to its end."""
    from stochdeconv.run_folder import RunInterrupted

    try:
        result, complete = run(), True
    except RunInterrupted as interrupt:
        result, complete = interrupt.result, False
    result.save(folder, overwrite=overwrite)
    return complete


def report(folder: Path, *, complete: bool) -> None:
    """Name the sheet to look at, or say that the run was cut short; once the progress bar is gone, which would wipe the line away."""
    if not complete:
        terminal.fail(f"interrupted; the images as far as they came are in {folder}", code=terminal.EXIT_INTERRUPTED)
    typer.echo(folder / "contact_sheet.png")
