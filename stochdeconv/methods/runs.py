"""What a run leaves behind: its images, how the losses went, what was sampled and everything it depended on."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import ExistingOutputError, InputError, MissingInputError
from stochdeconv.files import write_atomically
from stochdeconv.images import animations
from stochdeconv.images import files as image_files
from stochdeconv.images.sheets import LEGIBLE_WIDTH, contact_sheet

if TYPE_CHECKING:
    from stochdeconv.networks.classes import ClassName
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.results import OptimizationResult

RECORD, TARGETS = "run.json", "targets.npz"
TABLES = ("deviations", "probabilities", "distances", "cells", "rates", "faces")
_NOT_IN_EVERY_RUN = (TARGETS, "maps.npz", "animation.gif", "animation.mp4", *(f"{name}.csv" for name in TABLES))


@dataclass(frozen=True, eq=False)
class RunResult:
    """Images of a run and their record.

    Attributes
    ----------
    images : ndarray of shape (image, height, width, 3), float32 in [0, 1]
    history : list of dict
        One row a step and batch: ``batch``, ``step`` and the loss of each term, averaged over the batch.
    record : dict
        The content of run.json.
    arrays : mapping of str to ndarray
        The content of ``targets.npz``: what the images were drawn to, sampled or given; for `saliency`, of ``maps.npz``.
    sheet : ndarray of shape (height, width, 3), float32 in [0, 1], or None
        The content of contact_sheet.png; by default all images, tiled.
    frames : ndarray of shape (frame, height, width, 3), uint8, or None
        What moves: ``animation.gif`` and ``animation.mp4``.
    tables : mapping of str to list of dict
        What was measured, as rows: ``NAME.csv`` for each, of the names in `TABLES`.
    """

    images: np.ndarray
    history: list[dict[str, float]]
    record: dict[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    sheet: np.ndarray | None = None
    frames: np.ndarray | None = None
    tables: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write image_000.png …, contact_sheet.png, history.csv, run.json and what else this run has, see the attributes.

        Parameters
        ----------
        folder : path
            Made where it is missing.
        overwrite : bool
            Replace an earlier run in this folder; files that are no run's stay.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        ExistingOutputError
            The folder holds a run and `overwrite` is False.
        InputError
            An empty text is no folder.
        """
        if folder == "":
            raise InputError("expected a folder for the run; got an empty text ('.' is the one you are in)")
        folder = Path(folder)
        refuse_existing(folder, overwrite=overwrite)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Written whole beside the folder first: a full disk costs neither the run that was there nor half of this one.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as written:
            self._write(Path(written))
            folder.mkdir(exist_ok=True)
            # The record goes first and comes last: a folder with a record is whole.
            for old in [
                folder / RECORD,
                *folder.glob("image_[0-9]*.png"),
                *(folder / name for name in _NOT_IN_EVERY_RUN),
            ]:
                old.unlink(missing_ok=True)
            for new in sorted(Path(written).iterdir(), key=lambda path: path.name == RECORD):
                os.replace(new, folder / new.name)
        return folder

    def _repr_html_(self) -> str:
        """Show the contact sheet, what it is of and the losses at the end in a notebook."""
        from stochdeconv.images import markup

        record, settings = self.record, self.record.get("settings", {})
        shown_class = record.get("class")
        facts = {
            "method": record.get("command"),
            "class": shown_class and shown_class.get("label"),
            "network": record.get("model", {}).get("name"),
            "images": len(self.images),
            "steps": settings.get("n_steps"),
            "seed": record.get("seed"),
            "complete": "no, interrupted" if record.get("complete") is False else None,
        }
        facts = {name: value for name, value in facts.items() if value is not None}
        alt = " ".join(str(facts[name]) for name in ("method", "class") if name in facts)
        html = markup.picture(self._sheet(), alt=f"contact sheet: {alt}") + markup.facts_table(facts)
        # Without steps, as of saliency maps, a history is no optimisation's.
        return str(html + (markup.final_losses(self.history) if any("step" in row for row in self.history) else ""))

    def _sheet(self) -> np.ndarray:
        return contact_sheet(self.images, least_width=LEGIBLE_WIDTH) if self.sheet is None else self.sheet

    def _write(self, folder: Path) -> None:
        for i, image in enumerate(self.images):
            image_files.save_png(folder / f"image_{i:03d}.png", image)
        image_files.save_png(folder / "contact_sheet.png", self._sheet())
        write_atomically(folder / "history.csv", _csv(self.history).encode())
        if self.arrays:
            buffer = io.BytesIO()
            arrays: dict[str, Any] = dict(self.arrays)
            np.savez_compressed(buffer, **arrays)
            name = "maps.npz" if self.record["command"] == "saliency" else TARGETS
            write_atomically(folder / name, buffer.getvalue())
        for name, rows in self.tables.items():
            write_atomically(folder / f"{name}.csv", _csv(rows).encode())
        if self.frames is not None:
            write_atomically(folder / "animation.gif", animations.gif_bytes(self.frames))
            write_atomically(folder / "animation.mp4", animations.mp4_bytes(self.frames))
        write_atomically(folder / RECORD, (json.dumps(self.record, indent=2) + "\n").encode())


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run; `result` is a RunResult of what was done until then, its record marked incomplete."""

    def __init__(self, result: RunResult):
        super().__init__("interrupted")
        self.result = result


def record_run(
    command: str,
    result: OptimizationResult,
    *,
    model: ImageModel,
    settings: Mapping[str, Any],
    seed: int,
    seconds: float,
    shown_class: ClassName | None = None,
    statistics_hash: str | None = None,
    targets: Mapping[str, np.ndarray] | None = None,
) -> RunResult:
    """Write down everything that an optimisation depended on.

    Parameters
    ----------
    command : str
        Name of the method.
    result : OptimizationResult
    model : ImageModel
    settings : mapping
        All of the method, see `settings.Settings.record`.
    seed : int
    seconds : float
        How long it took.
    shown_class : ClassName, optional
        Where there is one.
    statistics_hash : str, optional
        Of the statistics that it depended on.
    targets : mapping of str to ndarray of shape (image, ...), optional
        What was asked of the images, see `RunResult.arrays`.

    Returns
    -------
    RunResult
        With the method's images as it left them, clipped to [0, 1]; a sheet of its own, frames and tables the method adds.
    """
    from stochdeconv import backend

    record = {
        "command": command,
        "complete": result.complete,
        "class": vars(shown_class) if shown_class else None,
        "n_images": len(result.images),
        "image_size": list(result.images.shape[1:3]),
        "seed": seed,
        "settings": {**settings, "optimization": result.settings},
        "model": {
            "name": model.name,
            "source": model.source,
            "weights_hash": model.weights_hash,
            "preprocessing": dict(model.preprocessing),
        },
        "statistics_hash": statistics_hash,
        "versions": backend.versions(),
        "seconds": round(seconds, 3),
    }
    # An interrupted run has fewer images than there are targets.
    arrays = {name: values[: len(result.images)] for name, values in (targets or {}).items()}
    return RunResult(np.clip(result.images, 0.0, 1.0), result.history, record, arrays)


def hand_over(run: RunResult) -> RunResult:
    """Return a run that came to its end.

    Parameters
    ----------
    run : RunResult

    Returns
    -------
    RunResult
        The same.

    Raises
    ------
    RunInterrupted
        It did not, on Ctrl-C; the error holds it as far as it came.
    """
    if not run.record["complete"]:
        raise RunInterrupted(run)
    return run


def refuse_existing(folder: str | Path, *, overwrite: bool) -> None:
    """Raise where a folder holds a run that may not be replaced, or is no folder; called before the work as well as after."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ExistingOutputError(f"{folder} is a file; the output of a run is a folder")
    if not overwrite and any((folder / name).exists() for name in (RECORD, "image_000.png")):
        raise ExistingOutputError(f"{folder} already holds a run; choose another folder or pass overwrite=True")


def read_record(folder: str | Path) -> dict[str, Any]:
    """Read the run.json of a run folder.

    Parameters
    ----------
    folder : path

    Returns
    -------
    dict of str to object

    Raises
    ------
    MissingInputError, InputError
        There is no record, or it is not readable.
    """
    path = Path(folder) / RECORD
    if not path.is_file():
        raise MissingInputError(
            f"{folder} holds no {RECORD}; expected a folder made by stochdeconv generate or maximize"
        )
    try:
        record = json.loads(path.read_text())
    except (ValueError, OSError) as problem:
        raise InputError(f"{path} cannot be read ({problem}); make the run again") from problem
    if not isinstance(record, dict):
        raise InputError(f"{path} holds a {type(record).__name__}, not a record; make the run again")
    return record


def is_made(
    folder: str | Path, command: str, *, model: ImageModel, statistics_hash: str | None = None, **settings: Any
) -> bool:
    """Tell whether a finished run lies there that was made as it would be made now: a program that was stopped goes on from there.

    Parameters
    ----------
    folder : path
    command : str
        That made it.
    model : ImageModel
        The network that makes the images; what counts are its weights.
    statistics_hash : str or None
        Of the statistics the run reads; None: it reads none.
    **settings : object
        Those that must be equal: of ``settings`` in run.json, or ``n_images`` or ``seed`` beside them.

    Returns
    -------
    bool
        False, too, where no run lies there.

    Raises
    ------
    InputError
        The record is not readable.
    """
    if not (Path(folder) / RECORD).is_file():
        return False
    record = read_record(folder)
    recorded = {"n_images": record["n_images"], "seed": record["seed"], **record["settings"]}
    expected = json.loads(json.dumps(settings))  # as it reads in a record: a tuple is a list there
    return (
        record["complete"]
        and record["command"] == command
        and record["model"]["weights_hash"] == model.weights_hash
        and record["statistics_hash"] == statistics_hash
        and all(name in recorded and recorded[name] == value for name, value in expected.items())
    )


def _csv(history: list[dict[str, float]]) -> str:
    columns = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
