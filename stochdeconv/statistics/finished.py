"""Is a file what a collection would leave? Going on with what was interrupted takes finished files as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stochdeconv.errors import InputError
from stochdeconv.parsing import read_list
from stochdeconv.statistics.collection import CollectSettings, class_of, list_images
from stochdeconv.statistics.file import load_statistics
from stochdeconv.statistics.measurement import measured_layers
from stochdeconv.statistics.shards import ShardFile
from stochdeconv.statistics.spool import differing

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel

_COMPARED = ("n_components", "layout_size", "batch_size", "n_contexts", "exemplars")


def check_finished(path: Path, model: ImageModel, images: Path, settings: CollectSettings) -> None:
    """Refuse to take a file for what `collect` would leave of these images with these settings, where it is something else.

    Parameters
    ----------
    path : Path
        A file of statistics, or of a shard.
    model : ImageModel
    images : Path
    settings : CollectSettings

    Raises
    ------
    InputError
        It was collected with something else.
    FileFormatError
        The file is damaged.
    """
    is_shard = settings.shard is not None
    there = _of_shard(path) if is_shard else _of_statistics(path)
    number, n_shards = settings.part()
    _, listed = list_images(images)
    layers = None if settings.layers is None else read_list(settings.layers, "layer", model.find_layer)
    expected = {
        "weights_hash": model.weights_hash,
        "preprocessing": dict(model.preprocessing),
        "class": class_of(model, images, settings.class_name),
        "layers": [
            [layer.name]
            for layer in measured_layers(
                model, layers, layout_size=settings.layout_size, n_contexts=settings.n_contexts
            )
        ],
        # Only a file that was made smaller afterwards has n_rows.
        "settings": {**{name: getattr(settings, name) for name in _COMPARED}, "n_rows": None},
        "shard": [number, n_shards],
        "images": listed[number - 1 :: n_shards] if is_shard else sorted([key, None] for key, _ in listed),
    }
    difference = differing(json.loads(json.dumps(expected)), there)  # as JSON gives it back: lists, no tuples
    if difference:
        raise InputError(
            f"'{path}' is complete, but was collected with something else: {difference}; overwrite=True replaces it"
        )


def _of_statistics(path: Path) -> dict[str, Any]:
    statistics = load_statistics(path)
    return {
        "weights_hash": statistics.weights_hash,
        "preprocessing": dict(statistics.preprocessing),
        "class": None if statistics.class_index is None else statistics.of_class,
        "layers": [[name] for name in statistics],
        "settings": _compared(statistics.settings),
        "shard": [1, 1],
        # Statistics do not know how large the files were.
        "images": sorted([name, None] for name in (*statistics.image_names, *dict(statistics.skipped))),
    }


def _of_shard(path: Path) -> dict[str, Any]:
    with ShardFile(path) as shard:
        manifest = dict(shard.manifest)
    return {
        **{name: manifest[name] for name in ("weights_hash", "preprocessing", "class", "shard", "images")},
        "layers": [layer[:1] for layer in manifest["layers"]],
        "settings": _compared(manifest["settings"]),
    }


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    # Earlier programs knew neither contexts nor exemplars.
    return {"n_contexts": 0, "exemplars": 0, "n_rows": None} | {
        name: settings[name] for name in (*_COMPARED, "n_rows") if name in settings
    }
