"""Images along a component, and walks from one sample to another."""

import numpy as np
import pytest
from PIL import Image
from sunsets import network

from stochdeconv.errors import InputError, LayerNotFoundError, ModelError
from stochdeconv.images.files import load_image
from stochdeconv.images.sheets import contact_sheet
from stochdeconv.methods.generate import generate
from stochdeconv.methods.recipe import Recipe
from stochdeconv.methods.runs import RunInterrupted
from stochdeconv.sampling.samplers import sample_targets
from stochdeconv.sampling.traversals import component_deviations
from stochdeconv.statistics.collection import collect
from stochdeconv.statistics.pooling import pooled_map


@pytest.fixture(scope="module")
def along():
    """A series along a component."""
    made = {}

    def make(model, statistics, component):
        if (model, component) not in made:
            made[model, component] = generate(model, statistics, component=component, n_steps=80, recipe="class_term=0")
        return made[model, component]

    return make


def test_images_along_a_component_go_along_it(model, statistics, along):
    for component in ("input:0", "deep:1"):
        result = along(model, statistics, component)
        name, index = component.split(":")
        layer = statistics[name]
        maps = model.activations(result.images, [name])[name] if name != "input" else result.images
        pooled = np.asarray(pooled_map(maps, layer.layout_shape[:2])).reshape(5, -1)
        scores = (pooled - layer.layout_mean.ravel()) @ layer.components[int(index)]
        own = (scores - layer.scores[:, int(index)].mean()) / layer.scores[:, int(index)].std(ddof=1)
        assert np.all(np.diff(own) > 0.05), component
        assert [row["asked"] for row in result.tables["deviations"]] == [-2.0, -1.0, 0.0, 1.0, 2.0]
        np.testing.assert_allclose([row["reached"] for row in result.tables["deviations"]], own, atol=1e-3)
        assert result.arrays[f"{name}/scores"].shape == (5, layer.n_components)
        assert result.sheet.shape[0] > contact_sheet(result.images).shape[0]  # what is written below takes room
        assert result.record["settings"]["component"] == component and result.frames is None


def test_images_of_another_network_do_not_go_along_a_component(model, statistics, photographs, along):
    other = network(7)
    theirs = along(other, collect(other, photographs, n_components=16), "deep:1")
    ours = along(model, statistics, "deep:1")
    spans = [np.ptp(component_deviations(model, statistics, "deep:1", series.images)) for series in (ours, theirs)]
    assert spans[0] > 2 * spans[1]


def test_a_photograph_is_as_far_along_a_component_as_its_row(model, statistics, photographs):
    photos = np.stack([load_image(photographs / f"{i:02d}.png", None) for i in range(60)])
    rows = [statistics.image_names.index(name) for name in sorted(statistics.image_names)]
    for component in ("input:0", "deep:3"):
        name, index = component.split(":")
        scores = statistics[name].scores[rows, int(index)]
        actual = component_deviations(model, statistics, component, photos)
        np.testing.assert_allclose(actual, (scores - scores.mean()) / scores.std(ddof=1), atol=0.02)


@pytest.mark.parametrize("series", [{"component": "deep:0", "n_images": 3}, {"walk": 3}])
def test_images_of_a_series_differ_by_their_targets_alone(model, statistics, series):
    run = {"n_steps": 8, "temperature": 0.0}
    images = generate(model, statistics, **series, **run).images
    np.testing.assert_array_equal(images, images[[0, 0, 0]])  # start and views are the same
    samples = generate(model, statistics, n_images=2, **run).images
    assert np.abs(samples[0] - samples[1]).mean() > 0.01
    assert np.abs(generate(model, statistics, seed=1, **series, **run).images[0] - images[0]).mean() > 0.01


def test_a_walk_leads_from_one_sample_to_another(model, statistics, tmp_path):
    result = generate(model, statistics, walk=5, n_steps=60, recipe=Recipe(jitter=1))
    samples = sample_targets(statistics, n_images=2).to_arrays()
    for name, values in samples.items():
        np.testing.assert_array_equal(result.arrays[name][[0, -1]], values, err_msg=name)
    neighbours = np.abs(np.diff(result.images, axis=0)).mean(axis=(1, 2, 3))
    assert neighbours.max() < 0.7 * np.abs(result.images[0] - result.images[-1]).mean()
    np.testing.assert_allclose(result.frames / 255.0, result.images, atol=0.002)
    assert result.record["settings"]["walk"] == 5
    result.save(tmp_path / "walk")
    with Image.open(tmp_path / "walk/animation.gif") as gif:
        assert gif.n_frames == 5
    assert (tmp_path / "walk/animation.mp4").stat().st_size > 0 and (tmp_path / "walk/image_004.png").exists()


def test_a_walk_of_another_network_leads_elsewhere(model, statistics, photographs):
    other = network(7)
    run = {"walk": 3, "n_steps": 60, "recipe": "start=grey"}
    theirs = generate(other, collect(other, photographs, n_components=16), **run)
    ours = generate(model, statistics, **run)
    ends = sample_targets(statistics, n_images=2).layers["deep"].mean
    seen = [model.activations(walk.images[[0, -1]], ["deep"])["deep"].mean(axis=(1, 2)) for walk in (ours, theirs)]
    away = [np.linalg.norm(means - ends, axis=1) for means in seen]
    assert np.all(away[0] < 0.7 * away[1])


def test_a_walk_starts_from_its_middle_half_made(model, statistics):
    def first_losses(**changes):
        history = generate(model, statistics, recipe="start=grey", **changes).history
        return [row["layout_scores:input"] for row in history if row["step"] == 1]

    (from_noise,) = first_losses(n_images=1, n_steps=1)
    assert max(first_losses(walk=3, n_steps=40)[:2]) < 0.6 * from_noise
    assert first_losses(walk=2, n_steps=1)[0] < from_noise  # half of one step is one step


def test_an_animation_shows_the_images_coming_about(model, statistics):
    result = generate(model, statistics, n_images=3, batch_size=2, n_steps=20, gif=True, recipe="start=grey")
    first, last = result.frames[0], result.frames[-1]
    np.testing.assert_allclose(last / 255.0, contact_sheet(result.images), atol=0.003)
    inner = (slice(8, 48), slice(8, 48))  # of the first picture
    assert last[inner].std() > 2 * first[inner].std()  # it starts as grey noise
    assert 12 < len(result.frames) <= 64
    along = generate(model, statistics, component="input:0", n_images=2, n_steps=20, gif=True)
    np.testing.assert_allclose(along.frames[-1] / 255.0, contact_sheet(along.images), atol=0.003)
    assert generate(model, statistics, n_images=1, n_steps=1).frames is None


def test_a_series_may_start_from_a_photograph(model, statistics, photographs):
    photo = photographs / "00.png"
    recipe = Recipe(learning_rate=1e-4, jitter=0)
    result = generate(model, statistics, walk=2, n_steps=2, init=photo, recipe=recipe)
    assert np.abs(result.images - load_image(photo, None)).mean() < 0.02


def test_ctrl_c_on_the_way_keeps_the_images_so_far(model, statistics):
    def callback(step):
        if step.step == 7:
            raise KeyboardInterrupt

    run = {"n_steps": 3, "callback": callback}
    with pytest.raises(RunInterrupted) as caught:
        generate(model, statistics, component="deep:0", gif=True, **run)
    result = caught.value.result
    assert len(result.images) == 3 == len(result.tables["deviations"])
    np.testing.assert_allclose(result.frames[-1] / 255.0, contact_sheet(result.images), atol=0.003)
    with pytest.raises(RunInterrupted) as caught:
        generate(model, statistics, walk=4, **run)
    # Two steps for the opening, three a frame.
    assert len(caught.value.result.frames) == 2
    seen = []

    def at_once(step):
        seen.append((step.step, step.n_steps))
        raise KeyboardInterrupt

    # What there is before the first frame belongs to none.
    with pytest.raises(KeyboardInterrupt) as stopped:
        generate(model, statistics, walk=4, n_steps=3, callback=at_once)
    assert not isinstance(stopped.value, RunInterrupted) and seen == [(1, 14)]


def test_a_series_that_contradicts_itself_is_refused(model, statistics):
    for changes, message in [
        ({"component": "deep:0", "walk": 4}, "one of the two"),
        ({"walk": 4, "n_images": 4}, "leave n_images= out"),
        ({"walk": 4, "gif": True}, "leave gif=True out"),
        ({"walk": 1}, "at least 2 frames"),
        ({"component": "deep:0", "n_images": 1}, "at least 2 images"),
        ({"component": "deep:16"}, "16 components, 0 to 15; got 16"),
        ({"component": "deep"}, "not LAYER:J"),
        ({"component": "deep:0", "temperature": float("nan")}, "temperature"),
    ]:
        with pytest.raises(InputError, match=message):
            generate(model, statistics, **changes)
    with pytest.raises(LayerNotFoundError, match="closest: 'deep'"):
        generate(model, statistics, component="dep:0")
    with pytest.raises(ModelError, match="collected with"):
        generate(network(1), statistics, component="deep:0")
