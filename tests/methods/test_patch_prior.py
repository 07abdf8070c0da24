"""The prior of patches: when it acts, on whom, and that it is the last to act."""

import numpy as np
import pytest
from keras import ops

from stochdeconv.methods.patch_prior import PatchPrior, patch_priors


def half(contexts, images, width):
    return images / 2 + contexts[:, 0, None, None, None]


@pytest.mark.parametrize(
    ("n_steps", "expected"),
    [(128, [32, 64, 96, 128]), (10, [3, 5, 8, 10]), (3, [1, 2, 3]), (1, [1]), (130, [33, 65, 98, 130])],
)
def test_they_act_a_few_times_and_at_the_end(n_steps, expected):
    priors = patch_priors(half, np.array([[0]]), n_steps, 0.1)
    assert [step for step in range(1, n_steps + 1) for prior in priors if prior.is_due(step)] == expected


def test_each_time_the_noise_is_narrower():
    seen = []

    def denoise(contexts, images, width):
        seen.append(width)
        return images

    for prior in patch_priors(denoise, np.array([[0]]), 128, 0.1):
        prior.apply(ops.zeros((1, 4, 4, 3)), None)
    np.testing.assert_allclose(seen, [0.1, 0.1 / 5 ** (1 / 3), 0.1 / 5 ** (2 / 3), 0.02])
    assert [prior.width for prior in patch_priors(denoise, np.array([[0]]), 1, 0.1)] == pytest.approx([0.02])


def test_pixels_beyond_black_and_white_are_seen_as_these():
    prior = PatchPrior(half, np.array([[0]]), 0.1, 4)
    seen = prior.apply(ops.convert_to_tensor(np.array([-0.5, 0.25, 1.5], np.float32).reshape(1, 1, 1, 3)), None)
    np.testing.assert_allclose(ops.convert_to_numpy(seen).ravel(), [0.0, 0.125, 0.5])


def test_it_gives_each_image_its_own_places():
    prior = PatchPrior(half, np.array([[5], [6], [7]]), 0.1, 8)
    images = np.ones((3, 4, 4, 3), np.float32)
    whole = ops.convert_to_numpy(prior.apply(ops.convert_to_tensor(images), None))
    np.testing.assert_allclose(whole[:, 0, 0, 0], [5.5, 6.5, 7.5])
    some = prior.take(slice(1, 3)).apply(ops.convert_to_tensor(images[1:]), None)
    np.testing.assert_array_equal(ops.convert_to_numpy(some), whole[1:])
