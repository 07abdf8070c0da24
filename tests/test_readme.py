"""The examples of the README and of the site's pages run as they are written, in a folder that has what they speak of."""

import json
import re
import shlex
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from commands import call
from PIL import Image

from stochdeconv.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
README = "README.md"
# What the others show takes minutes, or a network that does not ship.
PAGES = [
    README,
    "docs/tutorial/first_class.md",
    *(f"docs/how-to/{name}.md" for name in ("collect", "generate", "maximize", "photographs", "compare", "extend")),
]
# Made with few steps, since the defaults take minutes: every word of theirs is run.
MAKES_IMAGES = re.compile(r"^stochdeconv ((generate|maximize|morph|invert) |inspect (?=.*--html))(?!.*--n-steps)")
# Its steps are what the checkpoints say.
STEPS = re.compile(r"(?<=--checkpoints )50,200\b")
# A download of half a gigabyte, or a network that does not ship: the same commands run on a small network.
NEEDS_DOWNLOAD = re.compile(r"(?<!mini-)\b(vgg16|mobilenet)\b")
# Takes nothing that a line before it has made.
STANDS_ALONE = re.compile(r"^stochdeconv \w+ (photo\.png|mini-vgg16/\w+\.h5) ")


def blocks(page, language=""):
    """The fenced blocks of a page in a language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return [code for kind, code in fenced if kind == language]


def command_lines(page):
    return [line for code in blocks(page) for line in code.splitlines() if line.startswith("stochdeconv ")]


def programs():
    return [
        pytest.param(code, id=f"{Path(page).stem}-{number}")
        for page in PAGES
        for number, code in enumerate(blocks(page, "python"))
    ]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with the photographs, networks and statistics the pages name; not to be written into."""
    folder = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(0)
    for photographs in ("photos/church", "photos/held_out"):
        (folder / photographs).mkdir(parents=True)
        for number in range(66):
            pixels = (rng.random((4, 4, 3)) * 255).astype(np.uint8)
            Image.fromarray(pixels).resize((32, 32)).save(folder / photographs / f"{number:02d}.png")
    Image.fromarray((rng.random((4, 4, 3)) * 255).astype(np.uint8)).resize((120, 112)).save(folder / "photo.png")
    inputs = x = keras.Input((32, 32, 3))
    for number, name in enumerate(("conv1", "fire3_concat"), start=1):  # layers that the pages name
        x = keras.layers.Conv2D(6, 3, strides=number, activation="relu", name=name)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x)).save(folder / "squeezenet.keras")
    (sidecar,) = blocks(README, "json")
    (folder / "squeezenet.json").write_text(sidecar)
    keras.Sequential([keras.Input((32, 32, 3)), *_judge_layers()]).save(folder / "judge.keras")
    (folder / "judge.json").write_text(sidecar)
    names = [{"index": 0, "wnid": "n03028079", "label": "church"}, {"index": 1, "wnid": None, "label": "barn"}]
    (folder / json.loads(sidecar)["class_names"]).write_text(json.dumps(names))
    run(f"stochdeconv collect {folder}/photos/church -m {folder}/squeezenet.keras -o {folder}/church.h5")
    with_photographs = f"-o {folder}/church-with-photographs.h5 --exemplars 66"
    run(f"stochdeconv collect {folder}/photos/church -m {folder}/squeezenet.keras {with_photographs}")
    return folder


def _judge_layers():
    yield keras.layers.Conv2D(8, 3, activation="relu")
    yield keras.layers.GlobalAveragePooling2D()
    yield keras.layers.Dense(2, activation="softmax")


@pytest.fixture
def here(prepared, tmp_path, monkeypatch):
    """A working folder with a copy of what is prepared."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line):
    called = call(*shlex.split(line)[1:])
    assert called.exit_code == 0, f"{line}\n{called.output}"


def on_small_network(line):
    """The same command on a network that is here; its statistics are then found under that name."""
    line = re.sub(r"(-m|--judge) (vgg16|mobilenet)\b", r"\1 squeezenet.keras", line)
    return line.replace("stats_cache/vgg16", "stats_cache/squeezenet")


def own_lines(page):
    """The command lines of a page, without those that stand alone and run as they are on a page before it."""
    before = {line for other in PAGES[: PAGES.index(page)] for line in command_lines(other)}
    return [line for line in command_lines(page) if not (line in before and STANDS_ALONE.match(line))]


@pytest.mark.parametrize("page", PAGES)
def test_commands_run_as_written(here, page):
    lines = own_lines(page)
    if any(re.search(r"^stochdeconv collect .* -o church.h5$", line) for line in lines):
        Path("church.h5").unlink()
    for line in lines:
        line = on_small_network(line) if NEEDS_DOWNLOAD.search(line) else line
        line = STEPS.sub("2,8", line)
        run(f"{line} --n-steps 8" if MAKES_IMAGES.match(line) else line)


def test_pages_have_commands_to_run():
    assert all(command_lines(page) for page in PAGES if page != "docs/how-to/extend.md")
    assert len(command_lines(README)) >= 10
    assert len(programs()) >= 7


@pytest.mark.parametrize("code", programs())
def test_python_runs_as_written(here, code):
    exec(compile(code, "page", "exec"), {"__name__": "page"})


def test_set_up_commands_are_those_of_the_project():
    block = (ROOT / README).read_text().split("<!-- set-up -->")[1].split("```")[1]
    assert block.split("\n")[1:3] == ["pip install . && stochdeconv demo", "pip install '.[test]' && pytest"]


def test_every_command_is_in_the_readme():
    text = (ROOT / README).read_text()
    for command in COMMANDS:
        assert f"stochdeconv {command}" in text
