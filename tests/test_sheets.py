import numpy as np
import pytest

from stochdeconv.errors import InputError
from stochdeconv.sheets import contact_sheet


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
    pictures = np.zeros((3, 20, 60, 3), np.float32)
    captions = ["one", "two words that take several lines", "first\nsecond"]
    sheet = contact_sheet(pictures, columns=3, captions=captions, margin=2)
    plain = contact_sheet(pictures, columns=3, margin=2)
    assert sheet.shape[0] > plain.shape[0] + 3 * 9 and sheet.shape[1] == plain.shape[1]
    np.testing.assert_array_equal(sheet[:22], plain[:22])
    below = sheet[22:-2]
    ink = [np.any(below[:, left : left + 60].mean(axis=2) < 0.5, axis=1) for left in (2, 64, 126)]
    lines = [int(np.diff(rows.astype(int), prepend=0).clip(0).sum()) for rows in ink]
    assert lines[0] == 1 and lines[1] >= 3 and lines[2] == 2
    # Nothing is written beyond the picture's own width, however long a word is.
    long = contact_sheet(pictures[:1], captions=["w" * 200], margin=2)
    assert np.all(long[:, :2] == 1) and np.all(long[:, -2:] == 1) and np.any(long[22:] < 0.5)
    with pytest.raises(InputError, match="a caption for each picture; got 1 for 3"):
        contact_sheet(pictures, captions=["one"])
