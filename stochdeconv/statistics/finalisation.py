"""From a complete spool to statistics: components, facets and averages, read out of core."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from stochdeconv.statistics.class_statistics import INPUT, ClassStatistics, Facets, LayerStatistics
from stochdeconv.statistics.measurement import MeasuredLayer, Progress, layers_of
from stochdeconv.statistics.regions import facet_means, fit_facets
from stochdeconv.statistics.spool import Spool
from stochdeconv.statistics.summary import MapReader, PrincipalComponents, drawn_by_key, principal_components

# Kinds of places are told apart by a layer with at most this many pixels of the image to one of its positions.
_COARSEST_FACETS = 8.5
# Components of the image's own layout, where `n_components` is less: it has few dimensions, and smooth grounds show every one left out.
_IMAGE_COMPONENTS = 192
# Rows beyond this many add little a sampler could use, but 30 kB each (VGG16) to the file and 35 kB to memory.
MAX_ROWS = 2048
# Layers finalised side by side; each holds up to some 300 MB.
_LAYERS_AT_ONCE = 2


def finalise(spool: Spool, progress: Progress | None = None) -> ClassStatistics:
    """Turn a complete spool into statistics, reading it out of core in the order of the images."""
    manifest, n_images = spool.manifest, len(spool.kept)
    layers = layers_of(manifest)
    n_wanted = manifest["settings"]["n_components"]
    if n_images <= n_wanted:
        warnings.warn(
            f"{n_images} image{'s' * (n_images > 1)} cannot give {n_wanted} layout components: {n_images - 1} kept",
            stacklevel=3,
        )
    rows = drawn_by_key(spool.keys, MAX_ROWS)
    # Each layer on one thread, several layers at a time: the bytes do not depend on the number of processors.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(_LAYERS_AT_ONCE, os.cpu_count() or 1)) as pool:
        pending = [pool.submit(_layer_statistics, spool, layer, rows, n_wanted) for layer in layers]
        found = {}
        for layer, future in zip(layers, pending, strict=True):
            if progress is not None:
                progress(spool.n_done, spool.n_done, f"components of {layer.name}")
            found[layer.name], layout = future.result()
            if not layout.converged:
                warnings.warn(
                    f"the layout components of '{layer.name}' still moved after {layout.n_passes} passes; the last are rough",
                    stacklevel=3,
                )
    if progress is not None:
        progress(spool.n_done, spool.n_done, "facets")
    facets, means = _facets(spool, layers, rows)
    found = {name: dataclasses.replace(layer, facet_means=means.get(name)) for name, layer in found.items()}
    amplitude = spool.sums["amplitude"].value / n_images
    squared = spool.sums["amplitude_squared"].value / n_images
    variance = np.maximum(squared - amplitude**2, 0.0) * (n_images / max(n_images - 1, 1))
    image = spool.read("image", rows)
    class_ = manifest["class"] or {"label": None, "wnid": None, "index": None}
    keys = spool.keys
    return ClassStatistics(
        layers=found,
        model_name=manifest["model_name"],
        model_source=manifest["model_source"],
        weights_hash=manifest["weights_hash"],
        preprocessing=manifest["preprocessing"],
        input_size=tuple(manifest["input_size"]),
        class_name=class_["label"],
        wnid=class_["wnid"],
        class_index=class_["index"],
        n_images=n_images,
        image_names=tuple(keys[row] for row in rows),
        logits=np.ascontiguousarray(image[:, 0]) if manifest["class"] else None,
        log_gradient_mean=np.ascontiguousarray(image[:, 1]),
        log_gradient_std=np.ascontiguousarray(image[:, 2]),
        log_gradient_histogram=spool.counts["log_gradient"].copy(),
        amplitude_mean=amplitude.astype(np.float32),
        amplitude_variance=variance.astype(np.float32),
        skipped=tuple(spool.skipped_keys),
        settings=manifest["settings"],
        versions=manifest["versions"],
        facets=facets,
    )


def _facets(
    spool: Spool, layers: Sequence[MeasuredLayer], rows: np.ndarray
) -> tuple[Facets | None, dict[str, np.ndarray]]:
    """Tell the kinds of places apart by the deepest layer that is fine enough, and average the layers below it over them."""
    grid, height = layers[0].layout_shape[:2], layers[0].shape[0]
    fine = [
        number
        for number, layer in enumerate(layers)
        if number and layer.layout_shape[:2] == grid and layer.shape[0] * _COARSEST_FACETS >= height
    ]
    if not fine or grid == (1, 1):
        return None, {}
    key = layers[fine[-1]]
    below = [layer for layer in layers[: fine[-1]] if layer.layout_shape[:2] == grid]
    with threadpool_limits(1):  # the bytes do not depend on the number of processors
        facets = fit_facets(key.name, _layout(spool, key), key.shape[2])
        if facets is None:
            return None, {}
        return facets, {
            layer.name: facet_means(facets, _layout(spool, key), _layout(spool, layer), layer.shape[2], rows)
            for layer in below
        }


def _layout(spool: Spool, layer: MeasuredLayer) -> MapReader:
    return spool.maps(layer.column("layout"), layer.column("exponent"))


def _layer_statistics(
    spool: Spool, layer: MeasuredLayer, rows: np.ndarray, n_components: int
) -> tuple[LayerStatistics, PrincipalComponents]:
    n_images = len(spool.kept)
    if layer.name == INPUT:
        n_components = max(n_components, _IMAGE_COMPONENTS)
    layout = principal_components(_layout(spool, layer), n_components)
    within = spool.sums[layer.column("within")].value / n_images
    found = LayerStatistics(
        name=layer.name,
        shape=layer.shape,
        layout_shape=layer.layout_shape,
        n_images=n_images,
        channel_mean=(spool.sums[layer.column("mean")].value / n_images).astype(np.float32),
        within_covariance=((within + within.T) / 2).astype(np.float32),
        firing_fraction=(spool.counts[layer.column("firing")] / (n_images * layer.shape[0] * layer.shape[1])).astype(
            np.float32
        ),
        histogram=spool.counts[layer.column("histogram")].copy(),
        layout_mean=layout.mean.reshape(layer.layout_shape),
        components=layout.components,
        explained_variance=layout.explained_variance,
        total_variance=layout.total_variance,
        means=spool.read(layer.column("mean"), rows),
        log_stds=spool.read(layer.column("log_std"), rows),
        scores=layout.scores[rows],
    )
    return found, layout
