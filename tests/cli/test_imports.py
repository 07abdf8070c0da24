"""--import: layers of the user's own, from code that is run only when it is named."""

import json
import shutil
import subprocess
import sys

import keras
import pytest
from commands import call, make_photos, refuse, succeed

from stochdeconv.cli import COMMANDS

CODE = """
import keras

print("run", file=open("ran.txt", "a"))

@keras.saving.register_keras_serializable(package="own")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""
BUILD = """
import keras, own_layers
layers = keras.layers
stack = [keras.Input((16, 16, 3)), layers.Conv2D(4, 3, activation="relu", name="conv"), own_layers.Doubled(name="twice")]
keras.Sequential([*stack, layers.GlobalAveragePooling2D(), layers.Dense(2, activation="softmax")]).save("own.keras")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A network with a layer of its own, and the code of the layer."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "own_layers.py").write_text(CODE)
    # In a process of its own: here the layer is unknown.
    subprocess.run([sys.executable, "-c", BUILD], check=True, capture_output=True, cwd=folder)
    (folder / "own.json").write_text(json.dumps({"preprocessing": "tf"}))
    (folder / "ran.txt").unlink()
    return folder


@pytest.fixture
def folder(built, tmp_path, monkeypatch):
    shutil.copytree(built, tmp_path, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("own_layers", None)
    keras.saving.get_custom_objects().pop("own>Doubled", None)


@pytest.mark.parametrize("word", ["own_layers", "own_layers.py"])
def test_a_network_with_a_layer_of_its_own_works_once_its_code_is_named(folder, word):
    refused = refuse("layers", "own.keras")
    assert "--import MODULE" in refused and "class 'Doubled'" in refused
    assert not (folder / "ran.txt").exists(), "code is run only when it is named"
    listed = succeed("layers", "own.keras", "--import", word).stdout
    assert (folder / "ran.txt").read_text() == "run\n"
    assert "twice" in listed
    make_photos(folder / "photos", 1, seed=0)
    succeed(
        *(
            "saliency",
            "photos/00.png",
            "-m",
            "own.keras",
            "--import",
            word,
            "--rule",
            "gradient",
            "-o",
            "out",
            "--quiet",
        )
    )
    assert (folder / "out" / "image_000.png").exists()


def test_code_that_is_not_there_or_fails_is_one_line(folder):
    assert "there is no Python module 'no_such' to import" in refuse("layers", "own.keras", "--import", "no_such")
    assert "no such file of Python code: 'no.py'" in refuse("layers", "own.keras", "--import", "no.py")
    (folder / "broken.py").write_text("import own_layers\n1 / 0\n")
    assert "'broken' fails: ZeroDivisionError" in refuse("layers", "own.keras", "--import", "broken")


def test_every_command_that_loads_a_network_has_it():
    for command in COMMANDS:
        words = set(call(command, "--help").stdout.split())
        assert ("--import" in words) == bool({"--model", "--judge", "MODEL"} & words), command
