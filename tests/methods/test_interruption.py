"""Ctrl-C between two parts of a run, while nothing is optimised, keeps what was finished as Ctrl-C within them does."""

import numpy as np
import pytest
from toys import SIZE, network, picture

from stochdeconv.methods.dream import dream
from stochdeconv.methods.morph import morph
from stochdeconv.methods.runs import RunInterrupted
from stochdeconv.methods.sweep import sweep
from stochdeconv.optimization import loop

DREAM = {"jitter": 1, "n_steps": 2}


@pytest.fixture(scope="module")
def model():
    return network(1)


@pytest.fixture
def stop_before(monkeypatch):
    """Have Ctrl-C come when a function is called for the n-th time, before it does anything."""

    def stop(owner, name, number):
        real, calls = getattr(owner, name), []

        def counted(*operands, **keywords):
            calls.append(name)
            if len(calls) == number:
                raise KeyboardInterrupt
            return real(*operands, **keywords)

        monkeypatch.setattr(owner, name, counted)

    return stop


def interrupted(method, *operands, **keywords):
    with pytest.raises(RunInterrupted) as caught:
        method(*operands, **keywords)
    assert caught.value.result.record["complete"] is False
    return caught.value.result


def test_between_two_octaves(model, stop_before):
    stop_before(loop, "optimize", 3)
    result = interrupted(dream, model, picture(), "deep", octaves=3, **DREAM)
    assert result.images.shape == (1, *picture().shape)
    assert np.abs(result.images[0] - picture()).max() > 0.01
    assert [(row["octave"], row["step"]) for row in result.history] == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_between_two_frames(model, stop_before):
    from stochdeconv.methods import zooming

    stop_before(zooming, "moved", 2)
    result = interrupted(dream, model, picture(), "deep", octaves=1, zoom_frames=3, **DREAM)
    assert len(result.frames) == 2 and {row["frame"] for row in result.history} == {0, 1}


def test_between_two_cells(model, stop_before):
    stop_before(loop, "optimize", 3)
    result = interrupted(sweep, model, picture(), "conv,deep", octaves=1, jitter=1, n_steps=(1, 2))
    assert [(row["layer"], row["n_steps"]) for row in result.tables["cells"]] == [("conv", 1), ("conv", 2)]
    assert len(result.images) == 2


def test_while_a_recogniser_looks(model):
    looks = []

    def judge(image):
        looks.append(image)
        if len(looks) == 3:  # after the photograph and the first dream
            raise KeyboardInterrupt
        return [("something", 1.0)]

    result = interrupted(sweep, model, picture(), "conv,deep", judge=judge, octaves=1, jitter=1, n_steps=(1, 2))
    assert len(result.images) == 4 and {(row["layer"], row["n_steps"]) for row in result.tables["cells"]} == {
        ("conv", 1)
    }


def test_between_two_classes(model, stop_before):
    stop_before(loop, "optimize", 2)
    result = interrupted(morph, model, "cat", "dog", n_frames=2, n_steps=3)
    assert result.images.shape == (1, *SIZE, 3)
    assert {row["stage"] for row in result.history} == {"start"} and len(result.history) == 3


@pytest.mark.parametrize(
    ("method", "operands"), [(dream, (picture(), "deep")), (sweep, (picture(), "deep")), (morph, ("cat", "dog"))]
)
def test_before_anything_is_made_it_is_ctrl_c(model, stop_before, method, operands):
    stop_before(loop, "optimize", 1)
    with pytest.raises(KeyboardInterrupt):
        method(model, *operands, n_steps=2)
