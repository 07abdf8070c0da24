"""Class statistics and shards as HDF5 files; the format is specified in docs/reference/statistics_file.md."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
from collections.abc import Iterator
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
from stochdeconv.statistics.class_statistics import ClassStatistics, Facets, LayerStatistics
from stochdeconv.statistics.spool import Spool, disk_error

STATISTICS_FORMAT = "stochdeconv-statistics"
SHARD_FORMAT = "stochdeconv-shard"
FORMAT_VERSION = 1

# Dataset -> (dtype on disk, dtype in memory). Components are rounded to float16 before scores are computed from them.
_LAYER_ARRAYS = {
    "channel_mean": ("<f4", "<f4"),
    "within_covariance": ("<f4", "<f4"),
    "firing_fraction": ("<f4", "<f4"),
    "histogram": ("<u4", "<i8"),
    "layout_mean": ("<f4", "<f4"),
    "components": ("<f2", "<f4"),
    "explained_variance": ("<f8", "<f8"),
    "means": ("<f4", "<f4"),
    "log_stds": ("<f4", "<f4"),
    "scores": ("<f4", "<f4"),
}
_FACET_ARRAYS = {"offset": ("<f4", "<f4"), "projection": ("<f4", "<f4"), "centroids": ("<f4", "<f4")}
_IMAGE_ARRAYS = {
    "log_gradient_mean": ("<f4", "<f4"),
    "log_gradient_std": ("<f4", "<f4"),
    "log_gradient_histogram": ("<i8", "<i8"),
    "amplitude_mean": ("<f4", "<f4"),
    "amplitude_variance": ("<f4", "<f4"),
}
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
    for name, (dtype, _) in _IMAGE_ARRAYS.items():
        _store(file, name, getattr(statistics, name), dtype)
    if statistics.logits is not None:
        _store(file, "logits", statistics.logits, "<f4")
    for number, layer in enumerate(statistics.values()):
        group = file.create_group(f"layers/{number:03d}")
        group.attrs["name"] = layer.name
        group.attrs["shape"] = np.array(layer.shape, np.int64)
        group.attrs["layout_shape"] = np.array(layer.layout_shape, np.int64)
        group.attrs["n_images"] = layer.n_images
        group.attrs["total_variance"] = float(layer.total_variance)
        group.attrs["residual_variance"] = float(layer.residual_variance)
        for name, (dtype, _) in _LAYER_ARRAYS.items():
            # One component a chunk: they can be read one by one.
            chunks = (1, layer.components.shape[1]) if name == "components" else None
            _store(group, name, getattr(layer, name), dtype, chunks=chunks)
        if layer.facet_means is not None:
            _store(group, "facet_means", layer.facet_means, "<f4")
    if statistics.facets is not None:
        group = file.create_group("facets")
        group.attrs["layer"] = statistics.facets.layer
        group.attrs["temperature"] = float(statistics.facets.temperature)
        for name, (dtype, _) in _FACET_ARRAYS.items():
            _store(group, name, getattr(statistics.facets, name), dtype)


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
        layers = {}
        for number in sorted(file["layers"]):
            layer = _read_layer(file["layers"][number], path)
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
            facets=_read_facets(file["facets"]) if "facets" in file else None,
            **{name: file[name][()].astype(dtype) for name, (_, dtype) in _IMAGE_ARRAYS.items()},
        )
        if statistics.hash() != file.attrs["statistics_hash"]:
            raise FileFormatError(f"'{path}' is damaged: its numbers are not those that were saved; collect it anew")
        return statistics


def _read_layer(group: h5py.Group, path: str | os.PathLike) -> LayerStatistics:
    layer = LayerStatistics(
        name=str(group.attrs["name"]),
        shape=tuple(int(value) for value in group.attrs["shape"]),
        layout_shape=tuple(int(value) for value in group.attrs["layout_shape"]),
        n_images=int(group.attrs["n_images"]),
        total_variance=float(group.attrs["total_variance"]),
        facet_means=group["facet_means"][()].astype("<f4") if "facet_means" in group else None,
        **{name: group[name][()].astype(dtype) for name, (_, dtype) in _LAYER_ARRAYS.items()},
    )
    if layer.components.ndim != 2 or layer.components.shape[1] != layer.layout_mean.size:
        raise FileFormatError(f"'{path}' is damaged: components of layer '{layer.name}' do not fit its layout")
    return layer


def _read_facets(group: h5py.Group) -> Facets:
    return Facets(
        layer=str(group.attrs["layer"]),
        temperature=float(group.attrs["temperature"]),
        **{name: group[name][()].astype(dtype) for name, (_, dtype) in _FACET_ARRAYS.items()},
    )


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
        known = sorted(file.name for file in shipped.parent.glob("*.h5"))
        near = closest(path.name, known)
        raise MissingInputError(
            f"no such statistics file: '{path}'{f'; closest: {near}' if near else ''}; of {NETWORK} there ship "
            f"{', '.join(known)}"
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
        found, version = file.attrs.get("format"), file.attrs.get("format_version")
        if found != kind:
            raise FileFormatError(_another_kind(path, found, kind, file))
        if version != FORMAT_VERSION:
            raise FileFormatError(
                f"'{path}' is of format version {version}; this program reads version {FORMAT_VERSION}. "
                "Update stochdeconv, or collect the statistics anew"
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


def _another_kind(path: Path, found: object, wanted: str, file: h5py.File) -> str:
    if found == SHARD_FORMAT:
        number, n_shards = json.loads(file.attrs["manifest"])["shard"]
        return (
            f"'{path}' is shard {number}/{n_shards} of a collection, not finished statistics; "
            "join all shards first: stochdeconv merge A.h5 B.h5 … -o C.h5"
        )
    if found == STATISTICS_FORMAT and wanted == SHARD_FORMAT:
        return (
            f"'{path}' holds finished statistics, which cannot be merged exactly; collect shards of one list of images "
            "(stochdeconv collect … --shard 1/2, 2/2) and merge those"
        )
    return f"'{path}' is no statistics file of stochdeconv (format {found!r})"


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
    for name, count in spool.counts.items():
        _store(file, f"counts/{name}", count, "<i8")
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
    counts : dict of str to ndarray
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
            self.counts = {name: count[()] for name, count in file["counts"].items()}
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        # What went wrong since the file was opened is not the file's fault.
        self._stack.close()

    def read(self, column: str, start: int, stop: int) -> np.ndarray:
        """Read rows [start, stop) of a column, (row, value)."""
        with _reading(self.path):
            return self._file["columns"][column][start:stop]
