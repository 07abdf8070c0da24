"""Principal components of maps, out of core and the same to the byte every time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stochdeconv.statistics.maps import MapReader

# Up to this many images principal components come from the matrix of their inner products, exactly (8 bytes an entry: 32 MB).
MAX_GRAM_IMAGES = 2048
# Beyond the components wanted, so that the last of them converge as fast as the first (Halko, Martinsson, Tropp 2011, §4.3).
_OVERSAMPLING = 32
# Images that the refinement of more is begun with.
_SELECTED_IMAGES = 1024
_TOLERANCE = 1e-4
_MAX_PASSES = 24
# A component whose variance is this small a part of the whole is rounding error of float32 products, not a direction.
_NEGLIGIBLE = 1e-6


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
    selection = selection[np.linspace(0, maps.n_images - 1, _SELECTED_IMAGES).astype(np.int64)]
    _, axes, _, _ = _from_inner_products(maps, selection, n_components + _OVERSAMPLING)
    mean = sum(block.sum(axis=0, dtype=np.float64) for block in maps.blocks()) / maps.n_images
    axes, total, n_passes, converged = _refined(maps, mean, axes.astype(np.float32), n_components)
    axes = axes.astype(np.float16)
    center, stored = mean.astype(np.float32), axes.astype(np.float32)
    scores = np.concatenate([(block - center) @ stored.T for block in maps.blocks()])
    return _finished(mean, axes, scores, total, n_passes=n_passes, converged=converged)


def _from_inner_products(
    maps: MapReader, images: np.ndarray, n_components: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Exact principal axes of some rows: their mean, axes (component, value) in float16, scores along those, total variance."""
    n_images = len(images)
    mean = np.empty(maps.n_values)
    gram = np.zeros((n_images, n_images), order="F")  # as LAPACK wants it, which would copy it otherwise
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
    from scipy import linalg  # slow to import: only where statistics are made

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
    from scipy import linalg  # slow to import: only where statistics are made

    center = mean.astype(np.float32)
    variances: np.ndarray = np.zeros(n_components)
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
        axes = linalg.qr(image.T, mode="economic", overwrite_a=True, check_finite=False)[0].T.astype(np.float32)
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
