"""The content of metrics.json: figures averaged over the classes and of each class, marks, and what they were measured with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stochdeconv.evaluation import NOISE_FLOOR, REAL
from stochdeconv.evaluation.class_comparison import MeasuredClass, Row
from stochdeconv.evaluation.contestants import Contestant
from stochdeconv.evaluation.intervals import average, interval
from stochdeconv.evaluation.judge import FaceJudge, Judge
from stochdeconv.evaluation.marks import judge_marks


def summarise(
    entrants: Sequence[Contestant],
    measured: Sequence[MeasuredClass],
    *,
    judge: Judge | FaceJudge,
    settings: dict[str, Any],
    warnings: list[str],
) -> dict[str, Any]:
    """Average over the classes and write everything as plain JSON values.

    Parameters
    ----------
    entrants : sequence of Contestant
    measured : sequence of MeasuredClass
    judge : Judge or FaceJudge
    settings : dict
        Of the comparison, with its ``"seed"``.
    warnings : list of str
        What a reader should know.

    Returns
    -------
    dict
    """
    names = [entrant.name for entrant in entrants]
    figures = {
        name: _averaged([of.rows[name] for of in measured], settings["seed"]) for name in [*names, REAL, NOISE_FLOOR]
    }
    baselines = [figures[entrant.name] for entrant in entrants if entrant.role == "baseline"]
    marks = {
        entrant.name: {
            key: {"met": mark.met, "wanted": mark.target}
            for key, mark in judge_marks(figures[entrant.name], real=figures[REAL], baselines=baselines).items()
        }
        for entrant in entrants
        if entrant.role != "baseline"
    }
    return {
        "contestants": {name: figures[name] for name in names},
        REAL: figures[REAL],
        NOISE_FLOOR: figures[NOISE_FLOOR],
        "judge": judge.describe(),
        "settings": settings,
        "marks": marks,
        "warnings": warnings,
        "classes": {of.entry.class_key.key: _of_class(of, names) for of in measured},
    }


def _averaged(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    figures = {
        key: interval(average([row.estimates[key] for row in rows], seed=(seed, number)))
        for number, key in enumerate(rows[0].estimates)
    }
    return {"n": sum(row.n for row in rows), **figures}


def _of_class(measured: MeasuredClass, names: Sequence[str]) -> dict[str, Any]:
    rows = {
        name: {"n": row.n, **{key: interval(of) for key, of in row.estimates.items()}, "images": row.pictures}
        for name, row in measured.rows.items()
    }
    return {
        "label": measured.entry.class_key.label,
        "wnid": measured.entry.class_key.wnid,
        "judge_class_index": measured.class_index,
        "n_real": measured.entry.n_real,
        "n_train": measured.n_train,
        "contestants": {name: rows[name] for name in names},
        REAL: rows[REAL],
        NOISE_FLOOR: rows[NOISE_FLOOR],
    }
