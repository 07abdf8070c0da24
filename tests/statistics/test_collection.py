import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import reference
from PIL import Image

from stochdeconv.errors import (
    ClassNotFoundError,
    ExistingOutputError,
    FileFormatError,
    InputError,
    LayerNotFoundError,
    MissingInputError,
    ModelError,
)
from stochdeconv.images.files import load_image
from stochdeconv.statistics import finalisation, layout, measurement, spool
from stochdeconv.statistics.class_statistics import ClassStatistics
from stochdeconv.statistics.collection import class_of, collect, merge
from stochdeconv.statistics.file import load_statistics, save_statistics
from stochdeconv.statistics.pooling import pooled_map
from stochdeconv.statistics.rounding import rounded
from stochdeconv.statistics.spool import remove_spool

SIZE = (20, 24)
LAYERS = ["first", "second", "dense"]
CLASSES = ["church", "crane", "golf ball", "crane"]
SETTINGS = {"layers": LAYERS, "n_components": 3, "layout_size": 4, "batch_size": 4}


def _network(seed: int = 0):
    import keras

    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.layers.Input((*SIZE, 3)),
            keras.layers.Conv2D(5, 3, activation="relu", name="first", bias_initializer="random_normal"),
            keras.layers.Conv2D(7, 3, strides=2, name="second", bias_initializer="random_normal"),
            keras.layers.ReLU(name="relu"),
            keras.layers.GlobalAveragePooling2D(name="average"),
            keras.layers.Dense(4, activation="relu", name="dense"),
            keras.layers.Dense(4, activation="softmax", name="predictions"),
        ]
    )


def _load(network):
    from stochdeconv.networks.image_model import load_model

    return load_model(network, preprocessing="caffe", mean=[104.0, 117.0, 123.0], class_names=CLASSES)


@pytest.fixture(scope="module")
def model():
    return _load(_network())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Eleven photographs of noise in two folders."""
    folder = tmp_path_factory.mktemp("photographs") / "church"
    rng = np.random.default_rng(0)
    for number in range(11):
        # Coarse noise of its own contrast, so that images differ in more than their noise.
        coarse = rng.random((5, 6, 3)) * rng.uniform(0.2, 1.0)
        path = folder / ("a" if number % 3 else "b") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((coarse * 255).astype(np.uint8)).resize((24, 20)).save(path)
    return folder


@pytest.fixture(scope="module")
def statistics(model, folder) -> ClassStatistics:
    return collect(model, folder, **SETTINGS)


def _assert_same(actual: ClassStatistics, expected: ClassStatistics) -> None:
    assert list(actual) == list(expected)
    for ours, theirs in ((actual, expected), *((actual[name], expected[name]) for name in expected)):
        assert list(ours.fields) == list(theirs.fields)
        for name, value in theirs.fields.items():
            _assert_same_value(getattr(ours, name), value, name)
        for spec in fields(theirs):
            if spec.name not in ("layers", "fields"):
                _assert_same_value(getattr(ours, spec.name), getattr(theirs, spec.name), spec.name)


def _assert_same_value(ours, theirs, name: str) -> None:
    if isinstance(theirs, np.ndarray):
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes()), name
    elif dataclasses.is_dataclass(theirs):
        for key, value in vars(theirs).items():
            _assert_same_value(getattr(ours, key), value, f"{name}.{key}")
    else:
        assert ours == theirs, name


# ---- what is measured ------------------------------------------------------------------------------------------------


def test_every_number_equals_the_one_computed_at_once(model, folder, statistics):
    paths = sorted(folder.rglob("*.png"))
    pictures = np.stack([load_image(path) for path in paths])
    activations = {"input": pictures, **model.activations(pictures, LAYERS)}
    activations["dense"] = activations["dense"][:, None, None]
    assert list(statistics) == ["input", *LAYERS]
    for name, layer in statistics.items():
        expected = reference.layer_statistics(activations[name], 4)
        # What each image has is kept in 11 bits.
        for kind, rtol in (("means", 2**-11 + 1e-4), ("within_covariance", 1e-4), ("firing_fraction", 1e-4)):
            np.testing.assert_allclose(
                getattr(layer, kind), expected[kind], rtol=rtol, atol=2e-4, err_msg=f"{name}.{kind}"
            )
        # Pooled maps are kept in 16 bits.
        np.testing.assert_allclose(
            layer.layout_mean, expected["layout_mean"], rtol=1e-3, atol=np.abs(expected["layouts"]).max() * 2**-11
        )
        # A logarithm near log(0.01) magnifies float32 rounding of the standard deviation.
        np.testing.assert_allclose(layer.log_stds, expected["log_stds"], atol=2e-3)
        assert layer.total_variance == pytest.approx(expected["total_variance"], rel=2e-3)
        layouts = expected["layouts"] - expected["layouts"].mean(axis=0)
        variances = np.linalg.svd(layouts, compute_uv=False) ** 2 / 10
        leading = variances[:192] if name == "input" else variances[:3]
        kept = leading[leading > 1e-6 * variances.sum()]
        np.testing.assert_allclose(layer.explained_variance, kept, rtol=5e-3)
        np.testing.assert_allclose(layer.scores, layouts @ layer.components.T, atol=3e-3 * float(np.sqrt(variances[0])))
        assert layer.shape == activations[name].shape[1:]
        assert layer.n_images == 11
    logits = model.logits(pictures)
    np.testing.assert_allclose(statistics.logits, logits[:, 0], rtol=1e-4)
    edges = [reference.log_gradients(picture) for picture in pictures]
    np.testing.assert_allclose(statistics.log_gradient_mean, [edge.mean() for edge in edges], atol=1e-3)
    np.testing.assert_allclose(statistics.log_gradient_std, [edge.std() for edge in edges], atol=1e-3)
    amplitudes = np.abs(np.fft.rfft2(pictures.astype(np.float64), axes=(1, 2)))
    np.testing.assert_allclose(statistics.amplitude_mean, amplitudes.mean(axis=0), rtol=1e-4, atol=1e-4)


def test_what_was_seen_is_recorded(model, folder, statistics):
    assert statistics.image_names == tuple(
        sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    )
    assert (statistics.class_name, statistics.class_index) == ("church", 0)
    assert statistics.weights_hash == model.weights_hash
    assert statistics.settings["n_components"] == 3
    assert statistics.versions["numpy"] == np.__version__
    assert statistics.n_images == statistics.n_rows == 11
    assert statistics.input_size == SIZE


def test_pooling_is_an_average_by_share_of_area():
    rng = np.random.default_rng(0)
    for height, width in [(28, 28), (27, 31), (14, 14), (9, 30)]:
        maps = rng.random((2, height, width, 3)).astype(np.float32)
        shape = (min(height, 14), min(width, 14))
        np.testing.assert_allclose(np.asarray(pooled_map(maps, shape)), reference.pooled(maps, *shape), rtol=1e-5)


def test_layers_come_from_the_image_to_the_deepest(model, folder):
    shuffled = {**SETTINGS, "layers": ["logits", "dense", "input", "first_linear", "first", "network_input"]}
    actual = collect(model, folder, **shuffled)
    assert list(actual) == ["input", "network_input", "first_linear", "first", "dense", "logits"]
    assert actual["logits"].shape == (1, 1, 4)
    np.testing.assert_array_equal(actual["logits"].means[:, 0], rounded(actual.logits))
    assert list(collect(model, folder, n_components=2)) == ["input", *model.default_layers]


def test_rows_are_capped_the_same_way_everywhere(model, folder, statistics, monkeypatch, tmp_path):
    monkeypatch.setattr(finalisation, "MAX_ROWS", 6)
    actual = collect(model, folder, **SETTINGS)
    assert actual.n_images == 11
    assert actual.n_rows == 6
    kept = [statistics.image_names.index(name) for name in actual.image_names]
    assert kept == sorted(kept)
    for name in actual:
        np.testing.assert_array_equal(actual[name].means, statistics[name].means[kept])
        np.testing.assert_array_equal(actual[name].scores, statistics[name].scores[kept])
        np.testing.assert_array_equal(actual[name].components, statistics[name].components)
    np.testing.assert_array_equal(actual.logits, statistics.logits[kept])
    _assert_same(merge(_shards(model, folder, 2, tmp_path)), actual)


# ---- the class ---------------------------------------------------------------------------------------------------------


def test_the_class_is_the_folders_or_the_one_named(model, folder, tmp_path):
    for name, index in (("Golf_Ball", 2), ("summer", None)):
        (tmp_path / name).symlink_to(folder)
        assert collect(model, tmp_path / name, **SETTINGS).class_index == index
    paths = list(folder.rglob("*.png"))
    unnamed = collect(model, paths, **SETTINGS)
    assert (unnamed.class_name, unnamed.class_index, unnamed.logits) == (None, None, None)
    named = collect(model, paths, class_name="golf ball", **SETTINGS)
    assert named.class_index == 2
    with pytest.raises(ClassNotFoundError, match="church"):
        collect(model, paths, class_name="churhc", **SETTINGS)


def test_a_network_without_class_scores_gives_statistics_without_class(folder):
    import keras

    from stochdeconv.networks.image_model import load_model

    network = _network()
    headless = load_model(keras.Model(network.inputs, network.get_layer("relu").output), preprocessing="none")
    settings = {**SETTINGS, "layers": ["first"]}
    actual = collect(headless, folder, **settings)
    assert (actual.class_name, actual.class_index, actual.logits) == (None, None, None)
    with pytest.raises(ModelError, match="no class scores"):
        collect(headless, folder, class_name="church", **settings)


def test_an_ambiguous_folder_name_asks(model, folder, tmp_path):
    (tmp_path / "crane").mkdir()
    (tmp_path / "crane" / "1.png").symlink_to(next(folder.rglob("*.png")))
    with pytest.raises(ClassNotFoundError, match=r"ambiguous.*class_name="):
        collect(model, tmp_path / "crane", **SETTINGS)
    # What the message says of it is not what the folder is called.
    (tmp_path / "crane").rename(tmp_path / "ambiguous things")
    assert class_of(model, tmp_path / "ambiguous things", None) is None


# ---- the same bytes ------------------------------------------------------------------------------------------------


def test_order_and_place_of_the_images_do_not_matter(model, folder, statistics, tmp_path):
    _assert_same(collect(model, reversed(list(folder.rglob("*.png"))), class_name="church", **SETTINGS), statistics)
    (tmp_path / "church").symlink_to(folder)
    _assert_same(collect(model, tmp_path / "church", **SETTINGS), statistics)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 11, 32])
def test_batches_of_every_size_agree(model, folder, statistics, batch_size):
    actual = collect(model, folder, **{**SETTINGS, "batch_size": batch_size})
    for name in statistics:
        for kind in ("within_covariance", "explained_variance", "layout_mean"):
            a, b = getattr(actual[name], kind), getattr(statistics[name], kind)
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * float(np.abs(b).max()))


def _shards(model, folder, n_shards, where) -> list[Path]:
    files = []
    for number in range(1, n_shards + 1):
        shard = collect(model, folder, shard=(number, n_shards), **SETTINGS)
        save_statistics(shard, where / f"{number}-of-{n_shards}.h5")
        shard.close()
        files.append(where / f"{number}-of-{n_shards}.h5")
    return files


@pytest.mark.parametrize("n_shards", [1, 2, 3, 11])
def test_shards_in_any_order_give_the_bytes_of_one_pass(model, folder, statistics, tmp_path, n_shards):
    files = _shards(model, folder, n_shards, tmp_path)
    actual = merge(files[::-1])
    _assert_same(actual, statistics)
    save_statistics(statistics, tmp_path / "once.h5")
    save_statistics(actual, tmp_path / "joined.h5")
    assert (tmp_path / "once.h5").read_bytes() == (tmp_path / "joined.h5").read_bytes()


def test_a_commit_keeps_both_halves_of_a_sum(tmp_path):
    layout = {"columns": {"a": ("<f4", 2)}, "sums": {"total": (2,)}}
    first = spool.Spool(tmp_path / "spool", {"format": spool.FORMAT, "images": []}, **layout)
    first.open(resume=False, overwrite=False)
    for term in (1.0, 1e-20, 1e20):
        first.sums["total"].add(np.full(2, term))
    first.append({"a": np.ones((1, 2))}, [3])
    first.commit()
    first.append({"a": np.zeros((1, 2))}, [4])
    first.close()
    again = spool.Spool(tmp_path / "spool", {"format": spool.FORMAT, "images": []}, **layout)
    again.open(resume=True, overwrite=False)
    again.sums["total"].add(np.full(2, -1e20))
    assert again.sums["total"].value.tolist() == [1.0, 1.0]
    assert again.kept == [3]
    again.append({"a": np.full((1, 2), 7.0)}, [4])
    assert again.read("a", np.array([0, 1])).tolist() == [[1.0, 1.0], [7.0, 7.0]]
    again.close()


class _StoppedError(Exception):
    pass


@pytest.mark.parametrize("stop_after", [1, 4, 8, 10])
@pytest.mark.parametrize("every_batch", [True, False])
def test_an_interrupted_pass_goes_on_to_the_same_bytes(
    model, folder, statistics, tmp_path, monkeypatch, stop_after, every_batch
):
    monkeypatch.setattr(measurement, "COMMIT_SECONDS", 0.0 if every_batch else 1e9)
    n_appended = 0
    append = spool.Spool.append

    def failing(self, rows, kept):
        nonlocal n_appended
        append(self, rows, kept)
        n_appended += len(kept)
        if n_appended >= stop_after:
            raise _StoppedError  # the rows are on disk, the commit is not

    with monkeypatch.context() as patched:
        patched.setattr(spool.Spool, "append", failing)
        with pytest.raises(_StoppedError):
            collect(model, folder, spool=tmp_path / "spool", **SETTINGS)
    _assert_same(collect(model, folder, spool=tmp_path / "spool", resume=True, **SETTINGS), statistics)
    # What is complete is read again, not measured again.
    monkeypatch.setattr(measurement, "_through_network", None)
    _assert_same(collect(model, folder, spool=tmp_path / "spool", resume=True, **SETTINGS), statistics)


def test_ctrl_c_keeps_every_batch_that_was_measured(model, folder, statistics, tmp_path, monkeypatch):
    batches, real = [], measurement._through_network

    def stopped_in_the_third(*arguments):
        batches.append(len(arguments[1]))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(measurement, "_through_network", stopped_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        collect(model, folder, spool=tmp_path / "spool", **SETTINGS)
    _assert_same(collect(model, folder, spool=tmp_path / "spool", resume=True, **SETTINGS), statistics)
    n_images = len(list(folder.rglob("*.png")))
    assert sum(batches) == n_images + batches[2], "only the batch that was under way is measured again"


def test_a_killed_process_goes_on_to_the_same_bytes(model, folder, tmp_path):
    network = _network()
    network.save(tmp_path / "net.keras")
    sidecar = {"preprocessing": "caffe", "mean": [104.0, 117.0, 123.0], "class_names": CLASSES}
    (tmp_path / "net.json").write_text(json.dumps(sidecar))
    script = f"""
        import stochdeconv.statistics.measurement as measurement
        from stochdeconv.statistics.collection import collect
        from stochdeconv.networks.image_model import load_model

        measurement.COMMIT_SECONDS = 0.0
        model = load_model({str(tmp_path / "net.keras")!r})
        collect(model, {str(folder)!r}, spool={str(tmp_path / "spool")!r}, **{SETTINGS!r},
                progress=lambda n_images, n_all, message: print(n_images, flush=True))
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(spool.__file__).parents[2]), "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        for line in process.stdout:
            if int(line) >= 8:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    from stochdeconv.networks.image_model import load_model

    same = load_model(tmp_path / "net.keras")
    assert same.weights_hash == model.weights_hash
    actual = collect(same, folder, spool=tmp_path / "spool", resume=True, **SETTINGS)
    _assert_same(actual, collect(same, folder, **SETTINGS))


# ---- what can go wrong -----------------------------------------------------------------------------------------------


@pytest.fixture
def begun(model, folder, tmp_path) -> Path:
    """A spool of the photographs, complete but not yet removed."""
    collect(model, folder, spool=tmp_path / "spool", **SETTINGS)
    return tmp_path / "spool"


def test_an_existing_spool_wants_a_decision(model, folder, begun, statistics):
    with pytest.raises(ExistingOutputError, match=r"resume=True.*overwrite=True"):
        collect(model, folder, spool=begun, **SETTINGS)
    _assert_same(collect(model, folder, spool=begun, overwrite=True, **SETTINGS), statistics)
    remove_spool(begun)
    assert not begun.exists()
    remove_spool(begun)


def test_resuming_something_else_says_what_differs(model, folder, begun):
    def resumed(network=model, images=folder, **changed):
        collect(network, images, spool=begun, resume=True, **{**SETTINGS, **changed})

    with pytest.raises(InputError, match=r"n_components 3 then, 5 now"):
        resumed(n_components=5)
    with pytest.raises(InputError, match="the layers"):
        resumed(layers=["first"])
    with pytest.raises(InputError, match="the class"):
        resumed(class_name="golf ball")
    with pytest.raises(InputError, match="the network's weights"):
        resumed(_load(_network(seed=1)))
    with pytest.raises(InputError, match="the shard"):
        resumed(shard=(1, 2))
    with pytest.raises(InputError, match=r"the images.*is gone"):
        resumed(images=sorted(folder.rglob("*.png"))[:-1], class_name="church")


def test_changed_and_new_images_are_noticed(model, folder, tmp_path):
    copy = tmp_path / "church"
    copy.mkdir()
    for path in folder.rglob("*.png"):
        (copy / path.name).write_bytes(path.read_bytes())
    collect(model, copy, spool=tmp_path / "spool", **SETTINGS)
    (copy / "00.png").write_bytes((copy / "01.png").read_bytes() + b" ")
    with pytest.raises(InputError, match=r"'00\.png' has changed"):
        collect(model, copy, spool=tmp_path / "spool", resume=True, **SETTINGS)
    (copy / "00.png").write_bytes((folder / "b" / "00.png").read_bytes())
    (copy / "0.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"'0\.png' is new"):
        collect(model, copy, spool=tmp_path / "spool", resume=True, **SETTINGS)


def test_a_damaged_manifest_can_be_overwritten(model, folder, begun, statistics):
    (begun / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="overwrite=True starts the collection anew"):
        collect(model, folder, spool=begun, **SETTINGS)
    _assert_same(collect(model, folder, spool=begun, overwrite=True, **SETTINGS), statistics)


@pytest.mark.parametrize("n_removed", [1, 3, 4])
def test_overwriting_that_stops_halfway_leaves_no_rows_of_before(
    model, folder, begun, statistics, monkeypatch, n_removed
):
    unlink, n_calls = Path.unlink, 0

    def stop(path, **options):
        nonlocal n_calls
        n_calls += path.parent == begun
        if n_calls > n_removed:
            raise _StoppedError
        unlink(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", stop)
        with pytest.raises(_StoppedError):
            collect(model, folder, spool=begun, overwrite=True, **SETTINGS)
    heard = []
    actual = collect(model, folder, spool=begun, resume=True, progress=lambda *report: heard.append(report), **SETTINGS)
    assert heard[0][0] == 4  # from the first batch on
    _assert_same(actual, statistics)


def test_a_state_without_manifest_is_nothing(model, folder, begun, statistics):
    (begun / "manifest.json").unlink()
    heard = []
    actual = collect(model, folder, spool=begun, progress=lambda *report: heard.append(report), **SETTINGS)
    assert heard[0][0] == 4
    _assert_same(actual, statistics)


def test_a_folder_of_somebody_elses_is_left_alone(model, folder, tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "thesis.tex").write_text("years of work")
    for option in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(ExistingOutputError, match=r"thesis\.tex"):
            collect(model, folder, spool=tmp_path / "spool", **option, **SETTINGS)
    with pytest.raises(ExistingOutputError, match=r"thesis\.tex"):
        remove_spool(tmp_path / "spool")
    assert (tmp_path / "spool" / "thesis.tex").read_text() == "years of work"
    assert [entry.name for entry in (tmp_path / "spool").iterdir()] == ["thesis.tex"]


def test_damaged_spools_are_refused(model, folder, begun):
    def resumed():
        return collect(model, folder, spool=begun, resume=True, **SETTINGS)

    column = next(begun.glob("layout_*.bin"))
    whole = column.read_bytes()
    column.write_bytes(whole[:-7])
    with pytest.raises(InputError, match=rf"{column.name}.*shorter"):
        resumed()
    column.write_bytes(whole)
    state = (begun / "state.npz").read_bytes()
    (begun / "state.npz").write_bytes(state[: len(state) // 2])
    with pytest.raises(InputError, match=r"state\.npz' is damaged"):
        resumed()
    (begun / "state.npz").write_bytes(state)
    (begun / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json' is damaged"):
        resumed()


def test_two_processes_do_not_share_a_spool(model, folder, begun):
    pytest.importorskip("fcntl")
    held = collect(model, folder, spool=begun.parent / "other", shard=(1, 1), **SETTINGS)
    with pytest.raises(ExistingOutputError, match="another process"):
        collect(model, folder, spool=begun.parent / "other", resume=True, **SETTINGS)
    with pytest.raises(ExistingOutputError, match="another process"):
        remove_spool(begun.parent / "other")
    held.close()
    collect(model, folder, spool=begun.parent / "other", resume=True, shard=(1, 1), **SETTINGS).close()


def test_a_working_folder_goes_with_an_error_only_where_it_was_begun_and_holds_no_row(model, folder, begun, tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match="none of the 1 images"):
        collect(model, [tmp_path / "a.png"], spool=tmp_path / "new", **SETTINGS)
    assert not (tmp_path / "new").exists()
    before = {path.name: path.read_bytes() for path in begun.iterdir()}
    with pytest.raises(ExistingOutputError):
        collect(model, folder, spool=begun, **SETTINGS)
    with pytest.raises(InputError, match="the settings"):
        collect(model, folder, spool=begun, resume=True, **{**SETTINGS, "n_components": 2})
    assert {path.name: path.read_bytes() for path in begun.iterdir()} == before


@pytest.mark.parametrize("to_folder", [True, False])
def test_a_full_disk_promises_only_what_there_is(model, folder, tmp_path, monkeypatch, to_folder):
    files = _shards(model, folder, 2, tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    for failing in (
        lambda: merge(files, spool=tmp_path / "joined" if to_folder else None),
        lambda: collect(model, folder, **SETTINGS),
    ):
        with pytest.raises(InputError, match=r"disk is full(?!.*resume=True)"):
            failing()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["1-of-2.h5", "2-of-2.h5"]


def test_a_full_disk_promises_nothing_before_there_is_a_row(model, folder, tmp_path, monkeypatch):
    class FullFile:
        def __init__(self, file):
            self._file = file

        def __getattr__(self, name):
            return getattr(self._file, name)

        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    opening = measurement.Spool.open

    def open_full(spool, **options):
        opening(spool, **options)
        spool._files = {name: FullFile(file) for name, file in spool._files.items()}

    monkeypatch.setattr(measurement.Spool, "open", open_full)
    with pytest.raises(InputError, match=r"disk is full(?!.*resume=True)"):
        collect(model, folder, spool=tmp_path / "spool", **SETTINGS)
    assert not (tmp_path / "spool").exists()


def test_a_full_disk_is_one_clear_line_and_loses_nothing(model, folder, statistics, tmp_path, monkeypatch):
    monkeypatch.setattr(measurement, "COMMIT_SECONDS", 0.0)
    replace, n_calls = os.replace, 0

    def full(source, target):
        nonlocal n_calls
        n_calls += 1
        if n_calls > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(InputError, match=r"disk is full.*resume=True"):
            collect(model, folder, spool=tmp_path / "spool", **SETTINGS)
    assert not list((tmp_path / "spool").glob("*.tmp"))
    _assert_same(collect(model, folder, spool=tmp_path / "spool", resume=True, **SETTINGS), statistics)


@pytest.fixture
def with_bad_files(folder, tmp_path) -> Path:
    copy = tmp_path / "mixed" / "church"
    copy.mkdir(parents=True)
    for path in folder.rglob("*.png"):
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "00a.png").write_bytes(b"no picture")
    (copy / "07a.jpg").write_bytes((copy / "01.png").read_bytes()[:200])
    (copy / "zz.png").symlink_to(copy / "nowhere")
    return copy


def test_unreadable_images_are_skipped_and_named(model, folder, with_bad_files, tmp_path):
    actual = collect(model, with_bad_files, **SETTINGS)
    assert [name for name, _ in actual.skipped] == ["00a.png", "07a.jpg", "zz.png"]
    assert "no known image format" in actual.skipped[0][1]
    assert actual.n_images == 11
    assert "00a.png" not in actual.image_names
    for path in with_bad_files.iterdir():
        if path.name in ("00a.png", "07a.jpg", "zz.png"):
            path.unlink()
    clean = collect(model, with_bad_files, **SETTINGS)
    for name in clean:
        np.testing.assert_array_equal(actual[name].within_covariance, clean[name].within_covariance)
        np.testing.assert_array_equal(actual[name].scores, clean[name].scores)


def test_a_shard_of_unreadable_images_alone_leaves_it_to_the_others(model, tmp_path):
    pictures = tmp_path / "church"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "c"):
        Image.fromarray(rng.integers(256, size=(*SIZE, 3), dtype=np.uint8)).save(pictures / f"{name}.png")
    (pictures / "b.png").write_bytes(b"junk")
    settings = SETTINGS | {"n_components": 1}
    alone = collect(model, pictures, **settings)
    files = []
    for number in (1, 2, 3):
        shard = collect(model, pictures, shard=(number, 3), **settings)
        save_statistics(shard, tmp_path / f"{number}.h5")
        files.append(tmp_path / f"{number}.h5")
        shard.close()
    _assert_same(merge(files), alone)
    assert [name for name, _ in alone.skipped] == ["b.png"]
    for name in ("a", "c"):
        (pictures / f"{name}.png").write_bytes(b"junk")
    (tmp_path / "none").mkdir()
    files = _shards(model, pictures, 3, tmp_path / "none")
    with pytest.raises(InputError, match=r"none of the 3 images can be read; the first: .*a\.png"):
        merge(files)


def test_classes_and_shards_run_one_program(model, folder, monkeypatch):
    compiled = []
    actual = measurement._network_statistics
    monkeypatch.setattr(measurement, "_network_statistics", lambda *a, **k: compiled.append(1) or actual(*a, **k))
    fresh = _load(_network())
    first, other = (collect(fresh, folder, **SETTINGS, class_name=name) for name in ("church", "golf ball"))
    collect(fresh, folder, **SETTINGS, shard=(1, 2)).close()
    assert len(compiled) == 1
    assert not np.array_equal(first.logits, other.logits)


def test_shards_skip_as_one_pass_does(model, with_bad_files, tmp_path):
    _assert_same(merge(_shards(model, with_bad_files, 3, tmp_path)), collect(model, with_bad_files, **SETTINGS))


def test_no_readable_image_is_an_error(model, tmp_path):
    with pytest.raises(MissingInputError, match="nowhere"):
        collect(model, tmp_path / "nowhere", **SETTINGS)
    with pytest.raises(InputError, match="holds no image"):
        collect(model, tmp_path, **SETTINGS)
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"none of the 1 images can be read.*a\.png"):
        collect(model, tmp_path, **SETTINGS)


def test_fewer_images_than_components_warns(model, folder):
    with pytest.warns(UserWarning, match=r"11 images cannot give 64 layout components: 10 kept"):
        actual = collect(model, folder, **{**SETTINGS, "n_components": 64})
    assert actual["second"].n_components == 10
    assert actual["dense"].n_components <= 4
    single = sorted(folder.rglob("*.png"))[:1]
    with pytest.warns(UserWarning, match="1 image cannot"):
        actual = collect(model, single, **SETTINGS)
    assert actual["second"].components.shape[0] == 0
    assert np.isfinite(actual.amplitude_mean).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        collect(model, folder, **{**SETTINGS, "n_components": 10})


def test_rough_components_are_said_to_who_called(model, folder, monkeypatch):
    actual = layout.principal_components
    monkeypatch.setattr(
        layout, "principal_components", lambda *passed: dataclasses.replace(actual(*passed), converged=False)
    )
    with pytest.warns(UserWarning, match="still moved after") as caught:
        collect(model, folder, **SETTINGS)
    ours = [warning for warning in caught if warning.category is UserWarning]
    assert {warning.filename for warning in ours} == {__file__}
    assert any("'second'" in str(warning.message) for warning in caught)


def test_unknown_layers_and_senseless_settings(model, folder):
    with pytest.raises(LayerNotFoundError, match="second"):
        collect(model, folder, layers=["secnod"])
    for name in ("n_components", "layout_size", "batch_size"):
        with pytest.raises(InputError, match=name):
            collect(model, folder, **{**SETTINGS, name: 0})
    with pytest.raises(InputError, match=r"1 <= I <= N"):
        collect(model, folder, shard=(3, 2))
    with pytest.raises(InputError, match="at most 11 shards"):
        collect(model, folder, shard=(12, 12))


def test_a_network_that_breaks_is_named(folder):
    network = _network()
    kernel, bias = network.get_layer("second").get_weights()
    network.get_layer("second").set_weights([kernel, bias + np.nan])
    with pytest.raises(ModelError, match=r"'second' is NaN.*'a/01\.png'"):
        collect(_load(network), folder, **SETTINGS)


def test_merging_what_does_not_belong_together(model, folder, statistics, tmp_path):
    first, second, third = _shards(model, folder, 3, tmp_path)
    with pytest.raises(InputError, match="nothing to merge"):
        merge([])
    with pytest.raises(InputError, match="give a list"):
        merge(str(first))
    with pytest.raises(InputError, match="shards 2/3 are missing"):
        merge([third, first])
    with pytest.raises(InputError, match=r"shard 1/3 is there twice"):
        merge([first, second, third, first])
    (tmp_path / "more").mkdir()
    other = _shards(model, folder, 2, tmp_path / "more")
    with pytest.raises(InputError, match="not shards of one collection"):
        merge([first, second, other[0]])
    (tmp_path / "others").mkdir()
    for number in range(11):
        (tmp_path / "others" / f"{number}.png").symlink_to(sorted(folder.rglob("*.png"))[number])
    stranger = collect(model, tmp_path / "others", shard=(3, 3), class_name="church", **SETTINGS)
    save_statistics(stranger, tmp_path / "stranger.h5")
    stranger.close()
    with pytest.raises(InputError, match="differ in the images of the whole collection"):
        merge([first, second, tmp_path / "stranger.h5"])
    save_statistics(statistics, tmp_path / "done.h5")
    with pytest.raises(FileFormatError, match=r"finished statistics.*shard="):
        merge([first, tmp_path / "done.h5"])
    with pytest.raises(FileFormatError, match=r"shard 1/3.*merge"):
        load_statistics(first)
    for missing in ([tmp_path / "none.h5"], [first, tmp_path / "none.h5"]):
        with pytest.raises(MissingInputError, match=r"none\.h5"):
            merge(missing)


def test_merging_blames_no_shard_for_what_happens_beside_it(model, folder, tmp_path):
    pytest.importorskip("fcntl")
    files = _shards(model, folder, 2, tmp_path)
    held = collect(model, folder, spool=tmp_path / "busy", shard=(1, 1), **SETTINGS)
    with pytest.raises(ExistingOutputError, match="another process"):
        merge(files, spool=tmp_path / "busy")
    held.close()
    assert (tmp_path / "busy" / "manifest.json").exists()

    def stop(*_):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        merge(files, progress=stop)


def test_progress_tells_how_far_it_is(model, folder):
    heard = []
    collect(model, folder, progress=lambda *report: heard.append(report), **SETTINGS)
    assert [report[0] for report in heard[:3]] == [4, 8, 11]
    assert {report[1] for report in heard} == {11}
    assert "components of dense" in [report[2] for report in heard]
