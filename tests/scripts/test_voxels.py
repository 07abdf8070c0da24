"""The loop on voxels: a network whose best molecule is known, under the constraints of scripts/examples/optimize_voxels.py."""

import re
from pathlib import Path

import keras
import numpy as np
import optimize_voxels as script
import pytest
from keras import ops

import stochdeconv as sd

SIZE = (11, 7, 7)
# Atoms A at two places that are less than APART from each other, B five voxels from the first.
FIRST, SECOND, PARTNER = (3, 2, 2), (3, 4, 4), (8, 2, 2)
# A strain of ENERGY / 2 makes the best molecule the filter itself; the sparsity takes 0.2 off every voxel.
WEIGHTS = {"sparsity": 0.2 * script.MASS, "crowding": 0.1, "strain": script.ENERGY / 2}
ZERO = np.zeros((script.SIDE, script.SIDE, script.SIDE, 2), np.float32)


def matched_filter():
    """What the network looks for: both atoms A, one twice as much as the other, B, and no B where the first A is."""
    first, second, partner = (
        script.drawn(np.array([place], float), np.array([0]))[..., 0][tuple(map(slice, SIZE))]
        for place in (FIRST, SECOND, PARTNER)
    )
    return np.stack([first + 0.7 * second, partner - 0.6 * first], axis=-1)


def network_of(kernel):
    grid = keras.Input(ZERO.shape)
    fits = keras.layers.Conv3D(1, SIZE, padding="same", use_bias=False, name="fits")(grid)
    model = keras.Model(grid, keras.layers.GlobalMaxPooling3D(name="score")(fits))
    model.get_layer("fits").set_weights([kernel[..., None]])
    return sd.Network(model)


@pytest.fixture(scope="module")
def network():
    return network_of(matched_filter())


def optimized(network, start, *, off="", weights=WEIGHTS, noise=0.1, n_steps=150):
    return script.optimized(network, start, weights, noise=noise, off=off, n_steps=n_steps, seed=0)


def score(network, voxels):
    return network.activations(voxels[None], ["score"])["score"][0, 0]


def placed(network, voxels, kernel):
    """The filter where the network finds its best fit in a grid."""
    fits = network.activations(voxels[None], ["fits"])["fits"][0, ..., 0]
    corner = np.array(np.unravel_index(fits.argmax(), fits.shape)) - np.array(SIZE) // 2
    whole = np.zeros([side + 2 * script.SIDE for side in ZERO.shape[:3]] + [2], np.float32)
    whole[tuple(slice(script.SIDE + c, script.SIDE + c + side) for c, side in zip(corner, SIZE, strict=True))] = kernel
    return whole[script.SIDE : -script.SIDE, script.SIDE : -script.SIDE, script.SIDE : -script.SIDE]


@pytest.fixture(scope="module")
def given():
    """An atom B without its partner."""
    return script.drawn(np.array([[11.0, 5, 5]]), np.array([1]))


@pytest.mark.parametrize("begin", ["noise", "given"])
def test_the_best_molecule_is_found(network, given, begin):
    """Without crowding the loss is convex where the filter fits: its minimum is known voxel by voxel."""
    start = given if begin == "given" else ZERO
    voxels = optimized(network, start, off="crowding", noise=0.0 if begin == "given" else 0.1)
    expected = np.maximum(start + placed(network, voxels, matched_filter()) - 0.2, 0)
    np.testing.assert_allclose(voxels, expected, atol=0.03)
    assert expected.max() > 0.75


def nearest(voxels):
    places, _ = script.atoms(voxels)
    return script.distances(np.round(places))[np.triu_indices(len(places), 1)].min()


@pytest.mark.parametrize("begin", ["noise", "given"])
def test_each_constraint_does_its_work(network, given, begin):
    start, noise = (given, 0.0) if begin == "given" else (ZERO, 0.1)
    before = np.maximum(sd.parameterizations.pixels(start, noise=noise).start()[0], 0)
    actual = {
        off: optimized(network, start, off=off, noise=noise) for off in ("", "non-negativity", "sparsity", "crowding")
    }
    for voxels in actual.values():
        assert score(network, voxels) > score(network, before) + 3

    assert actual[""].min() >= 0
    assert actual["non-negativity"].min() < -0.1

    def is_occupied(off):
        return np.mean(np.abs(actual[off]) > 0.02)

    assert is_occupied("") < 0.02
    assert is_occupied("sparsity") > 2 * is_occupied("")

    assert nearest(actual[""]) >= script.APART > nearest(actual["crowding"])
    places, kinds = script.atoms(actual[""])
    assert script.pair(places, kinds) == pytest.approx(script.BINDING, abs=0.6)
    # Atoms, not noise that only the network sees: drawn again, they score as well.
    assert score(network, script.drawn(places, kinds)) > score(network, before) + 3


def test_a_given_molecule_is_kept_by_its_strain(network, given):
    kept, free = (optimized(network, given, off=off, noise=0.0, n_steps=150) for off in ("", "strain"))
    moved, far = (np.sum((voxels - given) ** 2) / script.ENERGY for voxels in (kept, free))
    assert 3 * moved < far


def test_another_network_finds_another_molecule(network):
    kernel = matched_filter()
    shuffled = network_of(np.random.default_rng(0).permutation(kernel.ravel()).reshape(kernel.shape))
    own, other = (optimized(aimed, ZERO, n_steps=150) for aimed in (network, shuffled))
    assert score(shuffled, other) > score(shuffled, own) + 1
    assert score(network, own) > 3 * score(network, other)


def test_a_grid_as_deep_as_there_are_molecules_is_one_grid():
    deep = np.arange(2 * 4 * 5.0).reshape(2, 4, 5, 1)
    single = sd.parameterizations.pixels(deep, input_shape=(2, 4, 5, 1), noise=0.0, n_images=2).start()
    np.testing.assert_array_equal(single, np.stack([deep, deep]))
    each = sd.parameterizations.pixels(single * [[[[[1]]]], [[[[2]]]]], input_shape=(2, 4, 5, 1), noise=0.0, n_images=2)
    np.testing.assert_array_equal(each.start(), np.stack([deep, 2 * deep]))
    assert sd.parameterizations.pixels(deep).start().shape == (1, 2, 4, 5, 1)
    assert sd.parameterizations.pixels(np.zeros(7), input_shape=(7,), n_images=3).start().shape == (3, 7)
    with pytest.raises(
        sd.errors.InputError, match=r"shape \(2, 4, 5, 1\); expected one input of shape \(4, 5, 1\), or 3"
    ):
        sd.parameterizations.pixels(deep, input_shape=(4, 5, 1), n_images=3)


def test_the_example_of_the_documentation_runs(network, given):
    page = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "voxels.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    names = {"keras_model": network.keras_model, "voxels": given, "__name__": "example"}
    exec(code.replace("n_steps=300", "n_steps=3"), names)
    assert score(network, names["better"][0]) > score(network, given)


# The parts of the script


def loss_of(term, voxels):
    return float(term({"input": ops.convert_to_tensor(voxels[None])})[0])


def test_terms_count_in_atoms():
    places, kinds = np.array([[4.0, 4, 4], [11, 11, 11]]), np.array([0, 1])
    two, single = script.drawn(places, kinds), script.drawn(places[:1], kinds[:1])
    assert loss_of(script.Sparsity("input"), two) == pytest.approx(2, rel=1e-3)
    strain = script.Strain("input", arrays={"start": two})
    assert loss_of(strain, two) == 0 and loss_of(strain, single) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("second", [0, 1])
def test_atoms_crowd_below_the_least_distance(second):
    def crowd(distance):
        places = np.array([[4.0, 8, 8], [4 + distance, 8, 8]])
        return loss_of(script.crowding(), script.drawn(places, np.array([0, second])))

    # An atom's own flanks count, too.
    apart = crowd(8.0)
    assert crowd(2.5) > 2 * apart and crowd(5.0) < 1.05 * apart
    # Of two kinds, even at one place; of one kind, that is the same atom.
    assert second == 0 or crowd(0.0) > 2 * apart


def test_atoms_are_read_off_where_they_were_drawn():
    rng = np.random.default_rng(0)
    for binds in (True, False):
        places, kinds = script.molecule(rng, binds=binds)
        actual, found_kinds = script.atoms(script.drawn(places, kinds))
        order, found_order = np.lexsort(places.round().T), np.lexsort(actual.round().T)
        np.testing.assert_array_equal(found_kinds[found_order], kinds[order])
        np.testing.assert_allclose(actual[found_order], places[order], atol=0.1)
        assert (abs(script.pair(places, kinds) - script.BINDING) < script.TOLERANCE) == binds
