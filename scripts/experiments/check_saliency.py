"""How much of each saliency map is left when the upper layers' weights are drawn anew: the sanity check of Adebayo et al. 2018.

    python scripts/experiments/check_saliency.py [PHOTO …]

For the network that ships and, without photos, scikit-learn's two. Prints a table: Spearman's rank correlation between the absolute maps of
the trained network and of the same network with random weights from the top down to a layer, averaged over photos and draws.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import keras
import numpy as np
import sklearn.datasets
from arguments import argument_parser
from scipy.stats import spearmanr

import stochdeconv as sd
from stochdeconv.images.files import load_image
from stochdeconv.methods.saliency import RULES

NETWORK = "mini-vgg16"
PHOTOS = sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg"))
# From the top down; each stage leaves the ones before it random.
STAGES = {
    "predictions": ("predictions",),
    "fc1": ("fc2", "fc1"),
    "block5_conv1": ("block5_conv3", "block5_conv2", "block5_conv1"),
    "block4_conv1": ("block4_conv3", "block4_conv2", "block4_conv1"),
}


def draw_anew(model, layers, *, seed):
    """Copy a network with some layers as He et al. 2015 initialise them."""
    copy = keras.models.clone_model(model.keras_model)
    copy.set_weights(model.keras_model.get_weights())
    rng = np.random.default_rng(seed)
    for name in layers:
        kernel, bias = copy.get_layer(name).get_weights()
        spread = np.sqrt(2 / np.prod(kernel.shape[:-1]))
        copy.get_layer(name).set_weights([rng.normal(0, spread, kernel.shape), np.zeros_like(bias)])
    return sd.load_model(copy, preprocessing="caffe", mean=model.preprocessing["mean"], class_names=model.class_names)


def strengths(model, photo, class_index, *, n_samples):
    """Take the absolute values of all maps, added up over colours, by rule."""
    maps = sd.saliency(model, photo, class_index, n_samples=n_samples).arrays
    return {rule: np.abs(values).reshape(*values.shape[:2], -1).sum(axis=-1) for rule, values in maps.items()}


def check(paths, *, n_draws, n_samples):
    """Correlate, by stage and rule: (photo, draw) -> number; nan where nothing passes the random layers."""
    model = sd.load_model(NETWORK)
    photos = [load_image(path, model.input_size) for path in paths]
    indices = [int(model.logits(photo[None])[0].argmax()) for photo in photos]
    trained = [
        strengths(model, photo, index, n_samples=n_samples) for photo, index in zip(photos, indices, strict=True)
    ]
    correlations = {}
    drawn = []
    for stage, layers in STAGES.items():
        drawn += layers
        correlations[stage] = {rule: [] for rule in RULES}
        for seed in range(n_draws):
            random = draw_anew(model, drawn, seed=seed)
            for photo, index, before in zip(photos, indices, trained, strict=True):
                for rule, after in strengths(random, photo, index, n_samples=n_samples).items():
                    correlations[stage][rule].append(spearmanr(before[rule].ravel(), after.ravel())[0])
    return correlations


def main():
    """Run the check and print its table."""
    parser = argument_parser(__doc__)
    parser.add_argument("photos", nargs="*", metavar="PHOTO", default=PHOTOS)
    parser.add_argument("--n-draws", type=int, default=3)
    parser.add_argument("--n-samples", type=int, default=50)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # a map that is zero everywhere is a nan in the table
    correlations = check(options.photos, n_draws=options.n_draws, n_samples=options.n_samples)
    print("| rule | " + " | ".join(correlations) + " |\n|---|" + "---|" * len(correlations))
    for rule in RULES:
        print(f"| `{rule}` | " + " | ".join(f"{np.nanmean(of[rule]):.2f}" for of in correlations.values()) + " |")


if __name__ == "__main__":
    main()
