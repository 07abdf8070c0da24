"""Every command on whatever backend the tests run on: that it ends well, and what it leaves."""

import json

import pytest
from commands import SHORT, files_in, succeed
from PIL import Image

from stochdeconv.cli import COMMANDS

# What each command is called with, {folder} being where networks, photographs, statistics and runs lie, and what it leaves beside others.
CALLS = {
    "collect": ("{folder}/photos/barn -m {folder}/tiny.keras -o barn.h5 --n-components 4 --layout-size 8", "barn.h5"),
    "merge": ("first.h5 second.h5 -o barn.h5", "barn.h5"),
    "inspect": ("{folder}/church.h5", None),
    "models": ("", None),
    "layers": ("{folder}/tiny.keras", None),
    "generate": ("{folder}/church.h5 -o out --sampler chain", "out/image_001.png"),
    "maximize": ("barn -m {folder}/tiny.keras -o out", "out/image_001.png"),
    "saliency": ("{folder}/held/00.png -m {folder}/tiny.keras -o out --n-samples 2", "out/run.json"),
    "refine": ("{folder}/held/00.png church -m {folder}/tiny.keras -o out", "out/image_001.png"),
    "morph": ("{folder}/held/00.png barn -m {folder}/tiny.keras -o out --n-frames 3 --n-steps 2", "out/animation.gif"),
    "dream": ("{folder}/held/00.png -m {folder}/tiny.keras --layer conv2 -o out --octaves 2", "out/image_000.png"),
    "invert": ("{folder}/held/00.png -m {folder}/tiny.keras --layer conv2 -o out", "out/image_000.png"),
    "sweep": ("{folder}/held/00.png -m {folder}/tiny.keras --layers conv1,conv2 --n-steps 1,2 -o out", "out/run.json"),
    "measure": ("{folder}/held --judge {folder}/tiny.keras --class church -o held.npz", "held.npz"),
    "compare": (
        "{folder}/ours {folder}/theirs --real {folder}/held --judge {folder}/tiny.keras -o out",
        "out/report.html",
    ),
}


def test_every_command_is_called():
    # The demo's networks are larger: on a CPU PyTorch takes minutes for it.
    assert set(CALLS) | {"demo"} == set(COMMANDS)


@pytest.mark.parametrize("command", CALLS)
def test_command(made, here, command):
    words, left = CALLS[command]
    if command == "merge":
        for number, name in enumerate(("first.h5", "second.h5"), 1):
            shard = ("--shard", f"{number}/2", "--n-components", 4, "--layout-size", 8)
            succeed("collect", made / "photos/barn", "-m", made / "tiny.keras", "-o", name, *shard)
    short = {"generate": SHORT, "maximize": SHORT, "refine": SHORT, "dream": SHORT[2:], "invert": SHORT[2:]}
    called = succeed(command, *words.format(folder=made).split(), *short.get(command, ()))
    if left is None:
        assert len(called.stdout.splitlines()) > 3
        return
    assert left in files_in(here)
    for name in files_in(here):
        if name.endswith(".png"):
            # Something is shown: no picture of one colour.
            assert any(low < high for low, high in Image.open(here / name).convert("RGB").getextrema())
        elif name.endswith(".json"):
            json.loads((here / name).read_text())
