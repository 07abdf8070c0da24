"""How far sampled targets lie from the real images they were learned from: a copy would lie near one, a new image as far as photographs do.

Distances are between layout scores of all layers, each in units of its standard deviation; 1 is the median distance of a real image
to the nearest other one.

    python scripts/experiments/distance_of_samples.py church.h5
"""

from pathlib import Path

import numpy as np
from arguments import argument_parser

import stochdeconv as sd


def main() -> None:
    """Read the arguments and print a line a sampler."""
    parser = argument_parser(__doc__, n_images=30)
    parser.add_argument("statistics", type=Path, help="a file of stochdeconv collect")
    arguments = parser.parse_args()

    statistics = sd.load_statistics(arguments.statistics)
    real = whitened({name: layer.scores for name, layer in statistics.items()}, statistics)
    own = distances(real[: 2 * arguments.n_images], real)
    own[own == 0] = np.inf
    for sampler in sd.samplers.SAMPLERS:
        targets = sd.samplers.sample_targets(statistics, sampler=sampler, n_images=arguments.n_images)
        sampled = whitened({name: layer.scores for name, layer in targets.layers.items()}, statistics)
        print(f"{sampler:12} {np.median(distances(sampled, real).min(axis=1)) / np.median(own.min(axis=1)):.2f}")


def whitened(scores, statistics) -> np.ndarray:
    """Scores of all layers side by side, (image, component), in units of their standard deviations."""
    return np.concatenate(
        [scores[name] / np.sqrt(layer.explained_variance) for name, layer in statistics.items()], axis=1
    )


def distances(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Euclidean distances, (ours, theirs)."""
    return np.stack([np.sqrt(((theirs - row) ** 2).sum(axis=1)) for row in ours])


if __name__ == "__main__":
    main()
