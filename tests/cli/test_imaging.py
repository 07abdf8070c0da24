"""Commands that make, explain and compare images, as a user meets them."""

import csv
import io
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from commands import SHORT, SMALL, call, files_in, refuse, succeed
from PIL import Image
from toys import CLASS_NAMES

from stochdeconv.cli import terminal
from stochdeconv.cli.compare import name_contestants
from stochdeconv.methods.runs import RunResult
from stochdeconv.statistics.file import load_statistics


def test_generate_leaves_what_the_interface_lists(made):
    images = [f"image_00{number}.png" for number in range(2)]
    left = ["contact_sheet.png", "history.csv", *images, "run.json", "targets.npz"]
    assert files_in(made / "ours") == left
    record = json.loads((made / "ours/run.json").read_text())
    assert record["command"] == "generate"
    assert record["class"]["label"] == "church"
    assert record["complete"] is True
    assert len(list(csv.DictReader(io.StringIO((made / "ours/history.csv").read_text())))) == 2
    assert files_in(made / "theirs") == left[:-1]


def test_flags_reach_the_run(made, here):
    words = ["--sampler", "chain", "--temperature", 0.5, "--gradient-rule", "guided", "--batch-size", 1, "--seed", 3]
    called = succeed("generate", made / "church.h5", "-o", "out", *SHORT, *words, "--dtype", "bfloat16")
    assert called.stdout == "out/contact_sheet.png\n"
    record = json.loads(Path("out/run.json").read_text())
    settings = record["settings"]
    assert (settings["sampler"], settings["temperature"], settings["gradient_rule"]) == ("chain", 0.5, "guided")
    assert (settings["batch_size"], record["seed"]) == (1, 3)
    assert settings["optimization"]["dtype"] == "bfloat16"
    words = ["--preset", "regularised", "--l2", 0.1, "--blur", 1.5, "--jitter", 2, "--clip", 0.25, "--size", 40]
    succeed("maximize", "--unit", "conv2:3", "-m", made / "tiny.keras", "-o", "unit", *SHORT, *words)
    record = json.loads(Path("unit/run.json").read_text())
    settings = record["settings"]
    assert (settings["unit"], settings["preset"]) == ("conv2:3", "regularised")
    assert (settings["l2"], settings["blur"], settings["jitter"], settings["clip"]) == (0.1, 1.5, 2, 0.25)
    assert record["image_size"] == [40, 40]
    assert record["class"] is None


def test_generate_shows_a_component_and_a_walk(made, here):
    steps = ("--n-steps", 2)
    animation = ["out/animation.gif", "out/animation.mp4"]
    succeed("generate", made / "church.h5", "-o", "out", "--component", "conv2:1", *steps)
    assert {"out/deviations.csv", "out/image_004.png"} <= set(files_in(here)) and "out/image_005.png" not in files_in(
        here
    )
    again = ["-n", 3, "--gif", "--overwrite"]
    succeed("generate", made / "church.h5", "-o", "out", "--component", "conv2:1", *steps, *again)
    rows = list(csv.DictReader(io.StringIO(Path("out/deviations.csv").read_text())))
    assert [float(row["asked"]) for row in rows] == [-2.0, 0.0, 2.0]
    assert set(animation) <= set(files_in(here)) and "out/image_003.png" not in files_in(here)
    succeed("generate", made / "church.h5", "-o", "out", "--walk", 6, *steps, "--overwrite")
    assert json.loads(Path("out/run.json").read_text())["settings"]["walk"] == 6
    with Image.open("out/animation.gif") as gif:
        assert gif.n_frames == 6
    assert "out/image_005.png" in files_in(here) and "out/deviations.csv" not in files_in(here)


def test_saliency_leaves_a_picture_and_a_map_for_each_rule(made, here):
    words = [made / "held/00.png", "-m", made / "tiny.keras"]
    called = succeed("saliency", *words, "-o", "all", "--n-samples", 2, "--batch-size", 1)
    assert called.stdout == "all/contact_sheet.png\n"
    pictures = [f"image_{number:03d}.png" for number in range(7)]
    assert files_in(Path("all")) == ["contact_sheet.png", "history.csv", *pictures, "maps.npz", "run.json"]
    record = json.loads(Path("all/run.json").read_text())
    assert record["command"] == "saliency" and record["class"]["label"] in CLASS_NAMES
    flags = ["--unit", "conv2:3", "--rule", "grad-cam,smoothgrad", "--layer", "pool1", "--seed", 3, "--size", 40]
    succeed("saliency", *words, "-o", "unit", *flags, "--n-samples", 2, "--noise", 0.5)
    record = json.loads(Path("unit/run.json").read_text())
    settings = record["settings"]
    assert (settings["unit"], settings["layer"], settings["rules"]) == ("conv2:3", "pool1", ["grad_cam", "smoothgrad"])
    assert (settings["n_samples"], settings["noise"], record["seed"]) == (2, 0.5, 3)
    assert record["image_size"] == [40, 40] and record["class"] is None
    succeed("saliency", made / "held/00.png", "barn", "-m", made / "tiny.keras", "-o", "barn", "--rule", "gradient")
    assert json.loads(Path("barn/run.json").read_text())["class"]["label"] == "barn"


def test_maximize_ablates_constraints(made, here):
    words = ("--ablate-constraints", "--blur", 2, "--blur-every", 2, "--contribution", 70, "-n", 1, "--n-steps", 2)
    called = succeed("maximize", "church,barn", "-m", made / "tiny.keras", "-o", "out", *words)
    assert called.stdout == "out/contact_sheet.png\n"
    assert len(list(Path("out").glob("image_*.png"))) == 7
    settings = json.loads(Path("out/run.json").read_text())["settings"]
    assert [actual["label"] for actual in settings["classes"]] == ["church", "barn"]
    rows = settings["ablate_constraints"]
    assert (rows["all"]["blur"], rows["blur"]["blur_every"], rows["contribution"]["contribution"]) == (2, 2, 70)


def test_maximize_takes_directions_diversity_and_statistics(made, here):
    np.save("v.npy", np.arange(8.0))
    words = ("--diversity", 2, "--diversity-layer", "conv1", *SHORT)
    succeed("maximize", "--direction", "conv2:v.npy", "-m", made / "tiny.keras", "-o", "along", *words)
    record = json.loads(Path("along/run.json").read_text())
    assert record["settings"]["direction"]["layer"] == "conv2"
    assert (record["settings"]["diversity"], record["settings"]["diversity_layer"]) == (2, "conv1")
    words = ("--suppress-outliers", made / "church.h5", "--outlier-weight", 3, *SHORT)
    succeed("maximize", "church", "-m", made / "tiny.keras", "-o", "held", *words)
    record = json.loads(Path("held/run.json").read_text())
    assert record["statistics_hash"] == load_statistics(made / "church.h5").hash()
    assert record["settings"]["outlier_weight"] == 3
    assert record["settings"]["suppress_outliers"] == str(made / "church.h5")
    assert any(name.startswith("outliers:") for name in record["settings"]["optimization"]["loss"])


def test_refine_and_morph_take_statistics(made, here):
    statistics_hash = load_statistics(made / "church.h5").hash()
    words = ("-m", made / "tiny.keras", "--suppress-outliers", made / "church.h5")
    photo = made / "photos/barn/00.png"
    succeed("refine", photo, "church", *words, "-o", "refined", "--checkpoints", 1, "--outlier-weight", 2)
    succeed("morph", "barn", "church", *words, "-o", "morphed", "--n-frames", 2, "--n-steps", 1)
    for name, weight in (("refined", 2), ("morphed", 3)):
        record = json.loads(Path(name, "run.json").read_text())
        assert (record["statistics_hash"], record["settings"]["outlier_weight"]) == (statistics_hash, weight)
    assert "what is raised is barn" in refuse("refine", photo, "barn", *words, "-o", "other")
    twice = f"{made / 'church.h5'},{made / 'church.h5'}"
    assert "twice" in refuse("morph", "barn", "church", *words[:3], twice, "-o", "other")


def test_existing_output_is_refused_before_any_work(made):
    assert "ours" in refuse("generate", "no.h5", "-o", made / "ours")
    assert "ours" in refuse("saliency", "no.png", "-m", "no.keras", "-o", made / "ours")
    assert "ours" in refuse("maximize", "church", "-m", "no.keras", "-o", made / "ours")


@pytest.mark.parametrize("command", ["generate", "maximize"])
def test_same_seed_same_bytes(made, here, command):
    words = {"generate": [made / "church.h5"], "maximize": ["church", "-m", made / "tiny.keras"]}[command]
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        succeed(command, *words, "-o", folder, "--seed", seed, *SHORT)
    a, b, c = (Path(folder, "image_001.png").read_bytes() for folder in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize("command", ["generate", "maximize"])
def test_interrupted_run_keeps_its_images(made, here, monkeypatch, command):
    def interrupt(self, step):
        if step.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(terminal.ProgressBar, "on_step", interrupt)
    words = {"generate": [made / "church.h5"], "maximize": ["church", "-m", made / "tiny.keras"]}[command]
    stopped = call(command, *words, "-o", "out", "-n", 2, "--n-steps", 50)
    assert stopped.exit_code == 130
    assert "out" in stopped.stderr
    assert json.loads(Path("out/run.json").read_text())["complete"] is False
    assert Path("out/image_001.png").exists()


def test_pressing_ctrl_c_again_loses_nothing(made, here, monkeypatch):
    def press(*_):
        os.kill(os.getpid(), signal.SIGINT)

    save = RunResult.save
    monkeypatch.setattr(terminal.ProgressBar, "on_step", press)
    monkeypatch.setattr(RunResult, "save", lambda *words, **options: (press(), save(*words, **options))[1])
    stopped = call("generate", made / "church.h5", "-o", "out", "-n", 2, "--n-steps", 50)
    assert stopped.exit_code == 130
    assert "out" in stopped.stderr
    assert json.loads(Path("out/run.json").read_text())["complete"] is False
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_moved_network_is_named_with_m(made, here):
    shutil.copy(made / "tiny.keras", "moved.keras")
    shutil.copy(made / "tiny.json", "moved.json")
    succeed("collect", made / "held", "-m", "moved.keras", "-o", "c.h5", *SMALL)
    Path("moved.keras").rename("elsewhere.keras")
    Path("moved.json").rename("elsewhere.json")
    assert "-m MODEL" in refuse("generate", "c.h5", "-o", "out", *SHORT)
    succeed("generate", "c.h5", "-m", "elsewhere.keras", "-o", "out", *SHORT)


def test_compare_leaves_metrics_and_report(made, here):
    words = (made / "ours", f"max={made / 'theirs'}", "--real", made / "held", "--judge", made / "tiny.keras")
    called = succeed("compare", *words, "--train", made / "photos/church", "-o", "out")
    assert files_in(here) == ["out/metrics.json", "out/report.html"]
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert list(metrics["contestants"]) == ["ours", "max"]
    table = [line.split() for line in called.stdout.splitlines()]
    assert [row[0] for row in table[1:]] == ["ours", "max", "real", "out/report.html"]
    column = table[0].index("kid") + 1
    assert float(table[1][column]) == pytest.approx(metrics["contestants"]["ours"]["kid"]["value"], rel=0.01)
    assert "pass --overwrite" in refuse("compare", *words, "-o", "out")
    assert "(--train)" in refuse("compare", *words, "-o", "new", "--train", "none")


def test_compare_counts_faces(made, here):
    pytest.importorskip("cv2", reason="faces need the extra: pip install 'stochdeconv[faces]'")
    words = ("compare", made / "ours", "--real", made / "held", "--judge", "faces", "-o", "out")
    called = succeed(*words)
    table = [line.split() for line in called.stdout.splitlines()]
    assert table[0][:2] == ["with_face", "mean_faces"] and table[1][:3] == ["ours", "0", "0"]
    assert json.loads(Path("out/metrics.json").read_text())["judge"]["name"] == "faces"
    assert "train" in refuse(*words, "--train", made / "held", "--overwrite")
    assert "--weights" in refuse(*words, "--weights", "w.h5", "--overwrite", code=2)


def test_contestants_are_named_by_folder_or_by_name(here):
    Path("a=b").mkdir()
    named = name_contestants(["runs/church/ours", "x=runs/1", "x=runs/2", "a=b", "runs/barn/ours/"])
    assert named == {
        "ours": [Path("runs/church/ours"), Path("runs/barn/ours")],
        "x": [Path("runs/1"), Path("runs/2")],
        "a=b": [Path("a=b")],
    }
    for word in ("=runs", "x="):
        refuse("compare", word, "--real", "r", "--judge", "j", "-o", "o", code=2)
