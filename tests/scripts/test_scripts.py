"""The scripts run as they are, on a small network and few pictures."""

import json
import runpy
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import stochdeconv as sd
from stochdeconv.images.files import load_image
from stochdeconv.methods.recognition import recognise
from stochdeconv.methods.saliency import RULES

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    inputs = x = keras.Input((32, 32, 3))
    for number in (1, 2):
        x = keras.layers.Conv2D(6, 3, strides=number, activation="relu", name=f"conv{number}")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    kernel, bias = model.layers[-1].get_weights()
    # Church is seen wherever something fires, barn nowhere.
    model.layers[-1].set_weights([np.abs(kernel) * [1, -1], bias])
    model.save(folder / "tiny.keras")
    sidecar = {"preprocessing": "tf", "class_names": ["church", "barn"]}
    (folder / "tiny.json").write_text(json.dumps(sidecar))
    rng = np.random.default_rng(0)
    for name in ("church", "barn"):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(70):
            pixels = (rng.random((4, 4, 3)) * 255).astype(np.uint8)
            Image.fromarray(pixels).resize((32, 32)).save(folder / "photos" / name / f"{number:02d}.png")
    return folder


def run(monkeypatch, capsys, script, *words):
    monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
    (path,) = SCRIPTS.glob(f"*/{script}")
    runpy.run_path(str(path), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_collect_then_sample(kit, tmp_path, monkeypatch, capsys):
    words = (kit / "photos", "-m", kit / "tiny.keras", "-o", tmp_path, "--n-components", 4)
    printed = run(monkeypatch, capsys, "collect_class_statistics.py", *words)
    assert printed == [str(tmp_path / "barn.h5"), str(tmp_path / "church.h5")]
    held_out = (tmp_path / "church_held_out.txt").read_text().splitlines()
    assert [Path(path).name for path in held_out] == [f"{number}.png" for number in range(56, 70)]

    words = (tmp_path / "church.h5", "-o", tmp_path / "out", "-n", 1, "--n-steps", 2, "--samplers", "chain", "joint")
    printed = run(monkeypatch, capsys, "sample_class_images.py", *words)
    assert printed == [str(tmp_path / "out" / sampler / "contact_sheet.png") for sampler in ("chain", "joint")]
    for sheet in printed:
        assert Path(sheet).is_file()


def test_collect_finds_what_the_command_finds(kit, tmp_path, monkeypatch, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "church").symlink_to(kit / "photos" / "church")
    (tmp_path / "photos" / "barn").mkdir()
    (tmp_path / "photos" / "barn" / "linked").symlink_to(kit / "photos" / "barn")
    Image.fromarray(np.full((32, 32, 3), 99, np.uint8)).save(tmp_path / "photos" / "barn" / "a.bmp")
    (tmp_path / "photos" / "notes").mkdir()
    words = (tmp_path / "photos", "-m", kit / "tiny.keras", "-o", tmp_path / "out", "--n-components", 4)
    printed = run(monkeypatch, capsys, "collect_class_statistics.py", *words)
    assert printed == [str(tmp_path / "out" / name) for name in ("barn.h5", "church.h5")]
    assert sd.load_statistics(tmp_path / "out" / "barn.h5").image_names[:2] == ("a.bmp", "linked/00.png")


def test_small_files_have_few_rows(kit, tmp_path, monkeypatch, capsys):
    words = (kit / "photos", "-m", kit / "tiny.keras", "-o", tmp_path, "--classes", "church", "--n-components", 4)
    words += ("--layout-size", 3, "--n-rows", 10)
    run(monkeypatch, capsys, "collect_class_statistics.py", *words)
    statistics = sd.load_statistics(tmp_path / "church.h5")
    assert (statistics.n_images, statistics.n_rows) == (56, 10)
    assert statistics["conv2"].layout_shape[:2] == (3, 3)


def test_distance_of_samples(kit, tmp_path, monkeypatch, capsys):
    words = (kit / "photos", "-m", kit / "tiny.keras", "-o", tmp_path, "--n-components", 4)
    run(monkeypatch, capsys, "collect_class_statistics.py", *words)
    printed = run(monkeypatch, capsys, "distance_of_samples.py", tmp_path / "church.h5", "-n", 4)
    distances = {name: float(value) for name, value in (line.split() for line in printed)}
    assert list(distances) == list(sd.samplers.SAMPLERS)
    assert 0 < distances["bootstrap"] < distances["joint"]


def test_outlier_suppression(kit, tmp_path, monkeypatch, capsys):
    words = (kit / "photos", "-m", kit / "tiny.keras", "-o", tmp_path, "--n-components", 4)
    run(monkeypatch, capsys, "collect_class_statistics.py", *words)
    words = (tmp_path / "church.h5", tmp_path / "barn.h5", "--real", kit / "photos", "--judge", kit / "tiny.keras")
    words += ("-o", tmp_path / "out", "-n", 1, "--n-steps", 2, "--presets", "fourier")
    printed = run(monkeypatch, capsys, "outlier_suppression.py", *words)
    assert len([line for line in printed if line.endswith("contact_sheet.png")]) == 4
    names = ["fourier", "fourier_without_outliers_10"]
    rows = [line.split() for line in printed[-7:]]
    assert rows[0][:2] == ["cam_peaks", "own_peaks"]
    assert [row[0] for row in rows] == ["cam_peaks", *names, "real", "cam_peaks,", "church", "barn"]
    metrics = json.loads((tmp_path / "out/report/metrics.json").read_text())
    own = [of["contestants"][names[0]]["own_peaks"]["value"] for of in metrics["classes"].values()]
    assert metrics["contestants"][names[0]]["own_peaks"]["value"] == np.mean(own)
    # A map that is positive anywhere has a place as strong as its strongest; a class seen nowhere has no places to count.
    assert own[0] >= 1
    assert rows[-2][1] != "-,"
    assert rows[-1][1] == "-,"
    record = json.loads((tmp_path / "out" / names[1] / "church" / "run.json").read_text())
    assert record["statistics_hash"] == sd.load_statistics(tmp_path / "church.h5").hash()
    # What is finished is not made again; what another weight made is.
    again = run(monkeypatch, capsys, "outlier_suppression.py", *words)
    assert not [line for line in again if line.endswith("contact_sheet.png")]
    run(monkeypatch, capsys, "outlier_suppression.py", *words, "--weights", 5)
    assert (tmp_path / "out" / "fourier_without_outliers_5" / "barn" / "run.json").is_file()
    # Fewer layers, fewer terms.
    run(monkeypatch, capsys, "outlier_suppression.py", *words, "--n-layers", 1)
    histories = [tmp_path / "out" / name / "barn/history.csv" for name in (names[1], names[1] + "_of_1")]
    n_terms = [path.read_text().splitlines()[0].count("outliers:") for path in histories]
    assert n_terms[1] == 1 < n_terms[0]


def test_compare_morphs(kit, tmp_path, monkeypatch, capsys):
    words = (kit / "photos", "-m", kit / "tiny.keras", "-o", tmp_path, "--n-components", 4)
    run(monkeypatch, capsys, "collect_class_statistics.py", *words)
    words = (kit / "photos/barn/00.png", "barn", "--into", tmp_path / "church.h5", "--judge", kit / "tiny.keras")
    words += ("--statistics-of-starts", tmp_path / "barn.h5", "-o", tmp_path / "out", "-n", 2, "--n-steps", 2)
    printed = run(monkeypatch, capsys, "compare_morphs.py", *words, "--weights", 0, 3)
    assert printed[-3].split() == ["weight", "strength", "00", "barn", "all"]
    folders = {name: tmp_path / "out" / f"weight_{name}_strength_4" / "barn_church" for name in (0, 3)}
    records = {name: json.loads((folder / "run.json").read_text()) for name, folder in folders.items()}
    church, barn = (sd.load_statistics(tmp_path / f"{name}.h5").hash() for name in ("church", "barn"))
    assert [records[name]["statistics_hash"] for name in (0, 3)] == [None, f"{barn},{church}"]
    actual = json.loads((tmp_path / "out/morphs.json").read_text())["morphs"]
    pictures = [load_image(path) for path in sorted(folders[3].glob("image_*.png"))]
    sure = recognise(sd.load_model(kit / "tiny.keras"), pictures)[:, 0]
    assert actual[-1]["probability"] == pytest.approx(sure.mean()) and actual[-1]["weight"] == 3
    # What is finished is not made again, unless by other settings.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("run.json")}
    assert len(before) == 4
    run(monkeypatch, capsys, "compare_morphs.py", *words, "--weights", 0, 3)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    # Other statistics make other morphs, but for those that read none.
    again = (kit / "photos", "-m", kit / "tiny.keras", "-o", tmp_path / "other", "--n-components", 3)
    run(monkeypatch, capsys, "collect_class_statistics.py", *again)
    others = [tmp_path / "other/church.h5" if word == tmp_path / "church.h5" else word for word in words]
    run(monkeypatch, capsys, "compare_morphs.py", *others, "--weights", 0, 3)
    now = {path: path.stat().st_mtime_ns for path in before}
    assert [now[path] > time for path, time in before.items()] == ["weight_3" in str(path) for path in before]
    before = now
    run(monkeypatch, capsys, "compare_morphs.py", *words, "--weights", 0, "--seed", 1)
    assert [path.stat().st_mtime_ns > time for path, time in before.items()] == [
        "weight_0" in str(path) for path in before
    ]


@pytest.mark.filterwarnings("ignore:56 images cannot give 64 layout components")
def test_compare_with_simonyan(kit, tmp_path, monkeypatch, capsys):
    network = kit / "tiny.keras"
    words = (kit / "photos/church", "-m", network, "--judge", network, "-o", tmp_path / "out", "-n", 2, "--n-steps", 2)
    words = (*words, "--exemplars", 40)
    printed = run(monkeypatch, capsys, "compare_with_simonyan.py", *words)
    names = [line.split()[0] for line in printed if " " in line]
    assert names == ["simonyan", "regularised", "fourier", "chain", "joint", "bootstrap", "local", "exemplars"]
    assert Path(printed[-1]).is_file()
    metrics = json.loads((tmp_path / "out/report/metrics.json").read_text())
    assert metrics["settings"]["train"].endswith("train")
    # One image of the one class beside each other, three rows, at half their size.
    assert load_image(tmp_path / "out" / "overview.png").shape == (3 * (16 + 4) + 4, 1 * (16 + 4) + 4, 3)
    # What is finished is not made again.
    again = run(monkeypatch, capsys, "compare_with_simonyan.py", *words)
    assert not [line for line in again if line.endswith("contact_sheet.png")]
    # What another program's recipe made is.
    record = tmp_path / "out/joint/church/run.json"
    record.write_text(record.read_text().replace('"class_term": 0.2', '"class_term": 0.3'))
    again = run(monkeypatch, capsys, "compare_with_simonyan.py", *words)
    assert [Path(line).parts[-3] for line in again if line.endswith("contact_sheet.png")] == ["joint"]


def test_ablation_takes_up_its_own_rows_and_no_others(kit, tmp_path, monkeypatch, capsys):
    network = kit / "tiny.keras"
    words = (kit / "photos", "-m", network, "--judge", network, "-o", tmp_path / "rows", "-n", 2, "--n-steps", 1)
    words = (*words, "--classes", "church", "--work", tmp_path / "work", "--n-components", 8)
    printed = run(monkeypatch, capsys, "ablation.py", *words, "--rows", "simonyan", "local-no-maps", "exemplars")
    assert [line.split()[0] for line in printed] == ["simonyan", "local-no-maps", "exemplars"]
    assert "left out: the sampler 'exemplars' draws places from photographs" in printed[-1]
    made = json.loads((tmp_path / "rows/local-no-maps.json").read_text())
    assert made["settings"]["sampler"] == "local" and made["settings"]["recipe"]["maps"] == 0
    before = (tmp_path / "rows/simonyan.json").read_bytes()
    assert run(monkeypatch, capsys, "ablation.py", *words, "--rows", "simonyan") == printed[:1]
    assert (tmp_path / "rows/simonyan.json").read_bytes() == before
    with pytest.raises(SystemExit, match="made with another against; remove it"):
        run(monkeypatch, capsys, "ablation.py", *words, "--rows", "simonyan", "--against", "train")


def test_the_sheet_of_what_ships(tmp_path, monkeypatch, capsys):
    words = ("-o", tmp_path, "-n", 1, "--n-steps", 2)
    printed = run(monkeypatch, capsys, "draw_sheet.py", *words)
    assert printed[:3] == ["tench", "English_springer", "cassette_player"]
    assert printed[-1] == str(tmp_path / "mini-vgg16.png")
    height, width = load_image(printed[-1]).shape[:2]
    assert height > 4 * width  # ten classes below each other, two pictures of each


def test_optimize_voxels(tmp_path, monkeypatch, capsys):
    words = ("-o", tmp_path / "voxels.npz", "--n-molecules", 50, "--n-epochs", 1, "--n-steps", 2)
    printed = run(monkeypatch, capsys, "optimize_voxels.py", *words)
    assert printed[0].endswith("of 500 new molecules") and printed[-1] == str(tmp_path / "voxels.npz")
    rows = ["start", "all constraints", "without non-negativity", "without sparsity", "without crowding"]
    rows += ["without strain", "no constraint"]
    assert [line[:24].strip() for line in printed[3:10]] == rows
    grids = np.load(tmp_path / "voxels.npz")
    assert len(grids.files) == 12 and grids["noise: all constraints"].shape == (16, 16, 16, 2)


def test_check_saliency(kit, monkeypatch, capsys):
    photo = kit / "photos" / "church" / "00.png"
    header, _, *rows = run(monkeypatch, capsys, "check_saliency.py", photo, "--n-draws", 1, "--n-samples", 1)
    assert header == "| rule | predictions | fc1 | block5_conv1 | block4_conv1 |"
    assert [row.split("`")[1] for row in rows] == list(RULES)
    for row in rows:
        assert all(-1 <= float(cell) <= 1 or cell.strip() == "nan" for cell in row.split("|")[2:-1])


def test_dreams_are_compared_with_those_of_2015(kit, tmp_path, monkeypatch, capsys):
    photo = kit / "photos/church/00.png"
    words = (photo, "-m", kit / "tiny.keras", "--layers", "conv1,2", "-o", tmp_path, "--octaves", 1, "--n-steps", 2)
    printed = run(monkeypatch, capsys, "compare_dreams.py", *words, "--jitter", 0)
    assert [line.split()[0] for line in printed] == ["conv1", "conv2"]
    for line in printed:
        rises = [float(word) for word in line.split() if "." in word]
        assert rises[0] == pytest.approx(rises[1], abs=0.02) and rises[0] > 1
    assert load_image(tmp_path / "conv2.png").shape[1] > 3 * 32
