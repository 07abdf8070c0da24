"""Properties that hold for whatever comes: texts read back as they are written, tiles without gaps, sums without an order."""

import contextlib
import math
from dataclasses import asdict
from fractions import Fraction

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from stochdeconv.errors import InputError
from stochdeconv.methods.recipe import Recipe, parse_recipe
from stochdeconv.optimization.descent import tiles
from stochdeconv.parsing import LayerWord, read_layer_word, read_list, whole_number
from stochdeconv.statistics.exact_sums import ExactSum

FORM = "of the form LAYER:CHANNEL"
# No line break: a text of the command line is one line.
ENTRIES = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1).map(str.strip).filter(bool)
WORDS = st.text(st.sampled_from("ab/_ .1="), min_size=1).map(str.strip).filter(bool)
NUMBERS = st.integers(0, 10**12)
WEIGHTS = st.floats(allow_nan=False, allow_infinity=False)


def quoted(entry):
    return '"' + entry.replace('"', '""') + '"'


@given(
    st.lists(ENTRIES, min_size=1, unique=True), st.sampled_from([",", ", ", " ,"]), st.sampled_from(["", ",", " , "])
)
def test_a_list_is_read_as_it_is_written(entries, comma, end):
    assert read_list(comma.join(map(quoted, entries)) + end, "layer") == entries


@given(st.lists(st.integers(), min_size=1, unique=True))
def test_a_list_of_numbers_is_read_as_it_is_written(numbers):
    assert read_list(",".join(map(str, numbers)), "number", whole_number) == numbers


@given(st.text())
def test_any_text_is_a_list_or_refused_in_words(text):
    try:
        entries = read_list(text, "layer")
    except InputError:
        return
    assert entries and all(entries) and len(set(entries)) == len(entries)


@given(WORDS, st.sampled_from(["", ":b", "/c:d"]), NUMBERS, st.none() | st.tuples(NUMBERS, NUMBERS))
def test_a_unit_is_read_as_it_is_written(layer, more, channel, position):
    word = LayerWord(layer + more, (channel, *(position or ())))
    assert read_layer_word(str(word), FORM, n_numbers=(1, 3)) == word


@given(WORDS, st.lists(NUMBERS, max_size=3), NUMBERS)
def test_where_one_number_is_expected_those_before_it_are_the_layers(layer, numbers, last):
    name = ":".join([layer, *map(str, numbers)])
    assert read_layer_word(f"{name}:{last}", FORM, n_numbers=(1,)) == LayerWord(name, (last,))


@given(WORDS, st.lists(NUMBERS, max_size=1), st.none() | WEIGHTS)
def test_a_weighted_layer_is_read_as_it_is_written(layer, numbers, weight):
    assume(weight is not None or "=" not in layer)
    word = LayerWord(layer, tuple(numbers), weight)
    assert read_layer_word(str(word), FORM, n_numbers=(0, 1), weighted=True) == word


@given(st.text(st.sampled_from("a:1²= -.einf")), st.sampled_from([(1,), (0, 1), (1, 3)]), st.booleans())
def test_any_text_is_a_layer_with_its_numbers_or_refused_in_words(text, n_numbers, weighted):
    try:
        word = read_layer_word(text, FORM, n_numbers=n_numbers, weighted=weighted)
    except InputError:
        return
    assert word.layer and len(word.numbers) in n_numbers and (weighted or word.weight is None)
    assert read_layer_word(str(word), FORM, n_numbers=n_numbers, weighted=weighted) == word


BELOW_ONE = {"scale", "patch_prior"}
RECIPES = st.builds(
    Recipe,
    **{
        name: {
            bool: st.booleans(),
            int: st.integers(0, 10**6),
            float: st.floats(
                0,
                1 if name in BELOW_ONE else None,
                exclude_max=name in BELOW_ONE,
                allow_nan=False,
                allow_infinity=False,
            ),
        }[type(value)]
        for name, value in asdict(Recipe()).items()
        if not isinstance(value, str)
    },
    order=st.sampled_from(["together", "deepest-first"]),
    parameterization=st.sampled_from(["fourier", "pixels"]),
)


@given(RECIPES, RECIPES)
def test_a_recipe_is_read_as_it_is_written_whatever_it_starts_from(recipe, base):
    assert parse_recipe(",".join(f"{name}={value}" for name, value in asdict(recipe).items()), base) == recipe
    assert parse_recipe("", base) == base


@given(st.text(), RECIPES)
def test_any_text_is_a_recipe_or_refused_in_words(text, base):
    with contextlib.suppress(InputError):
        assert isinstance(parse_recipe(text, base), Recipe)


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.integers(1, 40),
    st.tuples(st.integers(0, 200), st.integers(0, 200)),
)
def test_tiles_cover_an_image_without_gaps_and_stay_inside(size, tile_size, offset):
    covered = np.zeros(size, int)
    sides = tuple(min(tile_size, length) for length in size)
    laid = list(tiles(size, tile_size, offset))
    for rows, columns in laid:
        assert covered[rows, columns].shape == sides
        covered[rows, columns] += 1
    assert covered.min() >= 1
    # No more than a grid needs whose border tiles are moved inside.
    assert len(laid) <= np.prod([length // side + 2 for length, side in zip(size, sides, strict=True)])


# Spread over 84 bits, and their sums over less than 106: the exact sum is held whole, and rounded once.
TERMS = st.lists(
    st.builds(math.ldexp, st.integers(-(2**24), 2**24), st.sampled_from([-30, -11, 0, 7, 30])), min_size=2, max_size=30
)


@given(TERMS, st.randoms(use_true_random=False), st.data())
def test_a_sum_depends_neither_on_the_order_nor_on_the_shards(terms, random, data):
    shuffled = random.sample(terms, len(terms))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(terms)), max_size=4)))
    total = ExactSum((1,))
    for start, end in zip([0, *cuts], [*cuts, len(terms)], strict=True):
        shard = ExactSum((1,))
        for term in shuffled[start:end]:
            shard.add(np.array([term]))
        total.merge(shard.high, shard.low)
    assert total.value[0] == float(sum(map(Fraction, terms)))
