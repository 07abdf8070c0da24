"""What ships with the package: two networks, the statistics of ten classes, and what the judge measured of photographs."""

import re

import keras
import numpy as np
import pytest

from stochdeconv.assets import HELD_OUT, JUDGE, NETWORK, shipped_file
from stochdeconv.errors import ModelError
from stochdeconv.evaluation.judge import find_feature_source
from stochdeconv.evaluation.photographs import load_photographs
from stochdeconv.images.files import load_image
from stochdeconv.images.folders import find_images, hold_out
from stochdeconv.networks.classes import imagenet_class_names
from stochdeconv.networks.image_model import load_model
from stochdeconv.statistics.file import load_statistics

WNIDS = [
    "n01440764",
    "n02102040",
    "n02979186",
    "n03000684",
    "n03028079",
    "n03394916",
    "n03417042",
    "n03425413",
    "n03445777",
    "n03888257",
]


@pytest.fixture(scope="module")
def network():
    return load_model(NETWORK)


@pytest.fixture(scope="module")
def judge():
    return load_model(JUDGE)


def test_mini_vgg16_is_a_narrow_vgg16(network):
    whole = keras.applications.VGG16(weights=None)
    assert [layer.name for layer in network.keras_model.layers[1:]] == [layer.name for layer in whole.layers[1:]]
    for small, large in zip(network.keras_model.layers[1:], whole.layers[1:], strict=True):
        assert type(small) is type(large)
        for key in ("kernel_size", "strides", "padding", "pool_size"):
            assert getattr(small, key, None) == getattr(large, key, None), (small.name, key)
    assert network.name == network.source == NETWORK
    assert 112 <= network.input_size[0] <= 128
    assert network.keras_model.count_params() < 0.05 * whole.count_params()


@pytest.mark.parametrize("name", [NETWORK, JUDGE])
def test_networks_know_their_classes_and_have_a_card(name):
    model = load_model(name)
    assert [class_name.wnid for class_name in model.class_names] == WNIDS
    labels = {class_name.wnid: class_name.label for class_name in imagenet_class_names()}
    assert all(class_name.label == labels[class_name.wnid] for class_name in model.class_names)
    card = shipped_file(f"{name}.md").read_text()
    for word in (
        "**Data.**",
        "**Licence.**",
        "top-1",
        "seed",
        "scripts/tools/train_mini_vgg16.py",
        *labels[WNIDS[0]].split(),
    ):
        assert word in card
    assert model.recipe in card
    assert not re.search(r"(^|\s)/\w", card), "a card holds a path of whoever trained the network"
    with pytest.raises(ModelError, match="ships with the package, has weights already"):
        load_model(name, weights="weights.h5")


def test_what_ships_is_small():
    assert shipped_file(f"{NETWORK}.keras").stat().st_size <= 10e6
    assert shipped_file(f"{JUDGE}.keras").stat().st_size <= 3e6
    assert sum(path.stat().st_size for path in shipped_file(NETWORK).iterdir()) <= 40e6


def test_the_judge_is_another_kind_of_network_with_a_class_map(network, judge):
    source = find_feature_source(judge)
    assert source.class_weights.shape == (160, 10)
    theirs, ours = ({type(layer).__name__ for layer in model.keras_model.layers} for model in (judge, network))
    assert {"Add", "GlobalAveragePooling2D"} <= theirs - ours
    assert judge.weights_hash != network.weights_hash


def test_statistics_are_of_this_network_and_of_few_rows(network):
    paths = sorted(shipped_file(NETWORK).glob("*.h5"))
    shipped = [load_statistics(path) for path in paths]
    assert sorted(statistics.wnid for statistics in shipped) == WNIDS
    for path, statistics in zip(paths, shipped, strict=True):
        assert statistics.weights_hash == network.weights_hash
        assert statistics.preprocessing == network.preprocessing
        assert statistics.class_name.replace(" ", "_") == path.stem
        assert statistics.n_images > 600
        assert statistics.n_rows == statistics.settings["n_rows"] == 150
        assert statistics.local.n_contexts >= 32 and statistics.exemplars is None
        assert statistics.versions["stochdeconv"][0].isdigit()
        assert all(layer.layout_shape[0] <= 7 for layer in statistics.values())


def test_measured_photographs_are_of_the_ten_classes_by_this_judge(judge):
    photographs = load_photographs(shipped_file(HELD_OUT))
    assert [key.wnid for key in photographs.classes] == WNIDS
    assert photographs.judge_hash == judge.weights_hash
    assert photographs.size == load_model(NETWORK).input_size
    for measurements in photographs.classes.values():
        assert len(measurements) > 150
        assert measurements.features.shape[1] == 160
        assert measurements.cams is not None


@pytest.fixture(scope="module")
def photographs(shared):
    """Photographs of the ten classes: (seen, held out) by wnid."""
    return {wnid: hold_out(find_images(shared / "data" / "imagenette" / "train" / wnid)) for wnid in WNIDS}


@pytest.fixture(scope="module")
def held_out(photographs):
    """Photographs that were held out, at the size of the network, by wnid."""
    return {
        wnid: np.stack([load_image(path, (112, 112)) for path in paths]) for wnid, (_, paths) in photographs.items()
    }


def promised(name):
    (accuracy,) = re.findall(r"top-1: \*\*([\d.]+)\*\*", shipped_file(f"{name}.md").read_text())
    return pytest.approx(float(accuracy), abs=0.005)


def test_held_out_photographs_are_named_rightly(network, held_out):
    right = [
        network.logits(held_out[class_name.wnid]).argmax(axis=1) == class_name.index
        for class_name in network.class_names
    ]
    accuracy = np.concatenate(right).mean()
    assert accuracy >= 0.85
    assert accuracy == promised(NETWORK)


def test_the_judge_names_held_out_photographs_rightly():
    """As it measured them; that it still does is seen below."""
    measured = load_photographs(shipped_file(HELD_OUT)).classes.values()
    right = [measurements.logits.argmax(axis=1) == index for index, measurements in enumerate(measured)]
    accuracy = np.concatenate(right).mean()
    assert accuracy >= 0.8
    assert accuracy == promised(JUDGE)


def test_statistics_have_not_seen_what_is_held_out(photographs):
    for path in shipped_file(NETWORK).glob("*.h5"):
        statistics = load_statistics(path)
        seen, held_out = ({path.name for path in paths} for paths in photographs[statistics.wnid])
        names = {name.rsplit("/", 1)[-1] for name in statistics.image_names}
        assert names <= seen
        assert not names & held_out
        assert statistics.n_images == len(seen)


def test_held_out_photographs_give_the_numbers_that_ship(judge, photographs):
    from stochdeconv.evaluation.judge import Judge
    from stochdeconv.evaluation.measure import measure

    shipped = load_photographs(shipped_file(HELD_OUT))
    for index, (key, expected) in enumerate(shipped.classes.items()):
        held_out = photographs[key.wnid][1]
        assert len(expected) == len(held_out)
        measurements = measure(held_out[::20], Judge(judge), size=shipped.size, class_index=index, tick=lambda n: None)
        np.testing.assert_allclose(measurements.features, expected.features[::20], rtol=2e-2, atol=2e-2)
        np.testing.assert_allclose(measurements.logits, expected.logits[::20], rtol=2e-2, atol=0.1)
        np.testing.assert_allclose(measurements.spectra, expected.spectra[::20], rtol=1e-3, atol=1e-4)
