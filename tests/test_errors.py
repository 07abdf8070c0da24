import pytest

from stochdeconv.errors import closest, with_flags
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
    assert closest(name, names) == ", ".join(f"'{other}'" for other in near)


@pytest.mark.parametrize(
    ("message", "for_people"),
    [
        ("choose another or pass overwrite=True", "choose another or pass --overwrite"),
        ("fewer at a time (batch_size=), please", "fewer at a time (--batch-size), please"),
        ("batch_size=4; batch_size=: batch_size=.", "--batch-size 4; --batch-size: --batch-size."),
        ("real='a folder' is empty", "--real 'a folder' is empty"),
        ("class_name=NAME says it", "--class NAME says it"),
        # What the command has no flag for, and what is no parameter of it.
        ("pass preprocessing='tf'", "pass preprocessing='tf'"),
        ("load_model(overwrite=True)", "load_model(overwrite=True)"),
        ("\"jitter=6,overwrite=True\" in 'overwrite=x/batch_size=3.png'", None),
    ],
)
def test_parameters_become_flags(message, for_people):
    flags = {"overwrite": "--overwrite", "batch_size": "--batch-size", "real": "--real", "class_name": "--class"}
    assert with_flags(message, flags) == (for_people or message)
