"""The sampler `exemplars`: images drawn place by place from photographs that the statistics keep, down to the image's own pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import FileFormatError, InputError
from stochdeconv.sampling.candidates import Contexts, context_layers
from stochdeconv.sampling.collages import Collage, draw_collage, pieces
from stochdeconv.sampling.overlaps import STRIDES
from stochdeconv.sampling.targets import Rows, Targets
from stochdeconv.statistics.class_statistics import INPUT
from stochdeconv.statistics.patches import PATCH, as_pictures, middles_of, patch_starts, pyramid
from stochdeconv.statistics.places import Grid
from stochdeconv.statistics.pooling import pooling_matrix
from stochdeconv.threads import one_blas_thread, side_by_side

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.statistics.class_statistics import ClassStatistics

# Places of photographs that are looked at for each place of an image, before the first width of the noise.
_N_CANDIDATES = 64
# With fewer photographs no image could keep to the share that each may have of it, and its pieces would be large.
LEAST_EXEMPLARS = 32
# Pixels that an image needs: with fewer its patches are nearly all of a photograph.
_LEAST_SIDE = 3 * PATCH
# Cells, down and across, of the colours that an image begins with.
_COLOR_CELLS = 14
# Photographs that go through the network at once.
_BATCH = 32
# Keeps these draws apart from any other use of (seed, i).
_STREAM = 7


def check_exemplars(statistics: ClassStatistics) -> None:
    """Raise InputError unless the statistics hold photographs enough to draw places from, FileFormatError where they are damaged."""
    if statistics.exemplars is None:
        raise InputError(
            "the sampler 'exemplars' draws places from photographs, and these statistics hold none: collect with some hundreds "
            "(--exemplars 500), or choose another sampler"
        )
    if len(statistics.exemplars) < LEAST_EXEMPLARS:
        raise InputError(
            f"the sampler 'exemplars' needs at least {LEAST_EXEMPLARS} photographs, so that none is copied, better some hundreds; these "
            f"statistics hold {len(statistics.exemplars)}: collect with more (--exemplars 500), or choose another sampler"
        )
    if min(statistics.input_size) < _LEAST_SIDE:
        height, width = statistics.input_size
        raise InputError(
            f"the sampler 'exemplars' draws patches of {PATCH}x{PATCH} pixels, of which an image of {height}x{width} has too few that "
            f"differ: it needs {_LEAST_SIDE} pixels a side; choose another sampler"
        )
    pixels, rows = statistics.exemplars.pixels, statistics.exemplars.rows
    expected = (len(rows), *statistics[INPUT].shape)
    if pixels.shape != expected or not (rows.min() >= 0 and rows.max() < statistics.n_rows):
        raise FileFormatError(
            f"the statistics hold photographs of the shape {pixels.shape} where {expected} is expected, or of rows that are not there: the "
            "file is damaged, collect anew"
        )
    context_layers(statistics)


def sample_places(
    model: ImageModel,
    statistics: ClassStatistics,
    targets: Targets,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    first_index: int = 0,
) -> Targets:
    """Complete sampled targets place by place, down to pixels.

    What a deep layer is to show at each place, and the colours an image begins with, are those of the photograph a target's row is of. For
    each place, places of *other* photographs that look like it to the network are drawn, so that neighbours agree (see
    `collages.draw_collage`); the photograph itself is left out.

    Parameters
    ----------
    model : ImageModel
        The network the statistics were collected with.
    statistics : ClassStatistics
        With exemplars.
    targets : Targets
        Of the sampler ``bootstrap``, which follow rows.
    temperature : float
        See `collages.draw_collage`.
    seed, first_index : int
        The draw for target i depends on (seed, first_index + i) alone.

    Returns
    -------
    Targets
        With two more fields: ``pixels`` (image, height, width, channel), uint8, the image that was drawn, and ``sources``
        (image, row, column, 3), int16: of each patch the exemplar it is from, and how far away it lay there, see `collages.Collage`.

    Raises
    ------
    InputError
        There are no exemplars, too few, or no layer that tells places apart.
    """
    check_exemplars(statistics)
    with one_blas_thread():
        contexts = Contexts.of(model, statistics)
    levels = pyramid(statistics.exemplars.pixels)
    starts = exemplars_of_rows(statistics, targets.source_rows)

    def draw(number: int) -> Collage:
        start = int(starts[number])
        candidates = contexts.candidates(contexts.keys[start], _N_CANDIDATES, left_out=[start])
        colors = _blurred(as_pictures(statistics.exemplars.pixels[start]))
        rng = np.random.default_rng([seed, first_index + number, _STREAM])
        return draw_collage(levels, contexts.grid, candidates, colors, temperature=temperature, rng=rng)

    collages = side_by_side(draw, targets.n_images)
    drawn = {
        "pixels": np.stack([np.rint(collage.image * 255.0).astype(np.uint8) for collage in collages]),
        "sources": np.stack([collage.sources for collage in collages]),
    }
    return replace(targets, fields={**targets.fields, **drawn})


def _blurred(picture: np.ndarray) -> np.ndarray:
    """Average a picture (height, width, channel) into the cells of a layout: its colours, and nothing of what is in them."""
    rows, columns = (pooling_matrix(side, min(side, _COLOR_CELLS)) for side in picture.shape[:2])
    return np.einsum("rh,hwc,sw->rsc", rows, picture, columns)


def exemplars_of_rows(statistics: ClassStatistics, rows: np.ndarray) -> np.ndarray:
    """Find the exemplar that each of some rows is the photograph of, or, where it was not kept, the one whose row is nearest.

    Parameters
    ----------
    statistics : ClassStatistics
    rows : ndarray of int

    Returns
    -------
    ndarray of int

    Raises
    ------
    InputError
        A target follows no row.
    """
    if (rows < 0).any():
        raise InputError(
            "places are drawn in the scene of a row, and these targets follow none: sample them with a row_weight above 0"
        )
    weighted = Rows.of(statistics).weighted
    held = statistics.exemplars.rows
    return np.array([((weighted[held] - weighted[row]) ** 2).sum(axis=1).argmin() for row in rows])


def target_maps(
    model: ImageModel, statistics: ClassStatistics, targets: Targets, layers: Sequence[str]
) -> dict[str, np.ndarray]:
    """Put together what images should activate, position by position: what the network shows where their patches are from.

    Parameters
    ----------
    model : ImageModel
    statistics : ClassStatistics
    targets : Targets
        Of `sample_places`.
    layers : sequence of str
        Of the statistics, with positions.

    Returns
    -------
    dict of str to ndarray of shape (image, height, width, channel), float32
    """
    grids = {name: Grid.of(statistics[name].shape[:2], statistics.input_size) for name in layers}
    origins = {name: _origins(grid, targets.sources, statistics.input_size) for name, grid in grids.items()}
    maps = {name: np.empty((targets.n_images, *statistics[name].shape), np.float32) for name in layers}
    pixels = statistics.exemplars.pixels
    drawn = np.unique(np.concatenate([origin[0].ravel() for origin in origins.values()]))
    for start in range(0, len(drawn), _BATCH):
        exemplars = drawn[start : start + _BATCH]
        held = model.activations(as_pictures(pixels[exemplars]), layers, batch_size=_BATCH)
        for name, (which, row, column) in origins.items():
            number = np.searchsorted(exemplars, which).clip(0, len(exemplars) - 1)
            here = exemplars[number] == which
            maps[name][here] = held[name][number[here], row[here], column[here]]
    return maps


def _origins(grid: Grid, sources: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tell for each position of a layer (image, row, column) of which exemplar's position it takes what it shows."""
    nearest = []
    for axis in (0, 1):
        middles = middles_of(patch_starts(size[axis], STRIDES[0]), 0)
        nearest.append(np.abs(middles - grid.centers(axis)[:, None]).argmin(axis=1))
    own = sources[:, nearest[0]][:, :, nearest[1]].astype(np.int64)
    # Each offset is rounded by itself: positions that follow each other in a piece do so where it is from.
    row, column = (
        np.clip(
            np.arange(n_positions).reshape((-1, 1) if axis == 0 else (1, -1))
            + np.floor(own[..., 1 + axis] / grid.step[axis] + 0.5).astype(np.int64),
            0,
            n_positions - 1,
        )
        for axis, n_positions in enumerate(grid.shape)
    )
    return own[..., 0], row, column


def copying(sources: np.ndarray) -> Mapping[str, np.ndarray]:
    """Measure how much images owe to single photographs.

    Parameters
    ----------
    sources : ndarray of shape (image, row, column, 3)
        See `collages.Collage`.

    Returns
    -------
    mapping of str to ndarray of shape (image,)
        ``largest_share``: of the patches, that come from one photograph; ``largest_piece``: of the patches, that lie together and come
        from one photograph at one offset, so that they show a piece of it as it is.
    """
    shares, largest = [], []
    for own in sources:
        shares.append(np.bincount(own[..., 0].ravel()).max() / own[..., 0].size)
        largest.append(np.bincount(pieces(own).ravel()).max() / own[..., 0].size)
    return {"largest_share": np.array(shares), "largest_piece": np.array(largest)}
