"""The layout of a layer: where things are, as scores of its pooled map along principal components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stochdeconv.statistics.class_statistics import INPUT, LayerStatistics
from stochdeconv.statistics.components import principal_components
from stochdeconv.statistics.maps import MapReader
from stochdeconv.statistics.measured import LayerMeasurements
from stochdeconv.statistics.pooling import pooled_map
from stochdeconv.statistics.rounding import float16_with_exponent, rounded
from stochdeconv.statistics.shared_maps import SharedMap
from stochdeconv.statistics.statistic import Array, Block, LayerStatistic, Number, PureLoss, Storage, Tensor, Weights

# Components of the image's own layout, where `n_components` is less: it has few dimensions, and smooth grounds show every one left out.
_IMAGE_COMPONENTS = 192
# Weight of the scores against the channel means and log deviations: the layout carries where the object is.
_SCORE_WEIGHT = 3.0
# Part of the first component's variance that any other counts as at least. Pictures with an empty border (digits) have components that
# hardly vary at all: whitened as they are, these alone decide, and the image is noise. Of photographs it concerns only the colours.
_LEAST_VARIANCE = 0.01


@dataclass(frozen=True)
class LayoutWeights(Weights):
    """Weights of the layouts in a recipe.

    Attributes
    ----------
    layout : float
        Whitened distance to the sampled layout scores, each of the `n_layout_layers` deepest layers: where things are.
    n_layout_layers : int
    shallow_layout : float
        The same, each of the other layers.
    color_layout : float
        The same for the image itself: where its colours are.
    """

    layout: float = 2.0
    n_layout_layers: int = 3
    shallow_layout: float = 1.0
    color_layout: float = 4.0


class Layout(LayerStatistic):
    """Principal components of the pooled maps, and each image's scores along them.

    Fields of a layer: ``layout_mean`` (height, width, channel), the mean pooled map; ``components`` (component, height * width * channel),
    orthonormal principal axes; ``explained_variance`` (component,), the variance of the scores (n_images - 1 in the denominator);
    ``total_variance``, that of the pooled maps, summed over all dimensions; ``scores`` (row, component).
    Targets: ``scores`` (image, component).
    """

    name = "layout"
    weights = LayoutWeights
    rank = 0
    layer_fields: ClassVar = {
        "layout_mean": Array("<f4"),
        # Rounded to float16 before scores are computed from them.
        "components": Array("<f2", "<f4", one_a_chunk=True),
        "explained_variance": Array("<f8"),
        "total_variance": Number(),
        "scores": Array("<f4", per_row=True, is_rounded_when_compacted=True),
    }

    def check(self, values):
        """Refuse components of another layout."""
        components, mean = values["components"], values["layout_mean"]
        if components.ndim != 2 or components.shape[1] != mean.size:
            raise ValueError(f"components {components.shape} do not fit a layout {mean.shape}")

    def storage(self, layer):
        """Keep the pooled map of each image."""
        return Storage(columns={"layout": ("<f2", int(np.prod(layer.layout_shape))), "exponent": ("<i2", 1)})

    def measure(self, maps, layer):
        """Pool the maps, flattened: (image, value)."""
        from keras import ops

        return {"pooled": ops.reshape(pooled_map(maps, layer.layout_shape[:2]), (maps.shape[0], -1))}

    def encode(self, measured):
        """Keep 16 bits of each value."""
        layout, exponent = float16_with_exponent(measured["pooled"])
        return {"layout": layout, "exponent": exponent}

    def summarise(self, measured):
        """Find the principal components."""
        n_components = measured.settings["n_components"]
        if measured.layer.name == INPUT:
            n_components = max(n_components, _IMAGE_COMPONENTS)
        layout = principal_components(pooled_maps(measured), n_components)
        if not layout.converged:
            measured.remarks.append(
                f"the layout components of '{measured.layer.name}' still moved after {layout.n_passes} passes; the last are rough"
            )
        return {
            "layout_mean": layout.mean.reshape(measured.layer.layout_shape),
            "components": layout.components,
            "explained_variance": layout.explained_variance,
            "total_variance": layout.total_variance,
            "scores": rounded(layout.scores[measured.rows]),
        }

    def summarise_together(self, measured):
        """Say where there are fewer images than components."""
        n_images, n_components = measured.n_images, measured.settings["n_components"]
        if n_images <= n_components:
            measured.remarks.append(
                f"{n_images} image{'s' * (n_images > 1)} cannot give {n_components} layout components: {n_images - 1} kept"
            )
        return {}, {}

    def blocks(self, layer):
        """Sample the scores."""
        return [Block(layer.scores, _SCORE_WEIGHT)]

    def targets(self, blocks, layer):
        """Take the scores as they are."""
        return {"scores": blocks[0]}

    def weight(self, recipe, layer, maps):
        """Ask most of the deepest layers, and of the image's own colours."""
        if layer == INPUT:
            return recipe.color_layout
        deepest = maps[max(len(maps) - recipe.n_layout_layers, 0) :]
        return recipe.layout if layer in deepest else recipe.shallow_layout

    def channel_covariances(self, layer):
        """Look where the components lie, whatever they explain: scores are compared in units of their deviations."""
        weights = layer.components.reshape(-1, layer.shape[-1])
        return [weights.T @ weights]

    def loss(self, statistics, layer, target, directions):
        """Ask for the sampled scores."""
        held = statistics[layer]
        # A layer that is the same in every image has no components.
        if not held.n_components:
            return None
        return ask_layout_scores(
            layer,
            scores=target.scores,
            components=held.components,
            explained_variance=held.explained_variance,
            layout_mean=held.layout_mean,
            directions=directions,
        )


def pooled_maps(measured: LayerMeasurements) -> MapReader:
    """Read a layer's pooled maps of all images back."""
    return measured.maps("layout", "exponent")


def layout_maps(layer: LayerStatistics, scores: np.ndarray) -> np.ndarray:
    """Draw the pooled maps that scores stand for.

    Parameters
    ----------
    layer : LayerStatistics
    scores : ndarray of shape (image, component)

    Returns
    -------
    ndarray of shape (image, height, width, channel), float32
        The mean map and the components, by their scores: what these leave out is missing.
    """
    # One by one: how the sums of a product are rounded depends on how many rows it has.
    drawn = np.stack([layer.layout_mean.ravel() + row @ layer.components for row in scores])
    return drawn.reshape(-1, *layer.layout_shape).astype(np.float32)


def ask_layout_scores(
    layer: str,
    *,
    scores: np.ndarray,
    components: np.ndarray,
    explained_variance: np.ndarray,
    layout_mean: np.ndarray,
    directions: np.ndarray | None = None,
) -> PureLoss:
    """Ask a layer for an arrangement, see `losses.layout_scores`."""
    variance = np.asarray(explained_variance, np.float32)
    components, layout_mean = np.asarray(components, np.float32), np.asarray(layout_mean, np.float32)
    scores = np.asarray(scores, np.float32)
    arrays = {}
    layout_shape = layout_mean.shape[:2]
    if directions is not None:
        whole = components.reshape(-1, *layout_mean.shape)
        seen = whole @ directions
        # Of a map made of the components, these are the scores that can be seen along the directions.
        scores = scores @ (seen.reshape(len(seen), -1) @ seen.reshape(len(seen), -1).T)
        components, layout_mean = seen.reshape(len(seen), -1), layout_mean @ directions
        arrays["directions"] = directions
    arrays |= {
        "scores": scores,
        "components": np.ascontiguousarray(components.T),
        "explained_variance": np.maximum(variance, max(_LEAST_VARIANCE * float(variance.max()), 1e-12)),
        "layout_mean": layout_mean.ravel(),
    }
    settings = {"layout_shape": tuple(layout_shape)}
    return PureLoss(layout_scores, (layer,), arrays, settings, is_tied_to_places=True, reads_shared_maps=True)


def layout_scores(
    values: SharedMap,
    layout_shape: tuple[int, int],
    scores: Tensor,
    components: Tensor,
    explained_variance: Tensor,
    layout_mean: Tensor,
    directions: Tensor | None = None,
) -> Tensor:
    """Compare arrangements: ``mean_j (s_j - z_j)^2 / lambda_j``."""
    from keras import ops

    pooled = values.pooled(layout_shape, directions)
    flat = ops.reshape(pooled, (ops.shape(pooled)[0], -1)) - layout_mean
    return ops.mean((ops.matmul(flat, components) - scores) ** 2 / explained_variance, axis=-1)


LAYOUT = Layout()
