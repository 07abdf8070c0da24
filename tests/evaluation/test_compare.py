"""compare: contestants whose order is known, the structure promised, and one clear error for every bad input."""

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from stochdeconv.errors import ExistingOutputError, FileFormatError, InputError, MissingInputError
from stochdeconv.evaluation.classes import ClassKey
from stochdeconv.evaluation.compare import compare
from stochdeconv.evaluation.contestants import read_contestants
from stochdeconv.evaluation.figures import FIGURE_KEYS
from stochdeconv.evaluation.judge import Judge
from stochdeconv.evaluation.measure import measure
from stochdeconv.evaluation.photographs import MeasuredPhotographs, load_photographs
from stochdeconv.files import write_atomically
from stochdeconv.images import files as image_files
from stochdeconv.images.folders import find_images
from stochdeconv.images.sheets import contact_sheet
from stochdeconv.networks.image_model import load_model

SIZE = 24
WNIDS = {"cat": "n00000001", "dog": "n00000002"}
CAT = {"index": 5, "wnid": "n00000001", "label": "cat"}  # the generator numbers classes in its own way
DOG = {"index": 6, "wnid": "n00000002", "label": "dog"}


def photograph(seed, *, label="cat"):
    """A reddish (cat) or bluish (dog) disc on a soft ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    disc = np.hypot(y - rng.uniform(0.3, 0.7), x - rng.uniform(0.3, 0.7)) < rng.uniform(0.15, 0.3)
    color = [0.8, 0.3, 0.2] if label == "cat" else [0.2, 0.3, 0.8]
    image = np.full((SIZE, SIZE, 3), rng.uniform(0.3, 0.6)) + 0.2 * y[..., None]
    image[disc] = np.array(color) + rng.normal(0, 0.08, size=3)
    return np.clip(image + rng.normal(0, 0.02, size=image.shape), 0, 1)


def noise(seed):
    return np.random.default_rng(1000 + seed).random((SIZE, SIZE, 3))


def write_photographs(folder, seeds, *, label="cat"):
    for seed in seeds:
        image_files.save_png(folder / f"{seed:04d}.png", photograph(seed, label=label))
    return folder


def write_run(folder, images, *, named=CAT, command="generate", **record):
    for index, image in enumerate(images):
        image_files.save_png(folder / f"image_{index:03d}.png", image)
    image_files.save_png(folder / "contact_sheet.png", contact_sheet(np.stack(images)))
    content = {
        "command": command,
        "class": named,
        "settings": {"n_steps": 256, "preset": "<b>bold</b>"},
        "seed": 0,
        "model": {"name": "net", "source": "net", "weights_hash": "another"},
        "n_images": len(images),
        "complete": True,
    }
    (folder / "run.json").write_text(json.dumps(content | record))
    return folder


@pytest.fixture
def whole_page():
    """Asked for by tests that read the report."""


@pytest.fixture(autouse=True)
def figures_only(request, monkeypatch):
    """Leave the page blank elsewhere: drawing it takes longer than all figures together, and test_report draws it."""
    if "whole_page" not in request.fixturenames:
        monkeypatch.setattr("stochdeconv.evaluation.report.page.render_report", lambda *_: "page")


@pytest.fixture(scope="session")
def judge():
    """A network that calls red discs cats, blue ones dogs and everything else a cow."""
    keras.utils.set_random_seed(3)
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="map")(image)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(3, activation="softmax", name="classes")(x), name="little-judge")
    kernel, bias = model.get_layer("map").get_weights()
    kernel[..., :2] = 0
    kernel[1, 1, :, 0], kernel[1, 1, :, 1] = [1, 0, -1], [-1, 0, 1]
    bias[:2] = -0.15
    model.get_layer("map").set_weights([kernel, bias])
    weights = np.zeros((8, 3))
    weights[:2, 1:] = [[50, -50], [-50, 50]]
    model.get_layer("classes").set_weights([weights, np.array([1.0, 0, 0])])
    names = [{"wnid": "n00000009", "label": "cow"}, *({"wnid": wnid, "label": label} for label, wnid in WNIDS.items())]
    return load_model(model, preprocessing="none", class_names=names)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Two classes of photographs, and contestants from good to hopeless."""
    root = tmp_path_factory.mktemp("data")
    for label in WNIDS:
        # One folder is named by wnid, the other by label: both are found.
        folder = WNIDS[label] if label == "cat" else label
        write_photographs(root / "real" / folder, range(24), label=label)
        write_photographs(root / "train" / folder, range(100, 130), label=label)
        named = CAT if label == "cat" else DOG
        good = [photograph(seed, label=label) for seed in range(200, 208)]
        write_run(root / "runs" / "good" / label, good, named=named)
        write_run(root / "runs" / "copies" / label, [photograph(100, label=label)] * 8, named=named)
        write_run(root / "runs" / "noise" / label, [noise(s) for s in range(8)], named=named, command="maximize")
    return root


def runs(data, *names, classes=("cat", "dog")):
    return {name: [data / "runs" / name / label for label in classes] for name in names}


@pytest.fixture(scope="session")
def result(data, judge, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "new"
    calls = []
    metrics = compare(
        runs(data, "noise", "good", "copies"),
        real=data / "real",
        judge=judge,
        output=output,
        train=data / "train",
        progress=lambda *call: calls.append(call),
    )
    return metrics, output, calls


def value(metrics, name, key):
    row = metrics["contestants"][name] if name in metrics["contestants"] else metrics[name]
    return row[key]["value"]


def test_metrics_json_has_the_structure_promised(result):
    metrics, output, _ = result
    assert json.loads((output / "metrics.json").read_text()) == metrics
    assert list(metrics["contestants"]) == ["noise", "good", "copies"]
    for row in [*metrics["contestants"].values(), metrics["real"], metrics["real_vs_real"]]:
        assert list(row) == ["n", *FIGURE_KEYS]
        assert all(set(row[key]) == {"value", "low", "high"} for key in FIGURE_KEYS)
    assert metrics["contestants"]["good"]["n"] == metrics["real"]["n"] == 16
    assert set(metrics) >= {"judge", "settings", "classes", "marks", "warnings"}
    assert sorted(path.name for path in output.iterdir()) == ["metrics.json", "report.html"]
    assert "good comes nearest to real photographs" in (output / "report.html").read_text()


def test_contestants_come_in_the_order_they_deserve(result):
    metrics, _, _ = result
    assert value(metrics, "good", "kid") < value(metrics, "copies", "kid") < value(metrics, "noise", "kid")
    assert value(metrics, "good", "judge_top1") == value(metrics, "real", "judge_top1") == 1
    assert value(metrics, "noise", "judge_top1") < 1
    assert value(metrics, "good", "coverage") > value(metrics, "copies", "coverage")
    assert value(metrics, "noise", "coverage") == 0
    assert value(metrics, "copies", "pairwise_distance") == pytest.approx(0, abs=1e-5)
    assert value(metrics, "copies", "vendi") == pytest.approx(1)
    assert value(metrics, "copies", "nearest_train_distance") == pytest.approx(0, abs=1e-5)
    assert value(metrics, "good", "nearest_train_distance") > 0.1
    assert value(metrics, "good", "color_distance") < value(metrics, "noise", "color_distance")
    low, high = (metrics["real"]["kid"][end] for end in ("low", "high"))
    assert low < 0.3
    assert high > -0.3


def test_the_noise_floor_is_one_half_of_the_photographs_against_the_other(result):
    metrics, _, _ = result
    floor = metrics["real_vs_real"]
    assert floor["n"] == 2 * 12
    assert abs(floor["kid"]["value"]) < 0.1 * value(metrics, "noise", "kid")
    # A photograph in both halves would be at distance 0 from itself: 5 neighbours of 12 cover about 1 - (1/2)^5.
    assert 0.7 < floor["coverage"]["value"] <= 1


def test_every_interval_holds_its_value(result):
    metrics, _, _ = result
    for row in metrics["contestants"].values():
        for key in FIGURE_KEYS:
            figure = row[key]
            if figure["low"] is not None:
                assert figure["low"] - 1e-9 <= figure["value"] <= figure["high"] + 1e-9, key


def test_top5_needs_a_hundred_classes_and_objects_a_class_map(result):
    metrics, _, _ = result
    assert value(metrics, "good", "judge_top5") is None
    assert value(metrics, "good", "cam_peaks") is not None


def test_figures_are_means_over_the_classes(result):
    metrics, _, _ = result
    classes = metrics["classes"]
    assert list(classes) == ["n00000001", "n00000002"]
    for key in FIGURE_KEYS:
        of_classes = [of_class["contestants"]["good"][key]["value"] for of_class in classes.values()]
        if None not in of_classes:
            assert value(metrics, "good", key) == pytest.approx(np.mean(of_classes))


def test_each_image_names_its_nearest_training_photograph(result, data):
    metrics, _, _ = result
    pictures = metrics["classes"]["n00000001"]["contestants"]["copies"]["images"]
    assert {Path(picture["nearest_train"]["file"]) for picture in pictures} == {
        data / "train" / "n00000001" / "0100.png"
    }
    assert {picture["judge_label"] for picture in pictures} == {"cat"}


def test_only_what_generate_made_is_held_against_the_baselines(result):
    metrics, _, _ = result
    assert set(metrics["marks"]) == {"good", "copies"}
    assert metrics["marks"]["good"]["kid"]["met"] is True
    assert metrics["marks"]["copies"]["vendi"]["met"] is False


def test_progress_reaches_its_total(result):
    _, _, calls = result
    numbers = [n_done for n_done, _, _ in calls]
    assert numbers == sorted(numbers)
    assert {total for _, total, _ in calls} == {2 * (24 + 30 + 3 * 8)}
    assert calls[-1][0] == calls[-1][1]


def test_same_input_same_bytes(data, judge, tmp_path, whole_page):
    outputs = [tmp_path / "one", tmp_path / "two"]
    for output in outputs:
        compare(runs(data, "good", classes=["cat"]), real=data / "real", judge=judge, output=output)
    for name in ("metrics.json", "report.html"):
        assert (outputs[0] / name).read_bytes() == (outputs[1] / name).read_bytes()


def small(judge, tmp_path, images, *, real=None, named=CAT, **more):
    """Compare one run of one class with one folder of photographs."""
    run = write_run(tmp_path / "run", images, named=named, **more)
    real = real or write_photographs(tmp_path / "real", range(12))
    return compare({"mine": run}, real=real, judge=judge, output=tmp_path / "out")


def test_a_single_image_gives_what_can_be_said(judge, tmp_path):
    row = small(judge, tmp_path, [photograph(50)])["contestants"]["mine"]
    assert row["judge_top1"] == {"value": 1.0, "low": None, "high": None}
    for key in ("kid", "pairwise_distance", "vendi"):
        assert row[key]["value"] is None


def test_few_photographs_are_no_crash(judge, tmp_path):
    real = write_photographs(tmp_path / "few", range(3))
    metrics = small(judge, tmp_path, [photograph(50), photograph(51)], real=real)
    assert metrics["contestants"]["mine"]["coverage"]["value"] is None
    assert metrics["contestants"]["mine"]["kid"]["value"] is not None
    only = write_photographs(tmp_path / "only", range(1))
    metrics = compare({"mine": tmp_path / "run"}, real=only, judge=judge, output=tmp_path / "out2")
    assert metrics["contestants"]["mine"]["kid"]["value"] is None
    assert any("1 real photographs for 2 images" in warning for warning in metrics["warnings"])


def test_a_real_photograph_is_measured_against_the_others_only(judge, tmp_path):
    for index, image in enumerate([0.2 * noise(0), 1 - 0.2 * noise(1)]):  # no colour in common
        image_files.save_png(tmp_path / "real" / f"{index}.png", image)
    metrics = small(judge, tmp_path, [photograph(50)], real=tmp_path / "real")
    assert metrics["real"]["n"] == 1
    assert metrics["real"]["color_distance"]["value"] == pytest.approx(1)


def test_without_a_class_the_figures_that_need_one_are_null(judge, tmp_path):
    metrics = small(judge, tmp_path, [photograph(s) for s in range(50, 54)], named=None)
    row = metrics["contestants"]["mine"]
    assert row["judge_top1"]["value"] is row["cam_peaks"]["value"] is None
    assert row["kid"]["value"] is not None
    (warning,) = metrics["warnings"]
    assert warning.startswith("Only 12 real photographs")


def test_photographs_that_the_judge_does_not_know_are_doubted(judge, tmp_path):
    (tmp_path / "others").mkdir()
    write_photographs(tmp_path / "others", range(8), label="dog")
    metrics = small(judge, tmp_path, [photograph(s) for s in range(50, 54)], real=tmp_path / "others")
    assert any("in none of the real photographs" in warning for warning in metrics["warnings"])


def test_a_run_without_a_class_beside_one_with_a_class(judge, tmp_path):
    images = [photograph(s) for s in range(50, 54)]
    contestants = {
        "named": write_run(tmp_path / "named", images),
        "nameless": write_run(tmp_path / "nameless", images, named=None),
    }
    real = write_photographs(tmp_path / "real", range(12))
    rows = compare(contestants, real=real, judge=judge, output=tmp_path / "out")["contestants"]
    assert rows["named"]["judge_top1"]["value"] == 1
    assert rows["nameless"]["judge_top1"]["value"] is rows["nameless"]["cam_peaks"]["value"] is None
    assert rows["nameless"]["kid"] == rows["named"]["kid"]


def test_a_class_the_judge_does_not_know_is_said(judge, tmp_path):
    named = {"index": 1, "wnid": "n77777777", "label": "dog"}  # the judge's dog has another wnid
    metrics = small(judge, tmp_path, [photograph(s) for s in range(50, 54)], named=named)
    assert metrics["contestants"]["mine"]["judge_top1"]["value"] is None
    assert any("does not know the class 'dog'" in warning for warning in metrics["warnings"])


def test_a_judge_of_its_own_images_is_a_warning(judge, tmp_path, whole_page):
    own = {"name": "judge", "source": "judge", "weights_hash": judge.weights_hash}
    metrics = small(judge, tmp_path, [photograph(s) for s in range(50, 54)], model=own)
    assert any("judge made the images of 'mine' itself" in warning for warning in metrics["warnings"])
    assert "judge made the images of" in (tmp_path / "out" / "report.html").read_text()


def test_other_sizes_and_numbers_are_compared_at_the_smallest_and_said(judge, tmp_path, data):
    large = [image_files.resize(photograph(s).astype(np.float32), (32, 40)) for s in range(50, 54)]
    write_run(tmp_path / "large", large)
    contestants = {"large": [tmp_path / "large"], "good": [data / "runs" / "good" / "cat"]}
    metrics = compare(contestants, real=data / "real" / "n00000001", judge=judge, output=tmp_path / "out")
    assert metrics["settings"]["image_size"] == [SIZE, SIZE]
    assert any("32×40 ('large')" in warning for warning in metrics["warnings"])
    assert any("large 4, good 8" in warning for warning in metrics["warnings"])


def test_training_photographs_among_the_real_ones_are_left_out_and_said(judge, tmp_path):
    run = write_run(tmp_path / "run", [photograph(s) for s in range(50, 54)])
    real = write_photographs(tmp_path / "real", range(12))
    train = write_photographs(tmp_path / "train", range(8, 20))
    metrics = compare({"mine": run}, real=real, judge=judge, output=tmp_path / "out", train=train)
    assert metrics["classes"]["n00000001"]["n_train"] == 8
    assert metrics["real"]["nearest_train_distance"]["value"] > 0.1
    assert any(warning.startswith("4 of 12 training photographs") for warning in metrics["warnings"])


def test_the_same_photographs_twice_leave_no_nearest_one(judge, tmp_path):
    run = write_run(tmp_path / "run", [photograph(s) for s in range(50, 54)])
    real = write_photographs(tmp_path / "real", range(12))
    metrics = compare({"mine": run}, real=real, judge=judge, output=tmp_path / "out", train=real)
    assert metrics["contestants"]["mine"]["nearest_train_distance"]["value"] is None


def test_existing_output_is_refused_and_kept(judge, data, tmp_path):
    (tmp_path / "report.html").write_text("old")
    arguments = {"real": data / "real", "judge": judge, "output": tmp_path}
    with pytest.raises(ExistingOutputError, match=r"already holds report.html.*overwrite=True"):
        compare(runs(data, "good"), **arguments)
    assert (tmp_path / "report.html").read_text() == "old"
    compare(runs(data, "good", classes=["cat"]), **arguments, overwrite=True)
    assert (tmp_path / "report.html").read_text() != "old"


def test_figures_never_lie_beside_the_report_of_others(judge, data, tmp_path, monkeypatch):
    arguments = {"real": data / "real", "judge": judge, "output": tmp_path / "out", "overwrite": True}
    compare(runs(data, "good", classes=["cat"]), **arguments)

    def full(path, content):
        if path.name == "metrics.json":
            raise InputError("the disk is full")
        write_atomically(path, content)

    monkeypatch.setattr("stochdeconv.evaluation.compare.write_atomically", full)
    with pytest.raises(InputError, match="disk is full"):
        compare(runs(data, "noise", classes=["cat"]), **arguments)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]


def broken_photograph(tmp_path):
    real = write_photographs(tmp_path / "broken", range(7))
    (real / "0003.png").write_bytes((real / "0003.png").read_bytes()[:80])
    return real


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a, t, d: a.update(contestants={}), InputError, "nothing to compare"),
        (lambda a, t, d: a.update(contestants={"x": [t / "none"]}), MissingInputError, "no such run folder"),
        (lambda a, t, d: a.update(contestants={"x": [d / "real"]}), MissingInputError, r"holds no run.json"),
        (
            lambda a, t, d: a.update(contestants={"real": a["contestants"]["good"]}),
            InputError,
            "cannot be called 'real'",
        ),
        (
            lambda a, t, d: a.update(contestants={"real_vs_real": a["contestants"]["good"]}),
            InputError,
            "cannot be called 'real_vs_real'",
        ),
        (lambda a, t, d: a["contestants"].update(x=a["contestants"]["good"] * 2), InputError, "twice"),
        (
            lambda a, t, d: a["contestants"].update(runs(d, "noise", classes=["cat"])),
            InputError,
            "'noise' has no images",
        ),
        (lambda a, t, d: a.update(real=t / "none"), MissingInputError, r"no such folder of photographs.*real="),
        (lambda a, t, d: a.update(train=t / "none"), MissingInputError, r"no such folder of photographs.*train="),
        (lambda a, t, d: a.update(real=d / "real" / "dog"), InputError, "several classes are compared"),
        (lambda a, t, d: a.update(real=t), InputError, "no folder for the class 'cat'"),
        (lambda a, t, d: a.update(real=broken_photograph(t)), InputError, "0003.png"),
    ],
)
def test_bad_input_is_one_clear_error_and_writes_nothing(change, error, message, judge, data, tmp_path):
    write_photographs(tmp_path / "zebra", range(2))
    write_photographs(tmp_path / "horse", range(2))
    one_class = change.__code__.co_names and "broken_photograph" in change.__code__.co_names
    arguments = {
        "contestants": runs(data, "good", classes=["cat"] if one_class else ["cat", "dog"]),
        "real": data / "real",
        "judge": judge,
        "output": tmp_path / "out",
    }
    change(arguments, tmp_path, data)
    with pytest.raises(error, match=message) as caught:
        compare(arguments.pop("contestants"), **arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="session")
def measured(data, judge):
    """What the judge measured of the photographs, in memory."""
    own_judge = Judge(judge)
    classes = {}
    for folder in (data / "real" / "n00000001", data / "real" / "dog"):
        class_name = judge.find_class(folder.name)
        paths = find_images(folder)
        measurements = measure(paths, own_judge, size=(SIZE, SIZE), class_index=class_name.index, tick=lambda n: None)
        classes[ClassKey(class_name.wnid, class_name.label)] = measurements
    return MeasuredPhotographs.by(own_judge, classes, (SIZE, SIZE))


def test_measured_photographs_are_as_good_as_the_pictures(measured, result, data, judge, tmp_path, whole_page):
    measured.save(tmp_path / "real.npz")
    contestants = runs(data, "noise", "good", "copies")
    of_file = compare(
        contestants, real=tmp_path / "real.npz", judge=judge, output=tmp_path / "out", train=data / "train"
    )
    metrics, _, _ = result
    for name in (*contestants, "real", "real_vs_real"):
        for key in FIGURE_KEYS:
            expected = value(metrics, name, key)
            # What is stored has 11 significant bits; a photograph is at distance 0 from itself either way.
            close = None if expected is None else pytest.approx(expected, rel=0.02, abs=0.03)
            assert value(of_file, name, key) == close, (name, key)
    assert of_file["classes"]["n00000001"]["n_real"] == 24
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("no picture to show") == 2
    assert page.count('class="made"') == 3 * 2 * 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"judge_hash": "0" * 64}, r"measured by the judge 'little-judge' \(weights 000000000000…\), not by"),
        ({"size": (SIZE + 1, SIZE)}, "measured at 25×24, but the images are 24×24"),
        ({"classes": {}}, "no measured photographs of 'cat', only of nothing"),
        ({"judge_preprocessing": {"preprocessing": "tf"}}, "measured with the input convention"),
    ],
)
def test_measured_photographs_of_something_else_are_refused(measured, change, message, data, judge, tmp_path):
    replace(measured, **change).save(tmp_path / "real.npz")
    with pytest.raises(InputError, match=message):
        compare(runs(data, "good"), real=tmp_path / "real.npz", judge=judge, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_of_photographs_is_one_clear_error(measured, tmp_path):
    path = tmp_path / "real.npz"
    with pytest.raises(MissingInputError, match="no such file of measured photographs"):
        load_photographs(path)
    measured.save(path)
    whole = path.read_bytes()
    for content in (b"", b"no zip", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="no file of measured photographs"):
            load_photographs(path)
    noticed = 0
    for place in range(0, len(whole), 41):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            load_photographs(path)
        except FileFormatError:
            noticed += 1
    assert noticed > 0.5 * len(whole) / 41  # a date in the archive, say, may be anything
    np.savez(path, header=np.array(json.dumps({"format": "stochdeconv-photographs", "format_version": 1})))
    message = r"^'\S+' is stochdeconv-photographs version 1; this program reads stochdeconv-photographs version 2"
    with pytest.raises(FileFormatError, match=message):
        load_photographs(path)
    measured.save(path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{name: values for name, values in arrays.items() if name != "000/cams"})
    with pytest.raises(FileFormatError, match="000/cams"):
        load_photographs(path)
    np.savez(path, **(arrays | {"001/logits": arrays["001/logits"][:-1]}))
    with pytest.raises(FileFormatError, match="'logits' of 'dog' has 23 rows, not 24"):
        load_photographs(path)


def test_training_photographs_among_measured_ones_are_left_out_too(measured, data, judge, tmp_path):
    measured.save(tmp_path / "real.npz")
    metrics = compare(
        runs(data, "good"), real=tmp_path / "real.npz", judge=judge, output=tmp_path / "out", train=data / "real"
    )
    assert sum("24 of 24 training photographs" in warning for warning in metrics["warnings"]) == 2


def test_photographs_of_another_class_are_refused(judge, data, tmp_path):
    with pytest.raises(InputError, match="holds another class"):
        compare(
            runs(data, "good", classes=["dog"]), real=data / "real" / "n00000001", judge=judge, output=tmp_path / "out"
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read"), ("[]", "not a record"), ('{"class": "cat"}', "expected null or an object")],
)
def test_a_damaged_record_is_one_clear_error(content, message, judge, data, tmp_path):
    run = write_run(tmp_path / "run", [photograph(1)])
    (run / "run.json").write_text(content)
    with pytest.raises(InputError, match=message):
        compare({"x": run}, real=data / "real", judge=judge, output=tmp_path / "out")


def test_a_run_without_images_is_one_clear_error(judge, data, tmp_path):
    run = write_run(tmp_path / "run", [photograph(1)])
    (run / "image_000.png").unlink()
    with pytest.raises(InputError, match=r"no image_000\.png"):
        compare({"x": run}, real=data / "real", judge=judge, output=tmp_path / "out")


def test_a_baseline_knows_no_statistics(tmp_path):
    """What maximize makes with the statistics of a class is measured like everything else, and sets no mark for ours."""
    images = np.full((2, 8, 8, 3), 0.5)
    for command, statistics_hash in (("maximize", None), ("maximize", "ab12"), ("generate", "ab12")):
        folder = tmp_path / f"{command}_{statistics_hash}"
        write_run(folder, images, command=command, statistics_hash=statistics_hash)
    contestants = read_contestants({path.name: [path] for path in tmp_path.iterdir()})
    roles = {contestant.name: contestant.role for contestant in contestants}
    assert roles == {"maximize_None": "baseline", "maximize_ab12": "other", "generate_ab12": "ours"}


def face_of(picture, *places):
    """A grey canvas (96 x 192) with the astronaut's face (64 x 64) pasted at x, y."""
    canvas = np.full((96, 192, 3), 0.5)
    for x, y in places:
        canvas[y : y + 64, x : x + 64] = picture
    return canvas


@pytest.fixture(scope="session")
def portrait():
    pytest.importorskip("cv2", reason="faces need the extra: pip install 'stochdeconv[faces]'")
    data = pytest.importorskip("skimage.data", reason="the photograph of a face is scikit-image's")
    return image_files.resize((data.astronaut()[20:240, 110:330] / np.float32(255)).astype(np.float32), (64, 64))


@pytest.fixture(scope="session")
def face_data(portrait, tmp_path_factory):
    """Photographs with one face, images with two, and images with none."""
    root = tmp_path_factory.mktemp("faces")
    for i in range(4):
        image_files.save_png(root / "real" / f"{i}.png", face_of(portrait, (20 + 25 * i, 16)))
    two = face_of(portrait, (16, 16), (112, 16))
    write_run(root / "runs" / "two", [two, two, face_of(portrait), two])
    write_run(root / "runs" / "none", [face_of(portrait)] * 3, command="maximize")
    return root


def test_faces_are_counted_and_placed(face_data, tmp_path):
    contestants = {name: [face_data / "runs" / name] for name in ("two", "none")}
    metrics = compare(contestants, real=face_data / "real", judge="faces", output=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    keys = ["with_face", "mean_faces", "spectrum_slope", "gradient_kurtosis", "color_distance"]
    for row in [*metrics["contestants"].values(), metrics["real"], metrics["real_vs_real"]]:
        assert list(row) == ["n", *keys]  # what needs a network is not there, rather than undefined
    assert [value(metrics, name, "with_face") for name in ("two", "none", "real")] == [0.75, 0, 1]
    assert [value(metrics, name, "mean_faces") for name in ("two", "none", "real")] == [1.5, 0, 1]
    figure = metrics["contestants"]["two"]["mean_faces"]
    assert figure["low"] < 1.5 < figure["high"] <= 2
    assert metrics["judge"]["name"] == "faces" and "haarcascade" in metrics["judge"]["source"]
    pictures = metrics["classes"]["n00000001"]["contestants"]["two"]["images"]
    assert [len(picture["faces"]) for picture in pictures] == [2, 2, 0, 2]
    for (x, y, width, height), left in zip(sorted(pictures[0]["faces"]), (16, 112), strict=True):
        # The face is the middle of what was pasted.
        assert left <= x < left + 32 < x + width <= left + 66 and 14 <= y < 48 < y + height <= 82
    assert set(metrics["marks"]["two"]) == set(keys[2:])
    assert metrics["warnings"] == []  # no figure here grows with the number of images, which differs


def test_the_report_draws_boxes_around_faces(face_data, tmp_path, whole_page):
    compare({"two": [face_data / "runs/two"]}, real=face_data / "real", judge="faces", output=tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Nobody is ranked" in page and "two 75\u00a0% (1.50 an image)" in page and "faces: 2" in page
    assert "what the judge calls it" not in page and "KID of every contestant" not in page
    drawn = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(content))), int)
        for content in re.findall(r'class="made" src="data:image/jpeg;base64,([^"]+)"', page)
    ]
    green = [((image[..., 1] > 160) & (image[..., 1] > image[..., 0] + 60)).sum() for image in drawn]
    # Four photographs of one face, then images of 2, 2, 0 and 2.
    assert len(green) == 8 and green[6] == 0
    assert all(n > 40 for n in green[:6]) and green[4] > 1.5 * green[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"judge": "face"}, "judge 'face' is a word, but the only one is 'faces'"),
        ({"train": "real"}, "no features in which a training photograph could be near"),
        ({"real": "real.npz"}, "holds what a network measured"),
    ],
)
def test_what_a_face_detector_cannot_do_is_refused(face_data, tmp_path, change, message):
    paths = {name: path if name == "judge" else face_data / path for name, path in change.items()}
    options = {"real": face_data / "real", "judge": "faces", **paths}
    with pytest.raises(InputError, match=message):
        compare({"two": [face_data / "runs/two"]}, output=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_what_images_owe_to_single_photographs_is_read_off_their_records(judge, data, tmp_path, whole_page):
    pieces = {"exemplars": 30, "largest_share": [0.2, 0.1, 0.1, 0.2], "largest_piece": [0.01, 0.02, 0.01, 0.02]}
    images = [photograph(seed) for seed in range(300, 304)]
    drawn = write_run(tmp_path / "drawn", images, pieces_of_photographs=pieces)
    # The left half is from photograph 3, the right one from photograph 8.
    sources = np.zeros((4, 6, 6, 3), np.int16)
    sources[..., :3, 0], sources[..., 3:, 0] = 3, 8
    np.savez(drawn / "targets.npz", sources=sources, source_rows=np.zeros(4, int))
    metrics = compare(
        {"drawn": [drawn], **runs(data, "good", classes=["cat"])},
        real=data / "real",
        judge=judge,
        output=tmp_path / "out",
    )
    assert value(metrics, "drawn", "largest_share") == pytest.approx(0.15)
    assert value(metrics, "drawn", "largest_piece") == pytest.approx(0.015)
    assert metrics["marks"]["drawn"]["largest_share"]["met"] is False
    assert metrics["marks"]["drawn"]["largest_piece"]["met"] is True
    for name in ("good", "real", "real_vs_real"):
        assert value(metrics, name, "largest_share") is None
    page = (tmp_path / "out" / "report.html").read_text()
    assert "From one photograph" in page and "a coloured map shows which" in page
    maps = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(content))), float)
        for content in re.findall(r'class="sources" src="data:image/jpeg;base64,([^"]+)"', page)
    ]
    assert len(maps) == 4
    for drawn in maps:
        width = drawn.shape[1]
        left, right = drawn[:, : width // 3], drawn[:, -width // 4 :]
        assert np.abs(left.mean(axis=(0, 1)) - right.mean(axis=(0, 1))).max() > 40
        assert max(left.std(axis=(0, 1)).max(), right.std(axis=(0, 1)).max()) < 12
        # The line between them is a pixel wide, whatever the size.
        assert drawn.mean(axis=(0, 2)).min() < 0.7 * min(left.mean(), right.mean())


@pytest.mark.parametrize(
    "content", [b"no archive", {"scores": np.zeros(3)}, {"sources": np.zeros((1, 6, 6, 3), np.int16)}]
)
def test_sources_that_are_none_are_refused(judge, data, tmp_path, content):
    pieces = {"largest_share": [0.2, 0.1], "largest_piece": [0.01, 0.01]}
    drawn = write_run(tmp_path / "drawn", [photograph(1), photograph(2)], pieces_of_photographs=pieces)
    if isinstance(content, bytes):
        (drawn / "targets.npz").write_bytes(content)
    else:
        np.savez(drawn / "targets.npz", **content)
    with pytest.raises(InputError, match=r"targets\.npz.*make the run again"):
        compare({"drawn": [drawn]}, real=data / "real", judge=judge, output=tmp_path / "out")
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_the_report_is_silent_of_photographs_that_nothing_was_drawn_from(result):
    page = (result[1] / "report.html").read_text()
    assert "From one photograph" not in page and "coloured map" not in page and 'class="sources"' not in page


def test_a_record_of_other_images_is_refused(judge, data, tmp_path):
    pieces = {"largest_share": [0.2], "largest_piece": [0.01]}
    drawn = write_run(tmp_path / "drawn", [photograph(1), photograph(2)], pieces_of_photographs=pieces)
    with pytest.raises(InputError, match="a number for each of 2 images"):
        compare({"drawn": [drawn]}, real=data / "real", judge=judge, output=tmp_path / "out")
