"""Sweeps: the same photographs dreamt at many layers and for many steps, and what recognisers see before and after."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import SettingsError
from stochdeconv.methods.amplification import Amplified, dream_loss, parse_layers, warn_where_nothing_fired
from stochdeconv.methods.octaves import Octaves
from stochdeconv.methods.recognisers import Recogniser, Witness, check_judge, gather_witnesses
from stochdeconv.parsing import read_list, whole_number
from stochdeconv.settings import read_settings, source_of, takes

if TYPE_CHECKING:
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.results import OptimizationResult, Step


@dataclass(frozen=True, kw_only=True)
class SweepSettings(Octaves):
    """How photographs are dreamt at many layers.

    Attributes
    ----------
    n_steps : int or sequence of int, ``N,N,…``
        Steps at each octave, one column of the grid for each number.
    batch_size : int
        Photographs at a time; each is dreamt alone, its views drawn from the seed and its number.
    """

    counts = tuple(name for name in Octaves.counts if name != "n_steps")

    n_steps: str | int | Sequence[int] = (10, 50)

    def _settle(self) -> None:
        super()._settle()
        n_steps = read_list(self.n_steps, "number of steps", whole_number)
        if min(n_steps) < 1:
            raise SettingsError(f"n_steps= are numbers of steps, each at least 1; got {n_steps}")
        self._fill(n_steps=n_steps)

    @property
    def columns(self) -> list[int]:
        """Numbers of steps, a column of the grid for each."""
        return read_list(self.n_steps, "number of steps", whole_number)


@takes(SweepSettings)
def sweep(
    model: ImageModel,
    photos: str | Path | np.ndarray | Sequence[str | Path],
    layers: str | int | Sequence[str | int],
    settings: SweepSettings | None = None,
    *,
    judge: ImageModel | Recogniser | str | None = None,
    callback: Callable[[Step], None] | None = None,
    **keywords: Any,
) -> RunResult:
    """Dream photographs at every layer for every number of steps, and ask recognisers what they see.

    Parameters
    ----------
    model : ImageModel
        Dreams, and is the first recogniser.
    photos : path, ndarray of shape (height, width, 3) in [0, 1], or sequence of paths
        One photograph, or many: a folder, or a list as `folders.find_images` takes it. The shorter side is resized to the
        network's, then the centre is cropped.
    layers : str, int or sequence of them
        As `dream.dream` takes one, each alone; as a text, comma-separated.
    settings : SweepSettings, optional
    judge : ImageModel, callable or "faces", optional
        A second recogniser. A callable gets a picture (height, width, 3) in [0, 1] and returns names with scores, the surest first.
        ``"faces"`` looks for faces instead, see `faces.find_faces`; the sheet shows where.
    callback : callable, optional
        Called with a `Step` after each step.
    **keywords
        Fields of `SweepSettings`, in its place.

    Returns
    -------
    RunResult
        Every dream, photograph by photograph, layer by layer; the sheet shows those of the first photograph. `tables`: ``cells``, the five
        surest names before and after each dream, ``image`` its number among the images;
        ``rates``, for every layer and number of steps the part of the photographs in which a recogniser sees first (``top1``), or
        among its first five (``top5``), what it is asked for: the class a folder is named after, where the network knows it, else
        what the recogniser saw first before the dream (``asked`` says which). Of faces, ``cells`` has the number before and after,
        ``rates`` the part of the photographs with one (``with_face``) and the mean number, and ``faces``, where there is any, the place
        of each in pixels (``image`` is empty for those in the photographs). All of it is kept in memory until it is saved.

    Raises
    ------
    InputError, MissingInputError, LayerNotFoundError
        A photograph, layer, judge or number that cannot be used.
    RunInterrupted
        On Ctrl-C, with the dreams that were finished.
    """
    from stochdeconv.images.files import open_image
    from stochdeconv.methods.runs import hand_over, record_run

    settings = read_settings(SweepSettings, settings, keywords, model=model)
    check_judge(judge)
    started = time.monotonic()
    # A sequence may hold several that are dreamt together, as a text with commas.
    rows = read_list(layers, "layer", functools.partial(parse_layers, model))
    grid = _Grid(model, {",".join(map(str, row)): row for row in rows}, settings, callback)
    names, sources = _photographs(photos)
    pictures = np.stack([open_image(source, grid.size, channels=model.n_channels) for source in sources])
    witnesses = gather_witnesses(model, judge, class_word=_folder_name(photos))
    before = [[witness.see(picture) for witness in witnesses] for picture in pictures]
    result = grid.dream(pictures)
    cells = grid.cells(len(pictures))
    after = _see_all([grid.dreams[cell] for cell in cells], witnesses)
    run = record_run(
        "sweep",
        result if len(after) == len(cells) else replace(result, complete=False),
        model=model,
        settings=settings.record(
            photos=source_of(photos) if isinstance(photos, str | Path | np.ndarray) else [str(path) for path in photos],
            layers=list(grid.amplified),
            judge=judge if isinstance(judge, str) else getattr(judge, "source", getattr(judge, "__qualname__", None)),
            octaves=grid.pyramid.octaves,
            size=list(grid.size),
            batch_size=grid.batch_size,
        ),
        seed=settings.seed,
        seconds=time.monotonic() - started,
    )
    cells = cells[: len(after)]
    tables = {
        "cells": _cell_rows(cells, names, before, after, witnesses),
        "rates": _rate_rows(cells, before, after, witnesses),
        "faces": _face_rows(cells, names, before, after, witnesses),
    }
    sheet = _sheet(pictures[0], names, cells, before, after, witnesses, run.images, len(settings.columns))
    # Without faces there is no table of them.
    return hand_over(replace(run, tables={name: t for name, t in tables.items() if t or name != "faces"}, sheet=sheet))


@dataclass(frozen=True)
class _Cell:
    """One dream of the grid."""

    photo: int
    layer: str
    n_steps: int


class _Grid:
    """The dreams of all photographs, and which of them are made.

    Attributes
    ----------
    dreams : dict of _Cell to ndarray of shape (height, width, channel)
    """

    def __init__(
        self,
        model: ImageModel,
        amplified: Mapping[str, list[Amplified]],
        settings: SweepSettings,
        callback: Callable[[Step], None] | None,
    ):
        self.model, self.amplified, self.settings, self.callback = model, amplified, settings, callback
        self.size = model.image_size(settings.size)
        names = [part.layer for parts in amplified.values() for part in parts]
        self.pyramid = settings.pyramid(model, names, self.size, n_steps=min(settings.columns))
        # Pictures of one batch would be cut into tiles at the same places.
        self.batch_size = 1 if max(self.size) > self.pyramid.tile_size else settings.batch_size
        self.dreams: dict[_Cell, np.ndarray] = {}
        self._n_made, self._n_all = 0, 0
        self._optimizations: dict[str, Any] = {}

    def cells(self, n_photos: int) -> list[_Cell]:
        """List the dreams that are made, in the order they are shown."""
        columns = itertools.product(range(n_photos), self.amplified, self.settings.columns)
        cells = [_Cell(photo, layer, n_steps) for photo, layer, n_steps in columns]
        return [cell for cell in cells if cell in self.dreams]

    def dream(self, pictures: np.ndarray) -> OptimizationResult:
        """Dream photographs (image, height, width, channel) at every layer for every number of steps."""
        from stochdeconv.optimization.results import OptimizationResult, gather, part_images

        batches = part_images(len(pictures), self.batch_size)
        self._n_all = self.pyramid.octaves * len(batches) * len(self.amplified) * sum(self.settings.columns)
        made = gather(self._all_batches(pictures, batches))
        history = [row for result in made for row in result.history]
        # Dreams that were cut off belong in no cell; without any other, they are shown as they are.
        kept = [self.dreams[cell] for cell in self.cells(len(pictures))]
        dreams = np.stack(kept) if kept else made[-1].images
        return OptimizationResult(dreams, history, self._optimizations, made[-1].complete)

    def _all_batches(self, pictures: np.ndarray, batches: Sequence[slice]) -> Iterator[OptimizationResult]:
        for layer, n_steps in itertools.product(self.amplified, self.settings.columns):
            for number, images in enumerate(batches):
                result = self._batch(pictures, images, layer, n_steps)
                if result.complete and number == len(batches) - 1:
                    self._optimizations[f"{layer}, {n_steps} steps"] = result.settings
                labels = {"layer": layer, "n_steps": n_steps, "batch": number}
                yield replace(result, history=[{**labels, "step": row["step"], **row} for row in result.history])

    def _batch(self, pictures: np.ndarray, images: slice, layer: str, n_steps: int) -> OptimizationResult:
        photos = pictures[images]
        pyramid = replace(self.pyramid, n_steps=n_steps)
        result = pyramid.run(
            self.model,
            dream_loss(self.model, self.amplified[layer], photos),
            photos,
            first_index=images.start,
            callback=None if self.callback is None else functools.partial(self._count, self.callback),
        )
        self._n_made += pyramid.octaves * n_steps
        if result.complete:
            warn_where_nothing_fired(layer, result.history)
            self.dreams |= {_Cell(images.start + i, layer, n_steps): image for i, image in enumerate(result.images)}
        return result

    def _count(self, callback: Callable[[Step], None], step: Step) -> None:
        """Count the steps through the grid."""
        callback(replace(step, step=self._n_made + step.step, n_steps=self._n_all))


def _see_all(pictures: Sequence[np.ndarray], witnesses: Sequence[Witness]) -> list[list]:
    """Ask the recognisers of one picture after another; on Ctrl-C, of as many as there was time for."""
    seen: list[list] = []
    with contextlib.suppress(KeyboardInterrupt):
        for picture in pictures:
            seen.append([witness.see(picture) for witness in witnesses])
    return seen


def _folder_name(photos: object) -> str | None:
    return Path(photos).resolve().name if isinstance(photos, str | Path) and Path(photos).is_dir() else None


def _photographs(photos: str | Path | np.ndarray | Sequence[str | Path]) -> tuple[list[str], list[Any]]:
    """Names and sources of the photographs."""
    from stochdeconv.images.folders import find_images, image_keys

    if isinstance(photos, np.ndarray):
        return ["in memory"], [photos]
    if isinstance(photos, str | Path) and not Path(photos).is_dir():
        return [Path(photos).name], [photos]
    paths = find_images(photos)
    return image_keys(photos, paths), paths


def _cell_rows(
    cells: list[_Cell], names: list[str], before: list[list], after: list[list], witnesses: list[Witness]
) -> list[dict[str, Any]]:
    return [
        {
            "image": image,
            "photo": names[cell.photo],
            "layer": cell.layer,
            "n_steps": cell.n_steps,
            "recogniser": who.name,
            **who.cell(before[cell.photo][i], seen[i]),
        }
        for image, (cell, seen) in enumerate(zip(cells, after, strict=True))
        for i, who in enumerate(witnesses)
    ]


def _rate_rows(
    cells: list[_Cell], before: list[list], after: list[list], witnesses: list[Witness]
) -> list[dict[str, Any]]:
    """One row for each recogniser, layer and number of steps; the photographs as they were come first."""
    rows = []
    for i, who in enumerate(witnesses):
        groups: dict[tuple[str, int], list[tuple[Any, Any]]] = {("", 0): [(seen[i], seen[i]) for seen in before]}
        for cell, seen in zip(cells, after, strict=True):
            groups.setdefault((cell.layer, cell.n_steps), []).append((before[cell.photo][i], seen[i]))
        for (layer, steps), pairs in groups.items():
            place = {"layer": layer, "n_steps": steps, "n_photos": len(pairs)}
            rows.append({"recogniser": who.name, "asked": "", **place, **who.rates(pairs)})
    return rows


def _face_rows(
    cells: list[_Cell], names: list[str], before: list[list], after: list[list], witnesses: list[Witness]
) -> list[dict[str, Any]]:
    """One row for each face, those in the photographs first."""
    places = [
        ({"image": "", "photo": name, "layer": "", "n_steps": 0}, seen)
        for name, seen in zip(names, before, strict=True)
    ]
    places += [
        ({"image": image, "photo": names[cell.photo], "layer": cell.layer, "n_steps": cell.n_steps}, seen)
        for image, (cell, seen) in enumerate(zip(cells, after, strict=True))
    ]
    return [
        {**place, **dict(zip(("x", "y", "width", "height"), box, strict=True))}
        for place, seen in places
        for who, sight in zip(witnesses, seen, strict=True)
        for box in who.boxes(sight).tolist()
    ]


def _sheet(
    picture: np.ndarray,
    names: list[str],
    cells: list[_Cell],
    before: list[list],
    after: list[list],
    witnesses: list[Witness],
    images: np.ndarray,
    n_columns: int,
) -> np.ndarray:
    """Draw the grid of the first photograph: a row a layer, the photograph first, below each what is seen first."""
    from stochdeconv.images.sheets import contact_sheet

    if not cells:
        return contact_sheet(images)
    tiles, captions = [], []
    for i, cell in enumerate(cells):
        if cell.photo:
            break
        if i % n_columns == 0:
            tiles.append(_outlined(picture, witnesses, before[0]))
            title = "photograph" if len(names) == 1 else f"{names[0]}\nphotograph 1 of {len(names)}"
            captions.append(_caption(title, witnesses, before[0]))
        tiles.append(_outlined(images[i], witnesses, after[i]))
        captions.append(_caption(f"{cell.layer}, {cell.n_steps} steps", witnesses, after[i]))
    return contact_sheet(np.stack(tiles), columns=n_columns + 1, captions=captions)


def _outlined(picture: np.ndarray, witnesses: list[Witness], seen: list) -> np.ndarray:
    from stochdeconv.images.sheets import outlined

    boxes = [box for witness, sight in zip(witnesses, seen, strict=True) for box in witness.boxes(sight)]
    return outlined(picture, boxes)


def _caption(title: str, witnesses: list[Witness], seen: list) -> str:
    return "\n".join([title, *(witness.say(sight) for witness, sight in zip(witnesses, seen, strict=True))])
