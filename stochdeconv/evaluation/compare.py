"""Saved images against real photographs: metrics.json and one report that opens anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stochdeconv.errors import ExistingOutputError, InputError
from stochdeconv.files import write_atomically
from stochdeconv.images import FACES
from stochdeconv.images import files as image_files
from stochdeconv.images.faces import require_detector
from stochdeconv.settings import check_count

if TYPE_CHECKING:
    from stochdeconv.evaluation.contestants import ClassEntry, Contestant
    from stochdeconv.evaluation.photographs import MeasuredPhotographs
    from stochdeconv.networks.image_model import ImageModel

METRICS = "metrics.json"
REPORT = "report.html"


def compare(
    contestants: Mapping[str, Sequence[Path]],
    *,
    real: str | Path,
    judge: ImageModel | str,
    output: str | Path,
    train: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Tell how realistic and how varied images are, against photographs and against each other.

    Parameters
    ----------
    contestants : mapping of str to sequence of path
        Name to run folders (as generate and maximize leave them), one or more a class. The class comes from run.json.
    real : path
        Photographs that no statistics have seen: one folder (or text file of paths), a tree with a folder a class
        (wnid or label), or an .npz file of what the same judge measured of photographs (`evaluation.photographs`).
    judge : ImageModel or "faces"
        A classifier that had no part in making the images; classes are matched by wnid. ``"faces"`` counts faces instead, see
        `faces.find_faces`: the figures are then `figures.FACE_FIGURES`, and each image has the places of its faces.
    output : path
        Folder for metrics.json and report.html.
    train : path, optional
        Photographs the statistics come from, in folders as those of `real`: was any copied? Each image gets its nearest one; needs a
        classifier.
    seed : int
        Seed of the resampling and of the choice of photographs.
    overwrite : bool
        Replace an earlier comparison.
    progress : callable, optional
        Called with (pictures measured, pictures in all, what is measured).

    Returns
    -------
    dict
        The content of metrics.json: every figure is ``{"value", "low", "high"}``, a 95 % interval; None where it is
        undefined. Figures are computed class by class and averaged over the classes; those of each class are under
        ``"classes"``.

    Raises
    ------
    StochDeconvError
        Before any work where the input cannot be compared or the output exists; nothing is written then.
    """
    # The command line reads this signature; the libraries behind the figures take seconds to load.
    from stochdeconv import backend
    from stochdeconv.evaluation.class_comparison import Progress, measure_class
    from stochdeconv.evaluation.contestants import find_warnings
    from stochdeconv.evaluation.judge import FaceJudge, Judge
    from stochdeconv.evaluation.metrics import summarise
    from stochdeconv.evaluation.report.page import render_report

    output = Path(output)
    check_judge(judge, real=real, train=train)
    check_count("seed", seed, at_least=0)
    entrants, photographs, entries = read_entries(contestants, real, train, output, overwrite=overwrite)
    warnings = find_warnings(entrants, judge_hash=None if isinstance(judge, str) else judge.weights_hash)
    size = _common_size(entrants, warnings)
    own_judge = FaceJudge() if isinstance(judge, str) else Judge(judge)
    if isinstance(own_judge, Judge) and not isinstance(photographs, Path):
        photographs.require(own_judge, size)

    counter = Progress(entries, progress)
    measured = [
        measure_class(entry, own_judge, size=size, seed=(seed, number), warnings=warnings, progress=counter)
        for number, entry in enumerate(entries)
    ]
    settings = {
        "contestants": {entrant.name: [str(run.folder) for run in entrant.runs] for entrant in entrants},
        "real": str(real),
        "train": None if train is None else str(train),
        "seed": seed,
        "image_size": list(size),
        "versions": backend.versions(),
    }
    metrics = summarise(entrants, measured, judge=own_judge, settings=settings, warnings=warnings)
    counter.say("writing the report")
    _write(output, metrics, render_report(metrics, entrants, measured))
    return metrics


def _write(output: Path, metrics: Mapping[str, Any], page: str) -> None:
    # Figures last, and those of an earlier comparison first: where metrics.json is, its own report is too.
    (output / METRICS).unlink(missing_ok=True)
    write_atomically(output / REPORT, page.encode("utf-8"))
    write_atomically(output / METRICS, (json.dumps(metrics, indent=1, allow_nan=False) + "\n").encode())


def check_judge(judge: object, *, real: str | Path, train: str | Path | None) -> None:
    """Raise InputError for a word that is no judge, and for what a face detector cannot do; arguments as in `compare`."""
    from stochdeconv.evaluation.photographs import SUFFIX

    if not isinstance(judge, str):
        return
    if judge != FACES:
        raise InputError(f"judge '{judge}' is a word, but the only one is '{FACES}'; give a network (load_model)")
    require_detector()
    if train is not None:
        raise InputError(
            f"the judge '{FACES}' has no features in which a training photograph could be near an image: leave train out, or give a "
            "network as judge"
        )
    if Path(real).suffix == SUFFIX:
        raise InputError(
            f"'{real}' holds what a network measured of photographs, in which the judge '{FACES}' can find nothing: give a folder of "
            "photographs as real"
        )


def read_entries(
    contestants: Mapping[str, Sequence[Path]],
    real: str | Path,
    train: str | Path | None,
    output: str | Path,
    *,
    overwrite: bool,
) -> tuple[tuple[Contestant, ...], Path | MeasuredPhotographs, tuple[ClassEntry, ...]]:
    """Find all that `compare` needs but the judge, or raise what is wrong with it; arguments as there.

    Returns
    -------
    contestants : tuple of Contestant
    real : Path or MeasuredPhotographs
    entries : tuple of ClassEntry
    """
    from stochdeconv.evaluation.contestants import match_classes, read_contestants
    from stochdeconv.evaluation.photographs import SUFFIX, load_photographs

    _refuse_existing(Path(output), overwrite=overwrite)
    entrants = read_contestants(contestants)
    photographs = load_photographs(real) if Path(real).suffix == SUFFIX else Path(real)
    return entrants, photographs, match_classes(entrants, photographs, None if train is None else Path(train))


def _refuse_existing(output: Path, *, overwrite: bool) -> None:
    """Raise where a folder holds a comparison that may not be replaced, or is no folder."""
    if output.exists() and not output.is_dir():
        raise ExistingOutputError(f"'{output}' is a file; a comparison is written to a folder")
    held = [name for name in (METRICS, REPORT) if (output / name).exists()]
    if held and not overwrite:
        raise ExistingOutputError(
            f"'{output}' already holds {' and '.join(held)}; choose another folder or pass overwrite=True"
        )


def _common_size(entrants: Sequence[Contestant], warnings: list[str]) -> tuple[int, int]:
    """Find the smallest size among the images: larger ones are shown to the judge at it, and so are the photographs."""
    sizes: dict[tuple[int, int], str] = {}
    for entrant in entrants:
        for run in entrant.runs:
            for path in run.images:
                sizes.setdefault(image_files.load_image(path).shape[:2], entrant.name)
    size = (min(height for height, _ in sizes), min(width for _, width in sizes))
    if len(sizes) > 1:
        listed = ", ".join(f"{height}×{width} ('{name}')" for (height, width), name in sizes.items())
        warnings.append(f"The images differ in size: {listed}. All were compared at {size[0]}×{size[1]}.")
    return size
