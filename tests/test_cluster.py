import os
import shutil
import signal
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from stochdeconv.cluster import Cluster, _cores_each, _n_shards
from stochdeconv.errors import ExistingOutputError, InputError, ModelError, SettingsError, StochDeconvError
from stochdeconv.images.files import save_png
from stochdeconv.methods.generate import generate
from stochdeconv.networks.image_model import load_model
from stochdeconv.statistics.collection import CollectSettings, collect
from stochdeconv.statistics.file import save_statistics
from stochdeconv.statistics.spool import remove_spool
from stochdeconv.threads import n_processors

ray = pytest.importorskip("ray", reason="work is shared by Ray, which is not installed")
SIZE = 20


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            keras.layers.Conv2D(6, 3, activation="relu", name="low"),
            keras.layers.Conv2D(8, 3, activation="relu", name="deep"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, activation="softmax", name="predictions"),
        ]
    )
    path = tmp_path_factory.mktemp("network") / "small.keras"
    network.save(path)
    path.with_suffix(".json").write_text('{"preprocessing": "tf", "class_names": ["sunset", "dog"]}')
    return load_model(path, dtype="float32")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "sunset"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(30):
        save_png(folder / f"{i:02d}.png", rng.uniform(size=(1, 1, 3)) * rng.uniform(0.5, 1, size=(SIZE, SIZE, 3)))
    return folder


@pytest.fixture(scope="module")
def statistics(model, photographs):
    return collect(model, photographs, n_components=8)


def worker_processes():
    """Numbers of the processes that Ray calls by their class and what they do."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                if file.read().startswith(b"ray::_Worker"):
                    found.append(int(entry))
    return found


def kill_one():
    """Kill a worker as the kernel does when memory is short."""
    os.kill(worker_processes()[-1], signal.SIGKILL)


def stored(statistics, path):
    save_statistics(statistics, path)
    return path.read_bytes()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="finds the workers' processes in /proc")
@pytest.mark.skipif(n_processors() < 2, reason="two workers want two processors")
def test_two_workers_one_of_them_killed_give_what_one_process_gives(
    model, photographs, statistics, tmp_path, monkeypatch
):
    monkeypatch.setattr("stochdeconv.cluster._SHARD_IMAGES", 4)
    told, killed = [], []

    def progress(n_finished, n_all, message):
        told.append((n_finished, n_all))
        if not killed:
            killed.append(kill_one())

    run = {"n_images": 5, "n_steps": 6, "batch_size": 2, "seed": 3}
    ours = generate(model, statistics, **run)
    with Cluster("local", model, n_workers=2) as cluster:
        settings = CollectSettings(n_components=8)
        shared = cluster.collect(photographs, settings, spool=tmp_path / "spool", progress=progress)
        assert killed and told[-1][0] == told[-1][1]
        assert stored(shared, tmp_path / "shared.h5") == stored(statistics, tmp_path / "alone.h5")
        assert len(list((tmp_path / "spool").iterdir())) == 8

        # What is there is not measured again, and only gone on with where one says so.
        with pytest.raises(ExistingOutputError, match="resume=True"):
            cluster.collect(photographs, settings, spool=tmp_path / "spool")
        with pytest.raises(InputError, match="collected with something else"):
            cluster.collect(photographs, CollectSettings(n_components=4), spool=tmp_path / "spool", resume=True)
        (tmp_path / "spool" / "shard_3-of-8.bin").unlink()
        told.clear()
        again = cluster.collect(photographs, settings, spool=tmp_path / "spool", resume=True, progress=progress)
        assert stored(again, tmp_path / "again.h5") == stored(statistics, tmp_path / "alone2.h5")

        steps = []

        def callback(step):
            steps.append((step.step, step.n_steps, step.images().shape[0]))
            if len(steps) == 1:
                kill_one()

        theirs = generate(model, statistics, make_batches=cluster.batches, callback=callback, **run)
    assert steps == [(6, 18, 2), (12, 18, 2), (18, 18, 1)]
    np.testing.assert_array_equal(theirs.images, ours.images)
    assert theirs.history == ours.history
    own, other = ({**result.record, "seconds": 0, "created": 0} for result in (ours, theirs))
    assert own == other
    deadline = time.monotonic() + 30
    while worker_processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not worker_processes()


def test_what_cannot_be_shared_is_refused_before_anything_is_started(model, statistics, photographs, tmp_path):
    for series in ({"walk": 3}, {"component": "input:0"}, {"gif": True}):
        with pytest.raises(SettingsError, match="one process"):
            generate(model, statistics, n_steps=1, make_batches=lambda *_: [], **series)
    with pytest.raises(SettingsError, match="n_workers"):
        Cluster("local", model, n_workers=0)
    in_memory = load_model(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)]), preprocessing="tf")
    with pytest.raises(ModelError, match=r"save it as a \.keras file"):
        Cluster("local", in_memory)
    with pytest.raises(SettingsError, match="shard="):
        Cluster("local", model).collect(photographs, CollectSettings(shard="1/2"), spool=tmp_path)


def test_no_cluster_at_an_address(model):
    with pytest.raises(InputError, match=r"no Ray cluster answers at '127\.0\.0\.1:1'"), Cluster("127.0.0.1:1", model):
        pass


def test_a_cluster_that_was_joined_before_is_left_as_it_is(model, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "shutdown", lambda: pytest.fail("this is not ours to end"))
    with pytest.raises(InputError, match=r"joined a Ray cluster already.*ray\.shutdown\(\)"), Cluster("auto", model):
        pass


def test_more_workers_than_processors_are_refused(model):
    with (
        pytest.raises(
            InputError, match=r"1000 workers, but the cluster at 'local' has \d+ (processors|GPUs): as many at most"
        ),
        Cluster("local", model, n_workers=1000),
    ):
        pass


def test_workers_that_find_another_network_are_refused(model, tmp_path):
    changed = load_model(model.source, preprocessing="none", dtype="float32")
    with pytest.raises(ModelError, match="another network"), Cluster("local", changed, n_workers=1):
        pass


def test_a_network_that_workers_do_not_find_is_told_in_one_sentence(model, tmp_path):
    for suffix in (".keras", ".json"):
        shutil.copy(Path(model.source).with_suffix(suffix), tmp_path / f"gone{suffix}")
    gone = load_model(tmp_path / "gone.keras", dtype="float32")
    cluster = Cluster("local", gone, n_workers=1)
    (tmp_path / "gone.keras").unlink()
    with pytest.raises(StochDeconvError, match=r"gone\.keras") as caught, cluster:
        pass
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_what_one_process_began_and_what_workers_began_are_not_taken_for_each_other(model, photographs, tmp_path):
    folder = tmp_path / "church.h5.partial"
    collect(model, photographs, spool=folder, n_components=4)
    cluster = Cluster("local", model)
    cluster.n_workers = 2
    for resume in (False, True):
        with pytest.raises(ExistingOutputError, match="that one process began"):
            cluster.collect(photographs, CollectSettings(n_components=4), spool=folder, resume=resume)
    remove_spool(folder)
    folder.mkdir()
    (folder / "shard_1-of-2.bin").write_bytes(b"")
    for resume in (False, True):
        with pytest.raises(ExistingOutputError, match="shards that workers"):
            collect(model, photographs, spool=folder, resume=resume, n_components=4)
    collect(model, photographs, spool=folder, overwrite=True, n_components=4)
    assert not list(folder.glob("shard_*"))


@pytest.mark.parametrize(
    ("machines", "n_workers", "each"),
    [([8, 8], 3, 4), ([16, 16, 16], 4, 8), ([64, 64], 5, 21), ([2], 2, 1), ([8], 1, 8), ([0, 4], 1, 4), ([2, 8], 2, 4)],
)
def test_workers_fit_the_machines_they_are_started_on(machines, n_workers, each):
    assert _cores_each(machines, n_workers) == each
    assert sum(cores // each for cores in machines) >= n_workers


@pytest.mark.parametrize(
    ("n_images", "n_workers", "n_shards"), [(1, 4, 1), (3, 4, 3), (100, 4, 4), (1300, 4, 12), (1300, 64, 64)]
)
def test_shards_are_small_and_as_many_for_each_worker(n_images, n_workers, n_shards):
    assert _n_shards(n_images, n_workers) == n_shards
