"""Commands that start from a photograph or dream, as a user meets them."""

import csv
import json

import numpy as np
import pytest
from commands import call, files_in, make_photos, refuse, succeed
from PIL import Image
from toys import make_network


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kit")
    make_network(folder / "tiny.keras", seed=0)
    make_network(folder / "other.keras", seed=1)
    make_photos(folder / "photos", 2, seed=0)
    (folder / "text.png").write_text("no picture")
    return folder


@pytest.fixture
def tool(kit, tmp_path, monkeypatch):
    """A command with the network and an output folder; in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: (*words, "-m", kit / "tiny.keras", "-o", "out")


RUN = {"image_000.png", "contact_sheet.png", "history.csv", "run.json"}
FILM = {"animation.gif", "animation.mp4"}


def rows_of(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_refine(kit, tool, tmp_path):
    photo = kit / "photos/00.png"
    called = succeed(*tool("refine", photo, "church"), "--checkpoints", "1,3", "--strength", 0.5)
    assert called.stdout == "out/contact_sheet.png\n"
    assert set(files_in(tmp_path / "out")) == RUN | {"image_001.png", "probabilities.csv"}
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert (record["command"], record["class"]["label"], record["settings"]["n_steps"]) == ("refine", "church", 3)
    assert "already holds a run" in refuse(*tool("refine", photo, "church"))
    words = ("--checkpoints", 1, "-n", 3, "--batch-size", 2, "--overwrite")
    succeed(*tool("refine", photo, "church"), *words)
    assert [row["variant"] for row in rows_of(tmp_path / "out/probabilities.csv")] == ["0", "0", "1", "1", "2", "2"]
    assert [row["batch"] for row in rows_of(tmp_path / "out/history.csv")] == ["0", "1"]
    for words, message in (
        (("refine", kit / "photos/99.png", "church"), "no such image"),
        (("refine", kit / "text.png", "church"), "no known image format"),
        (("refine", photo, "chuch"), "closest: 'church'"),
    ):
        assert message in refuse(*tool(*words), "--overwrite")
    for flags, message in (
        (("--checkpoints", "0,3"), "each at least 1"),
        (("--n-steps", 5, "--checkpoints", 6), "after the last step"),
        (("--checkpoints", "1,x"), "whole numbers"),
        (("--rotate", "nan"), "--rotate is a finite number, at least 0; got nan"),
        (("--scale", 2), "--scale is a finite number, at least 0 and below 1; got 2.0"),
    ):
        assert message in refuse(*tool("refine", photo, "church"), *flags, "--overwrite", code=2)


def test_morph(kit, tool, tmp_path):
    succeed(*tool("morph", kit / "photos/00.png", "barn"), "--n-frames", 3, "--n-steps", 4)
    assert set(files_in(tmp_path / "out")) == RUN | FILM | {"probabilities.csv"}
    with Image.open(tmp_path / "out/animation.gif") as gif:
        assert gif.n_frames >= 2
    succeed(*tool("morph", "church", "barn"), "--n-frames", 2, "--n-steps", 2, "--overwrite")
    assert len(rows_of(tmp_path / "out/history.csv")) == 4
    words = ("--n-frames", 2, "--n-steps", 1, "-n", 2, "--batch-size", 1, "--overwrite")
    succeed(*tool("morph", "church", "barn"), *words)
    assert {"image_000.png", "image_001.png"} <= set(files_in(tmp_path / "out"))
    assert "closest: 'church'" in refuse(*tool("morph", "chuch", "barn"), "--overwrite")
    assert "--n-frames is at most one more than the 2 steps; got 4: give more steps (--n-steps)" in refuse(
        *tool("morph", "church", "barn"), "--n-steps", 2, "--n-frames", 4, "--overwrite", code=2
    )
    assert "no known image format" in refuse(*tool("morph", kit / "text.png", "barn"), "--overwrite")


def test_dream(kit, tool, tmp_path):
    photo = kit / "photos/00.png"
    short = ("--octaves", 2, "--n-steps", 1, "--jitter", 1)
    succeed(*tool("dream", photo), "--layer", "conv1,conv2:3=0.5", *short)
    assert set(files_in(tmp_path / "out")) == RUN
    with Image.open(tmp_path / "out/image_000.png") as image, Image.open(photo) as before:
        assert image.size == before.size
    guided = ("--layer", "conv2", "--guide", kit / "photos/01.png", "--size", 24)
    succeed(*tool("dream", "noise"), *guided, "--zoom-frames", 2, *short, "--overwrite")
    assert set(files_in(tmp_path / "out")) == RUN | FILM
    for words, message in (
        (("dream", photo, "--layer", "conv3"), "closest: 'conv2', 'conv1'"),
        (("dream", photo, "--layer", "conv1:9"), "channels 0 to 5"),
        (("dream", photo, "--layer", "conv1=a"), "LAYER:CHANNEL=WEIGHT"),
        (("dream", photo, "--layer", "conv1", "--guide", "none.png"), "no such image"),
        (("dream", "nose", "--layer", "conv1"), "no such image"),
    ):
        assert message in refuse(*tool(*words), "--overwrite")
    for flags, message in (
        (("--octave-scale", 1), "--octave-scale is a finite number, above 1; got 1.0"),
        (("--step-size", "inf"), "--step-size is a finite number, above 0; got inf"),
    ):
        assert message in refuse(*tool("dream", photo, "--layer", "conv1"), *flags, "--overwrite", code=2)
    refuse(*tool("dream", photo), code=2)


def test_invert(kit, tool, tmp_path):
    photo = kit / "photos/00.png"
    succeed(*tool("invert", photo), "--layer", "conv1,pool2", "--n-steps", 2, "-n", 2, "--batch-size", 1)
    assert [row["variant"] for row in rows_of(tmp_path / "out/distances.csv")] == ["0", "1", "0", "1"]
    succeed(*tool("invert", photo), "--layer", "conv1,pool2", "--n-steps", 3, "--overwrite")
    assert set(files_in(tmp_path / "out")) == RUN | {"image_001.png", "distances.csv"}
    assert [row["layer"] for row in rows_of(tmp_path / "out/distances.csv")] == ["conv1", "pool2"]
    enhanced = ("--enhance", 1.5, "--init", "photo", "--optimizer", "adam", "--gradient-rule", "guided")
    succeed(*tool("invert", photo), "--layer", "conv2", *enhanced, "--n-steps", 2, "--overwrite")
    assert "image_001.png" not in files_in(tmp_path / "out")
    for words, message in (
        (("--layer", "conv2", "--optimizer", "sgd"), "lbfgs, adam"),
        (("--layer", "conv9"), "closest"),
        (("--layer", "conv2", "--target", "none.png"), "no such image"),
    ):
        assert message in refuse(*tool("invert", photo), *words, "--overwrite")
    for flags, message in (
        (("--init", "photo", "--enhance", 1), "own activations already"),
        (
            ("--gradient-rule", "guided", "--optimizer", "lbfgs"),
            "use --optimizer adam with it, or --gradient-rule true",
        ),
    ):
        assert message in refuse(*tool("invert", photo), "--layer", "conv2", *flags, "--overwrite", code=2)


def test_sweep(kit, tool, tmp_path):
    short = ("--octaves", 1, "--n-steps", "1,2", "--jitter", 1)
    judge = ("--judge", kit / "other.keras")
    succeed(*tool("sweep", kit / "photos"), "--layers", "conv1,conv2", *judge, *short)
    assert set(files_in(tmp_path / "out")) == RUN | {f"image_{i:03d}.png" for i in range(8)} | {
        "cells.csv",
        "rates.csv",
    }
    assert len(rows_of(tmp_path / "out/cells.csv")) == 16 and len(rows_of(tmp_path / "out/rates.csv")) == 10
    succeed(*tool("sweep", kit / "photos/00.png"), "--layers", "conv1", *short, "--overwrite")
    assert len(rows_of(tmp_path / "out/rates.csv")) == 3
    for words, message in (
        (("sweep", "none", "--layers", "conv1"), "no such photograph or folder"),
        (("sweep", ".", "--layers", "conv3"), "closest"),
        (("sweep", kit / "photos", "--layers", "conv1", "--judge", "none.keras"), "none.keras"),
    ):
        assert message in refuse(*tool(*words), "--overwrite")
    for n_steps, message in (("0", "each at least 1"), ("a", "whole numbers")):
        words = ("--layers", "conv1", "--n-steps", n_steps, "--overwrite")
        assert message in refuse(*tool("sweep", kit / "photos"), *words, code=2)


def test_a_layer_is_called_by_its_number_wherever_it_is_called_by_its_name(kit, tool, tmp_path):
    """Of the tiny network conv1 is 1, pool1 2, conv2 3; run.json says the names."""
    photo = kit / "photos/00.png"
    np.save(tmp_path / "direction.npy", np.ones(6))
    dreamt = ("--octaves", 1, "--n-steps", 1, "--jitter", 1)
    for words, setting, named in (
        (("dream", photo, "--layer", "1,3:2=0.5", *dreamt), "layer", "conv1,conv2:2=0.5"),
        (("sweep", photo, "--layers", "1,3:2", *dreamt), "layers", ["conv1", "conv2:2"]),
        (("invert", photo, "--layer", "3,1", "--n-steps", 1), "layers", ["conv2", "conv1"]),
        (("saliency", photo, "--unit", "3:2", "--rule", "gradient"), "unit", "conv2:2"),
        (("saliency", photo, "--unit", "3:2:0:1", "--rule", "grad_cam", "--layer", "2"), "layer", "pool1"),
        (("maximize", "--unit", "1:2,3:0", "--n-steps", 1, "-n", 1), "unit", "conv1:2,conv2:0"),
        (("maximize", "church", "--diversity", 1, "--diversity-layer", 3, "--n-steps", 1), "diversity_layer", "conv2"),
    ):
        succeed(*tool(*words), "--overwrite")
        assert json.loads((tmp_path / "out/run.json").read_text())["settings"][setting] == named
    succeed(*tool("maximize", "--direction", "1:direction.npy", "--n-steps", 1, "-n", 1), "--overwrite")
    assert json.loads((tmp_path / "out/run.json").read_text())["settings"]["direction"]["layer"] == "conv1"
    for words in (
        ("dream", photo, "--layer", "7"),
        ("sweep", photo, "--layers", "1,7"),
        ("invert", photo, "--layer", 7),
        ("saliency", photo, "--unit", "7:0"),
        ("maximize", "--unit", "7:0"),
        ("maximize", "--direction", "7:direction.npy"),
    ):
        assert "numbered from 0, the input, to 6, 'predictions'; got 7" in refuse(*tool(*words), "--overwrite")
    assert "twice" in refuse(*tool("sweep", photo, "--layers", "1,conv1"), "--overwrite")


def test_defaults_follow_what_is_given(kit, tool, tmp_path):
    """Calls of which the default of one flag once made the value of another impossible."""
    photo = kit / "photos/00.png"

    def settings(*words):
        succeed(*tool(*words), "--overwrite")
        return json.loads((tmp_path / "out/run.json").read_text())["settings"]

    assert settings("morph", photo, "barn", "--n-steps", 10)["n_frames"] == 11
    assert settings("morph", photo, "barn", "--n-frames", 300, "--strength", 0.1)["n_steps"] == 299
    assert settings("refine", photo, "barn", "--n-steps", 3)["checkpoints"] == [1, 3]
    assert settings("refine", photo, "barn", "--n-steps", 102)["checkpoints"] == [3, 11, 21, 102]
    actual = settings("invert", photo, "--layer", "conv2", "--gradient-rule", "guided", "--n-steps", 2)
    assert actual["optimizer"] == "adam"
    assert settings("invert", photo, "--layer", "conv2", "--n-steps", 2)["optimizer"] == "lbfgs"
    short = ("-n", 1, "--n-steps", 1)
    for flag, value in (("--blur", 1), ("--blur-every", 2), ("--clip", 0.3), ("--contribution", 5)):
        assert settings("maximize", "barn", *short, flag, value)["preset"] == "regularised"
    assert settings("maximize", "barn", *short, "--jitter", 1)["preset"] == "fourier"
    diverse = settings("maximize", "barn", "-n", 9, "--n-steps", 1, "--diversity", 1, "--diversity-layer", "conv2")
    assert diverse["batch_size"] == 9
    assert settings("maximize", "barn", "-n", 9, "--n-steps", 1)["batch_size"] == 8
    dreamt = settings("dream", "noise", "--size", 6, "--layer", "pool2", "--n-steps", 1)
    assert dreamt["octaves"] == 2  # of 6 and 4 pixels: two poolings leave nothing of 3
    assert settings("dream", photo, "--layer", "pool2", "--n-steps", 1)["octaves"] == 4
    assert settings("sweep", photo, "--layers", "conv1,pool2", "--size", 6, "--n-steps", 1)["octaves"] == 2
    for words, message, code in (
        (("dream", "noise", "--size", 6, "--layer", "pool2", "--octaves", 4), "fewer --octaves", 1),
        (("maximize", "barn", "--blur", 1, "--preset", "fourier"), "use 'regularised'", 2),
    ):
        assert message in refuse(*tool(*words), "--overwrite", code=code)


def test_sweep_for_faces(kit, tool, tmp_path):
    pytest.importorskip("cv2")
    astronaut = pytest.importorskip("skimage.data").astronaut()
    Image.fromarray(astronaut).save(tmp_path / "astronaut.png")
    short = ("--octaves", 1, "--n-steps", "1", "--jitter", 1, "--step-size", 0.5, "--size", 128)
    succeed(*tool("sweep", tmp_path / "astronaut.png"), "--layers", "conv1", "--judge", "faces", *short)
    assert set(files_in(tmp_path / "out")) == RUN | {"cells.csv", "rates.csv", "faces.csv"}
    ours, faces = rows_of(tmp_path / "out/cells.csv")
    assert (faces["recogniser"], faces["faces_before"], faces["faces_after"]) == ("faces", "1", "1")
    assert ours["before_1"] != "" and ours["faces_before"] == "" and faces["before_1"] == ""
    for row in rows_of(tmp_path / "out/faces.csv"):
        x, y, width, height = (int(row[name]) for name in ("x", "y", "width", "height"))
        assert x < 56 < x + width and y < 32 < y + height  # her nose


@pytest.mark.parametrize("command", ["refine", "morph", "dream", "invert", "sweep"])
def test_help_names_what_every_method_takes(command):
    called = call(command, "--help")
    assert called.exit_code == 0 and "--seed" in called.stdout and "--n-steps" in called.stdout
