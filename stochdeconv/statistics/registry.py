"""The statistics there are: what is collected, kept, sampled and asked of images is read off this list."""

from __future__ import annotations

from stochdeconv.statistics.edges import EDGES
from stochdeconv.statistics.exemplars import EXEMPLARS
from stochdeconv.statistics.firing import FIRING
from stochdeconv.statistics.layout import LAYOUT
from stochdeconv.statistics.local_gaussians import LOCAL
from stochdeconv.statistics.moments import MOMENTS
from stochdeconv.statistics.regions import REGIONS
from stochdeconv.statistics.spectrum import SPECTRUM
from stochdeconv.statistics.statistic import LayerStatistic, PhotographStatistic, Statistic

#: All of them. Samplers have their columns in this order, and a seed's samples depend on it: add new ones at the end.
STATISTICS: tuple[Statistic, ...] = (MOMENTS, LAYOUT, REGIONS, EDGES, SPECTRUM, FIRING, EXEMPLARS, LOCAL)

#: Those of layers and those of photographs.
LAYER_STATISTICS = tuple(statistic for statistic in STATISTICS if isinstance(statistic, LayerStatistic))
PHOTOGRAPH_STATISTICS = tuple(statistic for statistic in STATISTICS if isinstance(statistic, PhotographStatistic))

#: What a recipe has a weight for.
WEIGHTS = tuple(statistic.weights for statistic in STATISTICS if statistic.weights is not None)

#: Fields of the file, by name.
LAYER_FIELDS = {name: field for statistic in LAYER_STATISTICS for name, field in statistic.layer_fields.items()}
CLASS_FIELDS = {name: field for statistic in STATISTICS for name, field in statistic.class_fields.items()}
