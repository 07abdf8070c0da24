"""What is wrong with a call, and can be told without a network, is told before Keras is loaded."""

import importlib.util
import json
import subprocess
import sys

import pytest
from commands import make_photos

from stochdeconv.statistics.file import load_statistics, save_statistics

PHOTO = "photos/00.png"
NETWORK = ("-m", "no-network-is-loaded.keras")
OUT = ("-o", "out")
# Of faces: without OpenCV, what is said first is that it is missing.
NO_OPENCV = None if importlib.util.find_spec("cv2") else "pip install 'stochdeconv[faces]'"
BLURRED = ("--blur", "1", "--preset", "fourier")
PARTED = ("--diversity", "1", "-n", "9", "--batch-size", "8")
GUIDED = ("--gradient-rule", "guided", "--optimizer", "lbfgs")
CALLS = {
    "output": (["generate", "church.h5", "-o", "held"], "already holds a run"),
    "output is a file": (["refine", PHOTO, "church", *NETWORK, "-o", "text.npy"], "is a file"),
    "output in a file": (["refine", PHOTO, "church", *NETWORK, "-o", "text.npy/out"], "text.npy' is a file"),
    "output nowhere": (["maximize", "church", *NETWORK, "-o", "/dev/null/out"], "/dev/null' is a file"),
    "output in a place that is not written to": (
        ["maximize", "church", *NETWORK, "-o", "/proc/out"],
        "choose another place with -o",
    ),
    "statistics": (["generate", "no.h5", *OUT], "no.h5"),
    "statistics of an atlas": (["inspect", "no.h5", "--html", "a.html"], "no.h5"),
    "no statistics": (["inspect", "text.npy", "--html", "a.html"], "text.npy"),
    "atlas": (["inspect", "church.h5", "--html", "text.npy"], "'text.npy' already exists"),
    "atlas is a folder": (["inspect", "church.h5", "--html", "held"], "'held' is a folder"),
    "atlas in a place that is not written to": (
        ["inspect", "church.h5", "--html", "/proc/a.html"],
        "choose another place with --html",
    ),
    "sampler": (["generate", "church.h5", *OUT, "--sampler", "chian"], "closest: 'chain'"),
    "temperature": (
        ["generate", "church.h5", *OUT, "--temperature", "-1"],
        "--temperature is a finite number, at least 0; got -1.0",
    ),
    "gradient rule": (["generate", "church.h5", *OUT, "--gradient-rule", "up"], "'up' is unknown"),
    "recipe": (["generate", "church.h5", *OUT, "--recipe", "fcets=0"], "closest: 'facets'"),
    "start": (["generate", "church.h5", *OUT, "--init", "no.png"], "no such image"),
    "component": (["generate", "church.h5", *OUT, "--component", "block1:0"], "closest: 'block1_conv"),
    "a walk by workers": (
        ["generate", "church.h5", *OUT, "--walk", "3", "--ray", "local"],
        "a series is made in one process",
    ),
    "shards of workers": (["collect", "photos", *NETWORK, "--shard", "1/2", "--ray", "local"], "shards of their own"),
    "preset": (["maximize", "church", *NETWORK, *OUT, "--preset", "lucid"], "there are simonyan, regularised, fourier"),
    "blur of Fourier images": (["maximize", "church", *NETWORK, *OUT, *BLURRED], "use 'regularised'"),
    "ablation": (
        ["maximize", "church", *NETWORK, *OUT, "--ablate-constraints", "--preset", "fourier"],
        "--ablate-constraints",
    ),
    "diversity": (["maximize", "church", *NETWORK, *OUT, *PARTED], "9 images in batches of 8"),
    "unit": (["maximize", "--unit", "conv2", *NETWORK, *OUT], "LAYER:CHANNEL"),
    "units": (["maximize", "--unit", "conv2:1,conv2:1", *NETWORK, *OUT], "twice"),
    "direction": (["maximize", "--direction", "conv2:text.npy", *NETWORK, *OUT], "text.npy"),
    "outlier weight": (["maximize", "church", *NETWORK, *OUT, "--outlier-weight", "3"], "--suppress-outliers"),
    "outliers": (["maximize", "church", *NETWORK, *OUT, "--suppress-outliers", "no.h5"], "no.h5"),
    "photograph": (["saliency", "no.png", *NETWORK, *OUT], "no such image"),
    "rule": (["saliency", PHOTO, *NETWORK, *OUT, "--rule", "giuded"], "closest: 'guided'"),
    "unit of saliency": (["saliency", PHOTO, "--unit", "conv2", *NETWORK, *OUT], "LAYER:CHANNEL"),
    "checkpoints": (["refine", PHOTO, "church", *NETWORK, *OUT, "--checkpoints", "0,3"], "each at least 1"),
    "checkpoints after the end": (
        ["refine", PHOTO, "church", *NETWORK, *OUT, "--checkpoints", "3,9", "--n-steps", "5"],
        "the last checkpoint, 9, comes after the last step, 5",
    ),
    "strength": (
        ["refine", PHOTO, "church", *NETWORK, *OUT, "--strength", "0"],
        "--strength is a finite number, above 0; got 0.0",
    ),
    "outliers of refine": (["refine", PHOTO, "church", *NETWORK, *OUT, "--suppress-outliers", "no.h5"], "no.h5"),
    "weight of refine": (["refine", PHOTO, "church", *NETWORK, *OUT, "--outlier-weight", "3"], "--suppress-outliers"),
    "frames": (
        ["morph", "church", "barn", *NETWORK, *OUT, "--n-frames", "9", "--n-steps", "4"],
        "--n-frames is at most one more than the 4 steps; got 9",
    ),
    "photograph of morph": (["morph", "no.png", "barn", *NETWORK, *OUT], "no such image"),
    "outliers of morph": (
        ["morph", "church", "barn", *NETWORK, *OUT, "--suppress-outliers", "church.h5,no.h5"],
        "no.h5",
    ),
    "weight of morph": (["morph", "church", "barn", *NETWORK, *OUT, "--outlier-weight", "3"], "--suppress-outliers"),
    "layers": (["invert", PHOTO, "--layer", "a,,b", *NETWORK, *OUT], "nothing between two commas"),
    "optimizer": (["invert", PHOTO, "--layer", "a", *NETWORK, *OUT, "--optimizer", "sgd"], "lbfgs, adam"),
    "start of invert": (["invert", PHOTO, "--layer", "a", *NETWORK, *OUT, "--init", "zero"], "noise, photo, mean"),
    "search": (["invert", PHOTO, "--layer", "a", *NETWORK, *OUT, *GUIDED], "gradient of no"),
    "target": (["invert", PHOTO, "--layer", "a", *NETWORK, *OUT, "--target", "no.png"], "no such image"),
    "zoom": (
        ["dream", PHOTO, "--layer", "a", *NETWORK, *OUT, "--zoom-frames", "3", "--zoom", "2"],
        "--zoom is a finite number, at least 0 and below 1; got 2.0",
    ),
    "steps of a sweep": (
        ["sweep", PHOTO, "--layers", "a", "--n-steps", "5,0", *NETWORK, *OUT],
        "--n-steps are numbers of steps, each at least 1; got [5, 0]",
    ),
    "octaves": (
        ["dream", PHOTO, "--layer", "a", *NETWORK, *OUT, "--octave-scale", "1"],
        "--octave-scale is a finite number, above 1; got 1.0",
    ),
    "guide": (["dream", PHOTO, "--layer", "a", *NETWORK, *OUT, "--guide", "no.png"], "no such image"),
    "layers of sweep": (["sweep", PHOTO, "--layers", "a,a", *NETWORK, *OUT], "'a' twice"),
    "photographs of a sweep for faces": (
        ["sweep", "no.png", "--layers", "a", "--judge", "faces", *NETWORK, *OUT],
        NO_OPENCV or "no such photograph",
    ),
    "steps of sweep": (["sweep", PHOTO, "--layers", "a", *NETWORK, *OUT, "--n-steps", "1,x"], "whole numbers"),
    "photographs": (["collect", "nowhere", *NETWORK], "nowhere"),
    "no photographs": (["collect", "empty", *NETWORK], "holds no image"),
    "layers of collect": (["collect", "photos", *NETWORK, "--layers", "a,a"], "'a' twice"),
    "file of collect": (["collect", "photos", *NETWORK, "-o", "church.h5"], "--overwrite"),
    "contestant": (["compare", "nowhere", "--real", "photos", "--judge", "no.keras", *OUT], "nowhere"),
    "real": (["compare", "held", "--real", "nowhere", "--judge", "no.keras", *OUT], "nowhere"),
    "training photographs of faces": (
        ["compare", "held", "--real", "photos", "--train", "photos", "--judge", "faces", *OUT],
        NO_OPENCV or "leave train out",
    ),
    "judge": (
        ["compare", "held", "--real", "photos", "--judge", "Face", *OUT],
        "expected 'faces', a face detector, or a network",
    ),
    "demo": (["demo", "-o", "text.npy"], "is a file"),
}
PROGRAM = """
import contextlib, io, json, sys
from stochdeconv.cli import main

said = {}
for case, words in json.load(open("calls.json")).items():
    code, err = 0, io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as end:
            code = end.code
    said[case] = [code, err.getvalue(), "keras" in sys.modules or "tensorflow" in sys.modules]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What every call says, in a process where none of them has loaded anything."""
    folder = tmp_path_factory.mktemp("early")
    make_photos(folder / "photos", 1, seed=0)
    save_statistics(load_statistics("mini-vgg16/church.h5"), folder / "church.h5")
    (folder / "held").mkdir()
    (folder / "held/run.json").write_text('{"command": "generate", "class": null}')
    (folder / "held/image_000.png").write_bytes((folder / PHOTO).read_bytes())
    (folder / "empty").mkdir()
    (folder / "text.npy").write_text("1 2 3")
    (folder / "calls.json").write_text(json.dumps({case: words for case, (words, _) in CALLS.items()}))
    called = subprocess.run([sys.executable, "-c", PROGRAM], cwd=folder, check=True, capture_output=True, text=True)
    left = {path.name for path in folder.iterdir()}
    assert left == {"calls.json", "church.h5", "empty", "held", "photos", "text.npy"}
    return json.loads(called.stdout)


@pytest.mark.parametrize("case", CALLS)
def test_it_is_said_at_once(said, case):
    exit_code, message, keras_is_loaded = said[case]
    assert exit_code in (1, 2) and " ".join(CALLS[case][1].split()) in " ".join(message.replace("│", " ").split())
    assert not keras_is_loaded
