"""Fill the atlas's template: what the statistics of a class hold, as pictures, plots and tables."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup

from stochdeconv.atlas import maps, plots
from stochdeconv.evaluation.report.templates import fill
from stochdeconv.images.markup import data_uri
from stochdeconv.sampling.samplers import LOCAL, SAMPLERS, sample_targets
from stochdeconv.sampling.scenes import sample_scenes
from stochdeconv.sampling.targets import Targets
from stochdeconv.statistics.class_statistics import INPUT, ClassStatistics, LayerStatistics
from stochdeconv.statistics.layout import layout_maps

# Components of a layer that the page draws, beside the mean; a row of the page has eight places.
_N_COMPONENTS = 7
# Samples of each sampler in the plot, scenes, which take longer, and samples drawn as colour layouts where there are no images of them.
_N_PLOTTED, _N_SCENES, _N_LAYOUTS = 200, 40, 4
# Standard deviations to either side at which a colour component is drawn.
_REACH = 2.0
# Samplers whose pictures show the regions: the two that are of use.
_REGION_SAMPLERS = ("bootstrap", "chain")
# Longest side of an embedded picture, pixels.
_THUMBNAIL = 224
# In the order of the page, and what each draws: those first that are a default.
_SAMPLERS = {LOCAL: "place by place, down to pixels, from local Gaussians: what generate does by default"} | {
    name: SAMPLERS[name].summary for name in sorted(SAMPLERS, key="bootstrap".__ne__)
}
# Okabe and Ito 2008; beyond seven samplers they come again.
_COLORS = ("#0072b2", "#009e73", "#56b4e9", "#d55e00", "#cc79a7", "#e69f00", "#f0e442")
_SAMPLER_COLORS = dict(zip(_SAMPLERS, itertools.cycle(_COLORS), strict=False))


@dataclass(frozen=True, eq=False)
class Walk:
    """Images along one component.

    Attributes
    ----------
    layer : str
    component : int
    images : ndarray of shape (image, height, width, 3)
    deviations : list of (float, float)
        Of each image: how far it was to go and how far it came, in standard deviations.
    """

    layer: str
    component: int
    images: np.ndarray
    deviations: list[tuple[float, float]]


@dataclass(eq=False)
class NetworkPictures:
    """What can be shown with the network at hand.

    Attributes
    ----------
    walks : list of Walk
    samples : dict of str to ndarray of shape (image, height, width, 3)
        Images of each sampler.
    layouts : dict of str to ndarray of shape (image, height, width, channel)
        Of each sampler: the pooled maps of these images in the layer that tells regions apart.
    """

    walks: list[Walk] = field(default_factory=list)
    samples: dict[str, np.ndarray] = field(default_factory=dict)
    layouts: dict[str, np.ndarray] = field(default_factory=dict)


def map_layers(statistics: ClassStatistics) -> list[str]:
    """Name the layers whose components say where something is: those with positions, the image left out."""
    return [
        name
        for name, layer in statistics.items()
        if name != INPUT and layer.layout_shape[0] * layer.layout_shape[1] > 1
    ]


def can_have_images(statistics: ClassStatistics) -> bool:
    """Tell whether there is something to ask images for: maps, sampled from the spread of two rows at least."""
    return bool(map_layers(statistics) and samplers_of(statistics))


def samplers_of(statistics: ClassStatistics) -> list[str]:
    """Name the samplers that images can be made with, in the order of the page; none from less than two rows."""
    if statistics.n_rows < 2:  # fewer have no spread to sample from
        return []
    return [name for name in _SAMPLERS if name != LOCAL or statistics.local is not None]


def varying_components(layer: LayerStatistics, n_components: int) -> list[int]:
    """Find the first components along which the rows vary, by number."""
    return [index for index in range(layer.n_components) if np.ptp(layer.scores[:, index]) > 0][:n_components]


def render_atlas(
    statistics: ClassStatistics,
    pictures: NetworkPictures | None,
    *,
    seed: int,
    n_steps: int,
    interrupted: bool = False,
) -> str:
    """Write the page of a file of statistics.

    Parameters
    ----------
    statistics : ClassStatistics
    pictures : NetworkPictures or None
        None without a network: maps and colour layouts take their place, as they do for single pictures that are missing.
    seed : int
        Of the samples.
    n_steps : int
        Steps the images were made with.
    interrupted : bool
        Pictures are missing because the work was stopped.

    Returns
    -------
    str
        HTML, complete in itself.
    """
    made = pictures or NetworkPictures()
    colors = plots.layer_colors(statistics)
    targets = {name: _targets(statistics, name, seed) for name in samplers_of(statistics)}
    return fill(
        "atlas.html.j2",
        package="stochdeconv.atlas",
        title=statistics.class_name or "no class",
        wnid=statistics.wnid,
        statistics=statistics,
        has_network=pictures is not None,
        can_have_images=can_have_images(statistics),
        interrupted=interrupted,
        mean_picture=_tile(_colors(statistics, statistics[INPUT].layout_mean[None])[0], "the mean of the photographs")
        if INPUT in statistics
        else None,
        walks=[_walk(statistics, walk) for walk in made.walks],
        color_components=_color_components(statistics),
        layer_components=[_layer_components(statistics[name], statistics) for name in reversed(map_layers(statistics))],
        regions=_regions(statistics, made, targets),
        samples=[_samples(statistics, made, name, sampled) for name, sampled in targets.items()],
        scatter=_scatter(statistics, targets),
        plots=_plots(statistics, colors),
        layers=[_layer_row(layer, colors[name]) for name, layer in statistics.items()],
        facts=_facts(statistics),
        settings={name: "default" if value is None else _plain(value) for name, value in statistics.settings.items()},
        versions=dict(statistics.versions),
        seed=seed,
        n_steps=n_steps,
    )


def _targets(statistics: ClassStatistics, sampler: str, seed: int) -> Targets:
    if sampler == LOCAL:
        return sample_scenes(statistics, n_images=_N_SCENES, seed=seed)
    return sample_targets(statistics, sampler=sampler, n_images=_N_PLOTTED, seed=seed)


def _tile(picture: np.ndarray, alt: str, **more: Any) -> dict[str, Any]:
    return {"src": data_uri(picture, longest=_THUMBNAIL), "alt": alt, "size": picture.shape[:2], **more}


def _colors(statistics: ClassStatistics, layouts: np.ndarray) -> np.ndarray:
    return maps.draw_colors(layouts, statistics.input_size)


def _share(layer: LayerStatistics, component: int) -> float:
    return float(layer.explained_variance[component]) / float(layer.total_variance or 1.0)


def _ends(statistics: ClassStatistics, layer: LayerStatistics, component: int) -> tuple[str, str]:
    """Name the photographs at either end of a component."""
    scores = layer.scores[:, component]
    return statistics.image_names[int(scores.argmin())], statistics.image_names[int(scores.argmax())]


def _walk(statistics: ClassStatistics, walk: Walk) -> dict[str, Any]:
    name = f"{walk.layer}:{walk.component}"
    tiles = []
    for image, (target, reached) in zip(walk.images, walk.deviations, strict=True):
        place = "mean" if abs(target) < 1e-9 else f"{_signed(target)} sd"
        tiles.append(_tile(image, f"component {name} at {place}", place=place, reached=_signed(reached, "+.2f")))
    layer = statistics[walk.layer]
    low, high = _ends(statistics, layer, walk.component)
    return {"name": name, "share": _share(layer, walk.component), "tiles": tiles, "low": low, "high": high}


def _signed(value: float, form: str = "+.3g") -> str:
    return format(value, form).replace("-", "−")


def _color_components(statistics: ClassStatistics) -> list[dict[str, Any]]:
    """Draw the image's own components: they are colour pictures, at either end."""
    if INPUT not in statistics:
        return []
    layer, components = statistics[INPUT], []
    for index in varying_components(layer, _N_COMPONENTS):
        reach = _REACH * np.sqrt(layer.explained_variance[index])
        scores = np.zeros((2, layer.n_components), np.float32)
        scores[:, index] = -reach, reach
        ends = _colors(statistics, layout_maps(layer, scores))
        low, high = _ends(statistics, layer, index)
        components.append(
            {
                "index": index,
                "share": _share(layer, index),
                "tiles": [
                    _tile(picture, f"colour component {index} at {_signed(end)} standard deviations")
                    for picture, end in zip(ends, (-_REACH, _REACH), strict=True)
                ],
                "low": low,
                "high": high,
            }
        )
    return components


def _layer_components(layer: LayerStatistics, statistics: ClassStatistics) -> dict[str, Any]:
    """Draw where a layer is strong on average, and where its components go up and down."""
    tiles = []
    for index in varying_components(layer, _N_COMPONENTS):
        pattern = maps.leading_pattern(layer.components[index].reshape(layer.layout_shape))
        low, high = _ends(statistics, layer, index)
        tiles.append(
            _tile(
                maps.draw_pattern(pattern),
                f"component {index} of {layer.name}",
                index=index,
                share=_share(layer, index),
                direction=pattern.share,
                channels=", ".join(f"{'+' if up else '−'}{channel}" for channel, up in pattern.channels),
                low=low,
                high=high,
            )
        )
    mean = _tile(maps.draw_strength(layer.layout_mean), f"mean strength of {layer.name}")
    return {"name": layer.name, "shape": layer.shape, "layout": layer.layout_shape, "mean": mean, "tiles": tiles}


def _regions(
    statistics: ClassStatistics, made: NetworkPictures, targets: Mapping[str, Targets]
) -> dict[str, Any] | None:
    """Show which place of pictures belongs to which region; None where the statistics tell no regions apart."""
    kinds = statistics.facets
    if kinds is None or not targets or INPUT not in statistics:
        return None
    tiles, areas = [], np.zeros(kinds.n_regions)
    for sampler in _REGION_SAMPLERS:
        images, layouts = made.samples.get(sampler), made.layouts.get(sampler)
        if images is None or layouts is None:
            few = targets[sampler].take(slice(_N_LAYOUTS))
            images = _color_layouts(statistics, few)
            layouts = layout_maps(statistics[kinds.layer], few.layers[kinds.layer].scores)
        for number, (image, region_map) in enumerate(
            zip(images, maps.regions_of(kinds, layouts, images.shape[1:3]), strict=True)
        ):
            areas += np.bincount(region_map.ravel(), minlength=kinds.n_regions) / region_map.size
            what = f"{sampler}, image {number}"
            tiles.append(
                {
                    "title": what,
                    "plain": _tile(image, what),
                    "regions": _tile(maps.draw_regions(image, region_map), f"regions of {what}"),
                    "labels": [
                        {"region": region, "left": f"{100 * x:.1f}", "top": f"{100 * y:.1f}"}
                        for region, x, y in maps.place_labels(region_map)
                    ],
                }
            )
    colors = statistics[INPUT].facet_means
    legend = [
        {
            "region": region,
            "color": maps.REGION_COLORS[region % len(maps.REGION_COLORS)],
            "mean": None if colors is None else _hex(colors[:, region].mean(axis=0)),
            "area": areas[region] / len(tiles),
        }
        for region in range(kinds.n_regions)
    ]
    return {"layer": kinds.layer, "tiles": tiles, "legend": legend, "from_images": bool(made.layouts)}


def _color_layouts(statistics: ClassStatistics, targets: Targets) -> np.ndarray:
    layouts = layout_maps(statistics[INPUT], targets.layers[INPUT].scores)
    return _colors(statistics, layouts)


def _hex(color: np.ndarray) -> str:
    return "#" + "".join(f"{round(255 * float(value)):02x}" for value in np.clip(color, 0.0, 1.0))


def _samples(statistics: ClassStatistics, made: NetworkPictures, name: str, targets: Targets) -> dict[str, Any]:
    images = made.samples.get(name)
    are_images = images is not None
    if images is None and INPUT in statistics:
        images = _color_layouts(statistics, targets.take(slice(_N_LAYOUTS)))
    tiles = []
    for number, image in enumerate([] if images is None else images):
        source = int(targets.source_rows[number])
        tiles.append(
            _tile(
                image,
                f"{name}, image {number}",
                number=number,
                source=statistics.image_names[source] if source >= 0 else None,
            )
        )
    return {
        "name": name,
        "words": _SAMPLERS[name],
        "color": _SAMPLER_COLORS[name],
        "are_images": are_images,
        "tiles": tiles,
    }


def _scatter(statistics: ClassStatistics, targets: Mapping[str, Targets]) -> dict[str, Any] | None:
    wide_enough = [name for name, layer in statistics.items() if len(varying_components(layer, 2)) == 2]
    if not (targets and wide_enough):
        return None
    name = wide_enough[-1]
    scores = {sampler: sampled.layers[name].scores for sampler, sampled in targets.items()}
    return {
        "layer": name,
        "svg": Markup(plots.scatter_plot(statistics[name], scores, _SAMPLER_COLORS)),
    }


def _plots(statistics: ClassStatistics, colors: Mapping[str, str]) -> list[dict[str, Any]]:
    drawn = [
        (
            "Layouts: explained variance",
            "How much of what differs from image to image, place by place, the first components hold together.",
            plots.explained_plot(statistics, colors),
        ),
        (
            "Layouts: eigenvalue spectrum",
            "Share of the variance of each component. A steep fall: the class varies in few ways.",
            plots.layout_spectra_plot(statistics, colors),
        ),
        (
            "Texture: spectrum within one image",
            "Eigenvalues of the channels' covariance over the places of one image, averaged over the images.",
            plots.within_spectra_plot(statistics, colors),
        ),
        (
            "Firing",
            "At how many places each channel is above zero, the most active channels first.",
            plots.firing_plot(statistics, colors),
        ),
        (
            "The photographs' edges",
            "Mean gradient magnitude of each photograph, as the samplers draw it: smooth ones on the left, sharp ones on the right.",
            plots.edges_plot(statistics),
        ),
        (
            "The photographs' amplitude spectrum",
            "Red, green and blue from coarse to fine, the mean over the photographs.",
            plots.amplitude_plot(statistics),
        ),
    ]
    return [{"title": title, "text": text, "svg": Markup(svg)} for title, text, svg in drawn if svg is not None]


def _layer_row(layer: LayerStatistics, color: str) -> dict[str, Any]:
    within = plots.within_variances(layer)
    is_image = layer.name == INPUT
    return {
        "name": layer.name,
        "color": color,
        "shape": layer.shape,
        "layout": layer.layout_shape,
        "n_components": layer.n_components,
        "explained": layer.explained,
        # The participation ratio: so many directions of equal variance would be as spread out.
        "directions": float(within.sum() ** 2 / np.square(within).sum()) if within.any() else 0.0,
        "firing": None if is_image else float(np.median(layer.firing_fraction)),
        "silent": None if is_image else plots.n_silent(layer),
    }


def _facts(statistics: ClassStatistics) -> dict[str, str]:
    return {
        "network": statistics.model_name,
        "loaded by": statistics.model_source,
        "its weights": statistics.weights_hash,
        "its input": _plain(dict(statistics.preprocessing)),
        "images": f"{'×'.join(map(str, statistics.input_size))} pixels",
        "statistics": statistics.hash(),
    }


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
