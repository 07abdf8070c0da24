"""What an image is asked for: losses on activations, and the sums they add up to."""

from stochdeconv.losses import regularizers
from stochdeconv.losses.outliers import outliers
from stochdeconv.losses.scores import activation_norm, cross_entropy, direction, diversity, guide, unit
from stochdeconv.losses.targets import channel_moments, facet_moments, layout_scores, match
from stochdeconv.losses.terms import Activations, Loss, Term, WeightedTerm

__all__ = [
    "Activations",
    "Loss",
    "Term",
    "WeightedTerm",
    "activation_norm",
    "channel_moments",
    "cross_entropy",
    "direction",
    "diversity",
    "facet_moments",
    "guide",
    "layout_scores",
    "match",
    "outliers",
    "regularizers",
    "unit",
]
