"""One class of a comparison: what is measured of every contestant's images, of the real photographs and of their halves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stochdeconv.evaluation import NOISE_FLOOR, REAL
from stochdeconv.evaluation.contestants import ClassEntry
from stochdeconv.evaluation.figures import Reference, measure_figures
from stochdeconv.evaluation.intervals import UNDEFINED, Estimate
from stochdeconv.evaluation.judge import MIN_CLASSES_FOR_TOP5, FaceJudge, Judge, in_top
from stochdeconv.evaluation.measure import measure, measure_features
from stochdeconv.evaluation.measurements import Measurements
from stochdeconv.evaluation.variety import nearest_photographs

# Real photographs of a class below which the figures deserve a warning.
_ENOUGH_PHOTOGRAPHS = 100
# Relative feature distance at which two files are one photograph: far above rounding, far below any two photographs.
_SAME_PHOTOGRAPH = 1e-3


@dataclass(frozen=True, eq=False)
class Row:
    """What metrics.json and the report need of one set of images of a class.

    Attributes
    ----------
    n : int
        Number of images.
    estimates : dict of str to Estimate
        By figure.
    pictures : list of dict
        Of each image its file, what the judge says of it and the nearest training photograph; empty where there are no files.
    curves : dict of str to ndarray
        Means over the images: ``"spectrum"``, ``"gradient"``, ``"color"``; empty for the noise floor.
    """

    n: int
    estimates: dict[str, Estimate]
    pictures: list[dict[str, Any]]
    curves: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class MeasuredClass:
    """What was measured of one class.

    Attributes
    ----------
    entry : ClassEntry
    size : tuple of int
        (height, width) that all was compared at.
    rows : dict of str to Row
        By contestant, and those of the real photographs and of their halves.
    class_index : int or None
        The class in the judge's own numbering.
    n_train : int
        Training photographs that images were held against.
    """

    entry: ClassEntry
    size: tuple[int, int]
    rows: dict[str, Row]
    class_index: int | None
    n_train: int


class Progress:
    """Pictures measured of pictures to measure, over the whole comparison.

    Parameters
    ----------
    entries : sequence of ClassEntry
        All that is to be measured.
    report : callable or None
        Called with (pictures measured, pictures in all, what is measured).
    """

    def __init__(self, entries: Sequence[ClassEntry], report: Callable[[int, int, str], None] | None) -> None:
        self.n_pictures = sum(
            len(entry.real) + len(entry.train) + sum(len(entry.images(name)) for name in entry.runs)
            for entry in entries
        )
        self.n_measured = 0
        self._report = report

    def say(self, message: str) -> None:
        """Report what is going on."""
        if self._report is not None:
            self._report(self.n_measured, self.n_pictures, message)

    def ticker(self, message: str) -> Callable[[int], None]:
        """Make a function that counts so many more pictures."""

        def tick(n_pictures: int) -> None:
            self.n_measured += n_pictures
            self.say(message)

        return tick


def measure_class(
    entry: ClassEntry,
    judge: Judge | FaceJudge,
    *,
    size: tuple[int, int],
    seed: tuple[int, int],
    warnings: list[str],
    progress: Progress,
) -> MeasuredClass:
    """Measure one class: figures, pictures and curves of every contestant, the real photographs and their halves.

    Parameters
    ----------
    entry : ClassEntry
    judge : Judge or FaceJudge
    size : tuple of int
        (height, width) to compare at.
    seed : tuple of int
        Of the resampling and of the choice of photographs.
    warnings : list of str
        Receives what a reader should know.
    progress : Progress

    Returns
    -------
    MeasuredClass
    """
    title = entry.class_key.title
    class_index = judge.class_index(wnid=entry.class_key.wnid, label=entry.class_key.label)
    if judge.n_classes and class_index is None and entry.class_key.key != "images":
        warnings.append(
            f"The judge does not know the class '{title}' ({entry.class_key.wnid or 'no wnid'}): no top-1, top-5 and objects."
        )
    photographs = entry.measured
    if photographs is None:
        tick = progress.ticker(f"{title}: photographs")
        photographs = measure(entry.real, judge, size=size, class_index=class_index, tick=tick)
    warnings.extend(_doubts(photographs, class_index, judge.n_classes, title))
    train = None
    if entry.train and isinstance(judge, Judge):
        train = measure_features(entry.train, judge, size=size, tick=progress.ticker(f"{title}: training photographs"))
    reference = Reference.of(photographs, train=train, class_index=class_index, n_classes=judge.n_classes)
    reference, train_paths = _without_shared(reference, entry, warnings)

    rows: dict[str, Row] = {}
    for name, runs in entry.runs.items():
        has_class = all(run.class_key is not None for run in runs)
        own_reference = reference if has_class else replace(reference, class_index=None)
        tick = progress.ticker(f"{title}: {name}")
        images = measure(entry.images(name), judge, size=size, class_index=own_reference.class_index, tick=tick)
        estimates = measure_figures(images, own_reference, seed=seed, owed=entry.owed(name))
        rows[name] = _row(entry.images(name), images, estimates, own_reference, train_paths, judge)

    n_most = max(len(entry.images(name)) for name in entry.runs)
    if len(photographs) < n_most:
        warnings.append(
            f"'{title}' has {len(photographs)} real photographs for {n_most} images: the row of photographs is shorter."
        )
    order = np.random.default_rng(seed).permutation(len(photographs))
    chosen = np.sort(order[:n_most])
    estimates = measure_figures(photographs[chosen], reference, seed=seed, same=chosen)
    paths = tuple(entry.real[row] for row in chosen) if entry.real else None
    rows[REAL] = _row(paths, photographs[chosen], estimates, reference, train_paths, judge)
    rows[NOISE_FLOOR] = _row_of_halves(photographs, order, reference, seed, tuple(estimates))
    return MeasuredClass(entry, size, rows, class_index, len(train_paths))


def _doubts(photographs: Measurements, class_index: int | None, n_classes: int, title: str) -> list[str]:
    """Say what speaks against the real photographs as a measure: too few, or not of the class."""
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
    if reference.train is None or np.isnan(reference.length_scale):
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
) -> Row:
    """Gather what is shown of one set of images; without paths there are no pictures."""
    files: Sequence[Path | None] = [None] * len(images) if paths is None else paths
    described = judge.describe_pictures(images, reference.class_index)
    pictures = [
        {"file": None if path is None else str(path), **seen, "nearest_train": None}
        for path, seen in zip(files, described, strict=True)
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
    return Row(len(images), estimates, pictures, curves)


def _row_of_halves(
    photographs: Measurements, order: np.ndarray, reference: Reference, seed: tuple[int, int], keys: Sequence[str]
) -> Row:
    """Hold half of the real photographs against the other half: no images can be nearer."""
    n_half = len(photographs) // 2
    if n_half < 2:
        return Row(n_half, dict.fromkeys(keys, UNDEFINED), [], {})
    half, other_half = np.sort(order[:n_half]), np.sort(order[n_half : 2 * n_half])
    return Row(n_half, measure_figures(photographs[half], reference, seed=seed, against=other_half), [], {})
