"""HDF5 files of statistics and of shards: what they have in common."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from stochdeconv.assets import NETWORK, shipped_file
from stochdeconv.errors import FileFormatError, MissingInputError, StochDeconvError, closest, first_reason

STATISTICS_FORMAT = "stochdeconv-statistics"
SHARD_FORMAT = "stochdeconv-shard"
FORMAT_VERSION = 2
# Shards of version 1 hold other columns than a merge of this version needs.
_READ_VERSIONS = {STATISTICS_FORMAT: (1, 2), SHARD_FORMAT: (2,)}

# Bytes below which a chunk's own book-keeping would outweigh what compression saves; HDF5 cannot chunk an empty array.
_SMALL = 2048


def store(
    group: h5py.Group, name: str, values: np.ndarray, dtype: str, *, chunks: tuple[int, ...] | None = None
) -> None:
    """Write an array as a dataset, compressed where that is worth its book-keeping."""
    values = np.asarray(values)
    values = values.astype(dtype)
    if values.nbytes <= _SMALL:
        group.create_dataset(name, data=values)
        return
    # Shuffled bytes compress better: exponents come to lie beside exponents.
    group.create_dataset(name, data=values, chunks=chunks or True, compression="gzip", compression_opts=4, shuffle=True)


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
def opened(path: str | os.PathLike, kind: str) -> Iterator[h5py.File]:
    """Open a file of a kind of format to read it; FileFormatError where it is of another, or damaged."""
    path = _shipped(Path(path))
    if not path.exists():
        raise MissingInputError(f"no such statistics file: '{path}'")
    if path.is_dir():
        raise FileFormatError(f"'{path}' is a folder; expected a statistics file, as stochdeconv collect leaves them")
    if not h5py.is_hdf5(path):
        raise FileFormatError(f"'{path}' is no readable statistics file: it is no HDF5 file, or a truncated one")
    with reading(path), h5py.File(path, "r") as file:
        own_kind, version = file.attrs.get("format"), file.attrs.get("format_version")
        if own_kind != kind:
            raise FileFormatError(_another_kind(path, own_kind, kind, file))
        if version not in _READ_VERSIONS[kind]:
            is_older = isinstance(version, int | np.integer) and version < min(_READ_VERSIONS[kind])
            mending = "Collect it anew" if is_older else "Update stochdeconv, or collect it anew"
            raise FileFormatError(
                f"'{path}' is of format version {version}; this program reads version "
                f"{' and '.join(map(str, _READ_VERSIONS[kind]))}. {mending}"
            )
        yield file


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say in one way what is wrong with a file, whatever HDF5 raises."""
    try:
        yield
    except StochDeconvError:
        raise
    except KeyError as error:
        raise FileFormatError(f"'{path}' is incomplete: {str(error.args[0]).lower()}") from error
    except MemoryError as error:
        raise FileFormatError(
            f"'{path}' does not fit into memory: {first_reason(error)}; where it keeps photographs, collect with fewer (--exemplars)"
        ) from error
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
            "(collect with shard=1/2, 2/2) and merge those"
        )
    return f"'{path}' is no statistics file of stochdeconv (format {own_kind!r})"
