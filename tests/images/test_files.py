import io
import os

import numpy as np
import pytest
from PIL import Image

from stochdeconv.errors import InputError, MissingInputError
from stochdeconv.images import files
from stochdeconv.images.files import (
    load_image,
    open_image,
    resize,
    save_png,
    stretch,
)


@pytest.fixture
def gradient() -> np.ndarray:
    """uint8 picture (40, 60, 3) in which every corner has its own colour."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, 255 - x * 2 - y], axis=-1).astype(np.uint8)


def _save(folder, name, array_or_picture, **options):
    picture = array_or_picture if isinstance(array_or_picture, Image.Image) else Image.fromarray(array_or_picture)
    picture.save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.png", {}, 0.0),
        ("a.bmp", {}, 0.0),
        ("a.tif", {}, 0.0),
        ("a.webp", {"lossless": True}, 0.0),
        ("a.jpg", {"quality": 95}, 0.05),
    ],
)
def test_formats_come_back_as_they_were(tmp_path, gradient, name, options, tolerance):
    pixels = load_image(_save(tmp_path, name, gradient, **options))
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, gradient / 255.0, atol=tolerance + 1e-6)


def test_content_counts_not_the_ending(tmp_path, gradient):
    path = _save(tmp_path, "a.png", gradient).rename(tmp_path / "a.jpg")
    np.testing.assert_allclose(load_image(path), gradient / 255.0, atol=1e-6)


def test_grey_palette_and_cmyk_become_rgb(tmp_path, gradient):
    grey = load_image(_save(tmp_path, "grey.png", gradient[..., 0]))
    np.testing.assert_allclose(grey, np.repeat(gradient[..., :1] / 255.0, 3, axis=-1), atol=1e-6)
    flat = np.full((8, 8, 3), (255, 0, 51), np.uint8)
    palette = load_image(_save(tmp_path, "palette.gif", Image.fromarray(flat).quantize(4)))
    np.testing.assert_allclose(palette, flat / 255.0, atol=1e-6)
    cmyk = load_image(_save(tmp_path, "cmyk.tif", Image.fromarray(flat).convert("CMYK")))
    np.testing.assert_allclose(cmyk, flat / 255.0, atol=0.01)
    cmyk = load_image(_save(tmp_path, "cmyk.jpg", Image.fromarray(flat).convert("CMYK"), quality=95))
    np.testing.assert_allclose(cmyk, flat / 255.0, atol=0.05)


def test_sixteen_bits_are_scaled_not_cut(tmp_path):
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    pixels = load_image(_save(tmp_path, "deep.png", values))
    np.testing.assert_allclose(pixels[..., 1], values / 65535.0, atol=1e-6)
    pixels = load_image(tmp_path / "deep.png", (8, 8))
    assert pixels.shape == (8, 8, 3)
    assert 0.0 <= pixels.min() < 0.1 < 0.9 < pixels.max() <= 1.0
    _save(tmp_path, "wild.tif", Image.fromarray(np.full((4, 4), 300.0, np.float32)))
    with pytest.raises(InputError, match=r"wild.tif.*values run from 300 to 300"):
        load_image(tmp_path / "wild.tif")
    _save(tmp_path, "label.tif", Image.fromarray(np.arange(16, dtype=np.int32).reshape(4, 4)))
    with pytest.raises(InputError, match=r"label.tif.*32 bits run to 15"):
        load_image(tmp_path / "label.tif")
    # A dark picture whose format says what its values are of.
    (tmp_path / "dark.pgm").write_bytes(b"P5 2 1 65535\n" + np.array([0, 200], ">u2").tobytes())
    np.testing.assert_allclose(load_image(tmp_path / "dark.pgm")[0, :, 0], [0, 200 / 65535], atol=1e-6)


def test_sixteen_bits_of_one_transparent_value_lie_on_white(tmp_path):
    values = np.array([[0, 20000], [40000, 65535]], np.uint16)
    pixels = load_image(_save(tmp_path, "deep.png", Image.fromarray(values), transparency=20000))
    np.testing.assert_allclose(pixels[..., 0], [[0.0, 1.0], [40000 / 65535, 1.0]], atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(tmp_path, orientation):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, :, 0] = 255
    upright[:, 0, 1] = 255
    # What a camera held that way stores: the inverse of what the viewer must do (EXIF 2.32, tag 274).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _save(tmp_path, "a.png", np.ascontiguousarray(stored), exif=exif)
    np.testing.assert_array_equal(load_image(path), upright / np.float32(255))


def test_transparency_lies_on_white(tmp_path):
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, :, 3] = 255
    rgba[1, 0, 3] = 51
    pixels = load_image(_save(tmp_path, "a.png", rgba))
    np.testing.assert_allclose(pixels[:, :, 0], [[0.0, 0.0], [0.8, 1.0]], atol=0.005)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    for name in ("a.gif", "a.webp"):
        np.testing.assert_allclose(load_image(tmp_path / name)[2, 2], [1, 0, 0], atol=0.01)


@pytest.mark.parametrize("side", [478, 236, 499])
def test_sides_whose_ratio_is_not_exact_can_be_cropped(tmp_path, side):
    """478 - (478 / 224) * 224 is a little less than zero."""
    save_png(tmp_path / "image.png", np.full((side, side + 22, 3), 0.5))
    assert load_image(tmp_path / "image.png", (224, 224)).shape == (224, 224, 3)


def test_shorter_side_is_resized_then_the_centre_cropped(tmp_path):
    wide = np.zeros((50, 150, 3), np.uint8)
    wide[:, 50:100] = 255
    assert load_image(_save(tmp_path, "wide.png", wide), (25, 25)).mean() > 0.97
    tall = wide.transpose(1, 0, 2)
    assert load_image(_save(tmp_path, "tall.png", np.ascontiguousarray(tall)), (100, 100)).mean() > 0.97
    # Not square: the side that is shorter relative to the size wanted.
    assert load_image(tmp_path / "wide.png", (10, 20)).shape == (10, 20, 3)


def test_resizing_averages_instead_of_picking(tmp_path):
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 255
    pixels = load_image(_save(tmp_path, "a.png", np.repeat(checks[..., None], 3, -1).astype(np.uint8)), (16, 16))
    np.testing.assert_allclose(pixels, 0.5, atol=0.05)


def test_a_jpeg_that_lies_on_its_side_is_not_decoded_too_small(tmp_path):
    rng = np.random.default_rng(0)
    stripes = np.repeat(
        rng.integers(0, 2, 550) * 255, 2
    )  # two pixels wide, along what is the shorter side once it is turned
    pixels = np.tile(stripes[:, None, None], (1, 2048, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95, exif=exif)
    upright = load_image(tmp_path / "a.jpg")
    assert upright.shape == (2048, 1100, 3)
    expected = resize(upright[2048 // 2 - 137 : 2048 // 2 + 138], (64, 256))
    assert np.abs(load_image(tmp_path / "a.jpg", (64, 256)) - expected).mean() < 0.02


def test_large_jpegs_keep_their_look(tmp_path):
    y, x = np.mgrid[0:1200, 0:1600]
    smooth = np.stack([x / 1600, y / 1200, 0.5 + 0 * x], axis=-1)
    path = _save(tmp_path, "a.jpg", (smooth * 255).astype(np.uint8), quality=95)
    expected = smooth[:, 200:1400].reshape(60, 20, 60, 20, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(load_image(path, (60, 60)), expected, atol=0.02)


def test_unreadable_files_are_named_with_the_reason(tmp_path, gradient):
    rng = np.random.default_rng(0)
    whole = _save(tmp_path, "whole.jpg", rng.integers(0, 255, (90, 90, 3), np.uint8)).read_bytes()
    cases = {
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"no picture at all", "no known image format"),
        "cut.jpg": (whole[: len(whole) // 2], "truncated"),
        "head.png": (b"\x89PNG\r\n\x1a\n" + b"\x00" * 30, "."),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"(?s){name}.*{reason}"):
            load_image(tmp_path / name, (8, 8))
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        load_image(tmp_path / "folder.jpg")
    with pytest.raises(MissingInputError, match=r"none\.jpg"):
        load_image(tmp_path / "none.jpg")


def test_every_truncation_is_an_input_error(tmp_path, gradient):
    for kind in ("PNG", "GIF", "WEBP", "TIFF", "JPEG"):
        buffer = io.BytesIO()
        Image.fromarray(gradient).save(buffer, kind)
        content = buffer.getvalue()
        for length in range(0, len(content) - 60, max(1, len(content) // 12)):
            (tmp_path / "cut").write_bytes(content[:length])
            with pytest.raises(InputError, match="cut"):
                load_image(tmp_path / "cut")


def test_decompression_bombs_are_refused(tmp_path, gradient, monkeypatch):
    path = _save(tmp_path, "bomb.png", gradient)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"bomb\.png.*too many pixels"):
        load_image(path)


def test_a_program_is_no_picture(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    with pytest.raises(InputError, match="no known image format"):
        load_image(tmp_path / "a.jpg")


def test_save_png_rounds_clips_and_repeats_itself(tmp_path):
    values = np.array([[[-1.0, 0.0, 0.5], [1.0, 2.0, 100 / 255]]], np.float32)
    for name in ("a.png", "deep/b.png"):
        save_png(tmp_path / name, values)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "deep" / "b.png").read_bytes()
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "a.png")), [[[0, 0, 128], [255, 255, 100]]])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.png", "deep"]
    with pytest.raises(InputError, match="NaN"):
        save_png(tmp_path / "a.png", values * np.nan)
    with pytest.raises(InputError, match="shape"):
        save_png(tmp_path / "a.png", values[..., :2])


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    files.write_atomically(tmp_path / "a", b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="no space left"):
        files.write_atomically(tmp_path / "a", b"new")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("a", b"old")]


def test_stretching_keeps_what_is_beyond_the_range_of_pictures():
    values = np.linspace(-2, 3, 40, dtype=np.float32).reshape(1, 40, 1).repeat(10, axis=0).repeat(3, axis=2)
    small = stretch(values, (5, 20))
    assert small.shape == (5, 20, 3)
    np.testing.assert_allclose(small.mean(axis=(1, 2)), values.mean(), atol=1e-3)
    assert small.min() < -1.8 and small.max() > 2.8
    np.testing.assert_allclose(stretch(small, (5, 20)), small, atol=1e-6)


def test_a_picture_in_memory_is_as_good_as_a_file(tmp_path):
    image = np.random.default_rng(0).uniform(size=(12, 20, 3)).astype(np.float32)
    save_png(tmp_path / "image.png", image)
    np.testing.assert_allclose(open_image(tmp_path / "image.png", (8, 8)), open_image(image, (8, 8)), atol=0.04)
    np.testing.assert_array_equal(open_image(image), image)
    for bad in (image[None], image[..., :2], image * 255, image - 1):
        with pytest.raises(InputError, match="a picture in memory is"):
            open_image(bad)
