"""Files of version 1: what they hold that was read by nobody, and how they tell damage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from stochdeconv.statistics.class_statistics import ClassStatistics
from stochdeconv.statistics.statistic import Array

#: Fields that version 2 leaves out; they are read to be hashed.
LAYER_FIELDS = {"channel_mean": Array("<f4"), "histogram": Array("<u4", "<i8")}
CLASS_FIELDS = {"log_gradient_histogram": Array("<i8"), "amplitude_variance": Array("<f4")}
# What was hashed, in this order.
_OF_CLASS = (
    "model_name", "weights_hash", "preprocessing", "input_size", "class_name", "wnid", "class_index", "n_images", "image_names", "logits",
    "log_gradient_mean", "log_gradient_std", "log_gradient_histogram", "amplitude_mean", "amplitude_variance",
)  # fmt: skip
_OF_LAYER = (
    "name", "shape", "layout_shape", "n_images", "channel_mean", "within_covariance", "firing_fraction", "histogram", "layout_mean",
    "components", "explained_variance", "total_variance", "means", "log_stds", "scores", "facet_means",
)  # fmt: skip
_OF_REGIONS = ("layer", "offset", "projection", "centroids", "temperature")


def without_unread(statistics: ClassStatistics) -> ClassStatistics:
    """Leave out what version 2 leaves out."""
    layers = {name: replace(layer, fields=_without(layer.fields, LAYER_FIELDS)) for name, layer in statistics.items()}
    return replace(statistics, layers=layers, fields=_without(statistics.fields, CLASS_FIELDS))


def _without(fields: Mapping[str, Any], unread: Mapping[str, Array]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in unread}


def hash_of(statistics: ClassStatistics) -> str:
    """Hash statistics with all fields of version 1 as it did, sha256 in hexadecimal digits."""
    parts: list[tuple[str, Any, tuple[str, ...]]] = [("ClassStatistics", statistics, _OF_CLASS)]
    parts += [("LayerStatistics", layer, _OF_LAYER) for layer in statistics.layers.values()]
    if statistics.facets is not None:
        parts.append(("Facets", statistics.facets, _OF_REGIONS))
    digest = hashlib.sha256()
    for kind, part, names in parts:
        for name in names:
            value = getattr(part, name)
            digest.update(f"{kind}.{getattr(part, 'name', '')}.{name}".encode())
            if isinstance(value, np.ndarray):
                digest.update(f"{value.shape}{value.dtype}".encode())
                digest.update(np.ascontiguousarray(value).tobytes())
            else:
                digest.update(json.dumps(value, sort_keys=True).encode())
    return digest.hexdigest()
