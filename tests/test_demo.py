"""`stochdeconv demo`: the main job on what ships, without a network connection of any kind."""

import json
import socket
import threading
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from commands import call

from stochdeconv import demo as demo_module
from stochdeconv.assets import shipped_file
from stochdeconv.errors import ExistingOutputError
from stochdeconv.images.files import load_image
from stochdeconv.methods.generate import generate
from stochdeconv.methods.runs import RunInterrupted, RunResult
from stochdeconv.networks.image_model import load_model
from stochdeconv.optimization.results import Step
from stochdeconv.statistics.file import load_statistics


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One quick demo, in an empty working folder, with every socket refused: its folder, what it printed, and processor seconds."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("demo")
    contacts = []

    def refuse(*what, **__):
        # Who catches the error and goes on has asked all the same.
        contacts.append(what)
        raise OSError("there is no network")

    with patch.context() as blocked:
        blocked.chdir(folder)
        for name in ("socket", "create_connection", "getaddrinfo", "socketpair"):
            blocked.setattr(socket, name, refuse)
        before = time.process_time()
        result = call("demo", "--quick")
        seconds = time.process_time() - before
    assert result.exit_code == 0, result.output
    assert not contacts, "the demo asked for a network connection"
    return folder / "out" / "demo", result.stdout, seconds


def test_it_ends_with_the_report(finished):
    output, printed, _ = finished
    lines = printed.splitlines()
    assert lines[-1] == "out/demo/report.html"
    assert "scikit-learn" in lines[0]
    page = (output / "report.html").read_text()
    assert "church, English springer, golf ball" in page
    assert "no picture to show" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_it_takes_no_longer_than_is_promised(finished):
    """README says half a minute on two processors: no more than a minute's work, whatever else the machine does."""
    assert finished[2] <= 60


def test_every_figure_has_its_real_side(finished):
    metrics = json.loads((finished[0] / "metrics.json").read_text())
    assert list(metrics["contestants"]) == ["local", "chain", "simonyan", "regularised", "fourier"]
    assert metrics["judge"]["name"] == "mini-resnet"
    for row in (*metrics["contestants"].values(), metrics["real"]):
        assert row["n"] == 3 * demo_module.QUICK.n_images
        for key in ("judge_top1", "kid", "coverage", "cam_peaks", "spectrum_slope", "color_distance"):
            assert row[key]["value"] is not None
    assert metrics["real"]["judge_top1"]["value"] > 0.5
    assert [of_class["n_real"] > 150 for of_class in metrics["classes"].values()] == [True] * 3


def test_images_are_of_all_classes_and_differ(finished):
    effort = demo_module.QUICK
    for name in (*demo_module.SAMPLERS, *demo_module.PRESETS):
        seen = []
        for stem in ("church", "English_springer", "golf_ball"):
            folder = finished[0] / name / stem
            record = json.loads((folder / "run.json").read_text())
            assert record["class"]["label"] == stem.replace("_", " ")
            assert record["settings"]["n_steps"] == effort.n_steps
            assert record["model"]["source"] == "mini-vgg16"
            seen += [load_image(path) for path in sorted(folder.glob("image_*.png"))]
        assert len(seen) == 3 * effort.n_images
        differences = [np.abs(a - b).mean() for i, a in enumerate(seen) for b in seen[:i]]
        assert min(differences) > 1e-4


def test_runs_at_the_same_time_make_what_each_makes_alone(finished):
    effort = demo_module.QUICK
    model = load_model("mini-vgg16")
    alone = generate(
        model,
        load_statistics(shipped_file("mini-vgg16", "golf_ball.h5")),
        sampler="chain",
        n_images=effort.n_images,
        n_steps=effort.n_steps,
    )
    # As files have them; the others ran beside it when the demo made these.
    theirs = [load_image(path) for path in sorted((finished[0] / "chain" / "golf_ball").glob("image_*.png"))]
    np.testing.assert_array_equal(np.round(np.clip(alone.images, 0, 1) * 255), np.round(np.array(theirs) * 255))


def test_statistics_are_collected_here(finished):
    statistics = load_statistics(finished[0] / "crops.h5")
    assert statistics.n_images == 2 * demo_module.QUICK.n_crops
    assert {name.split("_")[0] for name in statistics.image_names} == {"china", "flower"}


@pytest.fixture
def quick_stand_ins(monkeypatch, tmp_path):
    """Replace what takes time: runs and comparison only leave their files, and say what they were asked."""
    calls = []

    def stand_in(command):
        def make(model, what, *, n_images, n_steps, seed, callback, **options):
            calls.append((command, options))
            callback(Step(n_steps // 2, n_steps, {"some_term": 0.25}, None))
            callback(Step(n_steps, n_steps, {}, None))
            record = {"command": command, "class": None, "n_images": 1, "complete": True}
            return RunResult(np.zeros((1, 4, 4, 3), np.float32), [], record)

        return make

    def compared(contestants, *, output, progress, **_):
        calls.append(("compare", list(contestants)))
        progress(1, 2, "half of it")
        progress(2, 2, "all of it")
        (output / "report.html").write_text("new")
        return {"contestants": {}}

    monkeypatch.setattr(import_module("stochdeconv.methods.generate"), "generate", stand_in("generate"))
    monkeypatch.setattr(import_module("stochdeconv.methods.maximize"), "maximize", stand_in("maximize"))
    monkeypatch.setattr(import_module("stochdeconv.evaluation.compare"), "compare", compared)
    return calls


def test_progress_rises_to_its_total(quick_stand_ins, tmp_path):
    calls = []
    demo_module.demo(tmp_path / "out", quick=True, progress=lambda *call: calls.append(call))
    numbers, totals, messages = zip(*calls, strict=True)
    assert len(set(totals)) == 1
    assert list(numbers) == sorted(numbers)
    assert (numbers[0], numbers[-1]) == (0, totals[0])
    assert any("scikit-learn" in message for message in messages)
    assert any("some_term 0.25" in message for message in messages)
    assert any("components of" in message for message in messages)
    commands = [command for command, _ in quick_stand_ins]
    assert sorted(commands[:-1]) == ["generate"] * 6 + ["maximize"] * 9
    assert quick_stand_ins[-1] == ("compare", [*demo_module.SAMPLERS, *demo_module.PRESETS])


def test_a_part_of_a_demo_is_refused_at_once_and_replaced_when_told(quick_stand_ins, tmp_path):
    output = tmp_path / "out"
    for name in ("crops", "chain"):
        (output / name).mkdir(parents=True)
        with pytest.raises(ExistingOutputError, match=rf"earlier demo \({name}\)"):
            demo_module.demo(output, quick=True)
        (output / name).rename(tmp_path / name)
    assert not quick_stand_ins
    demo_module.demo(output, quick=True)
    (output / "crops" / "china_99.png").write_bytes(b"an old crop")
    (output / "crops" / "mine.png").write_bytes(b"not the demo's")
    (output / "report.html").write_text("old")

    at_work = threading.Event()

    def part_of(command):
        record = {"command": command, "complete": False}
        return RunInterrupted(RunResult(np.ones((1, 4, 4, 3), np.float32), [], record))

    def interrupted(*_, **__):
        assert not (output / "report.html").exists()
        assert at_work.wait(60)
        raise part_of("generate")

    def long(*_, callback, **__):
        at_work.set()
        try:
            for _ in range(6000):
                callback(Step(1, 6000, {}, None))
                time.sleep(0.01)
        except KeyboardInterrupt:
            raise part_of("maximize") from None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("stochdeconv.methods.generate"), "generate", interrupted)
        patch.setattr(import_module("stochdeconv.methods.maximize"), "maximize", long)
        with pytest.raises(KeyboardInterrupt):
            demo_module.demo(output, quick=True, overwrite=True)
    assert not (output / "crops" / "china_99.png").exists()
    assert (output / "crops" / "mine.png").exists()
    # What had been made of the run is kept, and of the one beside it, which was told to stop; no other was begun.
    kept = sorted(path.parent.relative_to(output) for path in output.glob("*/*/run.json"))
    begun = [Path("local/church"), Path("simonyan/church")]
    assert [json.loads((output / run / "run.json").read_text())["complete"] for run in begun] == [False, False]
    assert [run for run in kept if not json.loads((output / run / "run.json").read_text())["complete"]] == begun


def test_an_earlier_demo_is_kept_unless_told_otherwise(finished, monkeypatch):
    monkeypatch.chdir(finished[0].parents[1])
    before = (finished[0] / "report.html").read_bytes()
    result = call("demo", "--quick")
    assert result.exit_code == 1
    assert "--overwrite" in result.stderr
    assert (finished[0] / "report.html").read_bytes() == before
