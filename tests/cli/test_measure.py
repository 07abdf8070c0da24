"""stochdeconv measure: what compare --real takes, of one folder and of a tree; bad input."""

import json
import shutil

import numpy as np
import pytest
from commands import N_PHOTOS, refuse, succeed

from stochdeconv.evaluation.photographs import load_photographs
from stochdeconv.images.files import load_image, save_png

PHOTOGRAPHS = ("photos/church", "photos/barn", "photos", "tiny.keras", "tiny.json", "held")


@pytest.fixture
def here(here, made):
    """A working folder with photographs and the judge."""
    for name in PHOTOGRAPHS:
        (here / name).parent.mkdir(exist_ok=True)
        if not (here / name).exists():
            (here / name).symlink_to(made / name)
    return here


def test_a_tree_is_measured_class_by_class_and_stands_in_for_it(made, here):
    measured = succeed("measure", "photos", "--judge", "tiny.keras", "-o", "real.npz", "--size", 32, "-q")
    assert measured.stdout.splitlines() == [
        f"barn: {N_PHOTOS} photographs",
        f"church: {N_PHOTOS} photographs",
        "real.npz",
    ]
    for real, output in (("photos", "of_pictures"), ("real.npz", "of_numbers")):
        succeed("compare", made / "ours", "--real", real, "--judge", "tiny.keras", "-o", output)
    pictures, numbers = (
        json.loads((here / name / "metrics.json").read_text())["contestants"]["ours"]
        for name in ("of_pictures", "of_numbers")
    )
    for figure in ("judge_top1", "kid", "density", "coverage", "spectrum_slope"):
        assert numbers[figure]["value"] == pytest.approx(pictures[figure]["value"], rel=1e-4)


def test_one_folder_is_of_the_class_it_is_named_by_or_that_is_named(here):
    succeed("measure", "photos/church", "--judge", "tiny.keras", "-o", "church.npz")
    succeed("measure", "held", "--judge", "tiny.keras", "-o", "held.npz", "--class", "barn")
    church, held = load_photographs("church.npz"), load_photographs("held.npz")
    assert [key.label for key in church.classes] == ["church"] and church.size == (32, 32)
    assert [key.label for key in held.classes] == ["barn"]
    (of,) = church.classes.values()
    assert len(of) == N_PHOTOS
    # A list of paths is a folder that lies elsewhere.
    (here / "church.txt").write_text("".join(f"photos/church/{number:02d}.png\n" for number in range(N_PHOTOS)))
    succeed("measure", "church.txt", "--judge", "tiny.keras", "-o", "list.npz")
    (listed,) = load_photographs("list.npz").classes.values()
    np.testing.assert_array_equal(listed.features, of.features)


def test_held_out_are_the_last_ones_by_name(here):
    for name, words in (("all", ()), ("part", ("--held-out", 0.2))):
        succeed("measure", "photos", "--judge", "tiny.keras", "-o", f"{name}.npz", *words)
    whole, part = (load_photographs(f"{name}.npz").classes for name in ("all", "part"))
    assert list(whole) == list(part)
    for key in whole:
        np.testing.assert_array_equal(part[key].features, whole[key].features[-N_PHOTOS // 5 :])


def test_photographs_pass_through_the_size_of_the_images(here):
    succeed("measure", "photos/church", "--judge", "tiny.keras", "-o", "small.npz", "--size", 8)
    (here / "church").mkdir()
    for number in range(N_PHOTOS):
        name = f"{number:02d}.png"
        save_png(here / "church" / name, load_image(here / "photos/church" / name, (8, 8)))
    succeed("measure", "church", "--judge", "tiny.keras", "-o", "again.npz", "--size", 8)
    small, again = (load_photographs(name) for name in ("small.npz", "again.npz"))
    assert small.size == (8, 8)
    (small,), (again,) = small.classes.values(), again.classes.values()
    np.testing.assert_allclose(small.spectra, again.spectra, atol=0.01)


BAD = {
    "missing folder": (["nowhere"], ["no such folder", "nowhere"]),
    "empty folder": (["empty"], ["empty", "no image"]),
    "unreadable": (["unreadable", "--class", "church"], ["a.jpg"]),
    "class of a tree": (["photos", "--class", "church"], ["tree of 2 class folders"]),
    "unknown class": (["photos/church", "--class", "chruch"], ["chruch", "closest: 'church'"]),
    "folder of no class": (["held"], ["no class 'held'", "--class"]),
    "tree with a folder of no class": (["others"], ["no class 'held'"]),
    "one class twice": (["twice"], ["two folders below 'twice'", "tiny"]),
    "no part": (["photos", "--held-out", "1"], ["--held-out", "got 1"]),
    "too few to hold any out": (["unreadable", "--held-out", "0.5"], ["unreadable", "too few"]),
    "missing judge": (["photos", "--judge", "no.keras"], ["no.keras"]),
    "existing output": (["photos", "-o", "there.npz"], ["there.npz", "--overwrite"]),
    "output in a file": (["photos", "-o", "there.npz/out.npz"], ["there.npz"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(here, case):
    words, parts = BAD[case]
    (here / "empty").mkdir()
    (here / "unreadable").mkdir()
    (here / "unreadable/a.jpg").write_text("no picture")
    (here / "there.npz").write_text("before")
    for folder in ("others/held", "twice/church", "twice/Church"):
        shutil.copytree(here / "photos/church", here / folder)
    words = [*words, *(() if "-o" in words else ("-o", "real.npz"))]
    line = refuse(
        "measure",
        *words,
        *(() if "--judge" in words else ("--judge", "tiny.keras")),
        code=2 if case == "no part" else 1,
    )
    for part in parts:
        assert part in line
    assert not (here / "real.npz").exists() and (here / "there.npz").read_text() == "before"


@pytest.mark.parametrize("words", [("-o", "real.json"), ("-o", "real.npz", "--size", 0)])
def test_wrong_usage(here, words):
    refuse("measure", "photos", "--judge", "tiny.keras", *words, code=2)


def test_overwriting_is_for_who_says_so(here):
    (here / "there.npz").write_text("before")
    succeed("measure", "photos/church", "--judge", "tiny.keras", "-o", "there.npz", "--overwrite")
    assert [key.label for key in load_photographs("there.npz").classes] == ["church"]
