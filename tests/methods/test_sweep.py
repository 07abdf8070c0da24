import csv

import numpy as np
import pytest
from toys import SIZE, network, picture

from stochdeconv.errors import InputError, LayerNotFoundError, MissingInputError
from stochdeconv.images.files import load_image, resize, save_png
from stochdeconv.methods import recognisers
from stochdeconv.methods.dream import dream
from stochdeconv.methods.recognition import recognise, top_classes
from stochdeconv.methods.runs import RunInterrupted
from stochdeconv.methods.sweep import sweep

HOW = {"octaves": 2, "jitter": 1, "n_steps": (1, 4)}


@pytest.fixture(scope="module")
def model():
    return network(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos") / "dog"
    folder.mkdir()
    for i, image in enumerate((picture(), picture()[::-1], 1 - picture())):
        save_png(folder / f"{i}.png", image)
    return folder


def brightness(image):
    """A recogniser that is no network: it sees light from half on, and nothing in the dark."""
    return [("light", float(image.mean()))] if image.mean() > 0.5 else []


def test_every_cell_is_a_dream_and_what_is_seen_in_it(model):
    result = sweep(model, picture(), "conv,deep", judge=brightness, **HOW)
    photo = resize(picture(), SIZE)
    for i, (layer, n_steps) in enumerate((("conv", 1), ("conv", 4), ("deep", 1), ("deep", 4))):
        alone = dream(model, photo, layer, octaves=2, jitter=1, n_steps=n_steps)
        np.testing.assert_allclose(result.images[i], alone.images[0], atol=1e-5)
        ours, judged = result.tables["cells"][2 * i : 2 * i + 2]
        assert (ours["layer"], ours["n_steps"], ours["recogniser"], judged["recogniser"]) == (
            layer,
            n_steps,
            "network",
            "judge",
        )
        for when, image in (("before", photo), ("after", result.images[i])):
            named = top_classes(model, recognise(model, [image])[0])
            assert [ours[f"{when}_{rank}"] for rank in (1, 2, 3)] == [name for name, _ in named]
            assert ours[f"{when}_1_score"] == pytest.approx(named[0][1])
            assert judged[f"{when}_1"] == ("light" if image.mean() > 0.5 else "")
    assert list(result.record["settings"]["optimization"]) == [
        f"{layer}, {n} steps" for layer in ("conv", "deep") for n in (1, 4)
    ]
    assert ours["before_4"] == "" and result.images.shape == (4, *SIZE, 3)
    # A dream of another network changes other things.
    other = sweep(network(2), picture(), "deep", **HOW)
    assert np.abs(other.images[1] - result.images[3]).mean() > 0.02


def test_rates_over_a_folder_count_the_class_it_is_named_after(model, folder, tmp_path):
    judge = network(2)
    result = sweep(model, folder, "deep", judge=judge, **HOW)
    assert result.images.shape == (6, *SIZE, 3)
    pictures = [load_image(path, SIZE) for path in sorted(folder.iterdir())]
    for name, who in (("network", model), ("judge", judge)):
        rows = [row for row in result.tables["rates"] if row["recogniser"] == name]
        assert [(row["layer"], row["n_steps"], row["n_photos"]) for row in rows] == [
            ("", 0, 3),
            ("deep", 1, 3),
            ("deep", 4, 3),
        ]
        for row, images in zip(rows, (pictures, result.images[::2], result.images[1::2]), strict=True):
            assert row["top1"] == pytest.approx(np.mean(recognise(who, images).argmax(axis=1) == 1))
            assert row["top5"] == 1.0
    # A recogniser that is no network is asked the same.
    named = sweep(model, folder, "deep", judge=lambda image: [("dog", 1.0)], **HOW)
    assert [(row["asked"], row["top1"]) for row in named.tables["rates"][3:]] == [("dog", 1.0)] * 3
    # After a dream it is asked about the dream.
    is_photo = lambda image: [("dog" if any(np.array_equal(image, single) for single in pictures) else "cat", 1.0)]  # noqa: E731
    fooled = sweep(model, folder, "deep", judge=is_photo, **HOW)
    assert [row["top1"] for row in fooled.tables["rates"][3:]] == [1.0, 0.0, 0.0]
    result.save(tmp_path / "out")
    with open(tmp_path / "out" / "rates.csv") as file:
        assert len(list(csv.DictReader(file))) == 6
    with open(tmp_path / "out" / "cells.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["photo"] for row in rows][::4] == ["0.png", "1.png", "2.png"]
    assert [int(row["image"]) for row in rows] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_without_a_class_a_recogniser_is_asked_for_what_it_saw_before(model, folder, tmp_path):
    (tmp_path / "album").symlink_to(folder)
    paths = sorted(folder.iterdir())
    result = sweep(model, paths, "deep", judge=brightness, **HOW)
    rates = {(row["recogniser"], row["n_steps"]): row["top1"] for row in result.tables["rates"]}
    assert {row["asked"] for row in result.tables["rates"]} == {"what it saw first before"}
    pictures = [load_image(path, SIZE) for path in paths]
    was = recognise(model, pictures).argmax(axis=1)
    assert rates["network", 0] == 1.0
    assert rates["network", 4] == pytest.approx(np.mean(recognise(model, result.images[1::2]).argmax(axis=1) == was))
    # Where nothing was recognised before, nothing can be recognised again.
    light = np.array([image.mean() > 0.5 for image in pictures])
    assert 0 < light.mean() < 1 and rates["judge", 0] == pytest.approx(light.mean())


def test_faces_are_counted_placed_and_shown(model, tmp_path, monkeypatch):
    """By a detector whose answers are known: a face in a bright photograph, two in the dream of it, none in a dark one."""
    (tmp_path / "photos").mkdir()
    for name, value in (("bright", 0.9), ("dark", 0.1)):
        save_png(tmp_path / "photos" / f"{name}.png", np.full((*SIZE, 3), value))
    bright = load_image(tmp_path / "photos/bright.png")

    def find_faces(image):
        n_faces = 0 if image.mean() < 0.5 else 1 if np.array_equal(image, bright) else 2
        return np.array([[0, 0, 8, 8], [20, 16, 8, 8]])[:n_faces]

    monkeypatch.setattr(recognisers, "find_faces", find_faces)
    monkeypatch.setattr(recognisers, "require_detector", lambda: None)
    result = sweep(model, tmp_path / "photos", "deep", judge="faces", octaves=1, jitter=0, n_steps=1)
    rows = [row for row in result.tables["cells"] if row["recogniser"] == "faces"]
    assert [(row["photo"], row["faces_before"], row["faces_after"]) for row in rows] == [
        ("bright.png", 1, 2),
        ("dark.png", 0, 0),
    ]
    rates = [row for row in result.tables["rates"] if row["recogniser"] == "faces"]
    assert [(row["n_steps"], row["n_photos"], row["with_face"], row["mean_faces"]) for row in rates] == [
        (0, 2, 0.5, 0.5),
        (1, 2, 0.5, 1.0),
    ]
    # In the photograph first, then in the dream of it.
    places = [(row["image"], row["n_steps"], row["x"], row["y"], row["width"]) for row in result.tables["faces"]]
    assert places == [("", 0, 0, 0, 8), (0, 1, 0, 0, 8), (0, 1, 20, 16, 8)]
    assert result.record["settings"]["judge"] == "faces"
    result.save(tmp_path / "out")
    assert (tmp_path / "out/faces.csv").read_text().splitlines()[0] == "image,photo,layer,n_steps,x,y,width,height"
    # The boxes are on both pictures of the sheet, and not on the images.
    green = lambda image: np.all(np.abs(image - [0.2, 1.0, 0.2]) < 0.01, axis=-1).sum()  # noqa: E731
    photo, dreamt = np.split(result.sheet, [result.sheet.shape[1] // 2], axis=1)
    assert 0 < 2 * green(photo) == green(dreamt) and green(result.images) == 0
    # Where there is none, there is no table of places.
    assert "faces" not in sweep(model, tmp_path / "photos/dark.png", "deep", judge="faces", octaves=1, n_steps=1).tables


def test_a_judge_that_is_no_judge_is_refused(model):
    with pytest.raises(InputError, match="judge 'face' is a word, but the only one is 'faces'"):
        sweep(model, picture(), "deep", judge="face")


def test_steps_are_counted_through_the_grid_and_an_interruption_keeps_whole_cells(model):
    seen = []

    def stop(step):
        seen.append((step.step, step.n_steps))
        if step.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted) as caught:
        sweep(model, picture(), "conv,deep", callback=stop, **HOW)
    assert seen == [(i, 20) for i in range(1, 6)]
    result = caught.value.result
    assert len(result.images) == 1 and len(result.tables["cells"]) == 1
    assert result.tables["rates"][-1]["n_photos"] == 1


def test_batches_change_nothing_and_photographs_have_views_of_their_own(model, folder):
    of = {n: sweep(model, folder, ["conv,deep=0.5", "deep"], batch_size=n, **HOW) for n in (1, 2, 8)}
    for n in (2, 8):
        np.testing.assert_allclose(of[n].images, of[1].images, atol=2e-3)
        assert np.abs(of[n].images - of[1].images).mean() < 1e-5
    first = {n: [row for row in of[n].history if (row["layer"], row["n_steps"]) == ("deep", 1)] for n in of}
    assert {n: [row["batch"] for row in rows] for n, rows in first.items()} == {
        1: [0, 0, 1, 1, 2, 2],
        2: [0, 0, 1, 1],
        8: [0, 0],
    }
    # Large ones go through in tiles, which lie elsewhere for each.
    large = {**HOW, "n_steps": 1, "octaves": 1, "size": 520, "step_size": 8.0}
    single, two = (sweep(model, folder, "deep", batch_size=n, **large) for n in (1, 2))
    np.testing.assert_allclose(two.images, single.images, atol=1e-4)
    copy = folder.parent / "copy.png"
    save_png(copy, load_image(folder / "0.png"))
    # The same picture again, as another photograph: other views, another dream.
    again = sweep(model, [folder / "0.png", copy], "deep", **HOW).images
    assert np.abs(again[:2] - again[2:]).mean() > 1e-3


def test_senseless_calls_are_refused(model, tmp_path):
    with pytest.raises(InputError, match="at least one layer"):
        sweep(model, picture(), "")
    for n_steps in ((), (0,)):
        with pytest.raises(InputError, match=r"at least one number of steps|n_steps= are numbers of steps"):
            sweep(model, picture(), "deep", n_steps=n_steps)
    with pytest.raises(InputError, match="batch_size= is a whole number of at least 1"):
        sweep(model, picture(), "deep", batch_size=0)
    with pytest.raises(LayerNotFoundError, match="closest: 'deep'"):
        sweep(model, picture(), "conv,deeep")
    with pytest.raises(MissingInputError):
        sweep(model, tmp_path / "none", "deep")
    with pytest.raises(InputError, match="holds no image"):
        sweep(model, tmp_path, "deep")


def test_layers_of_many_photographs_are_compiled_once_each(model, folder):
    """Three photographs, two layers of two octaves: four programs."""
    fresh = network(3)
    sweep(fresh, folder, "conv,deep", **HOW)
    assert len(fresh._programs) == 4
