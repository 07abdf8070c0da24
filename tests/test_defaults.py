"""A default gives way to what was given: only what a call itself says may contradict itself."""

import pytest

from stochdeconv.errors import InputError
from stochdeconv.methods.morph import plan_frames
from stochdeconv.methods.refine import plan_steps


@pytest.mark.parametrize(
    ("n_frames", "n_steps", "planned"),
    [
        (None, None, (48, 256)),
        (None, 10, (11, 10)),
        (None, 1, (2, 1)),
        (None, 500, (48, 500)),
        (300, None, (300, 299)),
        (12, None, (12, 256)),
        (3, 2, (3, 2)),
    ],
)
def test_a_morph_has_a_step_for_every_frame(n_frames, n_steps, planned):
    assert plan_frames(n_frames, n_steps) == planned


def test_more_frames_than_steps_are_refused_where_both_are_given():
    with pytest.raises(InputError, match="from 2 to n_steps"):
        plan_frames(48, 10)


@pytest.mark.parametrize(
    ("checkpoints", "n_steps", "planned"),
    [
        (None, None, ([100, 500, 1000, 5000], 5000)),
        (None, 5000, ([100, 500, 1000, 5000], 5000)),
        (None, 50, ([1, 5, 10, 50], 50)),
        (None, 2, ([1, 2], 2)),
        (None, 1, ([1], 1)),
        ([7, 3], None, ([3, 7], 7)),
        ([3], 10, ([3], 10)),
    ],
)
def test_checkpoints_of_a_refinement_follow_its_steps(checkpoints, n_steps, planned):
    assert plan_steps(checkpoints, n_steps) == planned


def test_a_checkpoint_after_the_last_step_is_refused_where_both_are_given():
    with pytest.raises(InputError, match="comes after the last step"):
        plan_steps([100, 500], 50)
