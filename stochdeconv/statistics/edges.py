"""The sharpness of edges: mean and spread of the log gradient magnitude of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stochdeconv.images.colors import luminance
from stochdeconv.images.measures import LOG_GRADIENT_EPSILON, log_gradient_magnitude
from stochdeconv.statistics.class_statistics import INPUT
from stochdeconv.statistics.statistic import Array, Block, PhotographStatistic, PureLoss, Storage, Tensor, Weights

#: Keeps a square root differentiable at zero; (0.0002)^2, far below one grey level.
SQUARE_FLOOR = 4e-8
# Standard deviation of the log gradient that any other counts as at least: that of a blank picture is 0.
_LEAST_STD = 0.05


@dataclass(frozen=True)
class EdgesWeights(Weights):
    """Weight of the edges in a recipe.

    Attributes
    ----------
    sharpness : float
        Mean and standard deviation of the log gradient magnitude, to the sampled ones: edges as sharp as a photograph's.
    """

    sharpness: float = 0.0


class Edges(PhotographStatistic):
    """Mean and standard deviation of each photograph's log gradient magnitude.

    Fields of the class: ``log_gradient_mean`` and ``log_gradient_std``, (row,). Targets: the same, (image,).
    """

    name = "edges"
    weights = EdgesWeights
    class_fields: ClassVar = {
        "log_gradient_mean": Array("<f4", per_row=True),
        "log_gradient_std": Array("<f4", per_row=True),
    }

    def storage(self, shape, settings):
        """Keep two numbers of each photograph."""
        return Storage(columns={"log_gradient": ("<f4", 2)})

    def measure(self, photograph):
        """Measure mean and standard deviation."""
        edges = log_gradient_magnitude(photograph)
        return {"log_gradient": np.array([edges.mean(dtype=np.float64), edges.std(dtype=np.float64)], np.float32)}

    def summarise(self, measured):
        """Leave each row's as they are."""
        mean, std = np.ascontiguousarray(measured.column("log_gradient").T)
        return {"log_gradient_mean": mean, "log_gradient_std": std}

    def blocks(self, statistics):
        """Sample both together."""
        return [Block(np.stack([statistics.log_gradient_mean, statistics.log_gradient_std], axis=1))]

    def targets(self, blocks):
        """Take them apart."""
        return {"log_gradient_mean": blocks[0][:, 0], "log_gradient_std": blocks[0][:, 1]}

    def weight(self, recipe):
        """Take the recipe's sharpness."""
        return recipe.sharpness

    def loss(self, statistics, targets):
        """Ask for the sampled sharpness."""
        return ask_edge_sharpness(targets.log_gradient_mean, targets.log_gradient_std)


def ask_edge_sharpness(mean: np.ndarray, std: np.ndarray) -> PureLoss:
    """Ask for edges as sharp as a photograph's, see `regularizers.edge_sharpness`."""
    arrays = {
        "mean": np.asarray(mean, np.float32),
        "std": np.maximum(np.asarray(std, np.float32), np.float32(_LEAST_STD)),
    }
    return PureLoss(edge_sharpness, (INPUT,), arrays)


def edge_sharpness(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Compare sharpness: squared distances of mean and standard deviation, in units of the variance."""
    from keras import ops

    light = luminance(images)
    dx = light[:, :-1, 1:] - light[:, :-1, :-1]
    dy = light[:, 1:, :-1] - light[:, :-1, :-1]
    logs = ops.log(ops.sqrt(dx**2 + dy**2 + SQUARE_FLOOR) + LOG_GRADIENT_EPSILON)
    own_mean, own_std = ops.mean(logs, axis=(1, 2)), ops.std(logs, axis=(1, 2))
    return ((own_mean - mean) ** 2 + (own_std - std) ** 2) / std**2


EDGES = Edges()
