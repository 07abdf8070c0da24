import dataclasses
import inspect
import json

import keras
import numpy as np
import pytest
from sunsets import SIZE, network

from stochdeconv import backend
from stochdeconv.errors import InputError, MissingInputError, ModelError
from stochdeconv.images.files import load_image, save_png
from stochdeconv.methods import class_images
from stochdeconv.methods.class_images import ClassImages, GenerateSettings
from stochdeconv.methods.generate import generate
from stochdeconv.methods.maximize import maximize
from stochdeconv.methods.objective import target_loss
from stochdeconv.methods.recipe import Recipe, own_recipe, parse_recipe
from stochdeconv.methods.runs import RunInterrupted
from stochdeconv.networks.image_model import load_model
from stochdeconv.sampling.exemplars import target_maps
from stochdeconv.sampling.local import local_targets
from stochdeconv.sampling.samplers import PLACE_BY_PLACE, sample_targets
from stochdeconv.sampling.targets import Targets
from stochdeconv.statistics.collection import collect
from stochdeconv.statistics.layout import layout_maps
from stochdeconv.statistics.pooling import pooled_map


def test_generated_images_have_what_was_sampled(model, statistics):
    run = {"n_steps": 120, "sampler": "bootstrap", "recipe": Recipe(jitter=1, start="grey")}
    result = generate(model, statistics, n_images=3, seed=1, **run)
    layer = statistics["input"]
    pooled = np.asarray(pooled_map(result.images, layer.layout_shape[:2])).reshape(3, -1)
    own = (pooled - layer.layout_mean.ravel()) @ layer.components.T / np.sqrt(layer.explained_variance)
    sampled = result.arrays["input/scores"] / np.sqrt(layer.explained_variance)
    agreement = np.corrcoef(own, sampled)[:3, 3:]
    assert np.all(np.diag(agreement) > 0.8)  # the arrangement of an image's colours is the sampled one,
    assert np.all(agreement.argmax(axis=1) == np.arange(3))  # and no other image's
    start, end = result.history[0], result.history[-1]
    assert end["layout_scores:deep"] < 0.5 * start["layout_scores:deep"]
    assert end["layout_scores:input"] < 0.3 * start["layout_scores:input"]
    assert end["facet_moments:low"] < 0.5 * start["facet_moments:low"]
    assert result.record["class"]["label"] == "sunset" and result.record["statistics_hash"] == statistics.hash()
    assert result.arrays["deep/scores"].shape == (3, 16)


def test_a_new_sample_is_a_new_image_and_the_same_seed_the_same(model, statistics):
    run = {"n_steps": 40, "sampler": "joint"}
    four = generate(model, statistics, n_images=4, **run).images
    np.testing.assert_array_equal(generate(model, statistics, n_images=4, **run).images, four)
    assert np.abs(four[0] - four[1]).mean() > 0.02
    np.testing.assert_allclose(generate(model, statistics, n_images=4, batch_size=2, **run).images, four, atol=0.02)
    assert np.abs(generate(model, statistics, n_images=1, seed=5, **run).images - four[:1]).mean() > 0.02


@pytest.mark.parametrize(("has_gpu", "batch_size", "expected"), [(True, None, 64), (False, None, 8), (True, 3, 3)])
def test_a_gpu_is_given_more_images_at_a_time(model, statistics, monkeypatch, has_gpu, batch_size, expected):
    monkeypatch.setattr(backend, "has_gpu", lambda: has_gpu)
    result = generate(model, statistics, n_images=1, n_steps=1, batch_size=batch_size)
    assert result.record["settings"]["batch_size"] == expected
    result = maximize(model, "sunset", n_images=1, n_steps=1, batch_size=batch_size)
    assert result.record["settings"]["batch_size"] == expected
    given = []

    def make_batches(statistics, settings, targets, numbers):
        given.append((settings.batch_size, len(numbers)))
        images = ClassImages.of(model, statistics, settings, None, targets)
        return [images.batch(number) for number in numbers]

    run = {"n_images": 9, "n_steps": 1, "batch_size": batch_size, "make_batches": make_batches}
    generate(model, statistics, **run)
    # Workers are to have something to do, whatever this process computes with.
    assert given == [(batch_size or 8, 3 if batch_size else 2)]


def test_a_batch_alone_is_what_it_is_among_others(model, statistics):
    settings = GenerateSettings(n_images=5, batch_size=2, n_steps=3, seed=2)
    whole = generate(model, statistics, settings)
    images = ClassImages.of(model, statistics, settings.settled(), None)
    parts = [images.batch(number) for number in (2, 0, 1)]
    parts = [parts[1], parts[2], parts[0]]
    np.testing.assert_array_equal(np.concatenate([part.images for part in parts]), whole.images)
    assert [row for part in parts for row in part.history] == whole.history


@pytest.mark.parametrize(
    ("sampler", "rule"),
    [("chain", "true"), ("joint", "true"), ("independent", "true"), ("bootstrap", "true"), ("bootstrap", "mix")],
)
def test_every_sampler_and_rule_lowers_the_loss(model, statistics, sampler, rule):
    result = generate(
        model, statistics, n_images=2, n_steps=30, sampler=sampler, gradient_rule=rule, recipe="start=grey"
    )
    assert result.history[-1]["layout_scores:input"] < result.history[0]["layout_scores:input"]
    assert ("cosine" in result.history[0]) == (rule != "true")


def test_every_term_of_the_recipe_does_what_it_says(model, statistics):
    targets = sample_targets(statistics, n_images=2)
    everything = Recipe(shallow_layout=1.0, color=1.0, sharpness=1.0, spectrum=1.0)
    names = target_loss(statistics, targets, everything).names
    assert {name.split(":")[0] for name in names} == {
        "layout_scores", "channel_moments", "facet_moments", "cross_entropy", "total_variation", "edge_sharpness",
        "amplitude_spectrum",
    }  # fmt: skip
    nothing = dict.fromkeys(("layout", "color_layout", "moments", "facets", "class_term", "shallow_layout"), 0.0)
    assert target_loss(statistics, targets, Recipe(**nothing)).names == ("total_variation:input",)
    for name in ("color", "sharpness", "spectrum"):
        alone = Recipe(**nothing, **{name: 1.0}, total_variation=0.0)
        history = generate(model, statistics, n_images=2, n_steps=60, recipe=alone).history
        (term,) = set(history[-1]) - {"batch", "step"}
        assert history[-1][term] < 0.3 * history[0][term], term


def test_the_class_score_is_maximised_where_it_is_asked_for(model, statistics):
    run = {"n_images": 2, "n_steps": 60}
    aimed = generate(model, statistics, recipe="class_score=1000,class_term=0", **run)
    (name,) = [name for name in aimed.history[-1] if name.startswith("unit:")]
    plain = generate(model, statistics, recipe="class_term=0", **run)
    scores = [model.logits(result.images)[:, statistics.class_index].mean() for result in (aimed, plain)]
    assert scores[0] > scores[1] + 0.05
    assert -aimed.history[-1][name] > -aimed.history[0][name] + 0.05


def test_a_network_may_have_a_recipe_of_its_own(model, statistics, whole, tmp_path):
    model.keras_model.save(tmp_path / "own.keras")
    sidecar = {"preprocessing": "tf", "class_names": ["sunset", "dog", "eel"], "recipe": "facets=0.5,jitter=1"}
    (tmp_path / "own.json").write_text(json.dumps(sidecar))
    own = load_model(tmp_path / "own.keras", dtype="float32")

    def recipe_of(held=statistics, **changes):
        record = generate(own, held, n_images=1, n_steps=1, **changes).record
        return Recipe(**record["settings"]["recipe"])

    assert recipe_of() == Recipe(facets=0.5, jitter=1)
    assert recipe_of(recipe="jitter=0,layout=1") == Recipe(facets=0.5, jitter=0, layout=1.0)
    assert recipe_of(recipe=Recipe(jitter=2)) == Recipe(jitter=2)
    assert recipe_of(recipe=None) == recipe_of()
    # Place by place it starts from other defaults, and what it says itself holds all the same.
    assert (
        own_recipe(own, place_by_place=True)
        == dataclasses.replace(own_recipe(model, place_by_place=True), facets=0.5, jitter=1)
        != Recipe(facets=0.5, jitter=1)
    )
    assert recipe_of(sampler="local", held=whole) == own_recipe(own, place_by_place=True)
    (tmp_path / "own.json").write_text(json.dumps(sidecar | {"recipe": "facetz=1"}))
    with pytest.raises(ModelError, match=r"sidecar of 'own' has a bad recipe.*facetz"):
        generate(load_model(tmp_path / "own.keras"), statistics, n_images=1, n_steps=1)
    (tmp_path / "own.json").write_text(json.dumps(sidecar | {"recipe": {"facets": 0.5}}))
    with pytest.raises(ModelError, match=r"own\.json: recipe is .*expected a text as recipe= takes it"):
        load_model(tmp_path / "own.keras")


def test_deepest_first_lets_the_shallower_layers_join_one_by_one(statistics):
    targets = sample_targets(statistics, n_images=1)
    loss = target_loss(statistics, targets, Recipe(order="deepest-first"))
    joins = {weighted.term.name: weighted.joins_at for weighted in loss.terms}
    assert joins["layout_scores:deep"] == 0 < joins["channel_moments:middle"] < joins["channel_moments:low"]
    assert joins["channel_moments:low"] == joins["facet_moments:low"] < joins["layout_scores:input"] < 0.5
    assert joins["facet_moments:input"] == joins["layout_scores:input"]


@pytest.mark.parametrize("parameterization", ["fourier", "pixels"])
def test_images_start_from_the_colours_that_are_sampled(model, statistics, parameterization):
    def first(**changes):
        recipe = Recipe(parameterization=parameterization, learning_rate=1e-5, jitter=0, scale=0, rotate=0, **changes)
        return generate(model, statistics, n_images=3, n_steps=1, recipe=recipe)

    sampled, grey = first(), first(start="grey")
    losses = [result.history[0]["layout_scores:input"] for result in (sampled, grey)]
    assert losses[0] < 0.1 * losses[1]
    layer = statistics["input"]
    drawn = layout_maps(layer, sampled.arrays["input/scores"])
    pooled = np.asarray(pooled_map(sampled.images, layer.layout_shape[:2]))
    np.testing.assert_allclose(pooled, np.clip(drawn, 0.02, 0.98), atol=0.1)
    assert np.abs(pooled - drawn).mean() < 0.02 < np.abs(sampled.images[0] - sampled.images[1]).mean()


def test_images_of_any_shape_start_from_the_whole_layout(tmp_path, photographs):
    inputs = keras.Input((24, 40, 3))
    wide = load_model(
        keras.Model(inputs, keras.layers.Conv2D(8, 3, activation="relu", name="conv")(inputs)), preprocessing="tf"
    )
    statistics = collect(wide, photographs, n_components=8, n_contexts=0)
    recipe = Recipe(learning_rate=1e-5, jitter=0, scale=0, rotate=0)
    result = generate(wide, statistics, n_images=2, n_steps=1, recipe=recipe)
    drawn = layout_maps(statistics["input"], result.arrays["input/scores"])
    pooled = np.asarray(pooled_map(result.images, drawn.shape[1:3]))
    assert result.images.shape == (2, 24, 40, 3) and np.abs(pooled - np.clip(drawn, 0.02, 0.98)).mean() < 0.02


def test_pixels_and_photographs_to_start_from(model, statistics, tmp_path):
    photo = tmp_path / "photo.png"
    save_png(photo, np.random.default_rng(3).uniform(0.2, 0.8, size=(SIZE, SIZE, 3)))
    for parameterization in ("fourier", "pixels"):
        recipe = Recipe(parameterization=parameterization, learning_rate=1e-4, jitter=0)
        result = generate(model, statistics, n_images=1, n_steps=2, init=photo, recipe=recipe)
        assert np.abs(result.images[0] - load_image(photo, None)).mean() < 0.02
    recipe = Recipe(parameterization="pixels", learning_rate=0.02, start="grey")
    result = generate(model, statistics, n_images=1, n_steps=40, recipe=recipe)
    assert result.history[-1]["layout_scores:input"] < 0.5 * result.history[0]["layout_scores:input"]


def test_ctrl_c_keeps_what_is_done(model, statistics):
    def callback(step):
        if step.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted) as caught:
        generate(model, statistics, n_images=4, batch_size=2, n_steps=4, callback=callback)
    result = caught.value.result
    assert len(result.images) == 4 and len(result.history) == 5 and not result.record["complete"]
    assert result.arrays["deep/scores"].shape[0] == 4


def test_senseless_calls_are_refused(model, statistics, tmp_path):
    with pytest.raises(ModelError, match="collected with"):
        generate(network(1), statistics)
    with pytest.raises(InputError, match="n_images"):
        generate(model, statistics, n_images=0)
    with pytest.raises(InputError, match="together, deepest-first"):
        Recipe(order="deepest")
    with pytest.raises(InputError, match="layout is a finite number of at least 0"):
        Recipe(layout=-1)
    for changes, message in (
        ({"scale": 1.0}, "below 1"),
        ({"patch_prior": 1.0}, "below 1"),
        ({"rotate": float("inf")}, "finite"),
        ({"learning_rate": float("nan")}, "finite"),
    ):
        with pytest.raises(InputError, match=message):
            Recipe(**changes)
    with pytest.raises(MissingInputError):
        generate(model, statistics, init=tmp_path / "no.png")
    with pytest.raises(InputError, match="48x48"):
        generate(model, statistics, size=64, recipe=Recipe(spectrum=1.0))
    with pytest.raises(InputError, match="at least 1"):
        generate(model, statistics, size=0)
    with pytest.raises(ModelError, match="input convention"):
        generate(model, dataclasses.replace(statistics, preprocessing={"preprocessing": "none"}))
    image_only = dataclasses.replace(statistics, layers={"input": statistics["input"]}).with_fields(facets=None)
    with pytest.raises(InputError, match="no layer with positions"):
        generate(model, image_only)


def test_a_recipe_is_read_from_the_command_line():
    assert parse_recipe("") == Recipe()
    assert parse_recipe("facets=0, order=deepest-first,decay=true") == Recipe(
        facets=0.0, order="deepest-first", decay=True
    )
    for text, message in [
        ("facet=1", "closest: 'facets'"),
        ("facets", "NAME=VALUE"),
        ("facets=much", r"a value like \d"),
        ("decay=maybe", "true or false"),
        ("jitter=1.5", "a value like"),
        ("order=shallow", "deepest-first"),
        ("jitter=1,,decay=true", "nothing between"),
        ("jitter=1,jitter=2", "sets jitter twice"),
    ]:
        with pytest.raises(InputError, match=message):
            parse_recipe(text)


def test_a_layer_that_is_the_same_in_every_image_is_left_out(model, statistics):
    flat = statistics["deep"].with_fields(
        components=np.zeros((0, statistics["deep"].layout_mean.size), np.float32),
        explained_variance=np.zeros(0),
        scores=np.zeros((statistics.n_rows, 0), np.float32),
    )
    layers = {**statistics.layers, "deep": flat}
    result = generate(model, dataclasses.replace(statistics, layers=layers), n_images=1, n_steps=3)
    assert "layout_scores:deep" not in result.history[0] and "layout_scores:fine" in result.history[0]


def test_two_classes_share_a_compiled_step(model, statistics):
    generate(model, statistics, n_images=2, n_steps=2)
    n_programs = len(model._programs)
    other = dataclasses.replace(statistics, class_index=2, class_name="eel", layers=dict(statistics.layers))
    result = generate(model, other, n_images=2, n_steps=2)
    assert len(model._programs) == n_programs and result.record["class"]["label"] == "eel"


def test_a_default_of_the_sampler_is_the_same_wherever_it_is_called_from():
    theirs = inspect.signature(sample_targets).parameters
    assert theirs["sampler"].default == class_images._USUAL
    for name in ("temperature", "row_weight", "seed"):
        assert getattr(GenerateSettings(), name) == theirs[name].default, name


@pytest.mark.parametrize("sampler", PLACE_BY_PLACE)
def test_images_come_to_what_was_drawn_place_by_place(model, whole, sampler):
    result = generate(model, whole, sampler=sampler, n_images=2, n_steps=100, seed=4)
    terms = [name for name in result.history[0] if name not in ("batch", "step")]
    called = {"local": "local_map", "exemplars": "match"}[sampler]
    maps = [term for term in terms if term.startswith(called)]
    assert maps == [f"{called}:{layer}" for layer in ("low", "middle", "fine", "deep")]
    # Textures, layout and class are asked besides, and nothing else.
    beside = {term.partition(":")[0] for term in terms if term not in maps}
    assert beside == {"channel_moments", "facet_moments", "layout_scores", "cross_entropy"}
    assert np.abs(result.images - result.arrays["pixels"] / 255).mean() < 0.1
    # Drawn from photographs, maps are all but right from the start on, and what else is asked would lead away from them.
    layers, targets = ["low", "middle", "fine", "deep"], Targets.from_arrays(result.arrays)
    if sampler == "exemplars":
        wanted, along = target_maps(model, whole, targets, layers), {}
    else:
        wanted = local_targets(whole, targets, layers)
        along = {layer: whole[layer].local_directions for layer in layers}

    def distance(run):
        shown = model.activations(run.images, layers)
        seen = {layer: shown[layer] @ along[layer] if sampler == "local" else shown[layer] for layer in layers}
        return np.mean([((seen[layer] - wanted[layer]) ** 2).mean() / wanted[layer].var() for layer in layers])

    free, bound = (
        generate(model, whole, sampler=sampler, n_images=2, n_steps=100, seed=4, recipe=recipe)
        for recipe in ("maps=0", "maps=10")
    )
    assert distance(bound) < 0.9 * distance(free) and distance(result) < distance(free)
