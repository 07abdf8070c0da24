import subprocess
import sys

import keras
import numpy as np
import pytest

from stochdeconv.errors import ClassNotFoundError, InputError, LayerNotFoundError
from stochdeconv.methods.maximize import maximize
from stochdeconv.methods.objectives import find_classes, parse_unit, read_unit
from stochdeconv.methods.presets import PRESETS, balanced_decay, input_origin
from stochdeconv.networks.image_model import load_model

SIZE = (24, 24)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    network = keras.Sequential(
        [
            keras.Input((*SIZE, 3)),
            keras.layers.Conv2D(8, 3, activation="relu", name="conv"),
            keras.layers.Conv2D(8, 3, activation="relu", name="deep"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax", name="predictions"),
        ]
    )
    kernel, bias = network.layers[-1].get_weights()
    network.layers[-1].set_weights([1000 * kernel, bias])  # logits of the size a trained network has
    return load_model(network, preprocessing="tf", class_names=["cat", "dog", "eel"], dtype="float32")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_raises_the_class_logit(model, preset):
    result = maximize(model, "dog", preset=preset, n_images=2, n_steps=30)
    start = maximize(model, "dog", preset=preset, n_images=2, n_steps=1)
    assert np.all(model.logits(result.images)[:, 1] > model.logits(start.images)[:, 1] + 0.01)
    assert result.images.min() >= 0 and result.images.max() <= 1
    assert not np.array_equal(result.images[0], result.images[1])
    assert result.record["class"] == {"index": 1, "wnid": None, "label": "dog"}
    assert result.record["settings"]["preset"] == preset and result.record["complete"]


@pytest.mark.parametrize("preset", PRESETS)
def test_images_of_a_network_with_shuffled_weights_do_not_raise_the_class(model, preset):
    keras_model = keras.models.clone_model(model.keras_model)
    rng = np.random.default_rng(0)
    weights = model.keras_model.get_weights()
    keras_model.set_weights([rng.permutation(weight.ravel()).reshape(weight.shape) for weight in weights])
    names = [actual.label for actual in model.class_names]
    shuffled = load_model(keras_model, preprocessing="tf", class_names=names, dtype="float32")
    keywords = {"preset": preset, "n_images": 2, "n_steps": 30}
    ours, theirs = (model.logits(maximize(network, "dog", **keywords).images)[:, 1] for network in (model, shuffled))
    start = model.logits(maximize(model, "dog", **{**keywords, "n_steps": 1}).images)[:, 1]
    assert np.all(theirs - start < 0.5 * (ours - start))


def test_units_and_channels(model):
    result = maximize(model, unit="deep:3:5:6", n_images=1, n_steps=30)
    values = model.activations(result.images, ["deep"])["deep"][0, :, :, 3]
    assert values[5, 6] > 3 * values[15, 15]
    assert result.record["class"] is None and result.record["settings"]["unit"] == "deep:3:5:6"
    mean = maximize(model, unit="deep:3", n_images=1, n_steps=30)
    # A class names its folder; what else is shown is said on the sheet.
    assert mean.sheet.shape[0] > SIZE[0] + 8 and maximize(model, "dog", n_images=1, n_steps=1).sheet is None
    assert model.activations(mean.images, ["deep"])["deep"][0, :, :, 3].mean() > values.mean()


def test_overrides_reach_the_run(model):
    plain = maximize(model, 0, preset="simonyan", n_images=1, n_steps=20)
    pale = maximize(model, 0, preset="simonyan", l2=1e-3, n_images=1, n_steps=20)
    smooth = maximize(model, 0, preset="simonyan", blur=1.0, n_images=1, n_steps=20)
    flat = maximize(model, 0, preset="simonyan", clip=0.02, n_images=1, n_steps=20)
    assert pale.images.std() < plain.images.std()
    assert np.diff(smooth.images, axis=1).std() < np.diff(plain.images, axis=1).std()
    assert np.abs(flat.images - 0.5).max() <= 0.0201
    assert pale.record["settings"]["l2"] == 1e-3


def test_l2_means_the_same_whatever_the_input_convention():
    images = np.random.default_rng(0).uniform(size=(1, *SIZE, 3)).astype(np.float32)
    network = keras.Sequential([keras.Input((*SIZE, 3)), keras.layers.Conv2D(2, 3, name="conv")])
    for preprocessing, mean, levels in [("tf", None, 127.5), ("caffe", [104, 117, 123], 1.0), ("none", None, 1.0)]:
        model = load_model(network, preprocessing=preprocessing, mean=mean)
        color, actual = input_origin(model)
        assert actual == pytest.approx(levels, rel=1e-4)
        origin = np.broadcast_to(color, images.shape).astype(np.float32)
        if preprocessing != "none":
            np.testing.assert_allclose(np.asarray(model.preprocess(origin)), 0, atol=1e-3)
        strong = maximize(model, unit="conv:0", preset="simonyan", l2=1.0, n_images=1, n_steps=30)
        assert np.abs(strong.images - color).mean() < 0.02
    np.testing.assert_allclose(color, 0.5)


def test_decay_and_score_are_in_balance_at_the_amplitude():
    network = keras.Sequential([keras.Input((*SIZE, 3)), keras.layers.Conv2D(2, 1, name="conv")])
    kernel = np.zeros((1, 1, 3, 2), np.float32)
    kernel[0, 0, 0, 0], kernel[0, 0, 1, 1] = 3.0, -4.0  # one channel reads red, the other green
    network.layers[0].set_weights([kernel, np.zeros(2)])
    model = load_model(network, preprocessing="none", dtype="float32")
    # Of each pixel two colours matter, and there are two channels.
    gradient = np.sqrt((3**2 + 4**2) / 2 / 2)
    at_one_place = balanced_decay(model, "conv", (5, 6), amplitude=50.0, size=SIZE)
    assert at_one_place == pytest.approx(gradient / (2 * 50.0), rel=1e-4)
    # Each pixel has 1/576 of a mean over positions.
    on_average = balanced_decay(model, "conv", None, amplitude=50.0, size=SIZE)
    assert on_average == pytest.approx(at_one_place / (24 * 24), rel=1e-4)


@pytest.mark.parametrize(("preset", "weight"), [("simonyan", 3e-6), ("regularised", 1e-6)])
def test_squeezenet_has_the_weight_that_was_chosen_for_it(preset, weight, shared):
    network = load_model(shared / "models/squeezenet_v1.0_imagenet.keras")
    actual = balanced_decay(
        network, network.score_layer, None, amplitude=PRESETS[preset].amplitude, size=network.input_size
    )
    # bfloat16 and float32 differ by some percent.
    assert actual == pytest.approx(weight, rel=0.15)


def test_a_given_weight_leaves_no_amplitude_in_the_record(model):
    result = maximize(model, unit="conv:0", preset="simonyan", l2=1e-4, n_images=1, n_steps=1)
    assert (result.record["settings"]["l2"], result.record["settings"]["amplitude"]) == (1e-4, 0.0)


def test_a_single_place_is_held_by_decay_too(model):
    result = maximize(model, unit="conv:3:5:6", preset="simonyan", n_images=1, n_steps=30)
    moved = np.abs(result.images[0] - result.images[0, 15, 15])
    assert 0.01 < moved[4:9, 5:10].max() < 1
    assert result.record["settings"]["l2"] > 0


@pytest.mark.parametrize("preset", ["simonyan", "regularised"])
def test_presets_do_not_depend_on_how_steeply_scores_rise(model, preset):
    steep = keras.models.clone_model(model.keras_model)
    steep.set_weights(model.keras_model.get_weights())
    kernel, bias = steep.layers[-1].get_weights()
    steep.layers[-1].set_weights([1000 * kernel, 1000 * bias])
    steep = load_model(steep, preprocessing="tf", class_names=["cat", "dog", "eel"], dtype="float32")
    gentle, strong = (maximize(network, "dog", preset=preset, n_images=1, n_steps=20) for network in (model, steep))
    weights = [result.record["settings"]["l2"] for result in (gentle, strong)]
    assert weights[1] == pytest.approx(1000 * weights[0], rel=1e-3)
    assert weights[0] > 0
    np.testing.assert_allclose(gentle.images, strong.images, atol=1e-3)


def test_units_are_checked(model):
    assert parse_unit(model, "deep:3") == ("deep", 3, None)
    assert parse_unit(model, "logits:2") == ("logits", 2, None)
    for unit in ("deep", "deep:x", "deep:1:2", "deep:-1"):
        with pytest.raises(InputError, match="LAYER:CHANNEL"):
            parse_unit(model, unit)
    with pytest.raises(LayerNotFoundError, match="closest: 'deep'"):
        parse_unit(model, "deeep:0")
    with pytest.raises(LayerNotFoundError, match="channels 0 to 7"):
        parse_unit(model, "deep:8")
    with pytest.raises(LayerNotFoundError, match="rows 0 to 19"):
        parse_unit(model, "deep:0:20:0")
    with pytest.raises(InputError, match="no positions"):
        parse_unit(model, "logits:0:1:1")


def test_senseless_calls_are_refused(model):
    with pytest.raises(InputError, match="either a class, "):
        maximize(model)
    with pytest.raises(InputError, match="either a class, "):
        maximize(model, "dog", unit="deep:0")
    with pytest.raises(InputError, match="simonyan, regularised, fourier"):
        maximize(model, "dog", preset="simoyan")
    with pytest.raises(ClassNotFoundError, match="dog"):
        maximize(model, "dgo")
    with pytest.raises(InputError, match="use 'regularised'"):
        maximize(model, "dog", preset="fourier", blur=1.0)
    with pytest.raises(InputError, match="at least 0"):
        maximize(model, "dog", preset="regularised", blur=float("nan"))
    with pytest.raises(InputError, match="at least 0"):
        maximize(model, "dog", l2=-1.0)


def test_a_class_that_does_not_fire_at_all_is_still_found():
    keras.utils.set_random_seed(3)
    network = keras.Sequential(
        [
            keras.Input((*SIZE, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Conv2D(3, 1, name="classes"),
            keras.layers.Activation("relu", name="fired"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Activation("softmax"),
        ]
    )
    kernel, _ = network.get_layer("classes").get_weights()
    network.get_layer("classes").set_weights(
        [10 * np.abs(kernel), np.full(3, -4.0)]
    )  # silent on grey, not on a strong pattern
    model = load_model(network, preprocessing="tf", dtype="float32")
    assert model.score_layer == "fired_linear"
    result = maximize(model, 1, preset="fourier", n_images=1, n_steps=60)
    assert model.logits(np.full((1, *SIZE, 3), 0.5))[0, 1] == 0 < model.logits(result.images)[0, 1]


def test_the_score_layer_of_an_ordinary_network_is_its_logits(model):
    assert model.score_layer == "logits"


def test_a_unit_that_never_fires_is_said_to(model):
    keras.utils.set_random_seed(4)
    network = keras.Sequential([keras.Input((*SIZE, 3)), keras.layers.Conv2D(2, 3, activation="relu", name="dead")])
    kernel, _ = network.layers[0].get_weights()
    network.layers[0].set_weights([kernel, np.full(2, -100.0)])
    silent = load_model(network, preprocessing="tf", dtype="float32")
    with pytest.warns(UserWarning, match="dead:1 did not fire.*LAYER_linear"):
        maximize(silent, unit="dead:1", n_images=1, n_steps=2)
    result = maximize(silent, unit="dead_linear:1", n_images=1, n_steps=4)
    assert result.history[-1]["unit:dead_linear:1"] < result.history[0]["unit:dead_linear:1"]


def test_several_classes_are_all_raised(model):
    start = model.logits(maximize(model, "cat", n_images=1, n_steps=1).images)[0, [0, 2]]
    alone = model.logits(maximize(model, "cat", n_images=1, n_steps=40).images)[0, [0, 2]]
    for words in ("cat, eel", ["cat", 2]):
        result = maximize(model, words, n_images=1, n_steps=40)
        both = model.logits(result.images)[0, [0, 2]]
        assert np.all(both > start + 10)
        assert both.sum() > alone.sum() and both[1] > alone[1] + 10
        assert result.record["class"] is None
        assert [actual["label"] for actual in result.record["settings"]["classes"]] == ["cat", "eel"]


def test_a_class_whose_name_has_a_comma_is_one(model):
    named = load_model(model.keras_model, preprocessing="tf", class_names=["cat, tom", "dog", "eel"], dtype="float32")
    assert [actual.index for actual in find_classes(named, "cat, tom")] == [0]
    assert [actual.index for actual in find_classes(named, "dog,eel")] == [1, 2]
    with pytest.raises(ClassNotFoundError, match="dgo"):
        find_classes(named, "eel,dgo")


def test_several_units_are_all_raised(model):
    start = model.activations(maximize(model, unit="deep:3", n_images=1, n_steps=1).images, ["deep", "conv"])
    result = maximize(model, unit="deep:3,conv:1", n_images=1, n_steps=40)
    end = model.activations(result.images, ["deep", "conv"])
    assert end["deep"][..., 3].mean() > 1.2 * start["deep"][..., 3].mean()
    assert end["conv"][..., 1].mean() > 1.2 * start["conv"][..., 1].mean()
    assert result.record["settings"]["unit"] == "deep:3,conv:1"


def test_units_of_one_layer_are_told_apart_in_the_history(model):
    """Both runs share their program: what was compiled for one must not name the other."""
    for units in (["deep_linear:3", "deep_linear:1:0:2"], ["deep_linear:2", "deep_linear:0:0:2"]):
        result = maximize(model, unit=units, n_images=1, n_steps=1)
        assert list(result.history[0])[2:4] == [f"unit:{unit}" for unit in units]
        assert {f"unit:{unit}" for unit in units} <= set(result.record["settings"]["optimization"]["loss"])


def test_a_layers_name_may_hold_colons():
    assert read_unit("block/a:b:3") == ("block/a:b", 3, None)
    assert read_unit("a:b : 3:1:2") == ("a:b", 3, (1, 2))
    for word in ("a:b", "a", "3", ":3", "a:1:2", "a:1:2:3:4", "a:-1", "a:1.5", "a:"):
        with pytest.raises(InputError, match="LAYER:CHANNEL:ROW:COLUMN"):
            read_unit(word)


def test_decay_grows_with_the_scores_that_are_summed(model):
    dog, eel, both = (
        maximize(model, words, preset="simonyan", n_images=1, n_steps=1).record["settings"]["l2"]
        for words in ("dog", "eel", "dog,eel")
    )
    assert both == pytest.approx(np.hypot(dog, eel))


def test_a_direction_is_followed(model, tmp_path):
    vector = np.array([1, -1, 2, 0, 0, 1, -2, 0.5])
    np.save(tmp_path / "v.npy", vector)

    def projection(result):
        return (model.activations(result.images, ["deep"])["deep"] @ vector).mean()

    start = maximize(model, direction=("deep", vector), n_images=1, n_steps=1)
    result = maximize(model, direction=("deep", vector), n_images=1, n_steps=40)
    assert projection(result) > projection(start) + 0.05
    of_file = maximize(model, direction=f"deep:{tmp_path / 'v.npy'}", n_images=1, n_steps=40)
    np.testing.assert_array_equal(result.images, of_file.images)
    (tmp_path / "a:b.npy").write_bytes((tmp_path / "v.npy").read_bytes())
    with pytest.raises(LayerNotFoundError, match="'block:deep'"):
        maximize(model, direction=f"block:deep:{tmp_path / 'a:b.npy'}", n_images=1, n_steps=1)
    recorded = result.record["settings"]["direction"]
    assert recorded["layer"] == "deep"
    np.testing.assert_allclose(recorded["vector"], vector / np.linalg.norm(vector), rtol=1e-6)


@pytest.mark.parametrize("vector", [np.ones(7), np.ones((8, 1)), np.zeros(8), np.full(8, np.nan), np.array(["a"] * 8)])
def test_what_is_no_direction_is_refused(model, vector):
    with pytest.raises(InputError, match=r"numbers?.* for each channel"):
        maximize(model, direction=("deep", vector), n_images=1, n_steps=1)


def test_diversity_parts_the_images(model):
    def likeness(result):
        maps = model.activations(result.images, ["deep"])["deep"].reshape(3, -1, 8)
        gram = np.einsum("ipc,ipd->icd", maps, maps).reshape(3, -1)
        gram /= np.linalg.norm(gram, axis=1, keepdims=True)
        return (gram @ gram.T)[np.triu_indices(3, 1)].mean()

    keywords = {"unit": "deep:3", "n_images": 3, "n_steps": 60}
    alike = maximize(model, **keywords)
    parted = maximize(model, **keywords, diversity=10.0, diversity_layer="deep")
    assert likeness(parted) < likeness(alike) - 0.05
    assert parted.record["settings"]["diversity"] == 10 and parted.record["settings"]["diversity_layer"] == "deep"
    chosen = maximize(model, unit="deep:3", n_images=2, n_steps=1, diversity=1.0)
    assert chosen.record["settings"]["diversity_layer"] in model.default_layers


def test_diversity_needs_all_images_in_one_batch(model):
    for keywords in ({"n_images": 3, "batch_size": 2}, {"n_images": 1}):
        with pytest.raises(InputError, match="images of one batch"):
            maximize(model, "dog", **keywords, diversity=1.0, n_steps=1)
    with pytest.raises(InputError, match="at least 0"):
        maximize(model, "dog", diversity=-1.0, n_steps=1)
    with pytest.raises(InputError, match="on a map"):
        maximize(model, "dog", diversity=1.0, diversity_layer="logits", n_steps=1)
    with pytest.raises(LayerNotFoundError, match="closest: 'deep'"):
        maximize(model, "dog", diversity=1.0, diversity_layer="deeep", n_steps=1)


def test_blur_comes_as_often_as_asked(model):
    keywords = {"preset": "simonyan", "blur": 1.0, "n_images": 1, "n_steps": 12}
    rare, often = (maximize(model, 0, blur_every=every, **keywords) for every in (6, 1))
    assert np.diff(often.images, axis=1).std() < 0.8 * np.diff(rare.images, axis=1).std()


def test_pixel_settings_are_checked(model):
    for setting in ({"blur_every": 2}, {"contribution": 50.0}):
        with pytest.raises(InputError, match="use 'regularised'"):
            maximize(model, "dog", preset="fourier", **setting)
    with pytest.raises(InputError, match="below 100"):
        maximize(model, "dog", preset="simonyan", contribution=100.0)
    with pytest.raises(InputError, match="'simonyan' has none: give blur= too"):
        maximize(model, "dog", preset="simonyan", blur_every=2)
    with pytest.raises(InputError, match="diversity= has no weight"):
        maximize(model, "dog", diversity_layer="deep")
    with pytest.raises(InputError, match="at least 1; got 0"):
        maximize(model, "dog", preset="simonyan", blur_every=0)


def test_several_at_once_are_named_once(model):
    for what, message in (
        ({"class_name": "dog,dog"}, "class 'dog' twice"),
        ({"unit": "deep:1,deep:1"}, "unit 'deep:1' twice"),
        ({"unit": ","}, "at least one unit"),
    ):
        with pytest.raises(InputError, match=message):
            maximize(model, **what)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="ended the process of TensorFlow, and of no other")
def test_the_weight_of_l2_decay_is_found_in_networks_whose_first_kernel_is_smaller_than_its_stride():
    # The gradient of such a kernel, which nobody needs, ends the process: TensorFlow 2.21, oneDNN, AVX2.
    code = (
        "import stochdeconv as sd, keras; from keras import layers\n"
        "x = inputs = keras.Input((64, 64, 3))\n"
        "x = layers.Conv2D(16, 1, strides=2, activation='relu')(x)\n"
        "x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, activation='relu')(x))\n"
        "network = keras.Model(inputs, layers.Dense(3, activation='softmax')(x))\n"
        "model = sd.load_model(network, preprocessing='tf', class_names=['a', 'b', 'c'], dtype='float32')\n"
        # What is written past the memory's end does not always do harm at once.
        "for seed in range(8): images = sd.maximize(model, 'b', preset='simonyan', n_images=2, n_steps=2, seed=seed).images\n"
        "print(images.shape)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stdout.strip() == "(2, 64, 64, 3)", ended.stderr
