"""The README's examples run as they are written, in a folder that has what they speak of."""

import json
import re
import shlex
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stochdeconv.cli import COMMANDS, app

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMAND_LINES = [
    [line for line in code.splitlines() if line.startswith("stochdeconv ")] for language, code in BLOCKS if not language
]
# A download of half a gigabyte, or a network that does not ship: their words are checked, and the same commands run on a small network.
NEEDS_DOWNLOAD = re.compile(r"(?<!mini-)\b(vgg16|mobilenet|bvlc_googlenet_imagenet)\b")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with the photographs and the network the README names."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ("photos/church", "photos/held_out"):
        Path(folder).mkdir(parents=True)
        for number in range(66):
            pixels = (rng.random((4, 4, 3)) * 255).astype(np.uint8)
            Image.fromarray(pixels).resize((32, 32)).save(f"{folder}/{number:02d}.png")
    Image.fromarray((rng.random((4, 4, 3)) * 255).astype(np.uint8)).resize((120, 112)).save("photo.png")
    inputs = x = keras.Input((32, 32, 3))
    for number in (1, 2):
        x = keras.layers.Conv2D(6, 3, strides=number, activation="relu", name=f"conv{number}")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x)).save("squeezenet.keras")
    (sidecar,) = [code for language, code in BLOCKS if language == "json"]
    Path("squeezenet.json").write_text(sidecar)
    keras.Sequential([keras.Input((32, 32, 3)), *_judge_layers()]).save("judge.keras")
    Path("judge.json").write_text(sidecar)
    names = [{"index": 0, "wnid": "n03028079", "label": "church"}, {"index": 1, "wnid": None, "label": "barn"}]
    Path(json.loads(sidecar)["class_names"]).write_text(json.dumps(names))
    return tmp_path


def _judge_layers():
    yield keras.layers.Conv2D(8, 3, activation="relu")
    yield keras.layers.GlobalAveragePooling2D()
    yield keras.layers.Dense(2, activation="softmax")


# Commands that take minutes by their default number of steps: every word of theirs is run, for fewer steps.
FEWER_STEPS = ("--n-steps", "8")
TAKE_STEPS = ("generate", "maximize", "morph", "invert")


def run(line):
    words = shlex.split(line)[1:]
    words += FEWER_STEPS if words[0] in TAKE_STEPS and "--n-steps" not in words else ()
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, f"{line}\n{result.output}"


def test_commands_run_as_written(here):
    lines = [line for block in COMMAND_LINES for line in block if not NEEDS_DOWNLOAD.search(line)]
    assert len(lines) >= 6
    for line in lines:
        run(line)
    assert Path("out/squeezenet/report.html").is_file()


def test_commands_that_download_run_on_a_small_network(here):
    lines = [line for block in COMMAND_LINES for line in block if NEEDS_DOWNLOAD.search(line)]
    assert len(lines) >= 4
    for line in lines:
        small = re.sub(r"(-m|--judge) (vgg16|mobilenet|bvlc_googlenet_imagenet.keras)\b", r"\1 squeezenet.keras", line)
        small = small.replace("inception_4d_pool", "conv2")
        run(small.replace("stats_cache/vgg16", "stats_cache/squeezenet"))


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_runs_as_written(here, code):
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def test_set_up_commands_are_those_of_the_project():
    block = README.split("<!-- set-up -->")[1].split("```")[1]
    assert block.split("\n")[1:3] == ["pip install . && stochdeconv demo", "pip install '.[test]' && pytest"]


def test_every_command_is_in_the_readme():
    for command in COMMANDS:
        assert f"stochdeconv {command}" in README
