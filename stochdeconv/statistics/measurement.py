"""The pass over the images: photographs through the network, what is measured of each added to the spool."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import InputError, ModelError, StochDeconvError
from stochdeconv.images.files import load_image
from stochdeconv.statistics.class_statistics import INPUT
from stochdeconv.statistics.spool import Spool, float16_with_exponent
from stochdeconv.statistics.summary import (
    HISTOGRAM_EDGES,
    LOG_GRADIENT_EDGES,
    LOG_STD_EPSILON,
    amplitude_spectrum,
    count_histogram,
    count_log_gradients,
    log_gradient_magnitude,
    seeded_positions,
)

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel

Progress = Callable[[int, int, str], None]

# What a killed run loses at most.
COMMIT_SECONDS = 5.0


@dataclass(frozen=True)
class MeasuredLayer:
    """A layer to be measured, and the names its columns and sums have in the spool."""

    number: int
    name: str
    shape: tuple[int, int, int]
    layout_shape: tuple[int, int, int]

    def column(self, kind: str) -> str:
        """Name the spool's column or sum of this layer."""
        return f"{kind}_{self.number:03d}"


def measured_layers(model: ImageModel, layers: Sequence[str] | None, layout_size: int) -> list[MeasuredLayer]:
    """Look up the layers to measure: the image itself, then the rest from the first to the deepest."""
    names = [name for name in (model.default_layers if layers is None else layers) if name != INPUT]
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
        shape = model.input_shape if name == INPUT else shapes[name]
        if len(shape) not in (1, 3):
            raise InputError(f"layer '{name}' gives no map: its shape is {shape}; (height, width, channel) is expected")
        shape = (1, 1, *shape) if len(shape) == 1 else shape
        layout_shape = (min(shape[0], layout_size), min(shape[1], layout_size), shape[2])
        measured.append(MeasuredLayer(number, name, shape, layout_shape))
    return measured


def open_spool(
    manifest: Mapping[str, Any],
    folder: str | os.PathLike | None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    resumable: bool = True,
) -> Spool:
    """Open a working folder with a place for everything that is measured of the manifest's layers."""
    columns: dict[str, tuple[str, int]] = {"image": ("<f4", 3)}
    height, width = manifest["input_size"]
    spectrum = (height, width // 2 + 1, layers_of(manifest)[0].shape[-1])
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
    layout = {"columns": columns, "sums": sums, "counts": counts, "resumable": resumable}
    spool = Spool.temporary(manifest, **layout) if folder is None else Spool(folder, manifest, **layout)
    try:
        spool.open(resume=resume, overwrite=overwrite)
    except BaseException as error:
        spool.close(remove=isinstance(error, StochDeconvError))
        raise
    return spool


def layers_of(manifest: Mapping[str, Any]) -> list[MeasuredLayer]:
    """Read the measured layers out of a manifest."""
    return [MeasuredLayer(i, name, tuple(s), tuple(pooled)) for i, (name, s, pooled) in enumerate(manifest["layers"])]


# ---- the pass over the images ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Photograph:
    """One image, read, with what is measured of it without the network."""

    pixels: np.ndarray
    amplitude: np.ndarray
    log_gradient_counts: np.ndarray
    log_gradient_mean: float
    log_gradient_std: float


def _read(path: Path, shape: tuple[int, int, int]) -> _Photograph | str:
    *size, channels = shape
    try:
        pixels = load_image(path, tuple(size), channels=channels)
    except StochDeconvError as error:
        # The file's name only: where a collection lies is no part of its statistics.
        return str(error).replace(str(path), path.name)
    edges = log_gradient_magnitude(pixels)
    return _Photograph(
        pixels,
        amplitude_spectrum(pixels),
        count_log_gradients(edges),
        float(edges.mean(dtype=np.float64)),
        float(edges.std(dtype=np.float64)),
    )


def measure(
    model: ImageModel, paths: Sequence[Path], spool: Spool, layers: Sequence[MeasuredLayer], progress: Progress | None
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
                    if time.monotonic() - committed > COMMIT_SECONDS:
                        spool.commit()
                        committed = time.monotonic()
                pending = adder.submit(_add, spool, layers, numbers, photographs, statistics)
                if progress is not None:
                    progress(numbers[-1] + 1, n_images, f"{numbers[-1] + 1 - len(spool.skipped)} images")
            if pending is not None:
                pending.result()
        spool.commit()
    if not spool.kept:
        reason = spool.skipped[0][1]
        raise InputError(f"none of the {n_images} images can be read; the first: {reason}")


def _batches(
    paths: Sequence[Path], spool: Spool, batch_size: int
) -> Iterator[tuple[list[int], list[_Photograph | str]]]:
    """Read the images not done yet, a few batches ahead of the network.

    Batches are cut from the list of files, so an image has the same neighbours in every run.
    """
    shape = layers_of(spool.manifest)[0].shape
    starts = list(range(spool.n_done, len(paths), batch_size))
    reader = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        ahead: list[tuple[list[int], list[Future]]] = []
        while starts or ahead:
            while starts and len(ahead) < 2:
                start = starts.pop(0)
                numbers = list(range(start, min(start + batch_size, len(paths))))
                ahead.append((numbers, [reader.submit(_read, paths[i], shape) for i in numbers]))
            numbers, futures = ahead.pop(0)
            yield numbers, [future.result() for future in futures]
    finally:
        reader.shutdown(wait=True, cancel_futures=True)


def _network_statistics(
    model: ImageModel, layers: Sequence[MeasuredLayer], class_: Mapping[str, Any] | None
) -> Callable:
    """Compile images and positions -> per layer (mean, covariance, firing, pooled, values at the positions), and logit."""
    from keras import ops

    from stochdeconv import backend
    from stochdeconv.statistics.pooling import pooled_map

    wanted = [layer.name for layer in layers if layer.name != INPUT]
    forward = model.forward(tuple(dict.fromkeys([*wanted, "logits"] if class_ is not None else wanted)))

    def describe(images: Any, positions: Sequence[Any]) -> tuple[list[tuple], Any]:
        activations = forward(images)
        described = []
        for layer, places in zip(layers, positions, strict=True):
            n_images, n_positions, n_channels = images.shape[0], layer.shape[0] * layer.shape[1], layer.shape[2]
            maps = ops.reshape(activations[layer.name], (n_images, *layer.shape))
            flat = ops.reshape(maps, (n_images, n_positions, n_channels))
            # Averages over positions as products with a row of ones: two to three times as fast as a reduction.
            mean = ops.matmul(np.full((1, n_positions), 1.0 / n_positions, np.float32), flat)
            centred = flat - mean
            covariance = ops.matmul(ops.swapaxes(centred, 1, 2), centred) / n_positions
            firing = ops.matmul(np.ones((1, n_positions), np.float32), ops.cast(flat > 0, "float32"))[:, 0]
            pooled = ops.reshape(pooled_map(maps, layer.layout_shape[:2]), (n_images, -1))
            offsets = np.arange(n_images, dtype=np.int32)[:, np.newaxis] * n_positions
            found = ops.take(ops.reshape(flat, (-1, n_channels)), places + offsets, axis=0)
            described.append((mean[:, 0], covariance, firing, pooled, found))
        logit = activations["logits"][:, class_["index"]] if class_ is not None else ops.zeros((images.shape[0],))
        return described, logit

    return backend.compile(describe)


def _through_network(
    describe: Callable,
    spool: Spool,
    layers: Sequence[MeasuredLayer],
    numbers: Sequence[int],
    photographs: Sequence[_Photograph | str],
    batch_size: int,
) -> tuple[list[tuple[np.ndarray, ...]], np.ndarray]:
    from keras import ops

    images = np.zeros((batch_size, *layers[0].shape), np.float32)
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
    layers: Sequence[MeasuredLayer],
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
