"""The list of networks says what Keras and the package really have."""

import json
import os
import subprocess
import sys

import keras
import pytest
from commands import refuse, succeed

from stochdeconv.assets import NETWORKS
from stochdeconv.networks import pretrained
from stochdeconv.networks.catalogue import APPLICATIONS, SHIPPED, cache_folder
from stochdeconv.networks.image_model import load_model


def test_it_names_what_can_be_loaded():
    assert set(APPLICATIONS) == set(pretrained.application_names())
    assert tuple(SHIPPED) == NETWORKS


def test_a_download_is_as_large_as_its_parameters():
    """4 bytes each: the table that sizes come from counts some in 1000 x 1000 bytes, some in 1024 x 1024."""
    for word, network in APPLICATIONS.items():
        n_bytes = 4 * network.n_parameters
        assert 0.97 * n_bytes / 2**20 - 1 < network.megabytes < 1.15 * n_bytes / 1e6 + 1, word


@pytest.mark.parametrize("word", ["mobilenet", "vgg16"])
def test_keras_counts_the_same_parameters_and_asks_for_the_same_file(word, monkeypatch):
    class AskedError(Exception):
        pass

    def get_file(name, *_, **__):
        raise AskedError(name)

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    constructor = getattr(keras.applications, pretrained.application_names()[word])
    network = constructor(weights=None)
    assert network.count_params() == APPLICATIONS[word].n_parameters
    assert network.input_shape[1:3] == (APPLICATIONS[word].side, APPLICATIONS[word].side)
    with pytest.raises(AskedError) as caught:
        constructor(weights="imagenet")
    assert caught.value.args == (APPLICATIONS[word].file,)


@pytest.mark.parametrize("word", SHIPPED)
def test_what_ships_is_what_it_says(word):
    model, network = load_model(word), SHIPPED[word]
    assert model.keras_model.count_params() == network.n_parameters
    assert model.input_size == (network.side, network.side)
    assert model.preprocessing["preprocessing"] == network.preprocessing
    assert network.is_here and round(network.path.stat().st_size / 1e6) == network.megabytes


def test_weights_are_here_once_they_were_downloaded_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "models"
    assert not any(network.is_here for network in APPLICATIONS.values())
    network = APPLICATIONS["mobilenet"]
    network.path.parent.mkdir()
    network.path.touch()
    for n_bytes, is_here in ((1_000_000, False), (17_225_924, True)):
        os.truncate(network.path, n_bytes)
        assert network.is_here == is_here
    listed = {facts["model"]: facts for facts in json.loads(succeed("models", "--json").stdout)}
    assert list(listed) == [*SHIPPED, *APPLICATIONS]
    assert [word for word, facts in listed.items() if facts["is_here"]] == [*SHIPPED, "mobilenet"]
    assert listed["mobilenet"]["path"] == str(network.path)
    rows = [line.split() for line in succeed("models").stdout.splitlines()]
    assert rows[0] == ["model", "input", "parameters", "MB", "here", "values"]
    assert ["mobilenet", "224×224", "4.3M", "16", "yes", "tf:", "-1", "to", "1"] in rows
    assert ["vgg16", "224×224", "138.4M", "528", "no", "caffe:", "BGR", "minus", "means"] in rows


def test_networks_are_listed_at_once():
    """Processor seconds: those of the wall depend on what else the machine does."""
    program = "import sys; from stochdeconv.cli import main\ntry: main()\nfinally: print('keras' in sys.modules, file=sys.stderr)"
    before = os.times()
    process = subprocess.run([sys.executable, "-c", program, "models"], check=True, capture_output=True, text=True)
    after = os.times()
    assert process.stderr == "False\n" and ".keras file" in process.stdout
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1


def test_it_takes_no_argument():
    refuse("models", "vgg16", code=2)
