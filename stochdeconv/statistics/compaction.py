"""Statistics that make a smaller file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from stochdeconv.statistics.class_statistics import ClassStatistics
from stochdeconv.statistics.drawing import drawn_by_key
from stochdeconv.statistics.registry import CLASS_FIELDS, LAYER_FIELDS
from stochdeconv.statistics.rounding import rounded
from stochdeconv.statistics.statistic import Array, Field, Record


def compact(statistics: ClassStatistics, n_rows: int) -> ClassStatistics:
    """Keep fewer rows (drawn by their names), and what compresses to half its size.

    Numbers of rows, covariances and spectra are rounded to 11 significant bits, those of float16. Exemplars are left out.

    Parameters
    ----------
    statistics : ClassStatistics
    n_rows : int
        Rows to keep; all where there are no more.

    Returns
    -------
    ClassStatistics
        Its `settings` tell, by ``n_rows``.
    """
    chosen = drawn_by_key(statistics.image_names, n_rows)
    layers = {
        name: replace(layer, fields=_compacted(layer.fields, LAYER_FIELDS, chosen))
        for name, layer in statistics.items()
    }
    return replace(
        statistics,
        layers=layers,
        image_names=tuple(statistics.image_names[row] for row in chosen),
        logits=None if statistics.logits is None else statistics.logits[chosen],
        fields=_compacted(statistics.fields, CLASS_FIELDS, chosen),
        settings={**statistics.settings, "n_rows": len(chosen), "exemplars": 0},
    )


def _compacted(fields: Mapping[str, Any], kinds: Mapping[str, Field], rows: np.ndarray) -> dict[str, Any]:
    smaller = dict(fields)
    for name, kind in kinds.items():
        if isinstance(kind, Record) and kind.is_dropped_when_compacted:
            smaller[name] = None
        elif isinstance(kind, Array) and smaller[name] is not None:
            if kind.per_row:
                smaller[name] = smaller[name][rows]
            if kind.is_rounded_when_compacted:
                smaller[name] = rounded(smaller[name])
    return smaller
