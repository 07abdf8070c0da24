"""Class images -> ClassStatistics: one streaming pass that can be interrupted, resumed and split over machines."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import AmbiguousClassError, InputError, SettingsError, StochDeconvError
from stochdeconv.images.folders import find_images, image_keys
from stochdeconv.networks.classes import find_folder_class
from stochdeconv.parsing import read_list
from stochdeconv.settings import Settings, check_count, read_settings, takes
from stochdeconv.statistics.class_statistics import ClassStatistics
from stochdeconv.statistics.contexts import MAX_CONTEXTS
from stochdeconv.statistics.finalisation import finalise
from stochdeconv.statistics.measurement import Progress, measure, measured_layers, open_spool
from stochdeconv.statistics.shards import BLOCK_ROWS, ShardFile
from stochdeconv.statistics.spool import FORMAT, FORMAT_VERSION, Spool, differing

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.statistics.measured import MeasuredLayer

Source = str | os.PathLike | Iterable[str | os.PathLike]


@dataclass(frozen=True, kw_only=True)
class CollectSettings(Settings):
    """What is measured, and of which images.

    Attributes
    ----------
    class_name : str, ``NAME``, optional
        Name, wnid or index of the class; by default the folder's name, where the network knows it. A network without class scores
        knows none.
    layers : str or sequence of str or int, ``LAYER,LAYER,…``, optional
        Layers to measure, by name or number (0 is the input); the network's default layers by default. The image itself, ``"input"``,
        always comes first.
    n_components : int
        Layout components kept per layer (of the image itself at least 192, which are small).
    layout_size : int
        Rows and columns of a layout, at most: maps are averaged into them.
    batch_size : int
        Images the network sees at once; the last batch is filled up, so that every image is computed alike.
    n_contexts : int
        Kinds of surroundings of a place told apart for the sampler `local`, at most; no more than 4096. 0 leaves its statistics out: a
        collection is faster by a tenth or so and needs half the disk while it runs.
    exemplars : int
        Photographs kept as they are, drawn by their names, for the sampler `exemplars`: the file then holds photographs and says
        so. 0 keeps none; there are no more than rows, 2,048.
    shard : str or (i, n), ``I/N``, optional
        Every N-th image from the I-th on, I from 1 to N; `merge` puts shards together.
    """

    counts = ("n_components", "layout_size", "batch_size")

    class_name: str | None = None
    layers: str | Sequence[str | int] | None = None
    n_components: int = 64
    layout_size: int = 14
    batch_size: int = 32
    n_contexts: int = 512
    exemplars: int = 0
    shard: str | tuple[int, int] | None = None

    def _settle(self) -> None:
        super()._settle()
        if self.layers is not None:
            read_list(self.layers, "layer")
        check_count("n_contexts", self.n_contexts, at_least=0)
        if self.n_contexts > MAX_CONTEXTS:
            raise SettingsError(
                f"n_contexts= is at most {MAX_CONTEXTS}, with tables of each beside each; got {self.n_contexts}"
            )
        check_count("exemplars", self.exemplars, at_least=0)
        self.part()

    def part(self) -> tuple[int, int]:
        """Return which part of the images is measured, (i, n); all of them are (1, 1)."""
        if self.shard is None:
            return 1, 1
        text = self.shard if isinstance(self.shard, str) else "/".join(map(str, self.shard))
        match = re.fullmatch(r"([0-9]+)/([0-9]+)", text.strip())
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise SettingsError(f"shard= is I/N with 1 <= I <= N; got {text}")
        return int(match[1]), int(match[2])


@takes(CollectSettings)
def collect(
    model: ImageModel,
    images: Source,
    settings: CollectSettings | None = None,
    *,
    spool: str | os.PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    **keywords: Any,
) -> ClassStatistics | Spool:
    """Measure what the images of a class have in common, and how they vary, in the eyes of a network.

    The images are read once. What was measured goes to the `spool` folder, in rows; memory does not grow with the number of
    images. The same images, network and settings give the same bytes, interrupted or not, in one pass or in shards.

    Parameters
    ----------
    model : ImageModel
        The network; run in float32.
    images : path-like or iterable of path-like
        A folder, a text file of paths, or the paths (see ``folders.find_images``).
    settings : CollectSettings, optional
    spool : path-like, optional
        Working folder; it stays, so that the statistics can be saved before ``spool.remove_spool`` removes it. By default a
        temporary one, which an interrupted run loses.
    resume, overwrite : bool
        What to do with measurements already in `spool`: go on with them, or begin anew.
    progress : callable, optional
        ``progress(n_images, n_all, message)`` after every batch and before every layer's components.
    **keywords
        Fields of `CollectSettings`, in its place.

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
    settings = read_settings(CollectSettings, settings, keywords, model=model)
    layers = None if settings.layers is None else read_list(settings.layers, "layer", model.find_layer)
    # Read once: an iterator of paths would be empty the second time.
    images = images if isinstance(images, str | os.PathLike) else list(images)
    paths, listed = list_images(images)
    number, n_shards = settings.part()
    own = slice(number - 1, None, n_shards)
    if not paths[own]:
        raise InputError(f"shard {number}/{n_shards} of {len(paths)} images is empty; at most {len(paths)} shards")
    measured = measured_layers(model, layers, layout_size=settings.layout_size, n_contexts=settings.n_contexts)
    if layers is None and not model.default_layers:
        warnings.warn(
            f"'{model.name}' has no layer with positions, a convolution's: only the images themselves are measured, which is not enough "
            "for generate",
            stacklevel=2,
        )
    record = settings.record("class_name", "shard", layers=layers)
    manifest = _manifest_of(model, class_of(model, images, settings.class_name), measured, record)
    manifest |= {
        "shard": [number, n_shards],
        "n_listed": len(listed),
        "images_digest": hashlib.sha256(json.dumps(listed).encode()).hexdigest(),
        "images": listed[own],
    }
    kept = open_spool(manifest, spool, resume=resume, overwrite=overwrite)
    try:
        measure(model, paths[own], kept, measured, progress)
        if settings.shard is not None:
            return kept
        statistics = finalise(kept, progress)
    except BaseException as error:
        # Without a row there is nothing that `resume` could go on with.
        kept.close(remove=isinstance(error, StochDeconvError) and not kept.kept)
        raise
    kept.close()
    return statistics


def _manifest_of(
    model: ImageModel, class_: dict | None, measured: Sequence[MeasuredLayer], settings: dict[str, Any]
) -> dict[str, Any]:
    """Write down what is measured of every image, by which network and of what class."""
    from stochdeconv import backend

    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model_name": model.name,
        "model_source": model.source,
        "weights_hash": model.weights_hash,
        "preprocessing": dict(model.preprocessing),
        "input_size": list(model.input_size),
        "class": class_,
        "layers": [[layer.name, layer.shape, layer.layout_shape, layer.places] for layer in measured],
        "settings": settings,
        "versions": backend.versions(),
    }


def list_images(images: Source) -> tuple[list[Path], list[list[Any]]]:
    """List the images of a collection, and by what a later one knows them: their names there, and their sizes in bytes."""
    paths = find_images(images)
    keys = image_keys(images, paths)
    return paths, [[key, _file_size(path)] for key, path in zip(keys, paths, strict=True)]


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1  # a broken link: listed, then named among the skipped


def class_of(model: ImageModel, images: object, class_name: str | None) -> dict | None:
    """Tell the class of a collection as its manifest holds it: the one named, else the folder's where the network knows it."""
    if class_name is not None:
        entry = model.find_class(class_name)
    elif not model.class_names:
        return None
    elif isinstance(images, str | os.PathLike) and Path(images).is_dir():
        try:
            of_folder = find_folder_class(Path(os.path.abspath(images)).name, model.class_names)
        except AmbiguousClassError as error:
            raise AmbiguousClassError(f"{error} with class_name=") from None
        if of_folder is None:
            return None
        entry = of_folder
    else:
        return None
    return {"index": int(entry.index), "wnid": entry.wnid, "label": entry.label}


# ---- shards ----------------------------------------------------------------------------------------------------------


def merge(
    paths: Iterable[str | os.PathLike], *, spool: str | os.PathLike | None = None, progress: Progress | None = None
) -> ClassStatistics:
    """Join the shards of a collection: the same statistics, to the byte, as one pass over all images.

    Parameters
    ----------
    paths : iterable of path-like
        The files of all shards, in any order.
    spool : path-like, optional
        Working folder for all rows together (as large as the shards), begun anew and removed afterwards; by default one in
        the system's folder for temporary files.
    progress : callable, optional
        ``progress(n_rows, n_all, message)``.

    Returns
    -------
    ClassStatistics

    Raises
    ------
    MissingInputError, FileFormatError
        A file is missing, damaged, or holds no shard.
    InputError
        A shard is missing or there twice, or the shards are of different images, settings or networks.
    """
    if isinstance(paths, str | os.PathLike):
        raise InputError(f"expected the files of all shards, one of which '{paths}' may be: give a list of them")
    with contextlib.ExitStack() as stack:
        shards = [stack.enter_context(ShardFile(path)) for path in paths]
        manifest = _joined_manifest(shards)
        shards.sort(key=lambda shard: shard.manifest["shard"][0])
        joined = open_spool(manifest, spool, overwrite=True, resumable=False)
        stack.callback(joined.close, remove=True)
        _join(shards, joined, progress)
        if not joined.kept:
            reason = joined.skipped[0][1]
            raise InputError(f"none of the {joined.manifest['n_listed']} images can be read; the first: {reason}")
        return finalise(joined, progress)


def _joined_manifest(shards: Sequence[ShardFile]) -> dict:
    if not shards:
        raise InputError("nothing to merge: give the files of all shards")
    first = shards[0]
    version = first.manifest["format_version"]
    if version != FORMAT_VERSION:
        raise InputError(
            f"'{first.path}' was measured by another version of the program (format {version}, here {FORMAT_VERSION}): collect the shards "
            "anew, all with one version"
        )
    n_shards = first.manifest["shard"][1]
    where: dict[int, Path] = {}
    for shard in shards:
        number, of = shard.manifest["shard"]
        own = {**shard.manifest, "shard": [of], "images": []}
        difference = differing({**first.manifest, "shard": [n_shards], "images": []}, own)
        if difference:
            raise InputError(
                f"'{shard.path}' and '{first.path}' are not shards of one collection: they differ in {difference}"
            )
        if number in where:
            raise InputError(f"shard {number}/{of} is there twice: '{where[number]}' and '{shard.path}'")
        where[number] = shard.path
    missing = [f"{number}/{n_shards}" for number in range(1, n_shards + 1) if number not in where]
    if missing:
        raise InputError(
            f"shards {', '.join(missing)} are missing; collect each as a shard I/{n_shards} and merge all {n_shards}"
        )
    images: list = [None] * first.manifest["n_listed"]
    for shard in shards:
        images[shard.manifest["shard"][0] - 1 :: n_shards] = shard.manifest["images"]
    return {**first.manifest, "shard": [1, 1], "images": images}


def _join(shards: Sequence[ShardFile], joined: Spool, progress: Progress | None) -> None:
    """Copy the rows of all shards, in the order of the images, and add up their sums."""
    n_shards = len(shards)
    numbers = np.concatenate([shard.kept * n_shards + place for place, shard in enumerate(shards)])
    owner = np.repeat(np.arange(n_shards), [len(shard.kept) for shard in shards])
    row = np.concatenate([np.arange(len(shard.kept)) for shard in shards])
    order = np.argsort(numbers)
    for start in range(0, len(order), BLOCK_ROWS):
        block = order[start : start + BLOCK_ROWS]
        rows = {}
        for name, (kind, width) in joined.columns.items():
            rows[name] = np.empty((len(block), width), kind)
            for place in np.unique(owner[block]):
                # Rows of one shard follow each other within a block, because both are sorted by image.
                mine = np.flatnonzero(owner[block] == place)
                first, last = row[block[mine[0]]], row[block[mine[-1]]]
                rows[name][mine] = shards[place].read(name, int(first), int(last) + 1)
        joined.append(rows, numbers[block])
        if progress is not None:
            progress(start + len(block), len(order), "joining shards")
    for place, shard in enumerate(shards):
        joined.skipped.extend((number * n_shards + place, reason) for number, reason in shard.skipped)
        for name, total in joined.sums.items():
            total.merge(*shard.sums[name])
    joined.skipped.sort()
    joined.n_done = joined.manifest["n_listed"]
