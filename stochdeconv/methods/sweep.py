"""Sweeps: the same photographs dreamt at many layers and for many steps, and what recognisers see before and after."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import InputError
from stochdeconv.methods.dream import Octaves, dream_loss, parse_layers, warn_where_nothing_fired
from stochdeconv.methods.recognisers import Recogniser, Witness, check_judge, gather_witnesses
from stochdeconv.parsing import read_list, whole_number

if TYPE_CHECKING:
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.loop import OptimizationResult, Step


def sweep(
    model: ImageModel,
    photos: str | Path | np.ndarray | Sequence[str | Path],
    layers: str | int | Sequence[str | int],
    *,
    judge: ImageModel | Recogniser | str | None = None,
    octaves: int | None = None,
    octave_scale: float = Octaves.octave_scale,
    jitter: int = Octaves.jitter,
    step_size: float = Octaves.step_size,
    n_steps: int | Sequence[int] = (10, 50),
    size: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
    callback: Callable[[Step], None] | None = None,
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
    judge : ImageModel, callable or "faces", optional
        A second recogniser. A callable gets a picture (height, width, 3) in [0, 1] and returns names with scores, the surest first.
        ``"faces"`` looks for faces instead, see `faces.find_faces`; the sheet shows where.
    octaves, octave_scale, jitter, step_size
        See `dream.dream`.
    n_steps : int or sequence of int
        Steps at each octave, one column of the grid for each number.
    size : int, optional
        Side of the pictures in pixels; the network's own by default.
    batch_size : int
        Photographs at a time; each is dreamt alone, its views drawn from the seed and its number.
    seed : int
    callback : callable, optional
        Called with a `Step` after each step.

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
    from stochdeconv.methods.runs import recorded_run, source_of
    from stochdeconv.optimization.loop import OptimizationInterrupted, OptimizationResult, optimize_in_batches

    check_judge(judge)
    n_steps = read_list(n_steps, "number of steps", whole_number)
    # A sequence may hold several that are dreamt together, as a text with commas.
    rows = read_list(layers, "layer", lambda layer: parse_layers(model, layer))
    amplified = {",".join(map(str, row)): row for row in rows}
    layers = list(amplified)
    if batch_size < 1:
        raise InputError(f"batch_size is how many photographs are dreamt at a time, at least 1; got {batch_size}")
    n_octaves = Octaves.octaves if octaves is None else octaves
    grid = Octaves(n_octaves, octave_scale, jitter, step_size, min(n_steps), seed=seed)
    image_size = model.image_size(size)
    if octaves is None:
        grid = grid.fitting(model, [one.layer for found in amplified.values() for one in found], image_size)
    if max(image_size) > grid.tile_size:
        batch_size = 1  # pictures of one batch are cut into tiles at the same places
    names, sources = _photographs(photos)
    pictures = np.stack([open_image(source, image_size, channels=model.n_channels) for source in sources])
    witnesses = gather_witnesses(model, judge, class_word=_folder_name(photos))
    before = [[who.see(picture) for who in witnesses] for picture in pictures]
    cells = [_Cell(photo, layer, steps) for photo in range(len(pictures)) for layer in layers for steps in n_steps]
    n_runs = grid.octaves * math.ceil(len(pictures) / batch_size)
    n_all = n_runs * len(layers) * sum(n_steps)
    dreams: dict[_Cell, np.ndarray] = {}

    def dream_column(layer: str, steps: int, on_step: Callable[[Step], None]) -> OptimizationResult:
        how = replace(grid, n_steps=steps)

        def batch(first: int, n: int, on_step: Callable[[Step], None]) -> OptimizationResult:
            taken = pictures[first : first + n]
            found = how.run(
                model, dream_loss(model, amplified[layer], taken), taken, first_index=first, callback=on_step
            )
            warn_where_nothing_fired(layer, found.history)
            dreams.update({_Cell(first + i, layer, steps): image for i, image in enumerate(found.images)})
            return found

        return optimize_in_batches(batch, len(pictures), batch_size=batch_size, callback=on_step)

    def run() -> OptimizationResult:
        history: list[dict[str, Any]] = []
        settings: dict[str, Any] = {}
        n_done = 0

        def on_step(step: Step) -> None:
            if callback is not None:
                callback(replace(step, step=n_done + step.step, n_steps=n_all))

        for layer, steps in itertools.product(layers, n_steps):
            label = {"layer": layer, "n_steps": steps}
            try:
                found = dream_column(layer, steps, on_step)
            except OptimizationInterrupted as interrupt:
                # Dreams that were cut off belong in no cell; without any other, they are shown as they are.
                images = np.stack(_in_order(cells, dreams)) if dreams else interrupt.result.images
                history += [{**label, **row} for row in interrupt.result.history]
                raise OptimizationInterrupted(OptimizationResult(images, history, settings)) from interrupt
            settings[f"{layer}, {steps} steps"] = found.settings
            history += [{**label, **row} for row in found.history]
            n_done += n_runs * steps
        return OptimizationResult(np.stack(_in_order(cells, dreams)), history, settings)

    def finish(result: RunResult) -> RunResult:
        done = [cell for cell in cells if cell in dreams]
        after = [[who.see(dreams[cell]) for who in witnesses] for cell in done]
        tables = {
            "cells": _cell_rows(done, names, before, after, witnesses),
            "rates": _rate_rows(done, before, after, witnesses),
        }
        faces = _face_rows(done, names, before, after, witnesses)
        sheet = _sheet(pictures[0], names, done, before, after, witnesses, result.images, len(n_steps))
        return replace(result, tables=tables | ({"faces": faces} if faces else {}), sheet=sheet)

    return recorded_run(
        "sweep",
        run,
        model=model,
        found_class=None,
        settings={
            "photos": source_of(photos)
            if isinstance(photos, str | Path | np.ndarray)
            else [str(path) for path in photos],
            "layers": layers,
            "judge": judge
            if isinstance(judge, str)
            else getattr(judge, "source", getattr(judge, "__qualname__", None)),
            "octaves": grid.octaves,
            "octave_scale": octave_scale,
            "jitter": jitter,
            "step_size": step_size,
            "n_steps": list(n_steps),
            "size": list(image_size),
            "batch_size": batch_size,
        },
        seed=seed,
        finish=finish,
    )


@dataclass(frozen=True)
class _Cell:
    """One dream of the grid."""

    photo: int
    layer: str
    n_steps: int


def _in_order(cells: list[_Cell], dreams: dict[_Cell, np.ndarray]) -> list[np.ndarray]:
    return [dreams[cell] for cell in cells if cell in dreams]


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
        for who, found in zip(witnesses, seen, strict=True)
        for box in who.boxes(found).tolist()
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
    from stochdeconv.images.sheets import contact_sheet, outlined

    def marked(picture: np.ndarray, seen: list) -> np.ndarray:
        return outlined(picture, [box for who, one in zip(witnesses, seen, strict=True) for box in who.boxes(one)])

    def said(title: str, seen: list) -> str:
        return "\n".join([title, *(who.say(one) for who, one in zip(witnesses, seen, strict=True))])

    if not cells:
        return contact_sheet(images)
    shown, captions = [], []
    for i, cell in enumerate(cells):
        if cell.photo:
            break
        if i % n_columns == 0:
            shown.append(marked(picture, before[0]))
            captions.append(
                said("photograph" if len(names) == 1 else f"{names[0]}\nphotograph 1 of {len(names)}", before[0])
            )
        shown.append(marked(images[i], after[i]))
        captions.append(said(f"{cell.layer}, {cell.n_steps} steps", after[i]))
    return contact_sheet(np.stack(shown), columns=n_columns + 1, captions=captions)
