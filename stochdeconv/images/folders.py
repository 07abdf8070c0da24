"""Which photographs a collection is made of: searching folders and lists, naming what was found, holding some back."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from stochdeconv.errors import InputError, MissingInputError

#: Endings (lower case) that make a file in a folder an image; what a file really is, is read from its content.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"}
    | {".jp2", ".avif", ".mpo", ".tga"}
)


def find_images(source: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Path]:
    """List the images of a collection, in the order everything else keeps.

    Parameters
    ----------
    source : path-like or iterable of path-like
        A folder (searched through, links followed, only loops skipped; hidden files left out), a text file with one
        path a line (relative to that file; empty lines and lines starting with ``#`` skipped), or the paths themselves.

    Returns
    -------
    list of Path
        Sorted by ``image_keys``.

    Raises
    ------
    MissingInputError
        The folder or list does not exist.
    InputError
        It holds no image, or names one twice.
    """
    if isinstance(source, str | os.PathLike):
        root = Path(source)
        if not root.exists():
            raise MissingInputError(f"no such folder or list of images: '{root}'")
        paths = list(_walk(root, ())) if root.is_dir() else _read_list(root)
        what = f"'{root}'"
    else:
        paths = [Path(path) for path in source]
        what = "the list of images"
    if not paths:
        raise InputError(f"{what} holds no image; images end in {', '.join(sorted(IMAGE_SUFFIXES))}")
    keys = image_keys(source, paths)
    ordered = sorted(zip(keys, paths, strict=True))
    for (key, _), (after, _) in itertools.pairwise(ordered):
        if key == after:
            raise InputError(f"{what} names '{key}' twice; each image counts once")
    return [path for _, path in ordered]


def hold_out(paths: Sequence[Path], *, part: float = 0.2) -> tuple[list[Path], list[Path]]:
    """Part photographs that may be learned from and the last ones by name, that are kept to measure with.

    Parameters
    ----------
    paths : sequence of path
        Sorted, as `find_images` gives them.
    part : float
        How much is kept, rounded down to whole photographs.

    Returns
    -------
    seen, held_out : list of path

    Raises
    ------
    InputError
        The part is none.
    """
    if not 0 <= part < 1:
        raise InputError(f"the part of the photographs to hold out is from 0 to less than 1 (0.2: a fifth); got {part}")
    n_seen = len(paths) - int(len(paths) * part)
    return list(paths[:n_seen]), list(paths[n_seen:])


def image_keys(source: str | os.PathLike | Iterable[str | os.PathLike], paths: Iterable[Path]) -> list[str]:
    """Name each image of a collection independently of where the collection lies.

    Parameters
    ----------
    source : path-like or iterable of path-like
        What was given to ``find_images``.
    paths : iterable of Path
        What came of it.

    Returns
    -------
    list of str
        Paths with ``/``, relative to the folder; for a list, relative to the deepest folder that holds all its images.
    """
    paths = list(paths)
    if isinstance(source, str | os.PathLike) and Path(source).is_dir():
        keys = [path.relative_to(source).as_posix() for path in paths]
    else:
        absolute = [Path(os.path.abspath(path)) for path in paths]
        root = os.path.commonpath([path.parent for path in absolute]) if absolute else ""
        keys = [path.relative_to(root).as_posix() for path in absolute]
    # A name that is no valid UTF-8 on disk must still fit into JSON and HDF5.
    return [key.encode("utf-8", "backslashreplace").decode("utf-8") for key in keys]


def find_class_folders(root: str | os.PathLike) -> list[Path]:
    """Tell a tree of class folders from a folder of images.

    Parameters
    ----------
    root : path-like
        A folder.

    Returns
    -------
    list of Path
        The folders directly below ``root`` that hold images, sorted; empty where ``root`` holds an image itself (then
        it is one class).
    """
    root = Path(root)
    if not root.is_dir() or any(_is_image(path) for path in root.iterdir()):
        return []
    folders = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted((path for path in folders if next(_walk(path, (_identity(root),)), None)), key=lambda path: path.name)


def _is_image(path: Path) -> bool:
    if path.name.startswith(".") or path.suffix.lower() not in IMAGE_SUFFIXES:
        return False
    # A broken link is listed, so that the collection can name it as unreadable.
    return path.is_file() or (path.is_symlink() and not path.exists())


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _walk(folder: Path, ancestors: tuple[tuple[int, int], ...]):
    try:
        identity = _identity(folder)
        if identity in ancestors:
            return
        children = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"cannot look into the folder '{folder}': {(error.strerror or str(error)).lower()}") from error
    for child in children:
        if child.is_dir():
            if not child.name.startswith("."):
                yield from _walk(child, (*ancestors, identity))
        elif _is_image(child):
            yield child


def _read_list(path: Path) -> list[Path]:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f"'{path}' is one image; a folder of images or a text file of paths was expected")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read '{path}' as a text file of paths, one a line: {error}") from error
    names = [line.strip() for line in lines]
    return [path.parent / name for name in names if name and not name.startswith("#")]
