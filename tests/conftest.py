"""What several test files need."""

import gc
import os
import random
from pathlib import Path

import hypothesis
import pytest

# The same examples at every run, and no file of failed ones: a failure is the code's, not the draw's.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None, max_examples=60)
hypothesis.settings.load_profile("same")

# Before anything imports TensorFlow: it would log to stderr what no test wants to read.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# As stochdeconv has it: tests that import Keras first would go without.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# There is a process for each processor; more threads than those would wait for each other, which took an eighth more time.
if "PYTEST_XDIST_WORKER" in os.environ:
    for threads in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(threads, "1")

ROOT = Path(__file__).resolve().parents[1]


# Files that take a minute or more go first: one of them begun last would keep one process while the others have nothing to do.
_LONGEST = (
    "test_readme.py",
    "test_notebooks.py",
    "networks/test_zoo.py",
    "test_demo.py",
    "cli/test_methods.py",
    "cli/test_bad_input.py",
    "scripts/test_scripts.py",
)


def pytest_collection_finish():
    """Look for garbage less often, and not among what TensorFlow and Keras are made of: tracing took a sixth longer for it."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish():
    """Look for garbage once more, for what was left open; pytest does it ten times, a second each."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup():
    """Let Keras draw the same weights at every run, whatever ran before: it takes its seeds from Python's generator."""
    random.seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call():
    """Do so for networks that tests make themselves."""
    random.seed(0)


# What a backend computes: networks, losses, steps, and the two methods they were made for. ``-m core`` runs these alone.
_CORE = (
    "test_backend.py",
    "cli/test_backends.py",
    "losses/test_losses.py",
    "networks/test_blockwise.py",
    "networks/test_network.py",
    "optimization/test_descent.py",
    "optimization/test_gradient.py",
    "optimization/test_loop.py",
    "optimization/test_parameterizations.py",
    "optimization/test_steps.py",
    "optimization/test_transforms.py",
    "methods/test_generate.py",
    "methods/test_maximize.py",
    "statistics/test_pooling.py",
    "statistics/test_regions.py",
    "statistics/test_shared_maps.py",
)


def pytest_ignore_collect(collection_path, config):
    """Do not even import the other tests, and what they need, where the core alone is asked for."""
    if config.option.markexpr == "core" and collection_path.match("test_*.py"):
        return collection_path.relative_to(ROOT / "tests").as_posix() not in _CORE or None
    return None


@pytest.hookimpl(tryfirst=True)  # before pytest looks for marks
def pytest_collection_modifyitems(items):
    """Bring the longest files to the front, and mark the core."""
    place = {name: number for number, name in enumerate(_LONGEST)}
    files = {id(item): item.path.relative_to(ROOT / "tests").as_posix() for item in items}
    for item in items:
        # What was chosen for a real network is no matter of a backend.
        if files[id(item)] in _CORE and "shared" not in item.fixturenames:
            item.add_marker("core")
    items.sort(key=lambda item: place.get(files[id(item)], len(place)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photographs and networks; tests that ask for it are skipped where it is missing."""
    folder = Path(os.environ.get("STOCHDECONV_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no photographs and networks at {folder} (STOCHDECONV_SHARED says where)")
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Networks, photographs, statistics and runs that the tests of the command line look at and do not change."""
    from commands import N_PHOTOS, SHORT, SMALL, make_photos, succeed
    from toys import make_network

    folder = tmp_path_factory.mktemp("made")
    make_network(folder / "tiny.keras", seed=0)
    make_network(folder / "other.keras", seed=1)
    for number, name in enumerate(("photos/church", "photos/barn", "held")):
        make_photos(folder / name, N_PHOTOS, seed=number)
    succeed("collect", folder / "photos/church", "-m", folder / "tiny.keras", "-o", folder / "church.h5", *SMALL)
    succeed("generate", folder / "church.h5", "-o", folder / "ours", *SHORT)
    succeed("maximize", "church", "-m", folder / "tiny.keras", "-o", folder / "theirs", *SHORT)
    return folder


@pytest.fixture(scope="session")
def landscape_folder(tmp_path_factory):
    """Fifty landscapes: blue above, green below, a disc of light somewhere."""
    import numpy as np

    from stochdeconv.images.files import save_png

    folder = tmp_path_factory.mktemp("landscapes") / "sunset"
    folder.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :48] / 48
    for i in range(50):
        horizon, cx, cy = rng.uniform(0.4, 0.7), rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.4)
        image = np.where((y < horizon)[..., None], [0.3, 0.5, 0.9], [0.2, 0.6, 0.2])
        image[(x - cx) ** 2 + (y - cy) ** 2 < 0.01] = [1.0, 0.9, 0.3]
        save_png(folder / f"{i:02d}.png", np.clip(image + 0.05 * rng.normal(size=image.shape), 0, 1))
    return folder


@pytest.fixture(scope="session")
def landscapes(landscape_folder):
    """The same, (48, 48, 3) in [0, 1], by name."""
    from stochdeconv.images.files import load_image

    return {path.name: load_image(path, (48, 48)) for path in sorted(landscape_folder.iterdir())}


@pytest.fixture(scope="session")
def landscape_model():
    """A network with three layers of positions, 48, 24 and 12 a side."""
    import keras
    from toys import draw_weights

    from stochdeconv.networks.image_model import load_model

    layers = [
        keras.Input((48, 48, 3)),
        keras.layers.Conv2D(8, 5, activation="relu", padding="same", name="low"),
        keras.layers.Conv2D(12, 3, strides=2, activation="relu", padding="same", name="middle"),
        keras.layers.Conv2D(16, 3, strides=2, activation="relu", padding="same", name="fine"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="softmax", name="predictions"),
    ]
    network = draw_weights(keras.Sequential(layers), 3)
    return load_model(network, preprocessing="tf", class_names=["sunset", "dog", "eel"], dtype="float32")


@pytest.fixture(scope="session")
def landscape_statistics(landscape_model, landscape_folder):
    """Of the landscapes, all of them kept."""
    from stochdeconv.statistics.collection import collect

    return collect(landscape_model, landscape_folder, n_components=16, n_contexts=24, exemplars=50)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
