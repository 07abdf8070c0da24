import pytest

from stochdeconv.errors import closest
from stochdeconv.networks.classes import imagenet_class_names

CLASSES = [name.label for name in imagenet_class_names()]
LAYERS = [f"fire{number}_{part}" for number in range(2, 10) for part in ("squeeze", "concat")] + ["fc1", "fc2"]


@pytest.mark.parametrize(
    ("name", "names", "near"),
    [
        ("chruch", CLASSES, ["crutch", "church"]),
        ("tenchh", CLASSES, ["tench"]),
        ("springer spaniel", CLASSES, ["Welsh springer spaniel"]),
        ("skyscraper", CLASSES, []),
        ("pagoda", CLASSES, []),
        ("fire9", LAYERS, ["fire9_squeeze", "fire9_concat"]),
        ("Fier9_concat", LAYERS, ["fire9_concat", "fire8_concat", "fire7_concat"]),
        ("fc7", LAYERS, ["fc2", "fc1"]),
        ("block5_conv3", LAYERS, []),
        ("", LAYERS, []),
        ("dgo", ["dog", "cat"], ["dog"]),
    ],
)
def test_only_near_names_are_suggested(name, names, near):
    assert closest(name, names) == ", ".join(f"'{one}'" for one in near)
