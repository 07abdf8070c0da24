"""Classes are found by name, wnid or index, and never guessed."""

from __future__ import annotations

import json

import pytest

from stochdeconv.errors import AmbiguousClassError, ClassNotFoundError, InputError, MissingInputError
from stochdeconv.networks.classes import (
    ClassName,
    default_label,
    find_class,
    find_folder_class,
    imagenet_class_names,
    load_class_names,
)

CHURCH = ClassName(497, "n03028079", "church")


def test_imagenet_table_is_complete():
    names = imagenet_class_names()
    assert [name.index for name in names] == list(range(1000))
    assert len({name.wnid for name in names}) == 1000
    assert names[497] == CHURCH
    assert names[0] == ClassName(0, "n01440764", "tench")


@pytest.mark.parametrize("word", ["church", "Church", "CHURCH ", "n03028079", "N03028079", "497", 497, " 497"])
def test_a_class_is_found_by_name_wnid_and_index(word):
    assert find_class(word, imagenet_class_names()) == CHURCH


@pytest.mark.parametrize("word", ["golf ball", "golf_ball", "Golf-Ball", "golf  ball"])
def test_blanks_underscores_and_hyphens_are_the_same(word):
    assert find_class(word, imagenet_class_names()).wnid == "n03445777"


@pytest.mark.parametrize(("word", "indices"), [("crane", ["134", "517"]), ("maillot", ["638", "639"])])
def test_an_ambiguous_name_lists_its_candidates(word, indices):
    with pytest.raises(ClassNotFoundError, match="ambiguous") as caught:
        find_class(word, imagenet_class_names())
    assert all(f"index {index}" in str(caught.value) for index in indices)
    assert str(caught.value).count("n0") == 2


def test_a_candidate_can_be_told_by_its_wnid():
    names = imagenet_class_names()
    assert {find_class(index, names).wnid for index in (134, 517)} == {"n02012849", "n03126707"}


def test_a_part_of_a_name_is_not_enough():
    with pytest.raises(ClassNotFoundError, match=r"there is no class 'springer'.*'English springer'"):
        find_class("springer", imagenet_class_names())


def test_an_unknown_name_names_the_closest():
    with pytest.raises(ClassNotFoundError, match=r"closest: .*'church'"):
        find_class("chruch", imagenet_class_names())
    with pytest.raises(ClassNotFoundError, match="a name, a wnid or an index"):
        find_class("", imagenet_class_names())


def test_of_few_classes_all_are_named():
    with pytest.raises(ClassNotFoundError, match="there is no class 'fish'; there are 'cat', 'dog'; a class is a name"):
        find_class("fish", load_class_names(["cat", "dog"]))


def test_a_folder_is_named_after_a_class_or_not():
    names = imagenet_class_names()
    for folder in ("English_springer", "n02102040", "english springer"):
        assert find_folder_class(folder, names).index == 217
    assert find_folder_class("holidays", names) is None
    assert find_folder_class("007", names) is None
    assert find_folder_class("7", load_class_names(["3", "7"])).index == 1
    assert find_folder_class("1", [ClassName(index, None, default_label(index)) for index in range(2)]).index == 1
    with pytest.raises(AmbiguousClassError):
        find_folder_class("crane", names)


@pytest.mark.parametrize("index", [1000, -1, "1000", "-1"])
def test_an_index_outside_is_an_error(index):
    with pytest.raises(ClassNotFoundError, match="indices are 0 to 999"):
        find_class(index, imagenet_class_names())


def test_a_table_is_read_from_lists_and_files(tmp_path):
    labels = load_class_names(["cat", "dog"])
    assert labels == (ClassName(0, None, "cat"), ClassName(1, None, "dog"))
    assert find_class("DOG", labels).index == 1
    path = tmp_path / "names.json"
    path.write_text(json.dumps([{"index": 1, "wnid": "n1", "label": "b"}, {"index": 0, "wnid": "n0", "label": "a"}]))
    assert load_class_names(path) == (ClassName(0, "n0", "a"), ClassName(1, "n1", "b"))
    assert load_class_names(str(path)) == load_class_names(path)


@pytest.mark.parametrize(
    "table",
    [
        [{"index": 0, "label": "a"}, {"index": 2, "label": "b"}],
        [{"index": 0, "label": "a"}, {"index": 0, "label": "b"}],
        [{"index": True, "label": "a"}],
        [{"label": ""}],
        [{"index": 0}],
        [{"label": "a", "wnid": 3}],
        ["a", 3],
        {"a": 0},
        7,
    ],
)
def test_a_malformed_table_is_an_error(table, tmp_path):
    path = tmp_path / "names.json"
    path.write_text(json.dumps(table))
    with pytest.raises(InputError, match=r"names\.json"):
        load_class_names(path)


def test_a_file_that_is_not_there_or_no_json_is_an_error(tmp_path):
    with pytest.raises(MissingInputError, match="nowhere"):
        load_class_names(tmp_path / "nowhere.json")
    (tmp_path / "broken.json").write_text("[")
    with pytest.raises(InputError, match="not a JSON file"):
        load_class_names(tmp_path / "broken.json")


def test_a_class_reads_well():
    assert str(CHURCH) == "'church' (n03028079, index 497)"
    assert str(ClassName(3, None, "cat")) == "'cat' (index 3)"


def test_a_name_that_is_a_number_comes_before_an_index():
    names = load_class_names(["9", "8", "three"])
    assert find_class("9", names).index == 0
    assert find_class("2", names).label == "three"
    assert find_class(1, names).label == "8"
