import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from stochdeconv.errors import ExistingOutputError, InputError, MissingInputError
from stochdeconv.images.files import load_image
from stochdeconv.methods.runs import RunResult, is_made, read_record, refuse_existing


@pytest.fixture
def result():
    images = np.random.default_rng(0).uniform(size=(3, 10, 12, 3)).astype(np.float32)
    history = [{"batch": 0, "step": 1, "a": 1.5}, {"batch": 0, "step": 2, "a": 0.5, "cosine": 0.1}]
    return RunResult(
        images, history, {"command": "generate", "n_images": 3}, {"deep/mean": np.arange(6.0).reshape(3, 2)}
    )


def test_a_run_leaves_what_it_should(result, tmp_path):
    folder = result.save(tmp_path / "new" / "run")
    assert sorted(path.name for path in folder.iterdir()) == [
        "contact_sheet.png", "history.csv", "image_000.png", "image_001.png", "image_002.png", "run.json", "targets.npz",
    ]  # fmt: skip
    for i in range(3):
        np.testing.assert_allclose(
            load_image(folder / f"image_{i:03d}.png", None), result.images[i], atol=0.5 / 255 + 1e-6
        )
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"batch": "0", "step": "1", "a": "1.5", "cosine": ""},
        {"batch": "0", "step": "2", "a": "0.5", "cosine": "0.1"},
    ]
    with np.load(folder / "targets.npz") as arrays:
        np.testing.assert_array_equal(arrays["deep/mean"], [[0, 1], [2, 3], [4, 5]])
    assert read_record(folder) == json.loads((folder / "run.json").read_text()) == result.record


def test_saving_twice_gives_the_same_bytes(result, tmp_path):
    first, second = result.save(tmp_path / "a"), result.save(tmp_path / "b")
    for path in first.iterdir():
        if path.suffix == ".png":
            assert path.read_bytes() == (second / path.name).read_bytes()


def test_an_empty_text_is_no_folder(result):
    with pytest.raises(InputError, match="empty"):
        result.save("")


def test_an_earlier_run_is_refused_and_replaced_as_a_whole(result, tmp_path):
    folder = result.save(tmp_path / "run")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ExistingOutputError, match="overwrite=True"):
        result.save(folder)
    fewer = RunResult(result.images[:1], result.history, result.record)
    fewer.save(folder, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == [
        "contact_sheet.png", "history.csv", "image_000.png", "notes.txt", "run.json",
    ]  # fmt: skip


def test_output_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExistingOutputError, match="is a file"):
        refuse_existing(tmp_path / "file", overwrite=True)


def test_a_record_that_is_missing_or_broken(tmp_path):
    with pytest.raises(MissingInputError, match=r"run\.json"):
        read_record(tmp_path)
    for text in ("{", "[1]"):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(InputError, match="make the run again"):
            read_record(tmp_path)


def test_a_full_disk_costs_neither_the_old_run_nor_leaves_half_a_new_one(result, tmp_path, monkeypatch):
    folder = result.save(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    written = []

    def full(descriptor):
        written.append(descriptor)
        if len(written) > 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for target in (folder, tmp_path / "new"):
        written.clear()
        with pytest.raises(InputError, match="no space left"):
            result.save(target, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_small_pictures_are_large_enough_to_be_seen_on_the_sheet(result, tmp_path):
    height, width = result.images.shape[1:3]
    result.save(tmp_path / "run")
    sheet = load_image(tmp_path / "run" / "contact_sheet.png")
    factor = -(-96 // width)
    assert factor > 1
    assert sheet.shape[1] == len(result.images) * (width * factor + 4) + 4
    seen = load_image(tmp_path / "run" / "image_000.png")
    np.testing.assert_array_equal(
        sheet[4 : 4 + height * factor, 4 : 4 + width * factor], seen.repeat(factor, 0).repeat(factor, 1)
    )


def test_what_a_method_has_beside_its_images_is_left_too_and_goes_with_it(result, tmp_path):
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    sheet = np.full((5, 7, 3), 0.25, np.float32)
    tables = {"probabilities": [{"step": 1, "probability": 0.5}], "rates": [{"top1": 1.0}]}
    whole = replace(result, frames=frames, sheet=sheet, tables=tables, record={"command": "saliency"})
    whole.save(tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    extra = {"animation.gif", "animation.mp4", "probabilities.csv", "rates.csv", "maps.npz"}
    assert extra <= names and "targets.npz" not in names
    assert (tmp_path / "run" / "probabilities.csv").read_text() == "step,probability\n1,0.5\n"
    np.testing.assert_allclose(load_image(tmp_path / "run" / "contact_sheet.png"), sheet, atol=0.003)
    # What is the user's stays, what was the old run's goes.
    (tmp_path / "run" / "notes.csv").write_text("mine")
    result.save(tmp_path / "run", overwrite=True)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert not extra & names and {"targets.npz", "notes.csv"} <= names


@pytest.mark.parametrize(
    ("change", "made"),
    [
        ({}, True),
        ({"complete": False}, False),
        ({"command": "maximize"}, False),
        ({"settings": {"n_steps": 2}}, False),
        ({"model": {"weights_hash": "other"}}, False),
        ({"statistics_hash": None}, False),
        ({"seed": 1}, False),
        ({"n_images": 4}, False),
        ({"settings": {"size": [8, 9], "n_steps": 3}}, False),
        ({"settings": {"size": [8, 9], "n_steps": 2, "more": 1}}, True),
    ],
)
def test_a_run_is_made_where_a_complete_one_with_these_settings_lies(result, tmp_path, change, made):
    record = {"complete": True, "model": {"weights_hash": "hash"}, "statistics_hash": "church", "seed": 0}
    record |= {"n_images": 3, "settings": {"size": [8, 9], "n_steps": 2}} | change
    replace(result, record={"command": "generate", **record}).save(tmp_path / "run")
    now = {"model": SimpleNamespace(weights_hash="hash"), "statistics_hash": "church"}
    now |= {"seed": 0, "n_images": 3, "n_steps": 2, "size": (8, 9)}
    assert is_made(tmp_path / "run", "generate", **now) is made
    assert not is_made(tmp_path / "elsewhere", "generate", **now)
    assert not is_made(tmp_path / "run", "generate", unheard_of=None, **now)
