"""Images drawn place by place from photographs: known answers, nothing copied, image i depends on (seed, i) alone."""

from dataclasses import replace

import numpy as np
import pytest

from stochdeconv.errors import FileFormatError, InputError
from stochdeconv.sampling import collages
from stochdeconv.sampling.candidates import Candidates, Contexts
from stochdeconv.sampling.collages import draw_collage, pieces
from stochdeconv.sampling.exemplars import copying, exemplars_of_rows, sample_places, target_maps
from stochdeconv.sampling.overlaps import STRIDES
from stochdeconv.sampling.samplers import sample_targets
from stochdeconv.statistics.exemplars import Exemplars
from stochdeconv.statistics.patches import patch_starts, pyramid
from stochdeconv.statistics.places import Grid

SIZE = 48


@pytest.fixture(scope="module")
def model(landscape_model):
    return landscape_model


@pytest.fixture(scope="module")
def statistics(landscape_statistics):
    return landscape_statistics


@pytest.fixture(scope="module")
def targets(statistics):
    return sample_targets(statistics, n_images=3, seed=1)


@pytest.fixture(scope="module")
def drawn(model, statistics, targets):
    return sample_places(model, statistics, targets, seed=1)


def test_the_likest_place_is_the_place_itself_unless_its_photograph_is_left_out(model, statistics):
    contexts = Contexts.of(model, statistics)
    assert contexts.grid == Grid.of((24, 24), (SIZE, SIZE))
    own = contexts.candidates(contexts.keys[7], 20)
    np.testing.assert_array_equal(own.photographs[:, 0], 7)
    np.testing.assert_array_equal(own.places[:, 0], np.arange(24 * 24))
    assert own.distances[:, 0].max() < 1e-3 * np.median(own.distances)
    others = contexts.candidates(contexts.keys[7], 20, left_out=[7])
    assert 7 not in others.photographs
    assert np.all(np.diff(others.distances, axis=1) >= 0)
    # All distances, one by one.
    exact = ((contexts.keys[7][31] - contexts.keys) ** 2).sum(axis=-1)
    np.testing.assert_allclose(exact[others.photographs[31], others.places[31]], others.distances[31], atol=1e-4)
    best = np.sort(np.partition(exact, 1, axis=1)[:, :2][np.arange(50) != 7].ravel())[:20]
    np.testing.assert_allclose(others.distances[31], best, atol=1e-4)


def test_a_photograph_comes_back_where_every_exemplar_is_it():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    picture = np.stack([x, y, 0.5 + 0.4 * np.sin(20 * x * y)], axis=-1)
    pixels = np.broadcast_to((255 * picture).astype(np.uint8), (20, SIZE, SIZE, 3))
    grid = Grid.of((12, 12), (SIZE, SIZE))
    place = np.repeat(np.arange(144)[:, None], 20, axis=1)
    candidates = Candidates(np.broadcast_to(np.arange(20), place.shape), place, np.ones(place.shape, np.float32))
    colors = np.full((6, 6, 3), 0.5, np.float32)
    collage = draw_collage(pyramid(pixels), grid, candidates, colors, temperature=1.0, rng=rng)
    assert np.abs(collage.image - pixels[0] / 255).mean() < 0.02
    assert np.abs(collage.sources[..., 1:]).max() <= 4


def test_image_i_depends_on_seed_and_i_alone(model, statistics, targets, drawn):
    last = sample_places(model, statistics, targets.take(slice(2, 3)), seed=1, first_index=2)
    np.testing.assert_array_equal(last.pixels[0], drawn.pixels[2])
    np.testing.assert_array_equal(last.sources[0], drawn.sources[2])
    other = sample_places(model, statistics, targets.take(slice(2, 3)), seed=2, first_index=2)
    assert np.mean(other.sources[0] != last.sources[0]) > 0.3  # another draw of the same scene


def test_the_scene_is_the_rows_and_its_photograph_is_left_out(statistics, targets, drawn):
    starts = exemplars_of_rows(statistics, targets.source_rows)
    np.testing.assert_array_equal(statistics.exemplars.rows[starts], targets.source_rows)
    for image, start, sources in zip(drawn.pixels, starts, drawn.sources, strict=True):
        assert start not in sources[..., 0]
        likeness = [np.abs(image.astype(float) - other).mean() for other in statistics.exemplars.pixels]
        assert np.argsort(likeness).tolist().index(start) < 10


def test_the_scenes_photograph_gives_nothing_even_if_nobody_is_held_back(model, statistics, targets, monkeypatch):
    for penalty in ("_PENALTY", "_PENALTY_OF_PIECES"):
        monkeypatch.setattr(collages, penalty, 0.0)
    one = targets.take(slice(0, 1))
    (start,) = exemplars_of_rows(statistics, one.source_rows)
    assert start not in sample_places(model, statistics, one, seed=1).sources[..., 0]


def test_no_photograph_has_much_of_an_image(drawn):
    owed = copying(drawn.sources)
    assert owed["largest_share"].max() <= 0.15
    assert owed["largest_piece"].max() <= 0.05


def test_shares_and_pieces_are_counted():
    sources = np.zeros((4, 5, 3), np.int16)
    sources[..., 0] = np.arange(20).reshape(4, 5)
    sources[0, :3] = sources[1, 0] = (30, 2, 2)
    sources[3, 4] = (30, 2, 2)  # elsewhere: the same photograph and offset, another piece
    sources[2, 0] = (30, 2, 5)  # touches, at another offset
    sources[0, 3] = (30, 2, 4)  # moved by so little that no joint is seen
    owed = copying(sources[None])
    assert owed["largest_share"].tolist() == [7 / 20]
    assert owed["largest_piece"].tolist() == [5 / 20]
    assert len(np.unique(pieces(sources))) == 16


def test_maps_are_the_photographs_at_the_places_they_are_from(model, statistics, targets):
    n = len(patch_starts(SIZE, STRIDES[0]))
    sources = np.zeros((1, n, n, 3), np.int16)
    sources[..., 0] = 9
    whole = replace(targets.take(slice(0, 1)), fields={"sources": sources})
    layers = ["low", "middle", "fine"]
    photograph = model.activations(statistics.exemplars.pixels[[9]] / np.float32(255), layers)
    for name, maps in target_maps(model, statistics, whole, layers).items():
        np.testing.assert_allclose(maps, photograph[name], atol=1e-5)
    moved = replace(whole, fields={"sources": sources + np.array([0, 4, -8], np.int16)})
    maps = target_maps(model, statistics, moved, layers)
    for name, step in (("low", 1), ("middle", 2), ("fine", 4)):
        down, across = 4 // step, 8 // step
        np.testing.assert_allclose(maps[name][:, :-down, across:], photograph[name][:, down:, :-across], atol=1e-5)
    # Halfway between two positions, rows that follow each other still do.
    moved = replace(whole, fields={"sources": sources + np.array([0, 2, 0], np.int16)})
    halfway = target_maps(model, statistics, moved, layers)["fine"]
    np.testing.assert_allclose(halfway[:, :-1], photograph["fine"][:, 1:], atol=1e-5)


def test_where_there_is_too_little_it_is_said(model, statistics, targets):
    held = statistics.exemplars
    few = Exemplars(held.pixels[:5], held.rows[:5])
    for exemplars, message in (
        (None, "hold none: collect with some hundreds"),
        (few, "at least 32 photographs.*hold 5"),
    ):
        fields = {**statistics.fields, "exemplars": exemplars}
        with pytest.raises(InputError, match=message):
            sample_places(model, replace(statistics, fields=fields), targets)
    for damaged in (Exemplars(held.pixels[:, :24], held.rows), Exemplars(held.pixels, held.rows + 10)):
        with pytest.raises(FileFormatError, match="the file is damaged, collect anew"):
            sample_places(model, statistics.with_fields(exemplars=damaged), targets)
    with pytest.raises(InputError, match="told apart by a deep layer"):
        sample_places(model, statistics.with_fields(facets=None), targets)


def test_scenes_are_those_of_rows(model, statistics):
    targets = sample_targets(statistics, n_images=2, row_weight=0.0)
    with pytest.raises(InputError, match="these targets follow none"):
        sample_places(model, statistics, targets)
