"""Suppress the outliers: while a class score rises, channels that are stronger than in any image of the class are decreased."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import InputError
from stochdeconv.generate import check_model
from stochdeconv.statistics import INPUT

if TYPE_CHECKING:
    from stochdeconv.class_names import ClassName
    from stochdeconv.losses import Loss
    from stochdeconv.models import ImageModel
    from stochdeconv.statistics import ClassStatistics


def suppression(model: ImageModel, statistics: ClassStatistics, classes: Sequence[ClassName], *, weight: float) -> Loss:
    """Weigh the outliers of a class against its score.

    Scores of networks differ in scale: the unit here is the standard deviation of the class score over the images of the statistics. At
    a weight of 1, channels that bring D² of a layer to twice its limit cost one standard deviation of score.

    Parameters
    ----------
    model : ImageModel
        The network the statistics were collected with.
    statistics : ClassStatistics
        Of the class that is maximised.
    classes : sequence of ClassName
        What is maximised: exactly this one class.
    weight : float

    Returns
    -------
    Loss

    Raises
    ------
    ModelError
        The statistics are another network's.
    InputError
        They are of another class, or cannot tell outliers.
    """
    check_model(model, statistics)
    indices = [found.index for found in classes]
    if indices != [statistics.class_index]:
        wanted = ", ".join(found.label for found in classes) or "no class"
        raise InputError(
            f"outliers are suppressed while their own class is maximised: the statistics are of '{statistics.class_name or 'no class'}', "
            f"what is maximised is {wanted}"
        )
    return weight * float(np.std(statistics.logits)) * outlier_loss(statistics)


def outlier_loss(statistics: ClassStatistics, *, layers: Sequence[str] | None = None) -> Loss:
    """Ask for images whose channel means are no outliers of the class's, layer by layer; see `losses.outliers`.

    Each layer's Gaussian is fitted to the spatial means of the images of the statistics, its covariance shrunk (Ledoit & Wolf 2004). The
    limit of D² is what 95 % of images that were not fitted stay within.

    Parameters
    ----------
    statistics : ClassStatistics
    layers : sequence of str, optional
        By default all maps: the more of them, the nearer to photographs (docs/outlier_suppression.md).

    Returns
    -------
    Loss
        A term for each layer.
    """
    from stochdeconv import losses
    from stochdeconv.gaussians import ShrunkGaussian

    if layers is None:
        layers = [name for name, layer in statistics.items() if name != INPUT and layer.shape[0] * layer.shape[1] > 1]
    if not layers:
        raise InputError(
            f"the statistics hold no convolutional layer ({', '.join(statistics)}) whose outliers could be told"
        )
    loss = losses.Loss()
    for name in layers:
        fitted = ShrunkGaussian.fit(statistics[name].means)
        loss = loss + losses.outliers(name, mean=fitted.mean, precision=fitted.precision, limit=fitted.limit)
    return loss
