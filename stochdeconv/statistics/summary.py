"""Distributions measured exactly: sums that no order changes, histograms, spectra, principal components out of core."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from stochdeconv.images.colors import luminance

#: Added to a spatial standard deviation before its logarithm, so that a silent channel has one.
LOG_STD_EPSILON = 0.01

#: Positions of every map that enter the histograms; a map with no more positions enters whole.
N_POSITIONS = 49
#: Edges of the activation histograms: asinh-spaced, so fine around zero (0.00125) and 13 % wide far from it. Values beyond
#: the ends (± 44,430) count in the end bins; a bin holds ``edge[i] <= value < edge[i + 1]``, so zero opens a bin.
HISTOGRAM_EDGES = (0.01 * np.sinh(np.linspace(-16.0, 16.0, 257))).astype(np.float32)

#: One grey level of 256: below it, differences are quantisation noise.
LOG_GRADIENT_EPSILON = 1.0 / 255.0
#: Edges of the histogram of log gradient magnitude, from no gradient at all to the largest possible one.
LOG_GRADIENT_EDGES = np.linspace(np.log(LOG_GRADIENT_EPSILON), np.log(np.sqrt(2.0) + LOG_GRADIENT_EPSILON), 65).astype(
    np.float32
)

# Up to this many images principal components come from the matrix of their inner products, exactly (8 bytes an entry: 32 MB).
MAX_GRAM_IMAGES = 2048
# Numbers held at once while reading maps: 32 MB of float32.
_BLOCK_VALUES = 2**23
_BLOCK_IMAGES = 64
# Beyond the components wanted, so that the last of them converge as fast as the first (Halko, Martinsson, Tropp 2011, §4.3).
_OVERSAMPLING = 32
_TOLERANCE = 1e-4
_MAX_PASSES = 24
# A component whose variance is this small a part of the whole is rounding error of float32 products, not a direction.
_NEGLIGIBLE = 1e-6


class ExactSum:
    """A sum of arrays whose rounded value depends neither on the order of the terms nor on how they were split up.

    Every entry is kept as an unevaluated pair high + low of float64 (Knuth's TwoSum: 106 bits), so the rounding of a
    million additions stays far below the last bit of the float64 result.

    Attributes
    ----------
    high, low : ndarray
        The sum is ``high + low``.
    """

    # Small enough for the processor's cache: seven passes over memory become one.
    _CACHED = 8192

    def __init__(self, shape: tuple[int, ...]):
        self.high = np.zeros(shape, np.float64)
        self.low = np.zeros(shape, np.float64)
        self._scratch = np.empty((3, self._CACHED), np.float64)

    def add(self, term: np.ndarray) -> None:
        """Add one array of the sum's shape."""
        if term.shape != self.high.shape:
            raise ValueError(f"a term of shape {self.high.shape} was expected; got {term.shape}")
        high, low, term = self.high.reshape(-1), self.low.reshape(-1), np.ascontiguousarray(term).reshape(-1)
        for start in range(0, high.size, self._CACHED):
            part = slice(start, min(start + self._CACHED, high.size))
            self._add(high[part], low[part], term[part])

    def _add(self, high: np.ndarray, low: np.ndarray, term: np.ndarray) -> None:
        value, total, error = self._scratch[:, : high.size]
        value[:] = term
        np.add(high, value, out=total)
        np.subtract(total, high, out=error)  # the part of the term that arrived
        value -= error  # what of the term was lost
        low += value
        np.subtract(total, error, out=error)
        np.subtract(high, error, out=error)  # what of the sum was lost
        low += error
        high[:] = total

    def merge(self, high: np.ndarray, low: np.ndarray) -> None:
        """Add another sum's two parts."""
        self.add(high)
        self.low += low

    @property
    def value(self) -> np.ndarray:
        """The sum in float64."""
        return self.high + self.low


def count_histogram(values: np.ndarray) -> np.ndarray:
    """Count values per channel.

    Parameters
    ----------
    values : ndarray of shape (..., channel)
        float32 activations.

    Returns
    -------
    ndarray of shape (channel, bin)
        int64 counts in the bins of ``HISTOGRAM_EDGES``.
    """
    n_channels, n_bins = values.shape[-1], len(HISTOGRAM_EDGES) - 1
    values = values.reshape(-1, n_channels).astype(np.float32, copy=False)
    # The edges' own spacing gives the bin to within rounding; the comparison with the edges decides.
    index = np.arcsinh(np.clip(values, -4e4, 4e4) * np.float32(100.0)) * np.float32(8.0) + np.float32(128.0)
    index = np.clip(index.astype(np.int64), 0, n_bins - 1)
    index -= (values < HISTOGRAM_EDGES[index]) & (index > 0)
    index += (values >= HISTOGRAM_EDGES[index + 1]) & (index < n_bins - 1)
    index += np.arange(n_channels) * n_bins
    return np.bincount(index.ravel(), minlength=n_channels * n_bins).reshape(n_channels, n_bins)


def seeded_positions(key: str, n_rows: int, n_columns: int) -> np.ndarray:
    """Choose the positions of a map that enter the histograms, from the image's name alone.

    The same relative places in every layer, independent of all other images.

    Parameters
    ----------
    key : str
        The image's name.
    n_rows, n_columns : int
        Size of the map.

    Returns
    -------
    ndarray of shape (min(N_POSITIONS, n_rows * n_columns),)
        int32 positions, row by row.
    """
    if n_rows * n_columns <= N_POSITIONS:
        return np.arange(n_rows * n_columns, dtype=np.int32)
    row, column = np.random.default_rng(key_number(key)).random((2, N_POSITIONS))
    return (np.floor(row * n_rows) * n_columns + np.floor(column * n_columns)).astype(np.int32)


def key_number(key: str) -> int:
    """Turn an image's name into a number of 64 bits, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def drawn_by_key(keys: Sequence[str], n: int) -> np.ndarray:
    """Draw n of the images with these keys, in their order: the same ones however the images were split; all where there are no more."""
    if len(keys) <= n:
        return np.arange(len(keys))
    return np.sort(np.argsort([key_number(key) for key in keys], kind="stable")[:n])


def rounded(values: np.ndarray) -> np.ndarray:
    """Round float32 to the 11 significant bits of float16, without its narrow range: the zeros compress, and no mean is known better."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)


def log_gradient_magnitude(image: np.ndarray) -> np.ndarray:
    """Measure the sharpness of edges: ``log(sqrt(dx² + dy²) + LOG_GRADIENT_EPSILON)`` of the luminance.

    dx and dy are forward differences to the right and lower neighbour, where both exist.

    Parameters
    ----------
    image : ndarray of shape (height, width, channel)
        RGB or grey, in [0, 1].

    Returns
    -------
    ndarray of shape (height - 1, width - 1)
        float32.
    """
    light = luminance(image)
    dx = light[:-1, 1:] - light[:-1, :-1]
    dy = light[1:, :-1] - light[:-1, :-1]
    return np.log(np.sqrt(dx * dx + dy * dy) + np.float32(LOG_GRADIENT_EPSILON))


def count_log_gradients(values: np.ndarray) -> np.ndarray:
    """Count log gradient magnitudes in the bins of ``LOG_GRADIENT_EDGES``; rounding beyond the ends counts in the end bins.

    Returns
    -------
    ndarray of shape (bin,)
        int64 counts.
    """
    inside = np.clip(values, LOG_GRADIENT_EDGES[0], LOG_GRADIENT_EDGES[-1])
    return np.histogram(inside, LOG_GRADIENT_EDGES)[0]


def amplitude_spectrum(image: np.ndarray) -> np.ndarray:
    """Measure how much of each spatial frequency an image holds.

    Parameters
    ----------
    image : ndarray of shape (height, width, channel)

    Returns
    -------
    ndarray of shape (height, width // 2 + 1, channel)
        float32 ``|numpy.fft.rfft2|`` per colour, unnormalised.
    """
    planes = np.moveaxis(image, -1, 0).astype(np.float64)
    return np.moveaxis(np.abs(np.fft.rfft2(planes)), 0, -1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class MapReader:
    """Maps on disk, one row an image, read a piece at a time.

    Attributes
    ----------
    n_images, n_values : int
        Rows, and numbers in each.
    read : callable
        ``read(images, values) -> float32 (image, value)`` for an array of row numbers and a slice of columns.
    """

    n_images: int
    n_values: int
    read: Callable[[np.ndarray, slice], np.ndarray]

    def blocks(self):
        """Yield all rows in order, a fixed number at a time."""
        for start in range(0, self.n_images, _BLOCK_IMAGES):
            yield self.read(np.arange(start, min(start + _BLOCK_IMAGES, self.n_images)), slice(0, self.n_values))

    def panels(self, images: np.ndarray):
        """Yield (slice, columns of the given rows) from the first column to the last."""
        width = max(1, min(self.n_values, _BLOCK_VALUES // max(1, len(images))))
        for start in range(0, self.n_values, width):
            part = slice(start, min(start + width, self.n_values))
            yield part, self.read(images, part)


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """Principal components of maps, and the maps' scores along them.

    Attributes
    ----------
    mean : ndarray of shape (value,)
        float32.
    components : ndarray of shape (component, value)
        float32 numbers that float16 holds exactly: what is stored is what the scores were computed with.
    explained_variance : ndarray of shape (component,)
        float64 variance of the scores, n_images - 1 in the denominator; largest first.
    total_variance : float
        Summed over all values.
    scores : ndarray of shape (image, component)
        float32.
    n_passes : int
        Refining passes over the maps; 0 where the components are exact at once.
    converged : bool
        Whether the refinement ended before its last allowed pass.
    """

    mean: np.ndarray
    components: np.ndarray
    explained_variance: np.ndarray
    total_variance: float
    scores: np.ndarray
    n_passes: int
    converged: bool


def principal_components(maps: MapReader, n_components: int) -> PrincipalComponents:
    """Find the main ways in which maps vary, in memory that does not grow with their number.

    Up to ``MAX_GRAM_IMAGES`` maps: exactly, from the inner products of the maps. More: block subspace iteration with
    Rayleigh-Ritz over all maps, begun with the exact answer for an even selection of them, until the explained variances
    settle. Rows are read in order in blocks of a fixed size, so equal maps give equal bytes. (scikit-learn's IncrementalPCA
    depends on the batches and underestimates what is left over; its randomized PCA wants all maps in memory.)

    Parameters
    ----------
    maps : MapReader
        At least one row.
    n_components : int
        At most this many; fewer where fewer directions vary.

    Returns
    -------
    PrincipalComponents
    """
    selection = np.arange(maps.n_images)
    if maps.n_images <= MAX_GRAM_IMAGES:
        mean, axes, scores, total = _from_inner_products(maps, selection, n_components)
        return _finished(mean, axes, scores, total, n_passes=0, converged=True)
    selection = selection[np.linspace(0, maps.n_images - 1, MAX_GRAM_IMAGES).astype(np.int64)]
    _, axes, _, _ = _from_inner_products(maps, selection, n_components + _OVERSAMPLING)
    mean = sum(block.sum(axis=0, dtype=np.float64) for block in maps.blocks()) / maps.n_images
    axes, total, n_passes, converged = _refined(maps, mean, axes.astype(np.float32), n_components)
    axes = axes.astype(np.float16)
    scores, center, stored = [], mean.astype(np.float32), axes.astype(np.float32)
    for block in maps.blocks():
        scores.append((block - center) @ stored.T)
    return _finished(mean, axes, np.concatenate(scores), total, n_passes=n_passes, converged=converged)


def _from_inner_products(
    maps: MapReader, images: np.ndarray, n_components: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Exact principal axes of some rows: their mean, axes (component, value) in float16, scores along those, total variance."""
    n_images = len(images)
    mean = np.empty(maps.n_values)
    gram = np.zeros((n_images, n_images))
    for part, values in maps.panels(images):
        mean[part] = values.mean(axis=0, dtype=np.float64)
        values -= mean[part].astype(np.float32)
        gram += values @ values.T
    # Centring in float32 leaves a trace of the mean behind; here it is taken out exactly.
    gram -= gram.mean(axis=0)
    gram -= gram.mean(axis=1)[:, np.newaxis]
    total = max(float(np.trace(gram)), 0.0) / max(n_images - 1, 1)
    n_components = min(n_components, n_images - 1, maps.n_values)
    if n_components < 1 or total == 0.0:
        return mean, np.empty((0, maps.n_values), np.float16), np.empty((n_images, 0)), total
    variances, vectors = linalg.eigh(gram, subset_by_index=(n_images - n_components, n_images - 1), overwrite_a=True)
    variances, vectors = variances[::-1], vectors[:, ::-1]
    kept = variances > _NEGLIGIBLE * total * (n_images - 1)
    weights = (vectors[:, kept] / np.sqrt(variances[kept])).T.astype(np.float32)
    axes = np.empty((len(weights), maps.n_values), np.float16)
    scores = np.zeros((n_images, len(weights)))
    for part, values in maps.panels(images):
        values -= mean[part].astype(np.float32)
        axes[:, part] = weights @ values
        scores += values @ axes[:, part].astype(np.float32).T
    return mean, axes, scores, total


def _refined(
    maps: MapReader, mean: np.ndarray, axes: np.ndarray, n_components: int
) -> tuple[np.ndarray, float, int, bool]:
    """Subspace iteration: axes (component, value) of all rows from axes of some."""
    center = mean.astype(np.float32)
    variances = np.zeros(n_components)
    converged = not len(axes)
    n_passes = 0
    while not converged and n_passes < _MAX_PASSES:
        n_passes += 1
        inner = np.zeros((len(axes), len(axes)))
        image = np.zeros(axes.shape, np.float64)
        for block in maps.blocks():
            block -= center
            scores = block @ axes.T
            inner += scores.T.astype(np.float64) @ scores
            image += scores.T @ block
        ritz = np.linalg.eigvalsh(inner / (maps.n_images - 1))[::-1][:n_components]
        converged = bool(np.all(np.abs(ritz - variances[: len(ritz)]) <= _TOLERANCE * ritz))
        variances = ritz
        # The covariance applied to the axes is already at hand: one more step of the iteration for nothing.
        axes = np.linalg.qr(image.T)[0].T.astype(np.float32)
    # Rotated to the principal directions of the last subspace.
    inner = np.zeros((len(axes), len(axes)))
    total = 0.0
    for block in maps.blocks():
        block -= center
        total += float(np.einsum("ij,ij->", block, block, dtype=np.float64))
        scores = block @ axes.T
        inner += scores.T.astype(np.float64) @ scores
    total /= maps.n_images - 1
    ritz, rotation = np.linalg.eigh(inner / (maps.n_images - 1))
    ritz, rotation = ritz[::-1][:n_components], rotation[:, ::-1][:, :n_components]
    rotation = rotation[:, ritz > _NEGLIGIBLE * total]
    return rotation.T.astype(np.float32) @ axes, total, n_passes, converged


def _finished(
    mean: np.ndarray, axes: np.ndarray, scores: np.ndarray, total: float, *, n_passes: int, converged: bool
) -> PrincipalComponents:
    """Fix the signs and measure the variances of the scores."""
    components = axes.astype(np.float32)
    # The largest loading is positive, as in scikit-learn's svd_flip(u_based_decision=False).
    largest = components[np.arange(len(axes)), np.abs(axes).argmax(axis=1)] if len(axes) else np.ones(0)
    signs = np.where(largest < 0, -1.0, 1.0).astype(np.float32)
    components *= signs[:, np.newaxis]
    scores = (scores * signs).astype(np.float32)
    spread = scores.astype(np.float64) - scores.mean(axis=0, dtype=np.float64)
    explained = np.sum(spread**2, axis=0) / max(len(scores) - 1, 1)
    return PrincipalComponents(mean.astype(np.float32), components, explained, total, scores, n_passes, converged)
