"""Bad input: one clear line, exit 1 (2 for wrong usage), nothing half-written."""

import errno
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from commands import SHORT, SMALL, call, files_in, refuse, succeed

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
        ["maximize", "0", "-m", "tiny.keras", "-o", "out", "--diversity", "1", "-n", "8", "--batch-size", "4"],
        ["--batch-size", "8 images in batches of 4"],
    ),
    "maximize: diversity of an unknown layer": (
        ["maximize", "0", "-m", "tiny.keras", "-o", "out", "--diversity", "1", "--diversity-layer", "cnv2"],
        ["cnv2", "conv2"],
    ),
    "maximize: blur of Fourier images": (
        ["maximize", "0", "-m", "tiny.keras", "-o", "out", "--blur-every", "2", "--preset", "fourier"],
        ["--blur-every", "regularised"],
    ),
    "maximize: all pixels clipped": (
        ["maximize", "0", "-m", "tiny.keras", "-o", "out", "--preset", "simonyan", "--contribution", "100"],
        ["--contribution", "below 100; got 100.0"],
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


# Numbers out of range, and settings that contradict each other.
USAGE = {
    "maximize: diversity in batches",
    "maximize: blur of Fourier images",
    "maximize: all pixels clipped",
    "maximize: ablation of Fourier images",
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(workplace, monkeypatch, case):
    words, expected = BAD[case]
    monkeypatch.chdir(workplace)
    before = {name: (workplace / name).stat().st_mtime_ns for name in files_in(workplace)}
    message = refuse(*words, code=2 if case in USAGE else 1)
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
        ["saliency", "held/00.png", "-m", "tiny.keras", "-o", "out", "--rule", "gradient", "--noise", "0.1"],
        ["saliency", "held/00.png", "-m", "tiny.keras", "-o", "out", "--rule", "grad_cam", "--n-samples", "9"],
        ["inspect", "church.h5", "--n-steps", "9"],
        ["inspect", "church.h5", "--seed", "0"],
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
        ["compare", "ours", "--real", "held", "--judge", "tiny.keras", "-o", "out", "--seed", "-1"],
        ["demo", "-o", "out", "--seed", "-1"],
    ],
)
def test_contradictory_or_malformed_flags_are_exit_2(workplace, monkeypatch, words):
    monkeypatch.chdir(workplace)
    refuse(*words, code=2)


def test_a_bad_class_folder_does_not_cost_the_others(made, here):
    shutil.copytree(made / "photos", "photos")
    Path("photos/aaa").mkdir()
    Path("photos/aaa/a.png").write_bytes(b"no picture")
    called = call("collect", "photos", "-m", made / "tiny.keras", "-o", "out", *SMALL)
    assert called.exit_code == 1
    assert sorted(called.stdout.split()) == ["out/barn.h5", "out/church.h5"]
    assert "1 of 3 classes failed: aaa" in called.stderr


def test_a_class_folder_whose_name_fits_two_classes_does_not_cost_the_others(made, here):
    shutil.copytree(made / "photos", "photos")
    shutil.copytree("photos/barn", "photos/crane")
    called = call("collect", "photos", "-m", made / "tiny.keras", "-o", "out", *SMALL)
    assert called.exit_code == 1
    assert sorted(called.stdout.split()) == ["out/barn.h5", "out/church.h5"]
    assert "error: crane: " in called.stderr and "with --class" in called.stderr


def test_a_class_folder_without_images_is_told(made, here):
    shutil.copytree(made / "photos", "photos")
    Path("photos/strainer").mkdir()
    called = call("collect", "photos", "-m", made / "tiny.keras", "-o", "out", *SMALL)
    assert called.exit_code == 0
    assert called.stderr == "warning: the folder 'photos/strainer' holds no image and is passed over\n"


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
