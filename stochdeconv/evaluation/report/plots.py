"""Plots of the report, as SVG to stand inside the page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from stochdeconv.evaluation.pixels import GRADIENT_EDGES, N_COLOR_BINS

INK = "#1d2433"
#: How all plots look, for `matplotlib.rc_context`.
STYLE: dict[Any, Any] = {
    # Text stays text: small files, and a reader can search and copy it.
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": "#8a93a3",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#5a6475",
    "ytick.color": "#5a6475",
    "axes.linewidth": 0.8,
}


@dataclass(frozen=True)
class Row:
    """One line of a plot: whose it is, in which colour, and its interval, as metrics.json has it, or its curves."""

    name: str
    color: str
    interval: Mapping[str, Any] = field(default_factory=lambda: {"value": None})
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)


def intervals_plot(rows: Sequence[Row], *, ident: str, title: str, better: str, wide: bool = False) -> str | None:
    """Show a figure of every contestant as a dot with its interval, real photographs as a band.

    Parameters
    ----------
    rows : sequence of Row
        The first is the real photographs'.
    ident : str
        Unique on the page.
    title : str
        What the plot shows, for those who cannot see it.
    better : {"high", "low", "real"}
        Where good lies: "low" figures that span decades get a logarithmic axis.
    wide : bool
        For the plot at the head of the page.

    Returns
    -------
    str or None
        SVG; None where no contestant has the figure.
    """
    measured = [row for row in rows if row.interval["value"] is not None]
    if not measured:
        return None
    with matplotlib.rc_context({**STYLE, "font.size": 11 if wide else 9, "svg.hashsalt": ident}):
        size = (5.2, 0.36 * len(rows) + 0.7) if wide else (3.4, 0.26 * len(rows) + 0.5)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        real = rows[0].interval
        if real["value"] is not None:
            axes.axvspan(*_ends(real), color="#e3e7ee", lw=0, zorder=0)
            axes.axvline(real["value"], color="#8a93a3", lw=1, zorder=1)
        for place, row in enumerate(rows):
            if row not in measured:
                axes.text(
                    0.5, place, "–", color="#8a93a3", ha="center", va="center", transform=axes.get_yaxis_transform()
                )
                continue
            low, high = _ends(row.interval)
            axes.plot(
                [low, high], [place, place], color=row.color, lw=4 if wide else 3, alpha=0.35, solid_capstyle="round"
            )
            axes.plot(row.interval["value"], place, "o", color=row.color, ms=8 if wide else 5.5)
        values = np.array([end for row in measured for end in (*_ends(row.interval), row.interval["value"])])
        positive = values[values > 0]
        if better == "low" and len(positive) and positive.max() > 30 * positive.min():
            _decades(axes, rows, measured, top=float(positive.max()))
        axes.set_yticks(range(len(rows)), [_short(row.name) for row in rows], color=INK)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color="#eef0f4", lw=0.8)
        axes.set_axisbelow(True)
        if axes.get_xscale() == "linear":
            axes.xaxis.set_major_locator(MaxNLocator(4 if not wide else 6))
        return svg(figure, ident=ident, title=title)


def _ends(interval: Mapping[str, Any]) -> tuple[float, float]:
    value = interval["value"]
    low, high = interval["low"], interval["high"]
    return (value if low is None else low), (value if high is None else high)


def _decades(axes: Axes, rows: Sequence[Row], measured: Sequence[Row], *, top: float) -> None:
    """Make the axis logarithmic above the real photographs' interval and linear around zero, ticks at 0 and at powers of ten."""
    smallest = min(
        (abs(row.interval["value"]) for row in measured if row not in rows[:1] and row.interval["value"]), default=top
    )
    floor = max([abs(end) for end in _ends(rows[0].interval)], default=0.0) if rows[0] in measured else 0.0
    lowest = int(np.floor(np.log10(max(floor, smallest / 10, top * 1e-6))))
    axes.set_xscale("symlog", linthresh=10.0**lowest, linscale=0.5)
    decades = range(lowest, int(np.floor(np.log10(top))) + 1)
    step = max(len(decades) // 4, 1)
    powers = list(decades)[::step]
    axes.set_xticks([0, *(10.0**power for power in powers)], ["0", *(_power(power) for power in powers)])
    axes.xaxis.set_minor_locator(NullLocator())


def _power(power: int) -> str:
    return f"{10.0**power:g}" if -3 <= power <= 3 else f"$10^{{{power}}}$"


def _short(name: str, *, longest: int = 18) -> str:
    # A dollar sign would start a formula.
    name = name if len(name) <= longest else f"{name[: longest - 1]}…"
    return name.replace("$", r"\$")


def spectra_plot(rows: Sequence[Row]) -> str:
    """Show every contestant's mean amplitude spectrum, both axes logarithmic, with the fitted range shaded."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "spectra"}):
        figure = Figure(figsize=(4.4, 3.0), layout="constrained")
        axes = figure.subplots()
        for row in reversed(rows):
            spectrum = row.curves["spectrum"]
            cycles = np.arange(1, len(spectrum))
            axes.loglog(cycles, _positive(spectrum[1:]), color=row.color, lw=2.4 if row is rows[0] else 1.5)
        quarter = 2 * len(rows[0].curves["spectrum"]) // 4
        axes.axvspan(3, max(quarter, 3), color="#eef0f4", lw=0, zorder=0)
        axes.set_xlabel("cycles per image (coarse → fine)")
        axes.set_ylabel("amplitude")
        return svg(figure, ident="spectra", title="Mean amplitude spectrum of each contestant and of real photographs")


def gradients_plot(rows: Sequence[Row]) -> str:
    """Show every contestant's histogram of neighbouring pixels' differences, logarithmic in height."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "gradients"}):
        figure = Figure(figsize=(4.4, 3.0), layout="constrained")
        axes = figure.subplots()
        # The outermost bins hold everything beyond: no part of the curve.
        centres = (GRADIENT_EDGES[1:-2] + GRADIENT_EDGES[2:-1]) / 2
        for row in reversed(rows):
            axes.semilogy(
                centres, _positive(row.curves["gradient"][1:-1]), color=row.color, lw=2.4 if row is rows[0] else 1.5
            )
        axes.set_xlabel("difference of neighbouring pixels")
        axes.set_ylabel("share of differences")
        return svg(
            figure, ident="gradients", title="Histogram of pixel differences of each contestant and of real photographs"
        )


def colors_plot(rows: Sequence[Row]) -> str:
    """Show how every contestant's red, green and blue are spread from dark to bright."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "colors"}):
        figure = Figure(figsize=(4.4, 3.0), layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        centres = (np.arange(N_COLOR_BINS) + 0.5) / N_COLOR_BINS
        for panel, name, others in zip(panels, ("red", "green", "blue"), ((1, 2), (0, 2), (0, 1)), strict=True):
            for row in reversed(rows):
                cube = row.curves["color"].reshape(N_COLOR_BINS, N_COLOR_BINS, N_COLOR_BINS)
                panel.plot(centres, cube.sum(axis=others), color=row.color, lw=2.4 if row is rows[0] else 1.5)
            panel.set_xlabel(name)
            panel.set_xticks([0, 1], ["dark", "bright"])
            panel.set_xlim(0, 1)
        panels[0].set_ylabel("share of pixels")
        return svg(
            figure, ident="colors", title="Histograms of red, green and blue of each contestant and of real photographs"
        )


def _positive(curve: np.ndarray) -> np.ndarray:
    # A logarithm has no place for an empty bin: the line breaks there.
    return np.where(curve > 0, curve, np.nan)


def svg(figure: Figure, *, ident: str, title: str) -> str:
    """Write a plot to stand inside a page: its ids begin with `ident`, its width is the page's, `title` says what it shows."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Matplotlib numbers the parts of every plot alike; on one page ids must differ.
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{ident}-", text)
    # The page decides the width.
    text = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", text, count=1)
    text = re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", text, count=1)
    return text.replace("<svg", f'<svg class="plot" role="img" aria-label="{title.replace(chr(34), "")}"', 1)
