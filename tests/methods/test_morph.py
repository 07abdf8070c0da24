import numpy as np
import pytest
from toys import SIZE, network, picture

from stochdeconv.errors import ClassNotFoundError, InputError, MissingInputError
from stochdeconv.images.files import resize, save_png
from stochdeconv.methods.morph import morph
from stochdeconv.methods.recognition import recognise
from stochdeconv.methods.runs import RunInterrupted


@pytest.fixture(scope="module")
def model():
    return network(1)


def test_a_photograph_turns_into_a_class(model):
    start = resize(picture(), SIZE)
    saw = int(recognise(model, [picture()])[0].argmax())
    expected = (saw + 1) % 3
    result = morph(model, picture(), expected, n_frames=5, n_steps=40, jitter=2)
    assert result.frames.shape == (5, *SIZE, 3)
    np.testing.assert_array_equal(result.frames[0], np.rint(start * 255))
    np.testing.assert_array_equal(result.frames[-1], np.rint(result.images[0] * 255))
    rows = result.tables["probabilities"]
    source, target = (model.class_names[i].label for i in (saw, expected))
    assert rows[0][source] > 0.5 > rows[0][target] and rows[-1][target] > 0.9
    assert [row["step"] for row in rows] == [0, 2, 10, 22, 40]
    # Another network's morph leaves this one's opinion nearer to where it was.
    other = morph(network(2), picture(), expected, n_frames=2, n_steps=40, jitter=2)
    ours, theirs = model.logits(np.stack([result.images[0], other.images[0]]))[:, expected]
    assert ours > theirs


def test_one_class_turns_into_another(model):
    result = morph(model, "cat", "dog", n_frames=4, n_steps=60, jitter=2)
    rows = result.tables["probabilities"]
    assert rows[0]["cat"] > 0.9 and rows[0]["dog"] < 0.1 and rows[-1]["dog"] > 0.7
    assert {row["stage"] for row in result.history} == {"start", "morph"} and len(result.history) == 120
    assert result.record["settings"]["from_class"]["label"] == "cat" and result.record["class"]["label"] == "dog"
    # Each frame is nearer to its neighbour than the ends are to each other.
    steps = np.abs(np.diff(result.frames.astype(float), axis=0)).mean(axis=(1, 2, 3))
    assert steps.max() < np.abs(result.frames[-1].astype(float) - result.frames[0]).mean()


def test_what_it_starts_from_is_a_file_where_there_is_one(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_png(tmp_path / "cat", picture())
    result = morph(model, "cat", "dog", n_frames=2, n_steps=1)
    np.testing.assert_allclose(result.frames[0] / 255, resize(picture(), SIZE), atol=0.01)


def test_a_folder_named_after_a_class_is_no_photograph(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat").mkdir()
    assert morph(model, "cat", "dog", n_frames=2, n_steps=1).record["settings"]["from_class"]["label"] == "cat"


def test_steps_are_counted_through_both_stages(model):
    seen = []
    morph(model, "cat", "dog", n_frames=2, n_steps=3, callback=lambda step: seen.append((step.step, step.n_steps)))
    assert seen == [(i, 6) for i in range(1, 7)]


@pytest.mark.parametrize(("at", "n_frames"), [(2, None), (7, 3)])
def test_an_interruption_keeps_the_frames_there_are(model, at, n_frames):
    def stop(step):
        if step.step == at:
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted) as caught:
        morph(model, "cat", "dog", n_frames=6, n_steps=5, callback=stop)
    result = caught.value.result
    assert (None if result.frames is None else len(result.frames)) == n_frames
    assert len(result.history) == at and result.images.shape == (1, *SIZE, 3)


@pytest.mark.parametrize("start", ["cat", "photograph"])
def test_variants_stand_side_by_side_and_do_not_depend_on_each_other(model, start):
    keywords = {"n_frames": 5, "n_steps": 12}
    start = picture() if start == "photograph" else start
    result = morph(model, start, "dog", n_images=3, batch_size=2, **keywords)
    assert result.images.shape == (3, *SIZE, 3)
    step = SIZE[1] + 4
    assert result.frames.shape == (5, SIZE[0] + 8, 3 * step + 4, 3)
    enlarged = 224 // SIZE[1]  # what has captions
    assert result.sheet.shape[1] == 4 * (enlarged * SIZE[1] + 4) + 4
    for variant, image in enumerate(result.images):
        displayed = result.frames[-1][4 : 4 + SIZE[0], 4 + variant * step : variant * step + step]
        np.testing.assert_array_equal(displayed, np.rint(image * 255))
    rows = result.tables["probabilities"]
    assert [(row["variant"], row["frame"]) for row in rows] == [(i, frame) for i in range(3) for frame in range(5)]
    sure = recognise(model, result.images)[:, 1]
    np.testing.assert_allclose([row["dog"] for row in rows if row["frame"] == 4], sure, atol=1e-4)
    for other in (morph(model, start, "dog", **keywords), morph(model, start, "dog", n_images=2, **keywords)):
        np.testing.assert_allclose(other.images, result.images[: len(other.images)], atol=0.01)
    assert min(np.abs(result.images[0] - result.images[i]).max() for i in (1, 2)) > 0.02


def test_an_interruption_keeps_the_variants_there_are(model):
    def stop(step):
        if step.step == 15:
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted) as caught:
        morph(model, "cat", "dog", n_frames=3, n_steps=5, n_images=3, batch_size=1, callback=stop)
    result = caught.value.result
    assert len(result.images) == 2 and len(result.frames) == 3
    assert [row["variant"] for row in result.tables["probabilities"]] == [0, 0, 0, 1]


def test_senseless_calls_are_refused(model):
    with pytest.raises(InputError, match="differ by their random views"):
        morph(model, picture(), "dog", n_images=2, jitter=0, scale=0, rotate=0)
    assert len(morph(model, "cat", "dog", n_images=2, jitter=0, scale=0, rotate=0, n_frames=2, n_steps=1).images) == 2
    with pytest.raises(InputError, match="nothing to turn"):
        morph(model, "cat", "cat")
    with pytest.raises(InputError, match="n_frames= is at most one more than the 10 steps; got 30"):
        morph(model, "cat", "dog", n_frames=30, n_steps=10)
    with pytest.raises(InputError, match="strength= is a finite number, above 0"):
        morph(model, "cat", "dog", strength=-1)
    with pytest.raises(MissingInputError, match=r"no such image: 'photo\.png'"):
        morph(model, "photo.png", "dog")
    with pytest.raises(ClassNotFoundError, match="no class 'cta'"):
        morph(model, "cta", "dog")
