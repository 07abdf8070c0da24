"""The script that trains what ships: folding is exact, attacks hurt and stay small, a run can be stopped and continued."""

import json
import os
import re
import runpy
import sys
from pathlib import Path

import h5py
import keras
import mini_networks
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import stochdeconv as sd

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "tools" / "train_mini_vgg16.py"
WNIDS = ("n01440764", "n03445777")


@pytest.fixture(autouse=True)
def policy():
    """The script changes Keras's dtype policy for good, as a program may."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes that a glance tells apart: reddish and bluish noise."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for wnid, color in zip(WNIDS, ([200, 60, 60], [60, 60, 200]), strict=True):
        (root / wnid).mkdir()
        for number in range(80):
            pixels = np.clip(rng.normal(color, 40, (12, 12, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).resize((120, 120)).save(root / wnid / f"{number:02d}.png")
    return root


@pytest.mark.parametrize("name", ["mini-vgg16", "mini-resnet"])
def test_folding_leaves_the_function_as_it_was(name):
    keras.utils.set_random_seed(1)
    build = mini_networks.NETWORKS[name]
    trained, plain = build(7, training=True), build(7, training=False)
    rng = np.random.default_rng(0)
    for layer in trained.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (rng.normal(size=weight.shape) for weight in layer.weights)
            layer.set_weights([1 + 0.2 * gamma, 0.2 * beta, 0.2 * mean, np.exp(0.3 * variance)])
    mini_networks.fold(trained, plain)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in plain.layers)
    images = rng.normal(size=(2, 112, 112, 3)).astype(np.float32)
    scores = trained(images, training=False)
    np.testing.assert_allclose(plain(images), keras.ops.softmax(scores), rtol=1e-3, atol=1e-5)
    assert float(keras.ops.std(scores)) > 1e-3


def test_an_attack_raises_the_loss_and_stays_in_its_ball(script):
    keras.utils.set_random_seed(1)
    network = mini_networks.mini_vgg16(3, training=True)
    training = script["Training"](network, None, epsilon=2.0, attacked_from=0)
    images = tf.constant(np.random.default_rng(0).uniform(0.3, 0.7, (4, 112, 112, 3)).astype(np.float32))
    labels = tf.constant([0, 1, 2, 0])
    attacked = training.attacked(images, labels)
    added = np.linalg.norm((attacked - images).numpy().reshape(4, -1), axis=1)
    assert np.all(added <= 2.0 + 1e-4)
    assert np.all(added > 0.5)
    loss = script["classification_loss"]
    assert float(loss(labels, training(attacked))) > float(loss(labels, training(images))) + 1e-3


def test_half_of_each_batch_is_attacked_once_it_is_time(script):
    keras.utils.set_random_seed(1)
    network = mini_networks.mini_vgg16(3, training=True)
    training = script["Training"](network, None, epsilon=2.0, attacked_from=5)
    training.compile(optimizer=keras.optimizers.SGD())
    n = script["BATCH_SIZE"]
    images = tf.constant(np.random.default_rng(0).uniform(0.3, 0.7, (n, 112, 112, 3)).astype(np.float32))
    labels = tf.zeros(n, tf.int32)
    training.optimizer.iterations.assign(4)
    np.testing.assert_array_equal(training.half_attacked(images, labels), images)
    training.optimizer.iterations.assign(5)
    seen = training.half_attacked(images, labels).numpy()
    np.testing.assert_array_equal(seen[n // 2 :], images[n // 2 :])
    assert np.all(np.abs(seen[: n // 2] - images[: n // 2]).max(axis=(1, 2, 3)) > 0)


def test_the_last_fifth_of_each_class_is_held_out(script, photos):
    seen, held_out = script["split"]([photos / wnid for wnid in WNIDS])
    assert [(path.parent.name, path.stem) for path, _ in held_out] == [
        (w, str(n)) for w in WNIDS for n in range(64, 80)
    ]
    assert len(seen) == 128
    assert not {path for path, _ in seen} & {path for path, _ in held_out}
    assert [number for _, number in held_out] == [0] * 16 + [1] * 16


def test_pictures_are_cropped_and_recoloured_but_stay_pictures(script):
    tf.random.set_seed(0)
    ramp = np.broadcast_to(np.linspace(0, 255, 144, dtype=np.uint8)[None, None, :, None], (16, 144, 144, 3))
    images, labels = script["augment"]((tf.constant(ramp), tf.range(16)), tf.constant([0, 1], tf.int64))
    images = images.numpy()
    assert images.shape == (16, 112, 112, 3)
    assert images.min() >= 0
    assert images.max() <= 1
    rising = np.diff(images.mean(axis=(1, 3)), axis=1).mean(axis=1) > 0
    assert 3 <= rising.sum() <= 13  # some are mirrored
    spans = np.ptp(images.mean(axis=(1, 3)), axis=1)
    assert spans.max() > 1.3 * spans.min()
    assert list(labels.numpy()) == list(range(16))


def test_the_seed_decides_on_every_crop(script, photos):
    same = [(next((photos / WNIDS[0]).iterdir()), 0)] * 128

    def two_epochs(seed):
        data = script["batches"](same, seed=seed)
        return [image for _ in range(2) for batch, _ in data for image in batch.numpy()]

    first = two_epochs(1)
    np.testing.assert_array_equal(first, two_epochs(1))
    assert not np.array_equal(first, two_epochs(2))
    assert len({image.tobytes() for image in first}) == len(first) == 256


def test_losses_of_the_teacher_vanish_only_where_both_agree(script):
    rng = np.random.default_rng(0)
    scores, maps = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 9), (4, 5, 5, 6)))
    assert float(script["distillation_loss"](scores, scores + 3)) == pytest.approx(0, abs=1e-5)
    assert float(script["distillation_loss"](scores, scores[::-1])) > 0.1
    assert float(script["feature_loss"](maps, 2 * maps)) == pytest.approx(0, abs=1e-5)
    assert float(script["feature_loss"](maps, -maps)) == pytest.approx(2, abs=1e-5)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    inputs = x = keras.Input((64, 64, 3))
    for number in (1, 2, 3):
        x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name=f"conv{number}")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    keras.Model(inputs, keras.layers.Dense(5, activation="softmax")(x)).save(folder / "teacher.keras")
    (folder / "teacher.json").write_text(json.dumps({"preprocessing": "tf"}))
    return folder / "teacher.keras"


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["train_mini_vgg16.py", *map(str, words)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def a_batch(photos, tmp_path):
    """As many of the photographs as make one step of an epoch."""
    for wnid in WNIDS:
        (tmp_path / "few" / wnid).mkdir(parents=True)
        for path in sorted((photos / wnid).iterdir())[:40]:
            (tmp_path / "few" / wnid / path.name).symlink_to(path)
    return tmp_path / "few"


def test_a_run_that_is_stopped_goes_on_and_leaves_a_network(a_batch, teacher, tmp_path, monkeypatch, capsys):
    words = (a_batch, "--teacher", teacher, "--epsilon", 0.5, "-o", tmp_path / "out", "--epochs", 2)
    words += ("--recipe", "class_score=1")
    state = tmp_path / "out" / "state" / "latest.weights.h5"

    def steps_done():
        with h5py.File(state) as file:
            return int(file["optimizer/vars/0"][()])

    replace = os.replace

    def killed_in_the_second_epoch(source, target):
        if Path(target) == state and state.exists():
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as stopped:
        stopped.setattr(os, "replace", killed_in_the_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            run(monkeypatch, capsys, *words)
    # Killed while it wrote: half of a file lies there, the last whole state beside it.
    (state.parent / "next_latest.weights.h5").write_bytes(b"half")
    assert steps_done() == 1
    assert not list((tmp_path / "out").glob("*.keras"))
    capsys.readouterr()

    printed = run(monkeypatch, capsys, *words)
    assert steps_done() == 2
    assert printed[0] == "2 classes, 64 photographs to train on, 16 held out"
    assert [line for line in printed if line.startswith("Epoch")] == ["Epoch 2/2"]
    path = tmp_path / "out" / "mini-vgg16.keras"
    assert printed[-1] == str(path)
    network = sd.load_model(path)
    assert [names.wnid for names in network.class_names] == list(WNIDS)
    assert network.recipe == "class_score=1"
    assert all(weight.dtype == "float16" for weight in network.keras_model.weights)
    card = path.with_suffix(".md").read_text()
    for words_of_card in (
        "64 photographs",
        "`teacher`",
        "Euclidean norm up to 0.5",
        "--epochs 2",
        "may have seen them",
    ):
        assert words_of_card in card
    assert card.count("| n0") == 2
    assert str(tmp_path) not in card
    with pytest.raises(SystemExit, match=r"another run \(epsilon 0.5, not 0.0\)"):
        run(monkeypatch, capsys, a_batch, "--teacher", teacher, "-o", tmp_path / "out", "--epochs", 2)


@pytest.mark.parametrize(
    "wanted", ["folder of photographs for each class", "photographs to train on; expected at least 64"]
)
def test_too_few_photographs_are_refused(wanted, photos, tmp_path, monkeypatch, capsys):
    few = tmp_path / "few"
    for wnid in WNIDS if "expected" in wanted else WNIDS[:1]:
        (few / wnid).mkdir(parents=True)
        for path in sorted((photos / wnid).iterdir())[:10]:
            (few / wnid / path.name).symlink_to(path)
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, few, "-o", tmp_path / "out")
    assert wanted in capsys.readouterr().err


def test_the_judge_learns_what_a_glance_tells_apart(a_batch, tmp_path, monkeypatch, capsys):
    words = (a_batch, "--network", "mini-resnet", "--epochs", 6, "-o", tmp_path / "out")
    printed = run(monkeypatch, capsys, *words)
    (accuracy,) = re.findall(r"- accuracy: ([\d.]+)", [line for line in printed if "accuracy:" in line][-1])
    assert float(accuracy) >= 0.9
