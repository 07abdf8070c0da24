import numpy as np
import pytest

from stochdeconv.errors import InputError
from stochdeconv.images.sheets import contact_sheet, outlined


def test_contact_sheet_places_every_picture():
    pictures = np.stack([np.full((3, 5, 3), value / 10) for value in range(6)])
    sheet = contact_sheet(pictures, columns=4, margin=1)
    assert sheet.shape == (2 * 4 + 1, 4 * 6 + 1, 3)
    np.testing.assert_allclose(sheet[5:8, 7:12], 0.5)
    np.testing.assert_allclose(sheet[5:8, 13:], 1.0)
    np.testing.assert_allclose(sheet[0], 1.0)


@pytest.mark.parametrize(
    ("n_images", "shape"), [(1, (1, 1)), (4, (1, 4)), (5, (1, 5)), (8, (2, 4)), (16, (4, 4)), (32, (4, 8))]
)
def test_contact_sheets_are_a_row_or_near_square(n_images, shape):
    sheet = contact_sheet(np.zeros((n_images, 2, 2, 3)), margin=0)
    assert (sheet.shape[0] // 2, sheet.shape[1] // 2) == shape


def test_captions_stand_below_their_pictures():
    pictures = np.zeros((3, 20, 240, 3), np.float32)
    captions = ["one", "many words, more than fit into two lines, that take several of them", "first\nsecond"]
    sheet = contact_sheet(pictures, columns=3, captions=captions, margin=2)
    plain = contact_sheet(pictures, columns=3, margin=2)
    assert sheet.shape[0] > plain.shape[0] + 3 * 9 and sheet.shape[1] == plain.shape[1]
    np.testing.assert_array_equal(sheet[:22], plain[:22])
    below = sheet[22:-2]
    ink = [np.any(below[:, left : left + 240].mean(axis=2) < 0.5, axis=1) for left in (2, 244, 486)]
    lines = [int(np.diff(rows.astype(int), prepend=0).clip(0).sum()) for rows in ink]
    assert lines[0] == 1 and lines[1] >= 3 and lines[2] == 2
    # Nothing is written beyond the picture's own width, however long a word is.
    long = contact_sheet(pictures[:1], captions=["w" * 200], margin=2)
    assert np.all(long[:, :2] == 1) and np.all(long[:, -2:] == 1) and np.any(long[22:] < 0.5)
    with pytest.raises(InputError, match="a caption for each picture; got 1 for 3"):
        contact_sheet(pictures, captions=["one"])


@pytest.mark.parametrize(("width", "caption_width"), [(32, 224), (112, 224), (150, 300), (224, 224), (768, 768)])
def test_words_are_legible_below_small_pictures_too(width, caption_width):
    """Those are enlarged by whole factors; without words they stay as they are."""
    pictures = np.random.default_rng(0).uniform(0.5, 1, (2, 16, width, 3)).astype(np.float32)
    factor = caption_width // width
    sheet = contact_sheet(pictures, captions=["Hhx", "Hhx"], margin=2)
    large = contact_sheet(pictures.repeat(factor, axis=1).repeat(factor, axis=2), margin=2)
    np.testing.assert_array_equal(sheet[: 16 * factor + 2], large[: 16 * factor + 2])
    letters = np.any(sheet[16 * factor + 2 :].mean(axis=2) < 0.5, axis=1)
    assert letters.sum() >= 10  # rows of pixels from the foot to the head of a capital
    assert contact_sheet(pictures, margin=2).shape == (20, 2 * width + 6, 3)


def test_boxes_are_drawn_on_a_copy_and_hide_nothing_inside():
    picture = np.full((30, 40, 3), 0.5)
    drawn = outlined(picture, [(10, 5, 20, 12), (-3, 20, 10, 30)])
    assert (picture == 0.5).all() and drawn.shape == picture.shape
    green = np.all(np.abs(drawn - [0.2, 1.0, 0.2]) < 1e-6, axis=-1)
    assert green[5, 10:30].all() and green[16, 10:30].all() and green[5:17, 10].all() and green[5:17, 29].all()
    # The line is one pixel wide here, black on both sides of it; what leaves the picture is cut.
    assert (drawn[4, 9:31] == 0).all() and (drawn[6, 11:29] == 0).all() and (drawn[7:15, 12:28] == 0.5).all()
    assert green[20, :7].all() and not green[:, 35:].any()
    assert outlined(np.full((30, 40, 1), 0.25), []).shape == (30, 40, 3)
