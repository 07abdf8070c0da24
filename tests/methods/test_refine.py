import csv

import numpy as np
import pytest
from toys import SIZE, network, picture

from stochdeconv.errors import ClassNotFoundError, InputError
from stochdeconv.images.files import resize
from stochdeconv.methods.recognition import recognise
from stochdeconv.methods.refine import refine
from stochdeconv.methods.runs import RunInterrupted


@pytest.fixture(scope="module")
def model():
    return network(1)


def scores(model, images, index=1):
    return model.logits(np.asarray(images))[:, index]


def test_it_becomes_more_like_its_class_from_checkpoint_to_checkpoint(model):
    start = resize(picture(), SIZE)
    result = refine(model, picture(), "dog", checkpoints=(5, 20, 60), jitter=2)
    seen = scores(model, [start, *result.images])
    assert len(result.images) == 3 and np.all(np.diff(seen) > 0)
    # It is still that photograph, and no other network's refinement does this.
    assert np.corrcoef(result.images[-1].ravel(), start.ravel())[0, 1] > 0.3
    other = refine(network(2), picture(), "dog", checkpoints=(60,), jitter=2)
    assert seen[-1] - seen[0] > 2 * (scores(model, other.images)[0] - seen[0])
    # No fixed part of the image is changed whatever the class is.
    eel = refine(model, picture(), "eel", checkpoints=(60,), jitter=2)
    assert scores(model, eel.images, 2)[0] > scores(model, result.images, 2)[-1]


def test_more_steps_are_finer_steps(model):
    short, long = (refine(model, picture(), 1, checkpoints=(n,), jitter=0, scale=0, rotate=0) for n in (30, 120))
    start = resize(picture(), SIZE)
    ratio = np.abs(long.images - start).mean() / np.abs(short.images - start).mean()
    assert 0.5 < ratio < 2
    weak = refine(model, picture(), 1, checkpoints=(30,), strength=0.5)
    assert np.abs(weak.images - start).mean() < 0.3 * np.abs(short.images - start).mean()


def test_total_variation_smooths(model):
    rough, smooth = (refine(model, picture(), 1, checkpoints=(40,), tv=tv).images[0] for tv in (0.0, 1e4))
    assert np.abs(np.diff(smooth, axis=0)).mean() < 0.7 * np.abs(np.diff(rough, axis=0)).mean()


def test_steps_after_the_last_checkpoint_are_kept_and_the_strip_is_saved(model, tmp_path):
    result = refine(model, picture(), "dog", checkpoints=(2, 4), n_steps=5)
    assert [row["step"] for row in result.tables["probabilities"]] == [0, 2, 4, 5]
    assert len(result.history) == 5 and len(result.images) == 3
    assert result.record["class"]["label"] == "dog"
    result.save(tmp_path / "out")
    with open(tmp_path / "out" / "probabilities.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["probability"]) for row in rows] == [row["probability"] for row in result.tables["probabilities"]]
    assert result.sheet.shape[1] > 4 * SIZE[1]


def test_an_interruption_keeps_the_picture_as_it_is(model):
    def stop(step):
        if step.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted) as caught:
        refine(model, picture(), "dog", checkpoints=(2, 50), callback=stop)
    assert [row["step"] for row in caught.value.result.tables["probabilities"]] == [0, 2, 4]


def test_variants_each_have_a_strip_and_do_not_depend_on_each_other(model):
    keywords = {"checkpoints": (3, 12), "n_steps": 12}
    result = refine(model, picture(), "dog", n_images=3, batch_size=2, **keywords)
    rows = result.tables["probabilities"]
    assert [(row["variant"], row["step"]) for row in rows] == [(i, step) for i in range(3) for step in (0, 3, 12)]
    assert result.images.shape == (6, *SIZE, 3) and result.sheet.shape[1] == 3 * (224 // SIZE[1] * SIZE[1] + 4) + 4
    seen = scores(model, result.images)
    assert np.all(seen[1::2] > seen[::2])
    for other in (refine(model, picture(), "dog", **keywords), refine(model, picture(), "dog", n_images=2, **keywords)):
        np.testing.assert_allclose(other.images, result.images[: len(other.images)], atol=0.005)
    assert min(np.abs(result.images[1] - result.images[i]).max() for i in (3, 5)) > 0.02


def test_an_interruption_keeps_whole_strips_and_what_there_is_of_the_next(model):
    def stop(step):
        if step.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted) as caught:
        refine(model, picture(), "dog", checkpoints=(2, 3, 4), n_images=3, batch_size=1, callback=stop)
    result = caught.value.result
    table = result.tables["probabilities"]
    named = [row for row in table if row["image"] is not None]
    assert [row["image"] for row in named] == list(range(len(result.images))) and len(table) > len(named)
    np.testing.assert_allclose(
        [row["probability"] for row in named], recognise(model, list(result.images))[:, 1], atol=1e-5
    )
    steps = [(row["variant"], row["step"]) for row in table]
    assert steps == [(0, 0), (0, 2), (0, 3), (0, 4), (1, 0), (1, 2), (1, 3)]
    assert result.sheet.shape[1] == 4 * (224 // SIZE[1] * SIZE[1] + 4) + 4
    assert result.sheet[-20:, -SIZE[1] :].min() == 1  # nothing where the last picture would be


def test_an_interruption_before_the_first_step_leaves_the_photograph(model, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("stochdeconv.optimization.programs.Program.evaluate", stop)
    with pytest.raises(RunInterrupted) as caught:
        refine(model, picture(), "dog", checkpoints=(2,))
    np.testing.assert_allclose(caught.value.result.images[0], resize(picture(), SIZE).clip(0.02, 0.98), atol=0.01)


def test_senseless_calls_are_refused(model):
    with pytest.raises(InputError, match="differ by their random views"):
        refine(model, picture(), "dog", n_images=2, jitter=0, scale=0, rotate=0)
    for checkpoints, message in (((), "at least one checkpoint"), ((0, 5), "each at least 1"), ((5, 5), "twice")):
        with pytest.raises(InputError, match=message):
            refine(model, picture(), "dog", checkpoints=checkpoints)
    with pytest.raises(InputError, match="comes after the last step"):
        refine(model, picture(), "dog", n_steps=50, checkpoints=[60])
    with pytest.raises(InputError, match="strength= is a finite number, above 0"):
        refine(model, picture(), "dog", strength=0)
    with pytest.raises(ClassNotFoundError):
        refine(model, picture(), "dgo")
