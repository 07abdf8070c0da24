"""Images that are drawn place by place, then optimised toward what the network should see there."""

import numpy as np
import pytest
from sunsets import SIZE

from stochdeconv.errors import FileFormatError, InputError
from stochdeconv.methods import class_images
from stochdeconv.methods.class_images import ClassImages, GenerateSettings
from stochdeconv.methods.generate import generate
from stochdeconv.sampling.local import denoise_images
from stochdeconv.sampling.samplers import PLACE_BY_PLACE, sample_targets
from stochdeconv.sampling.scenes import sample_scenes, scene_contexts
from stochdeconv.statistics.exemplars import Exemplars


@pytest.mark.parametrize(
    ("sampler", "recipe"), [("local", ""), ("local", "parameterization=pixels"), ("exemplars", "")]
)
def test_patches_are_held_to_the_local_gaussians_of_their_places(model, whole, sampler, recipe):
    run = {"n_images": 2, "n_steps": 12, "sampler": sampler, "seed": 4}
    targets = (
        sample_scenes(whole, n_images=2, seed=4) if sampler == "local" else sample_targets(whole, n_images=2, seed=4)
    )
    contexts = scene_contexts(whole, targets) if sampler == "local" else whole.contexts[targets.source_rows]

    def unlikely(result):
        return np.abs(denoise_images(whole, contexts, result.images, 0.08) - result.images).mean()

    held = generate(model, whole, recipe=recipe, **run)
    free = generate(model, whole, recipe=",".join(filter(None, [recipe, "patch_prior=0"])), **run)
    assert unlikely(held) < 0.7 * unlikely(free)
    assert held.record["settings"]["recipe"]["patch_prior"] == 0.2
    # Without local Gaussians there is no prior.
    if sampler == "exemplars":
        bare = generate(model, whole.with_fields(local=None), recipe=recipe, **run)
        np.testing.assert_array_equal(bare.images, free.images)


def test_patches_of_exemplars_have_the_places_of_their_own_scene(model, whole):
    """Where a row's photograph was not kept, the scene is another's, and so are the contexts of its places."""
    kept = Exemplars(whole.exemplars.pixels[:32], whole.exemplars.rows[:32])
    held = whole.with_fields(exemplars=kept)
    images = ClassImages.of(model, held, GenerateSettings(sampler="exemplars", n_images=12, seed=1), None)
    priors = images._prior(images.targets, 4)
    rows = images.targets.source_rows
    is_kept = np.isin(rows, kept.rows)
    assert len(priors) == 4 and not is_kept.all()
    for prior in priors:
        np.testing.assert_array_equal(prior.contexts[is_kept], held.contexts[rows[is_kept]])
        others = [(prior.contexts[number] == held.contexts[kept.rows]).all(axis=1).any() for number in range(12)]
        assert all(others)


def test_pieces_of_photographs_are_told(model, whole):
    run = {"n_images": 2, "n_steps": 2}
    told = generate(model, whole, sampler="exemplars", **run).record
    assert told["pieces_of_photographs"]["exemplars"] == 50
    assert all(len(told["pieces_of_photographs"][name]) == 2 for name in ("largest_share", "largest_piece"))
    local = generate(model, whole, sampler="local", **run)
    assert "pieces_of_photographs" not in local.record
    counts = [np.unique(scene, return_counts=True)[1].max() for scene in local.arrays["scenes"]]
    assert local.record["rows_of_scenes"]["largest_part"] == pytest.approx(np.array(counts) / 36, abs=1e-4)


def test_scenes_are_laid_out_as_is_asked(model, whole):
    run = {"n_images": 2, "n_steps": 2, "sampler": "local", "seed": 3}
    options = {"temperature": 0.7, "row_weight": 0.5}
    for scenes in ("chain", "joint"):
        # With it `local` is chosen.
        made = generate(model, whole, scenes=scenes, **options, **{**run, "sampler": None})
        expected = sample_scenes(whole, sampler=scenes, n_images=2, seed=3, **options)
        np.testing.assert_array_equal(made.arrays["scenes"], expected.scenes)
        assert (made.record["settings"]["sampler"], made.record["settings"]["scenes"]) == ("local", scenes)
    plain = generate(model, whole, **run)
    assert plain.record["settings"]["scenes"] == "chain"
    other = generate(model, whole, **{**run, "sampler": "bootstrap"})
    assert other.record["settings"]["scenes"] is None
    np.testing.assert_array_equal(plain.arrays["scenes"], sample_scenes(whole, n_images=2, seed=3).scenes)


@pytest.mark.parametrize("sampler", PLACE_BY_PLACE)
def test_an_image_drawn_place_by_place_depends_on_its_number_alone(model, whole, sampler):
    run = {"n_steps": 5, "sampler": sampler, "seed": 4}
    both = generate(model, whole, n_images=2, batch_size=1, **run)
    together = generate(model, whole, n_images=2, batch_size=2, **run)
    np.testing.assert_array_equal(both.arrays["pixels"], together.arrays["pixels"])
    np.testing.assert_allclose(both.images, together.images, atol=1e-3)


def test_by_default_places_are_drawn_from_the_best_there_is(model, statistics, whole, monkeypatch):
    def sampler_of(held, **settings):
        return generate(model, held, n_steps=2, n_images=2, **settings).record["settings"]["sampler"]

    few = Exemplars(whole.exemplars.pixels[:5], whole.exemplars.rows[:5])
    # Of small images local Gaussians are not the default.
    assert sampler_of(whole) == "exemplars"
    assert sampler_of(whole.with_fields(exemplars=few)) == "bootstrap"
    monkeypatch.setattr(class_images, "_LEAST_SIDE_OF_LOCAL", SIZE)
    assert sampler_of(whole) == "local"
    assert sampler_of(whole.with_fields(local=None)) == "exemplars"
    assert sampler_of(whole.with_fields(exemplars=None)) == "local"
    assert sampler_of(statistics) == "bootstrap"
    for settings in ({"size": 64}, {"component": "input:0"}):
        assert sampler_of(whole, **settings) == "bootstrap", settings
    # A scene that follows no row is none for exemplars.
    assert sampler_of(whole, row_weight=0.0) == "local"
    assert sampler_of(whole.with_fields(local=None), row_weight=0.0) == "bootstrap"
    damaged = Exemplars(whole.exemplars.pixels, whole.exemplars.rows + 10_000)
    with pytest.raises(FileFormatError, match="the file is damaged"):
        sampler_of(whole.with_fields(local=None, exemplars=damaged))


@pytest.mark.parametrize("sampler", PLACE_BY_PLACE)
def test_what_cannot_be_drawn_place_by_place_is_refused(model, statistics, whole, sampler):
    run = {"n_steps": 2, "n_images": 2, "sampler": sampler}
    with pytest.raises(InputError, match="draws images of 48x48"):
        generate(model, whole, size=64, **run)
    with pytest.raises(InputError, match="one by one"):
        generate(model, whole, component="input:0", **run)
    if sampler == "exemplars":
        with pytest.raises(InputError, match="in the scene of a row"):
            generate(model, whole, row_weight=0.0, **run)
        with pytest.raises(InputError, match=r"scenes= lays out what .* 'local' draws; got the sampler 'exemplars'"):
            generate(model, whole, scenes="joint", **run)
    for scenes in ("joins", "local"):
        with pytest.raises(InputError, match=f"scenes= is one of chain, joint, .*; got '{scenes}'"):
            generate(model, whole, scenes=scenes, **run)
    with pytest.raises(InputError, match="scenes= lays out images one by one"):
        generate(model, whole, scenes="joint", walk=3)
    with pytest.raises(InputError, match=r"hold none: (they were collected without contexts|collect )"):
        generate(model, statistics, **run)


def test_more_can_be_asked_beside_the_places(model, whole):
    plain, more = (
        generate(model, whole, n_images=1, n_steps=2, recipe=recipe) for recipe in ("", "spectrum=0.5,moments=0")
    )
    assert {name.partition(":")[0] for name in set(more.history[0]) - set(plain.history[0])} == {"amplitude_spectrum"}
    assert {name.partition(":")[0] for name in set(plain.history[0]) - set(more.history[0])} == {"channel_moments"}
