"""Class statistics as HDF5 files; the format is specified in docs/reference/statistics_file.md."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stochdeconv.errors import ExistingOutputError, FileFormatError, InputError
from stochdeconv.files import write_atomically
from stochdeconv.statistics import version_1
from stochdeconv.statistics.class_statistics import ClassStatistics, LayerStatistics
from stochdeconv.statistics.hdf5 import FORMAT_VERSION, STATISTICS_FORMAT, opened, store
from stochdeconv.statistics.registry import CLASS_FIELDS, LAYER_FIELDS, LAYER_STATISTICS
from stochdeconv.statistics.shards import write_shard
from stochdeconv.statistics.spool import Spool, disk_error
from stochdeconv.statistics.statistic import Array, Field, Number, Record, Text


def save_statistics(statistics: ClassStatistics | Spool, path: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Write statistics, or a shard's measurements, whole or not at all.

    Parameters
    ----------
    statistics : ClassStatistics or Spool
        What `collect` returned.
    path : path-like
        Where to; folders are made.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    ExistingOutputError
        The file exists and `overwrite` is not given.
    InputError
        It cannot be written, or the disk is full; an existing file is left as it was.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise ExistingOutputError(f"'{path}' exists; overwrite=True replaces it")
    try:
        if isinstance(statistics, Spool):
            write_shard(statistics, path)
        else:
            # Whole in memory first: HDF5 does not survive a write that fails.
            with io.BytesIO() as content:
                with h5py.File(content, "w") as file:
                    _write_statistics(file, statistics)
                write_atomically(path, content.getvalue())
    except InputError as error:
        if isinstance(error.__cause__, OSError):
            raise InputError(disk_error(error.__cause__, path)) from error
        raise


def _write_statistics(file: h5py.File, statistics: ClassStatistics) -> None:
    attributes: dict[str, Any] = {
        "format": STATISTICS_FORMAT,
        "format_version": FORMAT_VERSION,
        "model_name": statistics.model_name,
        "model_source": statistics.model_source,
        "weights_hash": statistics.weights_hash,
        "preprocessing": json.dumps(dict(statistics.preprocessing)),
        "input_size": np.array(statistics.input_size, np.int64),
        "class": json.dumps(
            statistics.of_class if statistics.class_name is not None or statistics.class_index is not None else None
        ),
        "n_images": statistics.n_images,
        "settings": json.dumps(dict(statistics.settings)),
        "versions": json.dumps(dict(statistics.versions)),
        "statistics_hash": statistics.hash(),
    }
    file.attrs.update(attributes)
    text = h5py.string_dtype()
    file.create_dataset("image_names", data=np.array(statistics.image_names, object), dtype=text)
    # A dataset, not an attribute: HDF5 attributes hold 64 kB at most.
    skipped = np.array(statistics.skipped, object).reshape(-1, 2)
    file.create_dataset("skipped", data=skipped, dtype=text)
    if statistics.logits is not None:
        store(file, "logits", statistics.logits, "<f4")
    for number, layer in enumerate(statistics.values()):
        group = file.create_group(f"layers/{number:03d}")
        group.attrs["name"] = layer.name
        group.attrs["shape"] = np.array(layer.shape, np.int64)
        group.attrs["layout_shape"] = np.array(layer.layout_shape, np.int64)
        group.attrs["n_images"] = layer.n_images
        _write_fields(group, LAYER_FIELDS, layer.fields)
    _write_fields(file, CLASS_FIELDS, statistics.fields)


def _write_fields(group: h5py.Group, kinds: Mapping[str, Field], fields: Mapping[str, Any]) -> None:
    for name, kind in kinds.items():
        value = fields[name]
        if value is None:
            continue
        if isinstance(kind, Record):
            _write_fields(group.create_group(name), kind.fields, vars(value))
        elif isinstance(kind, Array):
            store(group, name, value, kind.stored, chunks=(1, *value.shape[1:]) if kind.one_a_chunk else None)
        else:
            group.attrs[name] = value if isinstance(kind, Text) else float(value)


def load_statistics(path: str | os.PathLike) -> ClassStatistics:
    """Read statistics back, exactly as they were saved.

    Parameters
    ----------
    path : path-like
        A file written by `save_statistics`; ``mini-vgg16/CLASS.h5``, where there is no folder `mini-vgg16`, are those that ship with the
        package.

    Returns
    -------
    ClassStatistics

    Raises
    ------
    MissingInputError
        No such file.
    FileFormatError
        The file is truncated, damaged, of another kind or of an unknown version, or lacks a dataset.
    """
    with opened(path, STATISTICS_FORMAT) as file:
        is_first = file.attrs["format_version"] == 1
        layers = {}
        for number in sorted(file["layers"]):
            layer = _read_layer(
                file["layers"][number], LAYER_FIELDS | version_1.LAYER_FIELDS if is_first else LAYER_FIELDS
            )
            layers[layer.name] = layer
        class_ = json.loads(file.attrs["class"]) or {"index": None, "wnid": None, "label": None}
        statistics = ClassStatistics(
            layers=layers,
            model_name=str(file.attrs["model_name"]),
            model_source=str(file.attrs["model_source"]),
            weights_hash=str(file.attrs["weights_hash"]),
            preprocessing=json.loads(file.attrs["preprocessing"]),
            input_size=_whole_numbers(file.attrs["input_size"]),
            class_name=class_["label"],
            wnid=class_["wnid"],
            class_index=class_["index"],
            n_images=int(file.attrs["n_images"]),
            image_names=tuple(file["image_names"].asstr()[()]) if file["image_names"].size else (),
            logits=file["logits"][()].astype(np.float32) if "logits" in file else None,
            skipped=tuple((str(name), str(reason)) for name, reason in file["skipped"].asstr()[()])
            if file["skipped"].size
            else (),
            settings=json.loads(file.attrs["settings"]),
            versions=json.loads(file.attrs["versions"]),
            fields=_read_fields(file, CLASS_FIELDS | version_1.CLASS_FIELDS if is_first else CLASS_FIELDS),
        )
        own_hash = version_1.hash_of(statistics) if is_first else statistics.hash()
        if own_hash != file.attrs["statistics_hash"]:
            raise FileFormatError(f"'{path}' is damaged: its numbers are not those that were saved; collect it anew")
        return version_1.without_unread(statistics) if is_first else statistics


def _read_layer(group: h5py.Group, kinds: Mapping[str, Field]) -> LayerStatistics:
    fields = _read_fields(group, kinds)
    for statistic in LAYER_STATISTICS:
        statistic.check(fields)
    return LayerStatistics(
        name=str(group.attrs["name"]),
        shape=_whole_numbers(group.attrs["shape"]),
        layout_shape=_whole_numbers(group.attrs["layout_shape"]),
        n_images=int(group.attrs["n_images"]),
        fields=fields,
    )


def _whole_numbers(values: Any) -> tuple[Any, ...]:
    """Read an attribute of whole numbers, as many as the format says there are."""
    return tuple(int(value) for value in values)


def _read_fields(group: h5py.Group, kinds: Mapping[str, Field]) -> dict[str, Any]:
    return {name: _read_field(group, name, kind) for name, kind in kinds.items()}


def _read_field(group: h5py.Group, name: str, kind: Field) -> Any:
    if isinstance(kind, Number):
        return float(group.attrs[name])
    if isinstance(kind, Text):
        return str(group.attrs[name])
    if name not in group and (isinstance(kind, Record) or kind.is_optional):
        return None
    if isinstance(kind, Record):
        return kind.kind(**_read_fields(group[name], kind.fields))
    return group[name][()].astype(kind.loaded or kind.stored)
