"""Statistics made for the tests of samplers, whose joint and conditional moments are known."""

import numpy as np

from stochdeconv.statistics.class_statistics import ClassStatistics, LayerStatistics
from stochdeconv.statistics.registry import LAYER_FIELDS

LATENTS = 3
N_CHANNELS = 4


def make_layer(name, latent, rng):
    """A layer whose descriptors are linear in a latent of shape (image, LATENTS)."""
    n_images = len(latent)
    n_channels = 3 if name == "input" else N_CHANNELS
    means = 5.0 + latent @ rng.normal(size=(LATENTS, n_channels))
    log_stds = -1.0 + 0.1 * latent @ rng.normal(size=(LATENTS, n_channels))
    scores = 10.0 * latent @ np.linalg.qr(rng.normal(size=(LATENTS, LATENTS)))[0]
    return LayerStatistics(
        name=name,
        shape=(6, 6, n_channels),
        layout_shape=(2, 2, n_channels),
        n_images=n_images,
        fields={
            **dict.fromkeys(LAYER_FIELDS),  # of a statistic added later: none, as in a file from before
            "within_covariance": np.eye(n_channels),
            "firing_fraction": np.ones(n_channels),
            "layout_mean": np.zeros((2, 2, n_channels)),
            "components": np.eye(LATENTS, 4 * n_channels),
            "explained_variance": scores.var(axis=0, ddof=1) if n_images > 1 else np.zeros(LATENTS),
            "total_variance": 1.0,
            "means": means.astype(np.float32),
            "log_stds": log_stds.astype(np.float32),
            "scores": scores.astype(np.float32),
        },
    )


def make_statistics(latents, logits=None, *, seed=5):
    """Statistics of the layers "input", "shallow" and "block/deep" for given latents, the image's first."""
    rng = np.random.default_rng(seed)
    names = ["input", "shallow", "block/deep"]
    n_images = len(latents[0])
    layers = {name: make_layer(name, latent, rng) for name, latent in zip(names, latents, strict=True)}
    return ClassStatistics(
        layers=layers,
        model_name="tiny",
        model_source="tiny.keras",
        weights_hash="0" * 64,
        preprocessing={"preprocessing": "none"},
        input_size=(6, 6),
        class_name="church" if logits is not None else None,
        wnid=None,
        class_index=0 if logits is not None else None,
        n_images=n_images,
        image_names=tuple(f"{row}.png" for row in range(n_images)),
        logits=logits,
        fields={
            "log_gradient_mean": -3.0 + latents[0][:, 0] + 0.5 * rng.normal(size=n_images),
            "log_gradient_std": 1.0 + 0.1 * rng.normal(size=n_images),
            "amplitude_mean": np.zeros((6, 4, 3)),
            "facets": None,
        },
    )


def markov_latents(n_images, rng):
    """logit -> deep -> shallow -> image, each linear in the one above plus noise."""
    logit = 12.0 + 2.0 * rng.normal(size=n_images)
    deep = np.outer(logit - 12.0, [0.4, -0.2, 0.3]) + 0.6 * rng.normal(size=(n_images, LATENTS))
    shallow = deep @ np.array([[0.8, 0.3, 0.0], [0.0, 0.9, -0.3], [0.4, 0.0, 0.7]])
    shallow = shallow + 0.5 * rng.normal(size=deep.shape)
    image = 0.7 * shallow[:, [1, 2, 0]] + 0.7 * rng.normal(size=deep.shape)
    return [image, shallow, deep], logit


def rows_of(statistics):
    """The rows of statistics in the form of targets."""
    return {
        name: np.concatenate([layer.means, layer.log_stds, layer.scores], axis=1) for name, layer in statistics.items()
    }


def rows_of_targets(targets):
    return {
        name: np.concatenate([layer.mean, np.log(layer.std + 0.01), layer.scores], axis=1)
        for name, layer in targets.layers.items()
    }
