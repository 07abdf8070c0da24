"""Scenes put together from several rows: (seed, i) alone, borders where contexts go together, layouts that go along."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator
from threadpoolctl import threadpool_info

from stochdeconv.errors import InputError
from stochdeconv.sampling import scenes
from stochdeconv.sampling.samplers import sample_deviations, sample_targets
from stochdeconv.sampling.scenes import Neighbours, likest_rows, sample_scenes, scene_contexts, scene_map
from stochdeconv.sampling.targets import LayerTarget
from stochdeconv.statistics.layout import layout_maps
from stochdeconv.statistics.places import Grid


@pytest.fixture(scope="module")
def statistics(landscape_statistics):
    return landscape_statistics


@pytest.fixture(scope="module")
def targets(statistics):
    return sample_scenes(statistics, n_images=6, seed=3)


def alone(statistics, row):
    """The scene that is a row's own throughout."""
    return np.full(statistics.contexts.shape[1], row)


def test_scene_i_depends_on_seed_and_i_alone(statistics, targets):
    last = sample_scenes(statistics, n_images=2, seed=3, first_index=4)
    ours, whole = last.to_arrays(), targets.take(slice(4, 6)).to_arrays()
    assert ours.keys() == whole.keys()
    for key, values in ours.items():
        np.testing.assert_array_equal(values, whole[key], err_msg=key)
    other = sample_scenes(statistics, n_images=2, seed=4, first_index=4)
    assert (other.scenes != last.scenes).any()


def test_a_scene_is_of_several_rows_and_of_none_alone(statistics, targets):
    n_places = statistics.contexts.shape[1]
    assert targets.scenes.shape == (6, n_places) and targets.scenes.dtype == np.int32
    assert (targets.source_rows == -1).all()
    shares = [np.bincount(scene, minlength=statistics.n_rows) / n_places for scene in targets.scenes]
    assert all(2 <= np.count_nonzero(share) <= 12 for share in shares)
    assert np.mean([share.max() for share in shares]) < 0.6


@pytest.mark.parametrize("sampler", ["chain", "joint", "bootstrap"])
def test_a_scene_is_laid_out_as_what_was_sampled(statistics, sampler):
    """Nearer to the sample it follows than to those of other images, and than any one of the rows it is made of, on average."""
    options = {"n_images": 6, "seed": 3, "temperature": 1.2, "row_weight": 0.8, "first_index": 2}
    sampled = sample_targets(statistics, sampler=sampler, **options)
    own = sample_scenes(statistics, sampler=sampler, **options)

    def apart(first, second):
        return np.mean(
            [
                ((first(name)[:, None] - second(name)) ** 2).sum(axis=-1) / layer.scores.var(axis=0).sum()
                for name, layer in statistics.items()
            ],
            axis=0,
        )

    scores = apart(lambda name: own.layers[name].scores, lambda name: sampled.layers[name].scores)
    assert (scores.argmin(axis=1) == np.arange(6)).mean() > 0.8
    rows = apart(lambda name: sampled.layers[name].scores, lambda name: statistics[name].scores)
    of_rows = [distances[np.unique(scene)].mean() for distances, scene in zip(rows, own.scenes, strict=True)]
    assert np.diagonal(scores).mean() < 0.8 * np.mean(of_rows)


def test_what_lays_scenes_out_is_sampled_as_is_asked(statistics, monkeypatch):
    seen = {}

    def watched(statistics, **options):
        seen.update(options)
        return sample_deviations(statistics, **options)

    monkeypatch.setattr(scenes, "sample_deviations", watched)
    options = {"sampler": "joint", "n_images": 3, "temperature": 0.6, "seed": 2, "first_index": 5, "row_weight": 0.3}
    sample_scenes(statistics, **options)
    assert seen == options


def test_borders_lie_where_contexts_go_together(statistics, targets):
    """Neighbours across a border are as seldom strangers as can be: compared with the same rows cut at random."""
    grid = tuple(map(int, statistics.local.grid))
    beside = {
        (int(a), int(b))
        for contexts in statistics.contexts.reshape(-1, *grid)
        for a, b in zip(contexts[:, :-1].ravel(), contexts[:, 1:].ravel(), strict=True)
    }

    def strangers(contexts):
        pairs = zip(contexts[..., :-1].ravel(), contexts[..., 1:].ravel(), strict=True)
        return np.mean([(int(a), int(b)) not in beside for a, b in pairs])

    own = scene_contexts(statistics, targets).reshape(-1, *grid)
    rng = np.random.default_rng(0)
    shuffled = np.stack(
        [
            np.take_along_axis(
                statistics.contexts[np.unique(scene)].reshape(-1, *grid),
                rng.integers(len(np.unique(scene)), size=(1, *grid)),
                axis=0,
            )[0]
            for scene in targets.scenes
        ]
    )
    assert strangers(own) < 0.02
    assert strangers(own) < 0.2 * strangers(shuffled)


def test_what_goes_with_what_is_counted(statistics):
    neighbours = Neighbours.of(statistics)
    maps = neighbours.contexts
    assert [(axis, apart) for axis, apart, _ in neighbours.affinities] == [(0, 1), (0, 3), (1, 1), (1, 3)]
    shares = np.bincount(maps.ravel()) / maps.size
    for axis, apart, affinity in neighbours.affinities:
        first = maps[:, :-apart] if axis == 0 else maps[:, :, :-apart]
        second = maps[:, apart:] if axis == 0 else maps[:, :, apart:]
        for a, b in ((maps[0, 0, 0], maps[0, 5, 5]), (maps[3, 2, 1], maps[3, 2, 2]), (maps[7, 1, 1], maps[7, 2, 1])):
            together, by_chance = np.sum((first == a) & (second == b)), shares[a] * shares[b] * first.size
            assert affinity[a, b] == pytest.approx(np.log((together + 2) / (by_chance + 2)), rel=1e-5)


def test_rows_that_are_laid_out_alike_are_found(statistics):
    """A row's own layout, and other rows' by how far from it they are at each place."""
    targets = sample_targets(statistics, sampler="bootstrap", n_images=1)
    layers = {name: replace_scores(targets.layers[name], layer.scores[[7]]) for name, layer in statistics.items()}
    rows, likeness = likest_rows(statistics, replace(targets, layers=layers))
    assert rows[0] == 7 and len(set(rows)) == 12 and likeness.shape == (12, *statistics.local.grid)
    assert np.abs(likeness[0]).max() < 1e-6 and (likeness[1:].mean(axis=(1, 2)) < -0.05).all()
    # The most alike first.
    apart = np.mean(
        [
            ((layer.scores[rows] - layer.scores[7]) ** 2).sum(axis=1) / layer.scores.var(axis=0).sum()
            for layer in statistics.values()
        ],
        axis=0,
    )
    assert (np.diff(apart) >= 0).all()
    grid, expected = statistics.local.grid_in((48, 48)), 0
    for layer in statistics.values():
        maps = layout_maps(layer, layer.scores)
        distances = ((maps[rows] - maps[7]) ** 2).sum(axis=-1) / maps.var(axis=0).sum(axis=-1).mean()
        middles = [(np.arange(n) + 0.5) * 48 / n - 0.5 for n in layer.layout_shape[:2]]
        between = np.stack(np.meshgrid(*(grid.centers(axis) for axis in (0, 1)), indexing="ij"), axis=-1)
        of_rows = [
            RegularGridInterpolator(middles, of_row, bounds_error=False, fill_value=None)(between)
            for of_row in distances
        ]
        expected = expected + np.array(of_rows) / len(statistics)
    inner = (slice(None), slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(-likeness[inner], expected[inner], rtol=1e-2, atol=1e-6)


def test_a_layer_that_never_varies_tells_no_rows_apart(statistics):
    still = {name: layer.with_fields(scores=np.ones_like(layer.scores)) for name, layer in statistics.items()}
    held = replace(statistics, layers={**statistics.layers, "low": still["low"]})
    target = sample_targets(held, n_images=1)
    layers = {**target.layers, "low": replace_scores(target.layers["low"], np.ones_like(still["low"].scores[:1]))}
    rows, likeness = likest_rows(held, replace(target, layers=layers))
    of_others = replace(statistics, layers={name: statistics[name] for name in statistics if name != "low"})
    expected_rows, expected = likest_rows(of_others, target)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(likeness, expected)
    # Nor is anything divided by nothing where none varies.
    rows, likeness = likest_rows(
        replace(statistics, layers=still),
        replace(
            target,
            layers={name: replace_scores(target.layers[name], layer.scores[:1]) for name, layer in still.items()},
        ),
    )
    assert len(set(rows)) == 12 and (likeness == 0).all()


def test_the_row_that_a_bootstrap_starts_from_is_left_out(statistics):
    options = {"sampler": "bootstrap", "n_images": 6, "seed": 1, "row_weight": 1.0}
    first = sample_targets(statistics, **options).source_rows
    for row, scene in zip(first, sample_scenes(statistics, **options).scenes, strict=True):
        assert row >= 0 and row not in scene
    # Of few rows, all others.
    of_few = [(statistics[name], name) for name in statistics]
    few = replace(statistics, layers={name: layer.with_fields(scores=layer.scores[:5]) for layer, name in of_few})
    target = sample_targets(statistics, sampler="bootstrap", n_images=1)
    rows, _ = likest_rows(few, replace(target, source_rows=np.array([3])))
    assert sorted(rows) == [0, 1, 2, 4]


def replace_scores(target, scores):
    return LayerTarget(fields={**target.fields, "scores": scores})


def test_places_are_drawn_by_how_they_go_together(monkeypatch):
    """Four places and two rows, at one heat and with no liking: all sixteen scenes as often as the field has it."""
    for name, value in (("_MOOD", 0.0), ("_HOT", 1.0), ("_COLD", 1.0), ("_N_SWEEPS", 12)):
        monkeypatch.setattr(scenes, name, value)
    rng = np.random.default_rng(0)
    affinities = [(axis, 1, rng.normal(0, 1.5, (8, 8)).astype(np.float32)) for axis in (0, 1)]
    contexts = np.arange(8).reshape(2, 2, 2)
    neighbours = Neighbours(contexts, affinities)
    likings = rng.normal(0, 0.5, (2, 2, 2))
    states = np.indices((2,) * 4).reshape(4, -1).T.reshape(-1, 2, 2)
    fits = []
    for state in states:
        own = np.take_along_axis(contexts, state[None], axis=0)[0]
        down, across = affinities[0][2], affinities[1][2]
        liked = np.take_along_axis(likings, state[None], axis=0).sum()
        fits.append(liked + down[own[0], own[1]].sum() + across[own[:, 0], own[:, 1]].sum())
    expected = np.exp(fits) / np.exp(fits).sum()
    rows = np.arange(2)
    drawn = [neighbours.put_together(rows, likings, np.random.default_rng(seed)).ravel() for seed in range(1000)]
    found = np.bincount(np.array(drawn) @ [8, 4, 2, 1], minlength=16) / 1000
    assert np.abs(found - expected).sum() / 2 < 0.08  # chance gives 0.04; half of the pairs left out, 0.3 and more


def test_a_row_likes_to_have_parts_that_lie_together():
    """Where nothing else tells rows apart, each has some of the places, in pieces; which, the seed decides."""
    neighbours = Neighbours(np.zeros((4, 20, 20), np.intp), [])
    rows, likings = np.arange(4), np.zeros((4, 20, 20))
    drawn = [neighbours.put_together(rows, likings, np.random.default_rng(seed)) for seed in range(60)]
    shares = np.mean([np.bincount(chosen.ravel(), minlength=4) / 400 for chosen in drawn], axis=0)
    assert (np.abs(shares - 0.25) < 0.08).all()
    assert np.mean([chosen[:, 1:] == chosen[:, :-1] for chosen in drawn]) > 0.8


def test_maps_and_targets_of_a_row_alone_are_that_row_s(statistics):
    for layer in statistics.values():
        drawn = scene_map(statistics, layer, alone(statistics, 7))
        np.testing.assert_array_equal(drawn, layout_maps(layer, layer.scores[[7]])[0])


def test_layouts_are_put_together_as_the_scene_is(statistics):
    """Left half of one row, right half of another."""
    rows, columns = map(int, statistics.local.grid)
    left = np.indices((rows, columns))[1].ravel() < columns / 2
    scene = np.where(left, 3, 9)
    layer = statistics["low"]
    drawn, (first, second) = scene_map(statistics, layer, scene), layout_maps(layer, layer.scores[[3, 9]])
    half = layer.layout_shape[1] // 2
    np.testing.assert_array_equal(drawn[:, : half - 1], first[:, : half - 1])
    np.testing.assert_array_equal(drawn[:, half + 1 :], second[:, half + 1 :])


def test_large_cells_show_what_their_places_do_on_average(statistics, monkeypatch):
    """Two cells by two over six places by six: of each cell the share of its places that are of the second row."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, (6, 6))
    monkeypatch.setattr(scenes, "layout_maps", lambda layer, scores: np.ones((1, 2, 2, 1)) * scores[:, :, None, None])
    layer = SimpleNamespace(layout_shape=(2, 2, 1), scores=np.array([[0.0], [1.0]]))
    expected = rows.reshape(2, 3, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(scene_map(statistics, layer, rows.ravel())[..., 0], expected)


@pytest.mark.parametrize(
    ("n_places", "n_pixels", "n_cells"), [(27, 224, 14), (27, 224, 7), (28, 224, 14), (14, 112, 7), (6, 48, 1)]
)
def test_cells_lie_where_their_places_do(monkeypatch, n_places, n_pixels, n_cells):
    """Rows that stand for how far across a place is: of each cell the mean is where its middle is, and not half a place beside it."""
    across = np.tile(np.arange(n_places), n_places)
    local = SimpleNamespace(grid_in=lambda size: Grid.of((n_places, n_places), size))
    held = SimpleNamespace(local=local, input_size=(n_pixels, n_pixels))
    layer = SimpleNamespace(layout_shape=(n_cells, n_cells, 1), scores=np.arange(n_places, dtype=float)[:, None])
    shape = (1, n_cells, n_cells, 1)
    monkeypatch.setattr(scenes, "layout_maps", lambda layer, scores: np.ones(shape) * scores[:, :, None, None])
    drawn = scene_map(held, layer, across)[..., 0]
    middles = (np.arange(n_cells) + 0.5) * n_pixels / n_cells - 0.5
    grid = Grid.of((n_places, n_places), (n_pixels, n_pixels))
    expected = np.clip((middles - grid.first[1]) / grid.step[1], 0, n_places - 1)
    inner = slice(1, -1) if n_cells > 2 else slice(None)  # at the border the last place stands for what lies beyond it
    np.testing.assert_allclose(drawn[:, inner], np.tile(expected[inner], (n_cells, 1)), atol=0.02)


def test_targets_of_a_row_alone_are_that_row_s(statistics, monkeypatch):
    monkeypatch.setattr(Neighbours, "put_together", lambda self, rows, likings, rng: np.zeros((6, 6), np.intp))
    monkeypatch.setattr(scenes, "likest_rows", lambda statistics, target: (np.array([7]), np.zeros((1, 6, 6))))
    targets = sample_scenes(statistics, n_images=1)
    for name, layer in statistics.items():
        atol = 1e-3 * layer.scores.std(axis=0).max()
        np.testing.assert_allclose(targets.layers[name].scores[0], layer.scores[7], atol=atol, err_msg=name)
        np.testing.assert_allclose(targets.layers[name].mean[0], layer.means[7], rtol=1e-4, atol=1e-5, err_msg=name)


def test_scores_are_those_of_the_scene(statistics):
    targets = sample_scenes(statistics, n_images=4, seed=5)
    for name, layer in statistics.items():
        for scene, scores in zip(targets.scenes, targets.layers[name].scores, strict=True):
            reached = layer.layout_mean.ravel() + scores @ layer.components
            drawn = scene_map(statistics, layer, scene).ravel()
            # What is left is what the components do not see.
            assert abs(layer.components @ (drawn - reached)).max() < 1e-3 * layer.scores.std(axis=0).max(), name


def test_other_descriptors_are_the_rows_mean(statistics):
    targets = sample_scenes(statistics, n_images=4, seed=5)
    layer = statistics["middle"]
    for scene, mean in zip(targets.scenes, targets.layers["middle"].mean, strict=True):
        own = layer.means[scene].mean(axis=0)
        np.testing.assert_allclose(mean, own, rtol=1e-3, atol=1e-4)


def test_scenes_do_not_depend_on_the_number_of_threads(statistics, monkeypatch):
    """How sums are rounded does, and with it which row is most alike."""
    seen = []
    draw = scenes.scene_map

    def watched(*arguments):
        seen.append(max(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"))
        return draw(*arguments)

    monkeypatch.setattr(scenes, "scene_map", watched)
    sample_scenes(statistics, n_images=2)
    assert seen == [1] * (2 * len(statistics))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"settings": {"n_contexts": 0}},
            r"50 images hold none: they were collected without contexts \(n_contexts=0, or by an older version\)",
        ),
        ({"settings": {}}, "without contexts"),
        ({"n_images": 15}, "15 images hold none: collect again, at least 16 images"),
        ({}, r"of their layers \(low, middle, fine\) none has a position for every 9 pixels of 48x48"),
    ],
)
def test_what_is_missing_is_said(statistics, changes, expected):
    with pytest.raises(InputError, match=expected):
        sample_scenes(replace(statistics.with_fields(local=None), **changes))
