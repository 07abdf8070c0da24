"""Faces in pictures: a detector that knows nothing of the networks, for dreams that are said to be full of them."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import numpy as np

from stochdeconv.errors import InputError

# Ships with OpenCV up to 4; Lienhart, Kuranov & Pisarevsky 2003, trained on faces seen from the front, 20 x 20 pixels.
CASCADE = "haarcascade_frontalface_alt2.xml"
# Shorter side every picture is brought to, in pixels, so that what is found does not hang on its size: a face is then from 9 % of it on.
SIDE = 224
_SMALLEST = 20
# How much smaller the picture is looked at each time, and how many hits that overlap make a face. Of Imagenette's first 40 photographs of a
# class, faces are found in 12 of the tenches (anglers hold them), and what is none in 4 of the 200 of classes without people.
_SCALE, _N_HITS = 1.1, 5


def find_faces(picture: np.ndarray) -> np.ndarray:
    """Find the faces in a picture, seen from the front and upright: Viola and Jones's cascade of Haar features (2001).

    Parameters
    ----------
    picture : ndarray of shape (height, width, 3) or (height, width, 1)
        In [0, 1], of any size.

    Returns
    -------
    ndarray of int of shape (face, 4)
        Of each the left edge, upper edge, width and height in pixels of the picture, the largest first.

    Raises
    ------
    InputError
        OpenCV or its detector is not there.
    """
    cv2, cascade = _detector()
    height, width = picture.shape[:2]
    scale = SIDE / min(height, width)
    size = (max(round(width * scale), SIDE), max(round(height * scale), SIDE))
    eight_bits = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    grey = eight_bits[..., 0] if picture.shape[-1] == 1 else cv2.cvtColor(eight_bits, cv2.COLOR_RGB2GRAY)
    # Averages where it shrinks: otherwise what falls between the pixels of a large picture would come and go.
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    hits = cascade.detectMultiScale(
        grey, scaleFactor=_SCALE, minNeighbors=_N_HITS, minSize=(_SMALLEST, _SMALLEST)
    )  # an empty tuple where there is none
    boxes = np.rint(np.asarray(hits, np.float64).reshape(-1, 4) / scale).astype(int)
    return np.array(sorted(boxes.tolist(), key=lambda box: (-box[2], *box)), int).reshape(-1, 4)


def require_detector() -> None:
    """Raise InputError where faces cannot be looked for; called before the work."""
    _detector()


def describe_detector() -> str:
    """Say who looks for faces, for records."""
    cv2, _ = _detector()
    return f"OpenCV {cv2.__version__}, {CASCADE}"


@functools.cache
def _detector() -> tuple[ModuleType, Any]:
    try:
        import cv2
    except ImportError:
        raise InputError(
            "faces are looked for by OpenCV, which is not installed: pip install 'stochdeconv[faces]'"
        ) from None
    if not hasattr(cv2, "CascadeClassifier"):
        raise InputError(
            f"OpenCV {cv2.__version__} no longer ships the face detector used here: pip install 'stochdeconv[faces]' takes one that does"
        )
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + CASCADE)
    if cascade.empty():
        raise InputError(
            f"OpenCV {cv2.__version__} came without {CASCADE}: pip install 'stochdeconv[faces]' takes one that has it"
        )
    return cv2, cascade
