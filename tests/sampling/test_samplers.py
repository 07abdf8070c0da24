"""Samplers against data whose joint and conditional moments are known."""

import numpy as np
import pytest
from made_statistics import LATENTS, N_CHANNELS, make_statistics, markov_latents, rows_of, rows_of_targets

from stochdeconv.cli.flags import read_fields
from stochdeconv.errors import InputError
from stochdeconv.methods.class_images import GenerateSettings
from stochdeconv.sampling.gaussians import Link, PrincipalGaussian, positive_root
from stochdeconv.sampling.samplers import PLACE_BY_PLACE, SAMPLERS, Targets, sample_targets


@pytest.fixture(scope="module")
def markov():
    latents, logit = markov_latents(1500, np.random.default_rng(0))
    return make_statistics(latents, logit)


def standardised(values, reference):
    return (values - reference.mean(axis=0)) / reference.std(axis=0)


def cross_covariance(a, b):
    return (a - a.mean(axis=0)).T @ (b - b.mean(axis=0)) / (len(a) - 1)


def cross_correlation(a, b):
    return np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_moments_within_every_layer_are_those_of_the_rows(markov, sampler):
    targets = sample_targets(markov, sampler=sampler, n_images=3000, seed=1)
    real, sampled = rows_of(markov), rows_of_targets(targets)
    for name, rows in real.items():
        a, b = standardised(rows, rows), standardised(sampled[name], rows)
        np.testing.assert_allclose(b.mean(axis=0), 0.0, atol=0.09)
        difference = np.linalg.norm(np.cov(b.T) - np.cov(a.T)) / np.linalg.norm(np.cov(a.T))
        assert difference < 0.1, f"{sampler} {name}: {difference}"
    assert targets.logit.mean() == pytest.approx(markov.logits.mean(), abs=0.15)
    assert targets.logit.std() == pytest.approx(markov.logits.std(), rel=0.07)
    assert targets.log_gradient_mean.std() == pytest.approx(markov.log_gradient_mean.std(), rel=0.07)
    assert targets.log_gradient_std.mean() == pytest.approx(markov.log_gradient_std.mean(), abs=0.01)


@pytest.mark.parametrize("sampler", ["chain", "joint", "bootstrap"])
def test_moments_between_layers_are_those_of_the_rows(markov, sampler):
    targets = sample_targets(markov, sampler=sampler, n_images=3000, seed=2)
    real, sampled = rows_of(markov), rows_of_targets(targets)
    for below, above in [("shallow", "block/deep"), ("input", "shallow"), ("input", "block/deep")]:
        a = cross_covariance(standardised(real[below], real[below]), standardised(real[above], real[above]))
        b = cross_covariance(standardised(sampled[below], real[below]), standardised(sampled[above], real[above]))
        assert np.linalg.norm(a) > 2.0  # there is something to keep
        assert np.linalg.norm(a - b) / np.linalg.norm(a) < 0.15, f"{sampler} {below} {above}"
    # the class neuron governs the deepest layer, the colours govern the edges
    for x, y, rows, values in [
        (targets.logit, sampled["block/deep"], markov.logits, real["block/deep"]),
        (targets.log_gradient_mean, sampled["input"], markov.log_gradient_mean, real["input"]),
    ]:
        expected = [np.corrcoef(rows, column)[0, 1] for column in values.T]
        actual = [np.corrcoef(x, column)[0, 1] for column in y.T]
        assert np.abs(expected).max() > 0.5
        np.testing.assert_allclose(actual, expected, atol=0.08)


def test_chain_has_the_conditional_mean_of_the_layer_above(markov):
    targets = sample_targets(markov, sampler="chain", n_images=3000, seed=3)
    real, sampled = rows_of(markov), rows_of_targets(targets)
    # Three latents are linear in the scores of a layer: the regression on them is the true conditional mean.
    for below, above in [("shallow", "block/deep"), ("input", "shallow")]:
        slopes = []
        for part in (real, sampled):
            x, y = part[above][:, -LATENTS:], part[below][:, -LATENTS:]
            x, y = x - x.mean(axis=0), y - y.mean(axis=0)
            slopes.append(np.linalg.lstsq(x, y, rcond=None)[0])
        np.testing.assert_allclose(slopes[1], slopes[0], atol=0.08)


def test_a_chain_follows_no_single_row(markov, monkeypatch):
    drawn = []
    similar_row = Link.similar_row

    def watched(link, above, rng):
        drawn.append(similar_row(link, above, rng))
        return drawn[-1]

    monkeypatch.setattr(Link, "similar_row", watched)
    sample_targets(markov, sampler="chain", n_images=50, row_weight=1.0)
    chains = np.array(drawn).reshape(50, -1)
    assert np.mean([len(set(chain)) for chain in chains]) > 0.8 * chains.shape[1]


def test_a_link_draws_among_the_rows_that_look_alike():
    rng = np.random.default_rng(0)
    above = rng.normal(size=(300, 2))
    link = Link.fit(rng.normal(size=(300, 3)), above)
    nearest = np.argsort(((above - above[7]) ** 2).sum(axis=1))[:10]
    drawn = {link.similar_row(above[7], rng) for _ in range(300)}
    assert drawn == set(nearest.tolist())


def test_chain_knows_the_layer_above_alone_and_joint_knows_all():
    rng = np.random.default_rng(4)
    deep, shallow = rng.normal(size=(2, 1200, LATENTS))
    statistics = make_statistics([deep + 0.2 * rng.normal(size=deep.shape), shallow, deep], deep[:, 0])
    norms = {}
    for sampler in ("chain", "joint"):
        sampled = rows_of_targets(sample_targets(statistics, sampler=sampler, n_images=2000))
        norms[sampler] = np.abs(cross_correlation(sampled["input"], sampled["block/deep"])).max()
    assert norms["joint"] > 0.8
    assert norms["chain"] < 0.12


def test_independent_layers_do_not_know_each_other(markov):
    sampled = rows_of_targets(sample_targets(markov, sampler="independent", n_images=3000))
    for a, b in [("shallow", "block/deep"), ("input", "shallow")]:
        assert np.abs(cross_correlation(sampled[a], sampled[b])).max() < 0.09


def test_bootstrap_stays_near_its_row_and_uses_every_row_once(markov):
    targets = sample_targets(markov, sampler="bootstrap", n_images=markov.n_rows, row_weight=0.8)
    assert sorted(targets.source_rows) == list(range(markov.n_rows))
    real, sampled = rows_of(markov), rows_of_targets(targets)
    for name, rows in real.items():
        near = rows[targets.source_rows]
        correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(near.T, sampled[name].T, strict=True)]
        np.testing.assert_allclose(correlation, 0.8, atol=0.05)
        np.testing.assert_allclose(sampled[name].std(axis=0), rows.std(axis=0), rtol=0.06)


def test_bootstrap_of_weight_one_is_the_real_row_where_that_is_typical(markov):
    targets = sample_targets(markov, sampler="bootstrap", n_images=200, row_weight=1.0)
    sampled, real = rows_of_targets(targets)["block/deep"], rows_of(markov)["block/deep"][targets.source_rows]
    same = np.isclose(sampled, real, atol=1e-3).all(axis=1)
    assert 0.88 < same.mean() < 1.0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_target_depends_on_seed_and_index_alone(markov, sampler):
    whole = sample_targets(markov, sampler=sampler, n_images=6, seed=7).to_arrays()
    pieces = [
        sample_targets(markov, sampler=sampler, n_images=n_images, seed=7, first_index=first).to_arrays()
        for first, n_images in [(0, 1), (1, 3), (4, 2)]
    ]
    other = sample_targets(markov, sampler=sampler, n_images=6, seed=8).to_arrays()
    for key, values in whole.items():
        np.testing.assert_array_equal(values, np.concatenate([piece[key] for piece in pieces]), err_msg=key)
        if key != "source_rows":
            assert not np.isclose(values, other[key]).any()
            assert len(np.unique(values.reshape(6, -1), axis=0)) == 6


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_temperature_multiplies_deviations(markov, sampler):
    real = rows_of(markov)
    cold, warm, hot = (
        rows_of_targets(sample_targets(markov, sampler=sampler, n_images=5, temperature=t)) for t in (0.0, 1.0, 2.0)
    )
    for name, rows in real.items():
        mean = rows.mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(cold[name], np.broadcast_to(mean, cold[name].shape), atol=1e-4)
        np.testing.assert_allclose(hot[name] - mean, 2 * (warm[name] - mean), atol=1e-3)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("n_rows", [2, 3, 5, 12])
def test_few_rows_give_finite_varied_targets(sampler, n_rows):
    latents, logit = markov_latents(n_rows, np.random.default_rng(n_rows))
    targets = sample_targets(make_statistics(latents, logit), sampler=sampler, n_images=4)
    for key, values in targets.to_arrays().items():
        assert np.isfinite(values).all(), key
        if key != "source_rows":
            assert np.ptp(values, axis=0).max() > 0, key


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_row_is_refused(sampler):
    latents, logit = markov_latents(1, np.random.default_rng(1))
    with pytest.raises(InputError, match=r"hold 1 image; .* at least 2"):
        sample_targets(make_statistics(latents, logit), sampler=sampler)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_targets_are_complete(markov, sampler):
    targets = sample_targets(markov, sampler=sampler, n_images=2)
    assert list(targets.layers) == ["input", "shallow", "block/deep"]
    for name, layer in targets.layers.items():
        n_channels = 3 if name == "input" else N_CHANNELS
        assert layer.mean.shape == layer.std.shape == (2, n_channels)
        assert layer.scores.shape == (2, LATENTS)
        assert (layer.std >= 0).all()
    for key, values in targets.to_arrays().items():
        assert values.dtype == (np.int64 if key == "source_rows" else np.float32), key


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_without_class_there_is_no_logit(sampler):
    latents, _ = markov_latents(50, np.random.default_rng(1))
    targets = sample_targets(make_statistics(latents), sampler=sampler, n_images=3)
    assert targets.logit is None
    assert "logit" not in targets.to_arrays()
    assert Targets.from_arrays(targets.to_arrays()).logit is None


def test_chain_logit_stays_in_the_range_of_the_class(markov):
    skewed = np.exp(np.random.default_rng(0).normal(size=200))
    latents, _ = markov_latents(200, np.random.default_rng(1))
    logit = sample_targets(make_statistics(latents, skewed), sampler="chain", n_images=2000).logit
    assert skewed.min() <= logit.min()
    assert logit.max() <= skewed.max()
    np.testing.assert_allclose(np.quantile(logit, [0.1, 0.5, 0.9]), np.quantile(skewed, [0.1, 0.5, 0.9]), rtol=0.15)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_never_varies_stays_as_it_is(sampler):
    latents, logit = markov_latents(40, np.random.default_rng(1))
    latents[2] = np.zeros_like(latents[2])
    targets = sample_targets(make_statistics(latents, logit), sampler=sampler, n_images=3)
    np.testing.assert_allclose(targets.layers["block/deep"].mean, 5.0)
    assert np.ptp(targets.layers["shallow"].mean) > 0


def test_targets_survive_a_file(markov, tmp_path):
    targets = sample_targets(markov, n_images=3)
    np.savez(tmp_path / "targets.npz", **targets.to_arrays())
    with np.load(tmp_path / "targets.npz") as arrays:
        again = Targets.from_arrays(arrays)
    assert list(again.layers) == list(targets.layers)
    for key, values in targets.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[key], values)
    part = targets.take(slice(1, 3))
    assert part.n_images == 2
    np.testing.assert_array_equal(part.layers["block/deep"].scores, targets.layers["block/deep"].scores[1:])
    np.testing.assert_array_equal(part.logit, targets.logit[1:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampler": "chian"}, "no sampler 'chian'; closest: 'chain'; there are chain, joint, bootstrap, independent"),
        ({"n_images": 0}, "n_images= is a whole number of at least 1; got 0"),
        ({"temperature": -1.0}, "temperature= is a finite number, at least 0; got -1.0"),
        ({"temperature": float("nan")}, "temperature= is a finite number, at least 0; got nan"),
        ({"seed": -1}, "seed= is a whole number of at least 0; got -1"),
        ({"row_weight": 1.5}, "row_weight= is a number from 0 (a joint draw) to 1 (a real row); got 1.5"),
    ],
)
def test_wrong_arguments_are_named(markov, arguments, message):
    with pytest.raises(InputError) as error:
        sample_targets(markov, **arguments)
    assert message in str(error.value)


# The fitted pieces ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [6, 30, 400])
def test_draws_of_a_principal_gaussian_have_the_covariance_of_the_rows(n_rows):
    rng = np.random.default_rng(n_rows)
    rows = rng.normal(size=(n_rows, 8)) @ rng.normal(size=(8, 8))
    rows -= rows.mean(axis=0)
    gaussian = PrincipalGaussian.fit(rows)
    assert len(gaussian.variances) <= max(1, n_rows // 4)
    draws = np.stack([gaussian.expand(gaussian.draw(rng)) + gaussian.draw_residual(rng) for _ in range(20000)])
    expected = rows.T @ rows / (n_rows - 1)
    assert np.linalg.norm(np.cov(draws.T) - expected) / np.linalg.norm(expected) < 0.05


def test_clipping_keeps_the_direction_and_ends_where_95_percent_of_rows_do():
    rng = np.random.default_rng(0)
    rows = rng.standard_t(4, size=(1000, 3)) * [3.0, 2.0, 1.0]
    rows -= rows.mean(axis=0)
    gaussian = PrincipalGaussian.fit(rows)
    distances = np.sum(gaussian.project(rows) ** 2 / gaussian.variances, axis=1)
    assert np.mean(distances <= gaussian.limit) == pytest.approx(0.95, abs=0.002)
    near, far = 0.1 * np.sqrt(gaussian.variances), 10.0 * np.sqrt(gaussian.variances)
    np.testing.assert_array_equal(gaussian.clip(near), near)
    clipped = gaussian.clip(far)
    np.testing.assert_allclose(clipped / np.linalg.norm(clipped), far / np.linalg.norm(far))
    assert np.sum(clipped**2 / gaussian.variances) == pytest.approx(gaussian.limit)


def test_link_has_the_known_conditional_and_the_marginal_of_the_rows():
    rng = np.random.default_rng(0)
    truth = np.array([[1.0, -0.5], [0.3, 0.8], [0.0, 0.0]])
    above = rng.normal(size=(20000, 2)) * [2.0, 1.0]
    below = above @ truth.T + rng.normal(size=(20000, 3)) * [0.5, 1.0, 2.0]
    above, below = above - above.mean(axis=0), below - below.mean(axis=0)
    link = Link.fit(below, above)
    np.testing.assert_allclose(link.coefficients, truth, atol=0.07)
    np.testing.assert_allclose(link.noise @ link.noise.T, np.diag([0.25, 1.0, 4.0]), atol=0.15)
    passed = np.array([2.0, -1.0])
    draws = np.stack([link.draw(passed, rng) for _ in range(20000)])
    np.testing.assert_allclose(draws.mean(axis=0), truth @ passed, atol=0.15)


def test_link_without_truth_is_shrunk_and_keeps_the_marginal():
    rng = np.random.default_rng(0)
    above, below = rng.normal(size=(2, 24, 10))
    above, below = above - above.mean(axis=0), below - below.mean(axis=0)
    link = Link.fit(below, above)
    free = np.linalg.lstsq(above, below, rcond=None)[0].T
    assert np.linalg.norm(link.coefficients) < 0.2 * np.linalg.norm(free)
    marginal = link.coefficients @ np.cov(above.T) @ link.coefficients.T + link.noise @ link.noise.T
    np.testing.assert_allclose(marginal, np.cov(below.T), atol=1e-10)


def test_positive_root_drops_what_is_negative():
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    root = positive_root(vectors @ np.diag([4.0, 1.0, -2.0]) @ vectors.T)
    np.testing.assert_allclose(root @ root, vectors @ np.diag([4.0, 1.0, 0.0]) @ vectors.T, atol=1e-12)


def test_help_names_every_sampler():
    written, _ = read_fields(GenerateSettings)["sampler"]
    assert sorted(written.split("|")) == sorted([*SAMPLERS, *PLACE_BY_PLACE])
    choices = ", ".join(f'"{name}"' for name in written.split("|") if name not in PLACE_BY_PLACE)
    assert f"sampler : {{{choices}}}" in sample_targets.__doc__
    laid_out_by, _ = read_fields(GenerateSettings)["scenes"]
    assert laid_out_by.split("|") == list(SAMPLERS)


def test_what_draws_images_is_not_asked_for_descriptors(markov):
    with pytest.raises(InputError, match="the sampler 'local' draws images, not descriptors: generate has it"):
        sample_targets(markov, sampler="local")
