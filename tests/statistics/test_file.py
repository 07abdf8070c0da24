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
from stochdeconv.statistics.file import load_statistics, save_statistics

VERSION_1 = Path(__file__).parent / "data" / "statistics_v1.h5"


@pytest.fixture(scope="module")
def statistics() -> ClassStatistics:
    return load_statistics(VERSION_1)


def _equal(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if dataclasses.is_dataclass(a):
        return all(_equal(getattr(a, spec.name), getattr(b, spec.name)) for spec in dataclasses.fields(a))
    if isinstance(a, dict):
        return list(a) == list(b) and all(_equal(a[key], b[key]) for key in a)
    return a == b


def test_a_file_of_version_1_still_reads_as_it_did(statistics):
    assert statistics.hash() == "8fafc0eb0e96d04d0a9914fce50f123505a53dd7844011705f33cd6512829811"
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
    assert second.histogram.sum() == 8 * 36 * 4
    assert second.histogram.dtype == np.int64
    assert second.components.dtype == np.float32
    np.testing.assert_allclose(second.means.mean(axis=0), second.channel_mean, rtol=1e-5)
    np.testing.assert_allclose(second.scores.var(axis=0, ddof=1), second.explained_variance, rtol=1e-5)
    assert statistics.facets.layer == "second"
    assert statistics["first"].facet_means.shape == (8, statistics.facets.n_facets, 3)


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
            f"a/{name}": dataclasses.replace(
                layer,
                name=f"a/{name}",
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
        facets=None,
        skipped=(),
        image_names=tuple(f"ä {number}.png" for number in range(8)),
    )
    save_statistics(bare, tmp_path / "a.h5")
    assert _equal(load_statistics(tmp_path / "a.h5"), bare)


def test_the_specification_is_enough_to_read_it(statistics):
    """As docs/reference/statistics_file.md tells another program, with nothing of this package."""
    with h5py.File(VERSION_1) as file:
        assert file.attrs["format"] == "stochdeconv-statistics"
        assert file.attrs["format_version"] == 1
        assert json.loads(file.attrs["class"])["label"] == "church"
        assert json.loads(file.attrs["preprocessing"])["preprocessing"] == "caffe"
        names = {number: group.attrs["name"] for number, group in file["layers"].items()}
        assert names == {"000": "input", "001": "first", "002": "second"}
        group = file["layers/002"]
        assert group["components"].dtype == np.float16
        axes = group["components"][()].astype(np.float32)
        layout = group["layout_mean"][()].ravel() + group["scores"][0] @ axes
        assert layout.shape == (np.prod(group.attrs["layout_shape"]),)
        left = group.attrs["total_variance"] - group["explained_variance"][()].sum()
        assert group.attrs["residual_variance"] == pytest.approx(left / (layout.size - len(axes)))
        assert file["image_names"].asstr()[0] == "0.png"


def test_an_existing_file_is_kept_unless_told_otherwise(statistics, tmp_path):
    (tmp_path / "a.h5").write_bytes(b"precious")
    with pytest.raises(ExistingOutputError, match="--overwrite"):
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


def test_a_disk_that_fills_anywhere_is_one_clear_line(statistics, tmp_path):
    """In a process of its own: HDF5 may bring it down, and only after a while."""
    pytest.importorskip("resource")
    script = f"""
        import gc, resource, signal
        from pathlib import Path
        import h5py
        from stochdeconv.errors import InputError
        from stochdeconv.statistics.file import load_statistics, save_statistics

        statistics = load_statistics({str(VERSION_1)!r})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        folder = Path({str(tmp_path)!r})
        for size in [0, 1, *range(50, 40_000, 611)]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
            try:
                save_statistics(statistics, folder / "a.h5")
            except InputError as error:
                assert "disk is full" in str(error), error
            else:
                raise AssertionError(f"no error at {{size}} bytes")
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            gc.collect()
            assert not list(folder.iterdir()), size
            assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) == 0
        save_statistics(statistics, folder / "a.h5")
        assert load_statistics(folder / "a.h5").hash() == statistics.hash()
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(file.__file__).parents[2])}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_truncated_file_is_an_error_at_every_length(tmp_path):
    content = VERSION_1.read_bytes()
    path = tmp_path / "cut.h5"
    for length in [0, 1, 100, *range(1000, len(content), 2500), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match=r"cut\.h5"):
            load_statistics(path)


def test_damaged_numbers_are_noticed(tmp_path):
    content = bytearray(VERSION_1.read_bytes())
    with h5py.File(VERSION_1) as file:
        offset = file["layers/001/means"].id.get_offset()
    content[offset] ^= 1
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(FileFormatError, match="not those that were saved"):
        load_statistics(tmp_path / "a.h5")


def test_the_hash_is_of_all_that_an_image_can_depend_on(statistics, copy):
    first = statistics["first"]
    for changed in (
        {"facets": dataclasses.replace(statistics.facets, temperature=2 * statistics.facets.temperature)},
        {"layers": {**statistics.layers, "first": dataclasses.replace(first, total_variance=1.0)}},
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
    (tmp_path / "copy.h5").write_bytes(VERSION_1.read_bytes())
    return tmp_path / "copy.h5"


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
        file.attrs["format_version"] = 2
    with pytest.raises(FileFormatError, match=r"version 2; this program reads version 1"):
        load_statistics(copy)


def test_every_part_is_needed(tmp_path):
    parts = []
    with h5py.File(VERSION_1) as file:
        file.visititems(
            lambda name, item: parts.append(name) if not name.startswith(("layers/000", "layers/001")) else None
        )
        attributes = [name for name in file.attrs if name not in ("format", "format_version")]
        layer_attributes = [name for name in file["layers/002"].attrs if name != "residual_variance"]
    optional = {"logits", "facets", "layers/002"}
    for name in [part for part in parts if part not in optional]:
        path = tmp_path / "part.h5"
        path.write_bytes(VERSION_1.read_bytes())
        with h5py.File(path, "r+") as file:
            del file[name]
        with pytest.raises(FileFormatError, match=r"part\.h5"):
            load_statistics(path)
    for place, names in (("/", attributes), ("layers/002", layer_attributes)):
        for name in names:
            path.write_bytes(VERSION_1.read_bytes())
            with h5py.File(path, "r+") as file:
                del file[place].attrs[name]
            with pytest.raises(FileFormatError, match=r"part\.h5"):
                load_statistics(path)


def test_optional_parts_cannot_vanish_unseen(copy):
    for name in ("logits", "facets", "layers/002"):
        copy.write_bytes(VERSION_1.read_bytes())
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
    compact = statistics.compacted(n_rows)
    kept = [statistics.image_names.index(name) for name in compact.image_names]
    assert len(kept) == len(set(kept)) == n_rows
    assert statistics.compacted(n_rows).hash() == compact.hash()
    for name, layer in statistics.items():
        for key in ("means", "log_stds", "scores", "facet_means", "within_covariance"):
            whole = getattr(layer, key)
            if whole is not None:
                wanted = whole if key == "within_covariance" else whole[kept]
                np.testing.assert_allclose(getattr(compact[name], key), wanted, rtol=2.0**-11)
    np.testing.assert_array_equal(compact.logits, statistics.logits[kept])
    np.testing.assert_array_equal(compact.log_gradient_std, statistics.log_gradient_std[kept])
