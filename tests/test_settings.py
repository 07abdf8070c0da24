"""Settings: refused when they are made, settled when they are read, the same however they are given."""

import dataclasses
import math

import numpy as np
import pytest
import toys

import stochdeconv as sd
from stochdeconv.errors import InputError, SettingsError
from stochdeconv.evaluation.measure import MeasureSettings
from stochdeconv.methods.class_images import GenerateSettings
from stochdeconv.methods.dream import DreamSettings
from stochdeconv.methods.invert import InvertSettings
from stochdeconv.methods.maximize import MaximizeSettings
from stochdeconv.methods.morph import MorphSettings
from stochdeconv.methods.refine import RefineSettings
from stochdeconv.methods.saliency import SaliencySettings
from stochdeconv.methods.sweep import SweepSettings
from stochdeconv.settings import check_count, check_number, read_settings
from stochdeconv.statistics.collection import CollectSettings

OF_RUNS = (
    GenerateSettings,
    MaximizeSettings,
    RefineSettings,
    MorphSettings,
    DreamSettings,
    InvertSettings,
    SaliencySettings,
    SweepSettings,
)
ALL = (*OF_RUNS, CollectSettings, MeasureSettings)


def values_of(settings):
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


@pytest.mark.parametrize("kind", ALL)
def test_what_is_settled_can_be_given_again(kind):
    """As a record of a run gives it."""
    settled = kind().settled()
    assert settled.settled() == settled
    assert kind(**values_of(settled)).settled() == settled


@pytest.mark.parametrize(
    ("kind", "name", "parts"),
    [
        (RefineSettings, "checkpoints", [3, 7]),
        (SweepSettings, "n_steps", [3, 7]),
        (MaximizeSettings, "unit", ["conv:0", "conv:1"]),
        (CollectSettings, "layers", ["conv", 3]),
        (CollectSettings, "shard", (1, 3)),
        (MorphSettings, "suppress_outliers", ["a.h5", "b.h5"]),
    ],
)
def test_what_can_be_read_once_is_read_once(kind, name, parts):
    settings = kind(**{name: iter(parts)})
    for _ in range(2):
        assert list(getattr(settings.settled(), name)) == list(parts)
    assert settings == dataclasses.replace(settings) and list(getattr(settings, name)) == list(parts)


@pytest.mark.parametrize("kind", OF_RUNS)
def test_counts_are_whole_numbers(kind):
    for name in kind.counts:
        if name in values_of(kind()):
            for number in (0, -1, 2.5, True, "3"):
                with pytest.raises(SettingsError, match=f"{name}= is a whole number of at least 1; got {number!r}"):
                    kind(**{name: number})
            assert getattr(kind(**{name: np.int64(300)}), name) == 300
    for seed in (-1, 1.5):
        with pytest.raises(SettingsError, match=f"seed= is a whole number of at least 0; got {seed}"):
            kind(seed=seed)


@pytest.mark.parametrize(
    ("kind", "name", "numbers"),
    [
        (RefineSettings, "strength", (0, -1, math.nan, math.inf)),
        (RefineSettings, "tv", (-1, math.nan, math.inf)),
        (RefineSettings, "scale", (-0.1, 1, math.nan)),
        (MorphSettings, "rotate", (-1, math.nan, math.inf)),
        (DreamSettings, "step_size", (0, math.nan, math.inf)),
        (DreamSettings, "octave_scale", (1, math.nan, math.inf)),
        (InvertSettings, "alpha_norm", (-1, math.nan)),
        (InvertSettings, "tv", (-1, math.nan, math.inf)),
        (MaximizeSettings, "diversity", (-1, math.nan, math.inf)),
        (MaximizeSettings, "l2", (-1, math.nan, math.inf)),
        (SaliencySettings, "noise", (-1, math.nan, math.inf)),
        (GenerateSettings, "temperature", (-1, math.nan, math.inf)),
        (MeasureSettings, "held_out", (0, 1, math.nan)),
    ],
)
def test_numbers_out_of_range_are_refused_at_once(kind, name, numbers):
    for number in numbers:
        with pytest.raises(SettingsError, match=f"{name}= is a finite number.*; got {number}"):
            kind(**{name: number})


def test_what_is_not_open_cannot_be_none_and_a_switch_is_true_or_false():
    for kind in ALL:
        for field in dataclasses.fields(kind):
            if field.default is not None and field.name != "recipe":
                with pytest.raises(SettingsError, match=f"{field.name}= is by default .*, and cannot be None"):
                    kind(**{field.name: None})
            if isinstance(field.default, bool):
                with pytest.raises(SettingsError, match=f"{field.name}= is True or False; got 'no'"):
                    kind(**{field.name: "no"})
    assert GenerateSettings(recipe=None).recipe is None


def test_limits_are_said_as_they_hold():
    check_number("part", None, above=0)
    check_number("part", np.float32(0.5), above=0, below=1)
    with pytest.raises(SettingsError, match=r"^part= is a finite number; got nan$"):
        check_number("part", math.nan)
    with pytest.raises(SettingsError, match=r"^part= is a finite number, above 0 and below 1; got 1$"):
        check_number("part", 1, above=0, below=1)
    with pytest.raises(SettingsError, match=r"^part= is a finite number, at least 0; got '1'$"):
        check_number("part", "1", at_least=0)
    check_count("n", None)
    check_count("n", 0, at_least=0)
    with pytest.raises(SettingsError, match=r"^n= is a whole number of at least 2; got 1$"):
        check_count("n", 1, at_least=2)


def test_a_misspelt_keyword_is_told_the_nearest():
    with pytest.raises(TypeError, match=r"no keyword 'n_image'; closest: 'n_images'.*; there are size, batch_size"):
        read_settings(GenerateSettings, None, {"n_image": 2})


@pytest.mark.parametrize("came", ["mini-vgg16", None, 3])
def test_what_is_no_network_is_told(came):
    for method in (sd.maximize, sd.generate, sd.saliency, sd.collect):
        with pytest.raises(InputError, match="model= is a network, as load_model returns it; got"):
            method(came, "church")


def test_what_are_no_statistics_is_told():
    with pytest.raises(InputError, match=r"statistics= is statistics, .* got the text 'church\.h5'"):
        sd.generate(toys.network(1), "church.h5")
