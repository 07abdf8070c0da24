"""Saliency: what is explained, what it leaves, what it refuses."""

import json

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image
from toys import EXPLAINED_SIZE as SIZE
from toys import explained_network, loaded

from stochdeconv.errors import ClassNotFoundError, InputError, LayerNotFoundError, MissingInputError, ModelError
from stochdeconv.images.files import load_image
from stochdeconv.methods.runs import RunInterrupted
from stochdeconv.methods.saliency import RULES, parse_rules, saliency
from stochdeconv.networks.image_model import load_model


@pytest.fixture(scope="module")
def model():
    return loaded(explained_network())


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).uniform(0.1, 0.9, (*SIZE, 3)).astype(np.float32)


def test_the_networks_own_top_class_is_explained(model, photo, tmp_path):
    result = saliency(model, photo, n_samples=2)
    logits = model.logits(photo[None])[0].astype(float)
    top = int(logits.argmax())
    record = result.record
    assert record["class"]["index"] == top
    assert record["score"] == pytest.approx(logits[top], rel=1e-5)
    assert record["probability"] == pytest.approx(np.exp(logits[top]) / np.exp(logits).sum(), rel=1e-5)
    assert record["settings"]["class_name"] is None and record["settings"]["layer"] == "deep"
    assert record["settings"]["rules"] == [row["rule"] for row in result.history] == list(RULES)
    assert result.images.shape == (7, *SIZE, 3)
    result.save(tmp_path / "out")
    assert json.loads((tmp_path / "out/run.json").read_text()) == record
    with np.load(tmp_path / "out/maps.npz") as maps:
        assert {name: maps[name].shape for name in maps} == {
            rule: SIZE if rule == "grad_cam" else (*SIZE, 3) for rule in RULES
        }
    passed = saliency(model, photo, top, n_samples=2)
    for rule in RULES:
        np.testing.assert_array_equal(passed.arrays[rule], result.arrays[rule])


def test_captions_say_what_is_explained(model, photo, monkeypatch):
    report = []
    monkeypatch.setattr(
        "stochdeconv.images.sheets.contact_sheet",
        lambda images, captions: report.append((len(images), captions)) or images[0],
    )
    saliency(model, photo, rule="grad_cam,integrated_gradients", n_samples=2)
    saliency(model, photo, "dog", rule="gradient")
    saliency(model, photo, unit="deep:1", rule="gradient")
    (n_pictures, own), (_, dog), (_, unit) = report
    assert n_pictures == 3 == len(own)
    assert "own top class" in own[0] and "own" not in dog[0] and "dog\nprobability 0." in dog[0]
    assert "at deep" in own[1] and "adds up to" in own[2] and "Sundararajan" in own[2]
    assert unit[0].startswith("unit deep:1\nscore ")


def test_a_file_is_shown_as_the_network_sees_it(model, tmp_path):
    Image.fromarray(load_sample_image("flower.jpg")).save(tmp_path / "flower.png")
    result = saliency(model, tmp_path / "flower.png", "cat", rule="gradient")
    seen = load_image(tmp_path / "flower.png", SIZE)
    np.testing.assert_array_equal(
        result.arrays["gradient"], saliency(model, seen, "cat", rule="gradient").arrays["gradient"]
    )
    assert saliency(model, tmp_path / "flower.png", "cat", rule="gradient", size=24).images.shape[1:3] == (24, 24)
    factor = 224 // SIZE[0]
    np.testing.assert_allclose(
        result.sheet[4 : 4 + 224, 4 : 4 + 224], seen.repeat(factor, 0).repeat(factor, 1), atol=1e-6
    )


def test_progress_counts_passes(model, photo):
    report = []
    saliency(
        model,
        photo,
        rule="gradient,smoothgrad,grad_cam",
        n_samples=5,
        batch_size=2,
        callback=lambda *step: report.append(step),
    )
    assert report == [
        (0, 7, "gradient"),
        *((n, 7, "smoothgrad") for n in (1, 3, 5, 6)),
        (6, 7, "grad_cam"),
    ]


def test_interrupted_keeps_the_rules_that_were_done(model, photo):
    def stop(n_passes, total, rule):
        if (rule, n_passes) == ("smoothgrad", 3):
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted) as caught:
        saliency(model, photo, rule="gradient,smoothgrad", n_samples=9, batch_size=2, callback=stop)
    result = caught.value.result
    assert list(result.arrays) == ["gradient"] and len(result.images) == 1
    assert result.record["complete"] is False


def test_same_seed_same_map(model, photo):
    first, again, other = (
        saliency(model, photo, rule="smoothgrad", n_samples=3, seed=seed).arrays["smoothgrad"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_classes_that_do_not_fire_are_explained_too(photo):
    inputs = keras.Input((*SIZE, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", kernel_initializer=keras.initializers.HeNormal(seed=0))(inputs)
    x = keras.layers.Conv2D(3, 1, kernel_initializer="ones", bias_initializer=keras.initializers.Constant(-50.0))(x)
    x = keras.layers.Activation("relu", name="fired")(x)
    x = keras.layers.Softmax()(keras.layers.GlobalAveragePooling2D()(x))
    model = loaded(keras.Model(inputs, x))
    assert model.logits(photo[None])[0, 1] == 0
    result = saliency(model, photo, "dog", rule="gradient")
    assert result.record["score"] < -10 and np.abs(result.arrays["gradient"]).max() > 0
    with pytest.warns(UserWarning, match="gradient: zero everywhere.*fired:1.*LAYER_linear"):
        saliency(model, photo, unit="fired:1", rule="gradient")


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_networks_without_relu_have_no_backward_rules(photo):
    smooth = loaded(explained_network(relu="tanh"))
    for rule in ("guided", "deconvnet"):
        with pytest.raises(ModelError, match="no ReLU"):
            saliency(smooth, photo, rule=rule)
    with pytest.warns(UserWarning, match="deconvnet, guided left out.*no ReLU"):
        result = saliency(smooth, photo, n_samples=2)
    assert list(result.arrays) == [rule for rule in RULES if rule not in {"deconvnet", "guided"}]


def test_grad_cam_needs_a_map_below_the_score(model, photo):
    with pytest.raises(InputError, match="not computed from 'deep'"):
        saliency(model, photo, unit="conv:1", rule="grad_cam", layer="deep")
    with pytest.raises(InputError, match="not computed from 'deep'"):
        saliency(model, photo, unit="deep:1", rule="all", layer="deep")
    with pytest.raises(InputError, match="layer with positions"):
        saliency(model, photo, rule="grad_cam", layer="predictions")
    with pytest.raises(InputError, match="layer with positions"):
        saliency(model, photo, rule="grad_cam", layer="input")
    with pytest.raises(LayerNotFoundError, match="closest: 'deep'"):
        saliency(model, photo, rule="grad_cam", layer="deeep")
    with pytest.raises(InputError, match="means nothing to gradient"):
        saliency(model, photo, rule="gradient", layer="deep")
    with pytest.raises(InputError, match="layer="):
        saliency(model, photo, unit="conv:1", rule="grad_cam")
    with pytest.warns(UserWarning, match="grad_cam left out"):
        assert "grad_cam" not in saliency(model, photo, unit="conv:1", n_samples=2).arrays
    assert saliency(model, photo, unit="deep:1", rule="grad_cam").record["settings"]["layer"] == "conv"


def test_rules_are_read_forgivingly_and_refused_clearly():
    assert parse_rules("all") == tuple(RULES)
    assert parse_rules("grad-cam, guided") == ("grad_cam", "guided")
    with pytest.raises(InputError, match="rule 'grad_cam' twice"):
        parse_rules("grad-cam, guided,grad_cam")
    with pytest.raises(InputError, match=r"'giuded'.*closest: 'guided'.*integrated_gradients.*or 'all' alone"):
        parse_rules("gradient,giuded")


def test_senseless_calls_are_refused(model, photo, tmp_path):
    with pytest.raises(InputError, match="not both"):
        saliency(model, photo, "dog", unit="deep:0")
    with pytest.raises(ClassNotFoundError, match="dog"):
        saliency(model, photo, "dgo")
    with pytest.raises(MissingInputError, match="no such image"):
        saliency(model, tmp_path / "no.png")
    with pytest.raises(InputError, match=r"values in \[0, 1\]"):
        saliency(model, photo * 255)
    with pytest.raises(InputError, match=r"\(height, width, 3\)"):
        saliency(model, photo[..., :2])
    with pytest.raises(InputError, match="at least 1; got 0"):
        saliency(model, photo, size=0)
    for wrong in ({"n_samples": 0}, {"noise": -1.0}, {"batch_size": 0}):
        with pytest.raises(InputError, match="at least"):
            saliency(model, photo, **wrong)
    headless = load_model(
        keras.Sequential([keras.Input((*SIZE, 3)), *explained_network().layers[:3]]),
        preprocessing="tf",
        dtype="float32",
    )
    with pytest.raises(ModelError, match="no class scores; say which unit="):
        saliency(headless, photo)
    assert saliency(headless, photo, unit="deep:1", rule="gradient").record["probability"] is None
