import keras
import numpy as np
import pytest

from stochdeconv import losses, parameterizations, regularizers, transforms
from stochdeconv.errors import DivergenceError, InputError
from stochdeconv.networks.image_model import load_model
from stochdeconv.optimization import programs
from stochdeconv.optimization.descent import Descent, tiles
from stochdeconv.optimization.loop import optimize

SIZE = (16, 16)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(8, 3, activation="relu", name="conv"),
            keras.layers.Conv2D(6, 1, activation="relu", name="deep"),
        ]
    )
    return load_model(network, preprocessing="tf", dtype="bfloat16")


@pytest.fixture(scope="module")
def toward_photo(model):
    photo = np.random.default_rng(0).uniform(0.2, 0.8, size=(1, *SIZE, 3)).astype(np.float32)
    return losses.match(model.activations(photo, ["conv"])) + 0.01 * regularizers.total_variation()


def pixels(size=SIZE, **settings):
    return parameterizations.pixels(np.full((*size, 3), 0.5), **settings)


def test_line_search_falls_at_every_step_and_further_than_adam(model, toward_photo):
    seen = []
    result = optimize(
        model,
        toward_photo,
        parameterization=pixels(),
        n_steps=40,
        descent=Descent("lbfgs"),
        callback=lambda step: seen.append((step.step, step.images())),
    )
    sums = [row["match:conv"] + 0.01 * row["total_variation:input"] for row in result.history]
    assert np.all(np.diff(sums) <= 0) and len(sums) <= 40
    adam = optimize(model, toward_photo, parameterization=pixels(), n_steps=40)
    assert sums[-1] < 0.7 * (adam.history[-1]["match:conv"] + 0.01 * adam.history[-1]["total_variation:input"])
    # bfloat16 is for the image loop alone: its rounding makes a search along a line fail.
    assert result.settings["dtype"] == "float32"
    assert [step for step, _ in seen] == list(range(1, len(sums) + 1))
    np.testing.assert_array_equal(seen[-1][1], result.images)
    # What the history says is of the images at that step.
    losses_of_images = toward_photo({**model.activations(result.images, ["conv"]), "input": result.images})
    assert float(losses_of_images[0]) == pytest.approx(sums[-1], rel=1e-3)


def test_line_search_ends_where_nothing_improves(model):
    loss = regularizers.total_variation()
    flat = optimize(model, loss, parameterization=pixels(noise=0.0), n_steps=50, descent=Descent("lbfgs"))
    assert len(flat.history) < 50
    np.testing.assert_array_equal(flat.images, 0.5)


def test_what_changes_the_function_is_refused_with_line_search(model, toward_photo):
    run = {"n_steps": 2, "descent": Descent("lbfgs"), "parameterization": pixels()}
    with pytest.raises(InputError, match="gradient_rule=guided is the gradient of no function"):
        Descent("lbfgs", gradient_rule="guided")
    with pytest.raises(InputError, match="decay and tile_size"):
        Descent("lbfgs", tile_size=8)
    with pytest.raises(InputError, match="random views"):
        optimize(model, toward_photo, transforms=[transforms.jitter(2)], **run)
    with pytest.raises(InputError, match="join later"):
        optimize(model, toward_photo.joining_at(0.5), **run)
    with pytest.raises(InputError, match="constraints"):
        optimize(model, toward_photo, **{**run, "parameterization": pixels(constraints=[parameterizations.Clip()])})
    with pytest.raises(InputError, match="one image; got 2"):
        optimize(model, toward_photo, **{**run, "parameterization": pixels(n_images=2)})


def test_line_search_can_be_interrupted_and_diverges_with_a_name(model, toward_photo):
    def stop(step):
        if step.step == 3:
            raise KeyboardInterrupt

    run = {"n_steps": 20, "descent": Descent("lbfgs"), "parameterization": pixels()}
    result = optimize(model, toward_photo, callback=stop, **run)
    assert len(result.history) == 3 and not result.complete
    with pytest.raises(DivergenceError, match="'match:conv' became nan"):
        optimize(model, losses.match({"conv": np.full((1, 14, 14, 8), np.nan)}), **run)


@pytest.mark.parametrize("size", [(40, 57), (16, 100), (9, 23), (17, 16)])
@pytest.mark.parametrize("offset", [(0, 0), (5, 11), (15, 1)])
def test_tiles_are_of_one_size_and_cover_everything(size, offset):
    covered = np.zeros(size, int)
    shapes = set()
    for rows, columns in tiles(size, 16, offset):
        assert rows.start >= 0 and rows.stop <= size[0] and columns.start >= 0 and columns.stop <= size[1]
        shapes.add(covered[rows, columns].shape)
        covered[rows, columns] += 1
    assert shapes == {(min(16, size[0]), min(16, size[1]))}
    assert covered.min() == 1 and covered.max() <= 4


def test_tile_by_tile_is_the_same_where_places_do_not_look_at_each_other(model):
    """A network of 1x1 convolutions: only where tiles lie could make a difference."""
    keras.utils.set_random_seed(1)
    pointwise = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(6, 1, name="deep")])
    pointwise = load_model(pointwise, preprocessing="tf", dtype="float32")
    run = {"parameterization": pixels((40, 57), noise=0.1, learning_rate=0.05), "n_steps": 6}
    whole, tiled, small = (
        optimize(pointwise, losses.activation_norm("deep"), descent=Descent("normalized", tile_size=tile), **run)
        for tile in (None, 16, 64)
    )
    np.testing.assert_allclose(tiled.images, whole.images, atol=1e-5)
    np.testing.assert_array_equal(small.images, whole.images)
    assert np.abs(whole.images - 0.5).max() > 0.3
    assert tiled.history[-1]["activation_norm:deep"] == pytest.approx(
        whole.history[-1]["activation_norm:deep"], rel=0.1
    )


def test_the_network_sees_no_more_than_a_tile(model, monkeypatch):
    sizes = []
    forward = model.forward

    def watched(*layers, **settings):
        computed = forward(*layers, **settings)
        return lambda images: sizes.append(tuple(images.shape[1:3])) or computed(images)

    monkeypatch.setattr(model, "forward", watched)
    optimize(
        model,
        losses.activation_norm("deep", 2),
        parameterization=pixels((50, 70)),
        n_steps=2,
        descent=Descent("normalized", tile_size=32),
    )
    assert set(sizes) == {(32, 32)}


def test_tiles_lie_elsewhere_at_every_step_and_for_every_image(model, monkeypatch):
    offsets = []
    monkeypatch.setattr(
        programs, "tiles", lambda size, side, offset: offsets.append(offset) or tiles(size, side, offset)
    )
    for first_index in (0, 1):
        optimize(
            model,
            losses.activation_norm("deep"),
            parameterization=pixels((40, 40), first_index=first_index),
            n_steps=4,
            descent=Descent("normalized", tile_size=32),
        )
    assert len(set(offsets)) == 8


def test_what_means_certain_places_is_not_asked_of_tiles(model, toward_photo):
    run = {"parameterization": pixels((40, 40)), "n_steps": 1, "descent": Descent(tile_size=16)}
    with pytest.raises(InputError, match="match:conv mean places of the whole image"):
        optimize(model, toward_photo, **run)
    with pytest.raises(InputError, match="unit:deep"):
        optimize(model, losses.unit("deep", 0, (3, 4)), **run)
    optimize(model, losses.unit("deep", 0), **run)
    # An image that is one tile is whole.
    optimize(model, toward_photo, **{**run, "parameterization": pixels(), "descent": Descent(tile_size=16)})


def test_tiles_are_parts_of_pixels(model):
    with pytest.raises(InputError, match=r"parameterizations\.pixels"):
        optimize(model, losses.activation_norm("deep"), n_steps=1, descent=Descent(tile_size=8))
    with pytest.raises(InputError, match="at least 1"):
        Descent(tile_size=0)
