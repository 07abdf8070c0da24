"""Saved images against real photographs: metrics.json and one report that opens anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import ExistingOutputError, InputError
from stochdeconv.evaluation import NOISE_FLOOR, REAL
from stochdeconv.files import write_atomically
from stochdeconv.images import files as image_files
from stochdeconv.images.faces import FACES, require_detector

if TYPE_CHECKING:
    from stochdeconv.evaluation.contestants import ClassEntry, Contestant
    from stochdeconv.evaluation.figures import Reference
    from stochdeconv.evaluation.intervals import Estimate
    from stochdeconv.evaluation.judge import FaceJudge, Judge
    from stochdeconv.evaluation.measurements import Measurements
    from stochdeconv.evaluation.photographs import MeasuredPhotographs
    from stochdeconv.networks.image_model import ImageModel

METRICS = "metrics.json"
REPORT = "report.html"
# Real photographs of a class below which the figures deserve a warning.
_ENOUGH_PHOTOGRAPHS = 100
# Relative feature distance at which two files are one photograph: far above rounding, far below any two photographs.
_SAME_PHOTOGRAPH = 1e-3


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
        Photographs the statistics come from, in the same forms, for the nearest training photograph of each image; needs a classifier.
    seed : int
        Seed of the resampling and of the choice of photographs.
    overwrite : bool
        Replace an earlier comparison.
    progress : callable, optional
        Called with (pictures done, pictures in all, what is done).

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
    from stochdeconv.evaluation.contestants import find_warnings
    from stochdeconv.evaluation.judge import FaceJudge, Judge

    output = Path(output)
    check_judge(judge, real=real, train=train)
    entrants, photographs, entries = read_entries(contestants, real, train, output, overwrite=overwrite)
    warnings = find_warnings(entrants, judge_hash=None if judge == FACES else judge.weights_hash)
    size = _common_size(entrants, warnings)
    asked = FaceJudge() if judge == FACES else Judge(judge)
    if not isinstance(photographs, Path):
        photographs.require(asked, size)

    done = _Progress(entries, progress)
    measured = [
        _measure_class(entry, asked, size=size, seed=(seed, number), warnings=warnings, done=done)
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
    metrics = _metrics(entrants, measured, judge=asked, settings=settings, warnings=warnings)

    from stochdeconv.evaluation.report.page import render_report

    done.say("writing the report")
    page = render_report(metrics, entrants, measured)
    # Figures last, and those of an earlier comparison first: where metrics.json is, its own report is too.
    (output / METRICS).unlink(missing_ok=True)
    write_atomically(output / REPORT, page.encode("utf-8"))
    write_atomically(output / METRICS, (json.dumps(metrics, indent=1, allow_nan=False) + "\n").encode())
    return metrics


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
    found = [name for name in (METRICS, REPORT) if (output / name).exists()]
    if found and not overwrite:
        raise ExistingOutputError(
            f"'{output}' already holds {' and '.join(found)}; choose another folder or pass --overwrite"
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
        told = ", ".join(f"{height}×{width} ('{name}')" for (height, width), name in sizes.items())
        warnings.append(f"The images differ in size: {told}. All were compared at {size[0]}×{size[1]}.")
    return size


class _Progress:
    """Pictures done of pictures to do, over the whole comparison."""

    def __init__(self, entries: Sequence[ClassEntry], report: Callable[[int, int, str], None] | None) -> None:
        self.total = sum(
            len(entry.real) + len(entry.train) + sum(len(entry.images(name)) for name in entry.runs)
            for entry in entries
        )
        self.done = 0
        self._report = report

    def say(self, message: str) -> None:
        if self._report is not None:
            self._report(self.done, self.total, message)

    def ticker(self, message: str) -> Callable[[int], None]:
        def tick(n_pictures: int) -> None:
            self.done += n_pictures
            self.say(message)

        return tick


def _measure_class(
    entry: ClassEntry,
    judge: Judge | FaceJudge,
    *,
    size: tuple[int, int],
    seed: tuple[int, int],
    warnings: list[str],
    done: _Progress,
) -> dict[str, Any]:
    """Measure one class: figures, pictures and curves of every contestant, the real photographs and their halves."""
    from stochdeconv.evaluation.figures import Reference, measure_figures
    from stochdeconv.evaluation.intervals import UNDEFINED
    from stochdeconv.evaluation.measure import measure, measure_features

    title = entry.class_key.title
    class_index = judge.class_index(wnid=entry.class_key.wnid, label=entry.class_key.label)
    if judge.n_classes and class_index is None and entry.class_key.key != "images":
        warnings.append(
            f"The judge does not know the class '{title}' ({entry.class_key.wnid or 'no wnid'}): no top-1, top-5 and objects."
        )
    photographs = entry.measured
    if photographs is None:
        photographs = measure(
            entry.real, judge, size=size, class_index=class_index, tick=done.ticker(f"{title}: photographs")
        )
    warnings.extend(_doubts(photographs, class_index, judge.n_classes, title))
    train, train_paths = None, entry.train
    if entry.train:
        train = measure_features(entry.train, judge, size=size, tick=done.ticker(f"{title}: training photographs"))
    reference = Reference.of(photographs, train=train, class_index=class_index, n_classes=judge.n_classes)
    if train is not None:
        reference, train_paths = _without_shared(reference, entry, warnings)

    rows: dict[str, dict[str, Any]] = {}
    for name in entry.runs:
        has_class = all(run.class_key is not None for run in entry.runs[name])
        index = class_index if has_class else None
        images = measure(entry.images(name), judge, size=size, class_index=index, tick=done.ticker(f"{title}: {name}"))
        own_reference = replace(reference, class_index=index)
        estimates = measure_figures(images, own_reference, seed=seed)
        rows[name] = _row(entry.images(name), images, estimates, own_reference, train_paths, judge)

    n_wanted = max(len(entry.images(name)) for name in entry.runs)
    if len(photographs) < n_wanted:
        warnings.append(
            f"'{title}' has {len(photographs)} real photographs for {n_wanted} images: the row of photographs is shorter."
        )
    order = np.random.default_rng(seed).permutation(len(photographs))
    chosen = np.sort(order[:n_wanted])
    estimates = measure_figures(photographs[chosen], reference, seed=seed, same=chosen)
    paths = tuple(entry.real[row] for row in chosen) if entry.real else None
    rows[REAL] = _row(paths, photographs[chosen], estimates, reference, train_paths, judge)

    n_half = len(photographs) // 2
    halves = dict.fromkeys(estimates, UNDEFINED)
    if n_half >= 2:
        one, other = np.sort(order[:n_half]), np.sort(order[n_half : 2 * n_half])
        halves = measure_figures(photographs[one], reference, seed=seed, against=other)
    rows[NOISE_FLOOR] = {"n": n_half, "estimates": halves, "pictures": [], "curves": {}}
    return {"entry": entry, "size": size, "rows": rows, "class_index": class_index, "n_train": len(train_paths)}


def _doubts(photographs: Measurements, class_index: int | None, n_classes: int, title: str) -> list[str]:
    """Say what speaks against the real photographs as a measure: too few, or not of the class."""
    from stochdeconv.evaluation.judge import MIN_CLASSES_FOR_TOP5, in_top

    doubts = []
    if photographs.features.shape[1] and len(photographs) < _ENOUGH_PHOTOGRAPHS:
        doubts.append(
            f"Only {len(photographs)} real photographs of '{title}': features are counted in their deviations, which so few do not "
            f"fix, and distances come out far too large; give {_ENOUGH_PHOTOGRAPHS} or more."
        )
    if class_index is not None:
        k = 5 if n_classes >= MIN_CLASSES_FOR_TOP5 else 1
        if not in_top(photographs.logits, class_index, k=k).any():
            doubts.append(f"The judge sees '{title}' in none of the real photographs: are they of another class?")
    return doubts


def _without_shared(reference: Reference, entry: ClassEntry, warnings: list[str]) -> tuple[Reference, tuple[Path, ...]]:
    """Leave training photographs that are among the real ones out: their distance of 0 would hide what is a copy."""
    from stochdeconv.evaluation.variety import nearest_photographs

    if np.isnan(reference.length_scale):
        return reference, entry.train
    real = reference.standardizer(reference.measurements.features)
    distances, _ = nearest_photographs(reference.train, real)
    kept = distances > _SAME_PHOTOGRAPH * reference.length_scale
    n_shared = int((~kept).sum())
    if n_shared:
        warnings.append(
            f"{n_shared} of {len(kept)} training photographs of '{entry.class_key.title}' are among the real ones and were left out; "
            "real photographs should be ones that the statistics have not seen."
        )
    paths = tuple(path for path, keep in zip(entry.train, kept, strict=True) if keep)
    return replace(reference, train=reference.train[kept]), paths


def _row(
    paths: Sequence[Path] | None,
    images: Measurements,
    estimates: dict[str, Estimate],
    reference: Reference,
    train_paths: Sequence[Path],
    judge: Judge | FaceJudge,
) -> dict[str, Any]:
    """Gather what metrics.json and the report need of one contestant in one class; without paths there are no pictures."""
    from stochdeconv.evaluation.variety import nearest_photographs

    described = judge.describe_pictures(images, reference.class_index)
    pictures = [
        {"file": None if path is None else str(path), **seen, "nearest_train": None}
        for path, seen in zip(paths or [None] * len(images), described, strict=True)
    ]
    if reference.train is not None and len(reference.train) and reference.train.shape[1]:
        distances, nearest = nearest_photographs(reference.standardizer(images.features), reference.train)
        for picture, distance, row in zip(pictures, distances, nearest, strict=True):
            picture["nearest_train"] = {"file": str(train_paths[row]), "distance": float(distance)}
    curves = {
        "spectrum": images.spectra.mean(axis=0),
        "gradient": images.gradients.mean(axis=0),
        "color": images.colors.mean(axis=0),
    }
    return {"n": len(images), "estimates": estimates, "pictures": pictures, "curves": curves}


def _metrics(
    entrants: Sequence[Contestant],
    measured: Sequence[dict[str, Any]],
    *,
    judge: Judge | FaceJudge,
    settings: dict[str, Any],
    warnings: list[str],
) -> dict[str, Any]:
    """Average over the classes and write everything as plain JSON values."""
    from stochdeconv.evaluation.intervals import average, interval
    from stochdeconv.evaluation.marks import judge_marks

    keys = tuple(measured[0]["rows"][REAL]["estimates"])

    def averaged(name: str) -> dict[str, Any]:
        rows = [one["rows"][name] for one in measured]
        figures = {
            key: interval(average([row["estimates"][key] for row in rows], seed=(settings["seed"], number)))
            for number, key in enumerate(keys)
        }
        return {"n": sum(row["n"] for row in rows), **figures}

    def of_class(row: dict[str, Any]) -> dict[str, Any]:
        return {
            "n": row["n"],
            **{key: interval(row["estimates"][key]) for key in keys},
            "images": row["pictures"],
        }

    names = [entrant.name for entrant in entrants]
    figures = {name: averaged(name) for name in [*names, REAL, NOISE_FLOOR]}
    baselines = [figures[entrant.name] for entrant in entrants if entrant.role == "baseline"]
    marks = {
        entrant.name: {
            key: {"met": mark.met, "wanted": mark.wanted}
            for key, mark in judge_marks(figures[entrant.name], real=figures[REAL], baselines=baselines).items()
        }
        for entrant in entrants
        if entrant.role != "baseline"
    }
    classes = {
        one["entry"].class_key.key: {
            "label": one["entry"].class_key.label,
            "wnid": one["entry"].class_key.wnid,
            "judge_class_index": one["class_index"],
            "n_real": one["entry"].n_real,
            "n_train": one["n_train"],
            "contestants": {name: of_class(one["rows"][name]) for name in names},
            REAL: of_class(one["rows"][REAL]),
            NOISE_FLOOR: of_class(one["rows"][NOISE_FLOOR]),
        }
        for one in measured
    }
    return {
        "contestants": {name: figures[name] for name in names},
        REAL: figures[REAL],
        NOISE_FLOOR: figures[NOISE_FLOOR],
        "judge": judge.describe(),
        "settings": settings,
        "marks": marks,
        "warnings": warnings,
        "classes": classes,
    }
