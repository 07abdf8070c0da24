import dataclasses
import errno
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest

from stochdeconv.errors import ExistingOutputError, FileFormatError, InputError, MissingInputError
from stochdeconv.statistics import file
from stochdeconv.statistics.class_statistics import ClassStatistics
from stochdeconv.statistics.compaction import compact
from stochdeconv.statistics.file import load_statistics, save_statistics

VERSION_1, VERSION_2 = (Path(__file__).parent / "data" / f"statistics_v{version}.h5" for version in (1, 2))


@pytest.fixture(scope="module")
def statistics() -> ClassStatistics:
    return load_statistics(VERSION_2)


def _equal(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if dataclasses.is_dataclass(a):
        return all(_equal(getattr(a, spec.name), getattr(b, spec.name)) for spec in dataclasses.fields(a))
    if isinstance(a, dict):
        return list(a) == list(b) and all(_equal(a[key], b[key]) for key in a)
    return a == b


@pytest.mark.parametrize("path", [VERSION_1, VERSION_2])
def test_files_of_all_versions_read_as_they_did(path):
    statistics = load_statistics(path)
    assert statistics.hash() == "5edab9510eadb5f32cca827fd3b9d5a3045fbd547da4e365bacafe38554fb93d"
    assert list(statistics) == ["input", "first", "second"]
    assert (statistics.model_name, statistics.class_name, statistics.class_index) == ("tiny", "church", 0)
    assert statistics.preprocessing["mean"] == [104.0, 117.0, 123.0]
    assert statistics.input_size == (16, 16)
    assert statistics.n_images == 8
    assert statistics.image_names == tuple(f"{number}.png" for number in range(8))
    assert statistics.skipped == (("broken.png", "cannot read 'broken.png' as an image: no known image format"),)
    assert statistics.settings["n_components"] == 2
    second = statistics["second"]
    assert second.shape == (6, 6, 4)
    assert second.layout_shape == (4, 4, 4)
    assert second.components.shape == (2, 64)
    assert second.firing_fraction.tolist() == pytest.approx([0.0069, 0.1667, 0.6667, 0.2292], abs=1e-4)
    assert second.components.dtype == np.float32
    np.testing.assert_allclose(second.scores.var(axis=0, ddof=1), second.explained_variance, rtol=1e-5)
    assert statistics.facets.layer == "second"
    assert statistics["first"].facet_means.shape == (8, statistics.facets.n_regions, 3)


def test_what_is_saved_comes_back(statistics, tmp_path):
    save_statistics(statistics, tmp_path / "deep" / "a.h5")
    assert _equal(load_statistics(tmp_path / "deep" / "a.h5"), statistics)
    save_statistics(load_statistics(tmp_path / "deep" / "a.h5"), tmp_path / "b.h5")
    assert (tmp_path / "deep" / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_what_may_be_missing_comes_back_missing(statistics, tmp_path):
    empty = {name: np.zeros((0, layer.components.shape[1]), np.float32) for name, layer in statistics.items()}
    bare = dataclasses.replace(
        statistics,
        layers={
            f"a/{name}": dataclasses.replace(layer, name=f"a/{name}").with_fields(
                components=empty[name],
                explained_variance=np.zeros(0),
                scores=np.zeros((8, 0), np.float32),
                facet_means=None,
            )
            for name, layer in statistics.items()
        },
        class_name=None,
        class_index=None,
        logits=None,
        skipped=(),
        image_names=tuple(f"ä {number}.png" for number in range(8)),
    ).with_fields(facets=None)
    save_statistics(bare, tmp_path / "a.h5")
    assert _equal(load_statistics(tmp_path / "a.h5"), bare)


def test_the_specification_is_enough_to_read_it(statistics):
    """As docs/reference/statistics_file.md tells another program, with nothing of this package."""
    with h5py.File(VERSION_2) as file:
        assert file.attrs["format"] == "stochdeconv-statistics"
        assert file.attrs["format_version"] == 2
        assert json.loads(file.attrs["class"])["label"] == "church"
        assert json.loads(file.attrs["preprocessing"])["preprocessing"] == "caffe"
        names = {number: group.attrs["name"] for number, group in file["layers"].items()}
        assert names == {"000": "input", "001": "first", "002": "second"}
        group = file["layers/002"]
        assert group["components"].dtype == np.float16
        axes = group["components"][()].astype(np.float32)
        layout = group["layout_mean"][()].ravel() + group["scores"][0] @ axes
        assert layout.shape == (np.prod(group.attrs["layout_shape"]),)
        assert group.attrs["total_variance"] > group["explained_variance"][()].sum()
        assert file["image_names"].asstr()[0] == "0.png"


def test_an_existing_file_is_kept_unless_told_otherwise(statistics, tmp_path):
    (tmp_path / "a.h5").write_bytes(b"precious")
    with pytest.raises(ExistingOutputError, match="overwrite=True"):
        save_statistics(statistics, tmp_path / "a.h5")
    assert (tmp_path / "a.h5").read_bytes() == b"precious"
    save_statistics(statistics, tmp_path / "a.h5", overwrite=True)
    assert _equal(load_statistics(tmp_path / "a.h5"), statistics)


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_crash_while_writing_leaves_the_old_file(statistics, tmp_path, monkeypatch, where):
    (tmp_path / "a.h5").write_bytes(b"precious")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, where, full)
    with pytest.raises(InputError, match=r"disk is full.*a\.h5"):
        save_statistics(statistics, tmp_path / "a.h5", overwrite=True)
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("a.h5", b"precious")]


# What is written, and how it is told to be whole.
_WRITTEN = {
    "statistics": (f"load_statistics({str(VERSION_2)!r})", "load_statistics(path).hash() == written.hash()", 30_000),
    "shard": (
        "spool_of(np.random.default_rng(0).integers(0, 99, (300, 200)))",
        "np.array_equal(read_rows(path), written.read('a', np.arange(300)))",
        60_000,
    ),
}


@pytest.mark.parametrize("kind", _WRITTEN)
def test_a_disk_that_fills_anywhere_is_one_clear_line(tmp_path, kind):
    """In a process of its own: HDF5 may bring it down, and only after a while."""
    pytest.importorskip("resource")
    written, is_whole, n_bytes = _WRITTEN[kind]
    script = f"""
        import gc, resource, signal
        from pathlib import Path
        import h5py
        import numpy as np
        from stochdeconv.errors import InputError
        from stochdeconv.statistics.file import load_statistics, save_statistics
        from stochdeconv.statistics.shards import ShardFile
        from stochdeconv.statistics.spool import Spool

        def spool_of(rows):
            spool = Spool.temporary({{"images": []}}, columns={{"a": ("<i4", rows.shape[1])}}, sums={{"total": (3, 5)}})
            spool.open(resume=False, overwrite=False)
            spool.append({{"a": rows}}, range(len(rows)))
            return spool

        def read_rows(path):
            with ShardFile(path) as shard:
                return shard.read("a", 0, len(shard.kept))

        written = {written}
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        path = Path({str(tmp_path)!r}) / "a.h5"
        for size in [0, 1, *range(50, {n_bytes}, 611)]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
            try:
                save_statistics(written, path)
            except InputError as error:
                assert "disk is full" in str(error), error
            else:
                raise AssertionError(f"no error at {{size}} bytes")
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            gc.collect()
            assert not list(path.parent.iterdir()), size
            assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) == 0
        save_statistics(written, path)
        assert path.stat().st_size > {n_bytes}
        assert {is_whole}
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(file.__file__).parents[2])}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    called = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert called.returncode == 0, called.stderr


def test_a_truncated_file_is_an_error_at_every_length(tmp_path):
    content = VERSION_2.read_bytes()
    path = tmp_path / "cut.h5"
    for length in [0, 1, 100, *range(1000, len(content), 2500), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match=r"cut\.h5"):
            load_statistics(path)


@pytest.mark.parametrize(("path", "dataset"), [(VERSION_1, "means"), (VERSION_1, "channel_mean"), (VERSION_2, "means")])
def test_damaged_numbers_are_noticed(tmp_path, path, dataset):
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        offset = file[f"layers/001/{dataset}"].id.get_offset()
    content[offset] ^= 1
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(FileFormatError, match="not those that were saved"):
        load_statistics(tmp_path / "a.h5")


def test_the_hash_is_of_all_that_an_image_can_depend_on(statistics, copy):
    first = statistics["first"]
    regions = dataclasses.replace(statistics.facets, temperature=2 * statistics.facets.temperature)
    for changed in (
        {"fields": {**statistics.fields, "facets": regions}},
        {"layers": {**statistics.layers, "first": first.with_fields(total_variance=1.0)}},
        {"preprocessing": {**statistics.preprocessing, "mean": [1.0, 2.0, 3.0]}},
        {"class_index": 1},
        {"input_size": (8, 8)},
        {"weights_hash": "0" * 64},
        {"logits": statistics.logits + 1},
    ):
        assert dataclasses.replace(statistics, **changed).hash() != statistics.hash(), changed
    for changed in ({"model_source": "elsewhere"}, {"versions": {}}, {"settings": {}}, {"skipped": ()}):
        assert dataclasses.replace(statistics, **changed).hash() == statistics.hash(), changed
    with h5py.File(copy, "r+") as file:
        file["facets"].attrs["temperature"] *= 2
    with pytest.raises(FileFormatError, match="not those that were saved"):
        load_statistics(copy)


@pytest.fixture
def copy(tmp_path) -> Path:
    (tmp_path / "copy.h5").write_bytes(VERSION_2.read_bytes())
    return tmp_path / "copy.h5"


def test_a_file_too_large_for_memory_is_one_clear_line(copy):
    with h5py.File(copy, "a") as held:
        exemplars = held.create_group("exemplars")
        exemplars.create_dataset("pixels", (2**44, 16, 16, 3), "u1", chunks=(1, 16, 16, 3))  # nothing of it is stored
        exemplars.create_dataset("rows", data=np.arange(8))
    with pytest.raises(
        FileFormatError,
        match=r"does not fit into memory: Unable to allocate .*collect with fewer \(--exemplars\)",
    ):
        load_statistics(copy)


def test_other_files_are_told_apart(copy, tmp_path):
    with pytest.raises(MissingInputError, match=r"none\.h5"):
        load_statistics(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no statistics")
    for path, message in ((tmp_path / "text.h5", "no readable statistics file"), (tmp_path, "is a folder; expected")):
        with pytest.raises(FileFormatError, match=message):
            load_statistics(path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(FileFormatError, match="no statistics file of stochdeconv"):
        load_statistics(tmp_path / "other.h5")
    with h5py.File(copy, "r+") as file:
        file.attrs["format_version"] = 3
    with pytest.raises(FileFormatError, match=r"version 3; this program reads version 1 and 2"):
        load_statistics(copy)


def test_every_part_is_needed(tmp_path):
    parts = []
    with h5py.File(VERSION_2) as file:
        file.visititems(
            lambda name, item: parts.append(name) if not name.startswith(("layers/000", "layers/001")) else None
        )
        attributes = [name for name in file.attrs if name not in ("format", "format_version")]
        layer_attributes = list(file["layers/002"].attrs)
    optional = {"logits", "facets", "layers/002"}
    for name in [part for part in parts if part not in optional]:
        path = tmp_path / "part.h5"
        path.write_bytes(VERSION_2.read_bytes())
        with h5py.File(path, "r+") as file:
            del file[name]
        with pytest.raises(FileFormatError, match=r"part\.h5"):
            load_statistics(path)
    for place, names in (("/", attributes), ("layers/002", layer_attributes)):
        for name in names:
            path.write_bytes(VERSION_2.read_bytes())
            with h5py.File(path, "r+") as file:
                del file[place].attrs[name]
            with pytest.raises(FileFormatError, match=r"part\.h5"):
                load_statistics(path)


def test_optional_parts_cannot_vanish_unseen(copy):
    for name in ("logits", "facets", "layers/002"):
        copy.write_bytes(VERSION_2.read_bytes())
        with h5py.File(copy, "r+") as file:
            del file[name]
        with pytest.raises(FileFormatError, match=r"copy\.h5"):
            load_statistics(copy)


def test_statistics_that_ship_are_found_by_network_and_class(statistics, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = load_statistics("mini-vgg16/golf_ball.h5")
    assert (shipped.model_source, shipped.wnid) == ("mini-vgg16", "n03445777")
    with pytest.raises(MissingInputError, match=r"mini-vgg16/golf_bal\.h5'; closest: .golf_ball\.h5"):
        load_statistics("mini-vgg16/golf_bal.h5")
    # A file of one's own comes first.
    save_statistics(statistics, tmp_path / "mini-vgg16" / "golf_ball.h5")
    assert load_statistics("mini-vgg16/golf_ball.h5").hash() == statistics.hash()
    # And those that ship are not put in the place of one that is missing there.
    with pytest.raises(MissingInputError, match="hides the statistics that ship"):
        load_statistics("mini-vgg16/church.h5")


def test_compacted_statistics_keep_the_same_rows_of_everything(statistics):
    n_rows = statistics.n_rows - 2
    smaller = compact(statistics, n_rows)
    kept = [statistics.image_names.index(name) for name in smaller.image_names]
    assert len(kept) == len(set(kept)) == n_rows
    assert compact(statistics, n_rows).hash() == smaller.hash()
    for name, layer in statistics.items():
        for key in ("means", "log_stds", "scores", "facet_means", "within_covariance"):
            whole = getattr(layer, key)
            if whole is not None:
                expected = whole if key == "within_covariance" else whole[kept]
                np.testing.assert_allclose(getattr(smaller[name], key), expected, rtol=2.0**-11)
    np.testing.assert_array_equal(smaller.logits, statistics.logits[kept])
    np.testing.assert_array_equal(smaller.log_gradient_std, statistics.log_gradient_std[kept])
