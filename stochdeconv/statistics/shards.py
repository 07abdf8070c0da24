"""Shards of a collection as HDF5 files: everything that was measured of a part of the images; see docs/reference/statistics_file.md."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stochdeconv.errors import InputError
from stochdeconv.statistics.hdf5 import FORMAT_VERSION, SHARD_FORMAT, opened, reading, store
from stochdeconv.statistics.spool import Spool

#: Rows of a shard copied at once.
BLOCK_ROWS = 64


def write_shard(spool: Spool, path: Path) -> None:
    """Write a spool to a file, whole or not at all, a few rows at a time.

    Not by way of the memory, as statistics are: a shard holds the pooled maps of all its images, 1 to 2 MB each of VGG16.

    Parameters
    ----------
    spool : Spool
    path : Path

    Raises
    ------
    InputError
        It cannot be written; its cause is the OSError.
    """
    # Beside the target: a rename does not cross file systems.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _Sink(temporary, "w+b") as sink:
                with h5py.File(sink, "w") as file:
                    _write(file, spool, sink)
                if sink.error is not None:
                    raise sink.error
                os.fsync(sink.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # HDF5 raises both
        raise InputError(f"cannot write '{path}': {error}") from OSError(*error.args)


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


def _write(file: h5py.File, spool: Spool, sink: _Sink) -> None:
    file.attrs["format"] = SHARD_FORMAT
    file.attrs["format_version"] = FORMAT_VERSION
    # The list of images outgrows what an attribute holds.
    manifest = {name: value for name, value in spool.manifest.items() if name != "images"}
    file.attrs["manifest"] = json.dumps(manifest)
    file.create_dataset("images", data=json.dumps(spool.manifest["images"]), dtype=h5py.string_dtype())
    file.create_dataset("skipped", data=json.dumps(spool.skipped), dtype=h5py.string_dtype())
    store(file, "kept", np.array(spool.kept), "<i8")
    for name, total in spool.sums.items():
        store(file, f"sums/{name}/high", total.high, "<f8")
        store(file, f"sums/{name}/low", total.low, "<f8")
    n_rows = len(spool.kept)
    for name, (kind, width) in spool.columns.items():
        column = file.create_dataset(
            f"columns/{name}",
            (n_rows, width),
            kind.newbyteorder("<"),
            chunks=(min(BLOCK_ROWS, max(1, 2**18 // width), max(n_rows, 1)), width) if n_rows else None,
            compression="gzip" if n_rows else None,
            compression_opts=1 if n_rows else None,
            shuffle=bool(n_rows),
        )
        for start in range(0, n_rows, BLOCK_ROWS):
            if sink.error is not None:  # the rest would only fill the memory
                return
            rows = np.arange(start, min(start + BLOCK_ROWS, n_rows))
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
            file = self._file = stack.enter_context(opened(self.path, SHARD_FORMAT))
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
        with reading(self.path):
            return self._file["columns"][column][start:stop]
