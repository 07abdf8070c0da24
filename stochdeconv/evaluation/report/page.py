"""Fill the report's template: pictures, figures, plots and settings of a comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from stochdeconv.evaluation import COPYING_KEYS, NOISE_FLOOR, REAL
from stochdeconv.evaluation.figures import FACE_FIGURES, FIGURES, Figure
from stochdeconv.evaluation.report import plots
from stochdeconv.evaluation.report.templates import fill
from stochdeconv.evaluation.report.verdict import Verdict, find_verdict, is_of_faces
from stochdeconv.images import files as image_files
from stochdeconv.images.colormaps import colored_parts
from stochdeconv.images.markup import data_uri
from stochdeconv.images.sheets import outlined
from stochdeconv.sampling.collages import pieces

if TYPE_CHECKING:
    from stochdeconv.evaluation.class_comparison import MeasuredClass
    from stochdeconv.evaluation.contestants import Contestant

# Pictures of one contestant and class that the page shows; the figures use all.
N_SHOWN = 16
THUMBNAIL, NEAREST_THUMBNAIL = 224, 112  # longest side, pixels
REAL_COLOR = "#2b2f3a"
# Told apart by people with any colour vision (Okabe and Ito 2008; Tol 2021): cold for ours, warm for the baselines.
_PALETTES = {
    "ours": ("#0072b2", "#009e73", "#56b4e9", "#332288", "#44aa99"),
    "baseline": ("#d55e00", "#e69f00", "#cc79a7", "#882255", "#aa4466"),
    "other": ("#8a6d3b", "#777777", "#999933", "#bbbbbb"),
}
_ROLE_WORDS = {"ours": "ours", "baseline": "baseline", "other": "other", "real": "photographs"}


def render_report(metrics: Mapping[str, Any], entrants: Sequence[Contestant], measured: Sequence[MeasuredClass]) -> str:
    """Write the page of a comparison.

    Parameters
    ----------
    metrics : mapping
        The content of metrics.json.
    entrants : sequence of Contestant
    measured : sequence of MeasuredClass

    Returns
    -------
    str
        HTML, complete in itself: no script, no request to anywhere.
    """
    roles = {entrant.name: entrant.role for entrant in entrants}
    order = _order(metrics, roles)
    colors = _colors(order, roles)
    rows = [{"name": REAL, "title": "real photographs", "role": "real", "color": REAL_COLOR, "figures": metrics[REAL]}]
    rows += [
        {
            "name": name,
            "title": name,
            "role": roles[name],
            "color": colors[name],
            "figures": metrics["contestants"][name],
        }
        for name in order
    ]
    verdict = find_verdict(metrics, roles)
    of_faces = is_of_faces(metrics)
    figures = [
        figure
        for figure in (FACE_FIGURES if of_faces else FIGURES)
        if figure.key not in COPYING_KEYS or any(row["figures"][figure.key]["value"] is not None for row in rows)
    ]
    titles = [of.entry.class_key.title for of in measured]
    classes = [_class_pictures(of, rows) for of in measured]
    return fill(
        "report.html.j2",
        title=", ".join(titles),
        n_classes=len(titles),
        rows=rows,
        role_words=_ROLE_WORDS,
        verdict=verdict,
        warnings=metrics["warnings"],
        of_faces=of_faces,
        hero=_hero(rows, verdict, of_faces=of_faces),
        figures=figures,
        cards=_cards(rows, figures),
        marks=metrics["marks"],
        noise_floor=metrics[NOISE_FLOOR],
        plots=_curve_plots(rows, measured),
        classes=classes,
        has_sources=any(tile["sources_src"] for of in classes for strip in of["pictures"] for tile in strip["tiles"]),
        judge=metrics["judge"],
        settings=metrics["settings"],
        has_train=metrics["settings"]["train"] is not None,
        runs=[_run_settings(entrant.name, run) for entrant in entrants for run in entrant.runs],
        n_shown=N_SHOWN,
    )


def _order(metrics: Mapping[str, Any], roles: Mapping[str, str]) -> list[str]:
    """Ours first, then baselines, then others, each from the nearest to photographs on."""
    rank = {"ours": 0, "baseline": 1, "other": 2}

    def place(name: str) -> tuple[int, float]:
        value = metrics["contestants"][name].get("kid", {}).get("value")
        return rank[roles[name]], np.inf if value is None else value

    return sorted(metrics["contestants"], key=place)


def _colors(order: Sequence[str], roles: Mapping[str, str]) -> dict[str, str]:
    colors, used = {}, dict.fromkeys(_PALETTES, 0)
    for name in order:
        palette = _PALETTES[roles[name]]
        colors[name] = palette[used[roles[name]] % len(palette)]
        used[roles[name]] += 1
    return colors


def _plot_rows(rows: Sequence[Mapping[str, Any]], key: str) -> list[plots.Row]:
    return [plots.Row(row["name"], row["color"], interval=row["figures"][key]) for row in rows]


def _hero(rows: Sequence[Mapping[str, Any]], verdict: Verdict, *, of_faces: bool) -> Markup | None:
    first, *rest = rows
    ranked = sorted(rest, key=lambda row: verdict.order.index(row["name"]))
    svg = plots.intervals_plot(
        _plot_rows([first, *ranked], "with_face" if of_faces else "kid"),
        ident="hero",
        title="Share of each contestant's images with a face"
        if of_faces
        else "KID of every contestant, smaller is nearer to photographs",
        better="real" if of_faces else "low",
        wide=True,
    )
    return None if svg is None else Markup(svg)


def _cards(rows: Sequence[Mapping[str, Any]], figures: Sequence[Figure]) -> list[dict[str, Any]]:
    cards = []
    for figure in figures:
        svg = plots.intervals_plot(
            _plot_rows(rows, figure.key),
            ident=f"card-{figure.key}",
            title=f"{figure.label}: {figure.meaning}",
            better=figure.better,
        )
        cards.append({"figure": figure, "svg": None if svg is None else Markup(svg)})
    return cards


def _curve_plots(rows: Sequence[Mapping[str, Any]], measured: Sequence[MeasuredClass]) -> list[dict[str, Any]]:
    curve_rows = []
    for row in rows:
        of_classes = [of.rows[row["name"]].curves for of in measured]
        curves = {key: np.mean([curves[key] for curves in of_classes], axis=0) for key in of_classes[0]}
        curve_rows.append(plots.Row(row["name"], row["color"], curves=curves))
    return [
        {
            "title": "Amplitude spectrum",
            "text": "Photographs fall steadily from coarse to fine; a bump is a texture that repeats, a lift on the right is noise.",
            "svg": Markup(plots.spectra_plot(curve_rows)),
        },
        {
            "title": "Edges",
            "text": "Photographs have a sharp peak (flat ground) and long tails (strong edges).",
            "svg": Markup(plots.gradients_plot(curve_rows)),
        },
        {
            "title": "Colours",
            "text": "How dark and bright red, green and blue are.",
            "svg": Markup(plots.colors_plot(curve_rows)),
        },
    ]


def _class_pictures(measured: MeasuredClass, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    entry = measured.entry
    pictures = []
    for row in rows:
        drawn = measured.rows[row["name"]].pictures[:N_SHOWN]
        sources = entry.sources(row["name"]) if row["name"] in entry.runs else [None] * len(drawn)
        tiles = [
            _tile(picture, f"{row['title']}, {entry.class_key.title}, image {index}", measured.size, of_image)
            for index, (picture, of_image) in enumerate(zip(drawn, sources, strict=False))
            if picture["file"] is not None
        ]
        pictures.append({"row": row, "tiles": tiles, "n": measured.rows[row["name"]].n})
    return {
        "title": entry.class_key.title,
        "wnid": entry.class_key.wnid,
        "pictures": pictures,
        "n_real": entry.n_real,
    }


def _tile(picture: Mapping[str, Any], what: str, size: tuple[int, int], sources: np.ndarray | None) -> dict[str, Any]:
    nearest, own_size = picture["nearest_train"], _within(size, THUMBNAIL)
    if "faces" in picture:
        # Boxes are in pixels of the size compared at.
        boxed = outlined(image_files.load_image(picture["file"], size), picture["faces"])
        caption = {"judge_label": None, "src": data_uri(image_files.resize(boxed, own_size), quality=88)}
        seen = f"; faces: {len(picture['faces']) or 'none'}"
    else:
        caption = {"faces": None, "src": _thumbnail(picture["file"], own_size, quality=88)}
        seen = f"; the judge names it {picture['judge_label']}" if picture["judge_label"] else ""
    return {
        **picture,
        **caption,
        "alt": what + seen,
        "nearest_src": None
        if nearest is None
        else _thumbnail(nearest["file"], _within(size, NEAREST_THUMBNAIL), quality=80),
        "nearest_alt": f"training photograph nearest to {what}",
        "sources_src": None if sources is None else _source_map(sources, _within(size, NEAREST_THUMBNAIL)),
        "sources_alt": f"map of the photographs that the patches of {what} are from",
        "size": size,
    }


def _source_map(sources: np.ndarray, size: tuple[int, int]) -> str:
    """Draw which photograph each patch is from, one colour each, with a line around what lies together as it lay there."""
    rows, columns = (np.arange(n) * n_own // n for n, n_own in zip(size, sources.shape[:2], strict=True))
    # Lines are drawn at the size that is shown, or some of them would be lost on the way.
    owners, parts = (cells[rows[:, None], columns] for cells in (sources[..., 0], pieces(sources)))
    return data_uri(colored_parts(owners, parts), quality=80)


def _within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(size))
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def _thumbnail(path: str, size: tuple[int, int], *, quality: int) -> str:
    return data_uri(image_files.load_image(path, size), quality=quality)


def _run_settings(name: str, run: Any) -> dict[str, Any]:
    record = run.record
    facts = {"folder": str(Path(run.folder))}
    facts.update({key: _plain(value) for key, value in record.items() if key != "settings"})
    settings = record.get("settings")
    settings = {key: _plain(value) for key, value in settings.items()} if isinstance(settings, Mapping) else {}
    named = run.class_key.title if run.class_key is not None else "no class"
    return {
        "name": name,
        "class_title": named,
        "command": record.get("command", "?"),
        "facts": facts,
        "settings": settings,
    }


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
