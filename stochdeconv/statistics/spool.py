"""Measurements of many images on disk: written image by image, safe to interrupt, read back a piece at a time."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stochdeconv.errors import ExistingOutputError, InputError
from stochdeconv.files import write_atomically
from stochdeconv.statistics.exact_sums import ExactSum
from stochdeconv.statistics.maps import MapReader

FORMAT = "stochdeconv-spool"
FORMAT_VERSION = 3
_MANIFEST = "manifest.json"
_STATE = "state.npz"
_LOCK = "lock"
# What a difference in the manifest is called towards the user.
_CALLED = {
    "format_version": "the version of the program",
    "weights_hash": "the network's weights",
    "model_name": "the network",
    "preprocessing": "the network's preprocessing",
    "input_size": "the image size",
    "class": "the class",
    "layers": "the layers",
    "settings": "the settings",
    "shard": "the shard",
    "images": "the images",
    "n_listed": "the number of images",
    "images_digest": "the images of the whole collection",
}


class Spool:
    """What was measured of each image so far, in a folder.

    Rows are appended to one flat file per column; nothing counts until `commit` replaces the state file, which also holds all
    sums. Killed at any moment, the folder therefore continues from its last commit.

    Attributes
    ----------
    folder : Path
    manifest : dict
        What is being measured, of which images, by which network.
    n_done : int
        Images of the manifest that were tried, in its order.
    kept : list of int
        Numbers (in the manifest) of the images that have a row.
    skipped : list of (int, str)
        Numbers of the images that could not be read, and why.
    sums : dict of str to ExactSum
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        manifest: Mapping[str, object],
        *,
        columns: Mapping[str, tuple[str, int]],
        sums: Mapping[str, tuple[int, ...]],
        resumable: bool = True,
    ):
        self.folder = Path(folder)
        # As JSON gives it back, so that a manifest read compares equal to one just made.
        self.manifest = json.loads(json.dumps(manifest))
        self.columns = {name: (np.dtype(kind), int(width)) for name, (kind, width) in columns.items()}
        self.n_done = 0
        self.kept: list[int] = []
        self.skipped: list[tuple[int, str]] = []
        self.sums = {name: ExactSum(tuple(shape)) for name, shape in sums.items()}
        self._files: dict[str, io.FileIO] = {}
        self._resumable = resumable
        self._lock: io.BufferedWriter | None = None
        self._own = False
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    # ---- opening and closing -------------------------------------------------------------------------------------

    def open(self, *, resume: bool, overwrite: bool) -> None:
        """Begin, or continue where the folder's last commit stands.

        Parameters
        ----------
        resume, overwrite : bool
            What to do with measurements already there: go on with them, or begin anew.

        Raises
        ------
        ExistingOutputError
            The folder holds measurements and neither `resume` nor `overwrite` is given, or another process writes to it.
        InputError
            The measurements there are of something else (the message names what differs), or the disk is full.
        """
        with self._disk():
            self.folder.mkdir(parents=True, exist_ok=True)
            _refuse_strangers(self.folder)
            self._lock = _locked(self.folder)
            # A damaged manifest is no obstacle to beginning anew.
            earlier = None if overwrite else self._earlier_manifest()
            if not overwrite and any(self.folder.glob("shard_*.bin")):
                raise ExistingOutputError(
                    f"'{self.folder}' holds shards that workers of a cluster measured; they are gone on with by workers alone (ray=), "
                    "overwrite=True starts anew"
                )
            if earlier is not None and not resume:
                raise ExistingOutputError(
                    f"'{self.folder}' holds an unfinished collection; resume=True continues it, overwrite=True starts anew"
                )
            if earlier is not None:
                self._refuse_another(earlier)
            else:
                self._own = True
                # The state first: without it everything else counts for nothing, wherever this is stopped.
                (self.folder / _STATE).unlink(missing_ok=True)
                if overwrite:
                    self._clear()
                write_atomically(self.folder / _MANIFEST, json.dumps(self.manifest).encode())
            self._read_state()
            for name in self.columns:
                mode = "r+b" if self._path(name).exists() else "w+b"
                self._files[name] = io.FileIO(self._path(name), mode)  # open until `close`
                self._drop_uncommitted(name)
            self._own = True

    @classmethod
    def temporary(cls, manifest: Mapping[str, object], **layout: Any) -> Spool:
        """Begin in a folder that goes away with the object."""
        holder = tempfile.TemporaryDirectory(prefix="stochdeconv-", ignore_cleanup_errors=True)
        spool = cls(Path(holder.name) / "spool", manifest, **{**layout, "resumable": False})
        spool._temporary = holder
        return spool

    def close(self, *, remove: bool = False) -> None:
        """Let go of the folder, which stays; a temporary one goes away, and with `remove` one that this object has opened."""
        for stream in self._files.values():
            stream.close()
        self._files = {}
        if remove and self._own and self._lock is not None:
            # What cannot be removed stays: the reason why the folder is let go is the one to be told.
            with contextlib.suppress(OSError):
                self._clear()
                if os.name == "nt":  # no open file can be removed there
                    self._lock.close()
                (self.folder / _LOCK).unlink(missing_ok=True)
                self.folder.rmdir()
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def _clear(self) -> None:
        names = [_STATE, _MANIFEST, *(self._path(column).name for column in self.columns)]
        names += [entry.name for entry in self.folder.iterdir() if entry.suffix in (".tmp", ".bin")]
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def _path(self, column: str) -> Path:
        return self.folder / f"{column}.bin"

    def _earlier_manifest(self) -> dict | None:
        path = self.folder / _MANIFEST
        if not path.exists():
            return None
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
            if earlier.get("format") == FORMAT:
                return earlier
        except (OSError, ValueError, AttributeError):
            pass
        raise InputError(f"'{path}' is damaged; overwrite=True starts the collection anew")

    def _refuse_another(self, earlier: Mapping[str, object]) -> None:
        difference = differing(self.manifest, earlier)
        if difference:
            raise InputError(
                f"'{self.folder}' was begun with something else: {difference}; use what it was begun with, "
                "or overwrite=True to start anew"
            )

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except ExistingOutputError:
            raise
        except InputError as error:
            if isinstance(error.__cause__, OSError):
                raise InputError(disk_error(error.__cause__, self.folder, resumable=self._can_go_on)) from error
            raise
        except OSError as error:
            raise InputError(disk_error(error, self.folder, resumable=self._can_go_on)) from error

    @property
    def _can_go_on(self) -> bool:
        """Whether there is something in the folder that an interrupted collection goes on with."""
        return self._resumable and bool(self.kept)

    # ---- writing ---------------------------------------------------------------------------------------------------

    def append(self, rows: Mapping[str, np.ndarray], kept: Sequence[int] | np.ndarray) -> None:
        """Add one row per kept image to every column, in memory order (row, value); counts from the next commit on."""
        with self._disk():
            for name, (kind, width) in self.columns.items():
                values = np.ascontiguousarray(rows[name], kind).reshape(len(kept), width)
                view = values.data.cast("B") if values.size else b""
                while len(view):
                    view = view[self._files[name].write(view) :]
        self.kept.extend(int(number) for number in kept)

    def commit(self) -> None:
        """Make everything appended so far survive any end of the process."""
        state: dict[str, Any] = {
            "n_done": np.int64(self.n_done),
            "kept": np.array(self.kept, np.int64),
            "skipped": np.array([number for number, _ in self.skipped], np.int64),
            "reasons": np.frombuffer(json.dumps([reason for _, reason in self.skipped]).encode(), np.uint8),
        }
        for name, total in self.sums.items():
            state[f"high.{name}"], state[f"low.{name}"] = total.high, total.low
        buffer = io.BytesIO()
        np.savez(buffer, **state)
        with self._disk():
            for stream in self._files.values():
                os.fsync(stream.fileno())
            write_atomically(self.folder / _STATE, buffer.getvalue())

    def _read_state(self) -> None:
        path = self.folder / _STATE
        if not path.exists():
            return
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as state:
                self.n_done = int(state["n_done"])
                self.kept = state["kept"].tolist()
                reasons = json.loads(state["reasons"].tobytes() or b"[]")
                self.skipped = list(zip(state["skipped"].tolist(), reasons, strict=True))
                for name, total in self.sums.items():
                    total.high[...], total.low[...] = state[f"high.{name}"], state[f"low.{name}"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"'{path}' is damaged ({error}); overwrite=True starts the collection anew") from None

    def _drop_uncommitted(self, name: str) -> None:
        kind, width = self.columns[name]
        n_bytes = len(self.kept) * width * kind.itemsize
        stream = self._files[name]
        if os.fstat(stream.fileno()).st_size < n_bytes:
            raise InputError(f"'{self._path(name)}' is shorter than it was; overwrite=True starts the collection anew")
        stream.truncate(n_bytes)
        stream.seek(n_bytes)

    # ---- reading ---------------------------------------------------------------------------------------------------

    @property
    def keys(self) -> list[str]:
        """Name of each row's image."""
        return [self.manifest["images"][number][0] for number in self.kept]

    @property
    def skipped_keys(self) -> list[tuple[str, str]]:
        """Name of each skipped image, and why."""
        return [(self.manifest["images"][number][0], reason) for number, reason in self.skipped]

    def read(self, name: str, rows: np.ndarray, part: slice | None = None) -> np.ndarray:
        """Read some rows of a column, (row, value), or the part ``values[start:stop]`` of each."""
        kind, width = self.columns[name]
        start, stop = (part.start, part.stop) if part is not None else (0, width)
        rows = np.asarray(rows)
        values = np.empty((len(rows), stop - start), kind)
        # Whole rows that follow each other are read at once.
        together = stop - start == width and len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1
        pieces = [(int(rows[0]), values)] if together else [(int(row), values[i]) for i, row in enumerate(rows)]
        stream = self._files[name]
        for row, target in pieces:
            stream.seek((row * width + start) * kind.itemsize)
            view = target.data.cast("B")
            while len(view):
                n_read = stream.readinto(view)
                if not n_read:
                    raise InputError(f"'{self._path(name)}' ends too early; overwrite=True starts the collection anew")
                view = view[n_read:]
        return values

    def maps(self, values: str, exponents: str) -> MapReader:
        """Read float16 maps back as float32: column `values` times two to the power of column `exponents`."""
        powers = np.exp2(self.read(exponents, np.arange(len(self.kept)))[:, 0].astype(np.float32))

        def read(rows: np.ndarray, part: slice) -> np.ndarray:
            maps = self.read(values, rows, part).astype(np.float32)
            maps *= powers[rows][:, np.newaxis]
            return maps

        return MapReader(len(self.kept), self.columns[values][1], read)


def differing(now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    """Say in a few words where two manifests differ; empty where they agree."""
    for name, called in _CALLED.items():
        if now.get(name) == then.get(name):
            continue
        ours, theirs = now.get(name), then.get(name)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            name = next(key for key in [*ours, *theirs] if ours.get(key) != theirs.get(key))
            return f"{called} ({name} {theirs.get(name)!r} then, {ours.get(name)!r} now)"
        if name == "images":
            return f"{called} ({_differing_image(ours or [], theirs or [])})"
        if name in ("weights_hash", "images_digest"):
            return called
        if name == "layers":
            ours, theirs = ([layer[0] for layer in layers or []] for layers in (ours, theirs))
        return f"{called} ({theirs!r} then, {ours!r} now)"
    return ""


def _differing_image(ours: list, theirs: list) -> str:
    now, then = dict(ours), dict(theirs)
    for key in sorted(now.keys() | then.keys()):
        if key not in then:
            return f"'{key}' is new"
        if key not in now:
            return f"'{key}' is gone"
        if now[key] != then[key]:
            return f"'{key}' has changed"
    return "their order"


def disk_error(error: OSError, path: Path, *, resumable: bool = False) -> str:
    """Say why something could not be written, and how to go on."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "No space left" in str(error):
        if resumable:
            return f"the disk is full at '{path}'; what was done is kept: free some space and go on with resume=True"
        return f"the disk is full at '{path}'; free some space and try again"
    return f"cannot write to '{path}': {(error.strerror or str(error)).lower()}"


def _locked(folder: Path) -> io.BufferedWriter:
    """Keep other processes out of a folder as long as the file returned is open."""
    lock = open(folder / _LOCK, "wb")  # noqa: SIM115  (open as long as the caller wants)
    try:
        import fcntl
    except ImportError:  # Windows has no advisory locks of this kind
        return lock
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ExistingOutputError(f"another process is collecting into '{folder}'; wait for it") from None
    return lock


def _is_own(name: str) -> bool:
    return name in (_MANIFEST, _STATE, _LOCK) or name.endswith((".bin", ".tmp"))


def is_begun(folder: Path) -> bool:
    """Tell whether a folder holds a collection of one process, begun or finished."""
    return (folder / _MANIFEST).exists()


def remove_spool(folder: str | os.PathLike) -> None:
    """Remove a collection's working folder once its statistics are saved.

    Parameters
    ----------
    folder : path-like
        The folder; one that is not there is fine.

    Raises
    ------
    ExistingOutputError
        The folder holds anything else, or another process writes to it; it is left as it is.
    """
    folder = Path(folder)
    if not folder.exists():
        return
    _refuse_strangers(folder)
    lock = _locked(folder)
    if os.name == "nt":  # where an open file cannot be removed
        lock.close()
    shutil.rmtree(folder)
    lock.close()


def _refuse_strangers(folder: Path) -> None:
    strangers = [entry.name for entry in folder.iterdir() if not _is_own(entry.name)]
    if strangers:
        raise ExistingOutputError(
            f"'{folder}' is no collection's working folder (it holds '{strangers[0]}') and was left as it is"
        )
