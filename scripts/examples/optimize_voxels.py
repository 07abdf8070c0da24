"""Not only pictures: make a molecule, a 3-D grid of voxels, a better binder, and find binders from noise.

The molecules are made up: a few atoms of two kinds, each a Gaussian blob in its kind's channel. One binds if an atom of kind A
and one of kind B are 5 voxels apart. A small Conv3D network learns that from examples; then the same `optimize` that makes
pictures changes the voxels until the network's score is high, under constraints of its own: no negative density, little of it,
no two atoms nearer than 3 voxels and, for a given molecule, little strain. Each is switched off in turn.

The score alone could be noise that only the network sees. So atoms are read off the result as peaks and drawn again as clean blobs:
`redrawn` is their score, `A-B` the distance of an A and a B that is nearest to what binds.

    python scripts/examples/optimize_voxels.py -o out/voxels.npz
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from scipy.ndimage import maximum_filter

import stochdeconv as sd

# In voxels: side of the grid, standard deviation of an atom's blob, distance of two atoms that bind (and how exactly), least
# distance of any two atoms. No molecule of the data has an A and a B between the two, so that the classes are apart.
SIDE, WIDTH, BINDING, TOLERANCE, NO_BINDING, APART = 16, 1.0, 5.0, 0.3, 1.0, 3.0
# Sum of an atom's values, and of their squares: what one atom weighs.
MASS, ENERGY = (2 * np.pi) ** 1.5 * WIDTH**3, np.pi**1.5 * WIDTH**3
# A voxel above this is a peak if none around it is higher; one below a tenth of it is empty.
PEAK = 0.4
WEIGHTS = {
    "molecule": {"sparsity": 1.0, "crowding": 1.0, "strain": 1.0},
    "noise": {"sparsity": 3.0, "crowding": 1.0, "strain": 0.0},
}


def distances(places: np.ndarray) -> np.ndarray:
    """Distances between all atoms, (atom, atom)."""
    return np.linalg.norm(places[:, None] - places[None], axis=-1)


def drawn(places: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Draw atoms at places (atom, 3) as blobs in the channels of their kinds: (SIDE, SIDE, SIDE, 2)."""
    along = np.exp(-((np.arange(SIDE) - places[..., None]) ** 2) / (2 * WIDTH**2))
    blobs = np.einsum("ax,ay,az->axyz", along[:, 0], along[:, 1], along[:, 2])
    return np.einsum("axyz,ak->xyzk", blobs, np.eye(2)[kinds]).astype(np.float32)


def molecule(rng: np.random.Generator, *, binds: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draw places and kinds of three to six atoms that bind, or do not."""
    while True:
        n_atoms = rng.integers(3, 7)
        kinds, places = rng.integers(0, 2, n_atoms), rng.uniform(2, SIDE - 3, (n_atoms, 3))
        if binds:
            kinds[1] = 1 - kinds[0]
            bond = rng.standard_normal(3)
            bond *= rng.uniform(BINDING - TOLERANCE, BINDING + TOLERANCE) / np.linalg.norm(bond)
            places[1] = places[0] + bond
        inside = places.min() >= 2 and places.max() <= SIDE - 3
        if not inside or distances(places)[np.triu_indices(n_atoms, 1)].min() < APART:
            continue
        if binds or abs(pair(places, kinds) - BINDING) > NO_BINDING:
            return places, kinds


def pair(places: np.ndarray, kinds: np.ndarray) -> float:
    """Distance of an A and a B that is nearest to what binds; infinite without a pair."""
    apart = distances(places)[(kinds[:, None] == 0) & (kinds[None] == 1)]
    return apart[np.argmin(abs(apart - BINDING))] if apart.size else np.inf


def atoms(voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read places and kinds of atoms off a grid: its local maxima, where a Gaussian through three voxels has its centre."""
    peaks = np.argwhere((voxels == maximum_filter(voxels, size=(3, 3, 3, 1))) & (voxels > PEAK))
    logs = np.log(np.pad(np.maximum(voxels, 1e-3), [(1, 1)] * 3 + [(0, 0)], mode="edge"))
    places = peaks[:, :3].astype(float)
    for axis, step in enumerate(np.eye(3, 4, dtype=int)):
        below, here, above = (logs[tuple((peaks + (1, 1, 1, 0) + n * step).T)] for n in (-1, 0, 1))
        places[:, axis] += (above - below) / 2 / (2 * here - above - below + 1e-6)
    return places, peaks[:, 3]


def trained_network(n_molecules: int, n_epochs: int, seed: int) -> sd.Network:
    """Teach a small network which molecules bind, and print how often it is right about new ones."""
    rng = np.random.default_rng(seed)
    binds = np.arange(n_molecules + 500) % 2
    voxels = np.stack([drawn(*molecule(rng, binds=bool(answer))) for answer in binds])
    keras.utils.set_random_seed(seed)
    grid = keras.Input((SIDE, SIDE, SIDE, 2))
    # Coarse cells and noise in training: less that only the network would see.
    x = layers.AveragePooling3D(2)(layers.GaussianNoise(0.1)(grid))
    x = layers.Conv3D(32, 5, padding="same", activation="relu", name="pairs")(x)
    x = layers.Conv3D(32, 3, padding="same", activation="relu", name="places")(x)
    score = layers.Dense(1, name="score")(layers.GlobalMaxPooling3D()(x))
    model = keras.Model(grid, score, name="binder")
    n_steps = n_epochs * -(-n_molecules // 50)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(4e-3, n_steps)),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)],
    )
    model.fit(voxels[:-500], binds[:-500], batch_size=50, epochs=n_epochs, verbose=0)
    _, accuracy = model.evaluate(voxels[-500:], binds[-500:], verbose=0)
    print(f"right about {accuracy:.1%} of 500 new molecules")
    return sd.Network(model)


@dataclass(frozen=True)
class Sparsity(sd.losses.Term):
    """How much there is, in atoms."""

    def of_values(self, values, arrays):
        """Return the loss per molecule."""
        return ops.sum(ops.abs(values), axis=(1, 2, 3, 4)) / MASS


@dataclass(frozen=True)
class Crowding(sd.losses.Term):
    """Pairs of voxels that are occupied and too near to each other for being two atoms, too far for being one."""

    def of_values(self, values, arrays):
        """Return the loss per molecule."""
        # Squares are narrower blobs: the flanks of an atom are no atoms.
        density = values**2
        return ops.sum(density * ops.conv(density, arrays["near"], padding="same"), axis=(1, 2, 3, 4))


def crowding() -> Crowding:
    """Ask atoms to keep their distance; of one kind, what is nearer than a blob is wide is the same atom."""
    steps = np.arange(-int(APART), int(APART) + 1)
    away = np.sqrt(steps[:, None, None] ** 2 + steps[:, None] ** 2 + steps**2)[..., None, None]
    near = (away < APART) & ((away >= 2 * WIDTH) | ~np.eye(2, dtype=bool))
    return Crowding("input", arrays={"near": near.astype(np.float32)})


@dataclass(frozen=True)
class Strain(sd.losses.Term):
    """How far the molecule is from the given one: 1 for an atom more or less, at most 2 for one that moved."""

    def of_values(self, values, arrays):
        """Return the loss per molecule."""
        return ops.sum((values - arrays["start"]) ** 2, axis=(1, 2, 3, 4)) / ENERGY


def optimized(
    network: sd.Network,
    start: np.ndarray,
    weights: dict[str, float],
    *,
    noise: float,
    off: str,
    n_steps: int,
    seed: int,
) -> np.ndarray:
    """Raise the score of a molecule, with the constraint `off` switched off (all of them for "all")."""
    weights = {name: 0.0 if off in (name, "all") else weight for name, weight in weights.items()}
    non_negative = () if off in ("non-negativity", "all") else (sd.parameterizations.Clip(0.0, np.inf),)
    loss = (
        sd.losses.unit("score", 0)
        + weights["sparsity"] * Sparsity("input")
        + weights["crowding"] * crowding()
        + weights["strain"] * Strain("input", arrays={"start": start})
    )
    variables = sd.parameterizations.pixels(
        start,
        input_shape=network.input_shape,
        noise=noise,
        constraints=non_negative,
        seed=seed,
        learning_rate=0.02,
    )
    descent = sd.Descent(decay=True)
    return sd.optimize(network, loss, parameterization=variables, n_steps=n_steps, descent=descent).images[0]


def row(network: sd.Network, name: str, voxels: np.ndarray) -> str:
    """Describe a molecule in a line of the table."""
    places, kinds = atoms(voxels)
    score, redrawn = network.activations(np.stack([voxels, drawn(places, kinds)]), ["score"])["score"][:, 0]
    nearest = distances(places)[np.triu_indices(len(places), 1)].min(initial=np.inf)
    empty = np.mean(abs(voxels) < PEAK / 10)
    return (
        f"{name:24} {score:7.1f} {redrawn:7.1f} {pair(places, kinds):5.1f} {len(places):5} {nearest:7.1f} "
        f"{empty:6.1%} {voxels.min():6.2f}"
    )


def main() -> None:
    """Read the arguments, train the network, optimise a given molecule and noise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="an .npz file for all grids")
    parser.add_argument("--n-molecules", type=int, default=4000, help="to learn from")
    parser.add_argument("--n-epochs", type=int, default=6)
    parser.add_argument("--n-steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    network = trained_network(arguments.n_molecules, arguments.n_epochs, arguments.seed)

    # A molecule with atoms of both kinds that does not bind.
    rng = np.random.default_rng([arguments.seed, 1])
    places, kinds = molecule(rng, binds=False)
    while not 0 < kinds.sum() < len(kinds):
        places, kinds = molecule(rng, binds=False)
    grids = {}
    for kind, start, noise in [
        ("molecule", drawn(places, kinds), 0.0),
        ("noise", np.zeros(network.input_shape, np.float32), 0.1),
    ]:
        settings = {"noise": noise, "n_steps": arguments.n_steps, "seed": arguments.seed}
        print(f"\n{'from ' + kind:24}   score redrawn   A-B atoms nearest  empty lowest")
        if kind == "molecule":
            grids[f"{kind}: start"] = start
            print(row(network, "start", start))
        terms = [name for name, weight in WEIGHTS[kind].items() if weight]
        for off in ("", "non-negativity", *terms, "all"):
            voxels = optimized(network, start, WEIGHTS[kind], off=off, **settings)
            name = "all constraints" if not off else "no constraint" if off == "all" else f"without {off}"
            grids[f"{kind}: {name}"] = voxels
            print(row(network, name, voxels), flush=True)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(arguments.output, **grids)
        print(f"\n{arguments.output}")


if __name__ == "__main__":
    main()
