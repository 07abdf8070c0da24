import numpy as np
import pytest
from toys import network, picture

from stochdeconv.errors import ClassNotFoundError, InputError
from stochdeconv.methods.dream import dream
from stochdeconv.methods.invert import invert
from stochdeconv.methods.maximize import maximize
from stochdeconv.methods.refine import refine
from stochdeconv.methods.saliency import saliency
from stochdeconv.methods.sweep import sweep
from stochdeconv.parsing import read_list, whole_number
from stochdeconv.statistics.collection import collect


@pytest.mark.parametrize(
    ("words", "entries"),
    [
        ("a", ["a"]),
        (" a ,b c", ["a", "b c"]),
        ("a,b, ", ["a", "b"]),
        ('"conv,1",b', ["conv,1", "b"]),
        ('a, "b ""c""" ,d', ["a", 'b "c"', "d"]),
        (["a", "b,c"], ["a", "b,c"]),
        (("a",), ["a"]),
        (7, [7]),
        (np.array([3, 1]), [3, 1]),
    ],
)
def test_texts_sequences_and_single_entries_are_lists(words, entries):
    assert read_list(words, "layer") == entries


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "at least one layer, several with commas between them; got ''"),
        (" , ", "at least one layer"),
        ([], "at least one layer"),
        ("a,,b", "'a,,b' lists nothing between two commas; expected a layer there"),
        (",a", "nothing between two commas"),
        ("a,,", "nothing between two commas"),
        ("a,b, a", "'a,b, a' lists the layer 'a' twice; expected each once"),
        (["b", "a", "a"], "'b, a, a' lists the layer 'a' twice"),
    ],
)
def test_what_lists_nothing_or_something_twice_is_refused(words, message):
    with pytest.raises(InputError, match=message):
        read_list(words, "layer")


def test_entries_are_told_apart_by_what_they_mean():
    assert read_list("2, 10", "number", whole_number) == read_list([2, np.int64(10)], "number", whole_number) == [2, 10]
    with pytest.raises(InputError, match="number '02' twice"):
        read_list("2,02", "number", whole_number)
    for words in ("1,x", [1.5], [None], "1.0"):
        with pytest.raises(InputError, match="expected whole numbers with commas between them; got"):
            read_list(words, "number", whole_number)


@pytest.mark.parametrize("words", ["conv,,deep", "conv,deep,conv", ""])
def test_every_method_refuses_the_same_lists(words):
    model, photo = network(1), picture()
    rules = words.replace("conv", "guided").replace("deep", "gradient")
    numbers, classes = (
        words.replace("conv", "1").replace("deep", "2"),
        words.replace("conv", "cat").replace("deep", "1"),
    )
    units = words.replace("conv", "conv:1").replace("deep", "deep:2")
    message = "nothing between two commas" if ",," in words else "twice" if words else "at least one|no class ''"
    for method in (
        lambda: invert(model, photo, words),
        lambda: dream(model, photo, words),
        lambda: sweep(model, photo, words, n_steps=1),
        lambda: sweep(model, photo, "conv", n_steps=numbers),
        lambda: refine(model, photo, "cat", checkpoints=numbers),
        lambda: saliency(model, photo, rule=rules),
        lambda: maximize(model, classes),
        lambda: maximize(model, unit=units),
        lambda: collect(model, "no folder", layers=words),
    ):
        with pytest.raises((InputError, ClassNotFoundError), match=message):
            method()


def test_the_same_thing_in_other_words_is_still_the_same():
    model = network(1)
    for words in ("cat,0", [0, "CAT"]):
        with pytest.raises(InputError, match=r"the class '.*' twice"):
            maximize(model, words)
    with pytest.raises(InputError, match="the layer 'conv=1' twice"):
        dream(model, picture(), "conv,conv:1,conv=1")


def test_a_name_with_a_comma_is_told_how_to_stand_in_a_list():
    def layer(word):
        if word not in ("conv,1", "deep"):
            raise InputError(f"no layer '{word}'")
        return word

    with pytest.raises(
        InputError, match="no layer 'conv'; a layer that has a comma in its name stands in double quotes: '\"conv,1\"'"
    ):
        read_list("conv,1", "layer", layer)
    assert read_list('"conv,1",deep', "layer", layer) == ["conv,1", "deep"]
    with pytest.raises(InputError, match=r"no layer 'flat'$"):
        read_list("deep,flat", "layer", layer)
