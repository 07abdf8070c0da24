import json
import os
import subprocess
import sys

import keras
import pytest
from commands import refuse, succeed
from keras.src.utils import file_utils

from stochdeconv import pretrained
from stochdeconv.catalogue import OFFERS, weights_folder
from stochdeconv.models import load_model
from stochdeconv.shipped import NETWORKS

OF = {offer.name: offer for offer in OFFERS}


def test_every_word_is_offered_and_no_other():
    assert list(OF) == [*NETWORKS, *sorted(pretrained.application_names())]


def test_conventions_are_those_networks_are_loaded_with():
    for word, name in pretrained.application_names().items():
        module = getattr(keras.applications, name).__module__.rsplit(".", 1)[-1]
        assert OF[word].preprocessing == pretrained._PREPROCESSING_OF_MODULE[module], word


@pytest.mark.parametrize("word", NETWORKS)
def test_what_ships_is_as_it_says(word):
    model, offer = load_model(word), OF[word]
    assert offer.ships and offer.is_here
    assert model.input_size == (offer.side, offer.side)
    assert model.preprocessing["preprocessing"] == offer.preprocessing
    assert keras.models.load_model(offer.path, compile=False).count_params() == offer.n_parameters
    assert offer.megabytes == pytest.approx(offer.path.stat().st_size / 1e6)


@pytest.mark.parametrize("word", ["mobilenetv2", "mobilenetv3small", "densenet121", "resnet50", "efficientnetb0"])
def test_sizes_and_files_are_those_keras_asks_for(word, monkeypatch):
    """Keras builds the network and, before it downloads anything, names the file."""
    built, wanted = [], []
    monkeypatch.setattr(keras.Model, "load_weights", lambda self, path, **_: built.append(self))

    def get_file(fname, *_, **__):
        wanted.append(fname)
        return "nowhere"

    monkeypatch.setattr(file_utils, "get_file", get_file)
    getattr(keras.applications, pretrained.application_names()[word])(input_shape=(OF[word].side,) * 2 + (3,))
    assert wanted == [OF[word].file]
    assert built[0].count_params() == OF[word].n_parameters


def test_sizes_are_those_of_the_documentation():
    """Parameters of https://keras.io/api/applications, in millions."""
    stated = {"vgg16": 138.4, "xception": 22.9, "resnet152v2": 60.4, "nasnetlarge": 88.9, "convnextxlarge": 350.2}
    for name, millions in stated.items():
        assert round(OF[name].n_parameters / 1e6, 1) == millions
    assert OF["vgg16"].megabytes == pytest.approx(553.4, abs=0.1)  # of 553467096 bytes


def test_what_is_here_is_told_from_keras_own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert not OF["resnet50"].is_here and OF["resnet50"].megabytes == pytest.approx(102.5, abs=0.1)
    # Keras finds it there, so it does not ask the network for it.
    monkeypatch.setattr(keras.src.backend.config, "_KERAS_DIR", str(tmp_path))
    file = tmp_path / "models" / OF["resnet50"].file
    file.parent.mkdir()
    file.write_bytes(b"weights" * 1000)
    assert keras.utils.get_file(file.name, "http://nowhere.invalid/file", cache_subdir="models") == str(file)
    assert weights_folder() == file.parent and OF["resnet50"].is_here and OF["resnet50"].megabytes == 0.007
    lines = {line.split()[0]: line for line in succeed("models").stdout.splitlines()}
    assert " yes " in lines["resnet50"] and " no " in lines["resnet101"] and " ships " in lines["mini-vgg16"]
    assert "FILE.json" in lines["FILE.keras"]
    listed = {one["name"]: one for one in json.loads(succeed("models", "--json").stdout)}
    assert list(listed) == list(OF)
    assert listed["resnet50"]["here"] and listed["resnet50"]["path"] == str(file) and not listed["vgg16"]["here"]


def test_it_is_instant():
    program = "import sys; from stochdeconv.cli import app; app(['models'], standalone_mode=False); print('keras' in sys.modules)"
    before = os.times()
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    after = os.times()
    assert done.stdout.endswith("False\n")
    assert after.children_user - before.children_user + after.children_system - before.children_system < 1


def test_a_flag_that_is_not_there_is_refused():
    assert "--jsn" in refuse("models", "--jsn", code=2)
