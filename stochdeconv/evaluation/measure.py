"""From image files to numbers: every picture is opened once, looked at by the judge, and forgotten."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import ClassNotFoundError, InputError, MissingInputError
from stochdeconv.evaluation import objects, pixels
from stochdeconv.evaluation.classes import ClassKey
from stochdeconv.evaluation.judge import BATCH, FaceJudge, Judge
from stochdeconv.evaluation.measurements import Measurements
from stochdeconv.evaluation.photographs import MeasuredPhotographs
from stochdeconv.images import files as image_files
from stochdeconv.images.folders import find_class_folders, find_images, hold_out
from stochdeconv.settings import Settings, check_number, read_settings, takes

if TYPE_CHECKING:
    from stochdeconv.networks.classes import ClassName
    from stochdeconv.networks.image_model import ImageModel


@dataclass(frozen=True, kw_only=True)
class MeasureSettings(Settings):
    """Which photographs are measured, and at what size.

    Attributes
    ----------
    class_name : str, ``NAME``, optional
        The class of one folder of photographs; by default the folder's name. A tree has a folder a class, named by it.
    size : int, optional
        Side in pixels of the images the photographs will be compared with; the judge's own by default.
    held_out : float, ``PART``, optional
        Only the last part of each class, sorted by name, such as 0.2: what statistics that held out as much have not seen, see
        `folders.hold_out`; by default all.
    """

    counts = ("size",)

    class_name: str | None = None
    size: int | None = None
    held_out: float | None = None

    def _settle(self) -> None:
        super()._settle()
        check_number("held_out", self.held_out, above=0, below=1)

    def photographs(self, images: str | os.PathLike) -> dict[str, list[Path]]:
        """Find the photographs to measure, class by class, without asking the judge.

        Parameters
        ----------
        images : path-like
            One folder (or text file of paths), or a tree with a folder a class.

        Returns
        -------
        dict of str to list of Path
            What a class is called there -> its photographs, sorted by name.

        Raises
        ------
        InputError, MissingInputError
            Nothing is there, a class has too few to hold any out, or a tree is to be of one class.
        """
        root = Path(images)
        if not root.exists():
            raise MissingInputError(f"no such folder or list of photographs: '{root}'")
        folders = find_class_folders(root)
        if folders and self.class_name is not None:
            raise InputError(
                f"'{root}' is a tree of {len(folders)} class folders, each named by its class: leave class_name= out, or give one of them"
            )
        own_name = root.resolve().name if root.is_dir() else root.stem
        sources = {folder.name: folder for folder in folders} or {self.class_name or own_name: root}
        photographs = {}
        for name, source in sources.items():
            paths = find_images(source)
            photographs[name] = paths if self.held_out is None else hold_out(paths, part=self.held_out)[1]
            if not photographs[name]:
                raise InputError(
                    f"'{source}' holds {len(paths)} photographs, too few to hold {self.held_out} of them out: take a larger part or all"
                )
        return photographs


@takes(MeasureSettings)
def measure_photographs(
    images: str | os.PathLike,
    judge: ImageModel,
    settings: MeasureSettings | None = None,
    *,
    progress: Callable[[int, int, str], None] | None = None,
    **keywords: Any,
) -> MeasuredPhotographs:
    """Measure photographs once, for comparisons where the pictures themselves cannot be given.

    Parameters
    ----------
    images : path-like
        One folder (or text file of paths), or a tree with a folder a class.
    judge : ImageModel
        The classifier that will judge the images, too.
    settings : MeasureSettings, optional
    progress : callable, optional
        Called with (photographs measured, photographs in all, what is measured).
    **keywords
        Fields of `MeasureSettings`, in its place.

    Returns
    -------
    MeasuredPhotographs
        Its `save` writes the file that `compare` takes as `real`.

    Raises
    ------
    StochDeconvError
        Nothing is there, a photograph cannot be read, or the judge does not know a class or knows two folders as the same.
    """
    settings = read_settings(MeasureSettings, settings, keywords, judge=judge)
    photographs = settings.photographs(images)
    asking = Judge(judge)
    size = judge.input_size if settings.size is None else (settings.size, settings.size)
    is_tree = len(find_class_folders(images)) > 0
    names = {word: _find_class(judge, word, is_tree=is_tree) for word in photographs}
    if len(set(names.values())) < len(names):
        raise InputError(f"two folders below '{images}' are of one class, as '{judge.name}' names them; join them")
    n_photographs, n_measured = sum(map(len, photographs.values())), 0

    def tick(n: int) -> None:
        nonlocal n_measured
        n_measured += n
        if progress is not None:
            progress(n_measured, n_photographs, "measuring photographs")

    classes = {
        ClassKey(name.wnid, name.label): measure(
            photographs[word], asking, size=size, class_index=name.index, tick=tick
        )
        for word, name in names.items()
    }
    return MeasuredPhotographs.by(asking, classes, size)


def _find_class(judge: ImageModel, word: str, *, is_tree: bool) -> ClassName:
    try:
        return judge.find_class(word)
    except ClassNotFoundError as error:
        if is_tree:
            raise
        raise ClassNotFoundError(f"{error}; the class of one folder is its name, or class_name=") from None


def measure(
    paths: Sequence[Path],
    judge: Judge | FaceJudge,
    *,
    size: tuple[int, int],
    class_index: int | None,
    tick: Callable[[int], None],
) -> Measurements:
    """Measure image files at one size.

    Parameters
    ----------
    paths : sequence of path
    judge : Judge or FaceJudge
    size : tuple of int
        (height, width) of the generator's images: every picture passes through it before the judge sees it.
    class_index : int or None
        The judge's index of the class.
    tick : callable
        Called with the number of pictures just done.

    Returns
    -------
    Measurements
    """
    weights = judge.class_weights(class_index)
    parts: list[dict[str, np.ndarray]] = []
    for first in range(0, len(paths), BATCH):
        batch = _load(paths[first : first + BATCH], size)
        seen = judge.look(batch)
        part = {
            "features": seen.features,
            "logits": seen.logits,
            "probabilities": seen.probabilities,
            "spectra": pixels.radial_spectra(batch),
            "kurtoses": pixels.gradient_kurtosis(batch),
            "gradients": pixels.gradient_histograms(batch),
            "colors": pixels.color_histograms(batch),
        }
        if weights is not None and seen.feature_maps is not None:
            part["cams"] = objects.class_activation_maps(seen.feature_maps, weights)
        if seen.faces is not None:
            part["faces"] = seen.faces
        parts.append(part)
        tick(len(batch))
    columns: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Measurements(**{"cams": None, **columns})


def measure_features(
    paths: Sequence[Path], judge: Judge, *, size: tuple[int, int], tick: Callable[[int], None]
) -> np.ndarray:
    """Measure only the judge's feature, for the training photographs: (photograph, feature)."""
    parts = []
    for first in range(0, len(paths), BATCH):
        batch = _load(paths[first : first + BATCH], size)
        parts.append(judge.look(batch).features)
        tick(len(batch))
    return np.concatenate(parts)


def _load(paths: Sequence[Path], size: tuple[int, int]) -> np.ndarray:
    return np.stack([image_files.load_image(path, size) for path in paths])
