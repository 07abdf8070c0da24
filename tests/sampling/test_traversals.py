"""Paths through the targets of a class, against regression by least squares and the samples at their ends."""

import dataclasses

import numpy as np
import pytest
from made_statistics import make_statistics, markov_latents, rows_of, rows_of_targets

from stochdeconv.errors import InputError, LayerNotFoundError
from stochdeconv.sampling.samplers import sample_targets
from stochdeconv.sampling.traversals import component_targets, find_component, spaced_deviations, walk_targets

SAMPLING = {"sampler": "bootstrap", "temperature": 1.0, "seed": 3, "row_weight": 0.9}


@pytest.fixture(scope="module")
def statistics():
    latents, logit = markov_latents(300, np.random.default_rng(0))
    return make_statistics(latents, logit)


def test_the_score_goes_where_it_is_sent_and_all_else_follows_by_regression(statistics):
    deviations = np.array([-2.0, 0.0, 0.5, 2.0])
    targets = component_targets(statistics, "shallow:1", deviations)
    score = statistics["shallow"].scores[:, 1].astype(np.float64)
    target = score.mean() + deviations * score.std(ddof=1)
    np.testing.assert_allclose(targets.layers["shallow"].scores[:, 1], target, rtol=1e-5)
    actual = {**rows_of_targets(targets), "logit": targets.logit[:, None]}
    rows = {**rows_of(statistics), "logit": statistics.logits[:, None]}
    rows["edges"] = np.stack([statistics.log_gradient_mean, statistics.log_gradient_std], axis=1)
    actual["edges"] = np.stack([targets.log_gradient_mean, targets.log_gradient_std], axis=1)
    design = np.stack([np.ones_like(score), score], axis=1)
    for name, values in rows.items():
        coefficients = np.linalg.lstsq(design, values.astype(np.float64), rcond=None)[0]
        expected = np.stack([np.ones_like(target), target], axis=1) @ coefficients
        np.testing.assert_allclose(actual[name], expected, rtol=1e-4, atol=1e-4, err_msg=name)
        assert np.abs(coefficients[1]).max() * score.std() > 0.1 * values.std(axis=0).max(), name  # something follows
    assert np.all(targets.source_rows == -1)


def test_facets_follow_too(statistics):
    facets = np.random.default_rng(1).normal(size=(statistics.n_rows, 2, 4))
    facets[:, 1, 2] += statistics["block/deep"].scores[:, 0]
    shallow = statistics["shallow"].with_fields(facet_means=facets)
    names = dataclasses.replace(statistics, layers={**statistics.layers, "shallow": shallow})
    score = statistics["block/deep"].scores[:, 0]
    actual = component_targets(names, "block/deep:0", np.array([0.0, 2.0])).layers["shallow"].facet_means
    np.testing.assert_allclose(actual[1, 1, 2] - actual[0, 1, 2], 2 * score.std(), rtol=0.1)


def test_deviations_are_equally_spaced_about_the_mean():
    assert spaced_deviations(1.0).tolist() == [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert spaced_deviations(0.5, n_values=3).tolist() == [-1.0, 0.0, 1.0]
    with pytest.raises(InputError, match="at least 2 images"):
        spaced_deviations(1.0, n_values=1)
    with pytest.raises(InputError, match="temperature= is a finite number, at least 0; got -1"):
        spaced_deviations(-1.0)


@pytest.mark.parametrize(
    ("component", "message"),
    [
        ("shallow", "component 'shallow' is not LAYER:J"),
        (":1", "is not LAYER:J"),
        ("shallow:", "is not LAYER:J"),
        ("shallow:-1", "is not LAYER:J"),
        ("shallow:1.5", "is not LAYER:J"),
        ("shallow:²", "is not LAYER:J"),
        ("shallow:3", "'shallow' has 3 components, 0 to 2; got 3"),
        ("shalow:0", "no layer 'shalow'; closest: 'shallow'; all of them: input, shallow, block/deep"),
    ],
)
def test_what_is_no_component_is_refused(statistics, component, message):
    with pytest.raises((InputError, LayerNotFoundError)) as error:
        component_targets(statistics, component, np.zeros(2))
    assert message in str(error.value)


def test_a_component_that_does_not_vary_is_refused(statistics):
    still = statistics["shallow"].with_fields(scores=np.ones_like(statistics["shallow"].scores))
    without = statistics["shallow"].with_fields(components=np.zeros((0, 16), np.float32))
    for layer, message in ((still, "the same in all 300 rows"), (without, "no components")):
        with pytest.raises(InputError, match=message):
            find_component(dataclasses.replace(statistics, layers={"shallow": layer}), "shallow:0")


def test_a_layers_name_may_hold_a_colon(statistics):
    layers = {"model:0/conv:0": statistics["shallow"]}
    assert find_component(dataclasses.replace(statistics, layers=layers), "model:0/conv:0:2") == ("model:0/conv:0", 2)


@pytest.mark.parametrize("sampler", ["bootstrap", "chain"])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_a_walk_begins_and_ends_at_the_samples(statistics, sampler, temperature):
    sampling = SAMPLING | {"sampler": sampler, "temperature": temperature}
    ends = sample_targets(statistics, n_images=2, **sampling).to_arrays()
    for n_frames in (2, 7):
        walk = walk_targets(statistics, n_frames=n_frames, **sampling)
        assert walk.n_images == n_frames
        for name, values in walk.to_arrays().items():
            np.testing.assert_array_equal(values[[0, -1]], ends[name], err_msg=name)
    assert np.all(walk.source_rows[1:-1] == -1)


def test_on_the_way_a_walk_is_as_far_from_the_mean_as_at_its_ends(statistics):
    squared = {0: [], 4: [], 8: []}
    for seed in range(60):
        actual = rows_of_targets(walk_targets(statistics, n_frames=9, **SAMPLING | {"seed": seed}))
        for frame, parts in squared.items():
            whole = [
                (actual[name][frame] - rows.mean(axis=0)) / rows.std(axis=0)
                for name, rows in rows_of(statistics).items()
            ]
            parts.append(np.mean(np.concatenate(whole) ** 2))
    start, middle, end = (np.mean(parts) for parts in squared.values())
    assert middle == pytest.approx((start + end) / 2, rel=0.2)  # a straight line would have half of it


def test_neighbours_on_a_walk_are_nearer_than_its_ends(statistics):
    actual = walk_targets(statistics, n_frames=9, **SAMPLING).layers["shallow"].scores
    steps = np.linalg.norm(np.diff(actual, axis=0), axis=1)
    assert steps.max() < 0.5 * np.linalg.norm(actual[-1] - actual[0])
    with pytest.raises(InputError, match="at least 2 frames"):
        walk_targets(statistics, n_frames=1, **SAMPLING)
