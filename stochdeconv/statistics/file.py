"""Class statistics and shards as HDF5 files; the format is specified in docs/statistics_file.md."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stochdeconv.assets import NETWORK, shipped_file
from stochdeconv.errors import (
    ExistingOutputError,
    FileFormatError,
    InputError,
    MissingInputError,
    StochDeconvError,
    closest,
)
from stochdeconv.statistics import version_1
from stochdeconv.statistics.class_statistics import ClassStatistics, LayerStatistics
from stochdeconv.statistics.registry import CLASS_FIELDS, LAYER_FIELDS, LAYER_STATISTICS
from stochdeconv.statistics.spool import Spool, disk_error
from stochdeconv.statistics.statistic import Array, Field, Number, Record, Text

STATISTICS_FORMAT = "stochdeconv-statistics"
SHARD_FORMAT = "stochdeconv-shard"
FORMAT_VERSION = 2
# Shards of version 1 hold other columns than a merge of this version needs.
_READ_VERSIONS = {STATISTICS_FORMAT: (1, 2), SHARD_FORMAT: (2,)}

# Bytes below which a chunk's own book-keeping would outweigh what compression saves; HDF5 cannot chunk an empty array.
_SMALL = 2048
# Rows of a shard copied at once.
_BLOCK_ROWS = 64


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
        raise ExistingOutputError(f"'{path}' exists; --overwrite replaces it")
    write = _write_shard if isinstance(statistics, Spool) else _write_statistics
    # Beside the target: a rename does not cross file systems.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _Sink(temporary, "w+b") as sink:
                with h5py.File(sink, "w") as file:
                    write(file, statistics, sink)
                if sink.error is not None:
                    raise sink.error
                os.fsync(sink.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        error = error if isinstance(error, OSError) else OSError(str(error))
        raise InputError(disk_error(error, path)) from error


class _Sink(io.FileIO):
    """A file that remembers its first error instead of raising it.

    HDF5 does not survive a write that fails, nor reading back something else than it wrote: it keeps the file open and may end the
    process later. So it is told that all is well, and what no longer fits on the disk is kept in memory until the file is closed.
    """

    error: OSError | None = None

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self._kept: list[tuple[int, bytes]] = []

    def write(self, data: Any) -> int:
        """Write all of `data`, or keep it once something has failed."""
        start, data = self.tell(), memoryview(data).cast("B")
        left = data
        while self.error is None and len(left):
            try:
                left = left[super().write(left) :]
            except OSError as error:
                self.error = error
        if self.error is not None:
            self._kept.append((start, bytes(data)))
        return len(data)

    def readinto(self, buffer: Any) -> int:
        """Read back what was written, to the disk or kept; zeros where nothing was."""
        start, target = self.tell(), memoryview(buffer).cast("B")
        n_read = super().readinto(target) or 0
        target[n_read:] = bytes(len(target) - n_read)
        for offset, data in self._kept:
            first, last = max(start, offset), min(start + len(target), offset + len(data))
            if first < last:
                target[first - start : last - start] = data[first - offset : last - offset]
        return len(target)

    def truncate(self, size: int | None = None) -> int:
        """Set the file's length, which may fail as a write does."""
        if self.error is None:
            try:
                return super().truncate(size)
            except OSError as error:
                self.error = error
        return size or 0


def _store(
    group: h5py.Group, name: str, values: np.ndarray, dtype: str, *, chunks: tuple[int, ...] | None = None
) -> None:
    values = np.asarray(values)
    values = values.astype(dtype)
    if values.nbytes <= _SMALL:
        group.create_dataset(name, data=values)
        return
    # Shuffled bytes compress better: exponents come to lie beside exponents.
    group.create_dataset(name, data=values, chunks=chunks or True, compression="gzip", compression_opts=4, shuffle=True)


def _write_statistics(file: h5py.File, statistics: ClassStatistics, _: _Sink) -> None:
    attributes: dict[str, Any] = {
        "format": STATISTICS_FORMAT,
        "format_version": FORMAT_VERSION,
        "model_name": statistics.model_name,
        "model_source": statistics.model_source,
        "weights_hash": statistics.weights_hash,
        "preprocessing": json.dumps(dict(statistics.preprocessing)),
        "input_size": np.array(statistics.input_size, np.int64),
        "class": json.dumps(
            {"index": statistics.class_index, "wnid": statistics.wnid, "label": statistics.class_name}
            if statistics.class_name is not None or statistics.class_index is not None
            else None
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
        _store(file, "logits", statistics.logits, "<f4")
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
            _store(group, name, value, kind.stored, chunks=(1, *value.shape[1:]) if kind.one_a_chunk else None)
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
    with _opened(path, STATISTICS_FORMAT) as file:
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
            input_size=tuple(int(value) for value in file.attrs["input_size"]),
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
        shape=tuple(int(value) for value in group.attrs["shape"]),
        layout_shape=tuple(int(value) for value in group.attrs["layout_shape"]),
        n_images=int(group.attrs["n_images"]),
        fields=fields,
    )


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


def _shipped(path: Path) -> Path:
    """Look for mini-vgg16/CLASS.h5 among the statistics that ship with the package, where there is no folder of that name."""
    # A folder of one's own by that name holds one's own statistics, and no others are put in their place.
    if len(path.parts) != 2 or path.parts[0] != NETWORK or path.exists():
        return path
    shipped = shipped_file(*path.parts)
    if path.parent.is_dir():
        raise MissingInputError(
            f"no such statistics file: '{path}'; the folder '{NETWORK}' here hides the statistics that ship: {shipped}"
        )
    if not shipped.exists():
        names = sorted(file.name for file in shipped.parent.glob("*.h5"))
        near = closest(path.name, names)
        raise MissingInputError(
            f"no such statistics file: '{path}'{f'; closest: {near}' if near else ''}; of {NETWORK} there ship "
            f"{', '.join(names)}"
        )
    return shipped


@contextlib.contextmanager
def _opened(path: str | os.PathLike, kind: str) -> Iterator[h5py.File]:
    path = _shipped(Path(path))
    if not path.exists():
        raise MissingInputError(f"no such statistics file: '{path}'")
    if path.is_dir():
        raise FileFormatError(f"'{path}' is a folder; expected a statistics file, as stochdeconv collect leaves them")
    if not h5py.is_hdf5(path):
        raise FileFormatError(f"'{path}' is no readable statistics file: it is no HDF5 file, or a truncated one")
    with _reading(path), h5py.File(path, "r") as file:
        own_kind, version = file.attrs.get("format"), file.attrs.get("format_version")
        if own_kind != kind:
            raise FileFormatError(_another_kind(path, own_kind, kind, file))
        if version not in _READ_VERSIONS[kind]:
            raise FileFormatError(
                f"'{path}' is of format version {version}; this program reads version "
                f"{' and '.join(map(str, _READ_VERSIONS[kind]))}. Update stochdeconv, or collect the statistics anew"
            )
        yield file


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say in one way what is wrong with a file, whatever HDF5 raises."""
    try:
        yield
    except StochDeconvError:
        raise
    except KeyError as error:
        raise FileFormatError(f"'{path}' is incomplete: {str(error.args[0]).lower()}") from error
    # h5py raises RuntimeError where a chunk cannot be unpacked, ValueError where an array has the wrong rank.
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise FileFormatError(f"'{path}' is no readable statistics file (truncated or damaged): {error}") from error


def _another_kind(path: Path, own_kind: object, kind: str, file: h5py.File) -> str:
    if own_kind == SHARD_FORMAT:
        number, n_shards = json.loads(file.attrs["manifest"])["shard"]
        return (
            f"'{path}' is shard {number}/{n_shards} of a collection, not finished statistics; "
            "join all shards first: stochdeconv merge A.h5 B.h5 … -o C.h5"
        )
    if own_kind == STATISTICS_FORMAT and kind == SHARD_FORMAT:
        return (
            f"'{path}' holds finished statistics, which cannot be merged exactly; collect shards of one list of images "
            "(stochdeconv collect … --shard 1/2, 2/2) and merge those"
        )
    return f"'{path}' is no statistics file of stochdeconv (format {own_kind!r})"


# ---- shards ------------------------------------------------------------------------------------------------------------


def _write_shard(file: h5py.File, spool: Spool, sink: _Sink) -> None:
    file.attrs["format"] = SHARD_FORMAT
    file.attrs["format_version"] = FORMAT_VERSION
    # The list of images outgrows what an attribute holds.
    manifest = {name: value for name, value in spool.manifest.items() if name != "images"}
    file.attrs["manifest"] = json.dumps(manifest)
    file.create_dataset("images", data=json.dumps(spool.manifest["images"]), dtype=h5py.string_dtype())
    file.create_dataset("skipped", data=json.dumps(spool.skipped), dtype=h5py.string_dtype())
    _store(file, "kept", np.array(spool.kept), "<i8")
    for name, total in spool.sums.items():
        _store(file, f"sums/{name}/high", total.high, "<f8")
        _store(file, f"sums/{name}/low", total.low, "<f8")
    n_rows = len(spool.kept)
    for name, (kind, width) in spool.columns.items():
        column = file.create_dataset(
            f"columns/{name}",
            (n_rows, width),
            kind.newbyteorder("<"),
            chunks=(min(_BLOCK_ROWS, max(1, 2**18 // width), max(n_rows, 1)), width) if n_rows else None,
            compression="gzip" if n_rows else None,
            compression_opts=1 if n_rows else None,
            shuffle=bool(n_rows),
        )
        for start in range(0, n_rows, _BLOCK_ROWS):
            if sink.error is not None:  # the rest would only fill the memory
                return
            rows = np.arange(start, min(start + _BLOCK_ROWS, n_rows))
            column[start : start + len(rows)] = spool.read(name, rows)


class ShardFile:
    """A shard's measurements in a file, read a piece at a time; use as a context manager.

    Attributes
    ----------
    path : Path
    manifest : dict
    kept : ndarray of shape (row,)
    skipped : list of (int, str)
    sums : dict of str to (high, low)
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> ShardFile:
        with contextlib.ExitStack() as stack:
            file = self._file = stack.enter_context(_opened(self.path, SHARD_FORMAT))
            self.manifest = json.loads(file.attrs["manifest"])
            self.manifest["images"] = json.loads(file["images"].asstr()[()])
            self.kept = file["kept"][()]
            self.skipped = [(int(number), str(reason)) for number, reason in json.loads(file["skipped"].asstr()[()])]
            self.sums = {name: (group["high"][()], group["low"][()]) for name, group in file["sums"].items()}
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        # What went wrong since the file was opened is not the file's fault.
        self._stack.close()

    def read(self, column: str, start: int, stop: int) -> np.ndarray:
        """Read rows [start, stop) of a column, (row, value)."""
        with _reading(self.path):
            return self._file["columns"][column][start:stop]
