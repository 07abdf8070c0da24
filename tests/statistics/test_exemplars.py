"""Photographs that are kept: exactly, only where asked for, the same ones in shards, never in what is made small."""

import keras
import numpy as np
import pytest

from stochdeconv.errors import SettingsError
from stochdeconv.images.files import load_image, save_png
from stochdeconv.networks.image_model import load_model
from stochdeconv.statistics.collection import CollectSettings, collect, merge
from stochdeconv.statistics.compaction import compact
from stochdeconv.statistics.drawing import drawn_by_key
from stochdeconv.statistics.file import load_statistics, save_statistics

SETTINGS = {"n_components": 3, "layout_size": 4, "batch_size": 4, "class_name": "church"}


@pytest.fixture(scope="module")
def model():
    layers = [
        keras.Input((20, 24, 3)),
        keras.layers.Conv2D(5, 3, activation="relu", name="first"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(2, activation="softmax"),
    ]
    return load_model(keras.Sequential(layers), preprocessing="tf", class_names=["church", "crane"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for number in range(11):
        save_png(folder / f"{number:02d}.png", rng.random((20, 24, 3)))
    return folder


def test_none_are_kept_unless_asked_for(model, folder, tmp_path):
    statistics = collect(model, folder, **SETTINGS)
    assert statistics.exemplars is None
    save_statistics(statistics, tmp_path / "a.h5")
    assert load_statistics(tmp_path / "a.h5").exemplars is None
    # Images depend on them.
    assert statistics.hash() != collect(model, folder, exemplars=3, **SETTINGS).hash()


def test_they_are_the_photographs_of_their_rows(model, folder, tmp_path):
    statistics = collect(model, folder, exemplars=5, **SETTINGS)
    save_statistics(statistics, tmp_path / "a.h5")
    held = load_statistics(tmp_path / "a.h5").exemplars
    assert held.pixels.shape == (5, 20, 24, 3) and held.pixels.dtype == np.uint8
    np.testing.assert_array_equal(held.rows, drawn_by_key(statistics.image_names, 5))
    for pixels, row in zip(held.pixels, held.rows, strict=True):
        photograph = load_image(folder / statistics.image_names[row], (20, 24))
        np.testing.assert_array_equal(pixels, np.rint(photograph * 255))
    assert len(collect(model, folder, exemplars=100, **SETTINGS).exemplars) == 11


def test_shards_keep_the_same_ones(model, folder, tmp_path):
    whole = tmp_path / "whole.h5"
    save_statistics(collect(model, folder, exemplars=5, **SETTINGS), whole)
    shards = []
    for number in (2, 1):
        shard = collect(model, folder, exemplars=5, shard=(number, 2), spool=tmp_path / f"spool{number}", **SETTINGS)
        save_statistics(shard, tmp_path / f"{number}.h5")
        shard.close()
        shards.append(tmp_path / f"{number}.h5")
    save_statistics(merge(shards), tmp_path / "merged.h5")
    assert (tmp_path / "merged.h5").read_bytes() == whole.read_bytes()


def test_a_compacted_file_has_none(model, folder):
    assert compact(collect(model, folder, exemplars=5, **SETTINGS), 4).exemplars is None


@pytest.mark.parametrize("number", [-1, 2.5, True])
def test_their_number_is_a_number(number):
    with pytest.raises(SettingsError, match="exemplars= is a whole number of at least 0"):
        CollectSettings(exemplars=number)
