"""Suppress the outliers: while a class score rises, channels that are stronger than in any image of the class are decreased."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import InputError, SettingsError
from stochdeconv.methods.objective import check_model
from stochdeconv.parsing import read_list
from stochdeconv.settings import check_number
from stochdeconv.statistics.class_statistics import ClassStatistics

if TYPE_CHECKING:
    from stochdeconv.losses import Loss
    from stochdeconv.networks.classes import ClassName
    from stochdeconv.networks.image_model import ImageModel

#: What says where outliers begin: statistics or files of them.
Outliers = str | Path | ClassStatistics | Sequence[ClassStatistics | str | Path] | None

#: Deviations of the class score that an outlier at twice the limit costs: in `maximize`, and in `refine` and `morph`
#: (docs/how-to/outlier_suppression.md says how they were chosen).
MAXIMIZE_WEIGHT, APPROACH_WEIGHT = 10.0, 3.0


def weigh_outliers(suppress_outliers: object, weight: float | None, *, default: float) -> float | None:
    """Return the weight that was given, or the default; None without outliers to suppress.

    Parameters
    ----------
    suppress_outliers : object
        What says where outliers begin, or None.
    weight : float or None
    default : float

    Returns
    -------
    float or None

    Raises
    ------
    SettingsError
        A weight was given of nothing, or one that is none.
    """
    if suppress_outliers is None:
        if weight is not None:
            raise SettingsError(
                f"outlier_weight= {weight} weighs nothing: say with suppress_outliers=FILE.h5 what an outlier is"
            )
        return None
    weight = default if weight is None else weight
    check_number("outlier_weight", weight, at_least=0)
    return weight


def list_statistics(suppress_outliers: Outliers) -> list[ClassStatistics | str | Path]:
    """List what says where outliers begin: nothing, one or several, statistics or files of them."""
    if suppress_outliers is None:
        return []
    if isinstance(suppress_outliers, str):
        return read_list(suppress_outliers, "file of statistics")
    return [suppress_outliers] if isinstance(suppress_outliers, ClassStatistics | Path) else list(suppress_outliers)


@dataclass(frozen=True, eq=False)
class Suppression:
    """What images of a class are not to activate, for the classes whose statistics are known.

    Attributes
    ----------
    losses : mapping of int to Loss
        By the index of the class.
    statistics_hash : str or None
        What it depends on: hashes in the order of the classes, with commas between them; None where nothing is known.
    """

    losses: Mapping[int, Loss]
    statistics_hash: str | None

    def loss(self, class_index: int) -> Loss:
        """Return what is asked of images of a class: nothing, where its statistics are not known."""
        from stochdeconv import losses

        return self.losses.get(class_index, losses.Loss())


def suppression(
    model: ImageModel,
    sources: Sequence[ClassStatistics | str | Path],
    classes: Sequence[ClassName],
    *,
    weight: float | None,
) -> Suppression:
    """Weigh the outliers of classes against their scores.

    Scores of networks differ in scale: the unit here is the standard deviation of the class score over the images of the statistics. At
    a weight of 1, channels that bring D² of a layer to twice its limit cost one standard deviation of score.

    Parameters
    ----------
    model : ImageModel
        The network the statistics were collected with.
    sources : sequence of ClassStatistics or path
        Those of some of the classes, or of none: it may be empty.
    classes : sequence of ClassName
        The classes whose scores are raised.
    weight : float or None
        None: nothing is suppressed.

    Returns
    -------
    Suppression

    Raises
    ------
    ModelError
        The statistics are another network's.
    InputError
        They are of another class, of one class twice, or cannot tell outliers.
    MissingInputError, FileFormatError
        Their file is not there, or is none.
    """
    from stochdeconv.statistics.file import load_statistics

    if weight is None:
        return Suppression({}, None)
    labels = {class_name.index: class_name.label for class_name in classes}
    outliers: dict[int, Loss] = {}
    hashes: dict[int, str] = {}
    for source in sources:
        statistics = load_statistics(source) if isinstance(source, str | Path) else source
        check_model(model, statistics)
        index = statistics.class_index
        if index is None or index not in labels or statistics.logits is None:
            raise InputError(
                f"outliers are suppressed while the score of their own class is raised: the statistics are of "
                f"'{statistics.class_name or 'no class'}', what is raised is {' or '.join(labels.values())}; "
                "give statistics of what is raised"
            )
        if index in outliers:
            raise InputError(f"two statistics of '{statistics.class_name}' say what its outliers are; give one of them")
        outliers[index] = weight * float(np.std(statistics.logits)) * outlier_loss(statistics)
        hashes[index] = statistics.hash()
    return Suppression(outliers, ",".join(hashes[index] for index in labels if index in hashes) or None)


def outlier_loss(statistics: ClassStatistics, *, layers: Sequence[str] | None = None) -> Loss:
    """Ask for images whose channel means are no outliers of the class's, layer by layer; see `losses.outliers`.

    Each layer's Gaussian is fitted to the spatial means of the images of the statistics, its covariance shrunk (Ledoit & Wolf 2004). The
    limit of D² is what 95 % of images that were not fitted stay within.

    Parameters
    ----------
    statistics : ClassStatistics
    layers : sequence of str, optional
        By default all maps: the more of them, the nearer to photographs (docs/how-to/outlier_suppression.md).

    Returns
    -------
    Loss
        A term for each layer.

    Raises
    ------
    InputError
        The statistics hold no layer with positions.
    """
    from stochdeconv import losses
    from stochdeconv.sampling.gaussians import ShrunkGaussian

    if layers is None:
        layers = statistics.map_layers
    if not layers:
        raise InputError(
            f"the statistics hold no convolutional layer ({', '.join(statistics)}) whose outliers could be told"
        )
    loss = losses.Loss()
    for name in layers:
        fitted = ShrunkGaussian.fit(statistics[name].means)
        loss = loss + losses.outliers(name, mean=fitted.mean, precision=fitted.precision, limit=fitted.limit)
    return loss
