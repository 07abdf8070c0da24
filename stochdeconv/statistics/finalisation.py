"""From a complete spool to statistics, read out of core."""

from __future__ import annotations

import importlib
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from threadpoolctl import threadpool_limits

from stochdeconv.statistics.class_statistics import ClassStatistics, LayerStatistics
from stochdeconv.statistics.drawing import drawn_by_key
from stochdeconv.statistics.measured import LOGIT, LayerMeasurements, Measurements
from stochdeconv.statistics.measurement import Progress
from stochdeconv.statistics.registry import LAYER_STATISTICS, PHOTOGRAPH_STATISTICS
from stochdeconv.statistics.spool import Spool
from stochdeconv.threads import n_processors, one_blas_thread

# Rows beyond this many add little a sampler could use, but 30 kB each (VGG16) to the file and 35 kB to memory.
MAX_ROWS = 2048
# Slow to import, so only where statistics are made; but before their threads are limited, which holds for what is loaded by then.
_WITH_THREADS = ("scipy.linalg", "sklearn.cluster")
# Layers finalised side by side; each holds up to some 300 MB.
_LAYERS_AT_ONCE = 2
_MANY_IMAGES = 1024


def finalise(spool: Spool, progress: Progress | None = None) -> ClassStatistics:
    """Turn a complete spool into statistics, reading it out of core in the order of the images."""
    for library in _WITH_THREADS:
        importlib.import_module(library)
    manifest, keys = spool.manifest, spool.keys
    rows = drawn_by_key(keys, MAX_ROWS)
    measured = Measurements(spool, rows)
    of_layers = _summarised_layers(measured, progress)
    of_class: dict[str, Any] = {}
    with one_blas_thread(), threadpool_limits(1, user_api="openmp"):  # of which k-means has threads of its own
        for statistic in LAYER_STATISTICS:
            _tell(progress, spool, statistic.name)
            fields, more = statistic.summarise_together(measured)
            of_class |= fields
            for name, of_layer in more.items():
                of_layers[name] |= of_layer
        for of_photographs in PHOTOGRAPH_STATISTICS:
            of_class |= of_photographs.summarise(measured)
    for remark in measured.remarks:
        warnings.warn(remark, stacklevel=3)
    class_ = manifest["class"] or {"label": None, "wnid": None, "index": None}
    layers = [part.layer for part in measured.layers]
    return ClassStatistics(
        layers={
            layer.name: LayerStatistics(
                layer.name, layer.shape, layer.layout_shape, measured.n_images, fields=of_layers[layer.name]
            )
            for layer in layers
        },
        model_name=manifest["model_name"],
        model_source=manifest["model_source"],
        weights_hash=manifest["weights_hash"],
        preprocessing=manifest["preprocessing"],
        input_size=tuple(manifest["input_size"]),
        class_name=class_["label"],
        wnid=class_["wnid"],
        class_index=class_["index"],
        n_images=measured.n_images,
        image_names=tuple(keys[row] for row in rows),
        logits=measured.column(LOGIT)[:, 0].copy() if manifest["class"] else None,
        fields=of_class,
        skipped=tuple(spool.skipped_keys),
        settings=manifest["settings"],
        versions=manifest["versions"],
    )


def _summarised_layers(measured: Measurements, progress: Progress | None) -> dict[str, dict[str, Any]]:
    """Summarise each layer on one thread, several layers at a time: the bytes do not depend on the number of processors."""
    # One after the other where there are many images, so that they do not cost more memory than few.
    at_once = _LAYERS_AT_ONCE if measured.n_images <= _MANY_IMAGES else 1
    n_threads = min(at_once, n_processors())
    with one_blas_thread(), ThreadPoolExecutor(n_threads) as pool:
        pending = [(part.layer.name, pool.submit(_summarised, part)) for part in measured.layers]
        fields = {}
        for name, future in pending:
            _tell(progress, measured.spool, f"components of {name}")
            fields[name] = future.result()
    return fields


def _summarised(measured: LayerMeasurements) -> dict[str, Any]:
    return {name: value for statistic in LAYER_STATISTICS for name, value in statistic.summarise(measured).items()}


def _tell(progress: Progress | None, spool: Spool, message: str) -> None:
    if progress is not None:
        progress(spool.n_done, spool.n_done, message)
