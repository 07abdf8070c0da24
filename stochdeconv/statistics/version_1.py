"""Version 1 of the file: how it tells damage."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

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


def hash_of(statistics: Any) -> str:
    """Hash statistics as version 1 did, sha256 in hexadecimal digits."""
    parts = [("ClassStatistics", statistics, _OF_CLASS)]
    parts += [("LayerStatistics", layer, _OF_LAYER) for layer in statistics.values()]
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
