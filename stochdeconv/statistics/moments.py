"""The texture of a layer: means, spreads and correlations of its channels over the positions of one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stochdeconv.statistics.class_statistics import INPUT
from stochdeconv.statistics.directions import covariance as covariance_of
from stochdeconv.statistics.rounding import rounded
from stochdeconv.statistics.shared_maps import SharedMap
from stochdeconv.statistics.statistic import Array, Block, LayerStatistic, PureLoss, Storage, Tensor, Weights

#: Added to a spatial standard deviation before its logarithm, so that a silent channel has one.
LOG_STD_EPSILON = 0.01
# Keeps the square root of a variance differentiable where a channel is silent; far below any activation's variance.
_VARIANCE_FLOOR = 1e-8


@dataclass(frozen=True)
class MomentsWeights(Weights):
    """Weights of the textures in a recipe.

    Attributes
    ----------
    moments : float
        Channel means, spreads and correlations of every layer but the deepest: the texture.
    color : float
        Colour mean and covariance of the image, to the sampled ones.
    """

    moments: float = 1.0
    color: float = 0.0


class Moments(LayerStatistic):
    """Channel means, spreads and correlations.

    Fields of a layer: ``means`` (row, channel), the spatial mean of each image; ``log_stds`` (row, channel), the logarithm of its spatial
    standard deviation + `LOG_STD_EPSILON`; ``within_covariance`` (channel, channel), the covariance over the positions of one image,
    averaged over images.
    Targets: ``mean`` and ``std``, (image, channel).
    """

    name = "moments"
    weights = MomentsWeights
    layer_fields: ClassVar = {
        "within_covariance": Array("<f4", is_rounded_when_compacted=True),
        "means": Array("<f4", per_row=True, is_rounded_when_compacted=True),
        "log_stds": Array("<f4", per_row=True, is_rounded_when_compacted=True),
    }

    def storage(self, layer):
        """Keep means and log deviations of each image, add up the covariances."""
        n_channels = layer.shape[-1]
        return Storage(
            columns={"mean": ("<f4", n_channels), "log_std": ("<f4", n_channels)},
            sums={"within": (n_channels, n_channels)},
        )

    def measure(self, maps, layer):
        """Measure mean and covariance of each image, (image, channel) and (image, channel, channel)."""
        from keras import ops

        n_images, n_positions, n_channels = maps.shape[0], layer.shape[0] * layer.shape[1], layer.shape[2]
        flat = ops.reshape(maps, (n_images, n_positions, n_channels))
        # Averages over positions as products with a row of ones: two to three times as fast as a reduction.
        mean = ops.matmul(np.full((1, n_positions), 1.0 / n_positions, np.float32), flat)
        centred = flat - mean
        covariance = ops.matmul(ops.swapaxes(centred, 1, 2), centred) / n_positions
        return {"mean": mean[:, 0], "within": covariance}

    def encode(self, measured):
        """Take the logarithm of the standard deviations."""
        variance = np.diagonal(measured["within"], axis1=1, axis2=2).astype(np.float64)
        std = np.sqrt(np.maximum(variance, 0.0))
        return {**measured, "log_std": np.log(std + LOG_STD_EPSILON)}

    def summarise(self, measured):
        """Average the covariances; what each row has is rounded."""
        within = measured.mean("within")
        return {
            "within_covariance": ((within + within.T) / 2).astype(np.float32),
            "means": rounded(measured.column("mean")),
            "log_stds": rounded(measured.column("log_std")),
        }

    def blocks(self, layer):
        """Sample means and log deviations."""
        return [Block(layer.means), Block(layer.log_stds)]

    def targets(self, blocks, layer):
        """Undo the logarithm."""
        means, log_stds = blocks
        return {"mean": means, "std": np.maximum(np.exp(log_stds) - LOG_STD_EPSILON, 0.0)}

    def weight(self, recipe, layer, maps):
        """Ask for the texture of all layers but the deepest, where there are others."""
        if layer == INPUT:
            return recipe.color
        return recipe.moments if layer in (maps[:-1] or maps) else 0.0

    def channel_covariances(self, layer):
        """Look where channels vary within images, and where their means vary between images."""
        return [layer.within_covariance, covariance_of(layer.means)]

    def loss(self, statistics, layer, target, directions):
        """Ask for the sampled means and spreads, and the class's correlations."""
        return ask_channel_moments(
            layer,
            mean=target.mean,
            std=target.std,
            covariance=statistics[layer].within_covariance,
            directions=directions,
        )


def ask_channel_moments(
    layer: str, *, mean: np.ndarray, std: np.ndarray, covariance: np.ndarray, directions: np.ndarray | None = None
) -> PureLoss:
    """Ask a layer for a texture, see `losses.channel_moments`."""
    deviation = np.sqrt(np.maximum(np.diag(covariance), _VARIANCE_FLOOR))
    correlation = covariance / np.outer(deviation, deviation)
    std, mean = np.asarray(std, np.float32), np.asarray(mean, np.float32)
    if directions is None:
        target = correlation * std[:, :, None] * std[:, None, :]
    else:
        scaled = std[:, :, None] * directions
        target, mean = np.swapaxes(scaled, 1, 2) @ (correlation @ scaled), mean @ directions
    arrays: dict[str, np.ndarray] = {
        "mean": np.asarray(mean, np.float32),
        "covariance": np.asarray(target, np.float32),
        "energy": np.asarray((target**2).sum(axis=(1, 2)) + _VARIANCE_FLOOR, np.float32),
        "variance": np.asarray(max(np.trace(covariance), _VARIANCE_FLOOR), np.float32),
    }
    if directions is not None:
        arrays["directions"] = directions
    return PureLoss(channel_moments, (layer,), arrays, reads_shared_maps=True)


def channel_moments(
    values: SharedMap,
    mean: Tensor,
    covariance: Tensor,
    energy: Tensor,
    variance: Tensor,
    directions: Tensor | None = None,
) -> Tensor:
    """Compare textures: ``|m - m*|^2 / tr W + |S - S*|^2_F / |S*|^2_F``."""
    from keras import ops

    deviation, own = _moments(values.along(directions), mean)
    return ops.sum(deviation**2, axis=-1) / variance + ops.sum((own - covariance) ** 2, axis=(1, 2)) / energy


def _moments(values: Tensor, about: Tensor) -> tuple[Tensor, Tensor]:
    """Deviations of the spatial means from `about`, both (image, channel), and covariances (image, channel, channel).

    Whoever differentiates the covariances does so symmetrically.
    """
    from keras import ops

    # Taken about the mean or near it, a product of few digits loses none of them to the mean.
    values = ops.reshape(values, (ops.shape(values)[0], -1, values.shape[-1])) - about[:, None]
    n_positions = values.shape[1]
    # Averages over positions as products with a row of ones: two to three times as fast as a reduction.
    mean = ops.matmul(np.full((1, 1, n_positions), 1.0 / n_positions, np.float32), values)[:, 0]
    # Both sides of the product are the same and receive the same gradient: that of one, doubled, costs half.
    squared = ops.matmul(ops.stop_gradient(ops.swapaxes(values, 1, 2)), values) / n_positions
    squared = 2.0 * squared - ops.stop_gradient(squared)
    return mean, squared - mean[:, :, None] * mean[:, None, :]


MOMENTS = Moments()
