"""The command line, as a user meets it: what it prints, what it leaves, how it fails."""

import csv
import errno
import io
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from commands import CLASS_NAMES, call, files_in, make_network, make_photos, refuse, succeed
from PIL import Image

import stochdeconv.cli.imaging  # noqa: F401  (the commands' modules, so that they can be looked into)
from stochdeconv.cli import COMMANDS, terminal
from stochdeconv.cli.comparing import name_contestants
from stochdeconv.statistics_file import load_statistics, save_statistics

N_PHOTOS = 20


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Networks, photographs, statistics and runs that the tests look at and do not change."""
    folder = tmp_path_factory.mktemp("made")
    make_network(folder / "tiny.keras", seed=0)
    make_network(folder / "other.keras", seed=1)
    for number, name in enumerate(("photos/church", "photos/barn", "held")):
        make_photos(folder / name, N_PHOTOS, seed=number)
    done = call("collect", folder / "photos/church", "-m", folder / "tiny.keras", "-o", folder / "church.h5", *SMALL)
    assert done.exit_code == 0, done.output
    assert call("generate", folder / "church.h5", "-o", folder / "ours", *SHORT).exit_code == 0
    assert call("maximize", "church", "-m", folder / "tiny.keras", "-o", folder / "theirs", *SHORT).exit_code == 0
    return folder


SMALL = ("--n-components", 4, "--layout-size", 8, "--batch-size", 8)
SHORT = ("-n", 2, "--n-steps", 2)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- what every command has in common --------------------------------------------------------------------------------


def test_help_names_every_command_and_is_quick():
    """Processor seconds: those of the wall depend on what else the machine does."""
    program = "from stochdeconv.cli import main; main()"
    command = [sys.executable, "-c", program, "--help"]
    subprocess.run(command, check=True, capture_output=True)
    before = os.times()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    after = os.times()
    for name in COMMANDS:
        assert f" {name} " in done.stdout
    seconds = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    assert seconds < 0.5


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_needs_no_keras(command):
    program = f"""
import sys
from stochdeconv.cli import main
sys.argv = ["stochdeconv", "{command}", "--help"]
try:
    main()
finally:
    heavy = {{"keras", "tensorflow", "sklearn", "matplotlib"}} & set(sys.modules)
    print("heavy:", sorted(heavy), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, capture_output=True, text=True)
    assert "heavy: []" in done.stderr
    assert COMMANDS[command][1].split()[0] in done.stdout


def test_defaults_are_those_of_the_library():
    from stochdeconv.generate import generate

    shown = " ".join(succeed("generate", "--help").stdout.split())
    for name in ("sampler", "n_steps", "gradient_rule", "init", "batch_size"):
        assert f"default: {terminal.default(generate, name)}" in shown


def test_version():
    import stochdeconv

    assert succeed("--version").stdout.strip() == stochdeconv.__version__


@pytest.mark.parametrize("words", [["colect"], ["collect"], ["generate", "a.h5"], ["layers", "a", "b"], ["--no-such"]])
def test_wrong_usage_is_exit_2(words):
    refuse(*words, code=2)


def test_keras_comes_without_the_pages_of_tensorflow(made):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    program = "from stochdeconv.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "layers", made / "tiny.keras"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stderr == ""


# ---- layers, collect, inspect, merge ---------------------------------------------------------------------------------


def test_layers_lists_names_shapes_and_defaults(made):
    lines = [line.split() for line in succeed("layers", made / "tiny.keras").stdout.splitlines()]
    assert lines[0] == ["conv1", "32×32×6", "*"]
    assert ["pool1", "16×16×6"] in lines
    assert lines[-1] == ["predictions", "4"]


def test_collect_without_output_goes_to_the_cache_under_the_class(made, here):
    done = succeed("collect", made / "photos/church", "-m", made / "tiny.keras", *SMALL)
    assert done.stdout == "stats_cache/tiny/church.h5\n"
    assert done.stderr == ""
    assert files_in(here) == ["stats_cache/tiny/church.h5"]


def test_collect_a_tree_gives_one_file_a_class(made, here):
    done = succeed("collect", made / "photos", "-m", made / "tiny.keras", "-o", "out", *SMALL)
    assert sorted(done.stdout.split()) == ["out/barn.h5", "out/church.h5"]
    facts = json.loads(succeed("inspect", "out/barn.h5", "--json").stdout)
    assert facts["class"] == {"index": 1, "wnid": None, "label": "barn"}


def test_collect_a_text_file_of_paths(made, here):
    Path("list.txt").write_text("\n".join(str(path) for path in sorted((made / "held").iterdir())))
    succeed("collect", "list.txt", "-m", made / "tiny.keras", "--class", "1", "-o", "b.h5", *SMALL)
    facts = json.loads(succeed("inspect", "b.h5", "--json").stdout)
    assert facts["class"]["label"] == "barn"
    assert facts["n_images"] == N_PHOTOS


def test_a_folder_the_network_does_not_know_gives_statistics_without_class(made, here):
    succeed("collect", made / "held", "-m", made / "tiny.keras", *SMALL)
    assert files_in(here) == ["stats_cache/tiny/held.h5"]
    assert "class     none" in succeed("inspect", "stats_cache/tiny/held.h5").stdout


def test_inspect_shows_the_layers_and_what_they_explain(made):
    shown = succeed("inspect", made / "church.h5").stdout
    assert "church" in shown
    assert f"{N_PHOTOS}, {N_PHOTOS} with a row" in shown
    facts = json.loads(succeed("inspect", made / "church.h5", "--json").stdout)
    assert [layer["name"] for layer in facts["layers"]] == ["input", "conv1", "conv2"]
    for layer in facts["layers"]:
        # The image keeps up to 192 components, whatever is asked for the layers.
        assert layer["n_components"] == (N_PHOTOS - 1 if layer["name"] == "input" else 4)
        assert 0.2 < layer["explained"] <= 1
        assert f"{layer['explained']:.1%}" in shown


def test_unreadable_images_are_skipped_and_named(made, here):
    shutil.copytree(made / "held", "church")
    Path("church/05.png").write_bytes(b"no picture")
    done = succeed("collect", "church", "-m", made / "tiny.keras", "-o", "c.h5", *SMALL)
    assert done.stdout == "c.h5\n"
    assert "05.png" in done.stderr
    facts = json.loads(succeed("inspect", "c.h5", "--json").stdout)
    assert facts["n_images"] == N_PHOTOS - 1
    assert list(facts["skipped"]) == ["05.png"]
    done = succeed("collect", "church", "-m", made / "tiny.keras", "-o", "1.h5", "--shard", "1/2", *SMALL)
    assert "05.png" not in done.stderr
    done = succeed("collect", "church", "-m", made / "tiny.keras", "-o", "2.h5", "--shard", "2/2", *SMALL)
    assert "05.png" in done.stderr


def test_fewer_images_than_components_is_a_warning_of_one_line(made, here):
    done = succeed("collect", made / "held", "-m", made / "tiny.keras", "-o", "c.h5", "--n-components", 64)
    kept, classless = done.stderr.splitlines()
    assert kept.startswith("warning: ") and "19 kept" in kept
    assert classless.startswith("warning: 'held' is no class of 'tiny'") and "--class" in classless


def test_a_place_that_cannot_be_written_to_is_told_before_the_work(made, here, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != here)
    for words in (("generate", made / "church.h5"), ("maximize", "church", "-m", made / "tiny.keras"), ("demo",)):
        assert f"cannot write to '{here}'" in refuse(*words, "-o", here / "new")
    assert not list(here.iterdir())


def test_shards_merge_to_the_same_statistics(made, here):
    options = ("-m", made / "tiny.keras", *SMALL)
    shards = []
    for number in (1, 2, 3):
        shards += succeed("collect", made / "photos/church", "--shard", f"{number}/3", *options).stdout.split()
    assert len(set(shards)) == 3
    assert succeed("merge", *reversed(shards), "-o", "whole.h5").stdout == "whole.h5\n"
    whole, once = (json.loads(succeed("inspect", path, "--json").stdout) for path in ("whole.h5", made / "church.h5"))
    assert whole["hash"] == once["hash"]
    assert "whole.h5" in refuse("merge", *shards, "-o", "whole.h5")
    assert "3/3" in refuse("merge", *shards[:2], "-o", "other.h5")
    assert not Path("other.h5").exists()


def test_merge_works_beside_its_output_and_leaves_only_that(made, here, monkeypatch):
    options = ("-m", made / "tiny.keras", *SMALL)
    for number in (1, 2):
        succeed("collect", made / "photos/church", "--shard", f"{number}/2", "-o", f"{number}.h5", *options)
    (here / "whole.h5.partial").mkdir()  # of an interrupted collection: none of merge's business
    seen = []

    def look(self, done, total, message):
        seen.append((message, [path.parent.name for path in here.glob("*/manifest.json")]))

    monkeypatch.setattr(terminal.ProgressBar, "on_progress", look)
    assert succeed("merge", "1.h5", "2.h5", "-o", "whole.h5", "--quiet").stdout == "whole.h5\n"
    assert seen[0] == ("joining shards", ["whole.h5.merging"])
    assert sorted(os.listdir(here)) == ["1.h5", "2.h5", "whole.h5", "whole.h5.partial"]


def test_a_second_collection_does_not_disturb_the_first(made, here):
    pytest.importorskip("fcntl")
    import fcntl

    (here / "c.h5.partial").mkdir()
    words = ("collect", made / "photos/church", "-m", made / "tiny.keras", "-o", "c.h5", *SMALL)
    with open("c.h5.partial/lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for option in ([], ["--resume"], ["--overwrite"]):
            assert "another process" in refuse(*words, *option)
        assert files_in(here) == ["c.h5.partial/lock"]


def test_a_network_without_class_scores_is_collected_without_class(made, here):
    network = keras.models.load_model(made / "tiny.keras")
    keras.Model(network.inputs, network.get_layer("pool2").output).save("headless.keras")
    Path("headless.json").write_text('{"preprocessing": "tf"}')
    words = ("collect", made / "photos/church", "-m", "headless.keras", *SMALL)
    assert succeed(*words).stdout == "stats_cache/headless/church.h5\n"
    assert "class     none" in succeed("inspect", "stats_cache/headless/church.h5").stdout
    assert succeed(*words, "--resume").stdout == "stats_cache/headless/church.h5\n"
    assert "no class scores" in refuse(*words, "--class", "church", "-o", "c.h5")


def test_interrupted_collection_resumes_to_the_same_statistics(made, here, monkeypatch):
    words = ("collect", made / "photos/church", "-m", made / "tiny.keras", "-o", "c.h5", *SMALL)

    def interrupt(self, done, total, message):
        if done > 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(terminal.ProgressBar, "on_progress", interrupt)
        stopped = call(*words)
    assert stopped.exit_code == 130
    assert "--resume" in stopped.stderr
    assert not Path("c.h5").exists()
    assert "--resume" in refuse(*words)
    succeed(*words, "--resume")
    assert files_in(here) == ["c.h5"]
    resumed, whole = (json.loads(succeed("inspect", path, "--json").stdout) for path in ("c.h5", made / "church.h5"))
    assert resumed["hash"] == whole["hash"]


def test_resume_begins_where_nothing_is_and_ends_where_all_is(made, here):
    words = ("collect", made / "photos/church", "-m", made / "tiny.keras", "-o", "c.h5", *SMALL, "--resume")
    succeed(*words)
    written = Path("c.h5").stat().st_mtime_ns
    assert succeed(*words).stdout == "c.h5\n"
    assert Path("c.h5").stat().st_mtime_ns == written
    assert "the network's weights" in refuse(*words[:3], made / "other.keras", *words[4:])
    for changed, told in (
        (("--layers", "conv1"), "the layers"),
        (("--n-components", 5), "n_components 4 then, 5 now"),
        (("--layout-size", 4), "layout_size 8 then, 4 now"),
        (("--class", "barn"), "the class"),
    ):
        message = refuse(*words, *changed)
        assert told in message and "--overwrite" in message
    shutil.copy(made / "tiny.keras", "tiny.keras")
    Path("tiny.json").write_text(json.dumps({"preprocessing": "torch", "class_names": CLASS_NAMES}))
    assert "the network's preprocessing" in refuse(*words[:3], "tiny.keras", *words[4:])
    assert Path("c.h5").stat().st_mtime_ns == written
    # A file made smaller afterwards is not what a collection leaves.
    save_statistics(load_statistics("c.h5").compacted(3), "c.h5", overwrite=True)
    assert "n_rows 3 then" in refuse(*words)


def test_resume_of_a_finished_shard_looks_into_it(made, here):
    words = ("collect", made / "photos/church", "-m", made / "tiny.keras", "-o", "1.h5", *SMALL, "--resume")
    succeed(*words, "--shard", "1/2")
    assert succeed(*words, "--shard", "1/2").stdout == "1.h5\n"
    assert "the shard" in refuse(*words, "--shard", "2/2")
    assert "n_components" in refuse(*words, "--shard", "1/2", "--n-components", 5)
    assert "shard 1/2" in refuse(*words)


# ---- generate, maximize, compare -------------------------------------------------------------------------------------


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
    done = succeed("generate", made / "church.h5", "-o", "out", *SHORT, *words, "--dtype", "bfloat16")
    assert done.stdout == "out/contact_sheet.png\n"
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
    done = succeed("saliency", *words, "-o", "all", "--n-samples", 2, "--batch-size", 1)
    assert done.stdout == "all/contact_sheet.png\n"
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
    done = succeed("maximize", "church,barn", "-m", made / "tiny.keras", "-o", "out", *words)
    assert done.stdout == "out/contact_sheet.png\n"
    assert len(list(Path("out").glob("image_*.png"))) == 7
    settings = json.loads(Path("out/run.json").read_text())["settings"]
    assert [found["label"] for found in settings["classes"]] == ["church", "barn"]
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
    done = succeed("compare", *words, "--train", made / "photos/church", "-o", "out")
    assert files_in(here) == ["out/metrics.json", "out/report.html"]
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert list(metrics["contestants"]) == ["ours", "max"]
    table = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in table[1:]] == ["ours", "max", "real", "out/report.html"]
    column = table[0].index("kid") + 1
    assert float(table[1][column]) == pytest.approx(metrics["contestants"]["ours"]["kid"]["value"], rel=0.01)
    assert "out" in refuse("compare", *words, "-o", "out")


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


# ---- progress --------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown_progress(monkeypatch, *, terminal_is_there=True, quiet=False):
    from stochdeconv.optimize import Step

    stream = Terminal() if terminal_is_there else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with terminal.ProgressBar("church", quiet=quiet) as bar:
        bar.on_step(Step(3, 10, {"scores:conv2": 0.25, "total_variation": 1.5}, lambda: None))
        time.sleep(0.2)
    return stream.getvalue()


def test_progress_shows_steps_time_and_each_loss(monkeypatch):
    shown = shown_progress(monkeypatch)
    for part in ("church", "3/10", "scores:conv2 0.25", "total_variation 1.5", ":"):
        assert part in shown


def test_progress_is_quiet_without_terminal_or_on_demand(monkeypatch):
    assert shown_progress(monkeypatch, terminal_is_there=False) == ""
    assert shown_progress(monkeypatch, quiet=True) == ""


def test_warnings_of_other_libraries_are_not_shown(capsys):
    with terminal.plain_warnings():
        for module in ("tensorflow.python", "stochdeconv.cli.collecting", "stochdeconvolution"):
            warnings.warn_explicit(f"said by {module}", UserWarning, "file.py", 1, module=module)
    assert capsys.readouterr().err == "warning: said by stochdeconv.cli.collecting\n"


# ---- bad input: one clear line, exit 1, nothing half-written ---------------------------------------------------------

BAD = {
    "collect: missing folder": (["collect", "nowhere", "-m", "tiny.keras"], ["nowhere"]),
    "collect: empty folder": (["collect", "empty", "-m", "tiny.keras"], ["empty", "no image"]),
    "collect: missing list": (["collect", "list.txt", "-m", "tiny.keras"], ["list.txt"]),
    "collect: nothing readable": (["collect", "unreadable", "-m", "tiny.keras"], ["none of the 1", "a.jpg"]),
    "collect: missing network": (["collect", "held", "-m", "no.keras"], ["no.keras"]),
    "collect: no network": (["collect", "held", "-m", "text.keras"], ["text.keras"]),
    "collect: unknown network": (["collect", "held", "-m", "vgg61"], ["vgg61", "vgg16"]),
    "collect: network without sidecar": (["collect", "held", "-m", "bare.keras"], ["bare.json", "preprocessing"]),
    "collect: unknown layer": (["collect", "held", "-m", "tiny.keras", "--layers", "conv1,cnv2"], ["cnv2", "conv2"]),
    "collect: unknown class": (["collect", "held", "-m", "tiny.keras", "--class", "chruch"], ["chruch", "church"]),
    "collect: ambiguous class": (["collect", "held", "-m", "tiny.keras", "--class", "crane"], ["crane", "2", "3"]),
    "collect: existing output": (
        ["collect", "held", "-m", "tiny.keras", "-o", "church.h5"],
        ["church.h5", "--overwrite"],
    ),
    "collect: a tree to one file": (["collect", "photos", "-m", "tiny.keras", "-o", "all.h5"], ["2 class folders"]),
    "collect: a tree of one class": (["collect", "photos", "-m", "tiny.keras", "--class", "1"], ["2 class folders"]),
    "collect: empty shard": (["collect", "held", "-m", "tiny.keras", "--shard", "30/30"], ["30/30"]),
    "merge: missing": (["merge", "a.h5", "-o", "c.h5"], ["a.h5"]),
    "merge: no shard": (["merge", "church.h5", "church.h5", "-o", "c.h5"], ["church.h5"]),
    "inspect: missing": (["inspect", "no.h5"], ["no.h5"]),
    "inspect: no HDF5": (["inspect", "text.keras"], ["text.keras"]),
    "inspect: a folder": (["inspect", "empty"], ["empty"]),
    "inspect: truncated": (["inspect", "truncated.h5"], ["truncated.h5"]),
    "inspect: another HDF5": (["inspect", "other.h5"], ["other.h5"]),
    "inspect: unknown version": (["inspect", "future.h5"], ["future.h5", "99"]),
    "layers: missing": (["layers", "no.keras"], ["no.keras"]),
    "generate: missing": (["generate", "no.h5", "-o", "out"], ["no.h5"]),
    "generate: truncated": (["generate", "truncated.h5", "-o", "out"], ["truncated.h5"]),
    "generate: unknown version": (["generate", "future.h5", "-o", "out"], ["future.h5", "99"]),
    "generate: another network": (["generate", "church.h5", "-m", "other.keras", "-o", "out"], ["tiny", "other"]),
    "generate: unknown sampler": (["generate", "church.h5", "-o", "out", "--sampler", "chian"], ["chian", "chain"]),
    "generate: unknown rule": (["generate", "church.h5", "-o", "out", "--gradient-rule", "up"], ["up", "guided"]),
    "generate: no component": (["generate", "church.h5", "-o", "out", "--component", "conv2"], ["LAYER:J"]),
    "generate: component of an unknown layer": (
        ["generate", "church.h5", "-o", "out", "--component", "cnv2:0"],
        ["cnv2", "closest: 'conv2'"],
    ),
    "generate: unknown component": (
        ["generate", "church.h5", "-o", "out", "--component", "conv2:4"],
        ["conv2", "4 components, 0 to 3"],
    ),
    "generate: missing photo": (["generate", "church.h5", "-o", "out", "--init", "no.png"], ["no.png"]),
    "generate: unreadable photo": (["generate", "church.h5", "-o", "out", "--init", "text.keras"], ["text.keras"]),
    "generate: existing output": (["generate", "church.h5", "-o", "ours"], ["ours", "--overwrite"]),
    "generate: output is a file": (["generate", "church.h5", "-o", "text.keras"], ["text.keras"]),
    "generate: output in a file": (["generate", "church.h5", "-o", "text.keras/out", *map(str, SHORT)], ["text.keras"]),
    "maximize: unknown class": (["maximize", "chruch", "-m", "tiny.keras", "-o", "out"], ["chruch", "church"]),
    "maximize: ambiguous class": (["maximize", "crane", "-m", "tiny.keras", "-o", "out"], ["crane", "2", "3"]),
    "maximize: unknown preset": (["maximize", "0", "-m", "tiny.keras", "-o", "out", "--preset", "lucid"], ["fourier"]),
    "maximize: unknown layer": (["maximize", "--unit", "conv9:1", "-m", "tiny.keras", "-o", "out"], ["conv9", "conv2"]),
    "maximize: unknown channel": (["maximize", "--unit", "conv2:8", "-m", "tiny.keras", "-o", "out"], ["conv2", "8"]),
    "maximize: no unit": (["maximize", "--unit", "conv2", "-m", "tiny.keras", "-o", "out"], ["LAYER:CHANNEL"]),
    "maximize: existing output": (["maximize", "0", "-m", "tiny.keras", "-o", "theirs"], ["theirs", "--overwrite"]),
    "maximize: unknown class of several": (
        ["maximize", "church,chruch", "-m", "tiny.keras", "-o", "out"],
        ["chruch", "church"],
    ),
    "maximize: missing direction": (
        ["maximize", "--direction", "conv2:no.npy", "-m", "tiny.keras", "-o", "out"],
        ["no.npy"],
    ),
    "maximize: no direction": (
        ["maximize", "--direction", "conv2", "-m", "tiny.keras", "-o", "out"],
        ["LAYER:FILE.npy"],
    ),
    "maximize: unreadable direction": (
        ["maximize", "--direction", "conv2:text.keras", "-m", "tiny.keras", "-o", "out"],
        ["text.keras", "another kind of file", "numpy.save"],
    ),
    "maximize: direction of another length": (
        ["maximize", "--direction", "conv2:six.npy", "-m", "tiny.keras", "-o", "out"],
        ["six.npy", "conv2", "8 numbers", "(6,)"],
    ),
    "maximize: direction of an unknown layer": (
        ["maximize", "--direction", "conv9:six.npy", "-m", "tiny.keras", "-o", "out"],
        ["conv9", "conv2"],
    ),
    "maximize: diversity in batches": (
        ["maximize", "0", "-m", "tiny.keras", "-o", "out", "--diversity", "1", "--batch-size", "4"],
        ["--batch-size", "8 images in batches of 4"],
    ),
    "maximize: diversity of an unknown layer": (
        ["maximize", "0", "-m", "tiny.keras", "-o", "out", "--diversity", "1", "--diversity-layer", "cnv2"],
        ["cnv2", "conv2"],
    ),
    "maximize: blur of Fourier images": (
        ["maximize", "0", "-m", "tiny.keras", "-o", "out", "--blur-every", "2"],
        ["--blur-every", "regularised"],
    ),
    "maximize: all pixels clipped": (
        ["maximize", "0", "-m", "tiny.keras", "-o", "out", "--preset", "simonyan", "--contribution", "100"],
        ["contribution below 100"],
    ),
    "maximize: ablation of Fourier images": (
        ["maximize", "0", "-m", "tiny.keras", "-o", "out", "--preset", "fourier", "--ablate-constraints"],
        ["--ablate-constraints", "regularised"],
    ),
    "maximize: missing statistics": (
        ["maximize", "church", "-m", "tiny.keras", "-o", "out", "--suppress-outliers", "no.h5"],
        ["no.h5"],
    ),
    "maximize: statistics that are none": (
        ["maximize", "church", "-m", "tiny.keras", "-o", "out", "--suppress-outliers", "text.keras"],
        ["text.keras"],
    ),
    "maximize: statistics of another network": (
        ["maximize", "church", "-m", "other.keras", "-o", "out", "--suppress-outliers", "church.h5"],
        ["tiny", "other"],
    ),
    "maximize: statistics of another class": (
        ["maximize", "barn", "-m", "tiny.keras", "-o", "out", "--suppress-outliers", "church.h5"],
        ["'church'", "barn"],
    ),
    "compare: an ablation": (
        ["compare", "ablation", "--real", "held", "--judge", "tiny.keras", "-o", "out"],
        ["ablation", "--ablate-constraints"],
    ),
    "maximize: weights of a file": (
        ["maximize", "0", "-m", "tiny.keras", "--weights", "w.h5", "-o", "out"],
        ["weights"],
    ),
    "saliency: missing photo": (["saliency", "no.png", "-m", "tiny.keras", "-o", "out"], ["no.png"]),
    "saliency: no photo": (["saliency", "text.keras", "-m", "tiny.keras", "-o", "out"], ["text.keras"]),
    "saliency: unknown class": (
        ["saliency", "held/00.png", "chruch", "-m", "tiny.keras", "-o", "out"],
        ["chruch", "church"],
    ),
    "saliency: unknown rule": (
        ["saliency", "held/00.png", "-m", "tiny.keras", "-o", "out", "--rule", "giuded"],
        ["giuded", "'guided'", "integrated_gradients", "all"],
    ),
    "saliency: unknown layer": (
        ["saliency", "held/00.png", "-m", "tiny.keras", "-o", "out", "--layer", "conv9"],
        ["conv9", "conv2"],
    ),
    "saliency: layer without positions": (
        ["saliency", "held/00.png", "-m", "tiny.keras", "-o", "out", "--rule", "grad_cam", "--layer", "average"],
        ["average", "positions"],
    ),
    "saliency: layer behind the unit": (
        ["saliency", "held/00.png", "--unit", "conv1:1", "-m", "tiny.keras", "-o", "out", "--layer", "conv2"],
        ["conv1", "conv2"],
    ),
    "saliency: existing output": (
        ["saliency", "held/00.png", "-m", "tiny.keras", "-o", "theirs"],
        ["theirs", "--overwrite"],
    ),
    "compare: missing run": (["compare", "no", "--real", "held", "--judge", "tiny.keras", "-o", "out"], ["no"]),
    "compare: no run": (["compare", "held", "--real", "held", "--judge", "tiny.keras", "-o", "out"], ["run.json"]),
    "compare: missing photographs": (
        ["compare", "ours", "--real", "no", "--judge", "tiny.keras", "-o", "out"],
        ["'no'"],
    ),
    "compare: no photographs": (
        ["compare", "ours", "--real", "empty", "--judge", "tiny.keras", "-o", "out"],
        ["empty"],
    ),
    "compare: missing judge": (["compare", "ours", "--real", "held", "--judge", "no.keras", "-o", "out"], ["no.keras"]),
    "compare: missing training photographs": (
        ["compare", "ours", "--real", "held", "--train", "no", "--judge", "tiny.keras", "-o", "out"],
        ["'no'"],
    ),
}


@pytest.fixture(scope="module")
def workplace(made, tmp_path_factory):
    """A copy of everything, and things that are wrong."""
    folder = tmp_path_factory.mktemp("bad") / "here"
    shutil.copytree(made, folder)
    (folder / "empty").mkdir()
    (folder / "unreadable").mkdir()
    (folder / "unreadable/a.jpg").write_bytes(b"no picture")
    (folder / "text.keras").write_text("no network")
    np.save(folder / "six.npy", np.arange(6.0))
    words = ("--ablate-constraints", "-n", 1, "--n-steps", 1)
    assert call("maximize", "church", "-m", folder / "tiny.keras", "-o", folder / "ablation", *words).exit_code == 0
    shutil.copy(made / "tiny.json", folder / "text.json")
    shutil.copy(made / "tiny.keras", folder / "bare.keras")
    content = (made / "church.h5").read_bytes()
    (folder / "truncated.h5").write_bytes(content[: len(content) // 2])
    with h5py.File(folder / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    shutil.copy(made / "church.h5", folder / "future.h5")
    with h5py.File(folder / "future.h5", "r+") as file:
        file.attrs["format_version"] = 99
    return folder


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(workplace, monkeypatch, case):
    words, expected = BAD[case]
    monkeypatch.chdir(workplace)
    before = {name: (workplace / name).stat().st_mtime_ns for name in files_in(workplace)}
    message = refuse(*words)
    for part in expected:
        assert part in message
    after = {name: (workplace / name).stat().st_mtime_ns for name in files_in(workplace)}
    for name in set(after) - set(before):  # so that one failure is not those of the next cases too
        (workplace / name).unlink()
    assert after == before


@pytest.mark.parametrize(
    "words",
    [
        ["collect", "held", "-m", "tiny.keras", "--shard", "3/2"],
        ["collect", "held", "-m", "tiny.keras", "--shard", "one"],
        ["collect", "held", "-m", "tiny.keras", "--resume", "--overwrite"],
        ["maximize", "-m", "tiny.keras", "-o", "out"],
        ["maximize", "church", "--unit", "conv2:1", "-m", "tiny.keras", "-o", "out"],
        ["saliency", "held/00.png", "church", "--unit", "conv2:1", "-m", "tiny.keras", "-o", "out"],
        ["saliency", "held/00.png", "-m", "tiny.keras", "-o", "out", "--n-samples", "0"],
        ["saliency", "held/00.png", "-m", "tiny.keras", "-o", "out", "--noise", "-1"],
        ["maximize", "church", "--direction", "conv2:six.npy", "-m", "tiny.keras", "-o", "out"],
        ["maximize", "church", "-m", "tiny.keras", "-o", "out", "--contribution", "some"],
        ["collect", "held", "-m", "tiny.keras", "--n-components", "0"],
        ["collect", "held", "-m", "tiny.keras", "--layout-size", "0"],
        ["generate", "church.h5", "-o", "out", "-n", "many"],
        ["generate", "church.h5", "-o", "out", "-n", "0"],
        ["generate", "church.h5", "-o", "out", "--n-steps", "0"],
        ["generate", "church.h5", "-o", "out", "--batch-size", "0"],
        ["generate", "church.h5", "-o", "out", "--size", "0"],
        ["maximize", "church", "-m", "tiny.keras", "-o", "out", "--size", "-5"],
        ["generate", "church.h5", "-o", "out", "--seed", "-1"],
        ["generate", "church.h5", "-o", "out", "--walk", "1"],
        ["generate", "church.h5", "-o", "out", "--walk", "4", "--component", "conv2:0"],
        ["generate", "church.h5", "-o", "out", "--walk", "4", "-n", "4"],
        ["generate", "church.h5", "-o", "out", "--walk", "4", "--gif"],
        ["maximize", "church", "-m", "tiny.keras", "-o", "out", "--seed", "-1"],
    ],
)
def test_contradictory_or_malformed_flags_are_exit_2(workplace, monkeypatch, words):
    monkeypatch.chdir(workplace)
    refuse(*words, code=2)


def test_a_bad_class_folder_does_not_cost_the_others(made, here):
    shutil.copytree(made / "photos", "photos")
    Path("photos/aaa").mkdir()
    Path("photos/aaa/a.png").write_bytes(b"no picture")
    done = call("collect", "photos", "-m", made / "tiny.keras", "-o", "out", *SMALL)
    assert done.exit_code == 1
    assert sorted(done.stdout.split()) == ["out/barn.h5", "out/church.h5"]
    assert "1 of 3 classes failed: aaa" in done.stderr


@pytest.mark.parametrize("command", ["collect", "generate", "compare"])
def test_full_disk_is_one_line_and_costs_nothing(made, here, monkeypatch, command):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    words = {
        "collect": [made / "photos/church", "-m", made / "tiny.keras", "-o", "out.h5", *SMALL],
        "generate": [made / "church.h5", "-o", "out", *SHORT],
        "compare": [made / "ours", "--real", made / "held", "--judge", made / "tiny.keras", "-o", "out"],
    }[command]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)  # the last step of every file that is written whole or not at all
        message = refuse(command, *words)
    assert "disk is full" in message or "no space left" in message.lower()
    assert not [name for name in files_in(here) if ".partial/" not in name]
    succeed(command, *words, *(["--resume"] if command == "collect" else []))
