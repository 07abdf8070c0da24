import runpy

import keras
import numpy as np
import pytest
from conftest import ROOT
from sklearn.datasets import load_sample_image

from stochdeconv.errors import InputError, LayerNotFoundError, MissingInputError, ModelError
from stochdeconv.images.animations import as_frames
from stochdeconv.images.files import resize, save_png
from stochdeconv.methods.amplification import Amplified, parse_layers
from stochdeconv.methods.dream import dream
from stochdeconv.methods.runs import RunInterrupted
from stochdeconv.networks.image_model import load_model
from stochdeconv.optimization.programs import Program

SIZE = (32, 32)


def network(seed):
    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input((None, None, 3)),
        keras.layers.Conv2D(8, 5, strides=2, activation="relu", name="conv"),
        keras.layers.Conv2D(8, 3, activation="relu", name="deep"),
    ]
    return load_model(keras.Sequential(layers), preprocessing="tf", dtype="float32")


@pytest.fixture(scope="module")
def model():
    return network(1)


@pytest.fixture(scope="module")
def photo():
    """Blue above green, a bright disc, grain."""
    y, x = np.mgrid[:48, :64] / 48
    image = np.where((y < 0.5)[..., None], [0.3, 0.5, 0.8], [0.3, 0.6, 0.3])
    image[(x - 0.6) ** 2 + (y - 0.4) ** 2 < 0.02] = [0.9, 0.8, 0.4]
    return np.clip(image + 0.05 * np.random.default_rng(0).normal(size=(48, 64, 3)), 0, 1).astype(np.float32)


HOW = {"octaves": 2, "jitter": 2, "n_steps": 6}


def norm(model, image, layer="deep", channel=slice(None)):
    return float((model.activations(image[None], [layer])[layer][..., channel] ** 2).mean())


def test_a_dream_amplifies_what_its_own_network_sees(model, photo):
    ours = dream(model, photo, "deep", **HOW)
    assert ours.images.shape == (1, 48, 64, 3)
    assert norm(model, ours.images[0]) > 2 * norm(model, photo)
    # Another network's dream, as strong a change, does not do that to this one: it is no effect of contrast.
    theirs = dream(network(2), photo, "deep", **HOW)
    assert np.abs(theirs.images[0] - photo).mean() > 0.5 * np.abs(ours.images[0] - photo).mean()
    assert norm(model, ours.images[0]) > 1.5 * norm(model, theirs.images[0])
    first, last = ours.history[0], ours.history[-1]
    assert (first["octave"], first["step"], last["octave"], last["step"]) == (0, 1, 1, 6)
    assert ours.record["settings"]["photo"] == "in memory" and ours.frames is None


def test_without_jitter_and_octaves_it_is_the_program_of_2015(model, photo):
    script = runpy.run_path(str(ROOT / "scripts" / "experiments" / "compare_dreams.py"))
    strength, keywords = script["strength_of"](model, "deep"), {"octaves": 1, "jitter": 0, "n_steps": 5}
    theirs = script["original_dream"](strength, photo, np.random.default_rng(0), **keywords)
    np.testing.assert_allclose(dream(model, photo, "deep", **keywords).images[0], theirs, atol=1e-4)
    # With them the two differ by how they resize and by what they see beyond the border: they make the layer rise alike.
    keywords = {"octaves": 2, "jitter": 2, "n_steps": 5}
    theirs = script["original_dream"](strength, photo, np.random.default_rng(0), **keywords)
    ours = dream(model, photo, "deep", **keywords).images[0]
    assert strength(ours)[0] == pytest.approx(strength(theirs)[0], rel=0.15)


def test_a_step_changes_values_by_its_size_on_average(model, photo):
    grey = 0.4 + 0.2 * photo  # far enough from black and white that nothing is clipped
    once = {"octaves": 1, "jitter": 0, "n_steps": 1}
    for keywords, size in (({}, 1.5), ({"step_size": 3.0}, 3.0)):
        change = 255 * (dream(model, grey, "deep", **once, **keywords).images[0] - grey)
        assert np.abs(change).mean() == pytest.approx(size, rel=1e-3)


def test_norms_are_in_units_of_the_picture_and_weights_say_how_much_of_each(model, photo):
    square = photo[:, 8:56]
    once = {"octaves": 1, "jitter": 0, "n_steps": 1}
    first = dream(model, square, "conv,deep=0.5", **once, size=224).history[0]
    assert first["activation_norm:conv"] == pytest.approx(-1, abs=0.05)
    assert first["activation_norm:deep"] == pytest.approx(-1, abs=0.05)
    alone = dream(model, photo, "deep", **HOW).images
    np.testing.assert_allclose(dream(model, photo, "deep,conv=0", **HOW).images, alone, atol=1e-4)
    both = dream(model, photo, "deep,conv=5", **HOW).images
    assert norm(model, both[0], "conv") > 1.05 * norm(model, alone[0], "conv")


def test_a_channel_alone(model, photo):
    single, other = (dream(model, photo, f"deep:{channel}", **HOW).images[0] for channel in (1, 2))
    assert norm(model, single, channel=1) > 1.2 * norm(model, other, channel=1)
    assert norm(model, other, channel=2) > 1.2 * norm(model, single, channel=2)


def test_detail_is_carried_over_from_octave_to_octave(model, photo):
    """The last size starts from what was dreamt before it, not from the photograph."""
    result = dream(model, photo, "deep", octaves=2, octave_scale=48 / 34, jitter=0, n_steps=6)
    switch = next(row for row in result.history if row["octave"] == 1)["activation_norm:deep"]
    fresh = dream(model, photo, "deep", octaves=1, jitter=0, n_steps=1).history[0]["activation_norm:deep"]
    assert switch < 1.2 * fresh < 0


def test_a_guide_draws_toward_its_features(model, photo):
    stripes = np.zeros((48, 48, 3), np.float32)
    stripes[:, ::6], stripes[:, 1::6], stripes[:, 2::6] = [1, 0.2, 0.2], [1, 0.2, 0.2], [1, 0.2, 0.2]
    features = model.activations(stripes[None], ["deep"])["deep"].reshape(-1, 8)

    def match(image):
        places = model.activations(image[None], ["deep"])["deep"].reshape(-1, 8)
        matches = places @ features.T
        return float((matches.max(axis=1) / np.linalg.norm(places, axis=1).clip(1e-6)).mean())

    guided, free = dream(model, photo, "deep", guide=stripes, **HOW), dream(model, photo, "deep", **HOW)
    assert match(guided.images[0]) > match(free.images[0]) > 0
    assert guided.sheet.shape[1] > 1.4 * free.sheet.shape[1]  # the guide stands between the two
    with pytest.raises(InputError, match="without a channel"):
        dream(model, photo, "deep:1", guide=stripes, **HOW)


def test_a_large_picture_goes_through_in_tiles(model, photo):
    large = np.tile(photo, (4, 3, 1))
    whole, tiled = (dream(model, large, "deep", **HOW, tile_size=tile) for tile in (512, 64))
    assert tiled.images.shape == (1, *large.shape) and not np.array_equal(tiled.images, whole.images)
    grown = [norm(model, result.images[0]) / norm(model, large) for result in (whole, tiled)]
    assert grown[1] > 0.7 * grown[0] > 1.2
    # No seams: nowhere does the change jump from column to column much more than elsewhere.
    steps = np.abs(np.diff(tiled.images[0] - large, axis=1)).mean(axis=(0, 2))
    assert steps.max() < 3 * np.median(steps)


def test_tiles_at_a_time_change_nothing_but_memory(model, photo, monkeypatch):
    large = np.tile(photo, (3, 3, 1))
    keywords = {**HOW, "jitter": 3, "tile_size": 32}
    lengths = set()
    batches_of = Program._batches_of

    def watched(program, places, *, n_images):
        for batch in batches_of(program, places, n_images=n_images):
            lengths.add(len(batch))
            yield batch

    monkeypatch.setattr(Program, "_batches_of", watched)
    single = dream(model, large, "conv,deep", **keywords, batch_size=1)
    assert lengths == {1}
    four = dream(model, large, "conv,deep", **keywords, batch_size=4)
    assert 4 in lengths <= {1, 4}
    assert np.abs(four.images - single.images).mean() < 1e-5
    for row, same in zip(single.history, four.history, strict=True):
        assert row == pytest.approx(same, rel=1e-4)
    assert four.record["settings"]["batch_size"] == 4
    listed = dream(model, large, ["conv", "deep"], **keywords)
    np.testing.assert_array_equal(listed.images, single.images)
    with pytest.raises(InputError, match="batch_size= is a whole number of at least 1"):
        dream(model, large, "deep", **keywords, batch_size=0)


def test_a_stream_zooms_into_itself(model, photo):
    stream = dream(model, "noise", "deep", octaves=1, n_steps=3, size=40, zoom_frames=4, zoom=0.2, rotate=0)
    assert stream.frames.shape == (4, 40, 40, 3) and stream.frames.dtype == np.uint8
    np.testing.assert_array_equal(np.rint(stream.images[0] * 255), stream.frames[-1])
    before, after = (stream.frames[i].astype(float) for i in (2, 3))
    middle = before[4:36, 4:36].repeat(5, axis=0).repeat(5, axis=1)[::4, ::4][:40, :40]
    assert np.corrcoef(middle.ravel(), after.ravel())[0, 1] > np.corrcoef(before.ravel(), after.ravel())[0, 1] + 0.1
    assert [row["frame"] for row in stream.history] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    again = dream(model, "noise", "deep", octaves=1, n_steps=3, size=40, zoom_frames=4, zoom=0.2, rotate=0)
    np.testing.assert_array_equal(stream.frames, again.frames)


def test_a_stream_does_not_burn_out(model, photo):
    """Every dream adds contrast, and a stream feeds it back: the colours stay those of the first picture."""
    keywords = {"octaves": 1, "n_steps": 8, "step_size": 6.0, "zoom_frames": 8}

    def clipped(frame):
        return float(((frame == 0) | (frame == 255)).mean())

    stream = dream(model, photo, "deep", **keywords)
    assert clipped(stream.frames[0]) > 0.001  # a dream it is, and a strong one
    assert clipped(stream.frames[-1]) < 2 * clipped(stream.frames[0])
    single = dream(model, photo, "deep", octaves=1, n_steps=8, step_size=6.0)
    np.testing.assert_array_equal(as_frames(single.images), stream.frames[:1])


def test_a_dream_of_no_steps_to_speak_of_leaves_the_picture_as_it_was(model):
    """Sharp edges overshoot when they are resized: none of it may come back as if it had been dreamt."""
    board = (np.indices((48, 48)).sum(axis=0) // 3 % 2).astype(np.float32)[..., None].repeat(3, axis=-1)
    result = dream(model, board, "deep", octaves=3, n_steps=1, step_size=1e-5)
    np.testing.assert_allclose(result.images[0], board, atol=1e-3)


def test_an_interrupted_dream_keeps_the_size_of_the_picture_and_what_was_done(model, photo):
    def stop(step):
        if step.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted) as caught:
        dream(model, photo, "deep", octaves=3, n_steps=10, callback=stop)
    result = caught.value.result
    assert result.images.shape == (1, *photo.shape) and not result.record["complete"]
    assert np.abs(result.images[0] - photo).max() > 0.02
    assert [row["step"] for row in result.history] == [1, 2, 3, 4]


def test_steps_are_counted_through_octaves_and_frames(model, photo):
    seen = []
    dream(
        model, photo, "deep", octaves=2, n_steps=2, zoom_frames=2, callback=lambda s: seen.append((s.step, s.n_steps))
    )
    assert seen == [(i, 8) for i in range(1, 9)]


def test_layers_are_read_and_checked(model):
    assert (
        parse_layers(model, "1, 2:3=0.5")
        == parse_layers(model, "conv,deep:3=0.5")
        == parse_layers(model, [1, "2:3=0.5"])
    )
    assert [str(single) for single in parse_layers(model, "2,1:7,2:0=-0.25")] == ["deep", "conv:7", "deep:0=-0.25"]
    with pytest.raises(InputError, match="'deep' twice"):
        parse_layers(model, "2,deep")
    assert parse_layers(model, "conv, deep:3=0.5") == [Amplified("conv"), Amplified("deep", 3, 0.5)]
    for bad in ("deep:x", "deep=much", "deep:1:2"):
        with pytest.raises(InputError, match="LAYER:CHANNEL=WEIGHT"):
            parse_layers(model, bad)
    for bad, message in (
        (" ,", "at least one layer"),
        ("deep=0", "weight 0"),
        ("deep=nan", "finite"),
        ("conv,conv", "'conv' twice"),
    ):
        with pytest.raises(InputError, match=message):
            parse_layers(model, bad)
    with pytest.raises(LayerNotFoundError, match="channels 0 to 7"):
        parse_layers(model, "deep:8")
    with pytest.raises(LayerNotFoundError, match="closest: 'deep'"):
        parse_layers(model, "deeep")


def test_senseless_calls_are_refused(model, photo, tmp_path):
    for keywords in ({"octaves": 0}, {"octave_scale": 1.0}, {"step_size": 0.0}):
        with pytest.raises(
            InputError,
            match=r"octaves= is a whole number of at least 1|(octave_scale|step_size)= is a finite number, above",
        ):
            dream(model, photo, "deep", **keywords)
    with pytest.raises(ModelError, match="fewer octaves="):
        dream(model, photo, "deep", octaves=8)
    with pytest.raises(InputError, match="seed= is a whole number"):
        dream(model, "noise", "deep", seed=-1)
    with pytest.raises(InputError, match="zoom= is a finite number, at least 0 and below 1"):
        dream(model, photo, "deep", zoom_frames=2, zoom=1.0)
    for keywords in ({"zoom": 0.1}, {"rotate": 1.0}):
        for frames in (0, 1):
            with pytest.raises(InputError, match=f"zoom_frames= says {frames}"):
                dream(model, photo, "deep", zoom_frames=frames, **keywords)
    with pytest.raises(InputError, match="at least 1"):
        dream(model, photo, "deep", size=0)
    with pytest.raises(MissingInputError):
        dream(model, tmp_path / "none.png", "deep")
    with pytest.raises(InputError, match=r"values in \[0, 1\]"):
        dream(model, photo * 255, "deep")


def test_googlenet_dreams_of_what_its_layers_see(shared):
    """The network of 2015, at the layers of its pictures, by their numbers."""
    googlenet = load_model(shared / "models" / "bvlc_googlenet_imagenet.keras", dtype="float32")
    numbers = {26: "inception_3b_5x5_reduce", 58: "inception_4c_output", 59: "inception_4d_pool"}
    assert {number: googlenet.find_layer(number) for number in numbers} == numbers
    flower = resize(load_sample_image("flower.jpg") / np.float32(255), googlenet.input_size)
    dreamt = dream(googlenet, flower, 58, octaves=2, n_steps=5)
    assert dreamt.record["settings"]["layer"] == "inception_4c_output"
    layer = "inception_4c_output"
    assert norm(googlenet, dreamt.images[0], layer) > 2 * norm(googlenet, flower, layer)
    # A change as large without the network's gradient does not.
    noise = np.random.default_rng(0).permutation((dreamt.images[0] - flower).ravel()).reshape(flower.shape)
    assert norm(googlenet, np.clip(flower + noise, 0, 1).astype(np.float32), layer) < 1.2 * norm(
        googlenet, flower, layer
    )


def test_what_does_not_fire_is_said(photo):
    silent = network(0)
    silent.keras_model.layers[-1].set_weights([np.zeros((3, 3, 8, 8)), -np.ones(8)])
    with pytest.warns(UserWarning, match="did not fire"):
        dream(load_model(silent.keras_model, preprocessing="tf"), photo, "deep", octaves=1, n_steps=1)


def test_it_is_saved_with_its_animation(model, photo, tmp_path):
    save_png(tmp_path / "photo.png", photo)
    dream(model, tmp_path / "photo.png", "deep", octaves=1, n_steps=1, zoom_frames=2).save(tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"image_000.png", "contact_sheet.png", "history.csv", "run.json", "animation.gif", "animation.mp4"}
    dream(model, photo, "deep", octaves=1, n_steps=1).save(tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "animation.gif").exists()
