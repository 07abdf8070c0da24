"""Images drawn place by place from local Gaussians: known answers, image i depends on (seed, i) alone."""

from dataclasses import replace

import numpy as np
import pytest

from stochdeconv.errors import InputError
from stochdeconv.sampling import local
from stochdeconv.sampling.local import denoise_images, draw_places, local_targets
from stochdeconv.sampling.samplers import sample_targets
from stochdeconv.sampling.scenes import sample_scenes, scene_contexts
from stochdeconv.statistics.patches import PATCH, inside, level_sizes, patches, starts_about
from stochdeconv.statistics.places import Grid


@pytest.fixture(scope="module")
def statistics(landscape_statistics):
    return landscape_statistics


@pytest.fixture(scope="module")
def targets(statistics):
    return sample_scenes(statistics, n_images=3, seed=1)


@pytest.fixture(scope="module")
def drawn(statistics, targets):
    return draw_places(statistics, targets, seed=1)


def test_image_i_depends_on_seed_and_i_alone(statistics, targets, drawn):
    last = draw_places(statistics, targets.take(slice(2, 3)), seed=1, first_index=2)
    np.testing.assert_array_equal(last.pixels[0], drawn.pixels[2])
    other = draw_places(statistics, targets.take(slice(2, 3)), seed=2, first_index=2)
    assert 1 < np.abs(other.pixels[0].astype(float) - last.pixels[0]).mean() < 40  # another draw of the same scene


def test_images_are_like_the_rows_of_their_scenes(statistics, targets, drawn, landscapes):
    assert drawn.pixels.shape == (3, 48, 48, 3) and drawn.pixels.dtype == np.uint8
    names, n_places = np.array(statistics.image_names), statistics.contexts.shape[1]
    rows = np.array([5, 20, 41])
    scenes = np.broadcast_to(rows[:, None], (3, n_places))
    alone = replace(targets, fields={**targets.fields, "scenes": scenes})
    for image, row in zip(draw_places(statistics, alone, seed=1).pixels, rows, strict=True):
        likeness = [np.abs(image / 255 - landscapes[name]).mean() for name in names]
        assert np.argsort(likeness).tolist().index(row) < 10


def test_the_coarsest_level_there_is_leaves_colours_open(statistics, targets, monkeypatch):
    widths = {}

    def watched(self, image, contexts, width):
        widths.setdefault(self.number, []).append(width)
        return image

    monkeypatch.setattr(local._Level, "denoise", watched)
    draw_places(statistics, targets.take(slice(0, 1)))
    assert sorted(widths) == [0, 1]
    assert widths[1][0] == pytest.approx(0.4) and widths[0][0] < 0.2
    assert all(np.all(np.diff(of_level) < 0) for of_level in widths.values())


def test_without_noise_all_seeds_draw_the_same(statistics, targets):
    one, other = (draw_places(statistics, targets, temperature=0.0, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(one.pixels, other.pixels)


def test_patches_are_those_of_the_contexts(statistics, targets, drawn):
    """The sun is where its contexts are: give rows each other's contexts, and the scenes go with them."""
    other = draw_places(statistics.with_fields(contexts=statistics.contexts[::-1]), targets, seed=1)
    assert np.abs(other.pixels.astype(float) - drawn.pixels).mean() > 5  # of 255, with the same noise


@pytest.mark.parametrize(("n_positions", "n_pixels"), [(28, 224), (27, 224), (75, 600), (14, 112), (35, 299)])
def test_patches_are_drawn_where_their_gaussians_were_fitted(n_positions, n_pixels):
    grid = Grid.of((n_positions, n_positions), (n_pixels, n_pixels))
    for number, size in enumerate(level_sizes((n_pixels, n_pixels))):
        starts, places = local._Level(None, number, grid, size)._along(0)
        assert starts[0] == 0 and starts[-1] == size[0] - PATCH and np.diff(starts).max() <= 2
        fitted = starts_about(grid.centers(0), number)
        moved = (starts - fitted[places])[(starts >= fitted[0]) & (starts <= fitted[-1])][2:-2]
        assert len(moved) > n_positions / 2
        step = grid.step[0] / 2**number
        assert np.abs(moved).max() <= step / 2 + 0.5
        assert (moved == 0).sum() >= len(moved) / max(step, 1) - 1
        assert abs(moved.mean()) < 0.2


def test_images_are_not_moved(statistics, landscapes):
    """A photograph that is cleared of strong noise lies where the photograph does."""
    rows = np.arange(0, 50, 5)
    clean = np.stack([landscapes[statistics.image_names[row]] for row in rows]).astype(np.float32)
    noisy = clean + 0.4 * np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32)
    cleared = denoise_images(statistics, statistics.contexts[rows], noisy, 0.4)[:, 8:-8, 8:-8]
    moves = range(-4, 5)
    errors = [[((clean[:, 8 + i : 40 + i, 8 + j : 40 + j] - cleared) ** 2).mean() for j in moves] for i in moves]
    assert np.unravel_index(np.argmin(errors), (9, 9)) == (4, 4)


def test_a_mixture_of_one_point_gives_that_point_back(statistics, targets):
    """Contexts that all hold one grey and nothing else: whatever the noise, the image is that grey."""
    local = statistics.local
    grey = np.full(local.patch_means.shape[1], 0.4, np.float32)
    means = np.stack([(grey - mean) @ axes for mean, axes in zip(local.patch_means, local.patch_axes, strict=True)])
    sure = replace(
        local,
        means=np.broadcast_to(means[:, None, None], local.means.shape),
        variances=np.full_like(local.variances, 1e-9),
        residuals=np.full_like(local.residuals, 1e-9),
        patch_residuals=np.full_like(local.patch_residuals, 1e-9),
    )
    kept = [local.patch_means[0] + means[0] @ local.patch_axes[0].T]
    image = draw_places(statistics.with_fields(local=sure), targets.take(slice(0, 1)), seed=1).pixels[0]
    expected = kept[0].reshape(8, 8, 3)
    assert np.abs(image / 255 - expected.mean(axis=(0, 1))).mean() < 0.05


def test_targets_are_the_means_of_the_components_that_patches_are_of(statistics, targets, drawn):
    layers = ["low", "middle", "fine"]
    maps = local_targets(statistics, drawn, layers)
    local = statistics.local
    places = Grid.of(tuple(local.grid), (48, 48))
    for name in layers:
        own = Grid.of(statistics[name].shape[:2], (48, 48))
        assert maps[name].shape == (3, *own.shape, statistics[name].local_directions.shape[1])
        row, column = 5, 7
        (top,), (left,) = (inside(starts_about(own.centers(axis)[[i]], 0), 48) for axis, i in enumerate((row, column)))
        patch = patches(drawn.pixels[1] / 255, np.array([top]), np.array([left]))[0, 0]
        place = places.places(own.centers(0)[[row]], own.centers(1)[[column]])[0, 0]
        context = scene_contexts(statistics, targets)[1, place]
        # Every component, one by one, with the whole covariance.
        z = (patch - local.patch_means[0]) @ local.patch_axes[0]
        axes, noise = local.axes[0, context].astype(float), 0.05**2
        rest = local.residuals[0, context] + noise
        covariance = axes @ np.diag(local.variances[0, context] + noise - rest) @ axes.T + rest * np.eye(len(axes))
        scores = [
            np.log(weight) - 0.5 * (z - mean) @ np.linalg.solve(covariance, z - mean) if weight else -np.inf
            for weight, mean in zip(local.weights[0, context], local.means[0, context], strict=True)
        ]
        expected = statistics[name].local_means[context, int(np.argmax(scores))]
        np.testing.assert_allclose(maps[name][1, row, column], expected, rtol=1e-5)


def test_posterior_means_are_those_of_the_whole_mixture(statistics):
    """Every component, its covariance written out, in float64."""
    gaussians, noise, rng = statistics.local, 0.2**2, np.random.default_rng(0)
    contexts = rng.integers(0, gaussians.n_contexts, 40)
    of_context = gaussians.means[1, contexts]
    values = of_context[np.arange(40), 0] + 0.3 * rng.normal(size=(40, of_context.shape[2]))
    means = local._Mixtures(gaussians, 1, contexts, noise).posterior_means(values.astype(np.float32))
    n_shared = 0
    for context, value, mean in zip(contexts, values, means, strict=True):
        axes, residual = gaussians.axes[1, context].astype(float), float(gaussians.residuals[1, context])
        covariance = axes @ np.diag(gaussians.variances[1, context] - residual) @ axes.T + residual * np.eye(len(axes))
        noisy = covariance + noise * np.eye(len(axes))
        kinds = np.flatnonzero(gaussians.weights[1, context])
        away = [value - gaussians.means[1, context, kind] for kind in kinds]
        shares = [
            np.log(gaussians.weights[1, context, kind]) - 0.5 * d @ np.linalg.solve(noisy, d)
            for kind, d in zip(kinds, away, strict=True)
        ]
        shares = np.exp(np.array(shares) - max(shares))
        shares /= shares.sum()
        n_shared += 0.02 < shares.max() < 0.98
        expected = sum(
            s * (value - d + covariance @ np.linalg.solve(noisy, d)) for s, d in zip(shares, away, strict=True)
        )
        np.testing.assert_allclose(mean, expected, atol=2e-3)
    assert n_shared >= 5


def test_denoised_images_are_clear_of_noise(statistics, landscapes):
    rows = np.arange(1, 50, 4)
    clean = np.stack([landscapes[statistics.image_names[row]] for row in rows]).astype(np.float32)
    noisy = clean + 0.1 * np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32)
    contexts = statistics.contexts[rows]
    cleared = denoise_images(statistics, contexts, noisy, 0.1)
    error, before = (((images - clean) ** 2).mean(axis=(1, 2, 3)) for images in (cleared, noisy))
    assert error.mean() < 0.35 * before.mean() and (error < 0.5 * before).all()
    # Images that are taken for clean stay as they are; of each, only its own contexts count.
    np.testing.assert_allclose(denoise_images(statistics, contexts, clean, 1e-4), clean, atol=2e-3)
    np.testing.assert_array_equal(denoise_images(statistics, contexts[1:], noisy[1:], 0.1)[0], cleared[1])
    others = denoise_images(statistics, np.roll(contexts, 1, axis=0), noisy, 0.1)
    assert ((others - clean) ** 2).mean() > 1.5 * error.mean()


def test_what_is_missing_is_said(statistics, targets):
    with pytest.raises(InputError, match="these statistics of 50 images hold none: of their layers"):
        draw_places(statistics.with_fields(local=None), targets)
    with pytest.raises(InputError, match=r"these targets have none: complete those of scenes\.sample_scenes"):
        draw_places(statistics, sample_targets(statistics, n_images=1))
    for temperature in (-1.0, float("nan")):
        with pytest.raises(InputError, match="temperature="):
            draw_places(statistics, targets, temperature=temperature)
