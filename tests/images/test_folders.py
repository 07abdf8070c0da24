from pathlib import Path

import pytest

from stochdeconv.errors import InputError, MissingInputError
from stochdeconv.images.folders import find_class_folders, find_images, hold_out, image_keys


def _touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_find_images_searches_folders_in_a_stable_order(tmp_path):
    _touch(tmp_path / "b.JPEG", tmp_path / "a" / "z.png", tmp_path / "a" / "deep" / "y.webp", tmp_path / "notes.txt")
    _touch(tmp_path / ".hidden.png", tmp_path / ".cache" / "x.png")
    paths = find_images(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["a/deep/y.webp", "a/z.png", "b.JPEG"]
    assert image_keys(tmp_path, paths) == ["a/deep/y.webp", "a/z.png", "b.JPEG"]


def test_links_are_followed_and_only_loops_skipped(tmp_path):
    _touch(tmp_path / "store" / "1.png", tmp_path / "c" / "2.png")
    (tmp_path / "c" / "first").symlink_to(tmp_path / "store")
    (tmp_path / "c" / "second").symlink_to(tmp_path / "store")
    (tmp_path / "c" / "loop").symlink_to(tmp_path / "c")
    (tmp_path / "c" / "gone.png").symlink_to(tmp_path / "nowhere")
    keys = image_keys(tmp_path / "c", find_images(tmp_path / "c"))
    assert keys == ["2.png", "first/1.png", "gone.png", "second/1.png"]


def test_lists_of_paths(tmp_path):
    _touch(tmp_path / "x" / "2.png", tmp_path / "x" / "1.png", tmp_path / "y" / "3.png")
    (tmp_path / "list.txt").write_text("# chosen\nx/2.png\n\ny/3.png\nx/1.png\n")
    paths = find_images(tmp_path / "list.txt")
    assert image_keys(tmp_path / "list.txt", paths) == ["x/1.png", "x/2.png", "y/3.png"]
    assert find_images([str(path) for path in reversed(paths)]) == paths
    (tmp_path / "list.txt").write_text("x/2.png\nx/../x/2.png\n")
    with pytest.raises(InputError, match=r"'2\.png' twice"):
        find_images(tmp_path / "list.txt")


def test_nothing_to_find_is_an_error(tmp_path):
    with pytest.raises(MissingInputError, match="no such folder"):
        find_images(tmp_path / "none")
    _touch(tmp_path / "notes.md", tmp_path / "one.png")
    with pytest.raises(InputError, match="one image"):
        find_images(tmp_path / "one.png")
    (tmp_path / "one.png").unlink()
    for source in (tmp_path, []):
        with pytest.raises(InputError, match="holds no image"):
            find_images(source)


def test_class_folders(tmp_path):
    _touch(tmp_path / "b" / "1.png", tmp_path / "a" / "deep" / "1.png", tmp_path / "notes" / "x.txt")
    assert [path.name for path in find_class_folders(tmp_path)] == ["a", "b"]
    assert find_class_folders(tmp_path / "b") == []


def test_the_last_photographs_are_held_out():
    paths = [Path(f"{number}.png") for number in range(9)]
    assert hold_out(paths) == (paths[:8], paths[8:])
    assert hold_out(paths, part=0) == (paths, [])
    for part in (-0.2, 1, 1.5, 20):
        with pytest.raises(InputError, match=r"0\.2: a fifth"):
            hold_out(paths, part=part)
