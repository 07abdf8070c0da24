import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from stochdeconv.errors import InputError
from stochdeconv.images import faces
from stochdeconv.images.faces import find_faces

pytest.importorskip("cv2", reason="faces need the extra: pip install 'stochdeconv[faces]'")

# Where Eileen Collins's eyes, nose and mouth are in scikit-image's photograph (512 x 512): x, y.
FEATURES = [(206, 108), (246, 108), (226, 130), (225, 148)]


@pytest.fixture(scope="module")
def astronaut():
    data = pytest.importorskip("skimage.data")
    return data.astronaut() / 255


def test_the_astronauts_face_is_found_where_it_is(astronaut):
    ((x, y, width, height),) = find_faces(astronaut)
    assert all(x < across < x + width and y < down < y + height for across, down in FEATURES)
    assert 60 < width < 140 and 60 < height < 140


def test_what_is_found_does_not_hang_on_the_size_of_the_picture(astronaut):
    (box,) = find_faces(astronaut)
    for factor in (2, 4):
        shrunk = astronaut.reshape(512 // factor, factor, 512 // factor, factor, 3).mean(axis=(1, 3))
        (place,) = find_faces(shrunk)
        np.testing.assert_allclose(place * factor, box, atol=10)


def test_grain_of_a_large_picture_is_averaged_away(astronaut):
    (box,) = find_faces(astronaut)
    large = astronaut.repeat(4, axis=0).repeat(4, axis=1)
    (place,) = find_faces(np.clip(large + np.random.default_rng(0).normal(0, 0.5, large.shape), 0, 1))
    np.testing.assert_allclose(place, 4 * box, atol=60)


def test_a_grey_picture_and_a_wide_one_have_the_same_face(astronaut):
    (box,) = find_faces(astronaut)
    (grey,) = find_faces(astronaut @ np.array([[0.299], [0.587], [0.114]]))
    np.testing.assert_allclose(grey, box, atol=10)
    (moved,) = find_faces(np.concatenate([np.full((512, 300, 3), 0.5), astronaut], axis=1))
    np.testing.assert_allclose(moved - [300, 0, 0, 0], box, atol=10)


def test_the_largest_face_comes_first(astronaut):
    face = astronaut[20:240, 110:330]
    canvas = np.full((220, 440, 3), 0.5)
    canvas[55:165, 30:140] = face[::2, ::2]
    canvas[:, 220:] = face
    first, second = find_faces(canvas)
    assert first[0] > 220 > second[0] and first[2] > 1.5 * second[2]


def test_no_face_where_there_is_none(astronaut):
    upside_down, scrambled = astronaut[::-1], astronaut.copy()
    np.random.default_rng(0).shuffle(scrambled.reshape(-1, 3))
    for picture in (
        load_sample_image("china.jpg") / 255,
        load_sample_image("flower.jpg") / 255,
        upside_down,
        scrambled,
    ):
        boxes = find_faces(picture)
        assert boxes.shape == (0, 4) and boxes.dtype.kind == "i"


def test_faces_among_photographs_of_people_and_of_things(shared):
    """Anglers who hold a tench, against churches."""
    from stochdeconv.images.files import load_image

    def share(wnid):
        paths = sorted((shared / "data/imagenette/train" / wnid).iterdir())[:20]
        return np.mean([len(find_faces(load_image(path, (224, 224)))) > 0 for path in paths])

    assert share("n01440764") >= 0.2 and share("n03028079") <= 0.05


@pytest.mark.parametrize(
    ("installed", "said"),
    [("", "not installed"), ("__version__ = '5.0.0'", "OpenCV 5.0.0 no longer ships")],
)
def test_without_a_detector_one_line_says_what_to_install(tmp_path, installed, said):
    """As with no OpenCV, or one that has lost its detector."""
    (tmp_path / "cv2.py").write_text(installed or "raise ImportError")
    (tmp_path / "photo.png").write_bytes(b"not looked at")
    words = ["sweep", "photo.png", "-m", "no-network", "--layers", "a", "--judge", "faces", "-o", "out"]
    program = f"import sys; sys.path.insert(0, ''); from stochdeconv.cli import main; main({words!r})"
    process = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 1 and process.stderr.count("\n") == 1
    assert said in process.stderr and "pip install 'stochdeconv[faces]'" in process.stderr


def test_a_missing_cascade_is_told(monkeypatch):
    monkeypatch.setattr(faces, "CASCADE", "none.xml")
    faces._detector.cache_clear()
    try:
        with pytest.raises(InputError, match=r"came without none\.xml"):
            faces.require_detector()
    finally:
        faces._detector.cache_clear()
