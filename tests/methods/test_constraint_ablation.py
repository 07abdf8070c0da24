"""The constraints side by side: each row differs from the first in the way its constraint says."""

import json

import keras
import numpy as np
import pytest

from stochdeconv.errors import InputError
from stochdeconv.evaluation.contestants import read_contestants
from stochdeconv.methods.constraint_ablation import CONTRIBUTION
from stochdeconv.methods.maximize import maximize
from stochdeconv.methods.presets import PRESETS, input_origin
from stochdeconv.methods.runs import RunInterrupted
from stochdeconv.networks.image_model import load_model

NAMES = ["none", "l2", "blur", "jitter", "clip", "contribution", "all"]
N_IMAGES, N_STEPS = 2, 24
HOW = {"ablate_constraints": True, "n_images": N_IMAGES, "n_steps": N_STEPS}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    network = keras.Sequential(
        [
            keras.Input((24, 24, 3)),
            keras.layers.Conv2D(8, 3, activation="relu", name="conv"),
            keras.layers.Conv2D(8, 3, activation="relu", name="deep"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax", name="predictions"),
        ]
    )
    return load_model(network, preprocessing="tf", class_names=["cat", "dog", "eel"], dtype="float32")


@pytest.fixture(scope="module")
def result(model):
    return maximize(model, "dog", **HOW, clip=0.3)


@pytest.fixture(scope="module")
def rows(result):
    return dict(zip(NAMES, result.images.reshape(7, N_IMAGES, 24, 24, 3), strict=True))


def test_each_row_is_what_its_constraint_makes_of_the_first(model, rows):
    def roughness(images):
        return np.diff(images, axis=1).std() / images.std()

    def at_the_origin(images):
        return np.mean(np.all(np.abs(images - input_origin(model)[0]) < 1e-6, axis=-1))

    free = rows["none"]
    assert rows["l2"].std() < 0.95 * free.std()
    assert roughness(rows["blur"]) < 0.8 * roughness(free)
    assert np.abs(rows["clip"] - 0.5).max() <= 0.3001 < np.abs(free - 0.5).max()
    assert at_the_origin(rows["contribution"]) > 0.4 > 0.01 > at_the_origin(free)
    every_one = rows["all"]
    assert roughness(every_one) < 0.8 * roughness(free) and np.abs(every_one - 0.5).max() <= 0.3001
    assert not any(np.array_equal(rows["jitter"], rows[name]) for name in NAMES if name != "jitter")


def test_a_row_is_the_run_of_its_settings(model, rows):
    alone = maximize(model, "dog", preset="simonyan", l2=0.0, jitter=2, n_images=N_IMAGES, n_steps=N_STEPS)
    assert PRESETS["regularised"].learning_rate != PRESETS["simonyan"].learning_rate
    assert not np.array_equal(rows["jitter"], alone.images)
    same = maximize(model, "dog", preset="simonyan", l2=0.0, jitter=2, n_images=1, n_steps=N_STEPS)
    slower = maximize(model, "dog", preset="simonyan", **HOW)
    np.testing.assert_allclose(slower.images[3 * N_IMAGES], same.images[0], atol=2e-4)


def test_the_record_says_what_each_row_is(result, model):
    settings = result.record["settings"]
    assert settings["preset"] == "regularised"
    assert list(settings["ablate_constraints"]) == NAMES
    none, contribution, everything = (settings["ablate_constraints"][name] for name in ("none", "contribution", "all"))
    assert (none["l2"], none["blur"], none["jitter"], none["clip"], none["contribution"]) == (0, 0, 0, 0, 0)
    assert contribution == {**none, "contribution": CONTRIBUTION}
    expected = {
        **vars(PRESETS["regularised"].at(model.input_size)),
        "clip": 0.3,
        "contribution": CONTRIBUTION,
        "l2": everything["l2"],
    }
    assert everything == expected and everything["l2"] > 0
    assert settings["ablate_constraints"]["l2"]["l2"] == everything["l2"]
    assert [row["constraints"] for row in result.history] == [name for name in NAMES for _ in range(N_STEPS)]


def test_a_sheet_has_a_row_a_setting(result, model):
    height, width, _ = result.sheet.shape
    displayed = 240  # 24, enlarged for its captions
    assert width == N_IMAGES * (displayed + 4) + 4 and height > 7 * (displayed + 4)


def test_constraints_of_pixels_need_pixels(model):
    with pytest.raises(InputError, match="use 'regularised'"):
        maximize(model, "dog", preset="fourier", **HOW)


def test_what_is_given_holds_in_its_row(model):
    result = maximize(model, "dog", **{**HOW, "n_steps": 1}, l2=0.5, blur=2.0, blur_every=3, contribution=80.0)
    rows = result.record["settings"]["ablate_constraints"]
    assert (rows["l2"]["l2"], rows["l2"]["amplitude"], rows["none"]["l2"]) == (0.5, 0, 0)
    assert (rows["blur"]["blur"], rows["blur"]["blur_every"]) == (2.0, 3)
    assert rows["contribution"]["contribution"] == 80


def test_ctrl_c_keeps_the_rows_that_are_done(model, tmp_path):
    def stop(step):
        if step.step == 2 * N_STEPS + 3:
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted) as stopped:
        maximize(model, "dog", **HOW, callback=stop)
    result = stopped.value.result
    assert len(result.images) == 3 * N_IMAGES and result.record["complete"] is False
    assert [row["constraints"] for row in result.history][-4:] == ["l2", "blur", "blur", "blur"]
    result.save(tmp_path / "run")


def test_seven_settings_are_no_contestant(result, tmp_path):
    folder = result.save(tmp_path / "run")
    assert json.loads((folder / "run.json").read_text())["command"] == "maximize"
    with pytest.raises(InputError, match="--ablate-constraints"):
        read_contestants({"regularised": [folder]})
