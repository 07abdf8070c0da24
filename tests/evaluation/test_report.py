"""The report: complete in itself, readable by everyone, whole on a phone and on a desk."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from pages import CHROMIUM, Elements, assert_complete_in_itself, seen_in_browser

from stochdeconv.evaluation.class_comparison import MeasuredClass, Row
from stochdeconv.evaluation.classes import ClassKey
from stochdeconv.evaluation.contestants import ClassEntry, Contestant, Run
from stochdeconv.evaluation.figures import FIGURE_KEYS
from stochdeconv.evaluation.report.page import render_report
from stochdeconv.evaluation.report.verdict import find_verdict, number, percent
from stochdeconv.images import files as image_files

ROLES = {"ours": "ours", "simonyan": "baseline", "fourier": "baseline"}
# A name that breaks a page which does not escape it, and one too long for a phone.
AWKWARD = '<script>alert("x")</script> & $x$'
LONG = "a_contestant_with_a_name_without_any_place_to_break_it_" * 2


def figures(scale=1.0, **values):
    row = {key: {"value": scale * 0.5, "low": scale * 0.4, "high": scale * 0.6} for key in FIGURE_KEYS}
    for key, value in values.items():
        row[key] = {
            "value": value,
            "low": None if value is None else 0.9 * value,
            "high": None if value is None else 1.1 * value,
        }
    return {"n": 3, **row}


def metrics(contestants, **more):
    return {
        "contestants": contestants,
        "real": figures(kid=0.01, judge_top1=0.9),
        "real_vs_real": figures(kid=0.002),
        "judge": {
            "name": "judge", "source": "/models/judge.keras", "weights_hash": "f" * 64, "input_size": [16, 16],
            "n_classes": 3, "feature_layer": "map", "class_layer": "classes",
        },
        "settings": {"contestants": {}, "real": "/" + "photographs/" * 30, "train": "/train", "seed": 0, "image_size": [24, 24]},
        "marks": {name: {"kid": {"met": True, "wanted": "≤ 1/3"}, "vendi": {"met": False, "wanted": "0.8"}} for name in contestants},
        "warnings": ["The judge made the images of 'ours' itself."],
        "classes": {},
    } | more  # fmt: skip


def write_pictures(folder, n_pictures=3):
    paths = []
    for index in range(n_pictures):
        path = folder / f"image_{index:03d}.png"
        image_files.save_png(path, np.random.default_rng(index).random((24, 24, 3)))
        paths.append(path)
    return paths


def page_of(folder, names=("ours", AWKWARD, LONG, "simonyan"), n_pictures=3):
    paths = write_pictures(folder, n_pictures)
    pictures = [
        {
            "file": str(path),
            "judge_label": "English springer",
            "judge_probability": 0.5,
            "judge_right": index > 0,
            "nearest_train": {"file": str(paths[0]), "distance": 12.5},
        }
        for index, path in enumerate(paths)
    ]
    curves = {
        "spectrum": np.linspace(1, 0.01, 12),
        "gradient": np.abs(np.linspace(-1, 1, 101)),
        "color": np.full(512, 1 / 512),
    }
    row = Row(n_pictures, {}, pictures, curves)
    key = ClassKey("n00000001", "English springer")
    entrants = []
    for name in names:
        record = {
            "command": "maximize" if name == "simonyan" else "generate",
            "settings": {"note": name, "path": "x" * 300},
        }
        entrants.append(Contestant(name, (Run(Path(folder) / "run", record, tuple(paths), key),)))
    runs = {entrant.name: entrant.runs for entrant in entrants}
    entry = ClassEntry(key, runs, real=tuple(paths), train=())
    measured = [MeasuredClass(entry, (24, 24), dict.fromkeys([*names, "real"], row), None, 0)]
    contestants = {name: figures(kid=1.0 + place) for place, name in enumerate(names)}
    return render_report(metrics(contestants), entrants, measured)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return page_of(tmp_path_factory.mktemp("pictures"))


def test_page_asks_nobody_for_anything(page):
    assert_complete_in_itself(page)


def test_every_picture_is_inside_and_described(page):
    pictures = [attributes for tag, attributes in Elements(page).elements if tag == "img"]
    assert len(pictures) == 5 * 3 * 2  # real and four contestants, each with its nearest training photograph
    assert all(picture["src"].startswith("data:image/jpeg;base64,") for picture in pictures)
    assert all(len(picture["alt"]) > 10 for picture in pictures)
    plots = [attributes for tag, attributes in Elements(page).elements if tag == "svg"]
    assert len(plots) == 1 + len(FIGURE_KEYS) + 3
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)


def test_names_are_text_and_never_markup(page):
    assert "<script>" not in page
    assert "&lt;script&gt;alert" in page


def test_page_says_what_was_asked_of_it(page):
    for words in (
        "comes nearest to real photographs",
        "judge made the images",
        "noise floor",
        "Settings of every run",
        "English springer",
    ):
        assert words in page


def test_same_comparison_same_page(page, tmp_path):
    shutil.rmtree(tmp_path)
    again = page_of(tmp_path)
    # Only the folder's own name may differ.
    assert re.sub(r"/\S*?/(run|image_\d+)", "", again) == re.sub(r"/\S*?/(run|image_\d+)", "", page)


def test_many_pictures_are_cut_and_said_so(tmp_path):
    text = page_of(tmp_path, names=("ours",), n_pictures=20)
    assert "first 16 of 20" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found to open the page in")
@pytest.mark.parametrize("width", [390, 1400])
def test_page_opens_in_a_browser_without_overflow(page, width, tmp_path):
    seen = seen_in_browser(page, tmp_path, width=width)
    assert (seen["broken"], seen["pictures"], seen["flat"]) == (0, 30, 0)


def verdict(**contestants):
    return find_verdict(metrics(contestants), {name: ROLES[name] for name in contestants})


def test_verdict_names_the_nearest_and_by_how_much():
    outcome = verdict(simonyan=figures(kid=4.0), ours=figures(kid=1.0), fourier=figures(kid=2.0))
    assert (outcome.winner, outcome.order) == ("ours", ("ours", "fourier", "simonyan"))
    assert outcome.headline == "ours comes nearest to real photographs"
    assert "0.50 × the best baseline's (fourier, 2.00)" in outcome.sentences[0]


def test_verdict_admits_a_baseline_that_wins():
    assert verdict(ours=figures(kid=3.0), simonyan=figures(kid=1.0)).headline.startswith("simonyan")


def test_verdict_does_not_crown_a_blank():
    outcome = verdict(simonyan=figures(kid=0.5, pairwise_distance=0.1), ours=figures(kid=1.0), fourier=figures(kid=2.0))
    assert (outcome.winner, outcome.order[0]) == ("ours", "simonyan")
    assert outcome.headline == "ours comes nearest to real photographs"
    assert "simonyan has a lower KID (0.500)" in outcome.sentences[1]


def test_verdict_warns_of_overlap_of_sameness_and_of_copies():
    near = verdict(ours=figures(kid=1.0), simonyan=figures(kid=1.1))
    assert any("cannot be told apart" in sentence for sentence in near.sentences)
    same = verdict(ours=figures(kid=1.0, pairwise_distance=0.3), simonyan=figures(kid=9.0))
    assert any("resemble each other" in sentence for sentence in same.sentences)
    copied = verdict(ours=figures(kid=1.0, nearest_train_distance=0.1), simonyan=figures(kid=9.0))
    assert any("may be copies" in sentence for sentence in copied.sentences)
    few = figures(kid=1.0)
    few["kid"] |= {"low": None, "high": None}
    assert any("no interval of KID" in sentence for sentence in verdict(ours=few, simonyan=figures(kid=9.0)).sentences)
    clear = verdict(ours=figures(kid=1.0), simonyan=figures(kid=9.0))
    assert not any(word in " ".join(clear.sentences) for word in ("told apart", "resemble", "copies", "no interval"))


def test_verdict_without_kid_ranks_nobody():
    outcome = verdict(ours=figures(kid=None), simonyan=figures(kid=None))
    assert outcome.winner is None
    assert "No ranking" in outcome.headline


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0"), (1234.5, "1,234"), (12.345, "12.3"), (-1.234, "−1.23"), (0.01234, "0.012"), (1e-7, "≈ 0")],
)
def test_numbers_read_as_a_person_writes_them(value, text):
    assert number(value) == text


def test_percent():
    assert percent(0.625) == "62\u00a0%"
    assert percent(None) == "–"
