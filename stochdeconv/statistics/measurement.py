"""The pass over the images: photographs through the network, what is measured of each added to the spool."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import InputError, ModelError, StochDeconvError
from stochdeconv.images.files import load_image
from stochdeconv.statistics.class_statistics import INPUT
from stochdeconv.statistics.contexts import looked_at
from stochdeconv.statistics.measured import LOGIT, MeasuredLayer, layers_of
from stochdeconv.statistics.registry import LAYER_STATISTICS, PHOTOGRAPH_STATISTICS
from stochdeconv.statistics.spool import Spool
from stochdeconv.statistics.statistic import Storage
from stochdeconv.threads import n_processors

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel

Progress = Callable[[int, int, str], None]

# What a killed run loses at most, beside the two batches that are under way.
COMMIT_SECONDS = 5.0


def measured_layers(
    model: ImageModel, layers: Sequence[str] | None, *, layout_size: int, n_contexts: int
) -> list[MeasuredLayer]:
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
        height, width, n_channels = (1, 1, *shape) if len(shape) == 1 else shape
        layout_shape = (min(height, layout_size), min(width, layout_size), n_channels)
        measured.append(MeasuredLayer(number, name, (height, width, n_channels), layout_shape, None, model.input_size))
    if not n_contexts:
        return measured
    image, *rest = measured
    places = looked_at([layer.shape for layer in rest], model.input_size)
    return [image, *(replace(layer, places=own) for layer, own in zip(rest, places, strict=True))]


def open_spool(
    manifest: Mapping[str, Any],
    folder: str | os.PathLike | None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    resumable: bool = True,
) -> Spool:
    """Open a working folder with a place for everything that is measured of the manifest's layers."""
    layout: dict[str, Any] = {"columns": {LOGIT: ("<f4", 1)}, "sums": {}, "resumable": resumable}
    layers = layers_of(manifest)
    for layer in layers:
        for statistic in LAYER_STATISTICS:
            _reserve(layout, statistic.storage(layer), layer.column)
    for of_photographs in PHOTOGRAPH_STATISTICS:
        _reserve(layout, of_photographs.storage(layers[0].shape, manifest["settings"]), str)
    spool = Spool.temporary(manifest, **layout) if folder is None else Spool(folder, manifest, **layout)
    try:
        spool.open(resume=resume, overwrite=overwrite)
    except BaseException as error:
        spool.close(remove=isinstance(error, StochDeconvError))
        raise
    return spool


def _reserve(layout: dict[str, Any], storage: Storage, stored: Callable[[str], str]) -> None:
    """Make room for what a statistic keeps."""
    for place in ("columns", "sums"):
        layout[place].update({stored(name): size for name, size in getattr(storage, place).items()})


# ---- the pass over the images ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Photograph:
    """One image, read, with what each statistic measures of it without the network."""

    pixels: np.ndarray
    measured: dict[str, dict[str, np.ndarray]]


def _read(path: Path, shape: tuple[int, int, int]) -> _Photograph | str:
    height, width, channels = shape
    try:
        pixels = load_image(path, (height, width), channels=channels)
    except StochDeconvError as error:
        # The file's name only: where a collection lies is no part of its statistics.
        return str(error).replace(str(path), path.name)
    return _Photograph(pixels, {statistic.name: statistic.measure(pixels) for statistic in PHOTOGRAPH_STATISTICS})


def measure(
    model: ImageModel, paths: Sequence[Path], spool: Spool, layers: Sequence[MeasuredLayer], progress: Progress | None
) -> None:
    """Run what is left of the pass over the images, and commit it."""
    n_images = len(paths)
    if spool.n_done < n_images:
        _measure_rest(model, paths, spool, layers, progress)
        spool.commit()
    # A shard may be of unreadable images alone: the others decide, when they are merged.
    if not spool.kept and spool.manifest["shard"][1] == 1:
        reason = spool.skipped[0][1]
        raise InputError(f"none of the {n_images} images can be read; the first: {reason}")


def _measure_rest(
    model: ImageModel, paths: Sequence[Path], spool: Spool, layers: Sequence[MeasuredLayer], progress: Progress | None
) -> None:
    """Measure the images not done yet, and commit every few seconds; on Ctrl-C, too."""
    class_ = spool.manifest["class"]
    key = ("collect", tuple(layers), class_ is not None)
    # Kept with the network: shards and classes one after another run the same program.
    describe = model.program(key, lambda: _network_statistics(model, layers, has_class=class_ is not None))
    index = 0 if class_ is None else class_["index"]
    batch_size = spool.manifest["settings"]["batch_size"]
    committed = time.monotonic()
    pending: Future | None = None
    try:
        # One worker adds up while the network computes the next batch.
        with ThreadPoolExecutor(1) as adder:
            for numbers, photographs in _batches(paths, spool, batch_size):
                measured = _through_network(describe, photographs, (batch_size, *layers[0].shape), index)
                if pending is not None:
                    pending.result()
                    if time.monotonic() - committed > COMMIT_SECONDS:
                        spool.commit()
                        committed = time.monotonic()
                pending = adder.submit(_add, spool, layers, numbers, photographs, measured)
                if progress is not None:
                    progress(numbers[-1] + 1, len(paths), f"{numbers[-1] + 1 - len(spool.skipped)} images")
            if pending is not None:
                pending.result()
    except KeyboardInterrupt:
        # A batch that is added up in part is nothing to go on from.
        if pending is not None and pending.done() and pending.exception() is None:
            spool.commit()
        raise


def _batches(
    paths: Sequence[Path], spool: Spool, batch_size: int
) -> Iterator[tuple[list[int], list[_Photograph | str]]]:
    """Read the images not done yet, a few batches ahead of the network.

    Batches are cut from the list of files, so an image has the same neighbours in every run.
    """
    shape = layers_of(spool.manifest)[0].shape
    starts = list(range(spool.n_done, len(paths), batch_size))
    reader = ThreadPoolExecutor(min(8, n_processors()))
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


def _network_statistics(model: ImageModel, layers: Sequence[MeasuredLayer], *, has_class: bool) -> Callable:
    """Compile images -> what each statistic measures of each layer, and the logits of all classes, if there is one to ask for."""
    from keras import ops

    from stochdeconv import backend

    names = [layer.name for layer in layers if layer.name != INPUT]
    forward = model.forward(tuple(dict.fromkeys([*names, "logits"] if has_class else names)), rows_alike=True)

    def describe(images: Any) -> tuple[list[dict], Any]:
        activations = forward(images)
        described = []
        for layer in layers:
            maps = ops.reshape(activations[layer.name], (images.shape[0], *layer.shape))
            described.append({statistic.name: statistic.measure(maps, layer) for statistic in LAYER_STATISTICS})
        return described, activations["logits"] if has_class else ops.zeros((images.shape[0], 1))

    return backend.compile(describe)


def _through_network(
    describe: Callable, photographs: Sequence[_Photograph | str], shape: tuple[int, ...], class_index: int
) -> tuple[list[dict[str, dict[str, np.ndarray]]], np.ndarray]:
    from keras import ops

    images = np.zeros(shape, np.float32)
    for place, photograph in enumerate(photographs):
        if not isinstance(photograph, str):
            images[place] = photograph.pixels
    described, logits = describe(ops.convert_to_tensor(images))
    described = [
        {
            statistic: {name: ops.convert_to_numpy(values) for name, values in measured.items()}
            for statistic, measured in layer.items()
        }
        for layer in described
    ]
    return described, ops.convert_to_numpy(logits)[:, class_index]


def _add(
    spool: Spool,
    layers: Sequence[MeasuredLayer],
    numbers: Sequence[int],
    photographs: Sequence[_Photograph | str],
    measured: tuple[list[dict[str, dict[str, np.ndarray]]], np.ndarray],
) -> None:
    """Add a batch's measurements to the spool."""
    read = {place: photograph for place, photograph in enumerate(photographs) if not isinstance(photograph, str)}
    places = list(read)
    if places:
        described, logits = measured
        keys = [spool.manifest["images"][numbers[place]][0] for place in places]
        rows = {LOGIT: logits[places, np.newaxis]}
        for layer, of_layer in zip(layers, described, strict=True):
            for statistic in LAYER_STATISTICS:
                values = {name: values[places] for name, values in of_layer[statistic.name].items()}
                _check_finite(values, layer, keys)
                _store(spool, rows, statistic.storage(layer), statistic.encode(values), layer.column)
        for of_photographs in PHOTOGRAPH_STATISTICS:
            parts = [photograph.measured[of_photographs.name] for photograph in read.values()]
            values = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
            _store(spool, rows, of_photographs.storage(layers[0].shape, spool.manifest["settings"]), values, str)
        spool.append(rows, [numbers[place] for place in places])
    spool.skipped.extend((numbers[i], entry) for i, entry in enumerate(photographs) if isinstance(entry, str))
    spool.n_done = numbers[-1] + 1


def _check_finite(values: Mapping[str, np.ndarray], layer: MeasuredLayer, keys: Sequence[str]) -> None:
    for measured in values.values():
        finite = np.isfinite(measured.reshape(len(keys), -1)).all(axis=1)
        if not finite.all():
            key = keys[int(np.argmin(finite))]
            raise ModelError(f"layer '{layer.name}' is NaN or infinite for the image '{key}'; is the network sound?")


def _store(
    spool: Spool,
    rows: dict[str, np.ndarray],
    storage: Storage,
    values: Mapping[str, np.ndarray],
    stored: Callable[[str], str],
) -> None:
    """Put the values of a batch, (image, ...), where they are to be kept; rows wait until all of the batch has them."""
    for name in storage.columns:
        rows[stored(name)] = values[name]
    for name in storage.sums:
        for term in values[name]:
            spool.sums[stored(name)].add(term)
