"""Sweeps: the same photographs dreamt at many layers and for many steps, and what recognisers see before and after."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import ClassNotFoundError, InputError
from stochdeconv.lists import read_list, whole_number
from stochdeconv.methods.deepdream import Octaves, dream_loss, parse_layers, warn_where_nothing_fired

if TYPE_CHECKING:
    from stochdeconv.class_names import ClassName
    from stochdeconv.models import ImageModel
    from stochdeconv.optimize import OptimizationResult, Step
    from stochdeconv.run_folder import RunResult

#: What a recogniser sees in a picture: names and scores, the surest first; nothing where it recognises nothing.
Seen = Sequence[tuple[str, float]]
Recogniser = Callable[[np.ndarray], Seen]

_N_NAMED = 5
# What a recogniser is asked for in the table of rates where no class is known.
_ANY = "what it saw first before"


def sweep(
    model: ImageModel,
    photos: str | Path | np.ndarray | Sequence[str | Path],
    layers: str | Sequence[str],
    *,
    judge: ImageModel | Recogniser | None = None,
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
        One photograph, or many: a folder, or a list as `image_folders.find_images` takes it. The shorter side is resized to the
        network's, then the centre is cropped.
    layers : str or sequence of str
        As `deepdream.dream` takes one, each alone; as a text, comma-separated.
    judge : ImageModel or callable, optional
        A second recogniser. A callable gets a picture (height, width, 3) in [0, 1] and returns names with scores, the surest first: a
        face detector for instance.
    octaves, octave_scale, jitter, step_size
        See `deepdream.dream`.
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
        what the recogniser saw first before the dream (``asked`` says which). All of it is kept in memory until it is saved.

    Raises
    ------
    InputError, MissingInputError, LayerNotFoundError
        A photograph, layer or number that cannot be used.
    RunInterrupted
        On Ctrl-C, with the dreams that were finished.
    """
    from stochdeconv.images import open_image
    from stochdeconv.optimize import OptimizationInterrupted, OptimizationResult, optimize_in_batches
    from stochdeconv.run_folder import recorded_run, source_of

    layers, n_steps = read_list(layers, "layer"), read_list(n_steps, "number of steps", whole_number)
    amplified = {layer: parse_layers(model, layer) for layer in layers}
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
    recognisers = _recognisers(model, judge, class_word=_folder_name(photos))
    before = [{who.name: who.see(picture) for who in recognisers} for picture in pictures]
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
        after = [{who.name: who.see(dreams[cell]) for who in recognisers} for cell in done]
        tables = {
            "cells": _cell_rows(done, names, before, after, recognisers),
            "rates": _rate_rows(done, before, after, recognisers),
        }
        return replace(
            result, tables=tables, sheet=_sheet(pictures[0], names, done, before, after, result.images, len(n_steps))
        )

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
            "judge": getattr(judge, "source", None) or getattr(judge, "__qualname__", None),
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


@dataclass(frozen=True)
class _Named:
    """A recogniser, its name in the tables, and what it is asked for (None: what it sees first)."""

    name: str
    see: Recogniser
    wanted: str | None


def _in_order(cells: list[_Cell], dreams: dict[_Cell, np.ndarray]) -> list[np.ndarray]:
    return [dreams[cell] for cell in cells if cell in dreams]


def _recognisers(model: ImageModel, judge: ImageModel | Recogniser | None, *, class_word: str | None) -> list[_Named]:
    from stochdeconv.methods.recognition import recognise, top_classes
    from stochdeconv.models import ImageModel

    asked = _known(model, class_word)

    def of_network(name: str, network: ImageModel) -> _Named:
        # Classes are the same where their wnids are, whatever a network calls them.
        wanted = _known(network, asked.wnid or asked.label) if asked else None
        return _Named(
            name,
            lambda picture: top_classes(network, recognise(network, [picture])[0], k=_N_NAMED),
            wanted.label if wanted else None,
        )

    found = [of_network("network", model)]
    if isinstance(judge, ImageModel):
        found.append(of_network("judge", judge))
    elif judge is not None:
        found.append(_Named("judge", judge, asked.label if asked else None))
    return found


def _known(model: ImageModel, word: str | None) -> ClassName | None:
    try:
        return None if word is None else model.find_class(word)
    except ClassNotFoundError:
        return None


def _folder_name(photos: object) -> str | None:
    return Path(photos).resolve().name if isinstance(photos, str | Path) and Path(photos).is_dir() else None


def _photographs(photos: str | Path | np.ndarray | Sequence[str | Path]) -> tuple[list[str], list[Any]]:
    """Names and sources of the photographs."""
    from stochdeconv.image_folders import find_images, image_keys

    if isinstance(photos, np.ndarray):
        return ["in memory"], [photos]
    if isinstance(photos, str | Path) and not Path(photos).is_dir():
        return [Path(photos).name], [photos]
    paths = find_images(photos)
    return image_keys(photos, paths), paths


def _wanted(who: _Named, seen_before: Seen) -> str | None:
    return who.wanted or (seen_before[0][0] if seen_before else None)


def _cell_rows(
    cells: list[_Cell], names: list[str], before: list[dict], after: list[dict], recognisers: list[_Named]
) -> list[dict[str, Any]]:
    rows = []
    for image, (cell, seen) in enumerate(zip(cells, after, strict=True)):
        for who in recognisers:
            row = {"image": image, "photo": names[cell.photo], "layer": cell.layer, "n_steps": cell.n_steps}
            row["recogniser"] = who.name
            for when, named in (("before", before[cell.photo][who.name]), ("after", seen[who.name])):
                for rank in range(_N_NAMED):
                    name, score = named[rank] if rank < len(named) else ("", "")
                    row |= {f"{when}_{rank + 1}": name, f"{when}_{rank + 1}_score": score}
            rows.append(row)
    return rows


def _rate_rows(
    cells: list[_Cell], before: list[dict], after: list[dict], recognisers: list[_Named]
) -> list[dict[str, Any]]:
    """One row for each recogniser, layer and number of steps; the photographs as they were come first."""
    rows = []
    for who in recognisers:
        was = [seen[who.name] for seen in before]
        groups: dict[tuple[str, int], list[tuple[Seen, Seen]]] = {("", 0): [(seen, seen) for seen in was]}
        for cell, seen in zip(cells, after, strict=True):
            groups.setdefault((cell.layer, cell.n_steps), []).append((was[cell.photo], seen[who.name]))
        for (layer, steps), pairs in groups.items():
            rates = {
                f"top{k}": float(np.mean([_wanted(who, was) in [name for name, _ in now[:k]] for was, now in pairs]))
                for k in (1, _N_NAMED)
            }
            row = {"recogniser": who.name, "asked": who.wanted or _ANY, "layer": layer, "n_steps": steps}
            rows.append({**row, "n_photos": len(pairs), **rates})
    return rows


def _sheet(
    picture: np.ndarray,
    names: list[str],
    cells: list[_Cell],
    before: list[dict],
    after: list[dict],
    images: np.ndarray,
    n_columns: int,
) -> np.ndarray:
    """Draw the grid of the first photograph: a row a layer, the photograph first, below each what is seen first."""
    from stochdeconv.sheets import contact_sheet

    def said(title: str, seen: dict[str, Seen]) -> str:
        firsts = (
            f"{who}: {named[0][0]} {named[0][1]:.0%}" if named else f"{who}: nothing" for who, named in seen.items()
        )
        return "\n".join([title, *firsts])

    if not cells:
        return contact_sheet(images)
    shown, captions = [], []
    for i, cell in enumerate(cells):
        if cell.photo:
            break
        if i % n_columns == 0:
            shown.append(picture)
            captions.append(
                said("photograph" if len(names) == 1 else f"{names[0]}\nphotograph 1 of {len(names)}", before[0])
            )
        shown.append(images[i])
        captions.append(said(f"{cell.layer}, {cell.n_steps} steps", after[i]))
    return contact_sheet(np.stack(shown), columns=n_columns + 1, captions=captions)
