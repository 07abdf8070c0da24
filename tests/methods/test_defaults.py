"""A default gives way to what was given: only what a call itself says may contradict itself."""

import dataclasses

import numpy as np
import pytest
from toys import network

from stochdeconv.errors import InputError, ModelError
from stochdeconv.methods.class_images import GenerateSettings
from stochdeconv.methods.dream import DreamSettings, dream
from stochdeconv.methods.generate import generate
from stochdeconv.methods.invert import InvertSettings, invert
from stochdeconv.methods.maximize import MaximizeSettings, maximize
from stochdeconv.methods.morph import MorphSettings, morph
from stochdeconv.methods.objective import target_loss
from stochdeconv.methods.octaves import Pyramid
from stochdeconv.methods.presets import PRESETS
from stochdeconv.methods.recipe import Recipe
from stochdeconv.methods.refine import RefineSettings, refine
from stochdeconv.methods.sweep import SweepSettings, sweep
from stochdeconv.networks.image_model import load_model
from stochdeconv.sampling.samplers import sample_targets
from stochdeconv.statistics.file import load_statistics

PICTURE = np.random.default_rng(0).random((18, 20, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("n_frames", "n_steps", "planned"),
    [
        (None, None, (48, 256)),
        (None, 10, (11, 10)),
        (None, 1, (2, 1)),
        (None, 500, (48, 500)),
        (300, None, (300, 299)),
        (12, None, (12, 256)),
        (3, 2, (3, 2)),
    ],
)
def test_a_morph_has_a_step_for_every_frame(n_frames, n_steps, planned):
    settings = MorphSettings(n_frames=n_frames, n_steps=n_steps).settled()
    assert (settings.n_frames, settings.n_steps) == planned


def test_more_frames_than_steps_are_refused_where_both_are_given():
    with pytest.raises(InputError, match="at most one more than the 10 steps; got 48"):
        MorphSettings(n_frames=48, n_steps=10)


@pytest.mark.parametrize(
    ("checkpoints", "n_steps", "planned"),
    [
        (None, None, ([100, 500, 1000, 5000], 5000)),
        (None, 5000, ([100, 500, 1000, 5000], 5000)),
        (None, 50, ([1, 5, 10, 50], 50)),
        (None, 2, ([1, 2], 2)),
        (None, 1, ([1], 1)),
        ([7, 3], None, ([3, 7], 7)),
        ([3], 10, ([3], 10)),
    ],
)
def test_checkpoints_of_a_refinement_follow_its_steps(checkpoints, n_steps, planned):
    settings = RefineSettings(checkpoints=checkpoints, n_steps=n_steps).settled()
    assert (settings.checkpoints, settings.n_steps) == planned


def test_a_checkpoint_after_the_last_step_is_refused_where_both_are_given():
    with pytest.raises(InputError, match="comes after the last step"):
        RefineSettings(checkpoints=[100, 500], n_steps=50)


@pytest.mark.parametrize(
    ("settings", "change", "same"),
    [
        (DreamSettings(), {"rotate": 3.0}, DreamSettings(rotate=3.0)),
        (InvertSettings(), {"gradient_rule": "guided"}, InvertSettings(gradient_rule="guided")),
        (MaximizeSettings(), {"blur": 2.0}, MaximizeSettings(blur=2.0)),
        (MorphSettings(), {"n_steps": 10}, MorphSettings(n_steps=10)),
        (RefineSettings(suppress_outliers="a.h5"), {"suppress_outliers": None}, RefineSettings()),
        (RefineSettings(), {"n_steps": 50}, RefineSettings(n_steps=50)),
        (SweepSettings(n_steps="3,4"), {"size": 64}, SweepSettings(n_steps="3,4", size=64)),
    ],
)
def test_what_is_left_open_stays_open_when_settings_are_changed(settings, change, same):
    changed = dataclasses.replace(settings, **change)
    assert changed == same and changed.settled() == same.settled()


@pytest.mark.parametrize(
    ("method", "operands", "kind", "fields"),
    [
        (maximize, (1,), MaximizeSettings, {"n_steps": 2}),
        (dream, (PICTURE, "conv"), DreamSettings, {"n_steps": 1, "octaves": 2, "jitter": 1}),
        (invert, (PICTURE, "conv"), InvertSettings, {"n_steps": 2}),
        (morph, (PICTURE, 1), MorphSettings, {"n_steps": 2}),
        (refine, (PICTURE, 1), RefineSettings, {"n_steps": 2}),
        (sweep, (PICTURE, "conv"), SweepSettings, {"n_steps": 1, "octaves": 1, "jitter": 1}),
    ],
)
def test_settings_as_an_object_are_those_of_keywords(method, operands, kind, fields):
    model = network(1)
    runs = [method(model, *operands, kind(**fields)), method(model, *operands, **fields)]
    np.testing.assert_array_equal(runs[0].images, runs[1].images)
    assert runs[0].record["settings"] == runs[1].record["settings"]


@pytest.mark.parametrize(
    ("given", "enhance", "init", "optimizer"),
    [
        ({}, 1.0, "noise", "lbfgs"),
        ({"init": "photo"}, 1.5, "photo", "lbfgs"),
        ({"init": "photo", "enhance": 2.0}, 2.0, "photo", "lbfgs"),
        ({"target": "other.png"}, 1.0, "photo", "lbfgs"),
        ({"target": "other.png", "n_images": 3}, 1.0, "noise", "lbfgs"),
        ({"target": "other.png", "init": "mean"}, 1.0, "mean", "lbfgs"),
        ({"gradient_rule": "guided"}, 1.0, "noise", "adam"),
        ({"optimizer": "adam"}, 1.0, "noise", "adam"),
    ],
)
def test_an_inversion_starts_and_descends_as_what_is_given_asks_for(given, enhance, init, optimizer):
    settings = InvertSettings(**given).settled()
    assert (settings.enhance, settings.init, settings.optimizer) == (enhance, init, optimizer)


@pytest.mark.parametrize(
    ("given", "preset"),
    [
        ({}, "fourier"),
        ({"jitter": 4, "l2": 0.1}, "fourier"),
        ({"blur": 2.0}, "regularised"),
        ({"blur_every": 2}, "regularised"),
        ({"clip": 0.3}, "regularised"),
        ({"contribution": 50.0}, "regularised"),
    ],
)
def test_a_setting_of_pixels_takes_a_preset_of_pixels(given, preset):
    settings = MaximizeSettings(**given).settled()
    assert settings.preset == preset and {key: getattr(settings.way(), key) for key in given} == given


@pytest.mark.parametrize(
    ("diversity", "n_images", "batch_size", "planned"),
    [
        (0.0, None, None, (8, None)),  # as many as the device likes
        (0.0, 20, None, (20, None)),
        (0.0, None, 2, (8, 2)),
        (1.0, None, None, (8, 8)),
        (1.0, 9, None, (9, 9)),
        (1.0, None, 3, (3, 3)),
        (1.0, None, 32, (8, 32)),
        (1.0, 2, 4, (2, 4)),
    ],
)
def test_images_that_are_to_differ_are_of_one_batch(diversity, n_images, batch_size, planned):
    settings = MaximizeSettings(diversity=diversity, n_images=n_images, batch_size=batch_size).settled()
    assert (settings.n_images, settings.batch_size) == planned


@pytest.mark.parametrize(("n_images", "batch_size"), [(9, 8), (1, None), (None, 1)])
def test_images_of_several_batches_cannot_differ_from_each_other(n_images, batch_size):
    with pytest.raises(InputError, match="diversity= is between the images of one batch"):
        MaximizeSettings(diversity=1.0, n_images=n_images, batch_size=batch_size)


@pytest.mark.parametrize(
    ("zoom_frames", "zoom", "rotate", "planned"),
    [
        (None, None, 0.0, (0, None)),
        (None, 0.1, 0.0, (24, 0.1)),
        (None, None, 2.0, (24, 0.05)),
        (3, None, 0.0, (3, 0.05)),
        (2, 0.1, 1.0, (2, 0.1)),
    ],
)
def test_frames_that_move_make_a_stream(zoom_frames, zoom, rotate, planned):
    settings = DreamSettings(zoom_frames=zoom_frames, zoom=zoom, rotate=rotate).settled()
    assert (settings.zoom_frames, settings.zoom) == planned


def test_a_small_picture_is_dreamt_at_the_sizes_its_layers_have_values_at():
    """Of 5 x 5 at every second pixel the network makes its first map, of 3 x 3 there its second: 5 and 9 pixels at least."""
    model, picture = network(1), np.random.default_rng(0).random((18, 20, 3)).astype(np.float32)
    assert [model.can_compute(["deep"], (side, 9)) for side in (8, 9)] == [False, True] and model.can_compute(
        ["logits"], (9, 40)
    )
    small = dream(model, picture, "deep", n_steps=1, jitter=1)
    assert small.record["settings"]["octaves"] == 3 and Pyramid(3, 1.4, 32, 1.5, 10, 512, 1, 0).sizes((18, 20))[0] == (
        9,
        10,
    )
    assert dream(model, picture, "conv", n_steps=1, jitter=1).record["settings"]["octaves"] == 4
    assert dream(model, picture, "deep", n_steps=1, octaves=2, jitter=1).record["settings"]["octaves"] == 2
    swept = sweep(model, picture, "conv,deep", n_steps=1, size=18, jitter=1)
    assert swept.record["settings"]["octaves"] == 3 and {row["octave"] for row in swept.history} == {0, 1, 2}


def test_a_size_of_its_own_leaves_out_class_scores_that_have_another():
    model, statistics = load_model("mini-vgg16"), load_statistics("mini-vgg16/church.h5")
    run = {"n_images": 1, "n_steps": 1, "size": 32}
    with pytest.warns(UserWarning, match=r"its class_term and class_score at its own size alone: left out at 32x32"):
        result = generate(model, statistics, **run)
    assert result.images.shape == (1, 32, 32, 3)
    assert not {"cross_entropy", "unit"} & {name.split(":")[0] for name in result.history[0]}
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ModelError, match=r"cannot compute .*logits.* for images of 32x32"),
    ):
        generate(model, statistics, recipe="class_score=3", **run)


def test_fewer_layers_than_have_their_layout_asked_for_all_have_it():
    statistics = load_statistics("mini-vgg16/church.h5")
    maps = [name for name in statistics if name != "input"]
    two = dataclasses.replace(statistics, layers={name: statistics[name] for name in ("input", *maps[-2:])})
    loss = target_loss(two, sample_targets(two, n_images=1), Recipe(layout=7.0, n_layout_layers=3))
    weights = {name: term.weight for name, term in zip(loss.names, loss.terms, strict=True)}
    assert [weights[f"layout_scores:{name}"] for name in maps[-2:]] == [7.0, 7.0]


def test_a_component_is_shown_by_two_images_at_least():
    assert GenerateSettings(component="input:0").deviations().tolist() == [-2, -1, 0, 1, 2]
    with pytest.raises(InputError, match="at least 2 images"):
        GenerateSettings(component="input:0", n_images=1)


@pytest.mark.parametrize(
    ("side", "fourier", "approach"), [(224, 16, 8), (112, 16, 8), (56, 8, 4), (28, 4, 2), (8, 1, 1)]
)
def test_small_pictures_are_shifted_less_unless_it_was_asked_for(side, fourier, approach):
    assert PRESETS["fourier"].at((side, 2 * side)).jitter == fourier
    assert PRESETS["simonyan"].at((side, side)).jitter == 0
    assert RefineSettings().jitter_at((side, side)) == approach
    assert RefineSettings(jitter=8).jitter_at((side, side)) == 8


def test_the_jitter_of_a_run_is_that_of_its_size():
    model = network(0)
    made = [
        maximize(model, 0, n_images=1, n_steps=1, **keywords)
        for keywords in ({}, {"jitter": 5}, {"ablate_constraints": True})
    ]
    side = min(model.input_size)
    assert [run.record["settings"]["jitter"] for run in made] == [round(16 * side / 112), 5, round(8 * side / 112)]
