"""What results and statistics show in a notebook: pictures inside, names as text."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from commands import call
from PIL import Image

from stochdeconv.errors import InputError
from stochdeconv.images import markup
from stochdeconv.images.sheets import contact_sheet
from stochdeconv.methods.runs import RunResult
from stochdeconv.networks.image_model import load_model
from stochdeconv.optimization.results import OptimizationResult
from stochdeconv.statistics.file import load_statistics

AWKWARD = '<script>alert("x")</script> & "quoted"'


class Cells(HTMLParser):
    """Texts of the cells of all tables, row by row; tags that are left open are an error."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        assert tag in {"table", "thead", "tbody", "tr", "th", "td", "img"}
        if tag == "tr":
            self.rows.append([])
        elif tag in {"th", "td"}:
            self.rows[-1].append("")
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.rows[-1][-1] += text


def decoded(text):
    """The one picture of a text, as an array in [0, 1]."""
    (content,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))), np.float32) / 255


def run_result(**changes):
    images = np.stack([np.full((20, 30, 3), level, np.float32) for level in (0.2, 0.8)])
    record = {
        "command": "generate",
        "complete": True,
        "class": {"index": 3, "wnid": None, "label": AWKWARD},
        "seed": 7,
        "settings": {"n_steps": 2},
        "model": {"name": "tiny"},
    }
    history = [
        {"batch": batch, "step": step, AWKWARD: loss}
        for batch, losses in enumerate([(9.0, 1.0), (9.0, 2.0)])
        for step, loss in enumerate(losses)
    ]
    return replace(RunResult(images, history, record), **changes)


def test_a_run_shows_its_sheet_and_what_it_is():
    result = run_result()
    text = result._repr_html_()
    sheet = contact_sheet(result.images, least_width=96)
    np.testing.assert_allclose(decoded(text), sheet, atol=0.1)
    assert f'width="{sheet.shape[1]}"' in text
    rows = dict(Cells(text).rows)
    assert rows == {
        "method": "generate",
        "class": AWKWARD,
        "network": "tiny",
        "images": "2",
        "steps": "2",
        "seed": "7",
        "loss": "at the end",
        AWKWARD: "1.5",  # last of either batch, 1 and 2
    }


def test_a_run_says_that_it_was_interrupted():
    record = run_result().record
    assert "interrupted" not in run_result()._repr_html_()
    assert "interrupted" in run_result(record={**record, "complete": False})._repr_html_()


def test_a_run_with_a_sheet_of_its_own_and_no_losses():
    sheet = np.zeros((8, 2000, 3), np.float32)
    text = run_result(sheet=sheet, history=[])._repr_html_()
    assert decoded(text).shape == (4, 960, 3)
    assert 'width="960"' in text
    assert "at the end" not in text
    small = run_result(sheet=sheet[:, :72], history=[])._repr_html_()
    assert decoded(small).shape == (8, 72, 3) and 'width="432"' in small  # six times as large


def test_what_is_no_loss_is_none():
    steps = [{"stage": "morph", "octave": 1, "step": step, "loss": 2.0 - step} for step in (0, 1)]
    rows = Cells(run_result(history=steps)._repr_html_()).rows
    assert rows[-2:] == [["loss", "at the end"], ["loss", "1"]]
    rules = [{"rule": "gradient", "score": 3.0}]
    assert "at the end" not in run_result(history=rules)._repr_html_()


def test_statistics_show_their_layers(made):
    statistics = load_statistics(made / "church.h5")
    rows = Cells(replace(statistics, class_name=AWKWARD, wnid=None)._repr_html_()).rows
    assert rows[0] == ["class", f"{AWKWARD} (0)"]
    printed = [line.split() for line in call("inspect", made / "church.h5").stdout.split("\n\n")[1].splitlines()]
    assert rows[3:] == printed
    assert [row[0] for row in rows[4:]] == list(statistics)


def test_a_network_shows_what_goes_in_and_comes_out(made):
    names = [AWKWARD, "barn", "crane", "heron"]
    rows = dict(Cells(load_model(made / "tiny.keras", class_names=names)._repr_html_()).rows)
    assert rows["network"] == "tiny"
    assert rows["images"] == "32×32"
    assert rows["classes"] == f"4: {', '.join(names)}"
    assert rows["default layers"].startswith("conv1")


def test_result_of_the_loop_shows_images_where_they_are_pictures():
    history = [{"loss": 3.0}, {"loss": 0.5}]
    pictures = OptimizationResult(np.full((2, 16, 16, 3), 0.5, np.float32), history)._repr_html_()
    assert decoded(pictures).shape == contact_sheet(np.zeros((2, 16, 16, 3))).shape
    voxels = OptimizationResult(np.zeros((2, 4, 4, 4, 1), np.float32), history)._repr_html_()
    assert "<img" not in voxels
    assert Cells(voxels).rows[-1] == Cells(pictures).rows[-1] == ["loss", "0.5"]


def test_a_row_that_does_not_fit_its_header_is_refused():
    with pytest.raises(InputError, match="has 1 cells; expected 2: a, b"):
        markup.table(("a", "b"), [("only",)])
