"""A function is a loss: what becomes of its arguments, and what it may say of itself."""

import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import stochdeconv as sd
from stochdeconv import backend
from stochdeconv.errors import InputError
from stochdeconv.losses import Term, loss

MAPS = np.random.default_rng(0).uniform(size=(3, 4, 5, 6)).astype(np.float32)


@loss
def darkness(values):
    """Ask for dark images."""
    return ops.mean(values, axis=(1, 2, 3))


@loss
def distance(values, level, power=2.0):
    return ops.mean(ops.abs(values - level) ** power, axis=(1, 2, 3))


@loss(layer="input", arrays=("level",))
def contrast(values, level=0.5):
    return ops.mean((values - level) ** 2, axis=(1, 2, 3))


@loss
def likeness(values):
    first, second = values
    return ops.mean(first * second, axis=(1, 2, 3))


def value(term, **activations):
    return ops.convert_to_numpy(term({name: ops.convert_to_tensor(array) for name, array in activations.items()}))


def test_a_decorated_function_is_a_loss_of_any_layer():
    term = darkness("x")
    assert isinstance(term, Term) and term.name == "darkness:x" and term.layers == ("x",)
    np.testing.assert_allclose(value(term, x=MAPS), MAPS.mean(axis=(1, 2, 3)), rtol=1e-5)
    assert darkness("x") == darkness("x") != darkness("y")
    assert darkness.__doc__ == "Ask for dark images." and list(inspect.signature(darkness).parameters) == ["layer"]


def test_the_layer_may_be_fixed_or_be_several():
    np.testing.assert_allclose(value(contrast(), input=MAPS), ((MAPS - 0.5) ** 2).mean(axis=(1, 2, 3)), rtol=1e-5)
    assert list(inspect.signature(contrast).parameters) == ["level"]
    both = likeness(("x", "y"))
    assert both.layers == ("x", "y") and both.name == "likeness:x" and both != likeness(("x", "z"))
    np.testing.assert_allclose(value(both, x=MAPS, y=2 * MAPS), 2 * (MAPS**2).mean(axis=(1, 2, 3)), rtol=1e-5)


def test_arrays_are_handed_in_and_settings_compared():
    assert distance("x", MAPS) == distance("x", MAPS + 1) != distance("x", MAPS, power=1.0)
    assert distance("x", np.float32(0.5)) == distance("x", np.float64(0.3)) != distance("x", 0.3) != distance("x", 0.5)
    assert contrast(0.1) == contrast() and contrast(0.1).arrays["level"] == np.float32(0.1)
    assert distance("x", np.arange(6)).arrays["level"].dtype == np.int32
    assert distance("x", ops.ones(6)).arrays["level"].dtype == np.float32
    of_arrays, of_settings = distance("x", np.full(6, 0.5), power=1.0), distance("x", 0.5, 1.0)
    np.testing.assert_allclose(value(of_arrays, x=MAPS), value(of_settings, x=MAPS), rtol=1e-6)


def test_what_a_function_says_of_itself_reaches_the_loop():
    @loss(
        name="named",
        is_tied_to_places=lambda term: term.arguments["place"] is not None,
        reads_network_dtype=True,
    )
    def function(values, place=None):
        return ops.mean(values, axis=(1, 2, 3))

    assert function("x").name == "named:x" and function("x").reads_network_dtype
    assert function("x", (0, 1)).is_tied_to_places and not function("x").is_tied_to_places


def test_arguments_that_cannot_be_compared_or_counted_are_refused():
    with pytest.raises(InputError, match="'level' is a list"):
        distance("x", [0.5, 0.5])
    with pytest.raises(InputError, match="'level' of a loss is an array of numbers; got one of <U1"):
        distance("x", np.array("a"))
    with pytest.raises(InputError, match="by its name, or of a tuple of layers; got ndarray"):
        darkness(MAPS)
    with pytest.raises(InputError, match="an empty tuple"):
        darkness(())
    with pytest.raises(TypeError, match="level"):
        distance("x")
    with pytest.raises(InputError, match="call it with a layer"):
        darkness("x") + darkness


def test_the_check_of_a_loss_is_made_before_the_first_step():
    def needs_channels(term, layer_shape):
        if layer_shape(term.layer)[-1] < 7:
            raise InputError("too few channels")

    @loss(check=needs_channels)
    def picky(values):
        return ops.mean(values, axis=(1, 2, 3))

    network = sd.Network(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(6, 3, name="conv")]))
    start = sd.parameterizations.pixels(np.zeros((8, 8, 3)))
    with pytest.raises(InputError, match="too few channels"):
        sd.optimize(network, picky("conv"), parameterization=start, n_steps=1)


def test_a_loss_that_is_not_one_number_an_image_is_told():
    @loss
    def everything(values):
        return ops.mean(values)

    @loss
    def nothing(values):
        return None

    for term, came in (
        (everything("a"), "everything:a'.* a tensor of shape \\(\\)"),
        (nothing("a"), "nothing:a'.* NoneType"),
    ):
        with pytest.raises(InputError, match=came):
            term({"a": MAPS})


def test_another_array_compiles_nothing_and_another_setting_does():
    network = sd.Network(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(6, 3, name="conv")]))
    start = sd.parameterizations.pixels(np.zeros((8, 8, 3)))
    n_traced = 0

    @loss
    def counted(values, level, power=2.0):
        nonlocal n_traced
        n_traced += 1
        return ops.mean(ops.abs(values - level) ** power, axis=(1, 2, 3))

    def n_traced_by(*arguments):
        before = n_traced
        sd.optimize(network, counted("conv", *arguments), parameterization=start, n_steps=1)
        return n_traced - before

    first = n_traced_by(np.float32(0.1))
    assert first > 0
    if backend.name() != "torch":  # compiles nothing
        assert n_traced_by(np.float32(0.7)) == 0
    assert n_traced_by(np.float32(0.7), 3.0) == first


def test_the_page_about_losses_runs_as_written():
    page = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "losses.md").read_text()
    namespace = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "losses.md", "exec"), namespace)
    first, *_, last = namespace["result"].history
    assert list(last)[1:] == ["darkness:input", "colour:input"]
    assert last["colour:input"] < first["colour:input"]
