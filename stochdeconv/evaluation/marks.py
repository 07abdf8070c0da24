"""The marks: what a figure should reach to count as close to photographs and ahead of the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stochdeconv.sampling.collages import MOST_OF_ONE_PHOTOGRAPH, MOST_OF_ONE_PIECE

# Part of the best baseline's KID.
_KID = 0.04

Figures = Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class Mark:
    """Whether a figure reaches its mark (None: cannot be told), and the mark in words with its numbers."""

    met: bool | None
    target: str


def judge_marks(figures: Figures, *, real: Figures, baselines: Sequence[Figures]) -> dict[str, Mark]:
    """Hold a contestant's figures against the marks.

    Parameters
    ----------
    figures : mapping of figure key to ``{"value", "low", "high"}``
        Of the contestant; the values are judged, the intervals are for the reader.
    real : the same
        Of as many real photographs.
    baselines : sequence of the same
        Of the activation-maximization contestants; may be empty, then the marks that need them are open.

    Returns
    -------
    dict of str to Mark
        For every figure that is there and has a mark. Coverage of 0 is a miss whatever photographs reach.
    """
    marks = {}
    for key in ("judge_top1", "judge_top5"):
        marks[key] = _at_least(figures, real, key, 0.8)
    marks["kid"] = _kid(figures, baselines)
    coverage = _at_least(figures, real, "coverage", 0.3)
    if _value(figures, "coverage") == 0:
        coverage = Mark(False, coverage.target)
    marks["coverage"] = coverage
    for key in ("pairwise_distance", "vendi"):
        marks[key] = _between(figures, real, key, 0.8, 1.1)
    marks["nearest_train_distance"] = _at_least(figures, real, "nearest_train_distance", 0.9)
    marks["cam_peaks"] = _between(figures, real, "cam_peaks", 0.7, 1.3)
    for key in ("spectrum_slope", "gradient_kurtosis", "color_distance"):
        marks[key] = _nearer_than_baselines(figures, real, baselines, key)
    for key, most in (("largest_share", MOST_OF_ONE_PHOTOGRAPH), ("largest_piece", MOST_OF_ONE_PIECE)):
        share = _value(figures, key)
        if share is not None:
            marks[key] = Mark(share <= most, f"≤ {most:g} of the image")
    return {key: mark for key, mark in marks.items() if key in figures}


def _value(figures: Figures, key: str) -> float | None:
    return figures[key]["value"] if key in figures else None


def _at_least(figures: Figures, real: Figures, key: str, factor: float) -> Mark:
    value, of_real = _value(figures, key), _value(real, key)
    if of_real is None:
        return Mark(None, f"≥ {factor:g} × real")
    target = f"≥ {factor:g} × real = {factor * of_real:.3g}"
    return Mark(None if value is None else value >= factor * of_real, target)


def _between(figures: Figures, real: Figures, key: str, lowest: float, highest: float) -> Mark:
    value, of_real = _value(figures, key), _value(real, key)
    if of_real is None:
        return Mark(None, f"{lowest:g} to {highest:g} × real")
    low, high = lowest * of_real, highest * of_real
    return Mark(
        None if value is None else low <= value <= high, f"{lowest:g} to {highest:g} × real = {low:.3g} to {high:.3g}"
    )


def _kid(figures: Figures, baselines: Sequence[Figures]) -> Mark:
    value = _value(figures, "kid")
    values = [of_baseline for baseline in baselines if (of_baseline := _value(baseline, "kid")) is not None]
    if not values:
        return Mark(None, f"≤ {_KID:g} × the best baseline's")
    # Of nothing, a part is nothing to gain: a baseline as near as photographs need only be reached.
    bound = _KID * min(values) if min(values) > 0 else min(values)
    return Mark(None if value is None else value <= bound, f"≤ {_KID:g} × the best baseline's = {bound:.3g}")


def _nearer_than_baselines(figures: Figures, real: Figures, baselines: Sequence[Figures], key: str) -> Mark:
    target = "nearer to real than the best baseline"
    value, of_real = _value(figures, key), _value(real, key)
    values = [of_baseline for baseline in baselines if (of_baseline := _value(baseline, key)) is not None]
    if not values or of_real is None:
        return Mark(None, target)
    best = min(values, key=lambda other: abs(other - of_real))
    target = f"{target}: real {of_real:.3g}, baseline {best:.3g}"
    return Mark(None if value is None else abs(value - of_real) <= abs(best - of_real), target)
