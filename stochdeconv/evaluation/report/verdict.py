"""The report's first sentences: who comes nearest to photographs, by how much, and what speaks against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Contestants with less of the photographs' variety are not called nearest to them: a blank picture has a low KID.
_VARIED = 0.4


@dataclass(frozen=True)
class Verdict:
    """Headline, sentences that carry or limit it, and the contestants from the nearest to photographs on."""

    headline: str
    sentences: tuple[str, ...]
    order: tuple[str, ...]
    winner: str | None


def number(value: float | None) -> str:
    """Write a figure with three digits, as a person would; a dash where there is none."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    if size < 5e-4:
        return "≈ 0"
    if size >= 1e6:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa} · 10^{int(exponent)}".replace("-", "−")
    n_decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    text = f"{value:,.{n_decimals}f}"
    return text.replace("-", "−")


def percent(value: float | None) -> str:
    """Write a share as whole percent; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.0f}\u00a0%"


def ratio(value: float) -> str:
    """Write how many times as large with two digits."""
    return f"{value:.2g}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def is_of_faces(metrics: Mapping[str, Any]) -> bool:
    """Tell whether faces were looked for, instead of asking a network."""
    return "with_face" in metrics["real"]


def find_verdict(metrics: Mapping[str, Any], roles: Mapping[str, str]) -> Verdict:
    """Rank the contestants by KID and say what a reader must know beside the ranking; of faces, count and rank nobody.

    Parameters
    ----------
    metrics : mapping
        The content of metrics.json.
    roles : mapping of str to str
        Name to ``"ours"``, ``"baseline"`` or ``"other"``.

    Returns
    -------
    Verdict
    """
    contestants = metrics["contestants"]
    if is_of_faces(metrics):
        return _of_faces(metrics)
    ranked = [name for name in contestants if contestants[name]["kid"]["value"] is not None]
    unranked = [name for name in contestants if name not in ranked]
    order = sorted(ranked, key=lambda name: contestants[name]["kid"]["value"])
    if not order:
        return Verdict("No ranking: too few images for a distance to photographs", (), tuple(unranked), None)
    varied = [name for name in order if _variety_of(metrics, name) >= _VARIED] or order
    best = varied[0]
    sentences = [_distance(metrics, roles, best)]
    if best != order[0]:
        sentences.append(
            f"{order[0]} has a lower KID ({number(contestants[order[0]]['kid']['value'])}), but its images are nearly alike: variety "
            f"{ratio(_variety_of(metrics, order[0]))} × that of photographs. Blank pictures do that."
        )
    others = [name for name in order if name != best]
    sentences += _told_apart(metrics, best, others[0]) if others else []
    sentences += _recognised(metrics, best) + _variety(metrics, best) + _copied(metrics, best)
    headline = (
        f"{best} comes nearest to real photographs" if len(order) > 1 else f"How near {best} comes to real photographs"
    )
    return Verdict(headline, tuple(sentences), tuple(order + unranked), best)


def _of_faces(metrics: Mapping[str, Any]) -> Verdict:
    def share(row: Mapping[str, Any]) -> str:
        return f"{percent(row['with_face']['value'])} ({number(row['mean_faces']['value'])} an image)"

    shares = ", ".join(f"{name} {share(row)}" for name, row in metrics["contestants"].items())
    sentences = (
        f"Images with a face, and faces: {shares}; real photographs {share(metrics['real'])}.",
        "Nobody is ranked: a face detector does not tell how realistic or varied images are. The figures that need a network (judge top-1 "
        "and top-5, KID, density, coverage, pairwise distance, Vendi score, nearest training photograph, objects) are left out.",
        "The detector looks for upright faces seen from the front; it misses some, and finds some where there are none.",
    )
    return Verdict("How many faces there are", sentences, tuple(metrics["contestants"]), None)


def _variety_of(metrics: Mapping[str, Any], name: str) -> float:
    """Pairwise distance in units of the photographs'; 1 where it is unknown."""
    value = metrics["contestants"][name]["pairwise_distance"]["value"]
    of_real = metrics["real"]["pairwise_distance"]["value"]
    return 1.0 if value is None or not of_real else value / of_real


def _distance(metrics: Mapping[str, Any], roles: Mapping[str, str], best: str) -> str:
    contestants = metrics["contestants"]
    kid = contestants[best]["kid"]["value"]
    text = f"KID {number(kid)}"
    if roles[best] != "baseline":
        baselines = [
            name for name in contestants if roles[name] == "baseline" and contestants[name]["kid"]["value"] is not None
        ]
        if baselines:
            nearest = min(baselines, key=lambda name: contestants[name]["kid"]["value"])
            theirs = contestants[nearest]["kid"]["value"]
            text += (
                f", {ratio(kid / theirs)} × the best baseline's ({nearest}, {number(theirs)})"
                if kid > 0 and theirs > 0
                else f"; best baseline {nearest} {number(theirs)}"
            )
    return f"{text}; real photographs among themselves: {number(metrics['real']['kid']['value'])}."


def _told_apart(metrics: Mapping[str, Any], best: str, other: str) -> list[str]:
    """Doubt that two contestants differ, where their KID does not say so."""
    own, its = metrics["contestants"][best]["kid"], metrics["contestants"][other]["kid"]
    if None in (own["low"], own["high"], its["low"], its["high"]):
        return [f"So few images have no interval of KID: that {best} is nearer than {other} may be chance."]
    if own["high"] >= its["low"] and its["high"] >= own["low"]:
        return [
            f"The intervals of {best} and {other} overlap: at this number of images the two cannot be told apart by KID."
        ]
    return []


def _recognised(metrics: Mapping[str, Any], best: str) -> list[str]:
    figures = metrics["contestants"][best]["judge_top1"]
    if figures["value"] is None:
        return []
    others = {name: row["judge_top1"]["value"] for name, row in metrics["contestants"].items() if name != best}
    of_real = percent(metrics["real"]["judge_top1"]["value"])
    text = f"The judge names {percent(figures['value'])} of its images correctly (real photographs: {of_real}"
    better = [name for name, value in others.items() if value is not None and value > figures["value"]]
    if better:
        leader = max(better, key=lambda name: others[name])
        text += f"; {leader}: {percent(others[leader])}"
    return [text + ")."]


def _variety(metrics: Mapping[str, Any], best: str) -> list[str]:
    if (
        metrics["contestants"][best]["pairwise_distance"]["value"] is None
        or not metrics["real"]["pairwise_distance"]["value"]
    ):
        return []
    times = _variety_of(metrics, best)
    if times < 0.8:
        return [f"But its images resemble each other: variety {ratio(times)} × that of photographs."]
    if times > 1.1:
        return [f"Its images differ more than photographs do: variety {ratio(times)} × theirs."]
    return [f"Its variety is that of photographs ({ratio(times)} ×)."]


def _copied(metrics: Mapping[str, Any], best: str) -> list[str]:
    value = metrics["contestants"][best]["nearest_train_distance"]["value"]
    of_real = metrics["real"]["nearest_train_distance"]["value"]
    if value is None or not of_real or value >= 0.9 * of_real:
        return []
    return [
        f"Careful: its images lie nearer to training photographs ({number(value)}) "
        f"than new photographs do ({number(of_real)}): they may be copies."
    ]
