"""Commands about statistics, as a user meets them: layers, collect, inspect, merge."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import pytest
from commands import N_PHOTOS, SHORT, SMALL, call, files_in, refuse, succeed
from toys import CLASS_NAMES

from stochdeconv.cli import terminal
from stochdeconv.statistics.compaction import compact
from stochdeconv.statistics.file import load_statistics, save_statistics


def test_layers_lists_names_shapes_and_defaults(made):
    lines = [line.split() for line in succeed("layers", made / "tiny.keras").stdout.splitlines()]
    assert lines[:2] == [["0", "input", "32×32×3"], ["1", "conv1", "32×32×6", "*"]]
    assert ["2", "pool1", "16×16×6"] in lines
    assert [line[0] for line in lines] == [str(number) for number in range(len(lines))]
    assert lines[-1][1:] == ["predictions", "4"]


def test_collect_takes_layers_by_number(made, here):
    words = ("collect", made / "photos/church", "-m", made / "tiny.keras", *SMALL)
    succeed(*words, "-o", "numbers.h5", "--layers", "4,1")
    succeed(*words, "-o", "names.h5", "--layers", "pool2,conv1")
    numbers, names = load_statistics("numbers.h5"), load_statistics("names.h5")
    assert list(numbers) == ["input", "conv1", "pool2"] and numbers.settings["layers"] == ["pool2", "conv1"]
    assert numbers.hash() == names.hash()
    assert "got 7" in refuse(*words, "-o", "none.h5", "--layers", "1,7")


def test_collect_without_output_goes_to_the_cache_under_the_class(made, here):
    called = succeed("collect", made / "photos/church", "-m", made / "tiny.keras", *SMALL)
    assert called.stdout == "stats_cache/tiny/church.h5\n"
    assert called.stderr == ""
    assert files_in(here) == ["stats_cache/tiny/church.h5"]


def test_collect_a_tree_gives_one_file_a_class(made, here):
    called = succeed("collect", made / "photos", "-m", made / "tiny.keras", "-o", "out", *SMALL)
    assert sorted(called.stdout.split()) == ["out/barn.h5", "out/church.h5"]
    facts = json.loads(succeed("inspect", "out/barn.h5", "--json").stdout)
    assert facts["class"] == {"index": 1, "wnid": None, "label": "barn"}


def test_collect_a_text_file_of_paths(made, here):
    Path("list.txt").write_text("\n".join(str(path) for path in sorted((made / "held").iterdir())))
    succeed("collect", "list.txt", "-m", made / "tiny.keras", "--class", "1", "-o", "b.h5", *SMALL)
    facts = json.loads(succeed("inspect", "b.h5", "--json").stdout)
    assert facts["class"]["label"] == "barn"
    assert facts["n_images"] == N_PHOTOS


def test_a_folder_the_network_does_not_know_gives_statistics_without_class(made, here):
    succeed("collect", made / "held", "-m", made / "tiny.keras", *SMALL)
    assert files_in(here) == ["stats_cache/tiny/held.h5"]
    assert "class     none" in succeed("inspect", "stats_cache/tiny/held.h5").stdout


def test_inspect_shows_the_layers_and_what_they_explain(made):
    displayed = succeed("inspect", made / "church.h5").stdout
    assert "church" in displayed
    assert f"{N_PHOTOS}, {N_PHOTOS} with a row" in displayed
    facts = json.loads(succeed("inspect", made / "church.h5", "--json").stdout)
    assert [layer["name"] for layer in facts["layers"]] == ["input", "conv1", "conv2"]
    for layer in facts["layers"]:
        # The image keeps up to 192 components, whatever is asked for the layers.
        assert layer["n_components"] == (N_PHOTOS - 1 if layer["name"] == "input" else 4)
        assert 0.2 < layer["explained"] <= 1
        assert f"{layer['explained']:.1%}" in displayed


def test_a_file_that_holds_photographs_says_so(made, here):
    words = ("collect", made / "photos/church", "-m", made / "tiny.keras", *SMALL)
    succeed(*words, "-o", "with.h5", "--exemplars", "3")
    assert "exemplars 3 photographs are kept in this file" in succeed("inspect", "with.h5").stdout
    assert json.loads(succeed("inspect", "with.h5", "--json").stdout)["n_exemplars"] == 3
    assert json.loads(succeed("inspect", made / "church.h5", "--json").stdout)["n_exemplars"] == 0
    assert "photographs are kept" not in succeed("inspect", made / "church.h5").stdout
    few = refuse("generate", "with.h5", "-o", "out", "--sampler", "exemplars")
    assert "needs at least 32 photographs" in few and "--exemplars 500" in few
    none = refuse("generate", made / "church.h5", "-o", "out", "--sampler", "exemplars")
    assert "(--exemplars 500)" in none
    succeed(*words, "-o", "without.h5", "--n-contexts", "0")
    local = refuse("generate", "without.h5", "-o", "out", "--sampler", "local")
    assert (
        f"these statistics of {N_PHOTOS} images hold none: they were collected without contexts (n_contexts=0, or by"
        in local
    )
    # Nobody asked for photographs: too few of them are not used.
    succeed("generate", "with.h5", "-o", "usual", *SHORT)
    assert json.loads(Path("usual/run.json").read_text())["settings"]["sampler"] == "bootstrap"


def test_unreadable_images_are_skipped_and_named(made, here):
    shutil.copytree(made / "held", "church")
    Path("church/05.png").write_bytes(b"no picture")
    called = succeed("collect", "church", "-m", made / "tiny.keras", "-o", "c.h5", *SMALL)
    assert called.stdout == "c.h5\n"
    assert "05.png" in called.stderr
    facts = json.loads(succeed("inspect", "c.h5", "--json").stdout)
    assert facts["n_images"] == N_PHOTOS - 1
    assert list(facts["skipped"]) == ["05.png"]
    called = succeed("collect", "church", "-m", made / "tiny.keras", "-o", "1.h5", "--shard", "1/2", *SMALL)
    assert "05.png" not in called.stderr
    called = succeed("collect", "church", "-m", made / "tiny.keras", "-o", "2.h5", "--shard", "2/2", *SMALL)
    assert "05.png" in called.stderr


def test_fewer_images_than_components_is_a_warning_of_one_line(made, here):
    called = succeed("collect", made / "held", "-m", made / "tiny.keras", "-o", "c.h5", "--n-components", 64)
    kept, classless = called.stderr.splitlines()
    assert kept.startswith("warning: ") and "19 kept" in kept
    assert classless.startswith("warning: 'held' is no class of 'tiny'") and "--class" in classless


def test_a_place_that_cannot_be_written_to_is_told_before_the_work(made, here, monkeypatch):
    written = tempfile.TemporaryFile

    def refused(*words, dir=None, **options):
        if dir is not None and Path(dir) == here:
            raise PermissionError(f"not in {here}")
        return written(*words, dir=dir, **options)

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    for words in (("generate", made / "church.h5"), ("maximize", "church", "-m", made / "tiny.keras"), ("demo",)):
        assert f"cannot write to '{here}'" in refuse(*words, "-o", here / "new")
    assert not list(here.iterdir())


def test_shards_merge_to_the_same_statistics(made, here):
    options = ("-m", made / "tiny.keras", *SMALL)
    shards = []
    for number in (1, 2, 3):
        shards += succeed("collect", made / "photos/church", "--shard", f"{number}/3", *options).stdout.split()
    assert len(set(shards)) == 3
    assert succeed("merge", *reversed(shards), "-o", "whole.h5").stdout == "whole.h5\n"
    whole, once = (json.loads(succeed("inspect", path, "--json").stdout) for path in ("whole.h5", made / "church.h5"))
    assert whole["hash"] == once["hash"]
    assert "whole.h5" in refuse("merge", *shards, "-o", "whole.h5")
    assert "3/3" in refuse("merge", *shards[:2], "-o", "other.h5")
    assert not Path("other.h5").exists()


def test_merge_works_beside_its_output_and_leaves_only_that(made, here, monkeypatch):
    options = ("-m", made / "tiny.keras", *SMALL)
    for number in (1, 2):
        succeed("collect", made / "photos/church", "--shard", f"{number}/2", "-o", f"{number}.h5", *options)
    (here / "whole.h5.partial").mkdir()  # of an interrupted collection: none of merge's business
    seen = []

    def look(self, n_made, total, message):
        seen.append((message, [path.parent.name for path in here.glob("*/manifest.json")]))

    monkeypatch.setattr(terminal.ProgressBar, "on_progress", look)
    assert succeed("merge", "1.h5", "2.h5", "-o", "whole.h5", "--quiet").stdout == "whole.h5\n"
    assert seen[0] == ("joining shards", ["whole.h5.merging"])
    assert sorted(os.listdir(here)) == ["1.h5", "2.h5", "whole.h5", "whole.h5.partial"]


def test_a_second_collection_does_not_disturb_the_first(made, here):
    pytest.importorskip("fcntl")
    import fcntl

    (here / "c.h5.partial").mkdir()
    words = ("collect", made / "photos/church", "-m", made / "tiny.keras", "-o", "c.h5", *SMALL)
    with open("c.h5.partial/lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for option in ([], ["--resume"], ["--overwrite"]):
            assert "another process" in refuse(*words, *option)
        assert files_in(here) == ["c.h5.partial/lock"]


def test_a_network_without_class_scores_is_collected_without_class(made, here):
    network = keras.models.load_model(made / "tiny.keras")
    keras.Model(network.inputs, network.get_layer("pool2").output).save("headless.keras")
    Path("headless.json").write_text('{"preprocessing": "tf"}')
    words = ("collect", made / "photos/church", "-m", "headless.keras", *SMALL)
    assert succeed(*words).stdout == "stats_cache/headless/church.h5\n"
    assert "class     none" in succeed("inspect", "stats_cache/headless/church.h5").stdout
    assert succeed(*words, "--resume").stdout == "stats_cache/headless/church.h5\n"
    assert "no class scores" in refuse(*words, "--class", "church", "-o", "c.h5")


def test_interrupted_collection_resumes_to_the_same_statistics(made, here, monkeypatch):
    words = ("collect", made / "photos/church", "-m", made / "tiny.keras", "-o", "c.h5", *SMALL)

    def interrupt(self, n_made, total, message):
        if n_made > 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(terminal.ProgressBar, "on_progress", interrupt)
        stopped = call(*words)
    assert stopped.exit_code == 130
    assert "--resume" in stopped.stderr
    assert not Path("c.h5").exists()
    assert "--resume" in refuse(*words)
    succeed(*words, "--resume")
    assert files_in(here) == ["c.h5"]
    resumed, whole = (json.loads(succeed("inspect", path, "--json").stdout) for path in ("c.h5", made / "church.h5"))
    assert resumed["hash"] == whole["hash"]


def test_resume_begins_where_nothing_is_and_ends_where_all_is(made, here):
    words = ("collect", made / "photos/church", "-m", made / "tiny.keras", "-o", "c.h5", *SMALL, "--resume")
    succeed(*words)
    written = Path("c.h5").stat().st_mtime_ns
    assert succeed(*words).stdout == "c.h5\n"
    assert succeed(*words, "--layers", "1,3").stdout == "c.h5\n"  # conv1 and conv2, as by default
    assert Path("c.h5").stat().st_mtime_ns == written
    assert "the network's weights" in refuse(*words[:3], made / "other.keras", *words[4:])
    for changed, report in (
        (("--layers", "conv1"), "the layers"),
        (("--n-components", 5), "n_components 4 then, 5 now"),
        (("--layout-size", 4), "layout_size 8 then, 4 now"),
        (("--batch-size", 3), "batch_size 8 then, 3 now"),
        (("--class", "barn"), "the class"),
    ):
        message = refuse(*words, *changed)
        assert report in message and "--overwrite" in message
    shutil.copy(made / "tiny.keras", "tiny.keras")
    Path("tiny.json").write_text(json.dumps({"preprocessing": "torch", "class_names": CLASS_NAMES}))
    assert "the network's preprocessing" in refuse(*words[:3], "tiny.keras", *words[4:])
    assert Path("c.h5").stat().st_mtime_ns == written
    # A file made smaller afterwards is not what a collection leaves.
    save_statistics(compact(load_statistics("c.h5"), 3), "c.h5", overwrite=True)
    assert "n_rows 3 then" in refuse(*words)


@pytest.mark.parametrize("shard", [(), ("--shard", "1/2")])
def test_resume_takes_no_file_of_other_images(made, here, shard):
    shutil.copytree(made / "photos/church", here / "church")
    words = ("collect", "church", "-m", made / "tiny.keras", "-o", "c.h5", *SMALL, *shard, "--resume")
    (here / "church/00.png").write_text("no picture, and listed as such")
    succeed(*words)
    assert succeed(*words).stdout == "c.h5\n"
    shutil.copy(made / "held/00.png", here / "church/zz.png")
    shutil.copy(made / "held/00.png", here / "church/zy.png")
    assert "the images ('zy.png' is new)" in refuse(*words)
    for name in ("zz.png", "zy.png", "02.png", "03.png"):
        (here / "church" / name).unlink()
    assert "the images ('02.png' is gone)" in refuse(*words)


def test_resume_of_a_finished_shard_looks_into_it(made, here):
    words = ("collect", made / "photos/church", "-m", made / "tiny.keras", "-o", "1.h5", *SMALL, "--resume")
    succeed(*words, "--shard", "1/2")
    assert succeed(*words, "--shard", "1/2").stdout == "1.h5\n"
    assert "the shard" in refuse(*words, "--shard", "2/2")
    assert "n_components" in refuse(*words, "--shard", "1/2", "--n-components", 5)
    assert "shard 1/2" in refuse(*words)


def test_a_whole_does_not_take_the_place_of_its_shard(made, here):
    for number in (1, 2):
        words = ("collect", made / "photos/church", "-m", made / "tiny.keras", "-o", f"{number}.h5", *SMALL)
        succeed(*words, "--shard", f"{number}/2")
    before = Path("1.h5").read_bytes()
    for shards in ("1.h5", "2.h5"), ("2.h5", "./1.h5"):
        assert "is one of the shards" in refuse("merge", *shards, "-o", "1.h5", "--overwrite", code=2)
    assert Path("1.h5").read_bytes() == before


LIMITED = """
import sys
from threadpoolctl import threadpool_info
from stochdeconv.statistics import regions
from stochdeconv.cli import main
real = regions.fit_regions

def watched(*operands):
    result = real(*operands)
    print("threads", max(library["num_threads"] for library in threadpool_info()), file=sys.stderr)
    return result

regions.fit_regions = watched
main(["merge", "1.h5", "2.h5", "-o", "whole.h5"])
"""


def test_a_merge_has_the_bytes_of_one_pass_however_many_processors_there_are(made, here):
    """What is loaded while statistics are made has its threads limited too: two gave another last bit."""
    words = ("collect", made / "photos/church", "-m", made / "tiny.keras", *SMALL)
    for number in (1, 2):
        succeed(*words, "-o", f"{number}.h5", "--shard", f"{number}/2")
    threads = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    merged = subprocess.run(
        [sys.executable, "-c", LIMITED], env={**os.environ, **threads}, capture_output=True, text=True, check=True
    )
    assert "threads 1\n" in merged.stderr
    succeed(*words, "-o", "one.h5")
    assert Path("whole.h5").read_bytes() == Path("one.h5").read_bytes()


def test_an_empty_word_is_no_folder(made, here):
    assert "expected a path" in refuse("collect", "", "-m", made / "tiny.keras", "-o", "c.h5", code=2)
    assert "expected a path" in refuse("inspect", "", code=2)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8589934592 bytes."),
        MemoryError("Unable to allocate 224. GiB for an array"),
    ],
)
def test_a_full_memory_is_told_in_one_line(made, here, monkeypatch, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr("stochdeconv.statistics.measurement._through_network", full)
    told = refuse("collect", made / "photos/church", "-m", made / "tiny.keras", "-o", "church.h5")
    assert "not enough memory" in told and "--batch-size" in told
