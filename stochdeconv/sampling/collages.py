"""Collages: images whose every patch is one of photographs', drawn from coarse to fine so that neighbours agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stochdeconv.images.files import stretch
from stochdeconv.sampling.places import Candidates, Grid, as_pictures

# Pixels of a patch's side, at every level.
PATCH = 8
# The coarsest level is at least this many pixels high and wide.
_COARSEST = 24
# How much worse a candidate is for its distance, of the median one.
_CONTEXT_WEIGHT = 6.0
# Widths of the noise: from one that leaves colours and their layout open to one of a few grey levels, level by level from the finest.
_WIDEST = 0.3
_WIDTHS = ((0.15, 0.03, 6), (0.25, 0.05, 8), (0.4, 0.06, 8), (0.3, 0.06, 10))
# Where overlapping patches disagree their mean has too little contrast, and whatever is smooth would be most like it: this part of a
# candidate's contrast is not held against it. At 0 textures give way to haze, at 0.8 all is edges.
_CONTRAST = 0.5
# Pixels from one patch to the next.
_STRIDES = (2, 2, 2, 1)
# Candidates of its own that a patch has beside what the coarser level drew up to so many patches away.
_OWN_CANDIDATES, _INHERITED = (0, 8, 32, 64), 2
# Pixels that candidates are moved by, at most, to fit better.
_MOVES = (2, 1, 1, 0)
# Share of an image's patches that one photograph may have, and one piece of a photograph, patches that lie together as they lay there. From
# a part of it on candidates from there are held back, more after every pass.
MOST_OF_ONE_PHOTOGRAPH, MOST_OF_ONE_PIECE = 0.12, 0.03
_HELD_BACK_FROM = 0.5
_PENALTY = 8.0
# Patches whose candidates are held at once.
_PATCHES_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Level:
    """The exemplars at one resolution.

    Attributes
    ----------
    pixels : ndarray of shape (exemplar, height, width, channel), uint8
    factor : float
        Pixels of the image to one of these.
    """

    pixels: np.ndarray
    factor: float


def levels_of(pixels: np.ndarray) -> list[Level]:
    """Shrink exemplars (exemplar, height, width, channel) by twos, the finest first."""
    size = pixels.shape[1:3]
    levels = [Level(pixels, 1.0)]
    while min(size) // 2 ** len(levels) >= _COARSEST and len(levels) < len(_WIDTHS):
        smaller = tuple(side // 2 ** len(levels) for side in size)
        levels.append(Level(_shrunk(levels[-1].pixels, smaller), 2.0 ** len(levels)))
    return levels


def _shrunk(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Average blocks of two by two pixels; a last odd row or column is left out."""
    rows, columns = size
    blocks = pixels[:, : 2 * rows, : 2 * columns].reshape(len(pixels), rows, 2, columns, 2, -1)
    return ((blocks.sum(axis=(2, 4), dtype=np.uint16) + 2) // 4).astype(np.uint8)


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
    levels: Sequence[Level],
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
    levels : sequence of Level
        The exemplars, see `levels_of`.
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
        if level is levels[-1]:
            widest = max(widest, _WIDEST)  # colours are all that is there
        widths = np.geomspace(widest, narrowest, n_widths).astype(np.float32)
        image = stretch(image, level.pixels.shape[1:3])
        image = image + temperature * widths[0] * _noise(rng, image.shape)
        patches = _Patches(level, grid, candidates, number, temperature)
        if sources.size:
            patches.inherit(sources, _STRIDES[number + 1])
        for width, narrower in zip(widths, [*widths[1:], 0.0], strict=True):
            image = patches.denoised(image, width, rng)
            if narrower:
                image = image + temperature * narrower * _noise(rng, image.shape)
        sources = patches.sources()
    return Collage(np.clip(image, 0.0, 1.0), sources)


def patch_starts(n_pixels: int) -> np.ndarray:
    """Return the first row, or column, of each patch of the finest level."""
    return _starts(n_pixels, _STRIDES[0])


def _starts(n_pixels: int, stride: int) -> np.ndarray:
    return np.unique(np.append(np.arange(0, n_pixels - PATCH + 1, stride), n_pixels - PATCH))


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def pieces(sources: np.ndarray) -> np.ndarray:
    """Give each piece of a photograph a number, (row, column): patches that touch and lay beside each other where they are from.

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
    beside = (sources[:, 1:] == sources[:, :-1]).all(axis=-1)
    below = (sources[1:] == sources[:-1]).all(axis=-1)
    one = np.concatenate([number[:, :-1][beside], number[:-1][below]])
    other = np.concatenate([number[:, 1:][beside], number[1:][below]])
    touching = sparse.coo_matrix((np.ones(len(one), bool), (one, other)), shape=(number.size, number.size))
    _, labels = sparse.csgraph.connected_components(touching, directed=False)
    return labels.reshape(number.shape)


def _penalty(shares: np.ndarray, most: float) -> np.ndarray:
    return np.float32(_PENALTY) * np.maximum(shares / (_HELD_BACK_FROM * most) - 1.0, 0.0).astype(np.float32)


class _Patches:
    """The patches of one level, and where each of their candidates lies now."""

    def __init__(self, level: Level, grid: Grid, candidates: Candidates, number: int, temperature: float):
        self._number = number
        self._level, self._moves = level, _MOVES[number]
        height, width = level.pixels.shape[1:3]
        self._rows, self._columns = _starts(height, _STRIDES[number]), _starts(width, _STRIDES[number])
        self.top, self.left = (part.ravel() for part in np.meshgrid(self._rows, self._columns, indexing="ij"))
        row, column = (
            grid.nearest((start + PATCH / 2) * level.factor - 0.5, axis)
            for axis, start in enumerate((self.top, self.left))
        )
        n_columns = grid.shape[1]
        place = row * n_columns + column
        self.photographs = candidates.photographs[place]
        there = candidates.places[place]
        self._bounds = height - PATCH, width - PATCH
        self.down = self._within(self.top, (there // n_columns - row[:, None]) * grid.step[0] / level.factor, 0)
        self.across = self._within(self.left, (there % n_columns - column[:, None]) * grid.step[1] / level.factor, 1)
        typical = max(float(np.median(candidates.distances)), 1e-12)
        tolerance = typical * max(temperature, 1e-6)
        self._unlike = (_CONTEXT_WEIGHT / tolerance * candidates.distances[place]).astype(np.float32)
        self._penalties = np.zeros(len(level.pixels), np.float32)
        self._is_sorted = False
        profile = np.hanning(PATCH + 2)[1:-1].astype(np.float32)
        self._window = (profile[:, None] * profile)[..., None]

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
        windows = np.lib.stride_tricks.sliding_window_view(self._level.pixels, (PATCH, PATCH), axis=(1, 2))
        seen = np.lib.stride_tricks.sliding_window_view(image, (PATCH, PATCH), axis=(0, 1))[self.top, self.left]
        means = np.empty((len(own), PATCH, PATCH, image.shape[-1]), np.float32)
        scores = np.empty(self.photographs.shape, np.float32)
        for start in range(0, len(own), _PATCHES_AT_ONCE):
            part = slice(start, start + _PATCHES_AT_ONCE)
            patches = as_pictures(windows[self.photographs[part], self.down[part], self.across[part]])
            patch = seen[part][:, None]
            difference = (patches - patch).reshape(*patches.shape[:2], -1)
            score = np.einsum("pcv,pcv->pc", difference, difference)
            detail = (patches - patches.mean(axis=(-2, -1), keepdims=True)).reshape(difference.shape)
            score -= np.float32(_CONTRAST) * np.einsum("pcv,pcv->pc", detail, detail)
            score /= np.float32(-2.0 * width**2)
            score -= self._unlike[part] + self._penalties[self.photographs[part]]
            scores[part] = score
            weights = np.exp(score - score.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            mean = np.matmul(weights[:, None], patches.reshape(*patches.shape[:2], -1))[:, 0]
            means[part] = np.moveaxis(mean.reshape(-1, image.shape[-1], PATCH, PATCH), 1, -1)
        self._keep_best(scores)
        return self._overlapped(means, image.shape)

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
        self._penalties += _penalty(shares, MOST_OF_ONE_PHOTOGRAPH)
        labels = pieces(self.sources()).ravel()
        sizes = np.bincount(labels) / len(labels)
        self._unlike[:, 0] += _penalty(sizes, MOST_OF_ONE_PIECE)[labels]

    def _overlapped(self, patches: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        total, weight = np.zeros(shape, np.float32), np.zeros((*shape[:2], 1), np.float32)
        weighted = patches * self._window
        for i in range(PATCH):
            for j in range(PATCH):  # no two patches have their corner at the same place
                total[self.top + i, self.left + j] += weighted[:, i, j]
                weight[self.top + i, self.left + j] += self._window[i, j]
        return total / weight

    def sources(self) -> np.ndarray:
        """Tell where the patches that fit best are from, see `Collage`."""
        sources = np.stack([self.photographs[:, 0], self.down[:, 0] - self.top, self.across[:, 0] - self.left], axis=-1)
        return sources.astype(np.int16).reshape(len(self._rows), len(self._columns), 3)
