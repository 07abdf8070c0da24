"""Collages: images whose every patch is one of photographs', drawn from coarse to fine so that neighbours agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stochdeconv.images.files import stretch
from stochdeconv.sampling.candidates import Candidates
from stochdeconv.sampling.overlaps import STRIDES, Overlaps
from stochdeconv.statistics.patches import PATCH, as_pictures, middles_of, patch_starts
from stochdeconv.statistics.places import Grid

# How much worse a candidate is for its distance, of the median one.
_CONTEXT_WEIGHT = 6.0
# Widths of the noise: from one that leaves colours and their layout open to one of a few grey levels, level by level from the finest.
_WIDEST = 0.3
_WIDTHS = ((0.15, 0.03, 6), (0.25, 0.05, 8), (0.4, 0.06, 8), (0.3, 0.06, 10))
# Where overlapping patches disagree their mean has too little contrast, and whatever is smooth would be most like it: this part of a
# candidate's contrast is not held against it. At 0 textures give way to haze, at 0.8 all is edges.
_CONTRAST = 0.5
# Candidates of its own that a patch has beside what the coarser level drew up to so many patches away.
_OWN_CANDIDATES, _INHERITED = (0, 8, 32, 64), 2
# Pixels that candidates are moved by, at most, to fit better.
_MOVES = (2, 1, 1, 0)
# Share of an image's patches that one photograph may have, and one piece of a photograph, patches that lie together as they lay there. From
# a part of it on candidates from there are held back, more after every pass.
MOST_OF_ONE_PHOTOGRAPH, MOST_OF_ONE_PIECE = 0.12, 0.03
_HELD_BACK_FROM = 0.5
_PENALTY, _PENALTY_OF_PIECES = 8.0, 24.0
# Patches whose candidates are held at once.
_PATCHES_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Collage:
    """One image, and where its patches come from.

    Attributes
    ----------
    image : ndarray of shape (height, width, channel), float32 in [0, 1]
        The patches, averaged where they overlap.
    sources : ndarray of shape (row, column, 3), int16
        Of each patch: which exemplar it is from, and how far from its own place it lay there, down and across, in pixels.
    """

    image: np.ndarray
    sources: np.ndarray


def draw_collage(
    levels: Sequence[np.ndarray],
    grid: Grid,
    candidates: Candidates,
    colors: np.ndarray,
    *,
    temperature: float,
    rng: np.random.Generator,
) -> Collage:
    """Draw an image patch by patch: an annealed posterior mean, from coarse to fine.

    Each place has a prior: the candidates whose surroundings look alike to the network. The image begins as colours under wide noise;
    again and again every patch is replaced by its mean under the posterior, candidates weighted by how well they fit under noise of that
    width, and less noise is added. Under wide noise many candidates are averaged, under narrow noise one is left, and overlapping patches
    have come to agree on the way: diffusion with a denoiser that knows no more than patches (Kamb & Ganguli 2024).

    Parameters
    ----------
    levels : sequence of ndarray of shape (exemplar, height, width, channel), uint8
        The exemplars, see `patches.pyramid`.
    grid : Grid
        The places that have candidates.
    candidates : Candidates
    colors : ndarray of shape (height, width, channel)
        What the coarsest level begins from.
    temperature : float
        Multiplies the noise and how far candidates may be from what the network shows; 0 draws the mean of what fits best.
    rng : Generator

    Returns
    -------
    Collage
    """
    image, sources = colors, np.zeros((0, 0, 3), np.int16)
    for number in reversed(range(len(levels))):
        level = levels[number]
        widest, narrowest, n_widths = _WIDTHS[number]
        if number == len(levels) - 1:
            widest = max(widest, _WIDEST)  # colours are all that is there
        widths = np.geomspace(widest, narrowest, n_widths).astype(np.float32)
        image = stretch(image, level.shape[1:3])
        image = image + temperature * widths[0] * _noise(rng, image.shape)
        patches = _Patches(level, grid, candidates, number, temperature)
        if sources.size:
            patches.inherit(sources, STRIDES[number + 1])
        for width, narrower in zip(widths, [*widths[1:], 0.0], strict=True):
            image = patches.denoised(image, width, rng)
            if narrower:
                image = image + temperature * narrower * _noise(rng, image.shape)
        sources = patches.sources()
    return Collage(np.clip(image, 0.0, 1.0), sources)


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def pieces(sources: np.ndarray) -> np.ndarray:
    """Give each piece of a photograph a number, (row, column): patches that touch and lay beside each other where they are from.

    Neighbours that were moved against each other by no more than candidates are to fit better are of one piece: the eye sees no joint.

    Parameters
    ----------
    sources : ndarray of shape (row, column, 3)
        See `Collage`.

    Returns
    -------
    ndarray of shape (row, column), int
    """
    from scipy import sparse

    number = np.arange(sources.shape[0] * sources.shape[1]).reshape(sources.shape[:2])
    beside, below = _continues(sources[:, 1:], sources[:, :-1]), _continues(sources[1:], sources[:-1])
    one = np.concatenate([number[:, :-1][beside], number[:-1][below]])
    other = np.concatenate([number[:, 1:][beside], number[1:][below]])
    touching = sparse.coo_matrix((np.ones(len(one), bool), (one, other)), shape=(number.size, number.size))
    _, labels = sparse.csgraph.connected_components(touching, directed=False)
    return labels.reshape(number.shape)


def _continues(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    moved = np.abs(one[..., 1:].astype(np.int32) - other[..., 1:]).max(axis=-1)
    return (one[..., 0] == other[..., 0]) & (moved <= max(_MOVES))


def _excess(shares: np.ndarray, most: float) -> np.ndarray:
    return np.maximum(shares / (_HELD_BACK_FROM * most) - 1.0, 0.0).astype(np.float32)


class _Patches:
    """The patches of one level, and where each of their candidates lies now."""

    def __init__(self, pixels: np.ndarray, grid: Grid, candidates: Candidates, number: int, temperature: float):
        self._number = number
        self._pixels, self._moves = pixels, _MOVES[number]
        height, width = pixels.shape[1:3]
        rows, columns = (patch_starts(side, STRIDES[number]) for side in (height, width))
        self._overlaps = Overlaps((height, width), rows, columns)
        self._shape = len(rows), len(columns)
        self.top, self.left = (part.ravel() for part in np.meshgrid(rows, columns, indexing="ij"))
        place = grid.places(*(middles_of(starts, number) for starts in (rows, columns))).ravel()
        n_columns = grid.shape[1]
        self.photographs = candidates.photographs[place]
        there = candidates.places[place]
        self._bounds = height - PATCH, width - PATCH
        down, across = (
            there // n_columns - (place // n_columns)[:, None],
            there % n_columns - (place % n_columns)[:, None],
        )
        self.down = self._within(self.top, down * grid.step[0] / 2.0**number, 0)
        self.across = self._within(self.left, across * grid.step[1] / 2.0**number, 1)
        typical = max(float(np.median(candidates.distances)), 1e-12)
        # The colder, the more decides what a place looks like to the network, and the more holds back whom too much is from.
        self._strictness = 1.0 / max(temperature, 1e-6)
        self._unlike = (self._strictness * _CONTEXT_WEIGHT / typical * candidates.distances[place]).astype(np.float32)
        self._penalties = np.zeros(len(pixels), np.float32)
        self._is_sorted = False

    def inherit(self, sources: np.ndarray, stride: int) -> None:
        """Offer each patch what the coarser level drew about it, before a few of its own candidates: pieces stay together."""
        rows, columns = sources.shape[:2]
        row, column = (
            np.clip(np.rint((start + PATCH / 2) / 2 - PATCH / 2) // stride, 0, last).astype(np.int64)
            for start, last in ((self.top, rows - 1), (self.left, columns - 1))
        )
        reach = range(-_INHERITED, _INHERITED + 1, max(1, 2 // stride))
        about = np.stack(
            [sources[np.clip(row + i, 0, rows - 1), np.clip(column + j, 0, columns - 1)] for i in reach for j in reach],
            axis=1,
        ).astype(np.int64)
        n_own = _OWN_CANDIDATES[self._number]
        best = self._unlike[:, :1]
        offered = {
            "photographs": about[..., 0],
            "down": self._within(self.top, 2 * about[..., 1], 0),
            "across": self._within(self.left, 2 * about[..., 2], 1),
            "_unlike": np.broadcast_to(best, about.shape[:2]),
        }
        for name, values in offered.items():
            setattr(self, name, np.concatenate([values, getattr(self, name)[:, :n_own]], axis=1))

    def _within(self, start: np.ndarray, moved: np.ndarray, axis: int) -> np.ndarray:
        return np.clip(start[:, None] + np.rint(moved).astype(np.int64), 0, self._bounds[axis])

    def denoised(self, image: np.ndarray, width: float, rng: np.random.Generator) -> np.ndarray:
        """Replace every patch by its posterior mean under noise of a width, overlaps averaged."""
        own = np.arange(len(self.top))
        if self._is_sorted:
            self._look_around(own, rng)
        windows = np.lib.stride_tricks.sliding_window_view(self._pixels, (PATCH, PATCH), axis=(1, 2))
        n_channels = image.shape[-1]
        seen = self._overlaps.cut(image)
        means = np.empty_like(seen)
        scores = np.empty(self.photographs.shape, np.float32)
        for start in range(0, len(own), _PATCHES_AT_ONCE):
            part = slice(start, start + _PATCHES_AT_ONCE)
            found = windows[self.photographs[part], self.down[part], self.across[part]]
            patches = as_pictures(np.moveaxis(found, 2, -1)).reshape(*found.shape[:2], -1)
            difference = patches - seen[part][:, None]
            score = np.einsum("pcv,pcv->pc", difference, difference)
            pixels = patches.reshape(*found.shape[:2], PATCH * PATCH, n_channels)
            detail = (pixels - pixels.mean(axis=2, keepdims=True)).reshape(difference.shape)
            score -= np.float32(_CONTRAST) * np.einsum("pcv,pcv->pc", detail, detail)
            score /= np.float32(-2.0 * width**2)
            score -= self._unlike[part] + self._penalties[self.photographs[part]]
            scores[part] = score
            weights = np.exp(score - score.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            means[part] = np.matmul(weights[:, None], patches)[:, 0]
        self._keep_best(scores)
        return self._overlaps.averaged(means)

    def _look_around(self, own: np.ndarray, rng: np.random.Generator) -> None:
        """Move candidates a little, but for the one that fits best so far."""
        if not self._moves:
            return
        shape = self.photographs.shape
        for axis, where in enumerate((self.down, self.across)):
            moves = rng.integers(-self._moves, self._moves + 1, shape)
            moves[own, 0] = 0
            np.clip(where + moves, 0, self._bounds[axis], out=where)

    def _keep_best(self, scores: np.ndarray) -> None:
        """Sort candidates by how well they fit, the best first, and hold back whom too many patches are from."""
        order = np.argsort(-scores, axis=1, kind="stable")
        for name in ("photographs", "down", "across", "_unlike"):
            setattr(self, name, np.take_along_axis(getattr(self, name), order, axis=1))
        self._is_sorted = True
        shares = np.bincount(self.photographs[:, 0], minlength=len(self._penalties)) / len(self.photographs)
        self._penalties += self._strictness * _PENALTY * _excess(shares, MOST_OF_ONE_PHOTOGRAPH)
        labels = pieces(self.sources()).ravel()
        sizes = np.bincount(labels) / len(labels)
        self._unlike[:, 0] += self._strictness * _PENALTY_OF_PIECES * _excess(sizes, MOST_OF_ONE_PIECE)[labels]

    def sources(self) -> np.ndarray:
        """Tell where the patches that fit best are from, see `Collage`."""
        sources = np.stack([self.photographs[:, 0], self.down[:, 0] - self.top, self.across[:, 0] - self.left], axis=-1)
        return sources.astype(np.int16).reshape(*self._shape, 3)
