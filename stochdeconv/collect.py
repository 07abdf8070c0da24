"""Class images -> ClassStatistics: one streaming pass that can be interrupted, resumed and split over machines."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.distributions import (
    HISTOGRAM_EDGES,
    LOG_GRADIENT_EDGES,
    LOG_STD_EPSILON,
    amplitude_spectrum,
    count_histogram,
    count_log_gradients,
    key_number,
    log_gradient_magnitude,
    principal_components,
    seeded_positions,
)
from stochdeconv.errors import ClassNotFoundError, InputError, ModelError, StochDeconvError
from stochdeconv.images import find_images, image_keys, load_image
from stochdeconv.spool import FORMAT, FORMAT_VERSION, Spool, float16_with_exponent
from stochdeconv.statistics import INPUT, ClassStatistics, LayerStatistics

if TYPE_CHECKING:
    from stochdeconv.models import ImageModel

Source = str | os.PathLike | Iterable[str | os.PathLike]
Progress = Callable[[int, int, str], None]

# Rows beyond this many add nothing a sampler could use, but 14 kB each (VGG16) to the file and to memory.
MAX_ROWS = 4096
# What a killed run loses at most.
_COMMIT_SECONDS = 5.0


def collect(
    model: ImageModel,
    images: Source,
    *,
    layers: Sequence[str] | None = None,
    n_components: int = 64,
    layout_size: int = 14,
    class_name: str | None = None,
    batch_size: int = 32,
    spool: str | os.PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    shard: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> ClassStatistics | Spool:
    """Measure what the images of a class have in common, and how they vary, in the eyes of a network.

    The images are read once. What was measured goes to the `spool` folder, in rows; memory does not grow with the number of
    images. The same images, network and settings give the same bytes, interrupted or not, in one pass or in shards.

    Parameters
    ----------
    model : ImageModel
        The network; run in float32.
    images : path-like or iterable of path-like
        A folder, a text file of paths, or the paths (see ``images.find_images``).
    layers : sequence of str, optional
        Layers to measure; the network's default layers otherwise. The image itself, ``"input"``, always comes first.
    n_components : int
        Layout components kept per layer.
    layout_size : int
        Maps are averaged into at most this many rows and columns for the layout.
    class_name : str, optional
        Name, wnid or index of the class; by default the folder's name, where the network knows it.
    batch_size : int
        Images the network sees at once; the last batch is filled up, so that every image is computed alike.
    spool : path-like, optional
        Working folder; it stays, so that the statistics can be saved before ``spool.remove_spool`` removes it. By default a
        temporary one, which an interrupted run loses.
    resume, overwrite : bool
        What to do with measurements already in `spool`: go on with them, or begin anew.
    shard : (i, n), optional
        Measure images i, i + n, i + 2 n, … only (1 <= i <= n).
    progress : callable, optional
        ``progress(done, total, message)`` after every batch and before every layer's components.

    Returns
    -------
    ClassStatistics, or Spool with `shard`
        The spool of a shard is written by ``save_statistics`` like statistics, and read by `merge`.

    Raises
    ------
    MissingInputError, InputError
        No folder, no image, none readable; the spool belongs to something else; the disk is full.
    ExistingOutputError
        The spool holds measurements, and neither `resume` nor `overwrite` is given.
    LayerNotFoundError, ClassNotFoundError
        The network has no such layer or class.
    ModelError
        An activation is NaN or infinite.
    """
    _check_settings(n_components, layout_size, batch_size, shard)
    # Read once: an iterator of paths would be empty the second time.
    images = images if isinstance(images, str | os.PathLike) else list(images)
    paths = find_images(images)
    keys = image_keys(images, paths)
    listed = [[key, _file_size(path)] for key, path in zip(keys, paths, strict=True)]
    number, n_shards = shard or (1, 1)
    own = slice(number - 1, None, n_shards)
    if not paths[own]:
        raise InputError(f"shard {number}/{n_shards} of {len(paths)} images is empty; at most {len(paths)} shards")
    measured = _measured_layers(model, layers, layout_size)
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model_name": model.name,
        "model_source": model.source,
        "weights_hash": model.weights_hash,
        "preprocessing": dict(model.preprocessing),
        "input_size": list(model.input_size),
        "class": _class(model, images, class_name),
        "layers": [[layer.name, list(layer.shape), list(layer.layout_shape)] for layer in measured],
        "settings": {
            "layers": list(layers) if layers is not None else None,
            "n_components": n_components,
            "layout_size": layout_size,
            "batch_size": batch_size,
        },
        "versions": _versions(),
        "shard": [number, n_shards],
        "n_listed": len(listed),
        "images_digest": hashlib.sha256(json.dumps(listed).encode()).hexdigest(),
        "images": listed[own],
    }
    kept = open_spool(manifest, spool, resume=resume, overwrite=overwrite)
    finished = False
    try:
        _measure(model, paths[own], kept, measured, progress)
        if shard is not None:
            finished = True
            return kept
        return finalise(kept, progress)
    finally:
        if not finished:
            kept.close()


def _check_settings(n_components: int, layout_size: int, batch_size: int, shard: tuple[int, int] | None) -> None:
    for name, value in (("n_components", n_components), ("layout_size", layout_size), ("batch_size", batch_size)):
        if value < 1:
            raise InputError(f"{name} is at least 1; got {value}")
    if shard is not None and not 1 <= shard[0] <= shard[1]:
        raise InputError(f"a shard is i/n with 1 <= i <= n; got {shard[0]}/{shard[1]}")


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1  # a broken link: listed, then named among the skipped


def _class(model: ImageModel, images: object, class_name: str | None) -> dict | None:
    if class_name is not None:
        found = model.find_class(class_name)
    elif isinstance(images, str | os.PathLike) and Path(images).is_dir():
        try:
            found = model.find_class(Path(images).resolve().name)
        except ClassNotFoundError as error:
            # An unknown name is a folder's good right; an ambiguous one must be decided by somebody.
            if "ambiguous" in str(error):
                raise ClassNotFoundError(f"{error} with --class") from None
            return None
    else:
        return None
    return {"index": int(found.index), "wnid": found.wnid, "label": found.label}


def _versions() -> dict[str, str]:
    from stochdeconv import backend

    return backend.versions()


# ---- what is measured ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """A layer to be measured, and the names its columns and sums have in the spool."""

    number: int
    name: str
    shape: tuple[int, int, int]
    layout_shape: tuple[int, int, int]

    def column(self, kind: str) -> str:
        return f"{kind}_{self.number:03d}"


def _measured_layers(model: ImageModel, layers: Sequence[str] | None, layout_size: int) -> list[_Layer]:
    names = [name for name in dict.fromkeys(model.default_layers if layers is None else layers) if name != INPUT]
    shapes = {name: tuple(model.layer_shape(name)) for name in names}
    order = {name: number for number, name in enumerate(model.layer_names)}

    def depth(name: str) -> float:
        if name in order:
            return order[name]
        if name.removesuffix("_linear") in order:  # the values before a layer's ReLU
            return order[name.removesuffix("_linear")] - 0.5
        return -1 if name == "network_input" else math.inf

    measured = []
    for number, name in enumerate([INPUT, *sorted(names, key=depth)]):
        shape = (*model.input_size, 3) if name == INPUT else shapes[name]
        if len(shape) not in (1, 3):
            raise InputError(f"layer '{name}' gives no map: its shape is {shape}; (height, width, channel) is expected")
        shape = (1, 1, *shape) if len(shape) == 1 else shape
        layout_shape = (min(shape[0], layout_size), min(shape[1], layout_size), shape[2])
        measured.append(_Layer(number, name, shape, layout_shape))
    return measured


def open_spool(
    manifest: Mapping[str, Any], folder: str | os.PathLike | None, *, resume: bool = False, overwrite: bool = False
) -> Spool:
    """Open a working folder with a place for everything that is measured of the manifest's layers."""
    columns: dict[str, tuple[str, int]] = {"image": ("<f4", 3)}
    height, width = manifest["input_size"]
    spectrum = (height, width // 2 + 1, 3)
    sums: dict[str, tuple[int, ...]] = {"amplitude": spectrum, "amplitude_squared": spectrum}
    counts: dict[str, tuple[int, ...]] = {"log_gradient": (len(LOG_GRADIENT_EDGES) - 1,)}
    for layer in layers_of(manifest):
        n_channels = layer.shape[-1]
        columns[layer.column("layout")] = ("<f2", math.prod(layer.layout_shape))
        columns[layer.column("exponent")] = ("<i2", 1)
        columns[layer.column("mean")] = ("<f4", n_channels)
        columns[layer.column("log_std")] = ("<f4", n_channels)
        sums[layer.column("mean")] = (n_channels,)
        sums[layer.column("within")] = (n_channels, n_channels)
        counts[layer.column("firing")] = (n_channels,)
        counts[layer.column("histogram")] = (n_channels, len(HISTOGRAM_EDGES) - 1)
    layout = {"columns": columns, "sums": sums, "counts": counts}
    spool = Spool.temporary(manifest, **layout) if folder is None else Spool(folder, manifest, **layout)
    try:
        spool.open(resume=resume, overwrite=overwrite)
    except BaseException:
        spool.close()
        raise
    return spool


def layers_of(manifest: Mapping[str, Any]) -> list[_Layer]:
    """Read the measured layers out of a manifest."""
    return [_Layer(i, name, tuple(s), tuple(pooled)) for i, (name, s, pooled) in enumerate(manifest["layers"])]


# ---- the pass over the images ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Photograph:
    """One image, read, with what is measured of it without the network."""

    pixels: np.ndarray
    amplitude: np.ndarray
    log_gradient_counts: np.ndarray
    log_gradient_mean: float
    log_gradient_std: float


def _read(path: Path, size: tuple[int, int]) -> _Photograph | str:
    try:
        pixels = load_image(path, size)
    except StochDeconvError as error:
        return str(error)
    edges = log_gradient_magnitude(pixels)
    return _Photograph(
        pixels,
        amplitude_spectrum(pixels),
        count_log_gradients(edges),
        float(edges.mean(dtype=np.float64)),
        float(edges.std(dtype=np.float64)),
    )


def _measure(
    model: ImageModel, paths: Sequence[Path], spool: Spool, layers: Sequence[_Layer], progress: Progress | None
) -> None:
    """Run what is left of the pass over the images, and commit it."""
    n_images = len(paths)
    if spool.n_done < n_images:
        describe = _network_statistics(model, layers, spool.manifest["class"])
        batch_size = spool.manifest["settings"]["batch_size"]
        committed = time.monotonic()
        # One worker adds up while the network computes the next batch.
        with ThreadPoolExecutor(1) as adder:
            pending: Future | None = None
            for numbers, photographs in _batches(paths, spool, batch_size):
                statistics = _through_network(describe, spool, layers, numbers, photographs, batch_size)
                if pending is not None:
                    pending.result()
                    if time.monotonic() - committed > _COMMIT_SECONDS:
                        spool.commit()
                        committed = time.monotonic()
                pending = adder.submit(_add, spool, layers, numbers, photographs, statistics)
                if progress is not None:
                    progress(numbers[-1] + 1, n_images, f"{numbers[-1] + 1 - len(spool.skipped)} images")
            if pending is not None:
                pending.result()
        spool.commit()
    if not spool.kept:
        number, reason = spool.skipped[0]
        raise InputError(f"none of the {n_images} images can be read; the first: {reason}")


def _batches(
    paths: Sequence[Path], spool: Spool, batch_size: int
) -> Iterator[tuple[list[int], list[_Photograph | str]]]:
    """Read the images not done yet, a few batches ahead of the network.

    Batches are cut from the list of files, so an image has the same neighbours in every run.
    """
    height, width = spool.manifest["input_size"]
    starts = list(range(spool.n_done, len(paths), batch_size))
    reader = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        ahead: list[tuple[list[int], list[Future]]] = []
        while starts or ahead:
            while starts and len(ahead) < 3:
                start = starts.pop(0)
                numbers = list(range(start, min(start + batch_size, len(paths))))
                ahead.append((numbers, [reader.submit(_read, paths[i], (height, width)) for i in numbers]))
            numbers, futures = ahead.pop(0)
            yield numbers, [future.result() for future in futures]
    finally:
        reader.shutdown(wait=True, cancel_futures=True)


def _network_statistics(model: ImageModel, layers: Sequence[_Layer], class_: Mapping[str, Any] | None) -> Callable:
    """Compile images and positions -> per layer (mean, covariance, firing, pooled, values at the positions), and logit."""
    from keras import ops

    from stochdeconv import backend
    from stochdeconv.losses import pooled_map

    wanted = [layer.name for layer in layers if layer.name != INPUT]
    forward = model.forward(tuple(dict.fromkeys([*wanted, "logits"] if class_ is not None else wanted)))

    def describe(images: Any, positions: Sequence[Any]) -> tuple[list[tuple], Any]:
        activations = forward(images)
        described = []
        for layer, places in zip(layers, positions, strict=True):
            n_images, n_positions, n_channels = images.shape[0], layer.shape[0] * layer.shape[1], layer.shape[2]
            maps = activations[layer.name]
            flat = ops.reshape(maps, (n_images, n_positions, n_channels))
            mean = ops.mean(flat, axis=1)
            centred = flat - mean[:, None]
            covariance = ops.matmul(ops.swapaxes(centred, 1, 2), centred) / n_positions
            firing = ops.sum(ops.cast(flat > 0, "float32"), axis=1)
            pooled = ops.reshape(pooled_map(maps, layer.layout_shape[:2]), (n_images, -1))
            offsets = np.arange(n_images, dtype=np.int32)[:, np.newaxis] * n_positions
            found = ops.take(ops.reshape(flat, (-1, n_channels)), places + offsets, axis=0)
            described.append((mean, covariance, firing, pooled, found))
        logit = activations["logits"][:, class_["index"]] if class_ is not None else ops.zeros((images.shape[0],))
        return described, logit

    return backend.compile(describe)


def _through_network(
    describe: Callable,
    spool: Spool,
    layers: Sequence[_Layer],
    numbers: Sequence[int],
    photographs: Sequence[_Photograph | str],
    batch_size: int,
) -> tuple[list[tuple[np.ndarray, ...]], np.ndarray]:
    from keras import ops

    height, width = spool.manifest["input_size"]
    images = np.zeros((batch_size, height, width, 3), np.float32)
    for place, photograph in enumerate(photographs):
        if not isinstance(photograph, str):
            images[place] = photograph.pixels
    positions = []
    keys = [spool.manifest["images"][number][0] for number in numbers]
    for layer in layers:
        places = np.stack([seeded_positions(key, *layer.shape[:2]) for key in keys])
        positions.append(np.pad(places, ((0, batch_size - len(numbers)), (0, 0))))
    described, logit = describe(ops.convert_to_tensor(images), [ops.convert_to_tensor(p) for p in positions])
    return [tuple(ops.convert_to_numpy(part) for part in layer) for layer in described], ops.convert_to_numpy(logit)


def _add(
    spool: Spool,
    layers: Sequence[_Layer],
    numbers: Sequence[int],
    photographs: Sequence[_Photograph | str],
    statistics: tuple[list[tuple[np.ndarray, ...]], np.ndarray],
) -> None:
    """Add a batch's measurements to the spool."""
    read = [place for place, photograph in enumerate(photographs) if not isinstance(photograph, str)]
    described, logits = statistics
    rows: dict[str, np.ndarray] = {
        "image": np.array(
            [[logits[i], photographs[i].log_gradient_mean, photographs[i].log_gradient_std] for i in read], np.float32
        )
    }
    for layer, (mean, covariance, firing, pooled, found) in zip(layers, described, strict=True):
        mean, covariance, pooled = mean[read], covariance[read], pooled[read]
        # A value that overflows anywhere in a map reaches its channel's mean or variance.
        variance = np.diagonal(covariance, axis1=1, axis2=2).astype(np.float64)
        finite = np.isfinite(variance).all(axis=1) & np.isfinite(mean).all(axis=1)
        if not finite.all():
            key = spool.manifest["images"][numbers[read[int(np.argmin(finite))]]][0]
            raise ModelError(f"layer '{layer.name}' is NaN or infinite for the image '{key}'; is the network sound?")
        std = np.sqrt(np.maximum(variance, 0.0))
        rows[layer.column("mean")] = mean
        rows[layer.column("log_std")] = np.log(std + LOG_STD_EPSILON)
        rows[layer.column("layout")], rows[layer.column("exponent")] = float16_with_exponent(pooled)
        for i in range(len(read)):
            spool.sums[layer.column("mean")].add(mean[i])
            spool.sums[layer.column("within")].add(covariance[i])
        spool.counts[layer.column("firing")] += firing[read].astype(np.int64).sum(axis=0)
        spool.counts[layer.column("histogram")] += count_histogram(found[read])
    for i in read:
        amplitude = photographs[i].amplitude.astype(np.float64)
        spool.sums["amplitude"].add(amplitude)
        spool.sums["amplitude_squared"].add(amplitude * amplitude)
        spool.counts["log_gradient"] += photographs[i].log_gradient_counts
    spool.append(rows, [numbers[i] for i in read])
    spool.skipped.extend((numbers[i], entry) for i, entry in enumerate(photographs) if isinstance(entry, str))
    spool.n_done = numbers[-1] + 1


# ---- from the spool to statistics ------------------------------------------------------------------------------------


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
    rows = _kept_rows(spool.keys)
    found = {}
    for layer in layers:
        if progress is not None:
            progress(spool.n_done, spool.n_done, f"components of {layer.name}")
        found[layer.name] = _layer_statistics(spool, layer, rows, n_wanted)
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
    )


def _kept_rows(keys: Sequence[str]) -> np.ndarray:
    """Choose the images whose rows are kept: all, or a draw by name, the same however the images were split."""
    if len(keys) <= MAX_ROWS:
        return np.arange(len(keys))
    return np.sort(np.argsort([key_number(key) for key in keys], kind="stable")[:MAX_ROWS])


def _layer_statistics(spool: Spool, layer: _Layer, rows: np.ndarray, n_components: int) -> LayerStatistics:
    n_images = len(spool.kept)
    layout = principal_components(spool.maps(layer.column("layout"), layer.column("exponent")), n_components)
    if not layout.converged:
        warnings.warn(
            f"the layout components of '{layer.name}' still moved after {layout.n_passes} passes; the last are rough",
            stacklevel=4,
        )
    within = spool.sums[layer.column("within")].value / n_images
    return LayerStatistics(
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
