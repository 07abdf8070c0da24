"""What an image is asked for: losses on activations, and the sums they add up to."""

from stochdeconv.losses import regularizers
from stochdeconv.losses.functions import loss
from stochdeconv.losses.outliers import outliers
from stochdeconv.losses.regularizers import alpha_norm, amplitude_spectrum, edge_sharpness, l2, total_variation
from stochdeconv.losses.scores import activation_norm, cross_entropy, direction, diversity, guide, unit
from stochdeconv.losses.targets import channel_moments, facet_moments, layout_scores, local_maps, match
from stochdeconv.losses.terms import Activations, Loss, Term, WeightedTerm

__all__ = [
    "Activations",
    "Loss",
    "Term",
    "WeightedTerm",
    "activation_norm",
    "alpha_norm",
    "amplitude_spectrum",
    "channel_moments",
    "cross_entropy",
    "direction",
    "diversity",
    "edge_sharpness",
    "facet_moments",
    "guide",
    "l2",
    "layout_scores",
    "local_maps",
    "loss",
    "match",
    "outliers",
    "regularizers",
    "total_variation",
    "unit",
]
