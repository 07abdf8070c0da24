import numpy as np
import pytest
from toys import SIZE, fresh_network, network, picture

from stochdeconv.errors import InputError, LayerNotFoundError
from stochdeconv.images.files import resize
from stochdeconv.methods.invert import invert
from stochdeconv.methods.runs import RunInterrupted
from stochdeconv.networks.image_model import load_model


@pytest.fixture(scope="module")
def model():
    return network(1)


@pytest.fixture(scope="module")
def photo():
    return resize(picture(), SIZE)


def distance(model, image, other, layer="deep", enhance=1.0):
    ours, theirs = (model.activations(single[None], [layer])[layer] for single in (image, other))
    return float(((ours - enhance * theirs) ** 2).sum() / ((enhance * theirs) ** 2).sum())


@pytest.mark.parametrize(("optimizer", "n_steps"), [("lbfgs", 120), ("adam", 400)])
def test_activations_come_back_from_noise(model, photo, optimizer, n_steps):
    result = invert(model, picture(), "conv,deep", optimizer=optimizer, tv=0.1, n_steps=n_steps)
    assert result.images.shape == (2, *SIZE, 3)
    aimed = {layer: set(keywords["loss"]) for layer, keywords in result.record["settings"]["optimization"].items()}
    assert all(f"match:{layer}" in aimed[layer] for layer in ("conv", "deep"))
    rows = result.tables["distances"]
    for image, row in zip(result.images, rows, strict=True):
        assert distance(model, image, photo, row["layer"]) == pytest.approx(row["distance"], rel=1e-3)
        assert row["distance"] < 0.05
    # The shallower layer gives the photograph itself back; no layer of another network does.
    assert np.corrcoef(result.images[0].ravel(), photo.ravel())[0, 1] > 0.5
    other = invert(network(2), picture(), "deep", optimizer=optimizer, tv=0.1, n_steps=n_steps)
    assert distance(model, other.images[0], photo) > 2 * rows[1]["distance"]
    start = invert(model, picture(), "deep", optimizer=optimizer, n_steps=1)
    assert distance(model, start.images[0], photo) > 3 * rows[1]["distance"]


def test_enhanced_activations_are_stronger_than_the_photographs(model, photo):
    result = invert(model, picture(), "deep", enhance=1.5, init="photo", tv=0.0, alpha_norm=0.0, n_steps=60)
    strength = [float(np.linalg.norm(model.activations(x[None], ["deep"])["deep"])) for x in (photo, result.images[0])]
    assert 1.25 < strength[1] / strength[0] < 1.6
    assert distance(model, result.images[0], photo, enhance=1.5) < 0.3 * distance(model, photo, photo, enhance=1.5)
    assert np.corrcoef(result.images[0].ravel(), photo.ravel())[0, 1] > 0.4


def test_the_activations_of_another_photograph(model, photo):
    other = np.rot90(photo, 2).copy()
    result = invert(model, photo, "conv", target=other, tv=0.1, n_steps=80)
    assert result.record["settings"]["init"] == "photo"
    assert distance(model, result.images[0], other, "conv") < 0.1 * distance(model, photo, other, "conv")
    assert result.sheet.shape[1] > 3 * SIZE[1]
    assert result.record["settings"]["target"] == "in memory"


def test_starts(model, photo):
    mean, again, noise = (
        invert(model, photo, "deep", init=init, n_steps=1, seed=seed).history[0]["total_variation:input"]
        for init, seed in (("mean", 0), ("mean", 1), ("noise", 0))
    )
    assert mean == again != noise
    start = invert(model, photo, "deep", init="photo", enhance=1.001, n_steps=1, tv=0.0)
    np.testing.assert_allclose(start.images[0], np.clip(photo, 0.02, 0.98), atol=0.02)


def test_regularizers_smooth_and_keep_in_range(model):
    keywords = {"n_steps": 60, "init": "noise"}
    plain, smooth, grey = (
        invert(model, picture(), "deep", tv=tv, alpha_norm=alpha, **keywords).images[0]
        for tv, alpha in ((0.0, 0.0), (100.0, 0.0), (0.0, 100.0))
    )
    assert np.abs(np.diff(smooth, axis=0)).mean() < 0.5 * np.abs(np.diff(plain, axis=0)).mean()
    assert np.quantile(np.abs(grey - 0.5), 0.99) < 0.8 * np.quantile(np.abs(plain - 0.5), 0.99)


def test_layers_start_alike_and_an_interruption_keeps_those_that_are_done(model):
    def stop(step):
        if step.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted) as caught:
        invert(model, picture(), ["conv", "deep"], optimizer="adam", n_steps=5, callback=stop)
    result = caught.value.result
    assert [row["layer"] for row in result.tables["distances"]] == ["conv", "deep"]
    alone = invert(model, picture(), "deep", optimizer="adam", n_steps=2)
    np.testing.assert_allclose(result.images[1], alone.images[0], atol=1e-4)


@pytest.mark.parametrize(("optimizer", "n_steps"), [("lbfgs", 40), ("adam", 60)])
def test_several_pictures_of_a_layer_have_its_activations_and_are_different(model, photo, optimizer, n_steps):
    keywords = {"optimizer": optimizer, "n_steps": n_steps, "tv": 0.1}
    result = invert(model, picture(), "conv,deep", n_images=3, **keywords)
    rows = result.tables["distances"]
    assert [(row["layer"], row["variant"]) for row in rows] == [
        (name, i) for name in ("conv", "deep") for i in range(3)
    ]
    for image, row in zip(result.images, rows, strict=True):
        assert distance(model, image, photo, row["layer"]) == pytest.approx(row["distance"], rel=1e-3)
        assert row["distance"] < 0.3
    # The deeper layer leaves more open.
    spread = [np.mean(np.var(result.images[part], axis=0)) for part in (slice(0, 3), slice(3, 6))]
    assert spread[1] > max(2 * spread[0], 1e-4)
    assert result.sheet.shape[1] == 4 * (224 // SIZE[1] * SIZE[1] + 4) + 4
    # Picture i depends on (seed, i) alone.
    fewer = invert(model, picture(), "deep", n_images=2, batch_size=1, **keywords)
    np.testing.assert_allclose(fewer.images, result.images[3:5], atol=0.02)
    alone = invert(model, picture(), "deep", **keywords)
    np.testing.assert_allclose(alone.images[0], result.images[3], atol=0.02)
    other = invert(model, picture(), "deep", seed=1, **keywords)
    assert np.abs(other.images[0] - result.images[3]).max() > 0.05


def test_batches_are_counted_through_the_layers(model):
    steps = []
    keywords = {"optimizer": "adam", "n_steps": 2, "callback": lambda step: steps.append((step.step, step.n_steps))}
    result = invert(model, picture(), "conv,deep", n_images=3, batch_size=2, **keywords)
    assert [(row["batch"], row["step"]) for row in result.history] == [(b, s) for b in range(4) for s in (1, 2)]
    assert steps == [(i, 8) for i in range(1, 9)]
    assert ["match:conv" in row for row in result.history] == 4 * [True] + 4 * [False]


def test_an_interruption_keeps_the_pictures_there_are(model):
    def stop(step):
        if step.step == 11:
            raise KeyboardInterrupt

    keywords = {"optimizer": "adam", "n_steps": 2, "callback": stop}
    with pytest.raises(RunInterrupted) as caught:
        invert(model, picture(), "conv,deep", n_images=4, batch_size=1, **keywords)
    result = caught.value.result
    actual = [(row["layer"], row["variant"]) for row in result.tables["distances"]]
    assert actual == [("conv", 0), ("conv", 1), ("conv", 2), ("conv", 3), ("deep", 0), ("deep", 1)]
    assert len(result.images) == 6 and result.sheet.shape[1] == 5 * (224 // SIZE[1] * SIZE[1] + 4) + 4


def test_senseless_calls_are_refused(model):
    for init in ("photo", "mean"):
        with pytest.raises(InputError, match=f"from init '{init}' comes to the same picture"):
            invert(model, picture(), "deep", init=init, enhance=2, n_images=2)
    for counts in ({"n_images": 0}, {"batch_size": 0}):
        with pytest.raises(InputError, match="is a whole number of at least 1"):
            invert(model, picture(), "deep", **counts)
    with pytest.raises(InputError, match="gradient of no function"):
        invert(model, picture(), "deep", gradient_rule="guided", optimizer="lbfgs")
    assert len(invert(model, picture(), "deep", gradient_rule="guided", n_steps=2).history) == 2
    with pytest.raises(InputError, match="lbfgs, adam"):
        invert(model, picture(), "deep", optimizer="sgd")
    with pytest.raises(InputError, match="noise, photo, mean"):
        invert(model, picture(), "deep", init="zero")
    with pytest.raises(InputError, match="has its own activations already"):
        invert(model, picture(), "deep", init="photo", enhance=1)
    with pytest.raises(InputError, match="enhance= is a finite number, above 0"):
        invert(model, picture(), "deep", enhance=0)
    for layers, message in (("", "at least one layer"), ("deep,deep", "layer 'deep' twice")):
        with pytest.raises(InputError, match=message):
            invert(model, picture(), layers)
    with pytest.raises(LayerNotFoundError, match="closest: 'deep'"):
        invert(model, picture(), "deeep")


def test_a_search_that_goes_nowhere_says_so(photo):
    """Without biases nothing fires in the mean, so no direction is better than another."""
    dark = fresh_network(1)
    kernel, bias = dark.keras_model.layers[0].get_weights()
    dark.keras_model.layers[0].set_weights([kernel, 0 * bias])
    dark = load_model(dark.keras_model, preprocessing="tf")
    with pytest.warns(UserWarning, match="before its first step at conv, deep"):
        invert(dark, photo, "conv,deep", init="mean", tv=0.0, n_steps=2)
