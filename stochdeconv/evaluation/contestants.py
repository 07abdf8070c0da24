"""What enters a comparison: run folders by contestant, photographs by class, and which belongs to which."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from stochdeconv.errors import InputError, MissingInputError, closest
from stochdeconv.evaluation import COPYING_KEYS, NOISE_FLOOR, REAL
from stochdeconv.evaluation.classes import ClassKey
from stochdeconv.evaluation.photographs import SUFFIX
from stochdeconv.images.folders import find_class_folders, find_images
from stochdeconv.methods.runs import RECORD, TARGETS, read_record
from stochdeconv.networks.classes import comparable

if TYPE_CHECKING:
    from stochdeconv.evaluation.measurements import Measurements
    from stochdeconv.evaluation.photographs import MeasuredPhotographs


@dataclass(frozen=True, eq=False)
class Run:
    """One run folder: its record, its images in order, its class, and where the patches of images are from that photographs made.

    ``sources`` holds for each image (row, column, 3) as of `collages.Collage`; it is empty of other images.
    """

    folder: Path
    record: Mapping[str, Any]
    images: tuple[Path, ...]
    class_key: ClassKey | None
    sources: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True, eq=False)
class Contestant:
    """A name and its runs, one or more a class."""

    name: str
    runs: tuple[Run, ...]

    @property
    def role(self) -> str:
        """``"ours"`` (made by generate), ``"baseline"`` (made by maximize, without statistics of the class) or ``"other"``."""
        commands = {run.record.get("command") for run in self.runs}
        if "maximize" in commands and any(run.record.get("statistics_hash") for run in self.runs):
            return "other"
        roles: dict[tuple[str, ...], str] = {("generate",): "ours", ("maximize",): "baseline"}
        return roles.get(tuple(map(str, commands)), "other")


@dataclass(frozen=True, eq=False)
class ClassEntry:
    """One class of the comparison: every contestant's runs of it, and its photographs, as files or as what was measured of them."""

    class_key: ClassKey
    runs: Mapping[str, tuple[Run, ...]]
    real: tuple[Path, ...]
    train: tuple[Path, ...] = field(default=())
    measured: Measurements | None = None

    @property
    def n_real(self) -> int:
        """Number of real photographs."""
        return len(self.real) if self.measured is None else len(self.measured)

    def images(self, name: str) -> tuple[Path, ...]:
        """List a contestant's images of this class, run after run."""
        return tuple(path for run in self.runs[name] for path in run.images)

    def owed(self, name: str) -> dict[str, np.ndarray]:
        """Read what a contestant's images, (image,), owe to single photographs; NaN where they were not drawn from any."""
        return {key: np.concatenate([_owed(run, key) for run in self.runs[name]]) for key in COPYING_KEYS}

    def sources(self, name: str) -> tuple[np.ndarray | None, ...]:
        """List where the patches of a contestant's images are from, run after run; None of those no photograph was put into."""
        return tuple(sources for run in self.runs[name] for sources in run.sources or (None,) * len(run.images))


def _owed(run: Run, key: str) -> np.ndarray:
    pieces = run.record.get("pieces_of_photographs")
    values = pieces.get(key) if isinstance(pieces, Mapping) else None
    if values is None:
        return np.full(len(run.images), np.nan)
    try:
        shares = np.asarray(values, np.float64)
        if shares.shape == (len(run.images),):
            return shares
    except (TypeError, ValueError):
        pass
    raise InputError(
        f"'{run.folder / RECORD}': pieces_of_photographs says {values!r} of {key}; expected a number for each of {len(run.images)} images"
    )


def read_contestants(contestants: Mapping[str, Sequence[Path]]) -> tuple[Contestant, ...]:
    """Read every run folder.

    Parameters
    ----------
    contestants : mapping of str to sequence of path
        Name to run folders.

    Returns
    -------
    tuple of Contestant
        In the order given.

    Raises
    ------
    InputError, MissingInputError
        Nothing to compare, a reserved name, a folder named twice, missing, without run.json or without images.
    """
    if not contestants:
        raise InputError("there is nothing to compare; give at least one run folder, as DIR or NAME=DIR")
    return tuple(_read_contestant(name, folders) for name, folders in contestants.items())


def _read_contestant(name: str, folders: str | Path | Sequence[Path]) -> Contestant:
    if not name or name in (REAL, NOISE_FLOOR):
        raise InputError(f"a contestant cannot be called '{name}': that is the photographs' row; give another NAME=DIR")
    paths = [Path(folders)] if isinstance(folders, str | Path) else [Path(folder) for folder in folders]
    if not paths:
        raise InputError(f"contestant '{name}' has no run folder; give NAME=DIR")
    seen: set[Path] = set()
    runs = []
    for folder in paths:
        if folder.resolve() in seen:
            raise InputError(f"contestant '{name}' names the folder '{folder}' twice; each run counts once")
        seen.add(folder.resolve())
        runs.append(_read_run(folder))
    return Contestant(name, tuple(runs))


def _read_run(folder: Path) -> Run:
    if not folder.is_dir():
        raise MissingInputError(
            f"no such run folder: '{folder}'; expected one made by stochdeconv generate or maximize"
        )
    record = read_record(folder)
    settings = record.get("settings")
    if isinstance(settings, Mapping) and settings.get("ablate_constraints"):
        raise InputError(
            f"'{folder}' holds images of several settings (maximize --ablate-constraints); a contestant is made in one way: "
            "make a run of the setting that you want to compare"
        )
    images = tuple(sorted(folder.glob("image_[0-9]*.png")))
    if not images:
        raise InputError(f"'{folder}' holds a run.json but no image_000.png; make the run again")
    sources = _read_sources(folder / TARGETS, len(images)) if record.get("pieces_of_photographs") else ()
    named = record.get("class")
    if named is None:
        return Run(folder, record, images, None, sources)
    key = ClassKey(named.get("wnid"), named.get("label")) if isinstance(named, Mapping) else ClassKey(None, None)
    if not (key.wnid or key.label):
        raise InputError(f"'{folder / 'run.json'}': class is {named!r}; expected null or an object with wnid and label")
    return Run(folder, record, images, key, sources)


def _read_sources(path: Path, n_images: int) -> tuple[np.ndarray, ...]:
    if not path.is_file():
        return ()
    try:
        with np.load(path, allow_pickle=False) as arrays:
            sources = arrays["sources"]
    except (OSError, ValueError, KeyError, EOFError, TypeError, BadZipFile) as error:
        raise InputError(f"'{path}' does not say where the images' patches are from; make the run again") from error
    if sources.ndim != 4 or sources.shape[-1] != 3 or len(sources) < n_images or sources.dtype.kind != "i":
        raise InputError(
            f"'{path}': sources are {sources.dtype} of shape {sources.shape}; expected integers of shape ({n_images}, row, column, 3); "
            "make the run again"
        )
    return tuple(sources[:n_images])


def match_classes(
    contestants: Sequence[Contestant], real: Path | MeasuredPhotographs, train: Path | None
) -> tuple[ClassEntry, ...]:
    """Bring runs and photographs together, class by class.

    Parameters
    ----------
    contestants : sequence of Contestant
    real, train : path
        A folder of images (or text file of paths) of the one class there is, or a tree with a folder a class, named
        by wnid or label. `real` may also be measured photographs.

    Returns
    -------
    tuple of ClassEntry
        In the order in which the first contestant names the classes.

    Raises
    ------
    InputError, MissingInputError
        Contestants of different classes, a class without photographs, or photographs of another class.
    """
    class_keys: list[ClassKey] = []
    for contestant in contestants:
        for run in contestant.runs:
            if run.class_key is not None and not any(run.class_key.matches(other) for other in class_keys):
                class_keys.append(run.class_key)
    if not class_keys:
        class_keys = [ClassKey(None, None)]
    entries = []
    for class_key in class_keys:
        runs = {
            contestant.name: tuple(run for run in contestant.runs if _is_of(run, class_key, class_keys))
            for contestant in contestants
        }
        missing = [name for name, of_class in runs.items() if not of_class]
        if missing:
            raise InputError(
                f"contestant '{missing[0]}' has no images of the class '{class_key.title}', which others have; "
                f"give every contestant the same classes ({', '.join(key.title for key in class_keys)})"
            )
        training = () if train is None else _photographs(train, class_key, class_keys, option="train")
        if isinstance(real, Path):
            photographs = _photographs(real, class_key, class_keys, option="real")
            entries.append(ClassEntry(class_key, runs, photographs, training))
        else:
            entries.append(ClassEntry(class_key, runs, (), training, measured=real.of(class_key)))
    return tuple(entries)


def _is_of(run: Run, class_key: ClassKey, class_keys: Sequence[ClassKey]) -> bool:
    if run.class_key is not None:
        return run.class_key.matches(class_key)
    if len(class_keys) > 1:
        raise InputError(
            f"the run '{run.folder}' carries no class, and several classes are compared; compare it on its own"
        )
    return True


def _photographs(root: Path, class_key: ClassKey, class_keys: Sequence[ClassKey], *, option: str) -> tuple[Path, ...]:
    if not root.exists():
        raise MissingInputError(f"no such folder of photographs: '{root}' ({option}=)")
    if root.suffix == SUFFIX:
        raise InputError(
            f"{option}= shows the photographs nearest to the images, and '{root}' holds figures alone: give their folder"
        )
    folders = find_class_folders(root)
    if not folders:
        if len(class_keys) > 1:
            titles = ", ".join(key.title for key in class_keys)
            raise InputError(
                f"{option}='{root}' is one folder of images, but several classes are compared ({titles}); expected a folder a class in it"
            )
        if re.fullmatch(r"n\d{8}", root.name) and class_key.wnid and root.name != class_key.wnid:
            raise InputError(
                f"{option}='{root}' holds another class than the images, which are of '{class_key.title}' ({class_key.wnid})"
            )
        return tuple(find_images(root))
    if class_key.key == "images":
        raise InputError(
            f"the runs carry no class, so {option}= must be one folder of images; '{root}' is a tree of {len(folders)} folders"
        )
    names = {comparable(folder.name): folder for folder in folders}
    for word in (class_key.wnid, class_key.label):
        if word and comparable(word) in names:
            return tuple(find_images(names[comparable(word)]))
    folder_names = [folder.name for folder in folders]
    near = closest(class_key.label or "", folder_names) or closest(class_key.wnid or "", folder_names)
    raise InputError(
        f"{option}='{root}' has no folder for the class '{class_key.title}' ({class_key.wnid or 'no wnid'}); "
        f"closest: {near or 'none'}; folders are named by wnid or label"
    )


def find_warnings(contestants: Sequence[Contestant], *, judge_hash: str | None) -> list[str]:
    """List what a reader should know of the runs first: a judge of its own images, unfinished runs, unequal numbers.

    A judge without a hash is no network; its figures do not grow with the number of images.
    """
    warnings = []
    for contestant in contestants:
        for run in contestant.runs:
            model = run.record.get("model")
            if judge_hash and isinstance(model, Mapping) and model.get("weights_hash") == judge_hash:
                warnings.append(
                    f"The judge made the images of '{contestant.name}' itself ({run.folder.name}): its figures flatter them."
                )
            n_promised = run.record.get("n_images")
            if isinstance(n_promised, int) and n_promised != len(run.images):
                warnings.append(f"'{run.folder}' holds {len(run.images)} images; its record says {n_promised}.")
            elif run.record.get("complete") is False:
                warnings.append(f"The run '{run.folder}' was not finished.")
    numbers = {contestant.name: sum(len(run.images) for run in contestant.runs) for contestant in contestants}
    if judge_hash and len(set(numbers.values())) > 1:
        listed = ", ".join(f"{name} {n}" for name, n in numbers.items())
        warnings.append(
            f"Contestants differ in their number of images ({listed}): Vendi score and coverage grow with it."
        )
    return list(dict.fromkeys(warnings))
