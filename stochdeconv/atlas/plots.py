"""Plots of the atlas, as SVG to stand inside the page: spectra, explained variance, firing, samples against rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from stochdeconv.evaluation.report.plots import INK, STYLE, svg
from stochdeconv.statistics.class_statistics import INPUT, ClassStatistics, LayerStatistics

_PAPER: dict[str, Any] = {"figsize": (3.9, 2.8), "layout": "constrained"}
# A channel that fires at fewer places than this never does, to the precision of a plot.
_NEVER = 1e-4


def layer_colors(statistics: ClassStatistics) -> dict[str, str]:
    """Give each layer a colour: the image grey, the others from dark to light with their depth, even without colour vision."""
    deeper = [name for name in statistics if name != INPUT]
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, max(len(deeper), 1)))
    colors = {name: matplotlib.colors.to_hex(shade) for name, shade in zip(deeper, shades, strict=False)}
    return {name: colors.get(name, "#8a93a3") for name in statistics}


def within_variances(layer: LayerStatistics) -> np.ndarray:
    """Variances of one image's texture along its principal channel directions, the largest first; those of rounding are 0."""
    values = np.linalg.eigvalsh(np.asarray(layer.within_covariance, np.float64))[::-1]
    return np.where(values > 1e-7 * max(float(values[0]), 0.0), values, 0.0)


def layout_spectra_plot(statistics: ClassStatistics, colors: Mapping[str, str]) -> str:
    """Show the share of a layer's layout variance that each component holds, both axes logarithmic."""
    curves = {name: layer.explained_variance / (layer.total_variance or 1.0) for name, layer in statistics.items()}
    return _curves(
        curves, colors, "layout-spectra", "component", "share of the variance", "Eigenvalue spectrum of the layouts"
    )


def within_spectra_plot(statistics: ClassStatistics, colors: Mapping[str, str]) -> str:
    """Show the spectrum of the covariance within one image, as shares of its trace, both axes logarithmic."""
    curves = {}
    for name, layer in statistics.items():
        values = within_variances(layer)
        curves[name] = values / (values.sum() or 1.0)
    title = "Eigenvalue spectrum of the covariance within one image"
    return _curves(curves, colors, "within-spectra", "channel direction", "share of the variance", title)


def explained_plot(statistics: ClassStatistics, colors: Mapping[str, str]) -> str:
    """Show how much of a layer's layout variance its first components hold together."""
    curves = {
        name: np.minimum(np.cumsum(layer.explained_variance) / (layer.total_variance or 1.0), 1.0)
        for name, layer in statistics.items()
    }
    title = "Cumulative explained variance of the layouts"
    return _curves(curves, colors, "explained", "components", "explained variance", title, share=True)


def _curves(
    curves: Mapping[str, np.ndarray],
    colors: Mapping[str, str],
    ident: str,
    x_label: str,
    y_label: str,
    title: str,
    *,
    share: bool = False,
) -> str:
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": ident}):
        figure = Figure(**_PAPER)
        axes = figure.subplots()
        axes.set_xscale("log")
        if share:
            axes.set_ylim(0, 1.02)
        else:
            axes.set_yscale("log")
        for name, curve in curves.items():
            curve = curve if share else np.where(curve > 0, curve, np.nan)
            # A curve of one point would be nothing to see.
            axes.plot(np.arange(1, len(curve) + 1), curve, color=colors[name], lw=1.6, marker="o", ms=2.2)
        axes.grid(color="#eef0f4", lw=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        return svg(figure, ident=ident, title=title)


def firing_plot(statistics: ClassStatistics, colors: Mapping[str, str]) -> str | None:
    """Show how often channels are above zero, the most active first; None without layers below which something fires."""
    layers = {name: layer for name, layer in statistics.items() if name != INPUT and layer.firing_fraction.size > 1}
    if not layers:
        return None
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "firing"}):
        figure = Figure(**_PAPER)
        axes = figure.subplots()
        for name, layer in layers.items():
            fractions = np.sort(layer.firing_fraction)[::-1]
            axes.plot(np.linspace(0, 1, len(fractions)), fractions, color=colors[name], lw=1.6)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.grid(color="#eef0f4", lw=0.8)
        axes.set_xlabel("share of the channels, the most active first")
        axes.set_ylabel("places above zero")
        return svg(figure, ident="firing", title="Firing fraction of the channels of each layer")


def n_silent(layer: LayerStatistics) -> int:
    """Count channels that are above zero nowhere in the class."""
    return int((layer.firing_fraction < _NEVER).sum())


def edges_plot(statistics: ClassStatistics) -> str:
    """Show how sharp the photographs' edges are: the mean log gradient magnitude of each, as a histogram of the rows."""
    sharpness = np.exp(np.asarray(statistics.log_gradient_mean, np.float64))
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "edges"}):
        figure = Figure(**_PAPER)
        axes = figure.subplots()
        axes.hist(sharpness, bins=min(30, max(len(sharpness) // 4, 5)), color=INK, alpha=0.35, lw=0)
        axes.set_xlabel("difference of neighbouring pixels (smooth → sharp)")
        axes.set_ylabel("photographs")
        return svg(figure, ident="edges", title="Sharpness of the photographs' edges")


def amplitude_plot(statistics: ClassStatistics) -> str:
    """Show the photographs' amplitude spectrum from coarse to fine, one curve a colour."""
    is_grey = statistics.amplitude_mean.shape[-1] == 1
    height, width = statistics.input_size
    rows = np.fft.fftfreq(height)[:, None] * height
    columns = np.arange(width // 2 + 1)[None]
    radius = np.rint(np.hypot(rows, columns)).astype(int)
    cycles = np.arange(1, max(min(height, width) // 2, 1) + 1)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "amplitude"}):
        figure = Figure(**_PAPER)
        axes = figure.subplots()
        for channel, color in enumerate([INK] if is_grey else ["#c8102e", "#2e8b57", "#1f5fb4"]):
            mean = _radial_mean(statistics.amplitude_mean[..., channel], radius, len(cycles))
            axes.loglog(cycles, mean, color=color, lw=1.4)
        axes.set_xlabel("cycles per image (coarse → fine)")
        axes.set_ylabel("amplitude")
        of = "" if is_grey else " in red, green and blue"
        return svg(figure, ident="amplitude", title=f"Amplitude spectrum of the photographs{of}")


def _radial_mean(values: np.ndarray, radius: np.ndarray, n_rings: int) -> np.ndarray:
    inside = (radius >= 1) & (radius <= n_rings)
    sums = np.bincount(radius[inside], values[inside].astype(np.float64), minlength=n_rings + 1)
    counts = np.bincount(radius[inside], minlength=n_rings + 1)
    return (sums / np.maximum(counts, 1))[1:]


def scatter_plot(layer: LayerStatistics, scores: Mapping[str, np.ndarray], colors: Mapping[str, str]) -> str:
    """Show samples against the class's own images in the plane of a layer's first two components.

    Parameters
    ----------
    layer : LayerStatistics
        With two components at least.
    scores : mapping of str to ndarray of shape (image, component)
        Of each sampler.
    colors : mapping of str to str
        Of each sampler.

    Returns
    -------
    str
        SVG, one panel a sampler.
    """
    units = np.sqrt(np.maximum(layer.explained_variance[:2], 1e-30))
    rows = layer.scores[:, :2] / units
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "scatter"}):
        figure = Figure(figsize=(2.6 * len(scores), 2.7), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, len(scores), sharex=True, sharey=True))
        for panel, (name, sampled) in zip(panels, scores.items(), strict=True):
            drawn = sampled[:, :2] / units
            panel.scatter(*rows.T, s=7, color="#b9c0cc", lw=0, rasterized=False)
            panel.scatter(*drawn.T, s=9, color=colors[name], lw=0, alpha=0.8)
            panel.set_title(name, fontsize=10, color=INK)
            panel.set_xlabel("component 0 (sd)")
        panels[0].set_ylabel("component 1 (sd)")
        return svg(figure, ident="scatter", title="Samples of each sampler against the rows of the statistics")
